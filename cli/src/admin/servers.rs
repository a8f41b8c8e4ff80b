//! `admin servers`: chunk servers and their disks.

use super::{request, uuid_text};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{ServerStatus, ServersRequest};

pub(super) async fn servers(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    let reply = match admin.client.servers(request(ServersRequest {})).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json {
        return output::json(&reply.servers.iter().map(as_json).collect::<Vec<_>>());
    }
    for server in &reply.servers {
        print(server);
    }
    Ok(())
}

fn print(server: &ServerStatus) {
    let silent = match server.silent_ms {
        u64::MAX => "never heard by this leader".to_owned(),
        millis => format!("heard {:.1} s ago", millis as f64 / 1000.0),
    };
    let state = match server.draining {
        true => format!("{}, draining,", server.state),
        false => server.state.clone(),
    };
    output::line(&output::wrapped(
        &format!("chunkserver-{:<4}", server.server),
        &format!("{state:<8} {}, {silent}, {} replicas", server.address, server.chunks),
    ));
    for disk in &server.disks {
        let room = format!("{} free of {}", human_bytes(disk.free_bytes), human_bytes(disk.total_bytes));
        let detail = if disk.detail.is_empty() { String::new() } else { format!(": {}", disk.detail) };
        let state = if disk.draining { "draining" } else { disk.state.as_str() };
        let head = format!("  {state:<8} {room:<26} {:>9} replicas  ", disk.replicas);
        output::line(&format!("{head}{}", output::tail(&disk.path, output::WIDTH - head.chars().count())));
        if !detail.is_empty() {
            output::line(&output::wrapped("    ", detail.trim_start_matches(": ")));
        }
    }
}

fn as_json(server: &ServerStatus) -> serde_json::Value {
    let disks: Vec<_> = server
        .disks
        .iter()
        .map(|disk| {
            serde_json::json!({
                "disk": uuid_text(&disk.disk), "path": disk.path, "state": disk.state, "detail": disk.detail,
                "total_bytes": disk.total_bytes, "free_bytes": disk.free_bytes, "used_bytes": disk.used_bytes,
                "replicas": disk.replicas, "draining": disk.draining, "read_us": disk.read_us, "sync_us": disk.sync_us,
            })
        })
        .collect();
    serde_json::json!({
        "server": server.server, "node": uuid_text(&server.node), "address": server.address, "state": server.state,
        "silent_ms": server.silent_ms, "chunks": server.chunks, "disks": disks, "draining": server.draining,
        "labels": server.labels,
    })
}
