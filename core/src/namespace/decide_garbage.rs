//! Dropping what large cuts set aside, in batches, and mending the map afterwards. `extents` has the argument.
//!
//! A GARBAGE row goes through three states, each left by one record: extents stand in its range; the range is empty
//! (`to = from`), while pieces of the file can be merged; gone. Merging moves the extents of a piece into the data id of
//! the piece before it, as far as no garbage of that id stands in the way; the boundary between both moves along.

use super::act::Act;
use super::machine::Stop;
use super::rows::Key;
use super::rows::extent::{ExtentKey, GarbageKey, GarbageRow};
use super::rows::inode::{InodeKey, InodeRow, Piece};
use crate::limits::EXTENTS_CUT_MAX;

/// `Internal::DropGarbage`: one batch. Returns whether more is left.
pub(super) fn drop_garbage(act: &mut Act<'_>, data: u64, from: u64) -> Result<bool, Stop> {
    let key = GarbageKey { data, from };
    let Some(garbage) = act.draft.get(&key)? else { return Ok(false) };
    if garbage.to > from && drop_batch(act, &key, &garbage)? {
        return Ok(true);
    }
    act.draft.put(&key, &GarbageRow { to: from, ..garbage });
    let file =
        act.draft.get(&InodeKey(garbage.inode))?.filter(|file| file.links > 0 && file.pieces.len() > 1);
    if let Some(mut file) = file
        && merge_batch(act, &mut file)?
    {
        act.put_inode(&file);
        return Ok(true);
    }
    act.draft.delete(&key);
    Ok(false)
}

/// Drops extents of the range. Returns whether some are left.
fn drop_batch(act: &mut Act<'_>, key: &GarbageKey, garbage: &GarbageRow) -> Result<bool, Stop> {
    let range = (
        ExtentKey { data: key.data, offset: key.from }.encode(),
        ExtentKey { data: key.data, offset: garbage.to }.encode(),
    );
    let found = act.draft.scan::<ExtentKey>(&range, EXTENTS_CUT_MAX)?;
    let mut bytes = 0;
    for (extent_key, extent) in &found {
        act.draft.delete(extent_key);
        act.refer(extent.chunk, -1);
        bytes += u64::from(extent.length);
    }
    if let Some(mut file) = act.draft.get(&InodeKey(garbage.inode))?
        && file.map_epoch == garbage.epoch
        && bytes > 0
    {
        assert!(file.mapped_bytes >= bytes, "an inode counts what was set aside until it is dropped");
        file.mapped_bytes -= bytes;
        act.put_inode(&file);
    }
    Ok(found.len() == EXTENTS_CUT_MAX)
}

/// Merges one batch of the first pair of pieces that can be merged. Returns whether one could.
fn merge_batch(act: &mut Act<'_>, file: &mut InodeRow) -> Result<bool, Stop> {
    for right in 1..file.pieces.len() {
        let limit = merge_limit(act, file, right)?;
        if limit > file.pieces[right].from {
            merge(act, file, right, limit)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// How far piece `right` can be merged into the one before: to its end, or to the next garbage of the other's data id (no
/// garbage of it begins earlier, where it is live), less an extent that would reach into that.
fn merge_limit(act: &Act<'_>, file: &InodeRow, right: usize) -> Result<u64, Stop> {
    let Piece { from, .. } = file.pieces[right];
    let into = file.pieces[right - 1].data;
    let end = end_of_piece(file, right);
    let limit = first_garbage(act, into, from)?.map_or(end, |blocked| blocked.min(end));
    let across = if limit < end { act.extent_across(file, limit)? } else { None };
    Ok(across.map_or(limit, |extent| extent.offset))
}

fn end_of_piece(file: &InodeRow, index: usize) -> u64 {
    file.pieces.get(index + 1).map_or(u64::MAX, |next| next.from)
}

/// Where the first garbage of `data` at or beyond `from` begins.
fn first_garbage(act: &Act<'_>, data: u64, mut from: u64) -> Result<Option<u64>, Stop> {
    const PAGE: usize = 64;
    let end = GarbageKey { data, from: u64::MAX }.encode();
    loop {
        let range = (GarbageKey { data, from }.encode(), end.clone());
        let page = act.draft.scan::<GarbageKey>(&range, PAGE)?;
        let standing = page.iter().find(|(key, garbage)| garbage.to > key.from);
        if standing.is_some() || page.len() < PAGE {
            return Ok(standing.map(|(key, _)| key.from));
        }
        from = page.last().map_or(u64::MAX, |(key, _)| key.from) + 1;
    }
}

fn merge(act: &mut Act<'_>, file: &mut InodeRow, right: usize, limit: u64) -> Result<(), Stop> {
    let Piece { from, data } = file.pieces[right];
    let into = file.pieces[right - 1].data;
    let end = end_of_piece(file, right);
    assert!(into != data && from < limit && limit <= end, "neighbouring pieces have different data ids");
    let range = (ExtentKey { data, offset: from }.encode(), ExtentKey { data, offset: limit }.encode());
    let found = act.draft.scan::<ExtentKey>(&range, EXTENTS_CUT_MAX)?;
    let mut boundary = limit;
    if found.len() == EXTENTS_CUT_MAX {
        let (key, extent) = found.last().expect("a full batch has a last row");
        boundary = key.offset + u64::from(extent.length);
    }
    for (key, extent) in found {
        assert!(
            key.offset + u64::from(extent.length) <= boundary,
            "no extent crosses the boundary of a piece"
        );
        act.draft.delete(&key);
        act.draft.put(&ExtentKey { data: into, offset: key.offset }, &extent);
    }
    file.pieces[right].from = boundary;
    if boundary == end {
        file.pieces.remove(right);
    }
    file.pieces.dedup_by_key(|piece| piece.data);
    Ok(())
}
