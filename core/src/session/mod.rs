//! Sessions make retries exact: one request per slot is outstanding, and its first answer is kept in the state.

pub mod stored_answer;

use crate::error::FsError;
use crate::ids::{ChunkId, ChunkVersion, Sequence, ServerId, SlotId};
use crate::limits::SESSION_SLOTS;
use crate::namespace::act::{Act, require};
use crate::namespace::answer::Answer;
use crate::namespace::decide_replace::{Replaced, Replacement, replace};
use crate::namespace::dispatch::{act_on, kind_of};
use crate::namespace::machine::{Context, Outcome, Record, RecordKind, Rows, Stop};
use crate::namespace::request::{Operation, OperationKind};
use crate::namespace::rows::session::{SessionKey, SlotKey, SlotRow};
use crate::seeded::{Bug, is_planted};
use stored_answer::StoredAnswer;

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
    rows: &dyn Rows,
    context: &Context<'_>,
    slot: SlotId,
    sequence: Sequence,
    operation: &Operation,
    raised: Option<&Raised>,
) -> Result<Sequenced, Stop> {
    let mut act = Act::new(rows, context, &operation.credentials);
    require(slot.get() < SESSION_SLOTS, FsError::InvalidArgument)?;
    let session = act.draft.get(&SessionKey(context.session))?;
    require(session.is_some_and(|session| !session.ending), FsError::SessionExpired)?;
    let key = SlotKey { session: context.session, slot };
    if let Some(stored) = act.draft.get(&key)? {
        require(sequence >= stored.sequence, FsError::Stale)?;
        if sequence == stored.sequence && !is_planted(Bug::ForgetSlotAnswers) {
            return restore(&act, &stored.answer).map(Sequenced::Replayed);
        }
    }
    let kind = kind_of(&operation.kind);
    let answer = match &operation.kind {
        OperationKind::ReplaceReplicas { chunk, version, failed } => {
            let request = Replacement { chunk: *chunk, version: *version, failed };
            match replace(&mut act, &request, raised)? {
                Replaced::Located(locations) => Answer::Chunks(locations),
                Replaced::Raise { to, survivors } => {
                    let (kind, answer, outcome) = (RecordKind::BeginRaise, Answer::Done, Outcome::Nothing);
                    let record = Record { kind, rows: act.into_rows()?, answer, outcome };
                    return Ok(Sequenced::Raise { chunk: *chunk, from: *version, to, survivors, record });
                }
            }
        }
        other => act_on(&mut act, other)?,
    };
    let encoded = stored_answer::encode(&answer).expect("operations answer what a slot can keep");
    act.draft.put(&key, &SlotRow { sequence, answer: encoded });
    Ok(Sequenced::Decided(Record { kind, rows: act.into_rows()?, answer, outcome: Outcome::Nothing }))
}

/// The first answer again; chunks are located at their present state.
fn restore(act: &Act<'_>, stored: &[u8]) -> Result<Answer, Stop> {
    match stored_answer::decode(stored) {
        Ok(StoredAnswer::Whole(answer)) => Ok(*answer),
        Ok(StoredAnswer::Chunks(chunks)) => Ok(Answer::Chunks(act.locate(&chunks)?)),
        Err(_) => Err(Stop::Failed("a slot's stored answer is damaged".into())),
    }
}
