//! What a master counts, with the names and help texts that Prometheus shows.

use crate::backup::Shown;
use crate::cluster_metrics;
use crate::parts::Parts;
use crate::sequencer::SequencerMetrics;
use cairn_core::cluster::ServerHealth;
use cairn_env::metrics::{counter, gauge, present};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the shell; the sequencer's own are added when they are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    /// Operations answered, refusals and retries included.
    pub(crate) operations: Counter,
    /// Questions answered.
    pub(crate) queries: Counter,
    /// Write leases asked back.
    pub(crate) recalls: Counter,
    /// Requests to replace replicas.
    pub(crate) replacements: Counter,
    /// Sessions ended for silence.
    pub(crate) sessions_expired: Counter,
    /// Replicas deleted on chunk servers.
    pub(crate) replicas_deleted: Counter,
    /// Unlinked inodes reclaimed.
    pub(crate) orphans_reclaimed: Counter,
    /// Chunks reconciled after a writer ended badly.
    pub(crate) reconciled: Counter,
    /// Chunks that got new replicas.
    pub(crate) repaired: Counter,
    /// Repairs that came to nothing, to be tried again.
    pub(crate) repairs_failed: Counter,
    /// Replicas moved to even the servers out.
    pub(crate) moved: Counter,
    /// Bytes of these.
    pub(crate) moved_bytes: Counter,
    session_streams: Gauge,
    server_streams: Gauge,
}

/// Counts one open stream for as long as it lives.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    gauge: Gauge,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Metrics {
    /// Counts a client's stream.
    pub(crate) fn session_stream(&self) -> ConnectionGuard {
        self.session_streams.inc();
        ConnectionGuard { gauge: self.session_streams.clone() }
    }

    /// Counts a chunk server's stream.
    pub(crate) fn server_stream(&self) -> ConnectionGuard {
        self.server_streams.inc();
        ConnectionGuard { gauge: self.server_streams.clone() }
    }

    fn register(&self, registry: &mut Registry) {
        let counters = [
            ("operations", "Operations answered, refusals and retries included", &self.operations),
            ("queries", "Questions answered", &self.queries),
            ("lease_recalls", "Write leases asked back", &self.recalls),
            ("replica_replacements", "Requests to replace replicas that failed a writer", &self.replacements),
            ("sessions_expired", "Sessions ended because they were silent too long", &self.sessions_expired),
            ("replicas_deleted", "Replicas deleted on chunk servers", &self.replicas_deleted),
            ("orphans_reclaimed", "Unlinked inodes reclaimed", &self.orphans_reclaimed),
            ("chunks_reconciled", "Chunks reconciled after a writer ended badly", &self.reconciled),
            ("chunks_repaired", "Chunks that got new replicas for lost ones", &self.repaired),
            ("repairs_failed", "Repairs that came to nothing and are tried again", &self.repairs_failed),
            ("replicas_moved", "Replicas moved to even the chunk servers out", &self.moved),
            ("moved_bytes", "Bytes of replicas moved to even the chunk servers out", &self.moved_bytes),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("session_streams", "Open client streams", self.session_streams.clone());
        registry.register("chunkserver_streams", "Open chunk server streams", self.server_streams.clone());
    }
}

/// The whole page in the text format of Prometheus.
pub(crate) fn page(parts: &Arc<Parts>) -> String {
    let mut registry = Registry::with_prefix("cairn_master");
    parts.metrics.register(&mut registry);
    let shown = parts.clone();
    registry.register_collector(present(move |encoder| encode(encoder, &shown)));
    cairn_env::metrics::page(&registry)
}

/// Values that are read when they are shown.
fn encode(encoder: &mut DescriptorEncoder<'_>, parts: &Parts) -> fmt::Result {
    let alive = parts.servers.reports(parts.now());
    let alive = alive.iter().filter(|server| server.health == ServerHealth::Alive).count();
    let damage = parts.damage.counts();
    gauge(encoder, "leads", "1 while this master leads", u64::from(parts.term().is_some()))?;
    gauge(encoder, "sessions", "Live client sessions", parts.sessions.len() as u64)?;
    gauge(encoder, "chunkservers_alive", "Chunk servers heard of lately", alive as u64)?;
    let (waiting, under_way) = parts.repairs.counts();
    gauge(encoder, "repairs_waiting", "Chunks that wait for their repair", waiting)?;
    gauge(encoder, "repairs_under_way", "Chunks that are being repaired", under_way)?;
    gauge(encoder, "absent_replicas", "Replicas known to be missing or stale", damage.absent)?;
    gauge(encoder, "corrupt_replicas", "Replicas known to be corrupt", damage.corrupt)?;
    counter(encoder, "corrupt_blocks", "Corrupt blocks reported by chunk servers", damage.blocks_found)?;
    gauge(
        encoder,
        "scrub_oldest_unverified_seconds",
        "Age of the oldest stored byte on any disk that was not verified since",
        crate::scrubbing::oldest_unverified(parts).as_secs(),
    )?;
    cluster_metrics::encode(encoder, parts)?;
    backup(encoder, &parts.backup.shown(parts.now()))?;
    sequencer(encoder, &parts.sequencer.metrics())
}

/// Of the leader; the others ship nothing.
fn backup(encoder: &mut DescriptorEncoder<'_>, backup: &Shown) -> fmt::Result {
    if backup.url.is_empty() {
        return Ok(());
    }
    let gauges = [
        ("backup_restorable", "1 while the backup has a restorable point", u64::from(backup.age.is_some())),
        (
            "backup_age_milliseconds",
            "Age of the last restorable point, or how long this leader has known of none",
            backup.unsafe_for.as_millis() as u64,
        ),
        (
            "backup_failing",
            "1 while shipping or the making of images fails",
            u64::from(!backup.failure.is_empty()),
        ),
        (
            "backup_shipped_index",
            "Highest journal index that is in the backup",
            backup.shipped.map_or(0, cairn_core::ids::LogIndex::get),
        ),
        (
            "backup_image_index",
            "Highest journal index of a complete image",
            backup.image.map_or(0, |(index, _)| index.get()),
        ),
    ];
    for (name, help, value) in gauges {
        gauge(encoder, name, help, value)?;
    }
    counter(encoder, "backup_gaps", "Times that journal went before it was in the backup", backup.gaps)
}

fn sequencer(encoder: &mut DescriptorEncoder<'_>, metrics: &SequencerMetrics) -> fmt::Result {
    let value = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed);
    let counters = [
        ("journal_proposals", "Records proposed to the journal", &metrics.proposals),
        ("refusals", "Operations refused without writing", &metrics.refusals),
        ("replays", "Retries answered from their slot", &metrics.replays),
        ("journal_batches", "Journal batches written", &metrics.batches),
        ("journal_fdatasyncs", "Calls of fdatasync on the journal", &metrics.fdatasyncs),
        ("journal_nanoseconds", "Time spent writing and syncing the journal", &metrics.journal_nanos),
        ("journal_bytes", "Bytes appended to the journal", &metrics.journal_bytes),
        ("applied", "Records applied to the state", &metrics.applied),
        ("apply_nanoseconds", "Time spent applying records", &metrics.apply_nanos),
        ("overloads", "Requests refused because the queue was full", &metrics.overloads),
        ("row_loads", "Decisions that waited for rows from the disk", &metrics.loads),
        ("checkpoints", "Checkpoints made", &metrics.checkpoints),
    ];
    for (name, help, atomic) in counters {
        counter(encoder, name, help, value(atomic))?;
    }
    gauge(encoder, "queue_length", "Requests waiting for the sequencer", value(&metrics.queue_length))?;
    gauge(encoder, "disk_low", "1 while the data directory is nearly full", value(&metrics.disk_low))?;
    gauge(encoder, "commit_index", "Highest journal index committed", value(&metrics.commit_index))?;
    gauge(encoder, "applied_index", "Highest journal index applied", value(&metrics.applied_index))
}
