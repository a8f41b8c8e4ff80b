//! The one log, as the members commit it, and the state that follows from it by the rows alone: what every member is compared
//! with, and what every answer must agree with.

use crate::journal::LogEntry;
use crate::sequencer::Committed;
use bytes::Bytes;
use cairn_core::ids::{InodeId, Sequence, SessionId, SlotId};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::{EntryData, Origin};
use cairn_core::journal::members::MEMBERS_KEY;
use cairn_core::journal::membership::Votes;
use cairn_core::namespace::machine::{RecordKind, RowError, Rows};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::rows::Table;
use cairn_core::namespace::work::names_of;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Who asked for an entry.
pub(super) type Asked = (SessionId, SlotId, Sequence);

/// The log and its state.
pub(super) struct Canon {
    pub(super) applied: Applied,
    /// Running hash after each entry; the first is that of nothing.
    hashes: Vec<u64>,
    rows: BTreeMap<Bytes, Bytes>,
    /// Where each sequenced request was decided.
    pub(super) decided: BTreeMap<Asked, u64>,
    /// Names and inodes that each entry writes; the first is none.
    touched: Vec<Vec<Bytes>>,
    /// Versions of rows that are looked at later: key → (entry, value), ascending.
    history: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
}

impl Canon {
    /// The state as the founders write it.
    pub(super) fn new(applied: Applied, members: Bytes) -> Self {
        let rows = BTreeMap::from([
            (Bytes::from_static(&APPLIED_KEY), applied.encode()),
            (Bytes::from_static(&MEMBERS_KEY), members),
        ]);
        let hashes = vec![applied.hash];
        Self {
            applied,
            hashes,
            rows,
            decided: BTreeMap::new(),
            touched: vec![Vec::new()],
            history: BTreeMap::new(),
        }
    }

    /// Index of the last entry known to be committed.
    pub(super) fn last(&self) -> u64 {
        self.applied.last.index.get()
    }

    /// Running hash after entry `index`.
    pub(super) fn hash_at(&self, index: u64) -> Option<u64> {
        self.hashes.get(index as usize).copied()
    }

    /// The next committed entry. Returns what it says, if it is of the namespace.
    pub(super) fn extend(&mut self, entry: &LogEntry) -> Result<Option<EntryData>, String> {
        self.applied.advance(entry.id, &entry.data);
        self.hashes.push(self.applied.hash);
        let index = self.last();
        let (data, writes) = match Committed::read(entry.kind, &entry.data)? {
            Committed::Nothing => (None, Vec::new()),
            Committed::Votes(change, row) => {
                let (voters, learners) = (&mut self.applied.voters, &mut self.applied.learners);
                let mut votes = Votes { voters: std::mem::take(voters), learners: std::mem::take(learners) };
                votes.apply(change);
                (*voters, *learners) = (votes.voters, votes.learners);
                (None, vec![(Bytes::from_static(&MEMBERS_KEY), Some(row))])
            }
            Committed::Masters(data) => (None, data.rows),
            Committed::Rows(data) => {
                self.applied.time = self.applied.time.max(data.time);
                let rows = data.rows.clone();
                (Some(data), rows)
            }
        };
        let is_watched = |key: &Bytes| [Table::Inode as u8, Table::Dentry as u8].contains(&key[0]);
        self.touched.push(writes.iter().map(|(key, _)| key).filter(|key| is_watched(key)).cloned().collect());
        for (key, value) in writes {
            self.history.entry(key.clone()).or_default().push((index, value.clone()));
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        self.rows.insert(Bytes::from_static(&APPLIED_KEY), self.applied.encode());
        if let Some(EntryData { kind, origin: Origin::Client { session, slot, sequence }, .. }) = &data
            && *kind != RecordKind::BeginRaise.number()
        {
            let before = self.decided.insert((*session, *slot, *sequence), index);
            if let Some(before) = before {
                return Err(format!(
                    "I15: {session} {slot} {sequence} was decided in entry {before} and again in {index}"
                ));
            }
        }
        Ok(data)
    }

    /// Versions of `key` that stood at entry `from` or at any later one, each with the entry that wrote it.
    pub(super) fn versions_since(&self, key: &[u8], from: u64) -> Vec<(u64, Option<Bytes>)> {
        let versions = self.history.get(key).map_or(&[][..], Vec::as_slice);
        let at = versions.partition_point(|(index, _)| *index <= from);
        let before = at.checked_sub(1).map_or((0, None), |before| versions[before].clone());
        std::iter::once(before).chain(versions[at..].iter().cloned()).collect()
    }

    /// Names and inodes that entry `index` writes.
    pub(super) fn touched(&self, index: u64) -> &[Bytes] {
        &self.touched[index as usize]
    }

    /// What `key` stood at right after entry `index`.
    pub(super) fn value_at(&self, key: &[u8], index: u64) -> Option<Bytes> {
        let versions = self.history.get(key)?;
        let at = versions.partition_point(|(of, _)| *of <= index);
        versions[at.checked_sub(1)?].1.clone()
    }

    /// A name that leads to an inode.
    pub(super) fn name_of(&self, inode: InodeId) -> Option<(InodeId, Name)> {
        names_of(self, inode, 1).unwrap().pop()
    }

    /// Every row.
    pub(super) fn rows(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.rows
    }
}

impl Rows for Canon {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        Ok(range(&self.rows, from, to).take(limit).map(owned).collect())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        Ok(range(&self.rows, from, to).rev().take(limit).map(owned).collect())
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        Ok(keys.iter().map(|key| self.rows.get(key).cloned()).collect())
    }
}

fn owned((key, value): (&Bytes, &Bytes)) -> (Bytes, Bytes) {
    (key.clone(), value.clone())
}

fn range<'a>(
    rows: &'a BTreeMap<Bytes, Bytes>,
    from: &[u8],
    to: &[u8],
) -> std::collections::btree_map::Range<'a, Bytes, Bytes> {
    // A map refuses a range whose start lies behind its end.
    let to = to.max(from);
    rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
}
