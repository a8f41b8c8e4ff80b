//! Chunks for new data: given to a session, and given back.

use super::act::{Act, require};
use super::answer::Answer;
use super::attr::NodeKind;
use super::chunk_set::minimum_of;
use super::machine::Stop;
use crate::cluster::placement;
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId};
use crate::limits::{CHUNKS_PER_ALLOCATION_MAX, CHUNKS_PER_REQUEST_MAX, REPLICAS_MAX};

pub(super) fn allocate_chunks(act: &mut Act<'_>, inode: InodeId, count: u32) -> Result<Answer, Stop> {
    require((1..=CHUNKS_PER_ALLOCATION_MAX).contains(&count), FsError::InvalidArgument)?;
    require(act.inode(inode)?.kind == NodeKind::Regular, FsError::InvalidArgument)?;
    let replicas = act.context.default_replicas.clamp(1, REPLICAS_MAX as u8);
    let minimum = minimum_of(replicas);
    let mut chunks = Vec::new();
    for number in 0..count {
        let servers = placement::place(act.context.view, replicas, minimum, act.context.entropy, number)?;
        chunks.push(act.new_chunk(inode, servers, (replicas, minimum))?);
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
