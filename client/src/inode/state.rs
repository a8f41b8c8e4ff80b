//! What is known and what is dirty of one inode, and the moves between the two. No waiting happens here.

use super::places::Places;
use super::writers::Writers;
use crate::shared::Shared;
use crate::write::ChunkWriter;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, InodeId, LeaseNumber, PolicyId};
use cairn_core::io::extent_map::ExtentMap;
use cairn_core::io::ranges::Ranges;
use cairn_core::io::sync_habit::SyncHabit;
use cairn_core::io::write_session::{Job, Urgency, WriteSession};
use cairn_core::limits::{FILE_IN_FLIGHT_BYTES_MAX, SMALL_WRITE_BYTES_MAX};
use cairn_core::namespace::answer::{ChunkLocation, Map};
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::request::{Credentials, Extent};
use cairn_core::time::{Tick, Timestamp};
use cairn_core::units::CHUNK_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything under the state lock of an inode.
pub(super) struct State {
    pub(super) inode: InodeId,
    /// The newest attributes that the master told.
    pub(super) attr: Attr,
    /// The length as this client sees it; ahead of `attr` while bytes are unrecorded.
    pub(super) size: u64,
    /// Time of the last write that is not yet recorded.
    pub(super) touched: Option<Timestamp>,

    /// The map, own unrecorded extents included.
    pub(super) map: ExtentMap,
    pub(super) known: Ranges,
    pub(super) places: Places,
    /// The `data_change` that `map` belongs to.
    pub(super) map_version: u64,
    /// Grows whenever bytes read earlier may no longer be right.
    pub(super) epoch: u64,

    pub(super) lease: Option<LeaseNumber>,
    /// The lease that the master was last told to take, and may still name.
    pub(super) returned: Option<LeaseNumber>,
    /// The file must come to rest: no bytes are accepted.
    pub(super) resting: bool,
    /// By slot, the chunk that takes new bytes.
    pub(super) targets: BTreeMap<u64, Arc<ChunkWriter>>,
    /// Of each chunk the one that has sent something.
    pub(super) chunk_writers: Writers,
    /// Attached chunks that the lease names.
    pub(super) marked: BTreeSet<ChunkId>,

    pub(super) session: WriteSession,
    /// Acknowledged and not yet recorded.
    pub(super) pending: ExtentMap,
    /// Bytes that a flush has taken from there and not recorded yet.
    pub(super) recording_bytes: u64,
    /// Chunks with acknowledged bytes that are not yet durable.
    pub(super) unsynced: BTreeMap<ChunkId, Arc<ChunkWriter>>,
    /// Something failed under this lease: replicas may differ.
    pub(super) failed: bool,
    /// Bytes were stored since the last Commit.
    pub(super) modified: bool,
    pub(super) dirty_since: Option<Tick>,
    /// Somebody waits for everything to leave: flushers, and writers without room.
    pub(super) hurried: u32,
    /// Whether syncs follow writes.
    pub(super) habit: SyncHabit,

    pub(super) errors: u64,
    pub(super) error: Option<FsError>,
    pub(super) opens: u32,
    pub(super) writers: u32,
    /// The last writer: the rules about setuid depend on it.
    pub(super) who: Credentials,
}

/// A frame to send.
pub(super) struct Outgoing {
    pub(super) job: Job,
    pub(super) target: Arc<ChunkWriter>,
    pub(super) lease: LeaseNumber,
    pub(super) sync: bool,
}

impl State {
    pub(super) fn new(attr: &Attr) -> Self {
        let mut known = Ranges::default();
        if attr.size == 0 {
            known.insert(0, u64::MAX);
        }
        Self {
            inode: attr.inode,
            attr: attr.clone(),
            size: attr.size,
            touched: None,
            map: ExtentMap::default(),
            known,
            places: Places::default(),
            map_version: attr.data_change,
            epoch: 0,
            lease: None,
            returned: None,
            resting: false,
            targets: BTreeMap::new(),
            chunk_writers: Writers::default(),
            marked: BTreeSet::new(),
            session: WriteSession::default(),
            pending: ExtentMap::default(),
            recording_bytes: 0,
            unsynced: BTreeMap::new(),
            failed: false,
            modified: false,
            dirty_since: None,
            hurried: 0,
            habit: SyncHabit::default(),
            errors: 0,
            error: None,
            opens: 0,
            writers: 0,
            who: Credentials::default(),
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.modified || !self.session.is_idle() || !self.pending.is_empty() || !self.unsynced.is_empty()
    }

    /// Attributes read from the master. Without the lease they rule; with it, length and data are ours alone.
    pub(super) fn absorb(&mut self, attr: &Attr) {
        if attr.change < self.attr.change {
            return;
        }
        self.attr = attr.clone();
        if self.lease.is_none() {
            self.rebase(attr);
        }
    }

    /// Makes length and map agree with `attr`, whoever changed them.
    pub(super) fn rebase(&mut self, attr: &Attr) {
        if attr.data_change != self.map_version {
            self.forget_map();
            self.map_version = attr.data_change;
        }
        self.size = attr.size;
        if attr.size == 0 {
            self.known.insert(0, u64::MAX);
        }
    }

    /// Attributes after an operation of ours. Under the lease nobody else can have changed the data.
    pub(super) fn absorb_own(&mut self, shared: &Shared, attr: &Attr) {
        if self.lease.is_some() {
            shared.views.advance(self.inode, self.map_version, attr.data_change);
            self.map_version = attr.data_change;
        }
        self.absorb(attr);
    }

    pub(super) fn forget_map(&mut self) {
        self.map.clear();
        self.known.clear();
        self.places.clear();
        self.epoch += 1;
    }

    /// Takes over a stretch of map that starts at `from` and was read when the data was at `version`. False when that
    /// is not the version that the rest of the map is of.
    pub(super) fn learn(&mut self, from: u64, version: u64, map: &Map) -> bool {
        if version != self.map_version {
            return false;
        }
        let size = map.attr.as_ref().map_or(self.attr.size, |attr| attr.size);
        // Nothing is mapped beyond the end.
        let to = if map.complete_to >= size { u64::MAX } else { map.complete_to };
        while let Some((gap, end)) = self.known.first_gap(from, to) {
            for extent in &map.extents {
                let start = extent.offset.max(gap);
                let stop = (extent.offset + extent.length).min(end);
                if start < stop {
                    let chunk_offset = extent.chunk_offset + (start - extent.offset);
                    self.map.insert(Extent {
                        offset: start,
                        length: stop - start,
                        chunk: extent.chunk,
                        chunk_offset,
                    });
                }
            }
            self.known.insert(gap, end);
        }
        for location in &map.chunks {
            self.place(location.clone());
        }
        true
    }

    pub(super) fn place(&mut self, location: ChunkLocation) {
        // This client's own lease does not keep it from any replica: it knows what is acknowledged.
        let location =
            ChunkLocation { write_leased: location.write_leased && self.lease.is_none(), ..location };
        self.places.learn(location);
    }

    /// What writers know of their chunks is known to readers: a sync, or a write that has not ended, may have left a server behind
    /// that would still answer a read of the old version. Before anything is read, and before a writer is forgotten.
    pub(super) fn heed_writers(&mut self) {
        let places = &self.places;
        let is_news = |chunk, version| places.get(&chunk).is_some_and(|known| known.version < version);
        for location in self.chunk_writers.news(is_news) {
            self.place(location);
        }
    }

    pub(super) fn overlay(&self, attr: Attr) -> Attr {
        if self.lease.is_none() {
            return attr;
        }
        let mut attr = attr;
        attr.size = self.size;
        // Of newer data only a Commit of ours can be the cause, which may have set the time as well.
        let is_recorded = attr.data_change > self.map_version;
        if let Some(touched) = self.touched.filter(|_| !is_recorded)
            && touched > attr.mtime
        {
            attr.mtime = touched;
            attr.ctime = attr.ctime.max(touched);
        }
        if self.is_dirty() {
            let unsent: u64 = self.session.bytes();
            attr.mapped_bytes =
                (attr.mapped_bytes + self.pending.bytes() + unsent).min(self.size.max(attr.mapped_bytes));
        }
        attr
    }

    /// Whether bytes may be accepted for every slot of `from .. to`. Slots beyond the end take a chunk from the pool.
    pub(super) fn ready_for(&mut self, shared: &Arc<Shared>, from: u64, to: u64) -> bool {
        if self.lease.is_none() || self.resting {
            return false;
        }
        for slot in from / CHUNK_BYTES..=(to.max(from + 1) - 1) / CHUNK_BYTES {
            if let Some(target) = self.targets.get(&slot) {
                if self.may_write(target) {
                    continue;
                }
                return false;
            }
            let start = slot * CHUNK_BYTES;
            let empty = self.known.first_gap(start, start + CHUNK_BYTES).is_none()
                && self.map.within(start, start + CHUNK_BYTES).next().is_none();
            if !empty {
                return false;
            }
            match shared.pool.try_take(shared, self.takes_chunks_for()) {
                Some(chunk) => self.targets.insert(slot, chunk),
                None => return false,
            };
        }
        true
    }

    /// What new chunks are allocated for.
    pub(super) fn takes_chunks_for(&self) -> (InodeId, PolicyId) {
        (self.inode, self.attr.policy)
    }

    /// Bytes that are part of the file already are overwritten only after the lease names their chunk.
    pub(super) fn may_write(&self, target: &ChunkWriter) -> bool {
        !target.is_attached() || self.marked.contains(&target.chunk)
    }

    /// Accepts bytes. Answers those of earlier writes that will now never be sent.
    pub(super) fn accept(&mut self, shared: &Shared, offset: u64, bytes: Bytes) -> u64 {
        let now = shared.env.clock.now();
        self.dirty_since.get_or_insert(now);
        self.touched = Some(shared.env.clock.wall());
        self.size = self.size.max(offset + bytes.len() as u64);
        self.epoch += 1;
        self.session.write(now, offset, bytes)
    }

    /// The frames that may leave now.
    pub(super) fn outgoing(&mut self, urgency: Urgency) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let Some(lease) = self.lease else { return out };
        let urgency = if self.hurried > 0 { Urgency::Everything } else { urgency };
        while self.session.bytes_in_flight() < FILE_IN_FLIGHT_BYTES_MAX {
            let targets = &self.targets;
            let Some(job) = self.session.next_job(urgency, |slot| targets.contains_key(&slot)) else { break };
            let target = self.targets[&job.slot()].clone();
            self.chunk_writers.note(&target);
            out.push(Outgoing { job, target, lease, sync: false });
        }
        if self.hurried > 0 {
            self.make_durable(&mut out);
        }
        out
    }

    /// Somebody waits for these frames to be durable: where a server may do both in one go, one round trip instead of two.
    /// Small ones share the sync of the disk's journal; of large ones only one that is alone, since each would sync its file.
    fn make_durable(&self, out: &mut [Outgoing]) {
        let alone = self.session.all_sent() && self.session.jobs_in_flight() == 1;
        for one in out {
            let cheap = alone || one.job.payload.len() <= SMALL_WRITE_BYTES_MAX;
            // Else a sync of the chunk follows in any case.
            one.sync = cheap && !self.unsynced.contains_key(&one.target.chunk);
        }
    }

    /// A frame is stored on all replicas. Answers the bytes that left memory.
    pub(super) fn stored(&mut self, sent: &Outgoing) -> u64 {
        let Some(job) = self.session.settle(sent.job.offset) else { return 0 };
        let length = job.payload.len() as u64;
        if self.lease != Some(sent.lease) {
            // The lease was lost meanwhile, and that was told as an error.
            return length;
        }
        let chunk = sent.target.chunk;
        let extent = Extent { offset: job.offset, length, chunk, chunk_offset: job.offset % CHUNK_BYTES };
        if !self.map.holds(&extent) {
            self.map.insert(extent);
            self.pending.insert(extent);
            self.known.insert(extent.offset, extent.offset + length);
        }
        let location = sent.target.location();
        if self.places.get(&chunk).is_none_or(|known| known.version != location.version) {
            self.place(location);
        }
        self.modified = true;
        if !sent.sync {
            self.unsynced.insert(chunk, sent.target.clone());
        }
        length
    }

    /// Something accepted is lost: the next write, sync and close of every handle say so.
    pub(super) fn fail(&mut self, error: FsError) {
        tracing::error!(inode = %self.inode, %error, "written data is lost");
        self.errors += 1;
        self.failed = true;
        self.error = Some(error);
        self.epoch += 1;
    }

    /// The lease is gone. Answers the bytes that were waiting to be sent. Frames under way settle by themselves.
    pub(super) fn drop_lease(&mut self) -> u64 {
        self.heed_writers();
        self.lease = None;
        self.targets.clear();
        self.chunk_writers.clear();
        self.marked.clear();
        self.pending.clear();
        self.unsynced.clear();
        self.failed = false;
        self.modified = false;
        self.touched = None;
        self.dirty_since = None;
        self.session.abandon()
    }

    /// After bytes were unmapped: attached chunks without any extent left are being deleted.
    pub(super) fn retain_targets(&mut self) {
        let map = &self.map;
        self.targets.retain(|slot, target| {
            let start = slot * CHUNK_BYTES;
            !target.is_attached()
                || map.within(start, start + CHUNK_BYTES).any(|extent| extent.chunk == target.chunk)
        });
    }
}
