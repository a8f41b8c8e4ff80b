//! The journal as raft-rs reads it.

use crate::journal::{Journal, JournalError, LogEntry};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::frame::{EntryKind, HardState, LogId};
use raft::eraftpb::{ConfState, Entry, EntryType, HardState as RaftHardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::Cell;

/// Journal and members.
pub struct JournalStorage {
    pub(super) journal: Journal,
    pub(super) members: ConfState,
    /// What the state has applied: committed for certain, even when the journal's own commit index lags behind.
    pub(super) applied: LogIndex,
    /// A member that needs entries which are no longer held.
    pub(super) behind: Cell<Option<u64>>,
}

impl Storage for JournalStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard = self.journal.hard();
        let hard = HardState { commit: hard.commit.max(self.applied), ..hard };
        Ok(RaftState::new(to_raft_hard_state(hard), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let entries = self.journal.entries(LogIndex(low), LogIndex(high), bytes_max);
        let entries = entries.map_err(|error| match error {
            JournalError::Trimmed(_) => StorageError::Compacted,
            other => {
                // raft-rs panics on what follows; the member stops, and this line says why.
                tracing::error!(error = %other, "journal cannot be read");
                StorageError::Other(Box::new(other))
            }
        })?;
        Ok(entries.into_iter().map(to_raft_entry).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let index = LogIndex(index);
        match self.journal.term(index) {
            Some(term) => Ok(term.get()),
            None if index < self.journal.before().index => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.journal.before().index.get() + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.journal.last().index.get())
    }

    /// Copies of the state do not travel with Raft's messages: the member is told that it is behind, and fetches one.
    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        self.behind.set(Some(to));
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

pub(super) fn to_raft_hard_state(hard: HardState) -> RaftHardState {
    RaftHardState { term: hard.term.get(), vote: hard.vote, commit: hard.commit.get(), ..Default::default() }
}

pub(super) fn from_raft_hard_state(hard: &RaftHardState) -> HardState {
    HardState { term: Term(hard.term), vote: hard.vote, commit: LogIndex(hard.commit) }
}

pub(super) fn to_raft_entry(entry: LogEntry) -> Entry {
    let entry_type = match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    let (index, term) = (entry.id.index.get(), entry.id.term.get());
    Entry { entry_type, term, index, data: entry.data, ..Default::default() }
}

pub(super) fn from_raft_entry(entry: &Entry) -> LogEntry {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    debug_assert!(entry.context.is_empty(), "the journal stores no context");
    let id = LogId { index: LogIndex(entry.index), term: Term(entry.term) };
    LogEntry { id, kind, data: entry.data.clone() }
}
