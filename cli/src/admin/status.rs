//! `admin status`: health in one screen.

use super::{request, uuid_text};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{StatusReply, StatusRequest};

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
        "warnings": reply.warnings,
        "recent_corruption": corruption,
    })
}

fn print(reply: &StatusReply) -> Result<(), CliError> {
    let used = reply.total_bytes.saturating_sub(reply.free_bytes);
    output::line(&format!(
        "cluster     {}\n\
         leader      {} (term {}, journal applied {} of {})\n\
         servers     {} of {} alive, {} replicas of each new chunk\n\
         capacity    {} used of {} (all disks), {} free\n\
         namespace   {} inodes, {} chunks, {} sessions\n\
         work        {} deletions, {} reconciliations\n\
         corruption  {} blocks found, {} replicas at present",
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
        reply.corrupt_blocks_found,
        reply.corrupt_replicas,
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
