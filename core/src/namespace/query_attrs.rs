//! Questions about one inode: attributes, access, extended attributes; and statfs.

use super::act::Act;
use super::answer::{Answer, FileSystemStats};
use super::decide_xattr::{XattrSpace, may_read, space_of};
use super::machine::Stop;
use super::permission::may;
use super::rows::prefix_range;
use super::rows::xattr::{Blob, XattrKey};
use super::work;
use crate::error::FsError;
use crate::ids::{InodeId, PolicyId};
use crate::limits::XATTR_TOTAL_BYTES_MAX;
use bytes::{Bytes, BytesMut};

pub(super) fn get_attr(act: &Act<'_>, inode: InodeId) -> Result<Answer, Stop> {
    Ok(Answer::Attr(act.inode(inode)?.attr()))
}

pub(super) fn access(act: &Act<'_>, inode: InodeId, mask: u32) -> Result<Answer, Stop> {
    let row = act.inode(inode)?;
    if mask > 7 {
        return Err(FsError::InvalidArgument.into());
    }
    may(act.caller, &row, mask)?;
    Ok(Answer::Done)
}

pub(super) fn get_xattr(act: &Act<'_>, inode: InodeId, name: &Bytes) -> Result<Answer, Stop> {
    let space = space_of(name)?;
    let row = act.inode(inode)?;
    may_read(act.caller, &row, space)?;
    let value =
        if row.xattr_bytes == 0 { None } else { act.draft.get(&XattrKey { inode, name: name.clone() })? };
    let Blob(value) = value.ok_or(FsError::NoAttribute)?;
    Ok(Answer::Bytes(value))
}

pub(super) fn list_xattr(act: &Act<'_>, inode: InodeId) -> Result<Answer, Stop> {
    let row = act.inode(inode)?;
    let mut names = BytesMut::new();
    if row.xattr_bytes > 0 {
        let range = prefix_range::<XattrKey>(&inode.get().to_be_bytes());
        for (key, _) in act.draft.scan::<XattrKey>(&range, XATTR_TOTAL_BYTES_MAX)? {
            let hidden = space_of(&key.name) == Ok(XattrSpace::Trusted)
                && may_read(act.caller, &row, XattrSpace::Trusted).is_err();
            if !hidden {
                names.extend_from_slice(&key.name);
                names.extend_from_slice(&[0]);
            }
        }
    }
    Ok(Answer::Bytes(names.freeze()))
}

pub(super) fn stat_fs(act: &Act<'_>) -> Result<Answer, Stop> {
    let copies = u64::from(act.policy(PolicyId::DEFAULT)?.replicas);
    let reachable = act.context.view.servers.values().filter(|server| server.health.is_reachable());
    let (total, free) = reachable.fold((0u64, 0u64), |(total, free), server| {
        (total.saturating_add(server.total_bytes), free.saturating_add(server.free_bytes))
    });
    let inodes = work::totals_in(&act.draft)?.inodes;
    Ok(Answer::FileSystem(FileSystemStats { total_bytes: total / copies, free_bytes: free / copies, inodes }))
}
