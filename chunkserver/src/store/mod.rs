//! The chunk store: replicas on disks, crash-safe and checksummed.
//!
//! The rooms: [`open`] recovers a disk; a [`volume`] is one disk at work, with its [`journal`], its open [`files`] and its space;
//! a [`replica`] is one replica's state in memory. [`write`], [`sync`], [`read`], [`commands`] are the operations, [`write_back`]
//! empties the journal into the files, [`upkeep`] does what time asks for, [`scrub`] verifies what lies still, [`vacate`] empties a
//! disk that is to go, replica by replica ([`relocate`]); [`gather`] judges what several disks have of one chunk. Bytes on disk: docs/FORMATS.md and `cairn_core::chunk`.
//!
//! What does not happen here: no retry of a failed write or sync, no memory map, no trust in a block that does not verify,
//! no acknowledgement of a sync when a write before it was lost.

mod commands;
mod commit_pace;
mod copies;
mod error;
mod files;
mod gather;
mod in_file;
mod journal;
mod open;
mod pace;
mod portions;
mod read;
mod relocate;
mod replica;
mod scrub;
mod settings;
mod sync;
mod types;
mod upkeep;
mod vacate;
mod volume;
mod write;
mod write_back;

pub use copies::CopyPace;
pub use error::StoreError;
pub use scrub::{ScrubAct, ScrubOptions};
pub use types::{
    BadBlock, BlockSum, DiskConfig, DiskState, DiskStatusReport, OpenReport, ReadBlocks, ReadTerms,
    ReplicaStat, ScrubReport, ScrubState, StoreEvent, VacatingReport, WriteRequest,
};

use cairn_core::chunk::{ReplicaKey, table_digest};
use cairn_core::cluster::disk_health::DiskPace;
use cairn_core::ids::{ChunkId, ChunkVersion, ClusterId, DiskId, NodeId, PartId, Term};
use cairn_core::limits::STORE_EVENTS_MAX;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::superblock::{SUPERBLOCK_FILE, Superblock};
use cairn_core::units::CHUNK_BYTES;
use cairn_env::Env;
use cairn_env::disk::replace_durably;
use files::OpenFiles;
use gather::Gathered;
use open::{Opened, Opening};
use replica::{Replica, ReplicaState};
use settings::Settings;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use volume::{REPLICA_OVERHEAD_BYTES, Volume};

/// The replicas of one server. Cheap to clone; all clones are the same store. Needs a tokio runtime.
#[derive(Clone)]
pub struct ChunkStore {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    disks: Vec<Disk>,
    replicas: RwLock<BTreeMap<ReplicaKey, Arc<Replica>>>,
    /// On record on their disks and not used: on their way here from another disk, or beside one that counts.
    aside: Mutex<Vec<Arc<Replica>>>,
    term: tokio::sync::Mutex<Term>,
    highest_term: std::sync::atomic::AtomicU64,
    events: Mutex<Option<mpsc::Receiver<StoreEvent>>>,
    closing: AtomicBool,
    /// What the disks of the cluster take.
    typical: Mutex<DiskPace>,
}

/// A configured disk.
enum Disk {
    Open {
        volume: Arc<Volume>,
        superblock: Mutex<Superblock>,
    },
    /// It could not be opened.
    Failed(Box<DiskStatusReport>),
}

impl Disk {
    fn volume(&self) -> Option<&Arc<Volume>> {
        match self {
            Self::Open { volume, .. } => Some(volume),
            Self::Failed(_) => None,
        }
    }
}

impl Shared {
    fn volumes(&self) -> impl Iterator<Item = &Arc<Volume>> {
        self.disks.iter().filter_map(Disk::volume)
    }

    fn map(&self) -> RwLockReadGuard<'_, BTreeMap<ReplicaKey, Arc<Replica>>> {
        self.replicas.read().expect("no holder of the replica map panics")
    }

    fn map_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<ReplicaKey, Arc<Replica>>> {
        self.replicas.write().expect("no holder of the replica map panics")
    }

    fn find(&self, chunk: ChunkId, part: PartId) -> Option<Arc<Replica>> {
        self.map().get(&ReplicaKey { chunk, part }).cloned()
    }

    /// What the other disks take: those of the cluster, else those of this server.
    fn peers(&self, volume: &Arc<Volume>) -> DiskPace {
        let cluster = *self.typical.lock().expect("no holder of the pace panics");
        let now = self.env.clock.now();
        let others = self.volumes().filter(|other| !Arc::ptr_eq(other, volume));
        let here = DiskPace::typical(&others.map(|other| other.pace.present(now)).collect::<Vec<_>>());
        let known = |cluster: Duration, here| if cluster.is_zero() { here } else { cluster };
        DiskPace { read: known(cluster.read, here.read), sync: known(cluster.sync, here.sync) }
    }

    /// The first replica of `volume` from `key` on.
    fn next_held_by(&self, volume: &Arc<Volume>, key: ReplicaKey) -> Option<Arc<Replica>> {
        self.map()
            .range(key..)
            .map(|(_, replica)| replica)
            .find(|held| Arc::ptr_eq(&held.volume, volume))
            .cloned()
    }

    /// Everything on record on `volume`.
    fn held_by(&self, volume: &Arc<Volume>) -> Vec<Arc<Replica>> {
        // In this order: what arrives meanwhile is in the one before it leaves the other.
        let aside = self.aside().clone();
        let map = self.map();
        let all = map.values().chain(&aside);
        all.filter(|replica| Arc::ptr_eq(&replica.volume, volume)).cloned().collect()
    }

    fn aside(&self) -> MutexGuard<'_, Vec<Arc<Replica>>> {
        self.aside.lock().expect("no holder of the list of replicas aside panics")
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl ChunkStore {
    /// Opens (or makes) every disk, recovers it and returns the store. Blocks. A disk that fails to open is reported as
    /// failed and left alone; the others serve.
    ///
    /// # Errors
    /// Only when no disk is configured; a server with only failed disks still starts.
    pub fn open(
        env: &Env,
        cluster: Option<ClusterId>,
        node: NodeId,
        disks: &[DiskConfig],
    ) -> Result<(Self, OpenReport), StoreError> {
        Self::open_with(env, cluster, node, disks, Settings::default())
    }

    /// Writes the cluster into the superblocks at the first registration; afterwards checks that it is the same. Blocks.
    ///
    /// # Errors
    /// `Io` when a disk belongs to another cluster; the store then serves no data.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), StoreError> {
        for disk in &self.shared.disks {
            let Disk::Open { volume, superblock } = disk else { continue };
            let mut superblock = superblock.lock().expect("no holder of a superblock panics");
            if superblock.cluster == cluster {
                continue;
            }
            if !superblock.cluster.0.is_nil() {
                let path = volume.config.path.display();
                return Err(StoreError::Io(format!(
                    "{path} belongs to cluster {}, the masters are of {cluster}: give the addresses of its own masters, or empty directories",
                    superblock.cluster
                )));
            }
            let adopted = Superblock { cluster, ..*superblock };
            match replace_durably(volume.disk(), &volume.config.path.join(SUPERBLOCK_FILE), &adopted.encode())
            {
                Ok(()) => *superblock = adopted,
                Err(error) => volume.fail(&format!("superblock: {error}")),
            }
        }
        Ok(())
    }

    /// Stores the payload; it reads back at once, and is durable after `sync` (or before returning with `request.sync`).
    /// Writes of one replica are serialised in the order of the first poll. Dropping the future does not tear anything.
    ///
    /// # Errors
    /// See [`StoreError`]; after an error the touched blocks are as they were or as being written, each whole, except that
    /// `WritesLost` then says so to every later sync.
    pub async fn write(&self, request: WriteRequest) -> Result<(), StoreError> {
        self.check_open()?;
        write::check(&request)?;
        let request = Arc::new(request);
        loop {
            let replica = self.find_or_create(&request).await?;
            match write::write(&replica, &request).await {
                // Deleted between the look-up and the lane: look again (and make it anew, if that was asked for).
                Err(StoreError::NoSuchChunk) if replica.state().deleted && request.create => {
                    tokio::task::yield_now().await;
                }
                Err(error) if replica.has_moved(&error) => {}
                Err(error) => return Err(error),
                Ok(_) if request.sync => {
                    return self.sync(request.chunk, request.part, request.version).await;
                }
                Ok(ticket) => return replica.volume.durable(ticket).await,
            }
        }
    }

    /// Makes every write acknowledged before the call durable. Never acknowledges when such a write was lost.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sync(&self, chunk: ChunkId, part: PartId, version: ChunkVersion) -> Result<(), StoreError> {
        self.on_replica((chunk, part), |replica| async move { sync::sync(&replica, version).await }).await
    }

    /// The whole blocks that `offset .. offset + length` touches, verified; blocks not stored are zeros.
    ///
    /// # Errors
    /// `Corrupt` when a block does not verify (it has been reported), `NoSuchChunk` below the asked version.
    pub async fn read(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
        offset: u64,
        length: u32,
    ) -> Result<ReadBlocks, StoreError> {
        self.read_on_terms(chunk, part, version, (offset, length), ReadTerms::default()).await
    }

    /// As [`ChunkStore::read`], when somebody waits only so long or can ask others.
    ///
    /// # Errors
    /// `Expired` and `SlowDisk` as well.
    pub async fn read_on_terms(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
        range: (u64, u32),
        terms: ReadTerms,
    ) -> Result<ReadBlocks, StoreError> {
        self.on_replica(
            (chunk, part),
            |replica| async move { read::read(&replica, version, range, terms).await },
        )
        .await
    }

    /// Number of the disk that a replica stands on.
    pub fn disk_of(&self, chunk: ChunkId, part: PartId) -> Option<usize> {
        self.shared.find(chunk, part).map(|replica| replica.volume.index)
    }

    /// What the disks of the cluster take, as a master has told.
    pub fn hear_of_typical_pace(&self, pace: DiskPace) {
        *self.shared.typical.lock().expect("no holder of the pace panics") = pace;
    }

    /// One entry per block up to the end of the last stored one, as the checksum table says.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn block_sums(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
    ) -> Result<Vec<BlockSum>, StoreError> {
        self.on_replica(
            (chunk, part),
            |replica| async move { read::block_sums(&replica, version, false).await },
        )
        .await
    }

    /// The same, of a replica that others are made equal to: its table must be the one written last.
    ///
    /// # Errors
    /// `Corrupt` when it is not; see [`StoreError`].
    pub async fn source_sums(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
    ) -> Result<Vec<BlockSum>, StoreError> {
        self.on_replica(
            (chunk, part),
            |replica| async move { read::block_sums(&replica, version, true).await },
        )
        .await
    }

    /// What is known of a replica, whatever its version.
    pub fn stat(&self, chunk: ChunkId, part: PartId) -> Option<ReplicaStat> {
        self.shared.find(chunk, part).map(|replica| replica.stat())
    }

    /// From now on refuses everything below `to`; durable before it returns. Idempotent; a replica already at or beyond `to` is
    /// done. Clears `WritesLost`.
    ///
    /// # Errors
    /// `NoSuchChunk` when there is none or it is below `from`.
    pub async fn raise_version(
        &self,
        chunk: ChunkId,
        part: PartId,
        from: ChunkVersion,
        to: ChunkVersion,
    ) -> Result<(), StoreError> {
        self.on_replica(
            (chunk, part),
            |replica| async move { commands::raise(&replica, (from, to), false).await },
        )
        .await
    }

    /// The same, for a replica that others are made equal to.
    ///
    /// # Errors
    /// `WritesLost` as well: it lacks what another replica may have.
    pub async fn raise_whole(
        &self,
        chunk: ChunkId,
        part: PartId,
        from: ChunkVersion,
        to: ChunkVersion,
    ) -> Result<(), StoreError> {
        self.on_replica(
            (chunk, part),
            |replica| async move { commands::raise(&replica, (from, to), true).await },
        )
        .await
    }

    /// Deletes the replica when its version is `up_to` or lower; durable before it returns. Absent: done.
    ///
    /// # Errors
    /// `StaleVersion` when the replica is beyond `up_to`.
    pub async fn delete(&self, chunk: ChunkId, part: PartId, up_to: ChunkVersion) -> Result<(), StoreError> {
        match self.on_replica((chunk, part), |replica| self.delete_replica(replica, up_to)).await {
            Err(StoreError::NoSuchChunk) => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete_replica(&self, replica: Arc<Replica>, up_to: ChunkVersion) -> Result<(), StoreError> {
        if replica.volume.has_failed() {
            // As absent: should the disk work after a restart, the replica is a stray.
            self.shared.map_mut().remove(&replica.key);
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        // A task of its own: a caller that goes away must not leave the deletion half done.
        let deletion = tokio::spawn(async move {
            commands::delete(&replica, up_to).await?;
            let mut map = shared.map_mut();
            if map.get(&replica.key).is_some_and(|held| Arc::ptr_eq(held, &replica)) {
                map.remove(&replica.key);
            }
            Ok(())
        });
        deletion.await.map_err(|error| StoreError::Io(error.to_string()))?
    }

    /// At most `limit` replicas with `first <= chunk <= last`, in order; the next page begins at the last chunk's successor
    /// (all parts of one chunk stay on one page, which may therefore be slightly longer). Nobody counts on what stands on a
    /// failed disk: it is not listed.
    pub fn list(&self, first: ChunkId, last: ChunkId, limit: usize) -> Vec<ReplicaStat> {
        let first = ReplicaKey { chunk: first, part: PartId(0) };
        let last = ReplicaKey { chunk: last, part: PartId(u16::MAX) };
        let mut listed: Vec<ReplicaStat> = Vec::new();
        for (key, replica) in self.shared.map().range(first..=last) {
            if listed.len() >= limit && listed.last().is_some_and(|before| before.chunk != key.chunk) {
                break;
            }
            if !replica.state().deleted && !replica.volume.has_failed() {
                listed.push(replica.stat());
            }
        }
        listed
    }

    /// Every replica on a disk that has not failed, in order of (chunk, part), for `cairn_core::cluster::digest`.
    pub fn held(&self) -> Vec<(ChunkId, ChunkVersion, PartId)> {
        let map = self.shared.map();
        let held =
            map.iter().filter(|(_, replica)| !replica.volume.has_failed()).filter_map(|(key, replica)| {
                let state = replica.state();
                (!state.deleted).then_some((key.chunk, state.version, key.part))
            });
        held.collect()
    }

    /// One per configured disk.
    pub fn disks(&self) -> Vec<DiskStatusReport> {
        let status = |disk: &Disk| match disk {
            Disk::Open { volume, .. } => volume.status(),
            Disk::Failed(report) => DiskStatusReport::clone(report),
        };
        self.shared.disks.iter().map(status).collect()
    }

    /// Refuses a command below the highest term ever seen; persists a higher one before it returns.
    ///
    /// # Errors
    /// `StaleTerm`; `DiskFailed` when it cannot be persisted anywhere: do not obey.
    pub async fn fence_term(&self, term: Term) -> Result<(), StoreError> {
        let mut highest = self.shared.term.lock().await;
        if term < *highest && !is_planted(Bug::IgnoreTerm) {
            return Err(StoreError::StaleTerm { highest: *highest });
        }
        if term > *highest {
            let volumes: Vec<_> =
                self.shared.volumes().filter(|volume| volume.check_alive().is_ok()).collect();
            let written = futures::future::join_all(
                volumes.into_iter().map(|volume| commands::obey_term(volume, term)),
            );
            // On every disk that lives: a disk that fails later must not take it along.
            if !written.await.iter().any(Result::is_ok) {
                return Err(StoreError::DiskFailed);
            }
            *highest = term;
            self.shared.highest_term.store(term.get(), Ordering::Release);
        }
        Ok(())
    }

    /// Highest term persisted here.
    pub fn highest_term(&self) -> Term {
        Term(self.shared.highest_term.load(Ordering::Acquire))
    }

    /// The receiver of events; `Some` once. A full queue drops events (the state itself is in `list` and `disks`).
    pub fn take_events(&self) -> Option<tokio::sync::mpsc::Receiver<StoreEvent>> {
        self.shared.events.lock().expect("no holder of the event queue panics").take()
    }

    /// Starts to verify what lies on the disks, until the options' token is cancelled. Once.
    pub fn start_scrub(&self, options: &ScrubOptions) {
        scrub::start(&self.shared, options);
    }

    /// Does what an operator wants of the scrubbers of all disks; durable before it returns.
    ///
    /// # Errors
    /// The first that failed; the others have done it.
    pub async fn scrub(&self, act: ScrubAct) -> Result<(), StoreError> {
        self.check_open()?;
        scrub::command(&self.shared, act).await
    }

    /// Replicas known to be corrupt.
    pub fn corrupt_replicas(&self) -> Vec<ReplicaStat> {
        let corrupt = |replica: &&Arc<Replica>| {
            let state = replica.state();
            state.corrupt && !state.deleted
        };
        self.shared.map().values().filter(corrupt).map(|replica| replica.stat()).collect()
    }

    /// Clean stop: refuses new work, makes everything durable and in place, writes closing marks.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        for volume in self.shared.volumes() {
            upkeep::close(&self.shared, volume).await;
            scrub::close(volume).await;
        }
    }
}

impl ChunkStore {
    fn open_with(
        env: &Env,
        cluster: Option<ClusterId>,
        node: NodeId,
        disks: &[DiskConfig],
        settings: Settings,
    ) -> Result<(Self, OpenReport), StoreError> {
        if disks.is_empty() {
            return Err(StoreError::Io(
                "no disk is configured: give the chunk server at least one directory".into(),
            ));
        }
        let (events, receiver) = mpsc::channel(STORE_EVENTS_MAX);
        let files = Arc::new(OpenFiles::new(settings.open_replicas));
        let opening = Opening { env, cluster, node, settings, files: &files, events: &events };
        let mut opened = Vec::new();
        let mut gathered = Gathered::default();
        for (index, config) in disks.iter().enumerate() {
            match open::open(&opening, index, config) {
                Ok(Opened { volume, replicas: held, superblock }) => {
                    held.into_iter().for_each(|replica| gathered.add(replica));
                    opened.push(Disk::Open { volume, superblock: Mutex::new(superblock) });
                }
                Err(error) => {
                    tracing::error!(path = %config.path.display(), %error, "disk cannot be opened");
                    opened.push(Disk::Failed(Box::new(failed_report(config, &error.to_string()))));
                }
            }
        }
        let open: Vec<DiskId> = opened.iter().filter_map(Disk::volume).map(|volume| volume.disk_id).collect();
        let (replicas, aside) = gathered.judged(&open);
        let term = opened.iter().filter_map(|disk| match disk {
            Disk::Open { volume, .. } => Some(Term(volume.term.load(Ordering::Relaxed))),
            Disk::Failed(_) => None,
        });
        let term = term.max().unwrap_or_default();
        let shared = Arc::new(Shared {
            env: env.clone(),
            disks: opened,
            replicas: RwLock::new(replicas),
            aside: Mutex::new(aside),
            term: tokio::sync::Mutex::new(term),
            highest_term: term.get().into(),
            events: Mutex::new(Some(receiver)),
            closing: AtomicBool::new(false),
            typical: Mutex::default(),
        });
        if settings.upkeep {
            upkeep::start(&shared);
        }
        let store = Self { shared };
        let report = OpenReport { disks: store.disks(), term, cluster: store.cluster() };
        Ok((store, report))
    }

    fn cluster(&self) -> Option<ClusterId> {
        let clusters = self.shared.disks.iter().filter_map(|disk| match disk {
            Disk::Open { superblock, .. } => {
                Some(superblock.lock().expect("no holder of a superblock panics").cluster)
            }
            Disk::Failed(_) => None,
        });
        clusters.into_iter().find(|cluster| !cluster.0.is_nil())
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.shared.is_closing() { Err(StoreError::ShuttingDown) } else { Ok(()) }
    }

    /// Has something done with a replica, on whichever disk it stands by then.
    async fn on_replica<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        (chunk, part): (ChunkId, PartId),
        act: impl Fn(Arc<Replica>) -> F,
    ) -> Result<T, StoreError> {
        self.check_open()?;
        loop {
            let replica = self.find(chunk, part)?;
            match act(Arc::clone(&replica)).await {
                Err(error) if replica.has_moved(&error) => {}
                outcome => return outcome,
            }
        }
    }

    fn find(&self, chunk: ChunkId, part: PartId) -> Result<Arc<Replica>, StoreError> {
        self.shared.find(chunk, part).ok_or(StoreError::NoSuchChunk)
    }

    async fn find_or_create(&self, request: &WriteRequest) -> Result<Arc<Replica>, StoreError> {
        let mut in_place_of = None;
        if let Some(replica) = self.shared.find(request.chunk, request.part) {
            let stale = replica.state().version < request.version;
            let anew = stale && request.create && request.repair;
            // What a failed disk holds is made anew on another one; whoever writes to it must hear that it is lost.
            if !(anew && replica.volume.has_failed()) {
                if anew {
                    commands::remake(&replica, request).await?;
                }
                return Ok(replica);
            }
            in_place_of = Some(replica);
        }
        if !request.create {
            return Err(StoreError::NoSuchChunk);
        }
        let volume = self.choose_disk()?;
        volume.admit(REPLICA_OVERHEAD_BYTES + request.payload.len() as u64).await?;
        let mut reservation = volume.journal.reserve(write::COMMAND_BYTES, true).await?;
        let key = ReplicaKey { chunk: request.chunk, part: request.part };
        let state = ReplicaState {
            version: request.version,
            lease: request.lease,
            digest: Some(table_digest::EMPTY),
            ..ReplicaState::default()
        };
        let mut map = self.shared.map_mut();
        let found =
            map.get(&key).filter(|held| !in_place_of.as_ref().is_some_and(|lost| Arc::ptr_eq(held, lost)));
        if let Some(replica) = found {
            return Ok(Arc::clone(replica));
        }
        let replica = Replica::new(key, Arc::clone(&volume), state);
        commands::create(&replica, &mut reservation);
        map.insert(key, Arc::clone(&replica));
        Ok(replica)
    }

    /// The freer of two disks drawn at random: even filling without a herd on the emptiest. Slow ones only when all others are full,
    /// those that are being emptied only when these are full as well, and what has no room for a whole replica last.
    fn choose_disk(&self) -> Result<Arc<Volume>, StoreError> {
        let mut living: Vec<_> = self.shared.volumes().filter(|volume| !volume.has_failed()).collect();
        let has_room = |volume: &Volume| volume.free_bytes() >= CHUNK_BYTES + REPLICA_OVERHEAD_BYTES;
        let stays = |volume: &Volume| has_room(volume) && !volume.vacating.is_wanted();
        let is_good = |volume: &Volume| stays(volume) && !volume.pace.is_slow();
        let tiers: [&dyn Fn(&Volume) -> bool; 3] = [&is_good, &stays, &has_room];
        if let Some(tier) = tiers.iter().find(|tier| living.iter().any(|volume| tier(volume))) {
            living.retain(|volume| tier(volume));
        }
        let draw = || living.get(self.shared.env.random.below(living.len() as u64) as usize);
        let (Some(one), Some(other)) = (draw(), draw()) else { return Err(StoreError::DiskFailed) };
        let freer = if one.free_bytes() >= other.free_bytes() { one } else { other };
        if freer.free_bytes() >= REPLICA_OVERHEAD_BYTES {
            return Ok(Arc::clone(freer));
        }
        // Both full: any that is not, else let the caller find out.
        let freest = living.iter().max_by_key(|volume| volume.free_bytes());
        freest.map(|volume| Arc::clone(volume)).ok_or(StoreError::DiskFailed)
    }
}

fn failed_report(config: &DiskConfig, detail: &str) -> DiskStatusReport {
    DiskStatusReport {
        disk: DiskId::default(),
        path: config.path.clone(),
        total_bytes: 0,
        free_bytes: 0,
        used_bytes: 0,
        replicas: 0,
        state: DiskState::Failed,
        detail: detail.to_owned(),
        pace: DiskPace::default(),
        scrub: ScrubReport::default(),
        copies: CopyPace::default(),
        vacating: None,
    }
}

#[cfg(test)]
mod crash_model_test;
#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod failed_disk_test;
#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod full_disk_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod relocate_test;
#[cfg(test)]
mod store_test;
#[cfg(test)]
mod stress_test;
