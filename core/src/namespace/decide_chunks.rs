//! Chunks for new data: given to a session, and given back.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::machine::Stop;
use crate::cluster::placement;
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId};
use crate::limits::{CHUNKS_PER_ALLOCATION_MAX, CHUNKS_PER_REQUEST_MAX};

pub(super) fn allocate_chunks(act: &mut Act<'_>, inode: InodeId, count: u32) -> Result<Answer, Stop> {
    require((1..=CHUNKS_PER_ALLOCATION_MAX).contains(&count), FsError::InvalidArgument)?;
    let row = act.inode(inode)?;
    require(row.kind == NodeKind::Regular, FsError::InvalidArgument)?;
    let policy = act.policy(row.policy)?;
    let demand = (row.policy, policy.replicas, policy.minimum);
    let mut chunks = Vec::new();
    for number in 0..count {
        let servers = placement::place(act.context.view, &policy, act.context.entropy, number)?;
        chunks.push(act.new_chunk(inode, servers, demand)?);
    }
    Ok(Answer::Chunks(act.locate(&chunks)?))
}

/// Gives back what the session owns; chunks that are attached or gone by now are passed over, so that a client may give
/// back all that it remembers.
pub(super) fn release_chunks(act: &mut Act<'_>, chunks: &[ChunkId]) -> Result<Answer, Stop> {
    require(chunks.len() <= CHUNKS_PER_REQUEST_MAX, FsError::InvalidArgument)?;
    for &chunk in chunks {
        if let Some(row) = act.chunk(chunk)?
            && row.owner == act.context.session
        {
            act.remove_chunk(chunk, &row)?;
        }
    }
    Ok(Answer::Done)
}
