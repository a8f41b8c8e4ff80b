//! Sessions make retries exact: one request per slot is outstanding, and its first answer is kept in the state.

use crate::ids::{ChunkId, ChunkVersion, Sequence, ServerId, SlotId};
use crate::namespace::answer::Answer;
use crate::namespace::machine::{Context, Record, Rows, Stop};
use crate::namespace::request::Operation;

/// What came of raising a chunk's version, for the second call of a `ReplaceReplicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The version that [`Sequenced::Raise`] asked for.
    pub to: ChunkVersion,
    /// Who has it on stable storage.
    pub servers: Vec<ServerId>,
}

/// What to do with a sequenced request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// It was decided before: answer this once everything up to now is committed.
    Replayed(Answer),
    /// Propose the record; answer when it is committed.
    Decided(Record),
    /// `ReplaceReplicas`: propose `record`; when it is committed command RaiseVersion to `survivors`; then call again
    /// with [`Raised`]. The slot is not yet written.
    Raise {
        /// The chunk.
        chunk: ChunkId,
        /// Its present version.
        from: ChunkVersion,
        /// The version to raise to.
        to: ChunkVersion,
        /// Who to raise, in chain order.
        survivors: Vec<ServerId>,
        /// The journaled intention.
        record: Record,
    },
}

/// Decides a sequenced request of `context.session`. A sequence equal to the slot's yields the first answer again, a
/// greater one is decided, a smaller one is refused with `Stale`; an unknown or ending session with `SessionExpired`.
///
/// # Errors
/// See [`Stop`].
pub fn decide_sequenced(
    _rows: &dyn Rows,
    _context: &Context<'_>,
    _slot: SlotId,
    _sequence: Sequence,
    _operation: &Operation,
    _raised: Option<&Raised>,
) -> Result<Sequenced, Stop> {
    Err(Stop::Failed("sequencing is being built".into()))
}
