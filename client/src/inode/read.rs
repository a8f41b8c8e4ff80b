//! read(2): own bytes from memory, the rest from whichever replica serves it, ahead of the reader when it is sequential.

use super::{Inode, nonsense};
use crate::data::{FetchError, Runs};
use crate::fs::{Handle, SeekFor};
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use cairn_core::error::FsError;
use cairn_core::ids::ChunkId;
use cairn_core::io::extent_map::Stretch;
use cairn_core::io::read_plan::{Piece, plan};
use cairn_core::limits::{LEASE_RETRY_MIN, LOOKUP_SERVES_OPEN};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::request::QueryKind;
use cairn_core::units::CHUNK_BYTES;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::error;

/// Map asked for at once beyond what a read needs: most files then need one question.
const MAP_AHEAD: u64 = 16 * CHUNK_BYTES;

/// What a read is put together from.
struct Planned {
    pieces: Vec<Piece>,
    places: BTreeMap<ChunkId, (Arc<ChunkLocation>, Runs)>,
}

impl Inode {
    /// Reads for a handle: from what was fetched ahead, or now.
    pub(crate) async fn read(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        handle: &Handle,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, FsError> {
        let mut size = self.state().size;
        if offset >= size {
            size = self.revalidated_size(shared, handle).await?;
        }
        let end = offset.saturating_add(u64::from(length)).min(size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        if handle.flags.direct {
            return self.read_range(shared, offset, end).await;
        }
        let epoch = self.state().epoch;
        let ready = handle.ahead().serve(offset, end, epoch);
        handle.ahead().plan(self, shared, (offset, end), size, epoch);
        if let Some(segments) = ready
            && let Some(bytes) = segments.gather(offset, end).await
        {
            return Ok(bytes);
        }
        self.read_range(shared, offset, end).await
    }

    /// Beyond the end as known here: somebody else may have written since.
    async fn revalidated_size(&self, shared: &Shared, handle: &Handle) -> Result<u64, FsError> {
        {
            let state = self.state();
            let fresh = shared.env.clock.now().since(handle.opened_at) <= LOOKUP_SERVES_OPEN;
            if state.lease.is_some() || fresh {
                return Ok(state.size);
            }
        }
        match shared.meta.query(&shared.own_credentials(), QueryKind::GetAttr { inode: self.id }).await? {
            Answer::Attr(attr) => {
                let mut state = self.state();
                state.absorb(&attr);
                Ok(state.size)
            }
            answer => Err(nonsense(&answer)),
        }
    }

    /// Reads `from .. to`, which lies within the file; bytes that a concurrent truncation takes away read as zeros.
    pub(crate) async fn read_range(&self, shared: &Shared, from: u64, to: u64) -> Result<Bytes, FsError> {
        let started = shared.env.clock.now();
        let mut pause = LEASE_RETRY_MIN;
        loop {
            let planned = self.planned(shared, from, to).await?;
            let failure = match gather(shared, &planned, to - from).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            let reason = match failure {
                FetchError::Corrupt(reason) => {
                    error!(inode = %self.id, from, to, reason, "no replica has undamaged bytes");
                    return Err(FsError::Io(format!("every replica is damaged: {reason}")));
                }
                FetchError::Relocate(reason) | FetchError::Unreachable(reason) => reason,
            };
            if !shared.may_wait(started) {
                error!(inode = %self.id, from, to, reason, "data cannot be read");
                return Err(FsError::Unavailable(reason));
            }
            shared.pause(&mut pause, Duration::from_millis(500)).await;
            self.relocate(shared, &planned).await?;
        }
    }

    async fn planned(&self, shared: &Shared, from: u64, to: u64) -> Result<Planned, FsError> {
        loop {
            let gap = {
                let mut state = self.state();
                match state.known.first_gap(from, to) {
                    None => {
                        let overlay = if state.session.is_idle() {
                            Vec::new()
                        } else {
                            state.session.overlay(from, to)
                        };
                        let pieces = plan(from, to, &overlay, &state.map);
                        state.heed_writers();
                        let mut places = BTreeMap::new();
                        for piece in &pieces {
                            if let Piece::Chunk { chunk, .. } = piece
                                && let Some(place) = state.places.get(chunk)
                            {
                                let writer = state.chunk_writers.of(*chunk);
                                let runs = writer.map_or_else(Runs::new, |writer| writer.runs());
                                places.insert(*chunk, (place.clone(), runs));
                            }
                        }
                        return Ok(Planned { pieces, places });
                    }
                    Some((gap, _)) => gap,
                }
            };
            self.fetch_map(shared, gap, to.max(gap.saturating_add(MAP_AHEAD))).await?;
        }
    }

    /// Asks the master for the map of `from .. to`, or its beginning.
    pub(super) async fn fetch_map(&self, shared: &Shared, from: u64, to: u64) -> Result<(), FsError> {
        shared.meta.counts().maps.misses.one_more();
        let kind = QueryKind::Map { inode: self.id, offset: from, length: to - from };
        let heard = shared.meta.ask(&shared.own_credentials(), kind).await?;
        if from == 0 {
            shared.keep_map(&heard);
        }
        let map = match heard.outcome? {
            Answer::Map(map) if map.complete_to > from => map,
            answer => return Err(nonsense(&answer)),
        };
        let learned = {
            let mut state = self.state();
            let version = match &map.attr {
                Some(attr) => {
                    state.absorb(attr);
                    attr.data_change
                }
                None => state.map_version,
            };
            state.learn(from, version, &map)
        };
        if !learned {
            // An answer crossed with a change of our own: the caller asks again.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// A chunk was not where it was thought to be: the map may be old, and the places surely are.
    async fn relocate(&self, shared: &Shared, planned: &Planned) -> Result<(), FsError> {
        let ours = {
            let mut state = self.state();
            if state.lease.is_none() {
                state.forget_map();
            }
            state.lease.is_some()
        };
        if !ours {
            return Ok(());
        }
        let mut chunks: Vec<ChunkId> = planned.places.keys().copied().collect();
        chunks.sort_unstable();
        match shared.meta.query(&shared.own_credentials(), QueryKind::Locate { chunks }).await {
            Ok(Answer::Chunks(locations)) => {
                let mut state = self.state();
                locations.into_iter().for_each(|location| state.place(location));
                Ok(())
            }
            Ok(answer) => Err(nonsense(&answer)),
            // A chunk that no longer exists: the map is settled by whoever cut it.
            Err(FsError::NotFound | FsError::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// SEEK_DATA and SEEK_HOLE. Bytes on their way out count as data.
    pub(crate) async fn seek(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        what: SeekFor,
        offset: u64,
    ) -> Result<u64, FsError> {
        self.drain(shared).await;
        let mut at = offset;
        loop {
            let gap = {
                let state = self.state();
                if at >= state.size || offset >= state.size {
                    return match what {
                        SeekFor::Hole if offset < state.size => Ok(state.size),
                        _ => Err(FsError::NoSuchOffset),
                    };
                }
                let gap = state.known.first_gap(at, state.size);
                let until = gap.map_or(state.size, |(gap, _)| gap);
                for stretch in state.map.stretches(at, until) {
                    match (what, stretch) {
                        (SeekFor::Data, Stretch::Mapped(extent)) => return Ok(extent.offset),
                        (SeekFor::Hole, Stretch::Hole { offset, .. }) => return Ok(offset),
                        _ => {}
                    }
                }
                at = until;
                gap
            };
            if let Some((gap, end)) = gap {
                self.fetch_map(shared, gap, end).await?;
            }
        }
    }
}

/// Fetches all pieces at once and puts them together.
async fn gather(shared: &Shared, planned: &Planned, length: u64) -> Result<Bytes, FetchError> {
    if let [piece] = &planned.pieces[..] {
        return fetch(shared, planned, piece).await;
    }
    let parts = planned.pieces.iter().map(|piece| fetch(shared, planned, piece));
    let parts = futures::future::try_join_all(parts).await?;
    let mut out = BytesMut::with_capacity(length as usize);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Ok(out.freeze())
}

async fn fetch(shared: &Shared, planned: &Planned, piece: &Piece) -> Result<Bytes, FetchError> {
    match piece {
        Piece::Memory(bytes) => Ok(bytes.clone()),
        Piece::Hole(length) => Ok(Bytes::from(vec![0; *length as usize])),
        Piece::Chunk { chunk, offset, length } => match planned.places.get(chunk) {
            Some((place, runs)) => shared.data.fetch((place, runs), *offset, *length).await,
            None => Err(FetchError::Relocate(format!("the place of {chunk} is not known"))),
        },
    }
}
