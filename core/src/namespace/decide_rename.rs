//! rename(2) and renameat2(2).
//!
//! The POSIX argument, in the order in which Linux refuses:
//! 1. Both directories must be searched; the old name and the new directory must exist (ENOENT).
//! 2. NOREPLACE: an existing target is EEXIST. EXCHANGE: a missing one is ENOENT.
//! 3. A directory may not move beneath itself: EINVAL, found by walking from the new directory to the root. For EXCHANGE
//!    this holds both ways. (Without EXCHANGE a target that is an ancestor of the source is not empty: 6.) The walk reads
//!    the same state that the move is decided against, and acts are decided one by one, so no two moves can close a loop.
//! 4. Two names of one inode: success, and nothing changes.
//! 5. Permission: to take the old name out (sticky included), to add the new one or to take out what it leads to, and, for
//!    a directory that changes its parent, to write it (its `..` changes).
//! 6. A directory replaces only a directory (ENOTDIR), an empty one (ENOTEMPTY); others never replace one (EISDIR).
//!
//! Effects: mtime and ctime of both directories, ctime of everything that moved or lost a name. A replaced name keeps its
//! place in the listing, so a reader of the directory meets it exactly once; exchanged names keep theirs.

use super::act::{Act, require};
use super::answer::Answer;
use super::machine::Stop;
use super::name::Name;
use super::permission::{WRITE, may, may_add, may_remove};
use super::request::RenameMode;
use super::rows::inode::InodeRow;
use super::rows::names::DentryRow;
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::DIRECTORY_DEPTH_MAX;
use crate::seeded::{Bug, is_planted};

/// One end of a rename.
pub(super) struct End<'n> {
    /// The directory.
    pub(super) parent: InodeId,
    /// The name in it.
    pub(super) name: &'n Name,
}

/// The source as found.
struct Source {
    entry: DentryRow,
    row: InodeRow,
}

pub(super) fn rename(
    act: &mut Act<'_>,
    from: End<'_>,
    to: End<'_>,
    mode: RenameMode,
) -> Result<Answer, Stop> {
    let (old_directory, entry) = act.search_present(from.parent, from.name)?;
    let (new_directory, target) = act.search(to.parent, to.name)?;
    // A removed directory takes nothing, and its parents may be gone: nothing may be walked from it.
    require(new_directory.links > 0, FsError::NotFound)?;
    let source = Source { entry, row: act.named_inode(entry.inode)? };
    match (mode, &target) {
        (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists.into()),
        (RenameMode::Exchange, None) => return Err(FsError::NotFound.into()),
        _ => {}
    }
    forbid_loop(act, &source.row, to.parent)?;
    let Some(target) = target else {
        may_remove(act.caller, &old_directory, &source.row)?;
        may_add(act.caller, &new_directory)?;
        may_reparent(act, &source.row, from.parent, to.parent)?;
        move_to_vacant(act, source, from, to)?;
        return Ok(Answer::Done);
    };
    if target.inode == entry.inode {
        return Ok(Answer::Done);
    }
    let target_row = act.named_inode(target.inode)?;
    if mode == RenameMode::Exchange {
        forbid_loop(act, &target_row, from.parent)?;
    }
    may_remove(act.caller, &old_directory, &source.row)?;
    may_remove(act.caller, &new_directory, &target_row)?;
    may_reparent(act, &source.row, from.parent, to.parent)?;
    let target = Source { entry: target, row: target_row };
    if mode == RenameMode::Exchange {
        may_reparent(act, &target.row, to.parent, from.parent)?;
        exchange(act, source, target, from, to)?;
    } else {
        replaceable(&source.row, &target.row)?;
        replace(act, source, target, from, to)?;
    }
    Ok(Answer::Done)
}

/// `InvalidArgument` when `moving` is a directory at or above `destination`; `NameTooLong` when that is too deep to tell.
fn forbid_loop(act: &Act<'_>, moving: &InodeRow, destination: InodeId) -> Result<(), Stop> {
    if !moving.is_directory() || moving.parent == destination {
        return Ok(());
    }
    let mut at = destination;
    for _ in 0..DIRECTORY_DEPTH_MAX {
        require(at != moving.inode, FsError::InvalidArgument)?;
        if at == InodeId::ROOT {
            return Ok(());
        }
        at = act.named_inode(at)?.parent;
    }
    Err(FsError::NameTooLong.into())
}

/// A directory that changes its parent has its `..` rewritten, so it must be writable.
fn may_reparent(act: &Act<'_>, moving: &InodeRow, old: InodeId, new: InodeId) -> Result<(), FsError> {
    if moving.is_directory() && old != new { may(act.caller, moving, WRITE) } else { Ok(()) }
}

fn replaceable(source: &InodeRow, target: &InodeRow) -> Result<(), Stop> {
    match (source.is_directory(), target.is_directory()) {
        (true, false) => Err(FsError::NotDirectory.into()),
        (false, true) => Err(FsError::IsDirectory.into()),
        (true, true) => require(target.size == 0, FsError::NotEmpty),
        (false, false) => Ok(()),
    }
}

fn move_to_vacant(act: &mut Act<'_>, mut source: Source, from: End<'_>, to: End<'_>) -> Result<(), Stop> {
    if !is_planted(Bug::RenameKeepsOldName) {
        leave(act, &source, &from)?;
    }
    let mut new_directory = act.named_inode(to.parent)?;
    act.add_name(&mut new_directory, to.name, source.row.inode, source.row.kind);
    arrive(act, &mut source.row, new_directory);
    Ok(())
}

fn replace(
    act: &mut Act<'_>,
    mut source: Source,
    mut target: Source,
    from: End<'_>,
    to: End<'_>,
) -> Result<(), Stop> {
    leave(act, &source, &from)?;
    let mut new_directory = act.named_inode(to.parent)?;
    act.retarget_name(&mut new_directory, to.name, &target.entry, source.row.inode, source.row.kind);
    if target.row.is_directory() {
        new_directory.links -= 1;
    }
    act.drop_link(&mut target.row);
    arrive(act, &mut source.row, new_directory);
    Ok(())
}

/// Takes the source's name out of its directory. Rows are read again by the next step, because both ends may be the
/// same directory.
fn leave(act: &mut Act<'_>, source: &Source, from: &End<'_>) -> Result<(), Stop> {
    let mut directory = act.named_inode(from.parent)?;
    act.remove_name(&mut directory, from.name, &source.entry);
    if source.row.is_directory() {
        directory.links -= 1;
    }
    act.put_inode(&directory);
    Ok(())
}

/// Puts the moved inode and its new directory.
fn arrive(act: &mut Act<'_>, moved: &mut InodeRow, mut directory: InodeRow) {
    if moved.is_directory() {
        directory.links += 1;
        moved.parent = directory.inode;
    }
    moved.touch(act.now());
    act.put_inode(&directory);
    act.put_inode(moved);
}

fn exchange(
    act: &mut Act<'_>,
    mut source: Source,
    mut target: Source,
    from: End<'_>,
    to: End<'_>,
) -> Result<(), Stop> {
    for (end, leaving, coming) in [(&from, &source, &target), (&to, &target, &source)] {
        let mut directory = act.named_inode(end.parent)?;
        act.retarget_name(&mut directory, end.name, &leaving.entry, coming.row.inode, coming.row.kind);
        if leaving.row.is_directory() {
            directory.links -= 1;
        }
        if coming.row.is_directory() {
            directory.links += 1;
        }
        act.put_inode(&directory);
    }
    for (moved, parent) in [(&mut source.row, to.parent), (&mut target.row, from.parent)] {
        if moved.is_directory() {
            moved.parent = parent;
        }
        moved.touch(act.now());
        act.put_inode(moved);
    }
    Ok(())
}
