//! `admin capacity`: use by server, growth, and when the cluster will be full.

use super::request;
use crate::connect::Admin;
use crate::error::CliError;
use crate::moment;
use crate::output::{self, human_bytes};
use cairn_core::time::Timestamp;
use cairn_proto::v1::{CapacityReply, CapacityRequest};

/// Samples of the history in the screen; `--json` has all.
const SAMPLES_SHOWN: usize = 8;

pub(super) async fn capacity(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    let reply = match admin.client.capacity(request(CapacityRequest {})).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json { output::json(&as_json(&reply)) } else { print(&reply) }
}

fn as_json(reply: &CapacityReply) -> serde_json::Value {
    let servers = reply.servers.iter().map(|server| {
        serde_json::json!({
            "server": server.server, "state": server.state, "total_bytes": server.total_bytes,
            "free_bytes": server.free_bytes, "used_bytes": server.total_bytes.saturating_sub(server.free_bytes),
        })
    });
    let samples = reply.samples.iter().map(|sample| {
        serde_json::json!({
            "time": time(sample.seconds), "total_bytes": sample.total_bytes, "used_bytes": sample.used_bytes,
            "chunks": sample.chunks, "inodes": sample.inodes,
        })
    });
    let is_growing = reply.outlook == "growing";
    serde_json::json!({
        "total_bytes": reply.total_bytes, "used_bytes": reply.used_bytes, "chunks": reply.chunks,
        "inodes": reply.inodes, "servers": servers.collect::<Vec<_>>(), "outlook": reply.outlook,
        "bytes_per_day": (reply.outlook != "too little history").then_some(reply.bytes_per_day),
        "policies": reply.policies.iter().map(super::policy::policy_json).collect::<Vec<_>>(),
        "full": is_growing.then(|| time(reply.full_seconds)), "samples": samples.collect::<Vec<_>>(),
    })
}

fn time(seconds: i64) -> String {
    moment::text(Timestamp { seconds, nanos: 0 })
}

fn use_text(used: u64, total: u64) -> String {
    let percent = used.saturating_mul(100).checked_div(total).unwrap_or(0);
    format!("{:>10} of {:>10} used, {percent:>3} %", human_bytes(used), human_bytes(total))
}

fn print(reply: &CapacityReply) -> Result<(), CliError> {
    for server in &reply.servers {
        let used = server.total_bytes.saturating_sub(server.free_bytes);
        let name = format!("chunkserver-{}", server.server);
        output::line(&format!("{name:<17} {:<8} {}", server.state, use_text(used, server.total_bytes)));
    }
    output::line(&format!("{:<26} {}", "all that are there", use_text(reply.used_bytes, reply.total_bytes)));
    output::line(&format!("{:<26} {} chunks, {} inodes", "", reply.chunks, reply.inodes));
    for policy in &reply.policies {
        let name = output::tail(&policy.name, 19);
        let files = format!("{} chunks, {} files and directories", policy.chunks, policy.inodes);
        output::line(&format!("policy {name:<19} {} copies, {files}", policy.replicas));
    }
    output::line(&output::wrapped("outlook  ", &outlook(reply)));
    let first = reply.samples.len().saturating_sub(SAMPLES_SHOWN);
    for sample in &reply.samples[first..] {
        let used = use_text(sample.used_bytes, sample.total_bytes);
        output::line(&format!("  {} UTC {used}", &time(sample.seconds)[..16]));
    }
    Ok(())
}

fn outlook(reply: &CapacityReply) -> String {
    let per_day = human_bytes(reply.bytes_per_day.unsigned_abs());
    match reply.outlook.as_str() {
        "growing" => {
            format!("grows by {per_day} a day: full on {} if it goes on so", &time(reply.full_seconds)[..10])
        }
        "not growing" if reply.bytes_per_day < 0 => format!("not growing: shrinks by {per_day} a day"),
        "not growing" => format!("not growing: {per_day} a day mean nothing for years"),
        other => format!(
            "{other}: {:.1} hours are known, and it takes at least six hours and four samples, one an hour",
            reply.history_seconds as f64 / 3600.0
        ),
    }
}
