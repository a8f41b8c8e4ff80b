//! New inodes: create, mkdir, mknod, symlink.
//!
//! An existing name is `Exists` before the directory's write permission is looked at, as in Linux. The group is the
//! caller's, or the directory's when that is setgid; a new directory then inherits the bit. A new file may not be setgid
//! with group execute for a group that its maker is not in (a kernel has seen to that: it knows all groups of its callers).

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::machine::Stop;
use super::name::Name;
use super::permission::{GROUP_EXECUTE, SETGID, STICKY, may_add, must_be_root};
use super::rows::cluster::CounterKey;
use super::rows::inode::{FIRST_COOKIE, InodeRow};
use super::rows::xattr::{Blob, SymlinkKey};
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::SYMLINK_BYTES_MAX;
use crate::seeded::{Bug, is_planted};
use bytes::Bytes;

/// Creates a regular file with its write lease, or answers the existing inode.
pub(super) fn create(
    act: &mut Act<'_>,
    parent: InodeId,
    name: &Name,
    mode: u32,
    exclusive: bool,
) -> Result<Answer, Stop> {
    let (directory, entry) = act.search(parent, name)?;
    if let Some(entry) = entry {
        require(!exclusive || is_planted(Bug::ExclusiveCreateOpens), FsError::Exists)?;
        require(entry.kind != NodeKind::Directory, FsError::IsDirectory)?;
        let attr = act.named_inode(entry.inode)?.attr();
        return Ok(Answer::Created { attr, created: false, lease: None });
    }
    may_add(act.caller, &directory)?;
    let mut row = new_inode(act, directory, name, NodeKind::Regular, mode)?;
    let lease = act.grant_lease(&mut row)?;
    act.put_inode(&row);
    Ok(Answer::Created { attr: row.attr(), created: true, lease: Some(lease) })
}

pub(super) fn mkdir(act: &mut Act<'_>, parent: InodeId, name: &Name, mode: u32) -> Result<Answer, Stop> {
    let directory = act.search_vacant(parent, name)?;
    let row = new_inode(act, directory, name, NodeKind::Directory, mode & (0o777 | STICKY))?;
    act.put_inode(&row);
    Ok(Answer::Entry { attr: row.attr(), map: None })
}

pub(super) fn mknod(
    act: &mut Act<'_>,
    parent: InodeId,
    name: &Name,
    kind: NodeKind,
    mode: u32,
    rdev: u64,
) -> Result<Answer, Stop> {
    let device = match kind {
        NodeKind::CharDevice | NodeKind::BlockDevice => true,
        NodeKind::Regular | NodeKind::Fifo | NodeKind::Socket => false,
        NodeKind::Directory | NodeKind::Symlink => return Err(FsError::InvalidArgument.into()),
    };
    let directory = act.search_vacant(parent, name)?;
    if device {
        must_be_root(act.caller)?;
    }
    let mut row = new_inode(act, directory, name, kind, mode)?;
    if device {
        row.rdev = rdev;
    }
    act.put_inode(&row);
    Ok(Answer::Entry { attr: row.attr(), map: None })
}

pub(super) fn symlink(
    act: &mut Act<'_>,
    parent: InodeId,
    name: &Name,
    target: &Bytes,
) -> Result<Answer, Stop> {
    require(!target.is_empty(), FsError::NotFound)?;
    require(target.len() <= SYMLINK_BYTES_MAX, FsError::NameTooLong)?;
    require(!target.contains(&0), FsError::InvalidArgument)?;
    let directory = act.search_vacant(parent, name)?;
    let mut row = new_inode(act, directory, name, NodeKind::Symlink, 0o777)?;
    row.size = target.len() as u64;
    act.draft.put(&SymlinkKey(row.inode), &Blob(target.clone()));
    act.put_inode(&row);
    Ok(Answer::Entry { attr: row.attr(), map: None })
}

/// A new inode under a vacant name of a directory that takes it. Its row is returned for the caller to finish and put.
fn new_inode(
    act: &mut Act<'_>,
    mut directory: InodeRow,
    name: &Name,
    kind: NodeKind,
    mode: u32,
) -> Result<InodeRow, Stop> {
    let inode = InodeId(act.next_number(CounterKey::NextInode)?);
    let mut row = InodeRow::new(inode, kind, mode & 0o7777, act.now());
    row.uid = act.caller.uid;
    row.gid = act.caller.gid;
    if directory.mode & SETGID != 0 {
        row.gid = directory.gid;
        row.mode = inherited_mode(act, &row);
    }
    if kind == NodeKind::Directory {
        row.links = 2;
        row.parent = directory.inode;
        row.next_cookie = FIRST_COOKIE;
        directory.links += 1;
    }
    if matches!(kind, NodeKind::Directory | NodeKind::Regular) {
        row.policy = directory.policy;
        act.count_in_policy(row.policy, 1, 0)?;
    }
    act.add_name(&mut directory, name, inode, kind);
    act.put_inode(&directory);
    Ok(row)
}

/// The mode of what is made in a setgid directory.
fn inherited_mode(act: &Act<'_>, row: &InodeRow) -> u32 {
    if row.is_directory() {
        return row.mode | SETGID;
    }
    let privileged = row.mode & (SETGID | GROUP_EXECUTE) == SETGID | GROUP_EXECUTE;
    let caller = act.caller;
    let entitled = caller.checked_by_kernel() || caller.uid == 0 || caller.in_group(row.gid);
    if privileged && !entitled { row.mode & !SETGID } else { row.mode }
}
