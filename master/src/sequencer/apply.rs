//! Applying committed entries: their rows and the row that counts them, in one batch. It reads nothing and refuses nothing.

use super::open::Fatal;
use super::overlay::Overlay;
use super::progress::Progress;
use crate::caching::Caching;
use crate::journal::LogEntry;
use crate::raft::change;
use bytes::Bytes;
use cairn_core::caching::changes::Changes;
use cairn_core::ids::LogIndex;
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::{EntryData, Origin};
use cairn_core::journal::frame::EntryKind;
use cairn_core::journal::members::{MEMBERS_KEY, Members};
use cairn_core::journal::membership::{VoteChange, Votes};
use cairn_core::namespace::machine::RecordKind;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_env::kv::{Batch, Kv};
use std::sync::Arc;

/// The state, and how far it is.
pub(super) struct Applier {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) applied: Applied,
    pub(super) progress: Progress,
    /// Hears what changes, when somebody caches.
    pub(super) caching: Arc<Caching>,
}

/// What a committed entry says.
pub(crate) enum Committed {
    /// A new leader's first entry.
    Nothing,
    /// Who votes, and the row of members with it.
    Votes(VoteChange, Bytes),
    /// Who the members are, while nobody's vote changes: one row.
    Masters(EntryData),
    /// Rows of the namespace.
    Rows(EntryData),
}

impl Committed {
    /// Reads the data of an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(kind: EntryKind, data: &Bytes) -> Result<Self, String> {
        if data.is_empty() {
            return Ok(Self::Nothing);
        }
        match kind {
            EntryKind::Normal => {
                let data = EntryData::decode(data.clone()).map_err(|error| error.to_string())?;
                let of_masters = data.kind == RecordKind::ChangeMasters.number();
                Ok(if of_masters { Self::Masters(data) } else { Self::Rows(data) })
            }
            EntryKind::ConfChange => Err("it is of a kind that no master writes".into()),
            EntryKind::ConfChangeV2 => {
                let (change, row) = change::from_entry(data.clone())?;
                Ok(Self::Votes(change, row))
            }
        }
    }
}

/// Entries that are decoded and not yet written.
pub(super) struct Prepared {
    pub(super) last: LogIndex,
    batch: Batch,
    changed: Vec<(Origin, Changes)>,
    votes: Vec<VoteChange>,
    members: Option<Bytes>,
}

impl Prepared {
    /// Whether it changes who votes or who the members are.
    pub(super) fn changes_group(&self) -> bool {
        !self.votes.is_empty() || self.members.is_some()
    }
}

/// What was applied of the group.
#[derive(Default)]
pub(super) struct GroupChanged {
    /// In order; the Raft machine is to hear of each.
    pub(super) votes: Vec<VoteChange>,
    /// Who the members are now.
    pub(super) members: Option<Members>,
}

impl Applier {
    /// Decodes `entries`, which follow the last one applied. Reads wait for their rows from now on: whoever begins to cache
    /// while this runs has either registered before it looks, or reads what is new.
    pub(super) fn prepare(&mut self, entries: &[LogEntry], overlay: &mut Overlay) -> Result<Prepared, Fatal> {
        let last = entries.last().map_or(self.applied.last.index, |last| last.id.index);
        self.progress.answer(last);
        self.caching.about_to_change();
        let mut batch = Batch::default();
        let (mut changed, mut votes, mut members) = (Vec::new(), Vec::new(), None);
        let somebody_caches = self.caching.is_wanted();
        for entry in entries {
            if entry.id.index.get() != self.applied.last.index.get() + 1 {
                return Err(Fatal::Order { applied: self.applied.last.index, next: entry.id.index });
            }
            let unknown = |error: String| Fatal::UnknownEntry(entry.id.index, error);
            self.applied.advance(entry.id, &entry.data);
            let data = match Committed::read(entry.kind, &entry.data).map_err(unknown)? {
                Committed::Nothing => continue,
                Committed::Votes(change, row) => {
                    self.change_votes(change);
                    votes.push(change);
                    batch.writes.push((Bytes::from_static(&MEMBERS_KEY), Some(row.clone())));
                    members = Some(row);
                    continue;
                }
                Committed::Masters(data) => {
                    members = data.rows.last().and_then(|(_, row)| row.clone());
                    batch.writes.extend(data.rows);
                    continue;
                }
                Committed::Rows(data) => data,
            };
            self.applied.time = self.applied.time.max(data.time);
            if somebody_caches {
                let changes = Changes::of(&data.rows);
                let changes = changes.map_err(|error| unknown(error.to_string()))?;
                changed.push((data.origin, changes));
            }
            batch.writes.extend(data.rows);
            if is_planted(Bug::DropARow) && entry.id.index.get().is_multiple_of(16) {
                batch.writes.pop();
            }
        }
        // Nothing is decided before they are written.
        overlay.applied(self.applied.last.index);
        Ok(Prepared { last, batch, changed, votes, members })
    }

    fn change_votes(&mut self, change: VoteChange) {
        let (voters, learners) = (&mut self.applied.voters, &mut self.applied.learners);
        let mut votes = Votes { voters: std::mem::take(voters), learners: std::mem::take(learners) };
        votes.apply(change);
        (*voters, *learners) = (votes.voters, votes.learners);
    }

    /// Who holds what changes is to be told: answers may leave.
    pub(super) fn announce(&self, prepared: &mut Prepared, now: Tick) {
        for (origin, changes) in prepared.changed.drain(..) {
            let origin = match origin {
                Origin::Client { session, slot, sequence } => Some((session, slot, sequence)),
                Origin::Internal => None,
            };
            self.caching.applied(origin, changes, now);
        }
    }

    /// Writes the rows, before anything else is decided.
    pub(super) fn write(&mut self, prepared: Prepared) -> Result<GroupChanged, Fatal> {
        let Prepared { last, mut batch, votes, members, .. } = prepared;
        keep_last_of_each_key(&mut batch.writes);
        batch.writes.push((Bytes::from_static(&APPLIED_KEY), Some(self.applied.encode())));
        self.kv.write(&batch).map_err(|error| Fatal::State(error.to_string()))?;
        self.progress.applied(last);
        let unknown = || Fatal::UnknownEntry(last, "its row of members is damaged".into());
        let members = members.map(|row| Members::decode(&row).ok_or_else(unknown)).transpose()?;
        Ok(GroupChanged { votes, members })
    }
}

/// Operations of one batch write counters and parents again and again; only the last version is stored. The order of keys
/// makes neighbours of what the store sorts anyway.
fn keep_last_of_each_key(writes: &mut Vec<(Bytes, Option<Bytes>)>) {
    writes.sort_by(|(left, _), (right, _)| left.cmp(right));
    // Of two equal neighbours the second is removed, which on the reverse is the earlier write.
    writes.reverse();
    writes.dedup_by(|second, first| second.0 == first.0);
    writes.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_of_a_key_wins() {
        let row = |key: &'static str, value: Option<&'static str>| (Bytes::from(key), value.map(Bytes::from));
        let mut writes = vec![row("b", Some("1")), row("a", Some("1")), row("b", None), row("a", Some("2"))];
        keep_last_of_each_key(&mut writes);
        assert_eq!(writes, [row("a", Some("2")), row("b", None)]);
    }
}
