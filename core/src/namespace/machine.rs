//! The entry of the namespace machine: what it reads (`Rows`), what it is told (`Context`), what it yields (`Record`).
//!
//! `decide` and `decide_internal` turn a request into the rows to put and delete, or refuse and write nothing. Applying a
//! record is writing its rows: it reads nothing and cannot fail. `query` reads only. Nothing here reads a clock or draws
//! a random number: time and entropy are arguments, ids come from counter rows.

use crate::cluster::ClusterView;
use crate::error::FsError;
use crate::ids::{ChunkId, ChunkVersion, ServerId, SessionId};
use crate::namespace::answer::Answer;
use crate::namespace::internal::Internal;
use crate::namespace::request::{Operation, Query};
use crate::time::Timestamp;
use bytes::Bytes;
use thiserror::Error;

/// The rows of the state: applied ones beneath proposed ones. Keys are ordered bytewise.
pub trait Rows {
    /// The value of a key.
    ///
    /// # Errors
    /// `NotInMemory` when the caller may not wait for the disk and the row is not at hand.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError>;

    /// At most `limit` rows with `from <= key < to`, in order.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError>;

    /// At most `limit` rows with `from <= key < to`, from the last backwards.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError>;

    /// Values of many keys, in their order.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError>;
}

/// Why rows could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    /// The row is not in memory, and the caller may not wait for the disk.
    #[error("row is not in memory")]
    NotInMemory,
    /// The store failed; the state must not be used further.
    #[error("metadata store failed: {0}")]
    Failed(String),
}

/// Why there is no record or answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stop {
    /// The request is refused; nothing is written.
    #[error("refused: {0}")]
    Refused(#[from] FsError),
    /// Rows must be warmed first; then decide again.
    #[error("rows are not in memory")]
    NotInMemory,
    /// The store failed, or a row is damaged or of an unknown format: this member must stop.
    #[error("metadata state failed: {0}")]
    Failed(String),
}

impl From<RowError> for Stop {
    fn from(error: RowError) -> Self {
        match error {
            RowError::NotInMemory => Self::NotInMemory,
            RowError::Failed(detail) => Self::Failed(detail),
        }
    }
}

/// What the machine is told about the world at the moment of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The leader's time; never goes back from one decision to the next.
    pub now: Timestamp,
    /// Who asks; session 0 for internal commands.
    pub session: SessionId,
    /// Chunk servers as last heard of.
    pub view: &'a ClusterView,
    /// Fresh random bits for placement.
    pub entropy: u64,
    /// Replicas of a new chunk by the default policy, while that has no row.
    pub default_replicas: u8,
}

/// What a decision writes and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kind of act, for dump, audit and change feed.
    pub kind: RecordKind,
    /// Key → value, or `None` to delete, ordered by key, each key once.
    pub rows: Vec<(Bytes, Option<Bytes>)>,
    /// What the client is answered once the record is committed; `Done` for internal commands.
    pub answer: Answer,
    /// What the master's own command came to; `Nothing` for operations of clients.
    pub outcome: Outcome,
}

/// What an internal command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more to say.
    Nothing,
    /// `OpenSession`: the new session.
    Session(SessionId),
    /// `RegisterServer`: the short id of the server.
    Server(ServerId),
    /// A bounded batch was done; when true, send the same command again.
    More(bool),
    /// `BeginRaise`: raise `chunk` to `to` on these servers (all that hold it), journaled as intended.
    Raising {
        /// The chunk.
        chunk: ChunkId,
        /// Its present version.
        from: ChunkVersion,
        /// The intended version: above every version ever intended for it.
        to: ChunkVersion,
        /// Servers of the present set, in chain order.
        servers: Vec<ServerId>,
    },
}

/// Kind of a record: the tag that the journal stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "named after the operation or internal command")]
pub enum RecordKind {
    Create = 1,
    Mkdir = 2,
    Mknod = 3,
    Symlink = 4,
    Link = 5,
    Unlink = 6,
    Rmdir = 7,
    Rename = 8,
    SetAttr = 9,
    Allocate = 10,
    SetXattr = 11,
    RemoveXattr = 12,
    AllocateChunks = 13,
    LeaseFile = 14,
    Commit = 15,
    ReplaceReplicas = 16,
    ReleaseChunks = 17,
    ReleaseLeases = 18,
    Format = 64,
    OpenSession = 65,
    EndSession = 66,
    RegisterServer = 67,
    ForgetDeletions = 68,
    BeginRaise = 69,
    FinishReconcile = 70,
    ReclaimOrphans = 71,
    TakeLease = 72,
    DropGarbage = 73,
    DeleteStray = 74,
    ChangeMasters = 75,
    DrainServer = 76,
    RemoveServer = 77,
    Rebalance = 78,
    DrainDisk = 79,
    NoteCapacity = 80,
    Policy = 82,
    SetPolicy = 83,
    AlignChunks = 84,
}

impl RecordKind {
    /// The tag.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind of a stored tag; `None` for one of a later release.
    pub fn from_number(number: u8) -> Option<Self> {
        use RecordKind as Kind;
        const ALL: [RecordKind; 38] = [
            Kind::Create,
            Kind::Mkdir,
            Kind::Mknod,
            Kind::Symlink,
            Kind::Link,
            Kind::Unlink,
            Kind::Rmdir,
            Kind::Rename,
            Kind::SetAttr,
            Kind::Allocate,
            Kind::SetXattr,
            Kind::RemoveXattr,
            Kind::AllocateChunks,
            Kind::LeaseFile,
            Kind::Commit,
            Kind::ReplaceReplicas,
            Kind::ReleaseChunks,
            Kind::ReleaseLeases,
            Kind::Format,
            Kind::OpenSession,
            Kind::EndSession,
            Kind::RegisterServer,
            Kind::ForgetDeletions,
            Kind::BeginRaise,
            Kind::FinishReconcile,
            Kind::ReclaimOrphans,
            Kind::TakeLease,
            Kind::DropGarbage,
            Kind::DeleteStray,
            Kind::ChangeMasters,
            Kind::DrainServer,
            Kind::RemoveServer,
            Kind::Rebalance,
            Kind::DrainDisk,
            Kind::NoteCapacity,
            Kind::Policy,
            Kind::SetPolicy,
            Kind::AlignChunks,
        ];
        ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Decides an operation of a client. The caller appends the slot row: see [`crate::session::decide_sequenced`], which
/// is what shells call.
///
/// # Errors
/// See [`Stop`].
pub fn decide(rows: &dyn Rows, context: &Context<'_>, operation: &Operation) -> Result<Record, Stop> {
    crate::namespace::dispatch::decide(rows, context, operation)
}

/// Answers a question.
///
/// # Errors
/// See [`Stop`].
pub fn query(rows: &dyn Rows, context: &Context<'_>, query: &Query) -> Result<Answer, Stop> {
    crate::namespace::dispatch::query(rows, context, query)
}

/// Decides a command of the master itself.
///
/// # Errors
/// See [`Stop`].
pub fn decide_internal(rows: &dyn Rows, context: &Context<'_>, command: &Internal) -> Result<Record, Stop> {
    crate::namespace::dispatch::decide_internal(rows, context, command)
}

#[cfg(test)]
mod tests {
    use super::RecordKind;

    #[test]
    fn kinds_come_back_from_their_tags() {
        let known: Vec<u8> = (0..=255).filter(|&number| RecordKind::from_number(number).is_some()).collect();
        assert_eq!(known, (1..=18).chain(64..=80).chain([82, 83, 84]).collect::<Vec<u8>>());
    }
}
