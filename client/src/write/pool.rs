//! Chunks allocated ahead: a new file, or the next 64 MiB of a growing one, waits for no allocation. Each storage policy has its
//! own, for the master places a chunk when it is allocated.

use super::ChunkWriter;
use crate::shared::Shared;
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, PolicyId, ServerId};
use cairn_core::limits::{CHUNK_POOL_MAX, CHUNKS_PER_ALLOCATION_MAX};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::OperationKind;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The chunks held ready. They belong to the session until a Commit attaches them.
#[derive(Default)]
pub(crate) struct ChunkPool {
    by_policy: Mutex<BTreeMap<PolicyId, Ready>>,
}

/// For a file, with its storage policy.
pub(crate) type For = (InodeId, PolicyId);

#[derive(Default)]
struct Ready {
    ready: VecDeque<ChunkWriter>,
    /// As many as are worth having: doubles when the pool runs dry.
    wanted: usize,
    refilling: bool,
}

impl ChunkPool {
    /// A chunk at once, if one is ready.
    pub(crate) fn try_take(&self, shared: &Arc<Shared>, file: For) -> Option<Arc<ChunkWriter>> {
        let (taken, refill) = {
            let mut pool = self.by_policy();
            let state = pool.entry(file.1).or_default();
            let taken = state.ready.pop_front();
            if taken.is_none() {
                state.wanted = (state.wanted * 2).clamp(1, CHUNK_POOL_MAX);
            }
            let refill = !state.refilling && state.ready.len() < state.wanted.div_ceil(2);
            state.refilling |= refill;
            (taken, refill)
        };
        if refill {
            shared.spawn(refill_pool(shared.clone(), file));
        }
        taken.map(Arc::new)
    }

    /// A chunk, allocated now if none is ready.
    pub(crate) async fn take(&self, shared: &Arc<Shared>, file: For) -> Result<Arc<ChunkWriter>, FsError> {
        if let Some(chunk) = self.try_take(shared, file) {
            return Ok(chunk);
        }
        let mut chunks = allocate(shared, file.0, 1).await?;
        match chunks.pop() {
            Some(chunk) => Ok(Arc::new(chunk)),
            None => Err(FsError::Io(String::from("the master allocated no chunk"))),
        }
    }

    /// A server has failed: chunks on it are not worth waiting for.
    pub(crate) fn distrust(&self, server: ServerId) {
        self.by_policy().values_mut().for_each(|state| state.ready.retain(|chunk| !chunk.uses(server)));
    }

    /// The session that owned the chunks is gone, or is about to be: takes them all.
    pub(crate) fn drain(&self) -> Vec<ChunkWriter> {
        self.by_policy().values_mut().flat_map(|state| state.ready.drain(..)).collect()
    }

    fn by_policy(&self) -> MutexGuard<'_, BTreeMap<PolicyId, Ready>> {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn refill_pool(shared: Arc<Shared>, (inode, policy): For) {
    loop {
        let missing = {
            let mut pool = shared.pool.by_policy();
            let state = pool.entry(policy).or_default();
            let missing = state.wanted.saturating_sub(state.ready.len());
            if missing == 0 {
                state.refilling = false;
                return;
            }
            missing.min(CHUNKS_PER_ALLOCATION_MAX as usize)
        };
        let epoch = shared.session_epoch();
        let allocated = allocate(&shared, inode, missing as u32).await;
        let mut pool = shared.pool.by_policy();
        let state = pool.entry(policy).or_default();
        match allocated {
            Ok(chunks) if !chunks.is_empty() => {
                // Chunks of a session that has been lost meanwhile are gone with it.
                if epoch == shared.session_epoch() {
                    state.ready.extend(chunks);
                }
            }
            // Whoever needs a chunk now hears the reason.
            _ => {
                state.refilling = false;
                state.wanted = state.ready.len();
                return;
            }
        }
    }
}

async fn allocate(shared: &Arc<Shared>, inode: InodeId, count: u32) -> Result<Vec<ChunkWriter>, FsError> {
    let kind = OperationKind::AllocateChunks { inode, count };
    match shared.meta.operation(&shared.own_credentials(), kind).await? {
        Answer::Chunks(locations) => Ok(locations.into_iter().map(ChunkWriter::fresh).collect()),
        _ => Err(FsError::Io(String::from("the master's answer makes no sense"))),
    }
}
