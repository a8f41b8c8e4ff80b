//! One act in the making: the draft, the world, and the caller.

use super::draft::Draft;
use super::machine::{Context, Rows, Stop};
use super::request::Credentials;
use super::rows::cluster::{CounterKey, NumberRow};
use super::rows::inode::{InodeKey, InodeRow};
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId};
use crate::limits::EXTENTS_CUT_MAX;
use crate::seeded::{Bug, is_planted};
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What every room of the machine works on.
pub(crate) struct Act<'a> {
    pub(crate) draft: Draft<'a>,
    pub(crate) context: Context<'a>,
    pub(crate) caller: &'a Credentials,
    /// Extents that this act may still cut off one by one; beyond, cuts set pieces of the map aside.
    pub(super) cut_budget: usize,
    /// The data id under which this act has set ranges of a file aside.
    pub(super) set_aside_as: Option<(InodeId, u64)>,
    /// EXTENT rows that this act adds to (or takes from) each chunk, settled at its end: a chunk that loses its last
    /// extent and gains another in one act lives on.
    pub(super) references: BTreeMap<ChunkId, i64>,
}

impl<'a> Act<'a> {
    pub(crate) fn new(rows: &'a dyn Rows, context: &Context<'a>, caller: &'a Credentials) -> Self {
        let draft = Draft::new(rows);
        let (cut_budget, references) = (EXTENTS_CUT_MAX, BTreeMap::new());
        Self { draft, context: *context, caller, cut_budget, set_aside_as: None, references }
    }

    /// Ends the act: the rows that it writes.
    pub(crate) fn into_rows(mut self) -> Result<Vec<(Bytes, Option<Bytes>)>, Stop> {
        self.settle_references()?;
        Ok(self.draft.into_rows())
    }

    /// The leader's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.context.now
    }

    /// An inode that the caller has learned of before; `Stale` when it is gone by now.
    pub(crate) fn inode(&self, inode: InodeId) -> Result<InodeRow, Stop> {
        self.draft.get(&InodeKey(inode))?.ok_or(Stop::Refused(FsError::Stale))
    }

    /// As [`Act::inode`], refused with `NotDirectory` when it is something else.
    pub(crate) fn directory(&self, inode: InodeId) -> Result<InodeRow, Stop> {
        let row = self.inode(inode)?;
        if row.is_directory() { Ok(row) } else { Err(FsError::NotDirectory.into()) }
    }

    /// An inode that another row names: its absence is damage, not a stale request.
    pub(crate) fn named_inode(&self, inode: InodeId) -> Result<InodeRow, Stop> {
        let row = self.draft.get(&InodeKey(inode))?;
        row.ok_or_else(|| Stop::Failed(format!("{inode} is named by a row and is not there")))
    }

    pub(crate) fn put_inode(&mut self, row: &InodeRow) {
        assert!(row.inode.get() != 0 && !row.pieces.is_empty(), "an inode row knows its number and its map");
        self.draft.put(&InodeKey(row.inode), row);
    }

    /// Takes the next number of a counter; numbers are never given twice.
    pub(crate) fn next_number(&mut self, counter: CounterKey) -> Result<u64, Stop> {
        let row = self.draft.get(&counter)?;
        let NumberRow(number) = row.ok_or_else(|| Stop::Failed(format!("counter {counter:?} is missing")))?;
        assert!(number < u64::MAX / 2, "counters cannot run out");
        let step = u64::from(!(is_planted(Bug::ReuseNumbers) && number.is_multiple_of(16)));
        self.draft.put(&counter, &NumberRow(number + step));
        Ok(number + 1 - step)
    }

    /// Adds to a counter of things gone.
    pub(crate) fn count(&mut self, counter: CounterKey, more: u64) -> Result<(), Stop> {
        let NumberRow(number) = self.draft.get(&counter)?.unwrap_or(NumberRow(0));
        self.draft.put(&counter, &NumberRow(number + more));
        Ok(())
    }
}

/// Refuses unless `condition` holds.
pub(crate) fn require(condition: bool, otherwise: FsError) -> Result<(), Stop> {
    if condition { Ok(()) } else { Err(Stop::Refused(otherwise)) }
}
