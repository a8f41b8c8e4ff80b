//! write(2): admit, place, accept, send.

use super::Inode;
use super::state::Outgoing;
use crate::fs::Handle;
use crate::shared::Shared;
use crate::slow;
use crate::write::StoreError;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::io::sync_habit::WriterTag;
use cairn_core::io::write_session::Urgency;
use cairn_core::limits::{
    EAGER_WRITE_PATIENCE, FILE_BYTES_MAX, FILE_UNACKNOWLEDGED_BYTES_MAX, LEASE_RETRY_MIN,
    SENT_BY_FLUSHER_MAX, SMALL_WRITE_BYTES_MAX, UNRECORDED_EXTENTS_MAX,
};
use cairn_core::namespace::request::Credentials;
use cairn_core::units::CHUNK_BYTES;
use cairn_env::errand::begin;
use cairn_proto::v1::SlowHopKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Most bytes accepted at once; longer writes are cut.
const ACCEPT_BYTES_MAX: usize = 1 << 20;

/// Room for bytes in both budgets, given back unless they are accepted.
struct Room<'a> {
    inode: &'a Inode,
    shared: &'a Shared,
    window: usize,
    memory: usize,
}

impl Room<'_> {
    /// Accepted: `kept` bytes go on occupying their room until they are acknowledged.
    fn keep(&mut self, kept: usize) {
        self.window -= kept;
        self.memory -= kept;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.inode.window.add_permits(self.window);
        self.shared.write_memory.add_permits(self.memory);
    }
}

/// Counts somebody who waits for everything to leave.
pub(super) struct Hurry<'a>(&'a Inode);

impl<'a> Hurry<'a> {
    pub(super) fn new(inode: &'a Inode) -> Self {
        inode.state().hurried += 1;
        Self(inode)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.state().hurried -= 1;
    }
}

impl Inode {
    /// Accepts `data`, all of it unless the file would become too large. A caller that goes away leaves nothing half done: what was
    /// not accepted until then never is.
    pub(crate) async fn write(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        handle: &Handle,
        offset: u64,
        data: Bytes,
    ) -> Result<u32, FsError> {
        self.report_error(handle)?;
        let mut rest = data;
        let mut at = offset;
        let mut done = 0;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(ACCEPT_BYTES_MAX));
            match self.write_part(shared, handle, at, part).await {
                Ok(0) => break,
                Ok(accepted) => {
                    at += accepted as u64;
                    done += accepted;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done as u32)
    }

    async fn write_part(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        handle: &Handle,
        offset: u64,
        mut data: Bytes,
    ) -> Result<usize, FsError> {
        let mut room = self.room(shared, data.len()).await?;
        let started = shared.env.clock.now();
        let mut pause = LEASE_RETRY_MIN;
        loop {
            if let Some((accepted, eager)) = self.try_accept(shared, handle, offset, &mut data, &mut room)? {
                if eager {
                    // What fails or takes longer is told, or waited for, by the sync.
                    let _ = tokio::time::timeout(EAGER_WRITE_PATIENCE, self.drain(shared)).await;
                }
                return Ok(accepted);
            }
            let from = if handle.flags.append { None } else { Some(offset) };
            match self.prepare(shared, &handle.who, from, data.len() as u64).await {
                Ok(()) => {}
                // Too few chunk servers at this moment; the policy says how long to wait.
                Err(FsError::Unavailable(_)) if shared.may_wait(started) => {
                    shared.pause(&mut pause, Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Accepts the bytes, unless lease or chunk are missing. Answers how many, and whether they had better be durable soon.
    fn try_accept(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        handle: &Handle,
        offset: u64,
        data: &mut Bytes,
        room: &mut Room<'_>,
    ) -> Result<Option<(usize, bool)>, FsError> {
        let mut state = self.state();
        let at = if handle.flags.append { state.size } else { offset };
        if at >= FILE_BYTES_MAX {
            return Err(FsError::FileTooLarge);
        }
        data.truncate((FILE_BYTES_MAX - at).min(data.len() as u64) as usize);
        let (length, end) = (data.len(), at + data.len() as u64);
        if !state.ready_for(shared, at, end) {
            return Ok(None);
        }
        let hidden = state.accept(shared, at, data.clone());
        let crowded = self.window.available_permits() < FILE_UNACKNOWLEDGED_BYTES_MAX / 2;
        let now = handle.flags.direct || crowded;
        let sync_is_near = state.habit.wrote(handle.writer_tag()) && length <= SMALL_WRITE_BYTES_MAX;
        let out = match (sync_is_near, now) {
            // All of it leaves when it is waited for.
            (true, _) => Vec::new(),
            (false, true) => state.outgoing(Urgency::Everything),
            (false, false) => state.outgoing(Urgency::WholeFrames),
        };
        drop(state);
        // What was accepted gives its room back when it is acknowledged; what it hides, now.
        room.keep(length);
        self.give_room(shared, hidden);
        self.send(shared, out);
        self.ask_ahead(shared, end);
        Ok(Some((length, sync_is_near)))
    }

    /// Waits until so many bytes may be accepted.
    async fn room<'a>(
        self: &'a Arc<Self>,
        shared: &'a Arc<Shared>,
        bytes: usize,
    ) -> Result<Room<'a>, FsError> {
        let mut room = Room { inode: self, shared, window: 0, memory: 0 };
        if !try_take(&self.window, bytes) {
            let _hurry = Hurry::new(self);
            self.pump(shared);
            slow::hop(&shared.env, SlowHopKind::HopRoom, take(&self.window, bytes)).await?;
        }
        room.window = bytes;
        if !try_take(&shared.write_memory, bytes) {
            // Others hold the memory: everything that waits for companions anywhere leaves now.
            for inode in shared.all_inodes() {
                inode.pump_with(shared, Urgency::Everything);
            }
            slow::hop(&shared.env, SlowHopKind::HopRoom, take(&shared.write_memory, bytes)).await?;
        }
        room.memory = bytes;
        Ok(room)
    }

    pub(super) fn give_room(&self, shared: &Shared, bytes: u64) {
        if bytes > 0 {
            self.window.add_permits(bytes as usize);
            shared.write_memory.add_permits(bytes as usize);
        }
    }

    /// Lease and chunks for a write from there on (`None`: at the end), whatever is missing. Goes on by itself: a caller that goes
    /// away does not leave the work half done.
    async fn prepare(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        who: &Credentials,
        from: Option<u64>,
        length: u64,
    ) -> Result<(), FsError> {
        let (inode, shared, who) = (self.clone(), shared.clone(), who.clone());
        let work = async move { inode.prepare_all(&shared, &who, from, length).await };
        begin(slow::carry(work))
            .outcome()
            .await
            .unwrap_or_else(|_| Err(FsError::Io(String::from("the write was cut short"))))
    }

    async fn prepare_all(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        who: &Credentials,
        from: Option<u64>,
        length: u64,
    ) -> Result<(), FsError> {
        let _order = slow::hop(&shared.env, SlowHopKind::HopFile, self.order.lock()).await;
        self.renew_crowded_lease(shared).await?;
        self.ensure_lease(shared, who, from.map(|from| from / CHUNK_BYTES)).await?;
        let from = from.unwrap_or_else(|| self.state().size);
        for slot in from / CHUNK_BYTES..=(from + length.max(1) - 1) / CHUNK_BYTES {
            self.ensure_target(shared, slot).await?;
        }
        Ok(())
    }

    /// The next slot's chunk is taken before a sequential writer needs it.
    fn ask_ahead(self: &Arc<Self>, shared: &Arc<Shared>, end: u64) {
        const AHEAD: u64 = CHUNK_BYTES / 2;
        if end % CHUNK_BYTES < AHEAD || end % CHUNK_BYTES >= AHEAD + ACCEPT_BYTES_MAX as u64 {
            return;
        }
        let next = (end / CHUNK_BYTES + 1) * CHUNK_BYTES;
        // From the pool, which refills itself; when it is empty, this makes it grow.
        self.state().ready_for(shared, next, next + 1);
    }

    /// Sends what may leave.
    pub(super) fn pump(self: &Arc<Self>, shared: &Arc<Shared>) {
        self.pump_with(shared, Urgency::WholeFrames);
    }

    pub(super) fn pump_with(self: &Arc<Self>, shared: &Arc<Shared>, urgency: Urgency) {
        let out = self.state().outgoing(urgency);
        self.send(shared, out);
    }

    /// Sends everything: somebody waits for it. A few small frames leave before this returns.
    pub(super) fn hurry(self: &Arc<Self>, shared: &Arc<Shared>) {
        let out = self.state().outgoing(Urgency::Everything);
        let mut here = 0;
        for one in out {
            let small = one.job.payload.len() <= SMALL_WRITE_BYTES_MAX;
            let work = send_all(self.clone(), shared.clone(), one);
            if small && here < SENT_BY_FLUSHER_MAX {
                here += 1;
                drop(begin(work));
            } else {
                shared.spawn(work);
            }
        }
    }

    fn send(self: &Arc<Self>, shared: &Arc<Shared>, out: Vec<Outgoing>) {
        for one in out {
            shared.spawn(send_all(self.clone(), shared.clone(), one));
        }
    }

    /// Settles a frame and answers the next that this task may carry.
    fn settle(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        sent: &Outgoing,
        outcome: Result<(), StoreError>,
    ) -> Option<Outgoing> {
        let mut state = self.state();
        let mut homeless = None;
        let left = match outcome {
            // Since its writer was given up nothing syncs it: it is sent again.
            Ok(()) if state.lease == Some(sent.lease) && !state.chunk_writers.has(&sent.target) => {
                let slot = sent.job.slot();
                homeless = (!state.targets.contains_key(&slot)).then_some(slot);
                state.session.requeue(sent.job.offset)
            }
            Ok(()) => state.stored(sent),
            Err(StoreError::Unavailable(why)) if state.lease == Some(sent.lease) => {
                let slot = sent.job.slot();
                tracing::warn!(inode = %self.id, chunk = %sent.target.chunk, why, "going on in a new chunk");
                if state.targets.get(&slot).is_some_and(|target| Arc::ptr_eq(target, &sent.target)) {
                    state.targets.remove(&slot);
                }
                homeless = (!state.targets.contains_key(&slot)).then_some(slot);
                state.session.requeue(sent.job.offset)
            }
            Err(error) => {
                let length = state.session.settle(sent.job.offset).map_or(0, |job| job.payload.len() as u64);
                if state.lease == Some(sent.lease) {
                    state.fail(error.into());
                }
                length
            }
        };
        let mut out = state.outgoing(Urgency::WholeFrames);
        let crowded = state.pending.len() > UNRECORDED_EXTENTS_MAX;
        drop(state);
        self.give_room(shared, left);
        self.progress.notify_waiters();
        if let Some(slot) = homeless {
            self.rehouse(shared, slot);
        }
        if crowded {
            self.flush_in_background(shared);
        }
        let mine = if out.is_empty() { None } else { Some(out.swap_remove(0)) };
        self.send(shared, out);
        mine
    }
}

fn try_take(semaphore: &Semaphore, bytes: usize) -> bool {
    semaphore.try_acquire_many(bytes as u32).map(|permit| permit.forget()).is_ok()
}

async fn take(semaphore: &Semaphore, bytes: usize) -> Result<(), FsError> {
    semaphore.acquire_many(bytes as u32).await.map_err(|_| FsError::Stale)?.forget();
    Ok(())
}

/// Carries one frame after the other.
async fn send_all(inode: Arc<Inode>, shared: Arc<Shared>, first: Outgoing) {
    let mut next = Some(first);
    while let Some(sent) = next {
        let offset = sent.job.offset % CHUNK_BYTES;
        let payload = sent.job.payload.clone();
        let store = pin!(sent.target.store(&shared, sent.lease, offset, payload, sent.sync));
        let outcome = shared.operation("store", inode.id, store).await;
        next = inode.settle(&shared, &sent, outcome);
    }
}

/// Finds another chunk for a slot whose own is not reachable any more, as long as the policy allows.
async fn rehouse(inode: Arc<Inode>, shared: Arc<Shared>, slot: u64) {
    let started = shared.env.clock.now();
    let mut pause = LEASE_RETRY_MIN;
    loop {
        let file = inode.state().takes_chunks_for();
        let failure = match shared.pool.take(&shared, file).await {
            Ok(chunk) => {
                inode.state().targets.entry(slot).or_insert(chunk);
                inode.pump(&shared);
                return;
            }
            Err(error) => error,
        };
        if inode.state().lease.is_none() {
            return;
        }
        let temporary =
            matches!(failure, FsError::Unavailable(_) | FsError::Overloaded | FsError::TimedOut(_));
        if !temporary || !shared.may_wait(started) {
            inode.give_up(&shared, failure);
            return;
        }
        shared.pause(&mut pause, Duration::from_secs(1)).await;
    }
}

impl Inode {
    /// Finds a new chunk for a slot in the background.
    pub(super) fn rehouse(self: &Arc<Self>, shared: &Arc<Shared>, slot: u64) {
        shared.spawn(rehouse(self.clone(), shared.clone(), slot));
    }

    /// Nothing that waits to be sent can be: it is lost.
    fn give_up(&self, shared: &Shared, error: FsError) {
        let dropped = {
            let mut state = self.state();
            state.fail(error);
            state.session.abandon()
        };
        self.give_room(shared, dropped);
        self.progress.notify_waiters();
    }

    /// The session ended badly: what was not recorded is lost.
    pub(crate) fn session_lost(&self, shared: &Shared) {
        let dropped = {
            let mut state = self.state();
            if state.is_dirty() {
                state.fail(FsError::Io(String::from(
                    "the session with the master expired before written data was recorded",
                )));
            }
            state.forget_map();
            let dropped = state.drop_lease();
            // Whatever the map was, it may have changed since.
            state.map_version = u64::MAX;
            dropped
        };
        self.give_room(shared, dropped);
        self.progress.notify_waiters();
    }
}

impl Handle {
    /// Which handle it is, for a guess at how many programs write a file.
    pub(crate) fn writer_tag(&self) -> WriterTag {
        WriterTag(std::ptr::from_ref(self).addr())
    }

    /// Whether there are errors that this handle has not heard of; it has now.
    pub(crate) fn hear_of(&self, errors: u64) -> bool {
        self.errors_heard.swap(errors, Ordering::AcqRel) < errors
    }
}
