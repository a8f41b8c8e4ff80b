//! What may be found after a crash: the oracle of the crash proofs, and the small world they run in.

use super::relocate::{Outcome, relocate};
use super::scrub::{assert_sound, scrub_all};
use super::*;
use bytes::Bytes;
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::LeaseNumber;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::SeededRandom;
use cairn_env::spawn::TaskSpawn;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const PART: PartId = PartId(0);
const BLOCK: usize = BLOCK_BYTES as usize;
/// Workloads touch these blocks only.
pub(super) const BLOCKS: u32 = 14;

/// One step of a workload.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write {
        chunk: u64,
        version: u64,
        offset: u64,
        length: usize,
        fill: u8,
        sync: bool,
    },
    Sync {
        chunk: u64,
        version: u64,
    },
    Raise {
        chunk: u64,
        from: u64,
        to: u64,
    },
    Delete {
        chunk: u64,
        version: u64,
    },
    Term(u64),
    /// Empty the journal into the files.
    WriteBack,
    /// To the other disk.
    Move {
        chunk: u64,
    },
}

impl Op {
    fn chunk(&self) -> Option<u64> {
        match self {
            Self::Write { chunk, .. }
            | Self::Sync { chunk, .. }
            | Self::Raise { chunk, .. }
            | Self::Delete { chunk, .. }
            | Self::Move { chunk } => Some(*chunk),
            Self::Term(_) | Self::WriteBack => None,
        }
    }

    pub(super) async fn run(&self, store: &ChunkStore) -> Result<(), StoreError> {
        match *self {
            Self::Write { chunk, version, offset, length, fill, sync } => {
                store.write(write_request(chunk, version, offset, &vec![fill; length], sync)).await
            }
            Self::Sync { chunk, version } => store.sync(ChunkId(chunk), PART, ChunkVersion(version)).await,
            Self::Raise { chunk, from, to } => {
                store.raise_version(ChunkId(chunk), PART, ChunkVersion(from), ChunkVersion(to)).await
            }
            Self::Delete { chunk, version } => {
                store.delete(ChunkId(chunk), PART, ChunkVersion(version)).await
            }
            Self::Term(term) => store.fence_term(Term(term)).await,
            Self::WriteBack => write_all_back(store).await,
            Self::Move { chunk } => {
                assert_eq!(move_over(store, chunk).await?, Outcome::Moved);
                Ok(())
            }
        }
    }
}

/// Moves a replica to the other disk of two.
pub(super) async fn move_over(store: &ChunkStore, chunk: u64) -> Result<Outcome, StoreError> {
    let replica = store.find(ChunkId(chunk), PART)?;
    let other = store.shared.volumes().find(|other| !Arc::ptr_eq(other, &replica.volume)).unwrap();
    relocate(&store.shared, &replica, other).await
}

pub(super) async fn write_all_back(store: &ChunkStore) -> Result<(), StoreError> {
    for volume in store.shared.volumes() {
        write_back::write_back(volume, true, &|| store.shared.held_by(volume)).await?;
    }
    Ok(())
}

pub(super) fn write_request(
    chunk: u64,
    version: u64,
    offset: u64,
    payload: &[u8],
    sync: bool,
) -> WriteRequest {
    WriteRequest {
        chunk: ChunkId(chunk),
        part: PART,
        version: ChunkVersion(version),
        lease: LeaseNumber(1),
        offset,
        payload: Bytes::copy_from_slice(payload),
        sums: payload_crcs(ChunkId(chunk), offset, payload),
        create: true,
        sync,
        repair: false,
    }
}

pub(super) fn tiny() -> Settings {
    Settings {
        segment_bytes: 128 << 10,
        segments: 3,
        batch_bytes: 40 << 10,
        reserve_bytes: 4 << 10,
        open_replicas: 8,
        portion_blocks: 2,
        upkeep: false,
    }
}

pub(super) fn world(disk: &SimDisk, seed: u64) -> Env {
    Env {
        disk: Arc::new(disk.clone()),
        random: Arc::new(SeededRandom::new(seed)),
        spawn: Arc::new(TaskSpawn),
        ..Env::real()
    }
}

pub(super) fn open_tiny(disk: &SimDisk, seed: u64) -> (ChunkStore, OpenReport) {
    open_on(disk, seed, &ONE)
}

/// Directories of a server with one disk, and of one with two.
pub(super) const ONE: [&str; 1] = ["/d"];
pub(super) const TWO: [&str; 2] = ["/d", "/e"];

pub(super) fn open_on(disk: &SimDisk, seed: u64, paths: &[&str]) -> (ChunkStore, OpenReport) {
    let config =
        |path: &&str| DiskConfig { path: Path::new(path).to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    let configs: Vec<_> = paths.iter().map(config).collect();
    ChunkStore::open_with(&world(disk, seed), None, NodeId::default(), &configs, tiny()).unwrap()
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

type Content = Vec<u8>;

#[derive(Clone, Debug, Default)]
struct BlockModel {
    /// As of the last acknowledged sync.
    durable: Content,
    /// Acknowledged or attempted since, in order.
    since: Vec<Content>,
    /// What an acknowledged sync would have to keep.
    acknowledged: Content,
    /// Attempted after that.
    attempted: Vec<Content>,
}

#[derive(Clone, Debug)]
struct ChunkModel {
    maybe_absent: bool,
    version_min: u64,
    version_max: u64,
    blocks: Vec<BlockModel>,
    /// Everything acknowledged is durable.
    clean: bool,
    /// Several histories are possible: an unacknowledged deletion.
    maybe_deleted: bool,
}

/// What is promised at one instant of a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Promise {
    chunks: BTreeMap<u64, ChunkModel>,
    term: u64,
    /// The chunk an unfinished operation works on.
    busy: Option<u64>,
    /// Where the server's disks are.
    disks: &'static [&'static str],
}

impl Promise {
    /// After `done` operations were acknowledged, and while `unfinished` may be anywhere, on a server with these disks.
    pub(super) fn at(done: &[Op], unfinished: Option<&Op>, disks: &'static [&'static str]) -> Self {
        let mut promise = Self { busy: unfinished.and_then(Op::chunk), disks, ..Self::default() };
        done.iter().for_each(|op| promise.apply(op, true));
        unfinished.into_iter().for_each(|op| promise.apply(op, false));
        promise
    }

    fn apply(&mut self, op: &Op, acknowledged: bool) {
        match *op {
            Op::Write { chunk, version, offset, length, fill, sync } => {
                let model = self.chunks.entry(chunk).or_insert_with(|| ChunkModel {
                    maybe_absent: !acknowledged,
                    version_min: version,
                    version_max: version,
                    blocks: vec![
                        BlockModel {
                            durable: vec![0; BLOCK],
                            acknowledged: vec![0; BLOCK],
                            ..BlockModel::default()
                        };
                        BLOCKS as usize
                    ],
                    clean: true,
                    maybe_deleted: false,
                });
                model.write(offset as usize, length, fill, acknowledged);
                if acknowledged && sync {
                    model.synced();
                }
            }
            Op::Sync { chunk, .. } | Op::Move { chunk } if acknowledged => {
                self.chunks.get_mut(&chunk).unwrap().synced()
            }
            Op::Raise { chunk, to, .. } => {
                let model = self.chunks.get_mut(&chunk).unwrap();
                model.version_max = model.version_max.max(to);
                if acknowledged {
                    model.version_min = model.version_max;
                }
            }
            Op::Delete { chunk, .. } if acknowledged => drop(self.chunks.remove(&chunk)),
            Op::Delete { chunk, .. } => self.chunks.get_mut(&chunk).unwrap().maybe_deleted = true,
            Op::Term(term) if acknowledged => self.term = self.term.max(term),
            Op::Sync { .. } | Op::Move { .. } | Op::Term(_) | Op::WriteBack => {}
        }
    }

    /// Opens the disk and holds what it finds against the promise. Returns a short text of what was found.
    pub(super) async fn check(&self, disk: &SimDisk, seed: u64) -> Vec<(u64, u64, Vec<u32>)> {
        let (store, report) = open_on(disk, seed, self.disks);
        let held: u64 = report.disks.iter().map(|disk| disk.replicas).sum();
        assert_eq!(held, store.list(ChunkId(0), ChunkId(u64::MAX), usize::MAX).len() as u64, "{report:?}");
        assert!(store.shared.aside().is_empty());
        assert!(report.disks.iter().all(|disk| disk.state == DiskState::Healthy), "{report:?}");
        assert!(report.term.get() >= self.term);
        let mut found = Vec::new();
        for stat in store.list(ChunkId(0), ChunkId(u64::MAX), usize::MAX) {
            assert!(self.chunks.contains_key(&stat.chunk.get()), "{} is back from the dead", stat.chunk);
        }
        for (&chunk, model) in &self.chunks {
            let Some(stat) = store.stat(ChunkId(chunk), PART) else {
                assert!(
                    model.maybe_absent || model.maybe_deleted,
                    "chunk {chunk} is gone: {:?}",
                    model.version_min
                );
                continue;
            };
            let version = stat.version.get();
            assert!((model.version_min..=model.version_max).contains(&version), "version {version}");
            let blocks = model.check_blocks(&store, chunk, stat.version).await;
            self.check_sync(&store, chunk, model, stat.version, &blocks).await;
            found.push((chunk, version, blocks.iter().map(|block| crc_of(block)).collect()));
        }
        assert_eq!(scrub_all(&store).await, []);
        self.go_on(&store, disk, seed).await;
        found
    }

    /// An acknowledged sync must not have lost what was acknowledged before the crash.
    async fn check_sync(
        &self,
        store: &ChunkStore,
        chunk: u64,
        model: &ChunkModel,
        version: ChunkVersion,
        found: &[Content],
    ) {
        match store.sync(ChunkId(chunk), PART, version).await {
            Ok(()) if self.busy == Some(chunk) && model.maybe_deleted => {}
            Ok(()) => {
                for (index, (block, found)) in model.blocks.iter().zip(found).enumerate() {
                    assert!(
                        *found == block.acknowledged || block.attempted.contains(found),
                        "a sync was acknowledged, but block {index} of chunk {chunk} has lost an acknowledged write"
                    );
                }
            }
            Err(StoreError::WritesLost) => {
                assert!(
                    !model.clean || self.busy == Some(chunk),
                    "chunk {chunk} is said to have lost writes, and has not"
                );
            }
            Err(error) => panic!("sync: {error}"),
        }
    }

    /// The disk works on: new writes after the recovery survive the next crash, whatever garbage it left in the journal.
    async fn go_on(&self, store: &ChunkStore, disk: &SimDisk, seed: u64) {
        let payload = vec![seed as u8 | 1; 3 * BLOCK];
        store.write(write_request(99, 1, 0, &payload, true)).await.unwrap();
        for stat in store.list(ChunkId(0), ChunkId(98), usize::MAX) {
            let next = ChunkVersion(stat.version.get() + 1);
            store.raise_version(stat.chunk, PART, stat.version, next).await.unwrap();
            store.write(write_request(stat.chunk.get(), next.get(), 100, &payload, true)).await.unwrap();
        }
        let after = disk.crash_image_with(&mut cairn_env::disk_sim::choice::LoseAll);
        let (again, report) = open_on(&after, seed ^ 1, self.disks);
        assert!(report.disks.iter().all(|disk| disk.state == DiskState::Healthy), "{report:?}");
        for stat in again.list(ChunkId(0), ChunkId(99), usize::MAX) {
            let offset = if stat.chunk == ChunkId(99) { 0 } else { 100 };
            let blocks =
                again.read(stat.chunk, PART, stat.version, offset, payload.len() as u32).await.unwrap();
            assert!(blocks.payload[offset as usize..][..payload.len()] == payload, "{stat:?}");
        }
        assert_sound(&again).await;
    }
}

fn crc_of(block: &[u8]) -> u32 {
    cairn_core::checksum::block_crc(ChunkId(0), 0, block)
}

impl ChunkModel {
    fn write(&mut self, offset: usize, length: usize, fill: u8, acknowledged: bool) {
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let from = offset.max(index * BLOCK);
            let to = (offset + length).min((index + 1) * BLOCK);
            if from >= to {
                continue;
            }
            let mut content = block.attempted.last().unwrap_or(&block.acknowledged).clone();
            content[from - index * BLOCK..to - index * BLOCK].fill(fill);
            block.since.push(content.clone());
            if acknowledged {
                block.acknowledged = content;
                block.attempted.clear();
            } else {
                block.attempted.push(content);
            }
        }
        self.clean &= !acknowledged;
    }

    fn synced(&mut self) {
        for block in &mut self.blocks {
            block.durable = block.acknowledged.clone();
            block.since.clear();
        }
        self.clean = true;
    }

    async fn check_blocks(&self, store: &ChunkStore, chunk: u64, version: ChunkVersion) -> Vec<Content> {
        let mut contents = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let read = store.read(ChunkId(chunk), PART, version, (index * BLOCK) as u64, BLOCK as u32).await;
            let content =
                read.unwrap_or_else(|error| panic!("chunk {chunk} block {index}: {error}")).payload.to_vec();
            assert!(
                content == block.durable || block.since.contains(&content),
                "block {index} of chunk {chunk} holds neither what was synced nor anything written since"
            );
            contents.push(content);
        }
        contents
    }
}
