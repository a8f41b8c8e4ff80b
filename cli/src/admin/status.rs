//! `admin status`: health in one screen.

use super::backup::seconds_text;
use super::{request, uuid_text};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{BackupStatus, StatusReply, StatusRequest};

pub(super) async fn status(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    let reply = match admin.client.status(request(StatusRequest {})).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json { output::json(&as_json(&reply)) } else { print(&reply) }
}

fn as_json(reply: &StatusReply) -> serde_json::Value {
    let corruption: Vec<_> = reply
        .recent_corruption
        .iter()
        .map(|report| {
            serde_json::json!({
                "chunk": report.chunk, "server": report.server, "detail": report.detail, "seconds": report.seconds,
            })
        })
        .collect();
    serde_json::json!({
        "cluster": uuid_text(&reply.cluster),
        "leader": reply.leader,
        "term": reply.term,
        "commit_index": reply.commit_index,
        "applied_index": reply.applied_index,
        "inodes": reply.inodes,
        "chunks": reply.chunks,
        "total_bytes": reply.total_bytes,
        "free_bytes": reply.free_bytes,
        "servers_alive": reply.servers_alive,
        "servers_known": reply.servers_known,
        "sessions": reply.sessions,
        "default_replicas": reply.default_replicas,
        "corrupt_blocks_found": reply.corrupt_blocks_found,
        "corrupt_replicas": reply.corrupt_replicas,
        "pending_deletions": reply.pending_deletions,
        "pending_reconciliations": reply.pending_reconciliations,
        "short_chunks": reply.short_chunks,
        "replicas_on_dead": reply.replicas_on_dead,
        "repairs_waiting": reply.repairs_waiting,
        "repairs_under_way": reply.repairs_under_way,
        "warnings": reply.warnings,
        "recent_corruption": corruption,
        "backup": backup_json(reply.backup.as_ref().filter(|backup| !backup.destination.is_empty())),
    })
}

fn backup_json(backup: Option<&BackupStatus>) -> serde_json::Value {
    let Some(backup) = backup else { return serde_json::Value::Null };
    serde_json::json!({
        "destination": backup.destination,
        "image_index": backup.image_index,
        "image_seconds": backup.image_seconds,
        "image_runs": backup.image_runs,
        "shipped_index": backup.shipped_index,
        "restorable": backup.restorable,
        "age_ms": backup.age_ms,
        "failure": backup.failure,
        "gaps": backup.gaps,
    })
}

fn backup_line(backup: Option<&BackupStatus>) -> String {
    let Some(backup) = backup.filter(|backup| !backup.destination.is_empty()) else {
        return "none: set `backup` in the configuration of every master".to_owned();
    };
    let age = std::time::Duration::from_millis(backup.age_ms).as_secs_f64();
    let point = match backup.restorable {
        true => format!("restorable up to {age:.1} s ago"),
        false => "nothing restorable yet".to_owned(),
    };
    let image = match backup.image_index {
        0 => "no image".to_owned(),
        index => format!("image of entry {index}, {}", seconds_text(backup.image_seconds)),
    };
    let runs = if backup.image_runs { ", another one is being made" } else { "" };
    format!("{point}, shipped to entry {}, {image}{runs}, in {}", backup.shipped_index, backup.destination)
}

fn print(reply: &StatusReply) -> Result<(), CliError> {
    let used = reply.total_bytes.saturating_sub(reply.free_bytes);
    output::line(&format!(
        "cluster     {}\n\
         leader      {} (term {}, journal applied {} of {})\n\
         servers     {} of {} alive, {} replicas of each new chunk\n\
         capacity    {} used of {} (all disks), {} free\n\
         namespace   {} inodes, {} chunks, {} sessions\n\
         work        {} deletions, {} reconciliations, {} repairs ({} under way)\n\
         corruption  {} blocks found, {} replicas at present\n\
         backup      {}",
        uuid_text(&reply.cluster),
        reply.leader,
        reply.term,
        reply.applied_index,
        reply.commit_index,
        reply.servers_alive,
        reply.servers_known,
        reply.default_replicas,
        human_bytes(used),
        human_bytes(reply.total_bytes),
        human_bytes(reply.free_bytes),
        reply.inodes,
        reply.chunks,
        reply.sessions,
        reply.pending_deletions,
        reply.pending_reconciliations,
        reply.repairs_waiting + reply.repairs_under_way,
        reply.repairs_under_way,
        reply.corrupt_blocks_found,
        reply.corrupt_replicas,
        backup_line(reply.backup.as_ref()),
    ));
    for report in &reply.recent_corruption {
        output::line(&format!(
            "  chunk {} on chunkserver-{}: {}",
            report.chunk, report.server, report.detail
        ));
    }
    for warning in &reply.warnings {
        output::line(&format!("warning: {warning}"));
    }
    Ok(())
}
