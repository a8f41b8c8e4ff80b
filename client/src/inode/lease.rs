//! The write lease, the chunks that it names, and giving it back.

use super::{Inode, nonsense};
use crate::shared::Shared;
use crate::write::ChunkWriter;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, LeaseNumber};
use cairn_core::limits::{LEASE_RETRY_MAX, LEASE_RETRY_MIN, LEASED_CHUNKS_MAX};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::attr::{Attr, AttrChanges};
use cairn_core::namespace::request::{Credentials, Extent, OperationKind, QueryKind};
use cairn_core::units::CHUNK_BYTES;
use std::sync::Arc;

/// Towards a chunk that takes new bytes.
enum TargetStep {
    /// With what has sent bytes to it before.
    GoOn(Arc<ChunkWriter>),
    /// The lease must name it first.
    Mark(ChunkId),
    /// It holds bytes of the slot, and nobody writes it yet.
    Write(ChunkId),
    /// The map is not known from here on.
    Ask(u64),
    /// There is none, or it cannot be written at present.
    Allocate,
}

impl Inode {
    /// A new file's lease came with its creation.
    pub(crate) fn grant(&self, lease: LeaseNumber) {
        self.state().lease = Some(lease);
    }

    /// Whether this very lease is held.
    pub(crate) fn holds(&self, lease: LeaseNumber) -> bool {
        self.state().lease == Some(lease)
    }

    /// Takes the lease if it is not held. `slot`: where the write goes, so that its chunk is named in the same request.
    pub(super) async fn ensure_lease(
        &self,
        shared: &Shared,
        who: &Credentials,
        slot: Option<u64>,
    ) -> Result<(), FsError> {
        let guess = {
            let mut state = self.state();
            state.who = who.clone();
            if state.lease.is_some() {
                return Ok(());
            }
            slot.and_then(|slot| home(state.map.within(slot * CHUNK_BYTES, (slot + 1) * CHUNK_BYTES)))
        };
        match self.take_lease(shared, guess.into_iter().collect()).await {
            // The map here was old.
            Err(FsError::Stale | FsError::InvalidArgument | FsError::NotFound) if guess.is_some() => {
                self.take_lease(shared, Vec::new()).await
            }
            outcome => outcome,
        }
    }

    async fn take_lease(&self, shared: &Shared, chunks: Vec<ChunkId>) -> Result<(), FsError> {
        let epoch = shared.session_epoch();
        let (lease, attr) = self.ask_for_lease(shared, &chunks).await?;
        let mut state = self.state();
        if epoch != shared.session_epoch() {
            return Err(FsError::Io(String::from("the session with the master expired")));
        }
        if state.lease != Some(lease) {
            state.lease = None;
            state.attr = attr.clone();
            state.rebase(&attr);
            state.marked.clear();
        }
        state.lease = Some(lease);
        state.marked.extend(chunks);
        Ok(())
    }

    async fn ask_for_lease(
        &self,
        shared: &Shared,
        chunks: &[ChunkId],
    ) -> Result<(LeaseNumber, Attr), FsError> {
        let mut pause = LEASE_RETRY_MIN;
        loop {
            let kind = OperationKind::LeaseFile { inode: self.id, chunks: chunks.to_vec() };
            let who = shared.kernel_checked(&self.state().who);
            let (lease, attr) = match shared.meta.operation(&who, kind).await? {
                Answer::Leased { lease, attr } => (lease, attr),
                answer => return Err(nonsense(&answer)),
            };
            if self.state().returned != Some(lease) {
                return Ok((lease, attr));
            }
            // The master has not acted on its return yet, and will: what is written under it now would be lost.
            shared.meta.lease_returned(self.id, lease);
            shared.pause(&mut pause, LEASE_RETRY_MAX).await;
        }
    }

    /// Finds the chunk that takes new bytes of `slot`: one that holds bytes of it already, else a new one.
    pub(super) async fn ensure_target(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        slot: u64,
    ) -> Result<(), FsError> {
        loop {
            let Some(step) = self.step_towards_target(slot) else { return Ok(()) };
            match step {
                TargetStep::GoOn(writer) => {
                    self.state().targets.entry(slot).or_insert(writer);
                }
                TargetStep::Mark(chunk) => self.take_lease(shared, vec![chunk]).await?,
                TargetStep::Write(chunk) => {
                    let location = self.locate(shared, chunk).await?;
                    let begin = || Arc::new(ChunkWriter::attached(location));
                    self.state().targets.entry(slot).or_insert_with(begin);
                }
                TargetStep::Ask(from) => self.fetch_map(shared, from, (slot + 1) * CHUNK_BYTES).await?,
                TargetStep::Allocate => {
                    let file = self.state().takes_chunks_for();
                    let chunk = shared.pool.take(shared, file).await?;
                    self.state().targets.entry(slot).or_insert(chunk);
                }
            }
        }
    }

    /// What is to be done next so that `slot` has a chunk that may be written; nothing when it has.
    fn step_towards_target(&self, slot: u64) -> Option<TargetStep> {
        let (start, end) = (slot * CHUNK_BYTES, (slot + 1) * CHUNK_BYTES);
        let state = self.state();
        state.lease?;
        if let Some(target) = state.targets.get(&slot) {
            return (!state.may_write(target)).then_some(TargetStep::Mark(target.chunk));
        }
        let Some(chunk) = home(state.map.within(start, end)) else {
            let gap = state.known.first_gap(start, end);
            return Some(gap.map_or(TargetStep::Allocate, |(from, _)| TargetStep::Ask(from)));
        };
        Some(match state.chunk_writers.of(chunk) {
            Some(writer) if writer.is_abandoned() => TargetStep::Allocate,
            Some(writer) if state.may_write(&writer) => TargetStep::GoOn(writer),
            None if state.marked.contains(&chunk) => TargetStep::Write(chunk),
            _ => TargetStep::Mark(chunk),
        })
    }

    async fn locate(&self, shared: &Shared, chunk: ChunkId) -> Result<ChunkLocation, FsError> {
        if let Some(location) = self.state().places.get(&chunk) {
            return Ok(ChunkLocation::clone(location));
        }
        let kind = QueryKind::Locate { chunks: vec![chunk] };
        match shared.meta.query(&shared.own_credentials(), kind).await? {
            Answer::Chunks(mut chunks) if chunks.len() == 1 => Ok(chunks.remove(0)),
            answer => Err(nonsense(&answer)),
        }
    }

    /// If this lease is held: brings the file to rest, records everything, and lets it go. The master is told afterwards that it may
    /// take it.
    pub(crate) async fn give_lease_back(self: &Arc<Self>, shared: &Arc<Shared>, lease: LeaseNumber) {
        let _order = self.order.lock().await;
        self.state().returned = Some(lease);
        if !self.holds(lease) {
            return;
        }
        let _rest = self.rest();
        // A failure has been noted for the handles; the lease goes back in any case.
        let recorded = self.record_all(shared, true).await;
        if recorded.is_ok() && !self.state().failed {
            // Perhaps there was nothing to record. An operation: the message that it is back may be acted on after it was
            // granted again, and has its chunks compared.
            self.release_lease(shared).await;
        }
        self.let_lease_go(shared);
    }

    /// A lease names a bounded number of chunks. A writer that needs more records everything and begins a new one.
    pub(super) async fn renew_crowded_lease(self: &Arc<Self>, shared: &Arc<Shared>) -> Result<(), FsError> {
        if self.state().marked.len() < LEASED_CHUNKS_MAX as usize / 2 {
            return Ok(());
        }
        let _rest = self.rest();
        self.record_all(shared, false).await?;
        self.release_lease(shared).await;
        Ok(())
    }

    /// Gives the lease up in a request of its own; everything is recorded.
    async fn release_lease(&self, shared: &Shared) {
        let (lease, who) = {
            let state = self.state();
            (state.lease, shared.kernel_checked(&state.who))
        };
        let Some(lease) = lease else { return };
        self.let_lease_go(shared);
        let kind = OperationKind::Commit {
            inode: self.id,
            lease,
            extents: Vec::new(),
            length: 0,
            modified: false,
            release: true,
            changes: AttrChanges::default(),
        };
        // The file may be gone, or the lease: nothing depends on the answer.
        let _ = shared.meta.operation(&who, kind).await;
    }

    pub(super) fn let_lease_go(&self, shared: &Shared) {
        let dropped = {
            let mut state = self.state();
            if state.lease.is_none() {
                return;
            }
            let dropped = state.drop_lease();
            let attr = state.attr.clone();
            state.rebase(&attr);
            dropped
        };
        self.give_room(shared, dropped);
        self.progress.notify_waiters();
    }

    /// Until the guard is dropped no bytes are accepted.
    pub(super) fn rest(&self) -> Rest<'_> {
        self.state().resting = true;
        Rest(self)
    }
}

/// Gives the leases of closed files back of our own accord, in one request: nobody waits for it. A file that is named twice
/// goes back once.
pub(crate) async fn give_idle_leases_back(shared: &Arc<Shared>, inodes: &[Arc<Inode>]) {
    let mut at_rest = Vec::new();
    let mut leases = Vec::new();
    for inode in inodes {
        // Several of these locks are held at a time, so none is waited for: whoever has one uses the file.
        let Ok(order) = inode.order.try_lock() else {
            shared.idle_leases().push_back(inode.id);
            continue;
        };
        let idle = {
            let state = inode.state();
            state.lease.filter(|_| state.opens == 0 && !state.is_dirty())
        };
        if let Some(lease) = idle {
            at_rest.push((inode, inode.rest(), order));
            leases.push((inode.id, lease));
        }
    }
    if leases.is_empty() {
        return;
    }
    let kind = OperationKind::ReleaseLeases { leases };
    // A file may be gone, or a lease: nothing depends on the answer. Whoever opens one meanwhile waits to write.
    let _ = shared.meta.operation(&shared.own_credentials(), kind).await;
    for (inode, ..) in &at_rest {
        inode.let_lease_go(shared);
    }
}

/// Keeps a file at rest; made under the `order` lock only, so there is one at a time.
pub(super) struct Rest<'a>(&'a Inode);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.state().resting = false;
    }
}

/// The chunk in which a slot's bytes stand at their own offsets, if there is one: the last such.
fn home(extents: impl Iterator<Item = Extent>) -> Option<ChunkId> {
    extents
        .filter(|extent| extent.chunk_offset == extent.offset % CHUNK_BYTES)
        .map(|extent| extent.chunk)
        .last()
}
