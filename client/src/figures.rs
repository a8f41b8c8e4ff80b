//! What a connected file system counts of itself, and what it shows to whoever operates it.
//!
//! Counting is one relaxed addition to a place of its own, so that it may stand on the way of every request. Everything else is read
//! off when it is shown.

use cairn_core::io::breaker::BreakerState;
use cairn_core::time::Tick;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one_more(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Uses of one cache.
#[derive(Debug, Default)]
pub(crate) struct CacheCounts {
    pub(crate) hits: Count,
    pub(crate) misses: Count,
}

impl CacheCounts {
    fn shown(&self) -> CacheUse {
        CacheUse { hits: self.hits.get(), misses: self.misses.get() }
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) names: CacheCounts,
    pub(crate) attributes: CacheCounts,
    pub(crate) maps: CacheCounts,
    pub(crate) reconnects: Count,
    pub(crate) leader_changes: Count,
    pub(crate) hedged_reads: Count,
    /// Bytes that came and do not verify.
    pub(crate) mismatches: Count,
    /// Replicas that their own servers call damaged.
    pub(crate) damaged: Count,
    heard_at_ns: AtomicU64,
}

impl Counts {
    /// The leader has said something.
    pub(crate) fn heard(&self, at: Tick) {
        self.heard_at_ns.store(at.0.as_nanos() as u64, Relaxed);
    }

    pub(crate) fn heard_at(&self) -> Tick {
        Tick(Duration::from_nanos(self.heard_at_ns.load(Relaxed)))
    }

    pub(crate) fn caches(&self) -> Caches {
        Caches { names: self.names.shown(), attributes: self.attributes.shown(), maps: self.maps.shown() }
    }
}

/// How often something was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// It was.
    pub hits: u64,
    /// The master was asked.
    pub misses: u64,
}

/// The caches of what the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// Where a name leads.
    pub names: CacheUse,
    /// Attributes of an inode.
    pub attributes: CacheUse,
    /// Where the bytes of a file stand.
    pub maps: CacheUse,
}

/// The session with the leading master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderFigures {
    /// `host:port` of the master that leads, or did when last heard.
    pub address: String,
    /// The session lives, and there is a connection for it.
    pub is_connected: bool,
    /// Since it last said anything.
    pub silent: Duration,
    /// Connections that replaced a lost one.
    pub reconnects: u64,
    /// Of these, the ones to another master than before.
    pub leader_changes: u64,
    /// Sessions that ended against our will, with their leases and unrecorded bytes.
    pub sessions_lost: u64,
}

/// How this client stands with a chunk server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFigures {
    /// `host:port`
    pub address: String,
    /// Of the server as a whole.
    pub breaker: BreakerState,
    /// Of its disks, by the number that its replies carry.
    pub disks: Vec<(u8, BreakerState)>,
}

/// The data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFigures {
    /// Chunk servers met so far.
    pub servers: Vec<ServerFigures>,
    /// Reads for which a second replica was asked before the first had answered.
    pub hedged_reads: u64,
    /// Second requests that the budget allowed.
    pub budget_taken: u64,
    /// Those that it refused, or put off.
    pub budget_refused: u64,
    /// Replies whose bytes do not match their checksums.
    pub mismatches: u64,
    /// Replicas that their chunk servers call damaged.
    pub damaged: u64,
}

/// Bytes on their way to the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirtyFigures {
    /// Files with any.
    pub files: u64,
    /// Accepted, and not yet acknowledged by chunk servers.
    pub unacknowledged_bytes: u64,
    /// Acknowledged, and not yet recorded by the master: a crash of this client loses them.
    pub unrecorded_bytes: u64,
}

/// One half of the memory budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes taken.
    pub used: u64,
    /// Bytes that there are.
    pub budget: u64,
}

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The session.
    pub leader: LeaderFigures,
    /// What need not be asked.
    pub caches: Caches,
    /// Chunk servers.
    pub data: DataFigures,
    /// Written bytes.
    pub dirty: DirtyFigures,
    /// Memory for written bytes.
    pub write_memory: MemoryUse,
    /// Memory for bytes read ahead.
    pub read_memory: MemoryUse,
    /// Operations that took so long that the master is told.
    pub slow_operations: u64,
}
