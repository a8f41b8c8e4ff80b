//! The replicated log on this member's disk: the durability point of every change to the namespace.
//!
//! [`Journal`] owns a directory of segments (the format stands in `cairn_core::journal::frame`). `append` is one write and
//! one fdatasync for everything that a Raft ready holds, and nothing is answered before it has returned. A failed write or
//! sync is final (I3): the journal refuses everything from then on and its owner stops before it answers anything.

mod log_shape;
mod read;
mod recover;
pub(crate) mod segment;
mod spare;
mod writer;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod journal_test;

pub use spare::{Spare, SpareJob};
pub use writer::{Journal, JournalCounters, remove_trimmed};

use bytes::Bytes;
use cairn_core::ids::NodeId;
use cairn_core::journal::frame::{EntryKind, LogId};
use cairn_core::journal::scan::Corruption;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Where its segments are; nothing else lives there.
    pub directory: PathBuf,
    /// Whose it is.
    pub node: NodeId,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of journal that [`Journal::trim`] keeps although the state no longer needs them: for members that lag behind.
    pub keep_bytes: u64,
    /// Bytes of the newest entries kept in memory.
    pub cache_bytes: usize,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub id: LogId,
    /// What it carries.
    pub kind: EntryKind,
    /// Its bytes; empty for a new leader's first entry.
    pub data: Bytes,
}

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// A file could not be read, written or synced.
    #[error("journal in {}: {source}: check the disk, then restart this master", directory.display())]
    Io {
        /// The journal's directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Synced bytes have changed.
    #[error(
        "journal in {}: {corruption}: nothing was changed; move the data directory away and let this master be filled \
         by its peers, or restore a backup", directory.display()
    )]
    Corrupt {
        /// The journal's directory.
        directory: PathBuf,
        /// The proof.
        corruption: Corruption,
    },
    /// A segment's first sector does not verify, or segments do not fit together.
    #[error(
        "journal in {}: segment {segment}: {detail}: nothing was changed; move the data directory away and let this \
         master be filled by its peers, or restore a backup", directory.display()
    )]
    Damaged {
        /// The journal's directory.
        directory: PathBuf,
        /// Number of the segment.
        segment: u64,
        /// What is wrong.
        detail: String,
    },
    /// An earlier write or sync failed.
    #[error("journal in {}: stopped after a failed write: check the disk, then restart this master", directory.display())]
    Stopped {
        /// The journal's directory.
        directory: PathBuf,
    },
    /// Entries asked for have been trimmed.
    #[error("journal entry {0} has been trimmed")]
    Trimmed(u64),
}
