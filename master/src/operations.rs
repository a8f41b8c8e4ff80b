//! One operation or question of a client, from its message to its reply.

use crate::caching::{self, Done};
use crate::leases;
use crate::parts::Parts;
use crate::replace;
use crate::sequencer::Submitted;
use crate::sessions::Session;
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, Sequence, SlotId};
use cairn_core::limits::SESSION_SLOTS;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Operation, OperationKind, Query};
use cairn_proto::v1::master_message::Message;
use cairn_proto::v1::{ChangedName, OperationRequest, QueryRequest, Reply, reply};
use std::sync::Arc;

/// Serves a sequenced operation.
pub(crate) async fn operate(parts: Arc<Parts>, session: Arc<Session>, request: OperationRequest) -> Message {
    let (id, slot, sequence) = (request.id, SlotId(request.slot), Sequence(request.sequence));
    let outcome = decide(&parts, &session, request).await;
    let done = parts.caching.done(session.id, slot, sequence);
    caching::tell(&parts);
    caching::believed(&parts, done.as_ref()).await;
    parts.metrics.operations.inc();
    let mut reply = reply(id, outcome);
    if let Some(done) = done {
        tell_own_changes(&mut reply, &done);
    }
    Message::Reply(reply)
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

/// Answers a question; on this very task when the rows are in memory.
pub(crate) async fn ask(parts: Arc<Parts>, session: Arc<Session>, request: QueryRequest) -> Message {
    let id = request.id;
    parts.metrics.queries.inc();
    let question = request
        .query
        .ok_or(FsError::InvalidArgument)
        .and_then(|query| Query::try_from(query).map_err(|error| error.to_fs_error()));
    let (outcome, leased) = match question {
        Ok(question) => caching::read(&parts, &session, &question).await,
        Err(error) => (Err(error), false),
    };
    Message::Reply(Reply { leased, ..reply(id, outcome) })
}

/// A reply to request `id`.
pub(crate) fn reply(id: u64, outcome: Result<Answer, FsError>) -> Reply {
    let outcome = match outcome {
        Ok(answer) => reply::Outcome::Answer(answer.into()),
        Err(error) => reply::Outcome::Error(error.into()),
    };
    Reply { id, outcome: Some(outcome), ..Reply::default() }
}

async fn decide(parts: &Parts, session: &Session, request: OperationRequest) -> Result<Answer, FsError> {
    if request.slot >= SESSION_SLOTS {
        return Err(FsError::InvalidArgument);
    }
    if session.has_ended() {
        return Err(FsError::SessionExpired);
    }
    let (slot, sequence) = (SlotId(request.slot), Sequence(request.sequence));
    let operation = request.operation.ok_or(FsError::InvalidArgument)?;
    let operation = Operation::try_from(operation).map_err(|error| error.to_fs_error())?;
    if let OperationKind::ReplaceReplicas { .. } = operation.kind {
        return replace_replicas(parts, session, (slot, sequence), operation).await;
    }
    let leased = leases::leased_file(&operation.kind);
    let submitted = parts.sequencer.operate(session.id, slot, sequence, operation, None).await;
    if let (Err(FsError::LeaseHeld), Some(inode)) = (&submitted, leased) {
        leases::conflict(parts, inode).await;
    }
    match submitted? {
        Submitted::Answered(answer) => Ok(answer),
        Submitted::Raise(order) => Err(FsError::Io(format!("master: unexpected raise of {}", order.chunk))),
    }
}

/// Two phases: the journaled intention names a version; who acknowledges it forms the new set.
async fn replace_replicas(
    parts: &Parts,
    session: &Session,
    (slot, sequence): (SlotId, Sequence),
    operation: Operation,
) -> Result<Answer, FsError> {
    if let OperationKind::ReplaceReplicas { failed, .. } = &operation.kind {
        let now = parts.now();
        failed.iter().for_each(|&server| parts.servers.distrust(server, now));
        parts.publish_view();
    }
    parts.metrics.replacements.inc();
    let order = match parts.sequencer.operate(session.id, slot, sequence, operation.clone(), None).await? {
        Submitted::Answered(answer) => return Ok(answer),
        Submitted::Raise(order) => order,
    };
    let term = parts.term().ok_or(FsError::NotLeader)?;
    let raised = replace::raise_survivors(parts, term, &order).await;
    match parts.sequencer.operate(session.id, slot, sequence, operation, Some(raised)).await? {
        Submitted::Answered(answer) => Ok(answer),
        // Another raise of the same chunk came between: the client asks again.
        Submitted::Raise(order) => {
            Err(FsError::Unavailable(format!("{} is being moved to other servers", order.chunk)))
        }
    }
}
