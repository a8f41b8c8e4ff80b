//! Entries for whoever ships them: committed and applied here, and how far the state was at that very moment.

use super::SequencerHandle;
use super::handle::Request;
use super::owner::Sequencer;
use crate::journal::{JournalError, LogEntry};
use cairn_core::ids::LogIndex;
use cairn_core::journal::applied::Applied;
use cairn_core::limits::BACKUP_READ_BYTES;
use thiserror::Error;
use tokio::sync::oneshot;

/// What was asked for, or the beginning of it.
#[derive(Clone, Debug)]
pub struct JournalRead {
    /// They follow each other; none when all that is applied was known.
    pub entries: Vec<LogEntry>,
    /// How far the state is.
    pub applied: Applied,
}

/// Why there are no entries.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalReadError {
    /// They have been trimmed.
    #[error("the journal no longer holds the entries after {0}")]
    Trimmed(LogIndex),
    /// The state has not applied what is said to be known.
    #[error("the journal has applied entry {applied}, and was asked for those after {after}")]
    Beyond {
        /// Asked for.
        after: LogIndex,
        /// Last one there is.
        applied: LogIndex,
    },
    /// The disk.
    #[error("{0}")]
    Failed(String),
    /// The sequencer has stopped.
    #[error("this master stops")]
    Stopped,
}

/// Whoever waits for entries.
pub(super) type Done = oneshot::Sender<Result<JournalRead, JournalReadError>>;

impl SequencerHandle {
    /// Entries after `after` that are committed and applied, as many as are read at once.
    ///
    /// # Errors
    /// See [`JournalReadError`].
    pub async fn read_journal(&self, after: LogIndex) -> Result<JournalRead, JournalReadError> {
        let (done, outcome) = oneshot::channel();
        let sent = self.requests.send(Request::ReadJournal { after, done }).await;
        sent.map_err(|_| JournalReadError::Stopped)?;
        outcome.await.unwrap_or(Err(JournalReadError::Stopped))
    }
}

impl Sequencer {
    /// Reads from the journal's memory as a rule. One that waits for the disk reads a bounded stretch of the journal's own.
    pub(super) fn read_journal(&self, after: LogIndex) -> Result<JournalRead, JournalReadError> {
        let applied = self.applier.applied.clone();
        let last = applied.last.index;
        if after > last {
            return Err(JournalReadError::Beyond { after, applied: last });
        }
        if after == last {
            return Ok(JournalRead { entries: Vec::new(), applied });
        }
        let (low, high) = (LogIndex(after.get() + 1), LogIndex(last.get() + 1));
        match self.group.journal().entries(low, high, BACKUP_READ_BYTES) {
            Ok(entries) => Ok(JournalRead { entries, applied }),
            Err(JournalError::Trimmed(_)) => Err(JournalReadError::Trimmed(after)),
            Err(error) => Err(JournalReadError::Failed(error.to_string())),
        }
    }
}
