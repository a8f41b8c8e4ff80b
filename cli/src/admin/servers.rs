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
    let mut table =
        output::Table::new(&["SERVER", "STATE", "ADDRESS", "DISK", "HEALTH", "FREE", "OF", "REPLICAS"]);
    for server in &reply.servers {
        let name = format!("chunkserver-{}", server.server);
        let address = server.address.clone();
        let state = match server.draining {
            true => format!("{}, draining", server.state),
            false => server.state.clone(),
        };
        if server.disks.is_empty() {
            table.row(vec![name.clone(), state.clone(), address.clone(), "-".into()]);
        }
        for disk in &server.disks {
            table.row(vec![
                name.clone(),
                state.clone(),
                address.clone(),
                disk.path.clone(),
                if disk.detail.is_empty() {
                    disk.state.clone()
                } else {
                    format!("{}: {}", disk.state, disk.detail)
                },
                human_bytes(disk.free_bytes),
                human_bytes(disk.total_bytes),
                disk.replicas.to_string(),
            ]);
        }
    }
    table.print();
    Ok(())
}

fn as_json(server: &ServerStatus) -> serde_json::Value {
    let disks: Vec<_> = server
        .disks
        .iter()
        .map(|disk| {
            serde_json::json!({
                "disk": uuid_text(&disk.disk), "path": disk.path, "state": disk.state, "detail": disk.detail,
                "total_bytes": disk.total_bytes, "free_bytes": disk.free_bytes, "used_bytes": disk.used_bytes,
                "replicas": disk.replicas, "read_us": disk.read_us, "sync_us": disk.sync_us,
            })
        })
        .collect();
    serde_json::json!({
        "server": server.server, "node": uuid_text(&server.node), "address": server.address, "state": server.state,
        "silent_ms": server.silent_ms, "chunks": server.chunks, "disks": disks, "draining": server.draining,
        "labels": server.labels,
    })
}
