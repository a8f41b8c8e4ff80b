//! Counters of one server and their Prometheus page.

use crate::joined::Joined;
use crate::store::{ChunkStore, DiskState, ScrubReport};
use cairn_core::limits::FRAMES_HELD_MAX;
use cairn_proto::frame::{Op, Status};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    op: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiskLabel {
    path: String,
}

/// Of each disk, as its progress file counts: a restart of the server takes nothing back.
#[derive(Default)]
struct ScrubMetrics {
    verified: Family<DiskLabel, Counter>,
    rounds: Family<DiskLabel, Counter>,
    damaged: Family<DiskLabel, Counter>,
    oldest: Family<DiskLabel, Gauge>,
}

impl ScrubMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "scrub_verified",
            "Stored blocks read from the disk and verified",
            Unit::Bytes,
            self.verified.clone(),
        );
        registry.register("scrub_rounds", "Rounds of scrubbing completed", self.rounds.clone());
        registry.register(
            "scrub_damaged_replicas",
            "Damaged replicas found by scrubbing",
            self.damaged.clone(),
        );
        registry.register_with_unit(
            "scrub_oldest_unverified",
            "Age of the oldest stored byte that was not verified since",
            Unit::Seconds,
            self.oldest.clone(),
        );
    }

    fn show(&self, label: &DiskLabel, report: &ScrubReport) {
        let raise = |family: &Family<DiskLabel, Counter>, to: u64| {
            let counter = family.get_or_create(label);
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        raise(&self.verified, report.verified_bytes);
        raise(&self.rounds, report.rounds);
        raise(&self.damaged, report.damaged);
        self.oldest.get_or_create(label).set(report.oldest_unverified.as_secs() as i64);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiskStateLabel {
    path: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: &'static str,
}

const DISK_STATES: [(DiskState, &str); 4] = [
    (DiskState::Healthy, "healthy"),
    (DiskState::Full, "full"),
    (DiskState::Slow, "slow"),
    (DiskState::Failed, "failed"),
];
/// Upper bounds of the buckets of latencies.
const LATENCY_BOUNDS_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// All counters; cheap to update from anywhere.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    written: Counter,
    read: Counter,
    hop_failures: Counter,
    corrupt_blocks: Counter,
    connections: Gauge,
    in_flight: Gauge,
    masters: Gauge,
    disk_free: Family<DiskLabel, Gauge>,
    disk_used: Family<DiskLabel, Gauge>,
    disk_replicas: Family<DiskLabel, Gauge>,
    disk_healthy: Family<DiskLabel, Gauge>,
    disk_slow: Family<DiskLabel, Gauge>,
    copy_share: Family<DiskLabel, Gauge>,
    expired: Counter,
    scrub: ScrubMetrics,
    disk_state: Family<DiskStateLabel, Gauge>,
    latencies: Family<OpLabel, Histogram>,
    places: Arc<Semaphore>,
}

impl Metrics {
    /// `places` are those of the requests of all connections; what is taken of them is in flight.
    pub(crate) fn new(places: Arc<Semaphore>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("cairn_chunkserver"),
            requests: Family::default(),
            written: Counter::default(),
            read: Counter::default(),
            hop_failures: Counter::default(),
            corrupt_blocks: Counter::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            masters: Gauge::default(),
            disk_free: Family::default(),
            disk_used: Family::default(),
            disk_replicas: Family::default(),
            disk_healthy: Family::default(),
            disk_slow: Family::default(),
            copy_share: Family::default(),
            expired: Counter::default(),
            scrub: ScrubMetrics::default(),
            disk_state: Family::default(),
            latencies: Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS_SECONDS)),
            places,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Data-plane requests answered", self.requests.clone());
        registry.register_with_unit(
            "written",
            "Payload received in writes",
            Unit::Bytes,
            self.written.clone(),
        );
        registry.register_with_unit("read", "Payload sent in reads", Unit::Bytes, self.read.clone());
        registry.register(
            "hop_failures",
            "Frames that the next hop did not carry out",
            self.hop_failures.clone(),
        );
        registry.register("corrupt_blocks", "Blocks found that do not verify", self.corrupt_blocks.clone());
        registry.register("connections", "Data-plane connections", self.connections.clone());
        registry.register("requests_in_flight", "Data-plane requests under way", self.in_flight.clone());
        registry.register(
            "masters_connected",
            "Masters that have registered this server",
            self.masters.clone(),
        );
        registry.register_with_unit("disk_free", "Room for new data", Unit::Bytes, self.disk_free.clone());
        registry.register_with_unit("disk_used", "Stored blocks", Unit::Bytes, self.disk_used.clone());
        registry.register("disk_replicas", "Replicas held", self.disk_replicas.clone());
        registry.register("disk_healthy", "1 healthy, 0 full, slow or failed", self.disk_healthy.clone());
        registry.register(
            "disk_slow",
            "1 much slower than before and than its peers",
            self.disk_slow.clone(),
        );
        registry.register(
            "copy_share_thousandths",
            "What copies may take of a disk, in thousandths of a stream that never pauses",
            self.copy_share.clone(),
        );
        registry.register(
            "requests_expired",
            "Requests dropped because their deadline had passed before their turn came",
            self.expired.clone(),
        );
        self.scrub.register(registry);
        registry.register("disk_state", "1 for the state that the disk is in", self.disk_state.clone());
        registry.register_with_unit(
            "request",
            "Time from reading a data-plane request to its answer, the rest of the chain included",
            Unit::Seconds,
            self.latencies.clone(),
        );
    }

    pub(crate) fn answered(&self, op: Op, status: Status, took: Duration) {
        self.latencies.get_or_create(&OpLabel { op: op_name(op) }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { op: op_name(op), status: status_name(status) }).inc();
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.written.inc_by(bytes as u64);
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.read.inc_by(bytes as u64);
    }

    pub(crate) fn expired(&self) {
        self.expired.inc();
    }

    pub(crate) fn hop_failed(&self) {
        self.hop_failures.inc();
    }

    pub(crate) fn corrupt_block(&self) {
        self.corrupt_blocks.inc();
    }

    /// Blocks found since the start that do not verify.
    pub(crate) fn corrupt_blocks(&self) -> u64 {
        self.corrupt_blocks.get()
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> u64 {
        FRAMES_HELD_MAX.saturating_sub(self.places.available_permits()) as u64
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    /// The page of this moment.
    pub(crate) fn page(&self, store: &ChunkStore, joined: &Joined) -> String {
        self.in_flight.set(self.in_flight() as i64);
        self.masters.set(joined.masters_connected() as i64);
        for disk in store.disks() {
            let label = DiskLabel { path: disk.path.display().to_string() };
            self.disk_free.get_or_create(&label).set(disk.free_bytes as i64);
            self.disk_used.get_or_create(&label).set(disk.used_bytes as i64);
            self.disk_replicas.get_or_create(&label).set(disk.replicas as i64);
            self.disk_healthy.get_or_create(&label).set(i64::from(disk.state == DiskState::Healthy));
            self.disk_slow.get_or_create(&label).set(i64::from(disk.state == DiskState::Slow));
            self.copy_share.get_or_create(&label).set(i64::from(disk.copies.share));
            self.scrub.show(&label, &disk.scrub);
            for (state, name) in DISK_STATES {
                let label = DiskStateLabel { path: label.path.clone(), state: name };
                self.disk_state.get_or_create(&label).set(i64::from(disk.state == state));
            }
        }
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}

const fn op_name(op: Op) -> &'static str {
    match op {
        Op::Hello => "hello",
        Op::Ping => "ping",
        Op::Write => "write",
        Op::Sync => "sync",
        Op::Read => "read",
        Op::BlockSums => "block_sums",
        Op::Stat => "stat",
    }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::StaleVersion => "stale_version",
        Status::StaleLease => "stale_lease",
        Status::NoSuchChunk => "no_such_chunk",
        Status::Corrupt => "corrupt",
        Status::DiskFull => "disk_full",
        Status::DiskFailed => "disk_failed",
        Status::PayloadCorrupt => "payload_corrupt",
        Status::Overloaded => "overloaded",
        Status::BadRequest => "bad_request",
        Status::NextHopFailed => "next_hop_failed",
        Status::NextHopSlow => "next_hop_slow",
        Status::Refused => "refused",
        Status::ShuttingDown => "shutting_down",
        Status::Io => "io",
        Status::SlowDisk => "slow_disk",
    }
}
