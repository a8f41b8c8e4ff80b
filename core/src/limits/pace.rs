//! How far copies give way to what programs wait for (`cluster/pace`).

use std::time::Duration;

/// Least that copies get of a disk whose foreground suffers, in thousandths of one stream of copying that never pauses: so that a
/// repair ends. A lost server's chunks stand on all others and go to all others: that much of one stream on each of four disks is more
/// than 15 % of what one plain copy reaches.
pub const PACE_SHARE_MIN: u32 = 100;
/// One stream that never pauses.
pub const PACE_SHARE_STREAM: u32 = 1000;
/// What copies begin with where there is a foreground: programs should not feel it while it is found out what they bear.
pub const PACE_SHARE_START: u32 = 250;
/// Added when the foreground has not suffered: from the least to one stream in three seconds.
pub const PACE_SHARE_STEP: u32 = 100;
/// From here on copies are not held back: more streams than a server has copies and frames of them under way.
pub const PACE_SHARE_UNBOUNDED: u32 = 64_000;
/// How often it is looked how the foreground does.
pub const PACE_LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Answers are judged together that were given in this span: some dozens on a disk that has something to do.
pub const PACE_WINDOW: Duration = Duration::from_millis(300);
/// Fewer answers of one kind than this say nothing about it.
pub const PACE_ANSWERS_MIN: u32 = 8;
/// A disk with fewer than that many answers in this span has no foreground worth the name.
pub const PACE_IDLE: Duration = Duration::from_secs(1);
/// The foreground suffers when its 99th percentile is so many percent of what is usual without copies: what clients see may grow
/// by half, and the network and the client's own machine have a part in that.
pub const PACE_SUFFERS_PERCENT: u32 = 125;
/// And at least by so much: less is the noise of a scheduler.
pub const PACE_SUFFERS_MIN: Duration = Duration::from_micros(200);
/// Copies stop so often for [`PACE_TRIAL`], so that it shows what is usual without them: a twentieth of the time.
pub const PACE_TRIAL_PERIOD: Duration = Duration::from_secs(10);
/// As above, while nothing is known.
pub const PACE_FIRST_TRIAL_PERIOD: Duration = Duration::from_secs(3);
/// How long they stop. What was written before is on its way to the disk for the first part of it.
pub const PACE_TRIAL: Duration = Duration::from_millis(500);
/// That first part.
pub const PACE_TRIAL_SETTLES: Duration = Duration::from_millis(150);
/// What copies may take at once after a rest.
pub const PACE_CREDIT_MAX: Duration = Duration::from_millis(10);
/// How far copies of what has one replica left may go beyond what is due to all: others then wait.
pub const PACE_LAST_DEBT_MAX: Duration = Duration::from_millis(50);
/// A portion of a copy waits at most so long, whatever the foreground says: far below `HOP_WAIT_MAX`, and nothing stands still.
pub const PACE_WAIT_MAX: Duration = Duration::from_secs(5);
/// A copy that gives way makes so much durable at a time, which holds up every other sync of the disk: about a millisecond at
/// 500 MB/s. (With 2 MiB the foreground's 99th percentile rose by half as much again; with 256 KiB copies paid more for syncs.)
pub const PACE_SYNC_BYTES: u64 = 512 << 10;
/// How far back a disk remembers what a stream of copies reaches, in time that copies took.
pub const PACE_STREAM_MEMORY: Duration = Duration::from_secs(4);
/// Less time than this says nothing about it.
pub const PACE_STREAM_MIN: Duration = Duration::from_millis(50);
/// Copies at a time to or from a server that gives way as far as it may: one that reads, one that syncs.
pub const PACED_REPAIRS_MIN: usize = 2;
/// Copies into or out of one rack at a time: as many as eight of its servers may have, so that the links of a rack that lost a
/// server are not filled from all the others.
pub const REPAIRS_PER_RACK_MAX: usize = 8 * super::REPAIRS_PER_SERVER_MAX;
