//! Taking the write lease of a file, marking what is about to be overwritten under it, and letting leases go.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::machine::Stop;
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId, LeaseNumber};
use crate::limits::{CHUNKS_PER_REQUEST_MAX, LEASES_PER_REQUEST_MAX};

pub(super) fn lease_file(act: &mut Act<'_>, inode: InodeId, chunks: &[ChunkId]) -> Result<Answer, Stop> {
    require(chunks.len() <= CHUNKS_PER_REQUEST_MAX, FsError::InvalidArgument)?;
    let mut row = act.inode(inode)?;
    match row.kind {
        NodeKind::Regular => {}
        NodeKind::Directory => return Err(FsError::IsDirectory.into()),
        _ => return Err(FsError::InvalidArgument.into()),
    }
    let before = row.lease;
    let lease = act.grant_lease(&mut row)?;
    if row.lease != before {
        act.put_inode(&row);
    }
    if !chunks.is_empty() {
        act.mark_chunks(inode, chunks)?;
    }
    Ok(Answer::Leased { lease, attr: row.attr() })
}

pub(super) fn release_leases(act: &mut Act<'_>, leases: &[(InodeId, LeaseNumber)]) -> Result<Answer, Stop> {
    require(leases.len() <= LEASES_PER_REQUEST_MAX, FsError::InvalidArgument)?;
    for &(inode, lease) in leases {
        let held = act.lease_of(inode)?;
        if held.is_some_and(|held| held.session == act.context.session && held.lease == lease) {
            act.end_lease(inode)?;
        }
    }
    Ok(Answer::Done)
}
