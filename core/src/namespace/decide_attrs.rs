//! setattr: chmod, chown, utimensat, truncate. All changes of one request are made, or none.
//!
//! - The owner is changed by root only; the group by the owner to one of the caller's groups, or by root. Either clears
//!   setuid and privileged setgid of anything but a directory, for root as well (Linux).
//! - The mode is changed by the owner or root; setgid is dropped silently when the file's group is not the caller's.
//! - Times: a given time by the owner or root (EPERM); both "now" also by whoever may write (EACCES); one "now" alone
//!   counts as given.
//! - The size: by whoever may write, or holds the file open for writing; not while another session holds the write
//!   lease. Bytes cut off are gone: a longer size later reads zeros there.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::{AttrChanges, NodeKind, TimeSet};
use super::machine::Stop;
use super::permission::{SETGID, WRITE, may, mode_allows, must_own, without_privilege};
use super::request::Credentials;
use super::rows::inode::InodeRow;
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::FILE_BYTES_MAX;
use crate::time::Timestamp;

pub(super) fn set_attr(
    act: &mut Act<'_>,
    inode: InodeId,
    changes: &AttrChanges,
    via_handle: bool,
) -> Result<Answer, Stop> {
    let mut row = act.inode(inode)?;
    check_mode_and_owner(act.caller, &row, changes)?;
    check_times(act.caller, &row, changes)?;
    if let Some(size) = changes.size {
        check_size(act, &row, size, via_handle)?;
        resize(act, &mut row, size)?;
    }
    change_owner_and_mode(act, &mut row, changes)?;
    let now = act.now();
    let set = |time: TimeSet| match time {
        TimeSet::Now => now,
        TimeSet::At(time) => time,
    };
    if let Some(time) = changes.atime {
        row.atime = set(time);
    }
    if let Some(time) = changes.mtime {
        row.mtime = set(time);
    }
    row.touch(now);
    act.put_inode(&row);
    Ok(Answer::Attr(row.attr()))
}

fn check_mode_and_owner(caller: &Credentials, row: &InodeRow, changes: &AttrChanges) -> Result<(), Stop> {
    if let Some(mode) = changes.mode {
        require(mode <= 0o7777, FsError::InvalidArgument)?;
        must_own(caller, row)?;
    }
    if caller.checked_by_kernel() || caller.uid == 0 {
        return Ok(());
    }
    if let Some(uid) = changes.uid {
        require(caller.uid == row.uid && uid == row.uid, FsError::NotPermitted)?;
    }
    if let Some(gid) = changes.gid {
        let entitled = caller.in_group(gid) || gid == row.gid;
        require(caller.uid == row.uid && entitled, FsError::NotPermitted)?;
    }
    Ok(())
}

fn check_times(caller: &Credentials, row: &InodeRow, changes: &AttrChanges) -> Result<(), Stop> {
    for time in [changes.atime, changes.mtime].into_iter().flatten() {
        if let TimeSet::At(Timestamp { nanos, .. }) = time {
            require(nanos < 1_000_000_000, FsError::InvalidArgument)?;
        }
    }
    match (changes.atime, changes.mtime) {
        (None, None) => Ok(()),
        // open(2) with O_TRUNC and truncate(2) set mtime to now along with the size, which has its own check.
        (None, Some(TimeSet::Now)) if changes.size.is_some() => Ok(()),
        (Some(TimeSet::Now), Some(TimeSet::Now)) => {
            let passes = must_own(caller, row).is_ok() || mode_allows(caller, row, WRITE);
            require(passes, FsError::PermissionDenied)
        }
        _ => Ok(must_own(caller, row)?),
    }
}

fn check_size(act: &Act<'_>, row: &InodeRow, size: u64, via_handle: bool) -> Result<(), Stop> {
    match row.kind {
        NodeKind::Regular => {}
        NodeKind::Directory => return Err(FsError::IsDirectory.into()),
        _ => return Err(FsError::InvalidArgument.into()),
    }
    if !via_handle {
        may(act.caller, row, WRITE)?;
    }
    require(size <= FILE_BYTES_MAX, FsError::FileTooLarge)?;
    act.require_no_other_writer(row.inode)
}

/// Sets the length. POSIX: mtime and ctime change whenever truncate succeeds on Linux, also to the same length.
fn resize(act: &mut Act<'_>, row: &mut InodeRow, size: u64) -> Result<(), Stop> {
    if size < row.size {
        act.cut_extents(row, size, u64::MAX)?;
    }
    row.size = size;
    row.mtime = act.now();
    row.data_change += 1;
    act.drop_privilege_on_write(row)
}

fn change_owner_and_mode(act: &mut Act<'_>, row: &mut InodeRow, changes: &AttrChanges) -> Result<(), Stop> {
    if changes.uid.is_some() || changes.gid.is_some() {
        row.uid = changes.uid.unwrap_or(row.uid);
        row.gid = changes.gid.unwrap_or(row.gid);
        if !row.is_directory() {
            row.mode = without_privilege(row.mode);
            act.drop_capabilities(row)?;
        }
    }
    if let Some(mode) = changes.mode {
        let caller = act.caller;
        let entitled = caller.checked_by_kernel() || caller.uid == 0 || caller.in_group(row.gid);
        row.mode = if entitled { mode } else { mode & !SETGID };
    }
    Ok(())
}
