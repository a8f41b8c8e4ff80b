//! From accepted to recorded: drain, make durable, commit.
//!
//! Nothing is recorded before its bytes are durable on every live replica, and no length before the bytes below it.

use super::write::Hurry;
use super::{Inode, nonsense};
use crate::shared::Shared;
use crate::slow;
use crate::write::ChunkWriter;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, LeaseNumber};
use cairn_core::io::extent_map::ExtentMap;
use cairn_core::io::sync_habit::WriterTag;
use cairn_core::limits::EXTENTS_PER_MESSAGE_MAX;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::{Attr, AttrChanges};
use cairn_core::namespace::request::{Credentials, Extent, OperationKind};
use cairn_core::seeded::{Bug, is_planted};
use cairn_env::errand::begin;
use cairn_proto::v1::SlowHopKind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one Commit is to record.
struct Harvest {
    lease: LeaseNumber,
    extents: Vec<Extent>,
    chunks: Vec<Arc<ChunkWriter>>,
    modified: bool,
}

impl Inode {
    /// Everything accepted so far is durable and recorded when this returns; with `release` the lease goes with it.
    ///
    /// `by` is the handle whose program has asked for a sync. Goes on by itself: a caller that goes away does not leave the work half done.
    pub(crate) async fn flush(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        by: Option<WriterTag>,
        release: bool,
    ) -> Result<(), FsError> {
        {
            // What another flush has taken to record is not dirty, and not yet recorded either.
            let nobody_records = self.order.try_lock();
            let mut state = self.state();
            by.into_iter().for_each(|by| state.habit.synced(by));
            if nobody_records.is_ok() && !state.is_dirty() {
                return Ok(());
            }
        }
        let (inode, held) = (self.clone(), shared.clone());
        let work = async move {
            let _order = slow::hop(&held.env, SlowHopKind::HopFile, inode.order.lock()).await;
            let _rest = release.then(|| inode.rest());
            inode.record_all(&held, release).await
        };
        begin(slow::carry(work))
            .outcome()
            .await
            .unwrap_or_else(|_| Err(FsError::Io(String::from("the flush was cut short"))))
    }

    pub(super) fn flush_in_background(self: &Arc<Self>, shared: &Arc<Shared>) {
        let (inode, held) = (self.clone(), shared.clone());
        shared.spawn(async move {
            // One at a time is enough; a failure has been noted for the handles.
            if let Ok(_order) = inode.order.try_lock() {
                let _ = inode.record_all(&held, false).await;
            }
        });
    }

    /// Under the `order` lock.
    pub(super) async fn record_all(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        release: bool,
    ) -> Result<(), FsError> {
        self.record_all_and_set(shared, release, None).await.map(drop)
    }

    /// The same, and sets attributes with it if there is anything to record and nothing speaks against it: answers them then.
    pub(super) async fn record_all_and_set(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        release: bool,
        set: Option<(Credentials, AttrChanges)>,
    ) -> Result<Option<Attr>, FsError> {
        slow::hop(&shared.env, SlowHopKind::HopStore, self.drain(shared)).await;
        let Some(harvest) = self.harvest(shared) else { return Ok(None) };
        let outcome = self.record(shared, harvest, release, set).await;
        self.state().recording_bytes = 0;
        outcome
    }

    async fn record(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        harvest: Harvest,
        release: bool,
        set: Option<(Credentials, AttrChanges)>,
    ) -> Result<Option<Attr>, FsError> {
        let synced = harvest.chunks.iter().map(|chunk| chunk.sync(shared, harvest.lease));
        let outcomes = match is_planted(Bug::RecordBeforeSync) {
            true => vec![Ok(()); harvest.chunks.len()],
            false => futures::future::join_all(synced).await,
        };
        let mut lost = BTreeMap::new();
        for (chunk, outcome) in harvest.chunks.iter().zip(outcomes) {
            if let Err(error) = outcome {
                lost.insert(chunk.chunk, FsError::from(error));
            }
        }
        match lost.values().last().cloned() {
            Some(error) => {
                self.lose_chunks(shared, &harvest, lost);
                Err(error)
            }
            None => self.commit(shared, harvest, release, set).await,
        }
    }

    /// Waits until everything accepted before now is stored on all replicas, or given up.
    pub(super) async fn drain(self: &Arc<Self>, shared: &Arc<Shared>) {
        let until = {
            let state = self.state();
            if state.session.is_idle() {
                return;
            }
            state.session.last_write()
        };
        let _hurry = Hurry::new(self);
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if !self.state().session.waits_for(until) {
                return;
            }
            self.hurry(shared);
            progress.await;
        }
    }

    fn harvest(&self, shared: &Shared) -> Option<Harvest> {
        let mut state = self.state();
        let lease = state.lease?;
        if !state.modified && state.pending.is_empty() && state.unsynced.is_empty() {
            return None;
        }
        // What came meanwhile has its own time.
        state.recording_bytes = state.pending.bytes();
        state.dirty_since = (!state.session.is_idle()).then(|| shared.env.clock.now());
        Some(Harvest {
            lease,
            extents: std::mem::take(&mut state.pending).iter().copied().collect(),
            chunks: std::mem::take(&mut state.unsynced).into_values().collect(),
            modified: std::mem::take(&mut state.modified),
        })
    }

    /// Chunks that could not be made durable, and why: their unrecorded bytes are lost. The rest is kept for the next time.
    fn lose_chunks(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        harvest: &Harvest,
        lost: BTreeMap<ChunkId, FsError>,
    ) {
        let mut state = self.state();
        if state.lease != Some(harvest.lease) {
            return;
        }
        state.heed_writers();
        for extent in &harvest.extents {
            if lost.contains_key(&extent.chunk) {
                state.map.cut(extent.offset, extent.offset + extent.length);
            } else {
                keep(&mut state.pending, extent);
            }
        }
        for kept in harvest.chunks.iter().filter(|chunk| !lost.contains_key(&chunk.chunk)) {
            state.unsynced.entry(kept.chunk).or_insert_with(|| kept.clone());
        }
        state.modified |= harvest.modified;
        let is_lost = |target: &Arc<ChunkWriter>| lost.contains_key(&target.chunk);
        let slots: Vec<u64> =
            state.targets.iter().filter(|(_, target)| is_lost(target)).map(|(&slot, _)| slot).collect();
        for slot in slots {
            state.targets.remove(&slot);
            // Bytes accepted meanwhile need another chunk.
            self.rehouse(shared, slot);
        }
        for (chunk, error) in lost {
            state.chunk_writers.forget(chunk);
            state.fail(error);
        }
    }

    async fn commit(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        harvest: Harvest,
        release: bool,
        set: Option<(Credentials, AttrChanges)>,
    ) -> Result<Option<Attr>, FsError> {
        let who = shared.kernel_checked(&self.state().who);
        // What a write does to setuid depends on who wrote: one entry has one caller.
        let set = set.filter(|(setter, _)| shared.kernel_checked(setter) == who);
        let mut parts = harvest.extents.chunks(EXTENTS_PER_MESSAGE_MAX).peekable();
        let mut done = 0;
        let answered = loop {
            let extents = parts.next().unwrap_or_default();
            let last = parts.peek().is_none();
            let count = extents.len();
            let kind = |changes| OperationKind::Commit {
                inode: self.id,
                lease: harvest.lease,
                extents: extents.to_vec(),
                length: extents.last().map_or(0, |extent| extent.offset + extent.length),
                modified: harvest.modified,
                release: release && last,
                changes,
            };
            let set_now = set.clone().filter(|_| last);
            let mut is_set = set_now.is_some();
            let (caller, changes) = set_now.unwrap_or_else(|| (who.clone(), AttrChanges::default()));
            let mut outcome = shared.meta.operation(&caller, kind(changes)).await;
            if is_set && outcome.as_ref().is_err_and(refuses_to_set) {
                is_set = false;
                outcome = shared.meta.operation(&who, kind(AttrChanges::default())).await;
            }
            match outcome {
                Ok(Answer::Attr(attr)) => {
                    self.recorded(shared, &harvest, done..done + count, &attr);
                    done += count;
                    if last {
                        break is_set.then_some(attr);
                    }
                }
                Ok(answer) => return Err(nonsense(&answer)),
                Err(error) => return Err(self.unrecorded(shared, harvest, done, error)),
            }
        };
        if release {
            self.let_lease_go(shared);
        }
        Ok(answered)
    }

    fn recorded(&self, shared: &Shared, harvest: &Harvest, range: std::ops::Range<usize>, attr: &Attr) {
        let chunks = |extents: &[Extent]| extents.iter().map(|extent| extent.chunk).collect::<BTreeSet<_>>();
        let (attached, mut pending) =
            (chunks(&harvest.extents[range.clone()]), chunks(&harvest.extents[range.end..]));
        let mut state = self.state();
        pending.extend(state.pending.iter().map(|extent| extent.chunk));
        state.heed_writers();
        state.chunk_writers.attached(&attached, &pending);
        state.absorb_own(shared, attr);
        if !state.is_dirty() {
            state.touched = None;
        }
    }

    /// A Commit failed. When it may succeed later, everything is kept for then; else it is lost.
    fn unrecorded(&self, shared: &Shared, harvest: Harvest, done: usize, error: FsError) -> FsError {
        let error = match error {
            FsError::Stale | FsError::SessionExpired => {
                FsError::Io(String::from("the write lease was taken away before written data was recorded"))
            }
            FsError::TimedOut(_) | FsError::Unavailable(_) => {
                let mut state = self.state();
                if state.lease == Some(harvest.lease) {
                    harvest.extents[done..].iter().for_each(|extent| keep(&mut state.pending, extent));
                    state.modified = true;
                }
                return error;
            }
            other => other,
        };
        let dropped = {
            let mut state = self.state();
            if state.lease != Some(harvest.lease) {
                return error;
            }
            state.fail(error.clone());
            state.forget_map();
            state.map_version = u64::MAX;
            state.drop_lease()
        };
        self.give_room(shared, dropped);
        self.progress.notify_waiters();
        error
    }
}

/// Perhaps the attributes, not the bytes, were what the master refused.
fn refuses_to_set(error: &FsError) -> bool {
    matches!(error, FsError::NotPermitted | FsError::PermissionDenied | FsError::InvalidArgument)
}

/// Puts an extent back that was to be recorded, below what came since.
fn keep(pending: &mut ExtentMap, extent: &Extent) {
    let newer: Vec<Extent> = pending.within(extent.offset, extent.offset + extent.length).collect();
    pending.insert(*extent);
    newer.into_iter().for_each(|newer| pending.insert(newer));
}
