//! One request on its way through the sequencer: deciding it, and the answer that is held until it may leave.

use super::handle::{OperationRequest, RaiseOrder, Submitted};
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::ids::{LogIndex, SessionId};
use cairn_core::journal::entry::Origin;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::{Context, Outcome, Record, Rows, Stop, decide_internal};
use cairn_core::namespace::request::OperationKind;
use cairn_core::session::{Sequenced, decide_sequenced};
use cairn_core::time::{Tick, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A request that waits to be decided.
pub(super) enum Work {
    Operation(Box<OperationRequest>),
    Internal { command: Internal, reply: oneshot::Sender<Result<Outcome, FsError>> },
}

/// A request whose rows were loaded by another thread.
pub(super) struct Loaded {
    pub(super) work: Work,
    pub(super) rounds: u32,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What every decision is told, beside the rows.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) view: Arc<ClusterView>,
    pub(super) entropy: u64,
    pub(super) default_replicas: u8,
}

/// What a decision came to.
#[allow(clippy::large_enum_variant, reason = "lives for one decision")]
pub(super) enum Verdict {
    /// Propose the record; then this is the answer.
    Propose(Record, Success),
    /// Nothing to write; the answer leaves when what it saw is committed.
    Answer(Success),
}

/// A good answer.
#[allow(clippy::large_enum_variant, reason = "moved once or twice; a box would cost more than the move")]
pub(super) enum Success {
    Operation(Submitted),
    Internal(Outcome),
}

impl Work {
    /// Decides by the rules of the core. Loader threads do so as well, only to bring the rows into memory.
    pub(super) fn decide(&self, rows: &dyn Rows, world: &World) -> Result<Verdict, Stop> {
        let context = |session| Context {
            now: world.now,
            session,
            view: &world.view,
            entropy: world.entropy,
            default_replicas: world.default_replicas,
        };
        match self {
            Self::Operation(request) => {
                let OperationRequest { session, slot, sequence, operation, raised, .. } = &**request;
                let context = context(*session);
                let decided = decide_sequenced(rows, &context, *slot, *sequence, operation, raised.as_ref())?;
                Ok(match decided {
                    Sequenced::Replayed(answer) => {
                        Verdict::Answer(Success::Operation(Submitted::Answered(answer)))
                    }
                    Sequenced::Decided(record) => {
                        let submitted = Submitted::Answered(record.answer.clone());
                        Verdict::Propose(record, Success::Operation(submitted))
                    }
                    Sequenced::Raise { chunk, from, to, survivors, record } => {
                        let order = RaiseOrder { chunk, from, to, survivors };
                        Verdict::Propose(record, Success::Operation(Submitted::Raise(order)))
                    }
                })
            }
            Self::Internal { command, .. } => {
                let record = decide_internal(rows, &context(SessionId(0)), command)?;
                let success = Success::Internal(record.outcome.clone());
                // A command that finds its work done writes nothing.
                Ok(if record.rows.is_empty() {
                    Verdict::Answer(success)
                } else {
                    Verdict::Propose(record, success)
                })
            }
        }
    }

    /// Who asked, for the journal.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Operation(request) => {
                Origin::Client { session: request.session, slot: request.slot, sequence: request.sequence }
            }
            Self::Internal { .. } => Origin::Internal,
        }
    }

    /// Whether it makes the state larger for good: refused while the disk is nearly full.
    pub(super) fn grows(&self) -> bool {
        let Self::Operation(request) = self else { return false };
        matches!(
            request.operation.kind,
            OperationKind::Create { .. }
                | OperationKind::Mkdir { .. }
                | OperationKind::Mknod { .. }
                | OperationKind::Symlink { .. }
                | OperationKind::Link { .. }
                | OperationKind::SetXattr { .. }
                | OperationKind::AllocateChunks { .. }
        )
    }

    /// Answers. Nobody may be waiting any more, which is no fault.
    pub(super) fn answer(self, result: Result<Success, FsError>) {
        match (self, result) {
            (Self::Operation(request), Ok(Success::Operation(submitted))) => (request.reply)(Ok(submitted)),
            (Self::Operation(request), Err(error)) => (request.reply)(Err(error)),
            (Self::Internal { reply, .. }, Ok(Success::Internal(outcome))) => drop(reply.send(Ok(outcome))),
            (Self::Internal { reply, .. }, Err(error)) => drop(reply.send(Err(error))),
            (Self::Operation(_), Ok(Success::Internal(_)))
            | (Self::Internal { .. }, Ok(Success::Operation(_))) => {
                unreachable!("a verdict answers the work that it was made for")
            }
        }
    }
}

/// So many answers that are ready together are sent by the sequencer's own thread: a hand-over would cost each a wake-up
/// (25 µs). More go to a task, so that the next batch need not wait for their sending.
const ANSWERED_HERE_MAX: usize = 2;

/// An answer and where it goes.
type Answer = (Work, Result<Success, FsError>);

/// Answers that wait until the entry they depend on is committed.
pub(super) struct Held {
    answers: VecDeque<(LogIndex, Option<Tick>, Answer)>,
    /// Where many answers are sent; `None`: here, however many.
    runtime: Option<Handle>,
}

impl Held {
    /// Nothing is held yet. `runtime` is where many answers are sent, if not here.
    pub(super) fn new(runtime: Option<Handle>) -> Self {
        Self { answers: VecDeque::new(), runtime }
    }

    /// Holds an answer until entry `needs` is committed; calls come with `needs` ascending. With `seen`, also until it is
    /// known that nobody else led at that moment.
    pub(super) fn hold(
        &mut self,
        needs: LogIndex,
        seen: Option<Tick>,
        work: Work,
        result: Result<Success, FsError>,
    ) {
        debug_assert!(self.answers.back().is_none_or(|(last, ..)| *last <= needs));
        self.answers.push_back((needs, seen, (work, result)));
    }

    /// Everything up to `committed` is committed: those answers leave, up to the first one of which it is not known that
    /// this member led at its moment.
    pub(super) fn release(&mut self, committed: LogIndex, led_at: impl Fn(Tick) -> bool) {
        let may_leave = |(needs, seen, _): &(LogIndex, Option<Tick>, Answer)| {
            *needs <= committed && seen.is_none_or(&led_at)
        };
        let ready = self.answers.iter().take_while(|answer| may_leave(answer)).count();
        let answers = self.answers.drain(..ready).map(|(.., answer)| answer);
        match self.runtime.as_ref().filter(|_| ready > ANSWERED_HERE_MAX) {
            None => answers.for_each(|(work, result)| work.answer(result)),
            Some(runtime) => {
                let answers: Vec<Answer> = answers.collect();
                runtime.spawn(async { answers.into_iter().for_each(|(work, result)| work.answer(result)) });
            }
        }
    }

    /// The lead is lost: whether these were committed is not known here.
    pub(super) fn disown(&mut self) {
        for (.., (work, _)) in self.answers.drain(..) {
            work.answer(Err(FsError::NotLeader));
        }
    }
}
