//! `admin drain`, `admin undrain`, `admin servers remove`: emptying chunk servers and single disks, and taking servers off the record.

use super::{drain_disk, request, uuid_text};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes, human_time};
use bytes::Bytes;
use cairn_proto::v1::{DrainReply, DrainRequest, DrainVerb, RemoveServerRequest, ServersRequest};
use clap::{Args, Subcommand};

/// `cairn admin drain`
#[derive(Debug, Args)]
pub struct DrainCommand {
    /// The chunk server: its number, chunkserver-N as `admin servers` shows it, or its HOST:PORT; with :DISK only that disk of
    /// it: the end of its path or the beginning of its id
    #[arg(value_name = "SERVER[:DISK]")]
    pub server: String,
    /// What to do [default: start]
    #[command(subcommand)]
    pub verb: Option<DrainAction>,
}

/// What can be done about emptying a chunk server or a disk.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DrainAction {
    /// Show what would move, and where to
    Plan,
    /// Move every replica elsewhere; nothing new is put there
    Start,
    /// Show how far it is
    Status,
    /// Let it serve again as before
    Cancel,
}

/// `cairn admin undrain`
#[derive(Debug, Args)]
pub struct UndrainCommand {
    /// The chunk server, or with :DISK a disk of it, as in `admin drain`
    #[arg(value_name = "SERVER[:DISK]")]
    pub server: String,
}

/// `cairn admin servers remove`
#[derive(Debug, Args)]
pub struct ServerArgument {
    /// The chunk server: its number, chunkserver-N as `admin servers` shows it, or its HOST:PORT
    pub server: String,
}

pub(super) async fn drain(
    admin: &mut Admin,
    json: bool,
    server: &str,
    action: DrainAction,
) -> Result<(), CliError> {
    let named = server;
    let (server, disk) = find_disk(admin, named).await?;
    let verb = match action {
        DrainAction::Plan => DrainVerb::DrainPlan,
        DrainAction::Start => DrainVerb::DrainStart,
        DrainAction::Status => DrainVerb::DrainStatus,
        DrainAction::Cancel => DrainVerb::DrainCancel,
    };
    let asked = admin.client.drain(request(DrainRequest { server, verb: verb.into(), disk })).await;
    let reply = asked.map_err(|status| admin.failed(&status))?.into_inner();
    if json {
        return output::json(&as_json(&reply));
    }
    let is_disk = !reply.disk.is_empty();
    let head = if is_disk { output::wrapped("", &drain_disk::headline(&reply)) } else { headline(&reply) };
    output::line(&head);
    if !reply.targets.is_empty() {
        let mut table = output::Table::new(&["TO", "REPLICAS", "BYTES (ABOUT)"]);
        for target in &reply.targets {
            let name = format!("chunkserver-{}", target.server);
            table.row(vec![name, target.replicas.to_string(), human_bytes(target.bytes)]);
        }
        table.print();
    }
    if is_disk {
        let advice = drain_disk::advice(&reply, named, action);
        advice.iter().for_each(|line| output::line(&output::wrapped("", line)));
    } else {
        advice(&reply, action).iter().for_each(|line| output::line(line));
    }
    Ok(())
}

pub(super) async fn remove(admin: &mut Admin, json: bool, server: &str) -> Result<(), CliError> {
    let server = find(admin, server).await?;
    let asked = admin.client.remove_server(request(RemoveServerRequest { server })).await;
    asked.map_err(|status| admin.failed(&status))?;
    if json {
        return output::json(&serde_json::json!({ "removed": server }));
    }
    output::line(&format!("chunkserver-{server} is off the record"));
    Ok(())
}

/// The number of a server, and the id of a disk of it if one is named: `SERVER` or `SERVER:DISK`.
async fn find_disk(admin: &mut Admin, name: &str) -> Result<(u32, Bytes), CliError> {
    if !name.contains(':') {
        return Ok((find(admin, name).await?, Bytes::new()));
    }
    let asked = admin.client.servers(request(ServersRequest {})).await;
    let servers = asked.map_err(|status| admin.failed(&status))?.into_inner().servers;
    for server in &servers {
        let number = server.server.to_string();
        let names = [format!("chunkserver-{number}"), number, server.address.clone()];
        for own in names {
            match name.strip_prefix(own.as_str()) {
                Some("") => return Ok((server.server, Bytes::new())),
                Some(rest) if rest.starts_with(':') => {
                    return Ok((server.server, drain_disk::find(server, &rest[1..])?));
                }
                _ => {}
            }
        }
    }
    Err(CliError::Usage(format!("there is no chunk server or disk \"{name}\": see `cairn admin servers`")))
}

/// The number of a server as an operator names it.
pub(super) async fn find(admin: &mut Admin, name: &str) -> Result<u32, CliError> {
    if let Ok(number) = name.strip_prefix("chunkserver-").unwrap_or(name).parse() {
        return Ok(number);
    }
    let asked = admin.client.servers(request(ServersRequest {})).await;
    let servers = asked.map_err(|status| admin.failed(&status))?.into_inner().servers;
    let found = servers.iter().find(|server| server.address == name);
    found.map(|server| server.server).ok_or_else(|| {
        CliError::Usage(format!("there is no chunk server \"{name}\": see `cairn admin servers`"))
    })
}

fn headline(reply: &DrainReply) -> String {
    let name = format!("chunkserver-{} ({})", reply.server, reply.address);
    let left = format!("{} replicas, about {}", reply.replicas_left, human_bytes(reply.bytes_left));
    match reply.state.as_str() {
        "empty" => format!("{name} is empty"),
        "draining" => {
            let moved = reply.replicas_at_start.saturating_sub(reply.replicas_left);
            let percent = moved * 100 / reply.replicas_at_start.max(1);
            format!(
                "{name} is being emptied: {percent} %, {left} left, about {} to go",
                human_time(reply.estimated_ms)
            )
        }
        _ => format!("{name} serves {left}: emptying it takes about {}", human_time(reply.estimated_ms)),
    }
}

fn advice(reply: &DrainReply, action: DrainAction) -> Vec<String> {
    let server = reply.server;
    let mut lines = Vec::new();
    if reply.stuck > 0 {
        lines.push(format!(
            "{} replicas can go nowhere at present: every other server holds the chunk already, is full or away; add a \
             chunk server",
            reply.stuck
        ));
    }
    match reply.state.as_str() {
        "empty" if reply.connected => lines.push(format!(
            "nothing is at risk without it: stop it, then `cairn admin servers remove {server}`"
        )),
        "empty" => {
            lines.push(format!("nothing is at risk without it: `cairn admin servers remove {server}`"))
        }
        "draining" => lines.push(format!("see `cairn admin drain {server} status`")),
        _ if matches!(action, DrainAction::Plan) => {
            lines.push(format!("begin with `cairn admin drain {server} start`"))
        }
        _ => {}
    }
    lines
}

fn as_json(reply: &DrainReply) -> serde_json::Value {
    let target = |target: &cairn_proto::v1::DrainTarget| serde_json::json!({ "server": target.server, "replicas": target.replicas, "bytes": target.bytes });
    serde_json::json!({
        "server": reply.server, "address": reply.address, "state": reply.state,
        "replicas_left": reply.replicas_left, "bytes_left": reply.bytes_left,
        "replicas_at_start": reply.replicas_at_start, "elapsed_ms": reply.elapsed_ms,
        "estimated_ms": reply.estimated_ms, "stuck": reply.stuck, "needed": reply.needed,
        "removable": reply.state == "empty", "connected": reply.connected,
        "disk": Some(&reply.disk).filter(|disk| !disk.is_empty()).map(|disk| uuid_text(disk)),
        "path": Some(&reply.path).filter(|path| !path.is_empty()),
        "damaged": reply.damaged, "waiting": reply.waiting, "elsewhere": reply.elsewhere,
        "targets": reply.targets.iter().map(target).collect::<Vec<_>>(),
    })
}
