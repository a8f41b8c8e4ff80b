//! A disk's intent journal: records are queued in memory, one write and one fdatasync commits all that are queued.
//!
//! A record gets a *ticket* (a count) when it is queued. `durable` is the last ticket on stable storage. One commit job runs
//! at a time; it goes on for as long as anybody waits, so everything queued during one fdatasync shares the next.
//!
//! Space is promised before a record is made ([`Reservation`]), so a commit never finds the journal full:
//! `promised + queued + written <= segments x usable`, where usable leaves one batch of slack at a segment's end.

use super::error::StoreError;
use super::replica::Replica;
use super::settings::Settings;
use cairn_core::chunk::ReplicaKey;
use cairn_core::chunk::intent::IntentRecord;
use cairn_core::ids::{LogIndex, NodeId, Term};
use cairn_core::journal::frame::{
    BATCH_HEADER_BYTES, BatchBuilder, EntryKind, HardState, LogId, RECORD_HEADER_BYTES, Record, SECTOR_BYTES,
    SEGMENT_HEADER_BYTES, SegmentHeader,
};
use cairn_core::limits::DISK_QUEUE_MAX;
use cairn_core::seeded::{Bug, is_planted};
use cairn_env::disk::DiskFile;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::{Notify, oneshot};

/// Replicas with records in a segment; those that cannot be upgraded are gone. (Weak, because replicas own their disk.)
pub(super) type Touched = BTreeMap<ReplicaKey, Weak<Replica>>;

/// Bytes that a record takes in the journal at most: as if it were alone in its batch.
pub(super) const fn journal_bytes(record_bytes: usize) -> u64 {
    (record_bytes + RECORD_HEADER_BYTES + BATCH_HEADER_BYTES + SECTOR_BYTES) as u64
}

/// A full segment that waits to be written back.
pub(super) struct ClosedSegment {
    pub(super) slot: usize,
    pub(super) touched: Touched,
}

/// The segment being written.
pub(super) struct ActiveSegment {
    pub(super) header: SegmentHeader,
    pub(super) slot: usize,
    /// Position of the next batch.
    pub(super) position: u64,
    pub(super) chain: u64,
    pub(super) touched: Touched,
    /// Whether the last batch is a closing mark.
    pub(super) marked: bool,
}

/// What recovery found, for the journal to go on from.
pub(super) struct JournalStart {
    pub(super) files: Vec<Arc<dyn DiskFile>>,
    pub(super) active: ActiveSegment,
    pub(super) closed: VecDeque<ClosedSegment>,
    pub(super) free: VecDeque<usize>,
    pub(super) next_index: u64,
    /// Random per start; enters every batch header.
    pub(super) incarnation: u64,
    pub(super) salt_seed: u64,
    pub(super) node: NodeId,
}

struct Queued {
    bytes: Vec<u8>,
    touches: Option<(ReplicaKey, Weak<Replica>)>,
}

struct State {
    queue: Vec<Queued>,
    queued_bytes: u64,
    promised_bytes: u64,
    ticket: u64,
    durable: u64,
    waiters: Vec<(u64, oneshot::Sender<()>)>,
    committing: bool,
    rotate: bool,
    failed: bool,
    /// Write-back found the disk full: writers are refused instead of waiting for space.
    stuck: bool,
    waiting_for_space: usize,
    closed: VecDeque<ClosedSegment>,
    free: VecDeque<usize>,
    /// Position at which the active segment begins.
    active_base: u64,
    /// Bytes written to the active segment.
    active_bytes: u64,
    active_records: bool,
    writer: Option<Box<Writer>>,
}

/// What the commit job owns while it runs.
struct Writer {
    active: ActiveSegment,
    builder: BatchBuilder,
    next_index: u64,
    /// Everything below is on stable storage.
    durable: u64,
}

/// The journal of one disk.
pub(super) struct Journal {
    state: Mutex<State>,
    files: Vec<Arc<dyn DiskFile>>,
    /// Segments came free, or the journal failed.
    pub(super) space: Notify,
    /// Somebody waits for space, or a segment is full.
    pub(super) flush_wanted: Notify,
    settings: Settings,
    incarnation: u64,
    salt_seed: u64,
    node: NodeId,
}

/// Journal bytes promised to one operation; what it does not use is given back.
pub(super) struct Reservation {
    journal: Arc<Journal>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.journal.lock().promised_bytes -= self.bytes;
        self.journal.space.notify_waiters();
    }
}

impl State {
    fn nobody_waits(&self) -> bool {
        self.waiters.is_empty() && !self.rotate
    }
}

impl Journal {
    pub(super) fn new(start: JournalStart, settings: Settings) -> Arc<Self> {
        let active_bytes = start.active.position - start.active.header.base;
        let active_base = start.active.header.base;
        let active_records = !start.active.touched.is_empty();
        let durable = start.active.position;
        let writer = Writer {
            active: start.active,
            builder: BatchBuilder::default(),
            next_index: start.next_index,
            durable,
        };
        let state = State {
            queue: Vec::new(),
            queued_bytes: 0,
            promised_bytes: 0,
            ticket: 0,
            durable: 0,
            waiters: Vec::new(),
            committing: false,
            rotate: false,
            failed: false,
            stuck: false,
            waiting_for_space: 0,
            closed: start.closed,
            free: start.free,
            active_base,
            active_bytes,
            active_records,
            writer: Some(Box::new(writer)),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            files: start.files,
            space: Notify::new(),
            flush_wanted: Notify::new(),
            settings,
            incarnation: start.incarnation,
            salt_seed: start.salt_seed,
            node: start.node,
        })
    }

    /// Recovery's last step: which replicas the segments touch (closed ones in order).
    pub(super) fn set_touched(&self, closed: Vec<Touched>, active: Touched) {
        let mut state = self.lock();
        for (segment, touched) in state.closed.iter_mut().zip(closed) {
            segment.touched = touched;
        }
        state.active_records = !active.is_empty();
        if let Some(writer) = &mut state.writer {
            writer.active.touched = active;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the journal's lock panics")
    }

    /// Waits until `bytes` of journal are promised. Data leaves the reserve to commands.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: u64, data: bool) -> Result<Reservation, StoreError> {
        loop {
            let freed = self.space.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.failed {
                    return Err(StoreError::DiskFailed);
                }
                if self.fits(&state, bytes, data) {
                    state.promised_bytes += bytes;
                    return Ok(Reservation { journal: Arc::clone(self), bytes });
                }
                if state.stuck {
                    return Err(StoreError::DiskFull);
                }
                if state.waiting_for_space >= DISK_QUEUE_MAX {
                    return Err(StoreError::Overloaded);
                }
                state.waiting_for_space += 1;
            }
            self.flush_wanted.notify_one();
            let _counted = WaitingForSpace(self);
            freed.await;
        }
    }

    /// Promises a command's few bytes when there is room, without waiting.
    pub(super) fn try_reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut state = self.lock();
        (!state.failed && self.fits(&state, bytes, false)).then(|| {
            state.promised_bytes += bytes;
            Reservation { journal: Arc::clone(self), bytes }
        })
    }

    fn fits(&self, state: &State, bytes: u64, data: bool) -> bool {
        let room = self.usable() * state.free.len() as u64 + self.usable().saturating_sub(state.active_bytes);
        let reserve = if data { self.settings.reserve_bytes } else { 0 };
        state.promised_bytes + state.queued_bytes + bytes + reserve <= room
    }

    /// Queues a record; it is durable when [`Journal::wait`] for the ticket returns. Callers hold the replica's state lock, so that
    /// the order of records is the order of states.
    pub(super) fn append<B: AsRef<[u8]>>(
        &self,
        reservation: &mut Reservation,
        record: &IntentRecord<B>,
        touches: Option<&Arc<Replica>>,
    ) -> u64 {
        let mut bytes = Vec::with_capacity(record.encoded_bytes());
        record.encode(&mut bytes);
        let cost = journal_bytes(bytes.len());
        assert!(cost <= reservation.bytes, "a record must have been reserved");
        reservation.bytes -= cost;
        let mut state = self.lock();
        state.promised_bytes -= cost;
        state.queued_bytes += cost;
        state.ticket += 1;
        state
            .queue
            .push(Queued { bytes, touches: touches.map(|replica| (replica.key, Arc::downgrade(replica))) });
        state.ticket
    }

    /// The ticket of the last record queued.
    pub(super) fn last_ticket(&self) -> u64 {
        self.lock().ticket
    }

    /// Registers for `ticket`. Returns whom to await (`None`: durable already) and whether a commit job must be started.
    pub(super) fn register(&self, ticket: u64) -> Result<(Option<oneshot::Receiver<()>>, bool), StoreError> {
        let mut state = self.lock();
        if state.durable >= ticket {
            return Ok((None, false));
        }
        if state.failed {
            return Err(StoreError::DiskFailed);
        }
        let (done, wait) = oneshot::channel();
        state.waiters.push((ticket, done));
        let start = !std::mem::replace(&mut state.committing, true);
        Ok((Some(wait), start))
    }

    /// Asks for the active segment to be closed. Returns whom to await and whether a commit job must be started.
    pub(super) fn register_rotation(&self) -> Option<(oneshot::Receiver<()>, bool)> {
        let mut state = self.lock();
        // Records of no replica (terms) and closing marks alone are worth it only when they fill the segment.
        let filled = state.active_bytes > self.settings.segment_bytes / 2;
        let idle = !state.active_records && state.queue.is_empty() && !filled;
        if state.failed || idle || state.free.is_empty() {
            return None;
        }
        state.rotate = true;
        let (done, wait) = oneshot::channel();
        let ticket = state.ticket;
        state.waiters.push((ticket, done));
        let start = !std::mem::replace(&mut state.committing, true);
        Some((wait, start))
    }

    /// Whether there are records that are not written back.
    pub(super) fn has_records(&self) -> bool {
        let state = self.lock();
        state.active_records || !state.queue.is_empty() || !state.closed.is_empty()
    }

    /// Whether a segment waits to be written back.
    pub(super) fn has_closed(&self) -> bool {
        !self.lock().closed.is_empty()
    }

    /// Whether nobody waits for space, and nobody will when the active segment is full.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.waiting_for_space == 0 && !state.free.is_empty()
    }

    /// The commit job: runs until nobody waits. Blocks.
    ///
    /// # Errors
    /// The disk's; the journal has failed then, and every waiter was told.
    pub(super) fn commit(&self) -> io::Result<()> {
        while self.commit_round()? {}
        Ok(())
    }

    /// One write and one fdatasync for all that is queued. False when nobody waited: the commit job is over; else it must
    /// go on with another round. Blocks.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub(super) fn commit_round(&self) -> io::Result<bool> {
        let (queue, mut writer, rotate, upto) = {
            let mut state = self.lock();
            if state.failed || state.nobody_waits() {
                state.committing = false;
                return Ok(false);
            }
            let writer = state.writer.take().expect("the one commit job has the writer");
            let queue = std::mem::take(&mut state.queue);
            (queue, writer, std::mem::take(&mut state.rotate), state.ticket)
        };
        let cost: u64 = queue.iter().map(|record| journal_bytes(record.bytes.len())).sum();
        let result = self.write(&mut writer, queue, rotate.then_some(cost));
        let mut state = self.lock();
        // Together, so that no reservation sees the space twice.
        state.queued_bytes -= cost;
        state.active_bytes = writer.active.position - writer.active.header.base;
        state.active_records = !writer.active.touched.is_empty();
        state.writer = Some(writer);
        if let Err(error) = result {
            state.committing = false;
            drop(state);
            self.fail();
            return Err(error);
        }
        state.durable = upto;
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiters).into_iter().partition(|waiter| waiter.0 <= upto);
        state.waiters = rest;
        let over = state.nobody_waits();
        state.committing = !over;
        drop(state);
        for (_, waiter) in done {
            // A cancelled operation no longer listens.
            let _ = waiter.send(());
        }
        Ok(!over)
    }

    /// With `rotate`, the cost of `queue`: closes the active segment afterwards when all that was promised fits the others.
    fn write(&self, writer: &mut Writer, queue: Vec<Queued>, rotate: Option<u64>) -> io::Result<()> {
        for record in queue {
            let bytes = &record.bytes;
            if writer.builder.open_records() > 0
                && writer.builder.open_bytes_with(bytes.len()) > self.settings.batch_bytes
            {
                self.write_batch(writer)?;
            }
            let id = LogId { index: LogIndex(writer.next_index), term: Term(0) };
            writer.next_index += 1;
            writer.builder.push(&Record::Entry { id, kind: EntryKind::Normal, data: bytes });
            if let Some((key, replica)) = record.touches {
                writer.active.touched.insert(key, replica);
            }
        }
        if writer.builder.open_records() > 0 {
            self.write_batch(writer)?;
        }
        self.sync(writer)?;
        let begun = writer.active.position > writer.active.header.base + SEGMENT_HEADER_BYTES as u64;
        if let Some(cost) = rotate.filter(|_| begun)
            && let Some(slot) = self.slot_for_rotation(cost)
        {
            self.next_segment(writer, slot)?;
            self.sync(writer)?;
        }
        Ok(())
    }

    /// A segment to go on in although the active one is not full: only if what was promised does not need its rest.
    fn slot_for_rotation(&self, written_cost: u64) -> Option<usize> {
        let mut state = self.lock();
        let room = self.usable() * state.free.len() as u64;
        let needed = state.promised_bytes + state.queued_bytes - written_cost;
        if needed > room {
            return None;
        }
        let slot = state.free.pop_front()?;
        state.active_bytes = SEGMENT_HEADER_BYTES as u64;
        Some(slot)
    }

    fn usable(&self) -> u64 {
        self.settings.segment_bytes - self.settings.batch_bytes as u64 - SEGMENT_HEADER_BYTES as u64
    }

    fn sync(&self, writer: &mut Writer) -> io::Result<()> {
        if !is_planted(Bug::SkipIntentSync) {
            self.files[writer.active.slot].sync_data()?;
        }
        writer.durable = writer.active.position;
        Ok(())
    }

    /// Writes the open batch, into the next segment when it does not fit.
    fn write_batch(&self, writer: &mut Writer) -> io::Result<()> {
        let bytes = writer.builder.open_bytes_with(0) as u64;
        let used = writer.active.position - writer.active.header.base;
        if used + bytes > self.settings.segment_bytes {
            // Records of the open batch belong to the segment that they are written to; those of the closed one are a superset,
            // which costs a needless look at write-back and no more.
            let carried = writer.active.touched.clone();
            self.sync(writer)?;
            let slot = self.lock().free.pop_front();
            let slot = slot.ok_or_else(|| io::Error::other("intent journal has no free segment"))?;
            self.next_segment(writer, slot)?;
            writer.active.touched = carried;
        }
        self.write_sealed(writer)
    }

    fn write_sealed(&self, writer: &mut Writer) -> io::Result<()> {
        let active = &mut writer.active;
        let hard = HardState { vote: self.incarnation, ..HardState::default() };
        let sealed =
            writer.builder.seal(active.header.salt, active.position, writer.durable, active.chain, hard);
        let offset = active.position - active.header.base;
        self.files[active.slot].write_all_at(writer.builder.sealed(), offset)?;
        writer.builder.clear(self.settings.batch_bytes);
        active.chain = sealed.next_chain();
        active.position += sealed.padded_bytes() as u64;
        active.marked = sealed.records == 0;
        Ok(())
    }

    /// Closes the active segment and writes the header of the next. Everything written so far has been synced.
    fn next_segment(&self, writer: &mut Writer, slot: usize) -> io::Result<()> {
        let old = &writer.active;
        let number = old.header.number + 1;
        let header = SegmentHeader {
            number,
            base: old.position,
            salt: self.salt_seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            chain: old.chain,
            hard: HardState::default(),
            last: LogId { index: LogIndex(writer.next_index), term: Term(0) },
            node: self.node,
        };
        self.files[slot].write_all_at(&header.encode(), 0)?;
        let next = ActiveSegment {
            slot,
            position: header.base + SEGMENT_HEADER_BYTES as u64,
            chain: header.chain,
            header,
            touched: Touched::new(),
            marked: false,
        };
        let old = std::mem::replace(&mut writer.active, next);
        let mut state = self.lock();
        state.active_base = writer.active.header.base;
        state.closed.push_back(ClosedSegment { slot: old.slot, touched: old.touched });
        drop(state);
        self.flush_wanted.notify_one();
        Ok(())
    }

    /// Writes a closing mark when the journal is idle, so that damage to the last batch can be told from a torn tail. Blocks.
    ///
    /// # Errors
    /// The disk's; the journal has failed then.
    pub(super) fn closing_mark(&self, sync: bool) -> io::Result<()> {
        let mut state = self.lock();
        if state.committing || state.failed {
            return Ok(());
        }
        let fits = self.fits(&state, SECTOR_BYTES as u64, false);
        let Some(mut writer) = state.writer.take() else { return Ok(()) };
        state.committing = true;
        let mark = fits && !writer.active.marked;
        if mark {
            state.active_bytes += SECTOR_BYTES as u64;
        }
        drop(state);
        let mut result = Ok(());
        if mark {
            result = self.write_sealed(&mut writer);
        }
        if sync && result.is_ok() {
            result = self.sync(&mut writer);
        }
        let mut state = self.lock();
        state.active_bytes = writer.active.position - writer.active.header.base;
        state.writer = Some(writer);
        drop(state);
        match result {
            // Operations may have come to wait meanwhile.
            Ok(()) => self.commit(),
            Err(error) => {
                self.fail();
                Err(error)
            }
        }
    }

    /// Takes the closed segments for write-back, with the position below which nothing will be needed afterwards.
    pub(super) fn take_closed(&self) -> Option<(Vec<ClosedSegment>, u64)> {
        let mut state = self.lock();
        let closed: Vec<_> = std::mem::take(&mut state.closed).into();
        (!closed.is_empty()).then_some((closed, state.active_base))
    }

    /// Gives segments back after write-back: free when `written_back`, else closed as before.
    pub(super) fn give_back(&self, segments: Vec<ClosedSegment>, written_back: bool, disk_full: bool) {
        let mut state = self.lock();
        if written_back {
            // The oldest is used first.
            state.free.extend(segments.into_iter().map(|segment| segment.slot));
        } else {
            segments.into_iter().rev().for_each(|segment| state.closed.push_front(segment));
        }
        state.stuck = disk_full;
        drop(state);
        self.space.notify_waiters();
    }

    /// Nothing is acknowledged from now on.
    pub(super) fn fail(&self) {
        let mut state = self.lock();
        state.failed = true;
        state.waiters.clear();
        drop(state);
        self.space.notify_waiters();
    }
}

/// Takes a waiter out of the count, also when it is cancelled.
struct WaitingForSpace<'a>(&'a Arc<Journal>);

impl Drop for WaitingForSpace<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting_for_space -= 1;
    }
}
