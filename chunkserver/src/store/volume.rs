//! One disk at work: its journal, its space, its health, and the threads that may block in it.

use super::commit_pace::CommitPace;
use super::copies::Copies;
use super::error::StoreError;
use super::files::{OpenFile, OpenFiles};
use super::journal::Journal;
use super::pace::Pace;
use super::replica::Replica;
use super::scrub::Desk;
use super::types::{DiskConfig, DiskState, DiskStatusReport, ReadTerms, StoreEvent};
use super::vacate::Vacating;
use super::write_back::CatalogueWriter;
use cairn_core::chunk::ReplicaKey;
use cairn_core::chunk::replica_file::file_name;
use cairn_core::cluster::disk_health::{DiskPace, DiskWork};
use cairn_core::ids::{DiskId, Term};
use cairn_core::limits::{DISK_CALLS_MAX, DISK_QUEUE_MAX, QUICK_COMMITS_IN_A_ROW_MAX};
use cairn_core::units::BLOCK_BYTES;
use cairn_env::Env;
use cairn_env::disk::{Disk, OpenMode, of_sync};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that a new replica takes besides its blocks: header, one block of table, the file system's own.
pub(super) const REPLICA_OVERHEAD_BYTES: u64 = 4 * BLOCK_BYTES;

/// Written now and then while a disk is slow; holds nothing.
const TRIAL_FILE: &str = "trial";

/// Which queue of a disk a call stands in: reads are not held up by syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Read,
    Write,
}

/// A disk that opened.
pub(super) struct Volume {
    pub(super) index: usize,
    pub(super) config: DiskConfig,
    pub(super) disk_id: DiskId,
    pub(super) env: Env,
    pub(super) journal: Arc<Journal>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) catalogue: tokio::sync::Mutex<CatalogueWriter>,
    pub(super) term: AtomicU64,
    pub(super) space: Space,
    pub(super) known_folders: Mutex<BTreeSet<String>>,
    pub(super) events: mpsc::Sender<StoreEvent>,
    /// Blocks of a replica that a write-back writes in one go.
    pub(super) portion_blocks: usize,
    pub(super) scrub: Arc<Desk>,
    commit_pace: CommitPace,
    pub(super) pace: Pace,
    pub(super) copies: Copies,
    pub(super) vacating: Arc<Vacating>,
    failure: OnceLock<String>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    waiting: AtomicUsize,
    _lock: Box<dyn Send + Sync>,
}

/// Space of a disk, from the last look at the file system and what was taken since.
#[derive(Default)]
pub(super) struct Space {
    pub(super) total: AtomicU64,
    pub(super) free_at_look: AtomicU64,
    pub(super) taken_since: AtomicU64,
    /// Journaled blocks that will need room in files.
    pub(super) staged_blocks: AtomicI64,
    pub(super) stored_blocks: AtomicI64,
    pub(super) replicas: AtomicI64,
}

/// What [`Volume::new`] needs from recovery.
pub(super) struct VolumeParts {
    pub(super) index: usize,
    pub(super) config: DiskConfig,
    pub(super) disk_id: DiskId,
    pub(super) env: Env,
    pub(super) journal: Arc<Journal>,
    pub(super) files: Arc<OpenFiles>,
    pub(super) catalogue: CatalogueWriter,
    pub(super) term: Term,
    pub(super) known_folders: BTreeSet<String>,
    pub(super) events: mpsc::Sender<StoreEvent>,
    pub(super) portion_blocks: usize,
    pub(super) scrub: Arc<Desk>,
    pub(super) lock: Box<dyn Send + Sync>,
}

impl Volume {
    pub(super) fn new(parts: VolumeParts) -> Arc<Self> {
        Arc::new(Self {
            index: parts.index,
            config: parts.config,
            disk_id: parts.disk_id,
            env: parts.env,
            journal: parts.journal,
            files: parts.files,
            catalogue: tokio::sync::Mutex::new(parts.catalogue),
            term: AtomicU64::new(parts.term.get()),
            space: Space::default(),
            known_folders: Mutex::new(parts.known_folders),
            events: parts.events,
            portion_blocks: parts.portion_blocks,
            scrub: parts.scrub,
            commit_pace: CommitPace::default(),
            pace: Pace::default(),
            copies: Copies::default(),
            vacating: Arc::default(),
            failure: OnceLock::new(),
            reads: Arc::new(Semaphore::new(DISK_CALLS_MAX)),
            writes: Arc::new(Semaphore::new(DISK_CALLS_MAX)),
            waiting: AtomicUsize::new(0),
            _lock: parts.lock,
        })
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.env.disk
    }

    /// Runs blocking work beside the runtime.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        queue: Queue,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= DISK_QUEUE_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Overloaded);
        }
        let waiting = Waiting(Arc::clone(self));
        let queue = if queue == Queue::Read { &self.reads } else { &self.writes };
        let turn = Arc::clone(queue).acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        let work = move || {
            let _held = (turn, waiting);
            work()
        };
        let spawn = Arc::clone(&self.env.spawn);
        spawn.blocking(work).await.map_err(|lost| StoreError::Io(lost.to_string()))
    }

    /// As [`Volume::call`], for a read: measured, and not begun when nobody waits for it any more, or when the disk is slow and
    /// others can serve it.
    pub(super) async fn read_call<T: Send + 'static>(
        self: &Arc<Self>,
        terms: ReadTerms,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if terms.may_decline && self.pace.declines(self.env.clock.now()) {
            return Err(StoreError::SlowDisk);
        }
        let volume = Arc::clone(self);
        let timed = move || {
            let now = || volume.env.clock.now();
            if terms.deadline.is_some_and(|deadline| now() >= deadline) {
                return Err(StoreError::Expired);
            }
            let number = volume.pace.begin(DiskWork::Read, now());
            let outcome = work();
            volume.pace.end(number, now());
            Ok(outcome)
        };
        self.call(Queue::Read, timed).await?
    }

    /// Waits until the journal record of `ticket` is durable.
    pub(super) async fn durable(self: &Arc<Self>, ticket: u64) -> Result<(), StoreError> {
        let (wait, start) = self.journal.register(ticket)?;
        if start {
            self.start_commit();
        }
        match wait {
            None => Ok(()),
            Some(wait) => wait.await.map_err(|_| StoreError::DiskFailed),
        }
    }

    /// Starts making `ticket` durable; somebody waits later.
    pub(super) fn hasten(self: &Arc<Self>, ticket: u64) -> Result<(), StoreError> {
        if self.journal.register(ticket)?.1 {
            self.start_commit();
        }
        Ok(())
    }

    /// Begins the commit job: here when the disk answers sooner than another thread would.
    pub(super) fn start_commit(self: &Arc<Self>) {
        for _ in 0..QUICK_COMMITS_IN_A_ROW_MAX {
            if !self.commit_pace.is_quick() {
                break;
            }
            if !self.commit_round() {
                return;
            }
        }
        let volume = Arc::clone(self);
        self.env.spawn.start_blocking(Box::new(move || while volume.commit_round() {}));
    }

    /// Whether another round is due.
    fn commit_round(&self) -> bool {
        let begun = self.env.clock.now();
        let number = self.pace.begin(DiskWork::Sync, begun);
        let round = self.journal.commit_round();
        let ended = self.env.clock.now();
        self.pace.end(number, ended);
        match round {
            Ok(more) => {
                self.commit_pace.took(ended.since(begun));
                more
            }
            Err(error) => {
                self.fail(&format!("intent journal: {error}"));
                false
            }
        }
    }

    /// The disk is not to be written again (I3).
    pub(super) fn fail(&self, detail: &str) {
        self.journal.fail();
        if self.failure.set(detail.to_owned()).is_ok() {
            tracing::error!(disk = %self.disk_id, path = %self.config.path.display(), detail, "disk failed");
            let path = self.config.path.clone();
            let event = StoreEvent::DiskFailed { disk: self.disk_id, path, detail: detail.to_owned() };
            // Full: the state itself is in `disks()`.
            let _ = self.events.try_send(event);
        }
    }

    /// The system failed to read of a replica. Where it fails for one after the other, the disk has failed.
    pub(super) fn read_failed(&self, replica: ReplicaKey, detail: &str) {
        if self.pace.read_failed(replica) {
            self.fail(&format!("reads fail: {detail}"));
        }
    }

    /// A small durable write, for its pace alone.
    pub(super) async fn try_out(self: &Arc<Self>) {
        let volume = Arc::clone(self);
        let attempt = move || {
            let number = volume.pace.begin(DiskWork::Sync, volume.env.clock.now());
            let written =
                volume.disk().open(&volume.config.path.join(TRIAL_FILE), OpenMode::Create).and_then(|file| {
                    file.write_all_at(&[0; BLOCK_BYTES as usize], 0)?;
                    file.sync_data()
                });
            volume.pace.end(number, volume.env.clock.now());
            if let Err(error) = written {
                // A full disk is none of its business; anything else is noted as for other writes.
                let _ = volume.write_failed("trial", &error);
            }
        };
        // Overloaded or stopping: the next one will do.
        let _ = self.call(Queue::Write, attempt).await;
    }

    /// Whether it has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Judges the pace; tells when that changes the state.
    pub(super) fn look_at_pace(&self, peers: DiskPace) {
        let detail = match self.pace.look(peers, self.env.clock.now()) {
            Ok(None) => return,
            Ok(Some(detail)) => detail,
            Err(hangs) => return self.fail(&hangs),
        };
        let (disk, path) = (self.disk_id, self.config.path.clone());
        tracing::warn!(%disk, path = %path.display(), detail, "the pace of a disk has changed");
        // Full: the state itself is in `disks()`.
        let _ = self.events.try_send(StoreEvent::DiskPaceChanged { disk, path, detail });
    }

    /// Refuses what a failed disk may not do.
    pub(super) fn check_alive(&self) -> Result<(), StoreError> {
        if self.has_failed() { Err(StoreError::DiskFailed) } else { Ok(()) }
    }

    /// What a failed write means: a full disk is refused, everything else fails the disk.
    pub(super) fn write_failed(&self, what: &str, error: &io::Error) -> StoreError {
        if is_full(error) {
            self.space.free_at_look.store(0, Ordering::Relaxed);
            return StoreError::DiskFull;
        }
        self.fail(&format!("{what}: {error}"));
        StoreError::DiskFailed
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.config.path.join("chunks").join(name)
    }

    pub(super) fn replica_path(&self, key: ReplicaKey) -> PathBuf {
        let (folder, name) = file_name(key.chunk, key.part);
        self.folder(&folder).join(name)
    }

    /// Opens a replica's file for writing, making it when absent. Blocks.
    pub(super) fn open_to_write(&self, key: ReplicaKey) -> Result<Arc<OpenFile>, StoreError> {
        let open = || {
            let (folder, name) = file_name(key.chunk, key.part);
            self.make_folder(&folder)?;
            self.disk().open(&self.folder(&folder).join(name), OpenMode::Create)
        };
        let file = self.files.get_or_open(self.index, key, true, open);
        file.map_err(|error| self.write_failed("open replica file", &error))
    }

    /// Makes a folder of replica files, durably. Blocks.
    pub(super) fn make_folder(&self, folder: &str) -> io::Result<()> {
        let mut known = self.known_folders.lock().expect("no holder of the folder list panics");
        if !known.contains(folder) {
            self.disk().create_dir_all(&self.folder(folder))?;
            self.disk().sync_dir(&self.config.path.join("chunks")).map_err(of_sync)?;
            known.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Bytes that new data may still take.
    pub(super) fn free_bytes(&self) -> u64 {
        let space = &self.space;
        let staged = space.staged_blocks.load(Ordering::Relaxed).max(0) as u64 * BLOCK_BYTES;
        let gone = space.taken_since.load(Ordering::Relaxed) + staged + self.config.reserve_bytes;
        let free = space.free_at_look.load(Ordering::Relaxed).saturating_sub(gone);
        match self.config.capacity_bytes {
            Some(capacity) => free.min(capacity.saturating_sub(self.used_bytes())),
            None => free,
        }
    }

    /// Bytes of stored blocks and what comes with them.
    pub(super) fn used_bytes(&self) -> u64 {
        let blocks = self.space.stored_blocks.load(Ordering::Relaxed).max(0) as u64;
        let replicas = self.space.replicas.load(Ordering::Relaxed).max(0) as u64;
        blocks * BLOCK_BYTES + replicas * REPLICA_OVERHEAD_BYTES
    }

    /// Looks at the file system. Blocks.
    pub(super) fn look_at_space(&self) {
        match self.disk().space(&self.config.path) {
            Ok(space) => {
                self.space.taken_since.store(0, Ordering::Relaxed);
                self.space.free_at_look.store(space.free, Ordering::Relaxed);
                self.space.total.store(space.total, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(disk = %self.disk_id, %error, "cannot read the free space"),
        }
    }

    /// Refuses new data beyond the space there is.
    pub(super) async fn admit(self: &Arc<Self>, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 && self.free_bytes() < bytes {
            let volume = Arc::clone(self);
            self.call(Queue::Write, move || volume.look_at_space()).await?;
            if self.free_bytes() < bytes {
                return Err(StoreError::DiskFull);
            }
        }
        Ok(())
    }

    pub(super) fn status(&self) -> DiskStatusReport {
        let failure = self.failure.get();
        let free = self.free_bytes();
        let slow = self.pace.slow();
        let state = match failure {
            Some(_) => DiskState::Failed,
            None if free < BLOCK_BYTES + REPLICA_OVERHEAD_BYTES => DiskState::Full,
            None if slow.is_some() => DiskState::Slow,
            None => DiskState::Healthy,
        };
        let total = self.space.total.load(Ordering::Relaxed).saturating_sub(self.config.reserve_bytes);
        DiskStatusReport {
            disk: self.disk_id,
            path: self.config.path.clone(),
            total_bytes: self.config.capacity_bytes.map_or(total, |capacity| capacity.min(total)),
            free_bytes: if failure.is_some() { 0 } else { free },
            used_bytes: self.used_bytes(),
            replicas: self.space.replicas.load(Ordering::Relaxed).max(0) as u64,
            state,
            detail: failure.cloned().or(slow).unwrap_or_default(),
            pace: self.pace.present(self.env.clock.now()),
            scrub: self.scrub.report(self.env.clock.now(), self.used_bytes()),
            copies: self.copies.report(self.env.clock.now()),
            vacating: self.vacating.report(),
        }
    }

    /// Tells of a block that does not verify, once per replica and start, and remembers it. Answers whether nobody knew. Of a
    /// failed disk nothing is told: nobody counts on its replicas.
    pub(super) fn report_corrupt(&self, replica: &Arc<Replica>, offset: u64, detail: &str) -> bool {
        if self.has_failed() {
            return false;
        }
        let new = {
            let mut state = replica.state();
            if state.deleted || std::mem::replace(&mut state.reported, true) {
                return false;
            }
            let new = !std::mem::replace(&mut state.corrupt, true);
            super::commands::remember_corrupt(replica, &mut state);
            new
        };
        tracing::error!(chunk = %replica.key.chunk, disk = %self.disk_id, offset, detail, "replica is corrupt");
        let event = StoreEvent::Corrupt { replica: replica.stat(), offset, detail: detail.to_owned() };
        // Full: the state itself is in `list()`.
        let _ = self.events.try_send(event);
        new
    }
}

/// Whether a write failed for want of space.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

struct Waiting(Arc<Volume>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
