//! When a disk or a server counts as slow, failed or unsteady, and what clients may spend on going around it.

use std::time::Duration;

/// Latencies remembered of each kind of work of a disk: enough for a median, little enough to turn over within a second.
pub const DISK_SAMPLES: usize = 32;
/// Latencies older than this say nothing about the present.
pub const DISK_SAMPLE_AGE_MAX: Duration = Duration::from_secs(1);
/// With fewer latencies than this nothing is judged.
pub const DISK_SAMPLES_MIN: usize = 5;
/// How often a disk is judged.
pub const DISK_LOOK_PERIOD: Duration = Duration::from_millis(100);
/// A disk is slow that takes so many times what it and its peers usually take: load alone makes less of a difference.
pub const DISK_SLOW_FACTOR: u32 = 8;
/// Reads that take less are never slow, whatever is usual: a busy scheduler does as much.
pub const DISK_SLOW_READ_MIN: Duration = Duration::from_millis(8);
/// The same for syncs: a file system that writes much back holds one up for as long.
pub const DISK_SLOW_SYNC_MIN: Duration = Duration::from_millis(40);
/// Looks in a row that must find it slow: 0.4 s, so that clients are told within the second.
pub const DISK_SLOW_LOOKS: u32 = 4;
/// A slow disk must be as quick as before for so long; doubles with each relapse.
pub const DISK_CALM_MIN: Duration = Duration::from_secs(10);
/// Longest such time.
pub const DISK_CALM_MAX: Duration = Duration::from_secs(300);
/// A disk that has been quick for so long has no past.
pub const DISK_RELAPSE_FORGOTTEN: Duration = Duration::from_secs(900);
/// How often a slow disk is tried, by a small durable write and by one read that comes: what shows that it is quick again.
pub const DISK_TRIAL_PERIOD: Duration = Duration::from_millis(500);
/// A disk on which one piece of work takes so long has failed: what waits for it must not wait for ever. Systems give up on a
/// device after as long.
pub const DISK_HUNG: Duration = Duration::from_secs(30);
/// A disk has failed on which reads of so many different replicas fail in a row: less may be bad sectors.
pub const DISK_READ_FAILURES_MAX: usize = 3;
/// Usual latencies of the cluster's disks are gathered anew this often.
pub const DISK_TYPICAL_PERIOD: Duration = Duration::from_millis(500);

/// One request in so many may be sent a second time because the first answer is late: load grows by a tenth at most when
/// everything is slow.
pub const HEDGE_SHARE: u32 = 10;
/// Second requests that may be saved up: what a handful of readers needs to go around a server that has just frozen.
pub const HEDGE_BURST: u32 = 64;
/// A read that waits for so long asks a second server whatever the budget says: it is bounded by the reads under way.
pub const HEDGE_UNBUDGETED: Duration = Duration::from_secs(1);
/// Late answers in a row, with none in time between, by which a server is known to be slow when it is not known on which disk.
pub const BREAKER_LATE_MAX: u32 = 2;
/// A probe of a server or disk that was avoided must end within this, or another one is sent.
pub const BREAKER_PROBE_MAX: Duration = Duration::from_secs(5);
/// Chunks of which a client remembers on which disk of a server they stand, for each server with several: 1 MiB.
pub const CHUNK_DISKS_REMEMBERED: usize = 16_384;

/// A chunk server that was lost at most so often of late is counted on at once when it returns.
pub const SERVER_LOSSES_TOLERATED: usize = 2;
/// Losses this long ago are forgotten.
pub const SERVER_LOSS_FORGOTTEN: Duration = Duration::from_secs(300);
/// One that was lost more often must be there without a break for so long before it gets new chunks; doubles with each loss.
pub const SERVER_STEADY_MIN: Duration = Duration::from_secs(5);
/// Longest such time: the chunks that wait for its room must not wait for minutes.
pub const SERVER_STEADY_MAX: Duration = Duration::from_secs(40);
/// Two heartbeats are missing: the master itself begins to miss a server, before its silence makes it suspect.
pub const SERVER_MISSED: Duration = Duration::from_millis(650);
/// A server that clients and master agree to doubt gets no new chunks for so long after the last word of it.
pub const SERVER_DOUBTED: Duration = Duration::from_secs(3);
/// What clients say of a server within this span is taken together.
pub const WITNESS_SPAN: Duration = Duration::from_secs(3);
/// So many clients must say the same: one may lie, or stand behind a broken cable.
pub const WITNESSES_NEEDED: usize = 2;
/// Words of clients remembered, at 40 bytes each.
pub const WITNESSES_MAX: usize = 4096;
/// Things that a client tells of chunk servers with one renewal, hence every half second.
pub const OBSERVATIONS_PER_RENEWAL_MAX: usize = 16;
/// A replica of which a client got bytes that do not verify is looked at by its server at most this often.
pub const REPLICA_CHECK_PAUSE: Duration = Duration::from_secs(60);
/// Such looks within that time: each reads a chunk.
pub const REPLICA_CHECKS_REMEMBERED: usize = 256;
/// How long such a look may take: a chunk at 2 MB/s.
pub const REPLICA_CHECK_PATIENCE: Duration = Duration::from_secs(30);
