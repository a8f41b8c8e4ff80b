//! How an operation of the store can end, and the one table to the data plane's status.

use cairn_core::ids::{ChunkVersion, LeaseNumber, Term};
use cairn_proto::frame::Status;
use thiserror::Error;

/// Why the store refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The request's version is below the stored one; it is refused for ever.
    #[error("stale chunk version: the replica is at {stored}")]
    StaleVersion {
        /// What the replica is at.
        stored: ChunkVersion,
    },
    /// The writer's lease is below one already seen for the chunk.
    #[error("stale lease: {floor} has already written here")]
    StaleLease {
        /// Lowest lease still accepted.
        floor: LeaseNumber,
    },
    /// The command comes from a deposed leader.
    #[error("stale term: {highest} has already been obeyed")]
    StaleTerm {
        /// Highest term obeyed.
        highest: Term,
    },
    /// No replica of the chunk here, or only one below the asked version.
    #[error("no such replica here")]
    NoSuchChunk,
    /// Acknowledged writes of this replica were lost before their sync (restart, full disk). It takes neither writes nor
    /// syncs until its version is raised (then the master knows) or it is deleted; synced data still reads.
    #[error("acknowledged but unsynced writes of this replica were lost; raise its version or delete it")]
    WritesLost,
    /// A block does not verify. Reported; read another replica.
    #[error("block at byte {offset} of the chunk does not verify")]
    Corrupt {
        /// First byte of the block within the chunk.
        offset: u64,
    },
    /// No room; deletes and version raises still work.
    #[error("disk full")]
    DiskFull,
    /// The replica's disk (or every disk) has failed.
    #[error("disk failed")]
    DiskFailed,
    /// The payload does not match its checksums: damaged on the way here.
    #[error("payload does not match its checksum")]
    PayloadCorrupt,
    /// A queue of the disk is full: try again after a pause.
    #[error("overloaded")]
    Overloaded,
    /// Its deadline has passed while it waited for its turn.
    #[error("too late: nobody waits for the answer any more")]
    Expired,
    /// The replica's disk is slow at present, and others can serve the read.
    #[error("the disk is slow at present")]
    SlowDisk,
    /// The request makes no sense.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The store is closed.
    #[error("shutting down")]
    ShuttingDown,
    /// Opening failed, or any other failure.
    #[error("{0}")]
    Io(String),
}

impl StoreError {
    /// The status a data-plane reply carries.
    pub fn status(&self) -> Status {
        match self {
            Self::StaleVersion { .. } => Status::StaleVersion,
            Self::StaleLease { .. } => Status::StaleLease,
            Self::NoSuchChunk | Self::WritesLost => Status::NoSuchChunk,
            Self::Corrupt { .. } => Status::Corrupt,
            Self::DiskFull => Status::DiskFull,
            Self::DiskFailed => Status::DiskFailed,
            Self::PayloadCorrupt => Status::PayloadCorrupt,
            Self::Overloaded | Self::Expired => Status::Overloaded,
            Self::SlowDisk => Status::SlowDisk,
            Self::BadRequest(_) => Status::BadRequest,
            Self::ShuttingDown => Status::ShuttingDown,
            Self::StaleTerm { .. } | Self::Io(_) => Status::Io,
        }
    }
}
