//! What is in flight, which slots are free, what is open: the state that outlives a connection.
//!
//! Laws: a slot has at most one request outstanding; a request keeps slot and sequence until it is answered or its session
//! is lost; everything is sent in the order of ids, declarations before the requests that followed them.

use super::dial::Outbox;
use super::doubted::Doubted;
use cairn_core::caching::changes::Changes;
use cairn_core::error::FsError;
use cairn_core::ids::{ClusterId, InodeId};
use cairn_core::limits::SESSION_SLOTS;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Operation, OperationKind, Query};
use cairn_proto::v1;
use cairn_proto::v1::client_message::Message;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the leader answered.
pub(super) struct Told {
    /// The answer itself.
    pub(super) outcome: Result<Answer, FsError>,
    /// All that it tells of may be believed until it is taken back.
    pub(super) leased: bool,
}

impl From<FsError> for Told {
    fn from(error: FsError) -> Self {
        Self { outcome: Err(error), leased: false }
    }
}

type Reply = oneshot::Sender<Told>;

/// Who waits for an answer.
struct InFlight {
    message: Message,
    reply: Reply,
    slot: Option<u32>,
    /// Of an operation.
    doubted: Option<Doubted>,
    /// It may have reached a leader in the present session.
    sent: bool,
    /// It would do harm, or mean nothing, in another session than the one it was made for.
    bound_to_session: bool,
    _permit: OwnedSemaphorePermit,
}

/// The state of one session and its requests.
#[derive(Default)]
pub(super) struct Table {
    /// The cluster we belong to; the first Welcome tells.
    pub(super) cluster: ClusterId,
    /// 0: none yet.
    pub(super) session: u64,
    pub(super) secret: bytes::Bytes,
    /// Address of the leader we are, or were last, connected to.
    pub(super) leader: String,
    outbox: Option<Outbox>,
    in_flight: BTreeMap<u64, InFlight>,
    next_id: u64,
    sequences: Vec<u64>,
    free_slots: Vec<u32>,
    open: BTreeSet<u64>,
    /// Opened since the last declaration, and still open.
    declare_opened: BTreeSet<u64>,
    /// Closed since; some of them opened again.
    declare_closed: BTreeSet<u64>,
    /// The invalidation to be confirmed, while there is no room to say so.
    confirm: Option<u64>,
    ended: Option<FsError>,
}

impl Table {
    pub(super) fn begin_operation(
        &mut self,
        operation: Operation,
        doubted: Doubted,
        permit: OwnedSemaphorePermit,
        reply: Reply,
    ) -> Result<(), FsError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.sequences.is_empty() {
            self.reset_slots();
        }
        let bound_to_session = is_bound(&operation.kind);
        let slot = self.free_slots.pop().expect("a permit stands for a free slot");
        self.sequences[slot as usize] += 1;
        let id = self.id();
        let message = Message::Operation(v1::OperationRequest {
            id,
            slot,
            sequence: self.sequences[slot as usize],
            operation: Some(operation.into()),
        });
        let (slot, doubted, sent) = (Some(slot), Some(doubted), false);
        self.enter(id, InFlight { message, reply, slot, doubted, sent, bound_to_session, _permit: permit });
        Ok(())
    }

    pub(super) fn begin_query(
        &mut self,
        query: Query,
        permit: OwnedSemaphorePermit,
        reply: Reply,
    ) -> Result<(), FsError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let id = self.id();
        let message = Message::Query(v1::QueryRequest { id, query: Some(query.into()) });
        let (slot, doubted, sent, bound_to_session) = (None, None, false, false);
        self.enter(id, InFlight { message, reply, slot, doubted, sent, bound_to_session, _permit: permit });
        Ok(())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn enter(&mut self, id: u64, mut in_flight: InFlight) {
        let declared = self.flush_declarations();
        in_flight.sent = declared && self.post(in_flight.message.clone());
        self.in_flight.insert(id, in_flight);
    }

    /// Hands a message to the stream, if there is one with room.
    fn post(&mut self, message: Message) -> bool {
        match &self.outbox {
            Some(outbox) => outbox.queue(message),
            None => false,
        }
    }

    /// A message that need not be repeated: after a reconnection it means nothing, or is sent by other means. False when
    /// it was not sent.
    pub(super) fn send_once(&mut self, message: Message) -> bool {
        self.post(message)
    }

    /// Everything up to invalidation `number` is believed no more.
    pub(super) fn confirm(&mut self, number: u64) {
        self.confirm = Some(number);
        self.flush_confirmation();
    }

    /// What was taken back may be a file that is open here and has lost its name: that it is open is said first.
    fn flush_confirmation(&mut self) {
        if let Some(number) = self.confirm
            && self.flush_declarations()
            && self.post(Message::Invalidated(v1::Invalidated { number }))
        {
            self.confirm = None;
        }
    }

    /// Opening and closing leave with the next message: what is opened and closed between two of them need not be told.
    ///
    /// Why that is soon enough for an open file that somebody else unlinks: we are asked to confirm that first if we
    /// cache, and say before what is open; else the leader reclaims nothing for `ORPHAN_INODE_GRACE`, far longer than
    /// the pause between two sweeps.
    pub(super) fn declare(&mut self, opened: Option<InodeId>, closed: Option<InodeId>) {
        if let Some(inode) = opened {
            self.open.insert(inode.get());
            self.declare_opened.insert(inode.get());
        }
        if let Some(inode) = closed {
            self.open.remove(&inode.get());
            if !self.declare_opened.remove(&inode.get()) {
                self.declare_closed.insert(inode.get());
            }
        }
    }

    /// Whether everything declared is on its way.
    pub(super) fn flush_declarations(&mut self) -> bool {
        if self.declare_opened.is_empty() && self.declare_closed.is_empty() {
            return true;
        }
        // An inode closed and opened again since the last message is open: the leader takes `closed` first.
        let closed: Vec<u64> =
            self.declare_closed.iter().copied().filter(|inode| !self.open.contains(inode)).collect();
        let declare = v1::Declare { opened: self.declare_opened.iter().copied().collect(), closed };
        let sent = self.post(Message::Declare(declare));
        if sent || self.outbox.is_none() {
            // Without a stream, the Hello of the next one lists what is open.
            self.declare_opened.clear();
            self.declare_closed.clear();
        }
        sent || self.outbox.is_none()
    }

    pub(super) fn open_inodes(&self) -> Vec<u64> {
        self.open.iter().copied().collect()
    }

    /// A stream is ready: sends all that waits for an answer, oldest first.
    pub(super) fn attach(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox);
        self.confirm = None;
        self.declare_opened.clear();
        self.declare_closed.clear();
        for in_flight in self.in_flight.values_mut() {
            in_flight.sent = false;
        }
        self.send_unsent();
    }

    /// Sends what had no room before.
    pub(super) fn send_unsent(&mut self) {
        self.flush_confirmation();
        if !self.flush_declarations() {
            return;
        }
        let Some(outbox) = &self.outbox else { return };
        for in_flight in self.in_flight.values_mut().filter(|in_flight| !in_flight.sent) {
            if !outbox.queue(in_flight.message.clone()) {
                return;
            }
            in_flight.sent = true;
        }
    }

    /// Whether there is a connection, for a session that lives.
    pub(super) fn is_attached(&self) -> bool {
        self.outbox.is_some() && self.session != 0 && self.ended.is_none()
    }

    /// Where queued messages wait: whoever queues some flushes it after the table is free again, because that writes to a
    /// socket.
    pub(super) fn outbox(&self) -> Option<Outbox> {
        self.outbox.clone()
    }

    /// The stream is gone.
    pub(super) fn detach_stream(&mut self) {
        self.outbox = None;
    }

    /// An answer has come; `changes`: what an operation of ours changed.
    pub(super) fn settle(&mut self, id: u64, told: Told, changes: &Changes) {
        let Some(in_flight) = self.in_flight.remove(&id) else { return };
        if let Some(doubted) = in_flight.doubted {
            doubted.answered(changes, told.leased);
        }
        if let Some(slot) = in_flight.slot {
            self.free_slots.push(slot);
        }
        // The caller may have gone away.
        let _ = in_flight.reply.send(told);
    }

    /// A new session begins: slots start anew. What may have been done by the old one, and what only it could ask, fails;
    /// the rest is sent in the new one.
    pub(super) fn renew_session(&mut self, session: u64, secret: bytes::Bytes) {
        let lost = self.session != 0;
        self.session = session;
        self.secret = secret;
        self.reset_slots();
        let waiting = std::mem::take(&mut self.in_flight);
        for (id, mut in_flight) in waiting {
            match &mut in_flight.message {
                Message::Operation(request) if lost && (in_flight.bound_to_session || in_flight.sent) => {
                    let unknown = FsError::Io(String::from(
                        "the session with the master expired; whether the operation was done is unknown",
                    ));
                    let error = if in_flight.bound_to_session { FsError::SessionExpired } else { unknown };
                    tracing::warn!(id = request.id, %error, "operation lost with its session");
                    let _ = in_flight.reply.send(error.into());
                    continue;
                }
                Message::Operation(request) => {
                    let slot = self.free_slots.pop().expect("as many permits as slots");
                    self.sequences[slot as usize] += 1;
                    request.slot = slot;
                    request.sequence = self.sequences[slot as usize];
                    in_flight.slot = Some(slot);
                }
                _ => {}
            }
            self.in_flight.insert(id, in_flight);
        }
    }

    fn reset_slots(&mut self) {
        self.sequences = vec![0; SESSION_SLOTS as usize];
        self.free_slots = (0..SESSION_SLOTS).rev().collect();
    }

    /// No more requests; those in flight fail. False when it had ended before.
    pub(super) fn end(&mut self, error: FsError) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.ended = Some(error.clone());
        for (_, in_flight) in std::mem::take(&mut self.in_flight) {
            let _ = in_flight.reply.send(error.clone().into());
        }
        true
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

fn is_bound(kind: &OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::AllocateChunks { .. }
            | OperationKind::LeaseFile { .. }
            | OperationKind::Commit { .. }
            | OperationKind::ReplaceReplicas { .. }
            | OperationKind::ReleaseChunks { .. }
            | OperationKind::ReleaseLeases { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::caching::cache::Cache;
    use cairn_core::namespace::attr::{Attr, AttrChanges, NodeKind};
    use cairn_core::namespace::request::{Credentials, PermissionCheck};
    use cairn_core::time::{Tick, Timestamp};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::sync::Semaphore;

    const FILE: InodeId = InodeId(7);
    const NOW: Tick = Tick(Duration::from_secs(1));

    fn attr() -> Attr {
        let time = Timestamp::default();
        Attr {
            inode: FILE,
            kind: NodeKind::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            links: 1,
            size: 0,
            mapped_bytes: 0,
            rdev: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            change: 1,
            data_change: 1,
            policy: cairn_core::ids::PolicyId::DEFAULT,
        }
    }

    #[test]
    fn what_an_operation_may_change_is_doubted_until_its_answer_though_nobody_waits_for_that() {
        let cache = Arc::new(Mutex::new(Cache::default()));
        let locked = || cache.lock().unwrap();
        locked().renewed(NOW, NOW);
        let ticket = locked().ticket();
        locked().learn(ticket, &attr(), None);
        let kind = OperationKind::SetAttr { inode: FILE, changes: AttrChanges::default(), via_handle: false };
        let who = Credentials { uid: 0, gid: 0, groups: Vec::new(), check: PermissionCheck::Kernel };
        let doubted = Doubted::begin(&cache, &kind);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (mut table, (reply, waiter)) = (Table::default(), oneshot::channel());
        table.begin_operation(Operation { credentials: who, kind }, doubted, permit, reply).unwrap();
        drop(waiter);
        assert_eq!(locked().attr(FILE, NOW), None, "it may be done at any moment");
        let changed = Attr { change: 2, ..attr() };
        let changes = Changes { inodes: vec![(FILE, Some(changed.clone()))], names: Vec::new() };
        let (outcome, id) = (Ok(Answer::Attr(changed.clone())), table.next_id);
        table.settle(id, Told { outcome, leased: true }, &changes);
        assert_eq!(locked().attr(FILE, NOW), Some((changed, None)));
    }
}
