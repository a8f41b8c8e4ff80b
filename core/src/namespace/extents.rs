//! The map of a file: extents under the pieces of the map.
//!
//! Ordinary cuts (truncate, punch, overwrite) remove extents one by one. A cut of more than [`EXTENTS_CUT_MAX`] extents
//! takes O(1) rows, however many extents there are: the range gets a fresh data id, under which nothing stands, and what
//! stood there under the old id becomes a GARBAGE row, dropped in batches later. Why this is right:
//! - A reader finds extents of byte `x` only under the data id of the piece that holds `x`. Live ranges (pieces) and
//!   garbage ranges of one data id are disjoint, so what was cut off can never be seen again.
//! - No extent crosses the boundary of a piece: extents are split at the ends of the cut, new ones at boundaries.
//! - Pieces heal: when a garbage range is empty, the neighbouring pieces are merged in batches (`decide_garbage`), each
//!   batch a consistent state by itself.

use super::act::{Act, require};
use super::machine::Stop;
use super::request::Extent;
use super::rows::Key;
use super::rows::cluster::CounterKey;
use super::rows::extent::{ExtentKey, ExtentRow, GarbageKey, GarbageRow};
use super::rows::inode::{InodeRow, Piece};
use crate::error::FsError;
use crate::limits::MAP_PIECES_MAX;
use bytes::Bytes;

/// A stretch of one piece: `data`, and the bytes `from .. to` of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) data: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Stretch {
    /// Keys of the extents that begin in it.
    pub(super) fn keys(&self) -> (Bytes, Bytes) {
        let key = |offset| ExtentKey { data: self.data, offset }.encode();
        (key(self.from), key(self.to))
    }
}

/// The parts of the file's pieces that lie in `from .. to`, in order.
pub(crate) fn stretches(row: &InodeRow, from: u64, to: u64) -> Vec<Stretch> {
    let ends = row.pieces.iter().skip(1).map(|piece| piece.from).chain([u64::MAX]);
    let clipped = row.pieces.iter().zip(ends).map(|(piece, end)| Stretch {
        data: piece.data,
        from: piece.from.max(from),
        to: end.min(to),
    });
    clipped.filter(|stretch| stretch.from < stretch.to).collect()
}

fn end_of(extent: &Extent) -> u64 {
    extent.offset + extent.length
}

/// The part of `extent` in `from .. to`, which it intersects.
fn clip(extent: &Extent, from: u64, to: u64) -> Extent {
    let (start, end) = (extent.offset.max(from), end_of(extent).min(to));
    assert!(start < end, "only what intersects is clipped");
    let skipped = start - extent.offset;
    Extent {
        offset: start,
        length: end - start,
        chunk: extent.chunk,
        chunk_offset: extent.chunk_offset + skipped,
    }
}

/// Whether `right` goes on in the file and in the chunk where `left` ends.
fn adjoins(left: &Extent, right: &Extent) -> bool {
    left.chunk == right.chunk
        && end_of(left) == right.offset
        && left.chunk_offset + left.length == right.chunk_offset
}

impl Act<'_> {
    /// At most `limit` extents that intersect `from .. to`, in order, unclipped.
    pub(crate) fn extents_in(
        &self,
        row: &InodeRow,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Extent>, Stop> {
        let mut found = Vec::new();
        for stretch in stretches(row, from, to) {
            if found.is_empty() {
                found.extend(self.extent_across(row, stretch.from)?);
            }
            let rows = self.draft.scan::<ExtentKey>(&stretch.keys(), limit.saturating_sub(found.len()))?;
            found.extend(rows.iter().map(|(key, extent)| extent.at(key.offset)));
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        debug_assert!(
            found.windows(2).all(|pair| end_of(&pair[0]) <= pair[1].offset),
            "extents never overlap"
        );
        Ok(found)
    }

    /// The extent that begins before `offset` and ends behind it.
    pub(super) fn extent_across(&self, row: &InodeRow, offset: u64) -> Result<Option<Extent>, Stop> {
        let Some(before) = stretches(row, 0, offset).pop() else { return Ok(None) };
        let last = self.draft.scan_reverse::<ExtentKey>(&before.keys(), 1)?;
        let last = last.first().map(|(key, extent)| extent.at(key.offset));
        Ok(last.filter(|extent| end_of(extent) > offset))
    }

    /// Unmaps the bytes `from .. to`. The inode's row is left to the caller to put.
    pub(super) fn cut_extents(&mut self, row: &mut InodeRow, from: u64, to: u64) -> Result<(), Stop> {
        if from >= to {
            return Ok(());
        }
        let found = self.extents_in(row, from, to, self.cut_budget + 1)?;
        if found.len() > self.cut_budget {
            return self.set_aside(row, from, to);
        }
        self.cut_budget -= found.len();
        for extent in found {
            self.remove_extent(row, &extent);
            if extent.offset < from {
                self.put_extent(row, &clip(&extent, 0, from));
            }
            if end_of(&extent) > to {
                self.put_extent(row, &clip(&extent, to, u64::MAX));
            }
        }
        Ok(())
    }

    /// Unmaps `from .. to` in O(1) rows: see the head of this file.
    fn set_aside(&mut self, row: &mut InodeRow, from: u64, to: u64) -> Result<(), Stop> {
        self.split_extent(row, from)?;
        self.split_extent(row, to)?;
        let whole = from == 0 && to == u64::MAX;
        let data = self.data_aside(row)?;
        // What found out that the cut is large read as many rows as the budget: halving bounds the sum.
        self.cut_budget /= 2;
        for cut in stretches(row, from, to) {
            let garbage = GarbageRow { to: cut.to, inode: row.inode, epoch: row.map_epoch };
            self.draft.put(&GarbageKey { data: cut.data, from: cut.from }, &garbage);
        }
        let kept = stretches(row, 0, from).into_iter().chain([Stretch { data, from, to }]);
        let kept = kept.chain(stretches(row, to, u64::MAX));
        let pieces: Vec<Piece> =
            kept.map(|stretch| Piece { from: stretch.from, data: stretch.data }).collect();
        require(pieces.len() <= MAP_PIECES_MAX, FsError::Overloaded)?;
        row.pieces = pieces;
        if whole {
            row.mapped_bytes = 0;
            row.map_epoch = row.map_epoch.wrapping_add(1);
        }
        Ok(())
    }

    /// A fresh data id: one for all cuts of one act in one file, so that cuts side by side make one piece. Nothing stands
    /// under it in a range not yet cut by this act, and no act cuts a range twice.
    fn data_aside(&mut self, row: &InodeRow) -> Result<u64, Stop> {
        if let Some((inode, data)) = self.set_aside_as
            && inode == row.inode
        {
            return Ok(data);
        }
        let data = self.next_number(CounterKey::NextInode)?;
        self.count(CounterKey::InodesGone, 1)?;
        self.set_aside_as = Some((row.inode, data));
        Ok(data)
    }

    /// Makes `offset` a boundary between extents.
    fn split_extent(&mut self, row: &mut InodeRow, offset: u64) -> Result<(), Stop> {
        if let Some(extent) = self.extent_across(row, offset)? {
            self.remove_extent(row, &extent);
            self.put_extent(row, &clip(&extent, 0, offset));
            self.put_extent(row, &clip(&extent, offset, u64::MAX));
        }
        Ok(())
    }

    /// Maps `extent` in place of whatever was mapped there, joined with what it continues.
    pub(super) fn map_extent(&mut self, row: &mut InodeRow, extent: &Extent) -> Result<(), Stop> {
        if self.maps_already(row, extent)? {
            return Ok(());
        }
        self.cut_extents(row, extent.offset, end_of(extent))?;
        for stretch in stretches(row, extent.offset, end_of(extent)) {
            let mut joined = clip(extent, stretch.from, stretch.to);
            if let Some(left) =
                self.neighbour_before(row, joined.offset)?.filter(|left| adjoins(left, &joined))
            {
                self.remove_extent(row, &left);
                joined = Extent { length: left.length + joined.length, ..left };
            }
            if let Some(right) =
                self.neighbour_at(row, end_of(&joined))?.filter(|right| adjoins(&joined, right))
            {
                self.remove_extent(row, &right);
                joined.length += right.length;
            }
            self.put_extent(row, &joined);
        }
        Ok(())
    }

    /// An overwrite in place: the bytes are mapped there already.
    fn maps_already(&self, row: &InodeRow, extent: &Extent) -> Result<bool, Stop> {
        let covering = self.extents_in(row, extent.offset, end_of(extent), 1)?;
        let covers = |found: &Extent| found.offset <= extent.offset && end_of(found) >= end_of(extent);
        Ok(covering
            .first()
            .is_some_and(|found| covers(found) && clip(found, extent.offset, end_of(extent)) == *extent))
    }

    /// The last extent before `offset` in the piece that holds `offset`.
    fn neighbour_before(&self, row: &InodeRow, offset: u64) -> Result<Option<Extent>, Stop> {
        let piece = stretches(row, 0, offset + 1).pop().expect("pieces cover every offset");
        let before = Stretch { to: offset, ..piece };
        let last = self.draft.scan_reverse::<ExtentKey>(&before.keys(), 1)?;
        Ok(last.first().map(|(key, extent)| extent.at(key.offset)))
    }

    /// The extent that begins at `offset`, when the piece of the byte before goes on there.
    fn neighbour_at(&self, row: &InodeRow, offset: u64) -> Result<Option<Extent>, Stop> {
        let data = data_at(row, offset - 1);
        if data_at(row, offset) != data {
            return Ok(None);
        }
        Ok(self.draft.get(&ExtentKey { data, offset })?.map(|extent| extent.at(offset)))
    }

    fn put_extent(&mut self, row: &mut InodeRow, extent: &Extent) {
        let data = data_at(row, extent.offset);
        assert_eq!(data, data_at(row, end_of(extent) - 1), "no extent crosses the boundary of a piece");
        self.draft.put(&ExtentKey { data, offset: extent.offset }, &ExtentRow::of(extent));
        self.refer(extent.chunk, 1);
        row.mapped_bytes += extent.length;
    }

    fn remove_extent(&mut self, row: &mut InodeRow, extent: &Extent) {
        self.draft.delete(&ExtentKey { data: data_at(row, extent.offset), offset: extent.offset });
        self.refer(extent.chunk, -1);
        assert!(row.mapped_bytes >= extent.length, "an inode counts its mapped bytes");
        row.mapped_bytes -= extent.length;
    }
}

/// The data id of the piece that holds `offset`.
fn data_at(row: &InodeRow, offset: u64) -> u64 {
    let after = row.pieces.partition_point(|piece| piece.from <= offset);
    row.pieces[after - 1].data
}
