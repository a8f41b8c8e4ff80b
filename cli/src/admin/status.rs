//! `admin status`: health in one screen.

use super::backup::seconds_text;
use super::{request, uuid_text};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{BackupStatus, DiskDrainStatus, StateCount, StatusReply, StatusRequest};

/// Reports of corruption in the screen; `--json` has all that the leader keeps.
const REPORTS_SHOWN: usize = 3;
/// Likewise of disks that are being emptied.
const DRAINS_SHOWN: usize = 8;

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
        "server_states": counts_json(&reply.server_states),
        "disk_states": counts_json(&reply.disk_states),
        "master_states": counts_json(&reply.master_states),
        "chunks_whole": reply.chunks_whole,
        "chunks_short": copies_json(reply),
        "copies_exact": reply.copies_exact,
        "warnings": reply.warnings,
        "recent_corruption": corruption,
        "disk_drains": reply.disk_drains.iter().map(disk_drain_json).collect::<Vec<_>>(),
        "backup": backup_json(reply.backup.as_ref().filter(|backup| !backup.destination.is_empty())),
    })
}

fn disk_drain_json(disk: &DiskDrainStatus) -> serde_json::Value {
    serde_json::json!({
        "server": disk.server, "disk": uuid_text(&disk.disk), "path": disk.path,
        "replicas_left": disk.replicas_left, "replicas_at_start": disk.replicas_at_start,
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

/// `{"alive": 3}`
fn counts_json(counts: &[StateCount]) -> serde_json::Value {
    counts
        .iter()
        .map(|count| (count.state.clone(), count.count.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn copies_json(reply: &StatusReply) -> serde_json::Value {
    let rows = reply.chunks_short.iter();
    rows.map(|row| (row.copies.to_string(), row.chunks.into())).collect::<serde_json::Map<_, _>>().into()
}

/// `3 alive, 1 dead`
fn counts_text(counts: &[StateCount]) -> String {
    match counts {
        [] => "none".to_owned(),
        counts => counts
            .iter()
            .map(|count| format!("{} {}", count.count, count.state))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn copies_text(reply: &StatusReply) -> String {
    let short = reply.chunks_short.iter().map(|row| format!("{} with {}", row.chunks, row.copies));
    let short: Vec<String> = short.collect();
    let whole = format!("{} chunks have every copy", reply.chunks_whole);
    let rest = match short.is_empty() {
        true => String::new(),
        false => format!("; of the others {} good", short.join(", ")),
    };
    let exact = if reply.copies_exact { "" } else { "; more were not looked at" };
    format!("{whole}{rest}{exact}")
}

fn work_text(reply: &StatusReply) -> String {
    let image =
        if reply.backup.as_ref().is_some_and(|backup| backup.image_runs) { ", a backup image" } else { "" };
    format!(
        "{} deletions, {} reconciliations, {} repairs ({} under way){image}",
        reply.pending_deletions,
        reply.pending_reconciliations,
        reply.repairs_waiting + reply.repairs_under_way,
        reply.repairs_under_way,
    )
}

fn capacity_text(reply: &StatusReply) -> String {
    let used = reply.total_bytes.saturating_sub(reply.free_bytes);
    let percent = used.saturating_mul(100).checked_div(reply.total_bytes).unwrap_or(0);
    format!(
        "{} used of {} ({percent} %), {} free",
        human_bytes(used),
        human_bytes(reply.total_bytes),
        human_bytes(reply.free_bytes),
    )
}

fn print(reply: &StatusReply) -> Result<(), CliError> {
    let rows = [
        ("cluster", uuid_text(&reply.cluster)),
        (
            "leader",
            format!(
                "{} (term {}, journal applied {} of {})",
                reply.leader, reply.term, reply.applied_index, reply.commit_index
            ),
        ),
        ("masters", counts_text(&reply.master_states)),
        ("servers", counts_text(&reply.server_states)),
        ("disks", counts_text(&reply.disk_states)),
        ("capacity", capacity_text(reply)),
        ("copies", format!("{}; {} of each new chunk", copies_text(reply), reply.default_replicas)),
        (
            "namespace",
            format!("{} inodes, {} chunks, {} sessions", reply.inodes, reply.chunks, reply.sessions),
        ),
        ("work", work_text(reply)),
        (
            "corruption",
            format!(
                "{} blocks found, {} replicas at present",
                reply.corrupt_blocks_found, reply.corrupt_replicas
            ),
        ),
        ("backup", backup_line(reply.backup.as_ref())),
    ];
    for (name, text) in rows {
        output::line(&output::wrapped(&format!("{name:<12}"), &text));
    }
    for disk in reply.disk_drains.iter().take(DRAINS_SHOWN) {
        let (server, left) = (disk.server, disk.replicas_left);
        let text = format!(
            "{} of chunkserver-{server}: {left} of {} replicas left, see `cairn admin drain {server}:{} status`",
            disk.path,
            disk.replicas_at_start.max(left),
            uuid_text(&disk.disk).split('-').next().unwrap_or_default()
        );
        output::line(&output::wrapped("draining    ", &text));
    }
    for report in reply.recent_corruption.iter().rev().take(REPORTS_SHOWN) {
        let text = format!("chunk {} on chunkserver-{}: {}", report.chunk, report.server, report.detail);
        output::line(&output::wrapped("  found     ", &text));
    }
    for warning in &reply.warnings {
        output::line(&output::wrapped("warning: ", warning));
    }
    Ok(())
}
