//! How the rest of the master reaches the sequencer: a bounded queue, an answer each.

use super::group_view::GroupView;
use super::metrics::SequencerMetrics;
use super::reader::Reader;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, LogIndex, Sequence, ServerId, SessionId, SlotId, Term};
use cairn_core::journal::members::Members;
use cairn_core::journal::membership::{MemberChange, Refusal};
use cairn_core::limits::{GROUP_CHANGE_PATIENCE, RAFT_TICK};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::request::Operation;
use cairn_core::session::Raised;
use raft::eraftpb::Message;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// This member's part in the group at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It follows, or looks for a leader; `leader` is the member to ask, 0 while unknown.
    Follows {
        /// Raft id of the leader.
        leader: u64,
    },
    /// It leads: everything committed before its term is applied.
    Leads {
        /// Its term: every command to a chunk server carries it.
        term: Term,
    },
    /// It has stopped for good: its disk failed, its state is damaged, or it was told to. The process must end.
    Stopped,
}

/// What became of a sequenced request.
#[allow(clippy::large_enum_variant, reason = "moved once or twice; a box would cost more than the move")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The answer; committed and applied.
    Answered(Answer),
    /// A `ReplaceReplicas` whose intention is committed: raise the version, then submit again with [`Raised`].
    Raise(RaiseOrder),
}

/// Which replicas to raise before a `ReplaceReplicas` can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseOrder {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its present version.
    pub from: ChunkVersion,
    /// The version to raise to.
    pub to: ChunkVersion,
    /// Who to raise, in chain order.
    pub survivors: Vec<ServerId>,
}

/// Where an outcome goes. Called by the sequencer's own thread, or by a task when many outcomes are there at once: it must
/// not wait. Dropped uncalled when the sequencer ends.
pub(super) type Reply = Box<dyn FnOnce(Result<Submitted, FsError>) + Send>;

/// A request in the queue.
pub(super) enum Request {
    /// Of a client.
    Operation(Box<OperationRequest>),
    /// Of the master itself.
    Internal {
        /// What.
        command: Internal,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Outcome, FsError>>,
    },
    /// Let another member lead: `to`, or whichever is best. Answered when this one leads no more, or cannot hand over.
    HandOver {
        /// Raft id.
        to: Option<u64>,
        /// Whether there was somebody to hand over to.
        done: oneshot::Sender<bool>,
    },
    /// Take a step that changes the group.
    Change {
        /// Which.
        change: MemberChange,
        /// Answered when it is applied here.
        done: oneshot::Sender<Result<(), GroupRefusal>>,
    },
    /// Entries, for whoever ships them.
    ReadJournal {
        /// Those after it.
        after: LogIndex,
        /// Where they go.
        done: super::journal_read::Done,
    },
    /// A leader no longer holds what this member lacks.
    FellBehind {
        /// Raft id of the leader.
        leader: u64,
        /// Its term.
        term: Term,
    },
    /// A reader has found the state damaged.
    StateFailed(String),
    /// Stop: answer what is in flight, close the journal, make the state durable.
    Stop,
}

/// Why a step that changes the group was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupRefusal {
    /// This member does not lead, or has lost the lead before the step was committed.
    #[error("it does not lead: ask the others")]
    NotLeader,
    /// One step at a time.
    #[error("another change of the group is under way: try again")]
    Busy,
    /// The rules forbid it.
    #[error(transparent)]
    Rules(#[from] Refusal),
    /// Too few of those who would vote are there.
    #[error(
        "of the {of} masters that would vote then only {there} are there, and a majority is needed: start the others first"
    )]
    NoMajority {
        /// Those that are there.
        there: usize,
        /// Those that would vote.
        of: usize,
    },
    /// It follows, and lacks too much.
    #[error("master {0} has not caught up yet")]
    NotCaughtUp(u64),
    /// No majority has answered in time.
    #[error("a majority of the masters has not confirmed it within {0} ms; it may still come about")]
    Unconfirmed(u64),
}

/// A sequenced request.
pub(super) struct OperationRequest {
    pub(super) session: SessionId,
    pub(super) slot: SlotId,
    pub(super) sequence: Sequence,
    pub(super) operation: Operation,
    pub(super) raised: Option<Raised>,
    pub(super) reply: Reply,
}

/// The door of the sequencer. Clones share one queue.
#[derive(Clone, Debug)]
pub struct SequencerHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) heard: mpsc::Sender<Message>,
    pub(super) group_view: watch::Receiver<Arc<GroupView>>,
    pub(super) members: watch::Receiver<Arc<Members>>,
    pub(super) must_be_filled: Arc<OnceLock<String>>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) metrics: Arc<SequencerMetrics>,
    pub(super) reader: Reader,
}

impl SequencerHandle {
    /// Submits a sequenced request and waits until it is committed and applied.
    ///
    /// # Errors
    /// The refusal; `Overloaded` when the queue is full; `NotLeader` when this member does not lead, or lost the lead
    /// before the request was committed (its fate is then open: the same slot and sequence tells it exactly).
    pub async fn operate(
        &self,
        session: SessionId,
        slot: SlotId,
        sequence: Sequence,
        operation: Operation,
        raised: Option<Raised>,
    ) -> Result<Submitted, FsError> {
        let (reply, answer) = oneshot::channel();
        // Nobody may be waiting any more, which is no fault.
        let reply = Box::new(|outcome| drop(reply.send(outcome)));
        let request = OperationRequest { session, slot, sequence, operation, raised, reply };
        self.enqueue(Request::Operation(Box::new(request)))?;
        answer.await.unwrap_or(Err(FsError::NotLeader))
    }

    /// As [`SequencerHandle::operate`], without a task that waits: `reply` hears the outcome on the sequencer's own
    /// thread, which saves a hand-over, and must not wait there. It is dropped uncalled when the sequencer ends.
    pub fn submit(
        &self,
        (session, slot, sequence): (SessionId, SlotId, Sequence),
        operation: Operation,
        reply: impl FnOnce(Result<Submitted, FsError>) + Send + 'static,
    ) {
        let reply: Reply = Box::new(reply);
        let request = OperationRequest { session, slot, sequence, operation, raised: None, reply };
        if let Err((request, refusal)) = self.try_enqueue(Request::Operation(Box::new(request)))
            && let Request::Operation(request) = request
        {
            (request.reply)(Err(refusal));
        }
    }

    /// Submits a command of the master itself and waits until it is committed and applied.
    ///
    /// # Errors
    /// As [`SequencerHandle::operate`].
    pub async fn internal(&self, command: Internal) -> Result<Outcome, FsError> {
        let (reply, outcome) = oneshot::channel();
        self.enqueue(Request::Internal { command, reply })?;
        outcome.await.unwrap_or(Err(FsError::NotLeader))
    }

    /// Hands over what another member says; waits while too much of it is there already.
    pub(crate) async fn hear(&self, message: Message) {
        // A sequencer that has stopped hears nothing more.
        drop(self.heard.send(message).await);
    }

    /// Who the masters of the group are.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.borrow())
    }

    /// Who the masters of the group are, as it changes.
    pub fn watch_members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// Takes a step that changes the group, and waits until it is applied.
    ///
    /// # Errors
    /// See [`GroupRefusal`].
    pub async fn change(&self, change: MemberChange) -> Result<(), GroupRefusal> {
        let taken = async {
            loop {
                let (done, outcome) = oneshot::channel();
                let change = change.clone();
                // A closed queue means that it has stopped.
                let sent = self.requests.send(Request::Change { change, done }).await;
                sent.map_err(|_| GroupRefusal::NotLeader)?;
                match outcome.await.unwrap_or(Err(GroupRefusal::NotLeader)) {
                    // Steps are short.
                    Err(GroupRefusal::Busy) => tokio::time::sleep(RAFT_TICK).await,
                    outcome => return outcome,
                }
            }
        };
        let late = GroupRefusal::Unconfirmed(GROUP_CHANGE_PATIENCE.as_millis() as u64);
        tokio::time::timeout(GROUP_CHANGE_PATIENCE, taken).await.unwrap_or(Err(late))
    }

    /// A leader no longer holds what this member lacks.
    pub(crate) async fn fall_behind(&self, leader: u64, term: Term) {
        // A sequencer that has stopped hears nothing more.
        drop(self.requests.send(Request::FellBehind { leader, term }).await);
    }

    /// Why it has stopped, if it must be filled by the others first.
    pub(crate) fn must_be_filled(&self) -> Option<String> {
        self.must_be_filled.get().cloned()
    }

    /// How the group stands, as it changes.
    pub fn group(&self) -> watch::Receiver<Arc<GroupView>> {
        self.group_view.clone()
    }

    /// Reads of the applied state.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// This member's part in the group, as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The sequencer's counters.
    pub fn metrics(&self) -> Arc<SequencerMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Lets another member lead: `to`, or the one that has most of the log. False when this one does not lead, or there is
    /// nobody, or it has not come about within `patience`.
    pub async fn hand_over(&self, to: Option<u64>, patience: Duration) -> bool {
        let (done, outcome) = oneshot::channel();
        let handed_over = async {
            // A closed queue means that it has stopped already.
            self.requests.send(Request::HandOver { to, done }).await.is_ok() && outcome.await.unwrap_or(false)
        };
        tokio::time::timeout(patience, handed_over).await.unwrap_or(false)
    }

    /// Asks the sequencer to stop: what is in flight is answered, the journal closed and the state made durable. The end
    /// shows as [`Leadership::Stopped`] and as the end of the owner.
    pub async fn stop(&self) {
        // A closed queue means that it has stopped already.
        let _ = self.requests.send(Request::Stop).await;
    }

    fn enqueue(&self, request: Request) -> Result<(), FsError> {
        self.try_enqueue(request).map_err(|(_, refusal)| refusal)
    }

    #[allow(clippy::result_large_err, reason = "the request goes back to its caller")]
    fn try_enqueue(&self, request: Request) -> Result<(), (Request, FsError)> {
        match self.requests.try_send(request) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(request)) => {
                self.metrics.overloads.fetch_add(1, Ordering::Relaxed);
                Err((request, FsError::Overloaded))
            }
            Err(mpsc::error::TrySendError::Closed(request)) => Err((request, FsError::NotLeader)),
        }
    }
}
