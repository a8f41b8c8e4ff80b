//! `admin slow`: operations that took long lately, and where their time went.

use super::request;
use crate::connect::Admin;
use crate::error::CliError;
use crate::{moment, output};
use cairn_core::time::Timestamp;
use cairn_proto::v1::{SlowHopRecord, SlowRecord, SlowRequest};

pub(super) async fn slow(admin: &mut Admin, json: bool, since_seconds: i64) -> Result<(), CliError> {
    let reply = match admin.client.slow(request(SlowRequest { since_seconds })).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json {
        return output::json(&reply.operations.iter().map(as_json).collect::<Vec<_>>());
    }
    reply.operations.iter().for_each(print);
    let dropped = match reply.dropped {
        0 => String::new(),
        count => format!("; {count} older ones are no longer kept"),
    };
    let limit = seconds(reply.threshold_us);
    let text = format!(
        "operations of {limit} s and more, as told to master-{} while it leads{dropped}",
        reply.master
    );
    output::line(&output::wrapped("", &text));
    Ok(())
}

fn print(operation: &SlowRecord) {
    let time = moment::text(Timestamp { seconds: operation.seconds, nanos: operation.nanos });
    let head = format!("{} {} ", &time[5..10], &time[11..19]);
    let hops: Vec<String> = operation.hops.iter().map(hop).collect();
    let hops = if hops.is_empty() { "in the client itself".to_owned() } else { hops.join(", ") };
    let text = format!(
        "{}{} took {} s: {hops}; told by {}",
        operation.what,
        inode(operation),
        seconds(operation.took_us),
        operation.by
    );
    output::line(&output::wrapped(&head, &text));
}

fn inode(operation: &SlowRecord) -> String {
    if operation.inode == 0 { String::new() } else { format!(" of inode-{}", operation.inode) }
}

/// In words.
fn hop(hop: &SlowHopRecord) -> String {
    let what = match hop.kind.as_str() {
        "master" => "the answer of the master",
        "network" => "on the way to and from",
        "disk" => "the disk of",
        "silent" => "no answer from",
        "lease" => "another client's write lease",
        "store" => "earlier writes on their way",
        "room" => "room for written bytes",
        "file" => "another operation on the file",
        "retry" => "pauses for want of replicas",
        "journal" => "the journal and its followers",
        "caches" => "clients that had to forget",
        other => other,
    };
    let place = if hop.place.is_empty() { String::new() } else { format!(" {}", hop.place) };
    format!("{what}{place} {} s", seconds(hop.took_us))
}

fn seconds(micros: u64) -> String {
    format!("{:.3}", micros as f64 / 1e6)
}

fn as_json(operation: &SlowRecord) -> serde_json::Value {
    let hop = |hop: &SlowHopRecord| serde_json::json!({ "kind": hop.kind, "place": hop.place, "took_us": hop.took_us });
    serde_json::json!({
        "number": operation.number,
        "time": moment::text(Timestamp { seconds: operation.seconds, nanos: operation.nanos }),
        "by": operation.by, "session": operation.session, "what": operation.what, "inode": operation.inode,
        "took_us": operation.took_us, "hops": operation.hops.iter().map(hop).collect::<Vec<_>>(),
    })
}
