//! Recording what a writer has on stable storage: the only way by which bytes become part of a file.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::AttrChanges;
use super::decide_attrs::set_attr;
use super::machine::Stop;
use super::request::Extent;
use super::rows::extent::ExtentRow;
use super::rows::inode::InodeRow;
use crate::error::FsError;
use crate::ids::{InodeId, LeaseNumber};
use crate::limits::{EXTENTS_PER_MESSAGE_MAX, FILE_BYTES_MAX};

/// A `Commit`, less its inode.
pub(super) struct Commit<'r> {
    pub(super) lease: LeaseNumber,
    pub(super) extents: &'r [Extent],
    pub(super) length: u64,
    pub(super) modified: bool,
    pub(super) release: bool,
    pub(super) changes: &'r AttrChanges,
}

pub(super) fn commit(act: &mut Act<'_>, inode: InodeId, commit: &Commit<'_>) -> Result<Answer, Stop> {
    let mut row = act.inode(inode)?;
    let held = act.lease_of(inode)?;
    let own = held.is_some_and(|held| held.session == act.context.session && held.lease == commit.lease);
    require(own, FsError::Stale)?;
    let size = row.size.max(commit.length);
    check_extents(commit.extents, size)?;
    attach(act, &row, commit.extents)?;
    for extent in commit.extents {
        act.map_extent(&mut row, extent)?;
    }
    let changed = commit.modified || size > row.size || !commit.extents.is_empty();
    row.size = size;
    if changed {
        row.data_change += 1;
        row.touch(act.now());
        if commit.modified {
            row.mtime = act.now();
            act.drop_privilege_on_write(&mut row)?;
        }
        act.put_inode(&row);
    }
    if commit.release {
        act.end_lease(inode)?;
    }
    if *commit.changes == AttrChanges::default() {
        return Ok(Answer::Attr(row.attr()));
    }
    require(commit.changes.size.is_none(), FsError::InvalidArgument)?;
    set_attr(act, inode, commit.changes, true)
}

/// Ordered, apart from each other, within the file and within chunks.
fn check_extents(extents: &[Extent], size: u64) -> Result<(), Stop> {
    require(extents.len() <= EXTENTS_PER_MESSAGE_MAX, FsError::InvalidArgument)?;
    require(size <= FILE_BYTES_MAX, FsError::FileTooLarge)?;
    let mut free_from = 0;
    for extent in extents {
        let end = extent.offset.checked_add(extent.length).ok_or(FsError::FileTooLarge)?;
        let sound = ExtentRow::fits(extent) && extent.offset >= free_from && end <= size;
        require(sound, FsError::InvalidArgument)?;
        free_from = end;
    }
    Ok(())
}

/// Every chunk named must be the session's own, and is attached now, or belong to the file already. A chunk that is gone
/// was taken back: the writer's session ended, or its bytes were cut off meanwhile.
fn attach(act: &mut Act<'_>, row: &InodeRow, extents: &[Extent]) -> Result<(), Stop> {
    for extent in extents {
        let chunk = act.chunk(extent.chunk)?.ok_or(FsError::Stale)?;
        if chunk.owner.get() == 0 {
            require(chunk.inode == row.inode, FsError::InvalidArgument)?;
        } else {
            require(chunk.owner == act.context.session, FsError::InvalidArgument)?;
            act.attach_chunk(extent.chunk, chunk, (row.inode, row.policy))?;
        }
    }
    Ok(())
}
