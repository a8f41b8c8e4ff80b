//! One operation or question of a client, from its message to its reply.

use crate::caching::{self, Done};
use crate::latencies::{operation_name, question_name};
use crate::leases;
use crate::parts::Parts;
use crate::replace;
use crate::sequencer::Submitted;
use crate::session_conn::Answer;
use crate::sessions::Session;
use crate::slow;
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, Sequence, SessionId, SlotId};
use cairn_core::limits::SESSION_SLOTS;
use cairn_core::namespace::answer::Answer as Answered;
use cairn_core::namespace::request::{Operation, OperationKind, Query};
use cairn_core::time::Tick;
use cairn_proto::v1::query::Kind as AskedKind;
use cairn_proto::v1::{ChangedName, OperationRequest, QueryRequest, Reply, reply};
use futures::FutureExt;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A page of so many entries takes some 20 µs.
const ENTRIES_AT_ONCE: u32 = 64;

/// Serves a sequenced operation. Returns at once; the answer follows when the operation is committed and applied, and
/// nobody believes any more what was before it.
pub(crate) fn operate(parts: &Arc<Parts>, session: &Arc<Session>, request: OperationRequest, answer: Answer) {
    let (id, of) = (request.id, (session.id, SlotId(request.slot), Sequence(request.sequence)));
    let operation = match checked(session, request) {
        Ok(operation) => operation,
        Err(refusal) => return answer.send(reply(id, Err(refusal))),
    };
    let parts_too = parts.clone();
    let asked = Asked { id, of, name: operation_name(&operation.kind), at: parts.now() };
    if let OperationKind::ReplaceReplicas { .. } = operation.kind {
        drop(tokio::spawn(async move {
            let outcome = replace_replicas(&parts_too, of, operation).await;
            finish(&parts_too, asked, outcome, answer).await;
        }));
        return;
    }
    let leased = leases::leased_file(&operation.kind);
    let runtime = Handle::current();
    parts.sequencer.submit(of, operation, move |outcome| {
        // Mostly nothing is left to wait for: the answer then leaves from the thread that has it.
        let _runtime = runtime.enter();
        let mut rest = Box::pin(async move {
            if let (Err(FsError::LeaseHeld), Some(inode)) = (&outcome, leased) {
                leases::conflict(&parts_too, inode, of.0).await;
            }
            finish(&parts_too, asked, outcome.and_then(answered), answer).await;
        });
        if (&mut rest).now_or_never().is_none() {
            drop(runtime.spawn(rest));
        }
    });
}

type Of = (SessionId, SlotId, Sequence);

/// An operation on its way.
struct Asked {
    /// Of the request on its connection.
    id: u64,
    of: Of,
    name: &'static str,
    /// When it had been read.
    at: Tick,
}

async fn finish(parts: &Parts, asked: Asked, outcome: Result<Answered, FsError>, answer: Answer) {
    let Asked { id, of, name, at } = asked;
    let done = parts.caching.done(of.0, of.1, of.2);
    let decided = parts.now();
    caching::tell(parts);
    caching::believed(parts, done.as_ref()).await;
    if done.is_none() {
        caching::all_believed(parts).await;
    }
    parts.metrics.operations.inc();
    let now = parts.now();
    parts.latencies.operation(name, now.since(at));
    slow::answered(parts, of.0, name, now.since(at), now.since(decided));
    let mut reply = reply(id, outcome);
    if let Some(done) = done {
        tell_own_changes(&mut reply, &done);
    }
    answer.send(reply);
}

/// What the client's own operation did, so that it need not ask.
fn tell_own_changes(reply: &mut Reply, done: &Done) {
    reply.leased = done.leased;
    for (inode, attr) in &done.changes.inodes {
        match attr {
            Some(attr) => reply.changed.push(attr.clone().into()),
            None => reply.vanished.push(inode.get()),
        }
    }
    let name = |(parent, name, leads_to): &(InodeId, bytes::Bytes, Option<InodeId>)| ChangedName {
        parent: parent.get(),
        name: name.clone(),
        inode: leads_to.map_or(0, InodeId::get),
    };
    reply.names = done.changes.names.iter().map(name).collect();
}

/// Whether the answer is a page of many entries, which takes far longer to make than a hand-over to another thread.
pub(crate) fn takes_long(request: &QueryRequest) -> bool {
    match request.query.as_ref().and_then(|query| query.kind.as_ref()) {
        Some(AskedKind::ReadDir(page)) => page.limit > ENTRIES_AT_ONCE,
        Some(AskedKind::Neighbours(page)) => page.limit > ENTRIES_AT_ONCE,
        _ => false,
    }
}

/// Answers a question; on this very task when the rows are in memory.
pub(crate) async fn ask(parts: &Parts, session: &Session, request: QueryRequest) -> Reply {
    let id = request.id;
    parts.metrics.queries.inc();
    let question = request
        .query
        .ok_or(FsError::InvalidArgument)
        .and_then(|query| Query::try_from(query).map_err(|error| error.to_fs_error()));
    let (outcome, leased) = match question {
        Ok(question) => {
            let asked_at = parts.now();
            let answer = caching::read(parts, session, &question).await;
            parts.latencies.question(question_name(&question.kind), parts.now().since(asked_at));
            answer
        }
        Err(error) => (Err(error), false),
    };
    Reply { leased, ..reply(id, outcome) }
}

/// A reply to request `id`.
fn reply(id: u64, outcome: Result<Answered, FsError>) -> Reply {
    let outcome = match outcome {
        Ok(answer) => reply::Outcome::Answer(answer.into()),
        Err(error) => reply::Outcome::Error(error.into()),
    };
    Reply { id, outcome: Some(outcome), ..Reply::default() }
}

fn checked(session: &Session, request: OperationRequest) -> Result<Operation, FsError> {
    if request.slot >= SESSION_SLOTS {
        return Err(FsError::InvalidArgument);
    }
    if session.has_ended() {
        return Err(FsError::SessionExpired);
    }
    let operation = request.operation.ok_or(FsError::InvalidArgument)?;
    Operation::try_from(operation).map_err(|error| error.to_fs_error())
}

fn answered(submitted: Submitted) -> Result<Answered, FsError> {
    match submitted {
        Submitted::Answered(answer) => Ok(answer),
        Submitted::Raise(order) => Err(FsError::Io(format!("master: unexpected raise of {}", order.chunk))),
    }
}

/// Two phases: the journaled intention names a version; who acknowledges it forms the new set.
async fn replace_replicas(
    parts: &Parts,
    (session, slot, sequence): Of,
    operation: Operation,
) -> Result<Answered, FsError> {
    if let OperationKind::ReplaceReplicas { failed, .. } = &operation.kind {
        let now = parts.now();
        failed.iter().for_each(|&server| parts.servers.distrust(server, now));
        parts.publish_view();
    }
    parts.metrics.replacements.inc();
    let order = match parts.sequencer.operate(session, slot, sequence, operation.clone(), None).await? {
        Submitted::Answered(answer) => return Ok(answer),
        Submitted::Raise(order) => order,
    };
    let term = parts.term().ok_or(FsError::NotLeader)?;
    let raised = replace::raise_survivors(parts, term, &order).await;
    match parts.sequencer.operate(session, slot, sequence, operation, Some(raised)).await? {
        Submitted::Answered(answer) => Ok(answer),
        // Another raise of the same chunk came between: the client asks again.
        Submitted::Raise(order) => {
            Err(FsError::Unavailable(format!("{} is being moved to other servers", order.chunk)))
        }
    }
}
