//! What is kept for operators who ask what happened.

use std::time::Duration;

/// Events that a master keeps, of some 300 bytes each: hours of a cluster with trouble, months of one without.
pub const EVENTS_MAX: usize = 4096;
/// Events in one answer: far below the size of a message.
pub const EVENTS_PER_ANSWER: usize = 1024;
/// Longest text of one event that comes from elsewhere (what a disk says, a backup's destination), in bytes.
pub const EVENT_TEXT_BYTES_MAX: usize = 400;
/// What is noticed by looking (servers, disks, backup) is looked at so often: half of [`super::SERVER_SUSPECT`] at the most.
pub const EVENTS_PERIOD: Duration = Duration::from_millis(200);
/// Replicas found or healed are told of so often, as sums: a disk that is gone loses a hundred thousand.
pub const DAMAGE_TOLD_PERIOD: Duration = Duration::from_millis(1000);
/// Chunks of one file that `admin why` looks at: 64 GiB, and some milliseconds.
pub const WHY_CHUNKS_MAX: usize = 1024;
/// Sessions that one recall names as waiting for it; who comes later is not named.
pub const RECALL_WANTED_MAX: usize = 16;
/// Sessions with a file open that `admin why` names.
pub const WHY_OPENS_MAX: usize = 64;
/// Chunks that one `admin status` looks at to tell how many good copies they have: a tenth of a second. Only those are looked at
/// that a server away, a damaged replica or a set of another size gives reason for.
pub const COPIES_COUNTED_MAX: usize = 65_536;
/// Samples of how full the cluster was stay so many hours, one an hour.
pub const CAPACITY_HOURS: u32 = 48;
/// Then so many days, one a day: 800 rows of 50 bytes in all.
pub const CAPACITY_DAYS: u32 = 730;
/// Samples read at a time: twice what can stand there, since what a release before this one kept goes with the next sample.
pub const CAPACITY_SAMPLES_MAX: usize = 2 * (CAPACITY_HOURS + CAPACITY_DAYS) as usize;
/// It is looked at so often whether a new hour has begun.
pub const CAPACITY_PERIOD: Duration = Duration::from_secs(10);
/// Growth is what the samples of so long a time show: whatever was before was another way of working.
pub const GROWTH_WINDOW: Duration = Duration::from_secs(14 * 86_400);
/// Samples over less time than this say nothing of growth.
pub const GROWTH_SPAN_MIN: Duration = Duration::from_secs(6 * 3600);
/// Nor do fewer.
pub const GROWTH_SAMPLES_MIN: usize = 4;
/// What is full only after so long is not growing: no estimate reaches so far.
pub const GROWTH_FAR: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The figures of `/metrics` that must be counted in the state are counted so often: well within what a scraper waits.
pub const COUNTS_PERIOD: Duration = Duration::from_secs(5);
/// An operation that took so long is kept for `admin slow`: a hundred times what one takes in health, and what a person notices.
pub const SLOW_OPERATION: Duration = Duration::from_millis(500);
/// Waits below this are no reason for such a one.
pub const SLOW_HOP_MIN: Duration = Duration::from_millis(10);
/// Places at which one operation is said to have waited.
pub const SLOW_HOPS_MAX: usize = 8;
/// Slow operations that a client tells with one renewal, hence every half second; of more it tells the latest.
pub const SLOW_PER_RENEWAL_MAX: usize = 16;
/// Slow operations that a master keeps, of some 500 bytes each.
pub const SLOW_KEPT_MAX: usize = 2048;
/// Longest name of an operation or of a place in it, in bytes, that a client may tell.
pub const SLOW_TEXT_BYTES_MAX: usize = 80;
