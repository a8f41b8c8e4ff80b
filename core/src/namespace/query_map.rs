//! Questions about where bytes are: the map of a file, and locations of chunks.

use super::act::{Act, require};
use super::answer::{Answer, Map};
use super::attr::NodeKind;
use super::machine::Stop;
use super::request::Extent;
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId};
use crate::limits::{EXTENTS_PER_MESSAGE_MAX, LOCATE_CHUNKS_MAX};
use std::collections::BTreeSet;

pub(super) fn map(act: &Act<'_>, inode: InodeId, offset: u64, length: u64) -> Result<Answer, Stop> {
    let row = act.inode(inode)?;
    match row.kind {
        NodeKind::Regular => {}
        NodeKind::Directory => return Err(FsError::IsDirectory.into()),
        _ => return Err(FsError::InvalidArgument.into()),
    }
    let to = offset.saturating_add(length);
    let mut extents = act.extents_in(&row, offset, to, EXTENTS_PER_MESSAGE_MAX + 1)?;
    let mut complete_to = to;
    if extents.len() > EXTENTS_PER_MESSAGE_MAX {
        extents.truncate(EXTENTS_PER_MESSAGE_MAX);
        complete_to = extents.last().map_or(to, |last| last.offset + last.length);
    }
    let mut map = act.map_of(extents, complete_to)?;
    map.attr = Some(row.attr());
    Ok(Answer::Map(map))
}

pub(super) fn locate(act: &Act<'_>, chunks: &[ChunkId]) -> Result<Answer, Stop> {
    require(chunks.len() <= LOCATE_CHUNKS_MAX, FsError::InvalidArgument)?;
    Ok(Answer::Chunks(act.locate(chunks)?))
}

impl Act<'_> {
    /// A map with the locations of the chunks that it names.
    pub(super) fn map_of(&self, extents: Vec<Extent>, complete_to: u64) -> Result<Map, Stop> {
        let chunks: BTreeSet<ChunkId> = extents.iter().map(|extent| extent.chunk).collect();
        let chunks: Vec<ChunkId> = chunks.into_iter().collect();
        Ok(Map { extents, chunks: self.locate(&chunks)?, complete_to, attr: None })
    }
}
