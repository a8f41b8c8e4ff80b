//! `admin why PATH`: what operations on a file wait for, on whom, since when, and what happens next.

use super::request;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{WhyReply, WhyRequest, WhySession, WhyWait};

pub(super) async fn why(admin: &mut Admin, json: bool, path: &str) -> Result<(), CliError> {
    let asked = request(WhyRequest { path: path.as_bytes().to_vec().into() });
    let reply = match admin.client.why(asked).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json { output::json(&as_json(path, &reply)) } else { print(path, &reply) }
}

fn as_json(path: &str, reply: &WhyReply) -> serde_json::Value {
    let wait = |wait: &WhyWait| {
        serde_json::json!({
            "operations": wait.operations, "waits_for": wait.waits_for, "since_ms": known(wait.since_ms),
            "then": wait.then, "next": wait.next,
        })
    };
    let session = |session: &WhySession| {
        serde_json::json!({
            "session": session.session, "client": session.client, "silent_ms": known(session.silent_ms),
        })
    };
    serde_json::json!({
        "path": path, "inode": reply.inode, "kind": reply.kind, "size": reply.size, "links": reply.links,
        "lease": reply.lease.as_ref().map(session), "opens": reply.opens.iter().map(session).collect::<Vec<_>>(),
        "chunks": reply.chunks, "chunks_whole": reply.chunks_whole, "more_chunks": reply.more_chunks,
        "waits": reply.waits.iter().map(wait).collect::<Vec<_>>(), "notes": reply.notes,
    })
}

fn known(millis: u64) -> Option<u64> {
    Some(millis).filter(|millis| *millis != u64::MAX)
}

fn print(path: &str, reply: &WhyReply) -> Result<(), CliError> {
    let chunks = match (reply.chunks, reply.more_chunks) {
        (0, _) => String::new(),
        (count, false) => format!(", {} of {count} chunks with every copy good", reply.chunks_whole),
        (count, true) => {
            format!(", {} of the first {count} chunks with every copy good", reply.chunks_whole)
        }
    };
    let size = if reply.kind == "file" { format!(" of {}", human_bytes(reply.size)) } else { String::new() };
    let head = format!("{path}: {}{size}, inode-{}, {} links{chunks}", reply.kind, reply.inode, reply.links);
    output::line(&output::wrapped("", &head));
    if !reply.opens.is_empty() {
        let of = |session: &WhySession| format!("session-{} ({})", session.session, session.client);
        let opens: Vec<String> = reply.opens.iter().map(of).collect();
        output::line(&output::wrapped("open by  ", &opens.join(", ")));
    }
    for note in &reply.notes {
        output::line(&output::wrapped("note     ", note));
    }
    if reply.waits.is_empty() {
        output::line("nothing waits for anybody");
    }
    for wait in &reply.waits {
        let since = match known(wait.since_ms) {
            Some(millis) => format!(" since {:.1} s", millis as f64 / 1000.0),
            None => String::new(),
        };
        output::line(&output::wrapped(
            "WAIT     ",
            &format!("{} wait{since} for {}", wait.operations, wait.waits_for),
        ));
        output::line(&output::wrapped("  then   ", &wait.then));
        output::line(&output::wrapped("  next   ", &wait.next));
    }
    Ok(())
}
