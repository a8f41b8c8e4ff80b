//! setxattr(2) and removexattr(2), and who may touch which namespace.
//!
//! `user.`: regular files and directories, by permission to read or write; on a sticky directory written by its owner
//! only. `trusted.`: root only, and not there for others. `security.`: read by all, written by root. Others, ACLs among
//! them, are not supported.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::machine::Stop;
use super::permission::{READ, STICKY, WRITE, may, must_be_root, must_own};
use super::request::{Credentials, XattrMode};
use super::rows::inode::InodeRow;
use super::rows::xattr::{Blob, XattrKey};
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::{XATTR_NAME_BYTES_MAX, XATTR_TOTAL_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use bytes::Bytes;

/// Namespaces that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XattrSpace {
    User,
    Trusted,
    Security,
}

/// The namespace of a well-formed name.
pub(super) fn space_of(name: &[u8]) -> Result<XattrSpace, FsError> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    if name.contains(&0) {
        return Err(FsError::InvalidArgument);
    }
    let spaces = [
        (&b"user."[..], XattrSpace::User),
        (b"trusted.", XattrSpace::Trusted),
        (b"security.", XattrSpace::Security),
    ];
    let found = spaces.iter().find(|(prefix, _)| name.starts_with(prefix)).ok_or(FsError::Unsupported)?;
    if name.len() == found.0.len() { Err(FsError::InvalidArgument) } else { Ok(found.1) }
}

/// May the caller read attributes of `space`?
pub(super) fn may_read(caller: &Credentials, row: &InodeRow, space: XattrSpace) -> Result<(), FsError> {
    match space {
        XattrSpace::User if !carries_user(row) => Err(FsError::NoAttribute),
        XattrSpace::User => may(caller, row, READ),
        XattrSpace::Trusted => must_be_root(caller).map_err(|_| FsError::NoAttribute),
        XattrSpace::Security => Ok(()),
    }
}

fn may_change(caller: &Credentials, row: &InodeRow, space: XattrSpace) -> Result<(), FsError> {
    match space {
        XattrSpace::User if !carries_user(row) => Err(FsError::NotPermitted),
        XattrSpace::User if row.is_directory() && row.mode & STICKY != 0 => must_own(caller, row),
        XattrSpace::User => may(caller, row, WRITE),
        XattrSpace::Trusted | XattrSpace::Security => must_be_root(caller),
    }
}

fn carries_user(row: &InodeRow) -> bool {
    matches!(row.kind, NodeKind::Regular | NodeKind::Directory)
}

pub(super) fn set(
    act: &mut Act<'_>,
    inode: InodeId,
    name: &Bytes,
    value: &Bytes,
    mode: XattrMode,
) -> Result<Answer, Stop> {
    let space = space_of(name)?;
    let mut row = act.inode(inode)?;
    may_change(act.caller, &row, space)?;
    require(value.len() <= XATTR_VALUE_BYTES_MAX, FsError::AttributeTooLarge)?;
    let key = XattrKey { inode, name: name.clone() };
    let old = act.draft.get(&key)?;
    match (mode, &old) {
        (XattrMode::Create, Some(_)) => return Err(FsError::Exists.into()),
        (XattrMode::Replace, None) => return Err(FsError::NoAttribute.into()),
        _ => {}
    }
    let without = row.xattr_bytes as usize - old.map_or(0, |Blob(old)| name.len() + old.len());
    let total = without + name.len() + value.len();
    require(total <= XATTR_TOTAL_BYTES_MAX, FsError::AttributeTooLarge)?;
    row.xattr_bytes = total as u32;
    row.touch(act.now());
    act.draft.put(&key, &Blob(value.clone()));
    act.put_inode(&row);
    Ok(Answer::Done)
}

pub(super) fn remove(act: &mut Act<'_>, inode: InodeId, name: &Bytes) -> Result<Answer, Stop> {
    let space = space_of(name)?;
    let mut row = act.inode(inode)?;
    may_change(act.caller, &row, space)?;
    let key = XattrKey { inode, name: name.clone() };
    let Blob(old) = act.draft.get(&key)?.ok_or(FsError::NoAttribute)?;
    row.xattr_bytes -= (name.len() + old.len()) as u32;
    row.touch(act.now());
    act.draft.delete(&key);
    act.put_inode(&row);
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_a_known_namespace_and_a_rest() {
        assert_eq!(space_of(b"user.a"), Ok(XattrSpace::User));
        assert_eq!(space_of(b"security.capability"), Ok(XattrSpace::Security));
        assert_eq!(space_of(b"user."), Err(FsError::InvalidArgument));
        assert_eq!(space_of(b"system.posix_acl_access"), Err(FsError::Unsupported));
        assert_eq!(space_of(b""), Err(FsError::Unsupported));
        assert_eq!(space_of(&[b'u'; 256]), Err(FsError::NameTooLong));
    }
}
