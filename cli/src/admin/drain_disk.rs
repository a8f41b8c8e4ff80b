//! What `admin drain SERVER:DISK` says, and how a disk is named.

use super::drain::DrainAction;
use super::uuid_text;
use crate::error::CliError;
use crate::output::{human_bytes, human_time};
use bytes::Bytes;
use cairn_proto::v1::{DrainReply, ServerDisk, ServerStatus};
use uuid::Uuid;

/// The disk of a server that is called so: by its path or the end of that, by its id or the beginning of that. One that is not there
/// any more by its whole id.
pub(super) fn find(server: &ServerStatus, name: &str) -> Result<Bytes, CliError> {
    let is_called = |disk: &&ServerDisk| {
        let (id, path) = (uuid_text(&disk.disk), disk.path.trim_end_matches('/'));
        let name = name.trim_end_matches('/');
        let ends = path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'));
        !name.is_empty() && (ends || (!id.is_empty() && id.starts_with(name)))
    };
    let found: Vec<&ServerDisk> = server.disks.iter().filter(is_called).collect();
    let known = || server.disks.iter().map(|disk| disk.path.as_str()).collect::<Vec<_>>().join(", ");
    let number = server.server;
    match (&found[..], Uuid::parse_str(name)) {
        ([disk], _) if !disk.disk.is_empty() => Ok(disk.disk.clone()),
        ([], Ok(id)) => Ok(Bytes::copy_from_slice(id.as_bytes())),
        ([], Err(_)) if server.disks.is_empty() => Err(CliError::Failed(format!(
            "the disks of chunkserver-{number} are not known at present: it has not reached the leader; see `cairn admin servers`"
        ))),
        ([], Err(_)) => Err(CliError::Usage(format!(
            "chunkserver-{number} has no disk \"{name}\": its disks are {}",
            known()
        ))),
        ([disk], _) => Err(CliError::Usage(format!(
            "{} of chunkserver-{number} could not be opened and holds nothing that counts: replace it",
            disk.path
        ))),
        _ => Err(CliError::Usage(format!(
            "several disks of chunkserver-{number} are called \"{name}\": its disks are {}",
            known()
        ))),
    }
}

fn name(reply: &DrainReply) -> String {
    let disk = if reply.path.is_empty() { uuid_text(&reply.disk) } else { reply.path.clone() };
    format!("{disk} of chunkserver-{}", reply.server)
}

pub(super) fn headline(reply: &DrainReply) -> String {
    let name = name(reply);
    let left = format!("{} replicas, about {}", reply.replicas_left, human_bytes(reply.bytes_left));
    match reply.state.as_str() {
        "empty" => format!("{name} is empty"),
        "failed" => format!("{name} has failed or is not there"),
        "draining" => {
            let moved = reply.replicas_at_start.saturating_sub(reply.replicas_left);
            let percent = moved * 100 / reply.replicas_at_start.max(1);
            let to_go = human_time(reply.estimated_ms);
            format!("{name} is being emptied: {percent} %, {left} left, about {to_go} to go")
        }
        _ => {
            let time = human_time(reply.estimated_ms);
            format!("{name} serves {left}: emptying it takes about {time}")
        }
    }
}

/// What to do next. `named`: the disk as the operator has named it.
pub(super) fn advice(reply: &DrainReply, named: &str, action: DrainAction) -> Vec<String> {
    let mut lines = Vec::new();
    if reply.elsewhere > 0 {
        lines.push(format!(
            "{} replicas find no room on the server's other disks and go to other servers",
            reply.elsewhere
        ));
    }
    if reply.stuck > 0 {
        lines.push(format!(
            "{} replicas can go nowhere at present: neither the server's other disks nor another server that lacks the \
             chunk has room; add a disk or a chunk server",
            reply.stuck
        ));
    }
    if reply.damaged > 0 {
        lines.push(format!(
            "{} replicas are damaged and wait for repair: `cairn admin chunks /` shows which",
            reply.damaged
        ));
    }
    if reply.waiting > 0 {
        lines.push(format!("{} replicas are being written to, and move when that pauses", reply.waiting));
    }
    match reply.state.as_str() {
        "empty" => lines.push(format!(
            "nothing is at risk without it: take it out of `disks` in the configuration of chunkserver-{} and start that \
             anew; or keep it with `cairn admin undrain {named}`",
            reply.server
        )),
        "failed" => lines.push(
            "what it held counts as lost and is made anew elsewhere: take it out when `cairn admin status` shows that every \
             chunk has every copy"
                .to_owned(),
        ),
        "draining" => lines.push(format!("see `cairn admin drain {named} status`")),
        _ if matches!(action, DrainAction::Plan) => {
            lines.push(format!("begin with `cairn admin drain {named} start`"));
        }
        _ => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerStatus {
        let disk = |number: u128, path: &str| ServerDisk {
            disk: Bytes::copy_from_slice(Uuid::from_u128(number << 96).as_bytes()),
            path: path.to_owned(),
            ..ServerDisk::default()
        };
        let lost = ServerDisk { path: "/data/lost".to_owned(), ..ServerDisk::default() };
        let disks = vec![disk(1, "/data/disk-1"), disk(2, "/data/disk-11"), disk(3, "/more/disk-1/"), lost];
        ServerStatus { server: 4, disks, ..ServerStatus::default() }
    }

    #[test]
    fn a_disk_is_called_by_its_path_or_id_or_a_part_that_is_clear() {
        let server = server();
        let id = |number: u128| Uuid::from_u128(number << 96).as_bytes().to_vec();
        for (name, number) in [
            ("/data/disk-1", 1),
            ("data/disk-1/", 1),
            ("disk-11", 2),
            ("more/disk-1", 3),
            ("00000002", 2),
            ("00000003-0000-0000-0000-000000000000", 3),
            ("00000009-0000-0000-0000-000000000000", 9),
        ] {
            assert_eq!(find(&server, name).unwrap(), id(number), "{name}");
        }
        for (name, says) in [
            ("disk-1", "several disks"),
            ("0000000", "several disks"),
            ("sk-11", "has no disk"),
            ("", "has no disk"),
            ("lost", "could not be opened"),
        ] {
            let error = find(&server, name).unwrap_err().to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
