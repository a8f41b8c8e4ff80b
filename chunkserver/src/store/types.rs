//! What callers hand to the store and get from it.

use super::copies::CopyPace;
use bytes::Bytes;
use cairn_core::cluster::disk_health::DiskPace;
use cairn_core::ids::{ChunkId, ChunkVersion, DiskId, LeaseNumber, PartId, Term};
use cairn_core::time::Tick;
use std::path::PathBuf;
use std::time::Duration;

/// One data directory, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The directory; made when absent.
    pub path: PathBuf,
    /// Most bytes that replicas may use; `None`: what the file system has.
    pub capacity_bytes: Option<u64>,
    /// Bytes of the file system left free: data is refused before they are touched.
    pub reserve_bytes: u64,
}

/// What [`ChunkStore::open`](super::ChunkStore::open) found.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// One per configured disk, in order; failed ones say why in `detail`.
    pub disks: Vec<DiskStatusReport>,
    /// Highest term persisted on any disk.
    pub term: Term,
    /// Cluster named by the superblocks; `None` before the first registration.
    pub cluster: Option<cairn_core::ids::ClusterId>,
}

/// State of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Takes everything.
    Healthy,
    /// Takes deletes, version raises and overwrites of what is stored, but no new bytes.
    Full,
    /// Takes everything, many times slower than before and than its peers: new replicas go elsewhere where they can.
    Slow,
    /// A write or sync failed, it cannot be read, or it could not be opened: takes nothing until the server is restarted.
    Failed,
}

/// One disk, for heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskStatusReport {
    /// Identity from its superblock; nil when it could not be read.
    pub disk: DiskId,
    /// As configured.
    pub path: PathBuf,
    /// Bytes that could ever be used.
    pub total_bytes: u64,
    /// Bytes that new data may still take (reserve and staged writes subtracted).
    pub free_bytes: u64,
    /// Bytes of stored blocks.
    pub used_bytes: u64,
    /// Replicas held.
    pub replicas: u64,
    /// Its state.
    pub state: DiskState,
    /// Why it is not healthy.
    pub detail: String,
    /// What it takes at present.
    pub pace: DiskPace,
    /// Where its scrubbing stands.
    pub scrub: ScrubReport,
    /// How its copies are held back.
    pub copies: CopyPace,
    /// It is being emptied.
    pub vacating: Option<VacatingReport>,
}

/// What stands on a disk that is being emptied and has not moved, as the last pass over it has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VacatingReport {
    /// They are written to, or could not be moved yet.
    pub waiting: u64,
    /// Some block does not verify.
    pub damaged: u64,
    /// No other disk of the server has room for them.
    pub nowhere: u64,
}

/// Under which terms a read is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadTerms {
    /// Nobody waits for it any more then.
    pub deadline: Option<Tick>,
    /// Others can serve it: a slow disk may decline.
    pub may_decline: bool,
}

/// What the scrubber of a disk does at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubState {
    /// No round runs, and none will without a command: it has no period, or has not been started yet.
    #[default]
    Off,
    /// A round spread over the period.
    Scheduled,
    /// A round that an operator wanted.
    Demanded,
    /// An operator has stopped it.
    Paused,
}

/// Scrubbing of one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// What it does.
    pub state: ScrubState,
    /// Bytes passed in this round, as `used_bytes` counts them.
    pub passed_bytes: u64,
    /// Bytes per second of late.
    pub rate: u64,
    /// Most bytes per second in this round; 0: as fast as the disk.
    pub limit: u64,
    /// How long the round will take from now on, when that can be told.
    pub ends_in: Option<Duration>,
    /// Age of the oldest byte not verified since.
    pub oldest_unverified: Duration,
    /// Rounds completed ever.
    pub rounds: u64,
    /// Bytes verified ever.
    pub verified_bytes: u64,
    /// Damaged replicas found ever.
    pub damaged: u64,
}

/// A write of one frame.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its part; 0 for copies.
    pub part: PartId,
    /// Must equal the replica's version.
    pub version: ChunkVersion,
    /// The writer's lease; raises the floor.
    pub lease: LeaseNumber,
    /// First byte within the chunk.
    pub offset: u64,
    /// The bytes, at most one frame's.
    pub payload: Bytes,
    /// One checksum per touched block piece (`cairn_core::checksum::payload_crcs`). **The store verifies them**; the caller
    /// need not.
    pub sums: Vec<u32>,
    /// The replica may be made. With `repair`, a replica of a lower version is replaced by an empty one first.
    pub create: bool,
    /// Durable, together with all earlier acknowledged writes of the replica, before this returns.
    pub sync: bool,
    /// From a copy or reconciliation: the lease is neither checked nor raised.
    pub repair: bool,
}

/// Whole blocks, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBlocks {
    /// Byte offset within the chunk of the first block (a multiple of the block size).
    pub offset: u64,
    /// The blocks; those not stored are zeros.
    pub payload: Bytes,
    /// `block_crc` of each block, zeros included.
    pub sums: Vec<u32>,
    /// Number of the disk among the configured ones.
    pub disk: usize,
}

/// One block in a comparison of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSum {
    /// `block_crc` of the whole block; 0 when not stored.
    pub crc: u32,
    /// Low 32 bits (at least 1) of the chunk version under which the block was last written; 0: not stored.
    pub generation: u32,
}

/// A block that does not verify on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBlock {
    /// Which.
    pub block: u32,
    /// `block_crc` of what it should hold.
    pub crc: u32,
}

/// One replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStat {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its part.
    pub part: PartId,
    /// Its version.
    pub version: ChunkVersion,
    /// Lowest lease accepted.
    pub lease_floor: LeaseNumber,
    /// The disk it lies on.
    pub disk: DiskId,
    /// End of the last stored block, in bytes.
    pub length: u64,
    /// Blocks stored.
    pub blocks: u32,
    /// Of these, blocks known to be on stable storage.
    pub durable_blocks: u32,
    /// Some block did not verify.
    pub corrupt: bool,
    /// See [`StoreError::WritesLost`](super::StoreError::WritesLost).
    pub writes_lost: bool,
}

/// Something the master or an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A block does not verify (once per replica and start).
    Corrupt {
        /// The replica.
        replica: ReplicaStat,
        /// First byte of the bad block within the chunk.
        offset: u64,
        /// What was wrong.
        detail: String,
    },
    /// Every block of a corrupt replica verifies again.
    Mended {
        /// The replica.
        replica: ReplicaStat,
    },
    /// A disk failed for good.
    DiskFailed {
        /// Its identity.
        disk: DiskId,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        detail: String,
    },
    /// A disk has turned slow, or is as quick as before.
    DiskPaceChanged {
        /// Its identity.
        disk: DiskId,
        /// Its path.
        path: PathBuf,
        /// What has changed.
        detail: String,
    },
}
