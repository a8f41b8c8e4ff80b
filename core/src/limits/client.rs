//! The client library and the mount.

use super::FRAME_PAYLOAD_BYTES_MAX;
use std::time::Duration;

/// Queries of one client in flight: the kernel's own default background limit times many processes; more wait.
pub const QUERIES_IN_FLIGHT_MAX: usize = 256;
/// Messages of one client that wait for the HTTP/2 stream: everything that can be in flight, and declarations.
pub const OUTBOX_MESSAGES: usize = 1024;
/// A master that does not answer a client's Hello in this time is passed over.
pub const HELLO_ANSWER_MAX: Duration = Duration::from_millis(1500);
/// A leader from which a client has heard nothing for so long, renewals included, is looked for elsewhere.
pub const LEADER_SILENCE_MAX: Duration = Duration::from_millis(1000);
/// A leader from which a client has heard nothing for so long is doubted, and the other masters are asked whether one of them
/// leads: as long as an election takes at most, and longer than the pause between two renewals.
pub const LEADER_DOUBT: Duration = Duration::from_millis(360);
/// First pause between two rounds of looking for the leader.
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest such pause: a restarted master is found soon, an absent one costs two tries a second.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// When one master has refused a client, the others get so long to answer: a frozen one holds nobody up.
pub const MASTER_STRAGGLER_PATIENCE: Duration = Duration::from_millis(150);
/// Longest such pause while masters answer that none of them leads: an election takes some 300 ms.
pub const ELECTION_PAUSE_MAX: Duration = Duration::from_millis(40);
/// First pause before an operation is tried again that was told to come back (lease recalled, overloaded).
pub const LEASE_RETRY_MIN: Duration = Duration::from_millis(2);
/// Longest such pause.
pub const LEASE_RETRY_MAX: Duration = Duration::from_millis(50);
/// Connections of a client to one chunk server. All frames of one chunk's writes share one, so that the server can tell
/// a delayed frame; four keep four cores busy.
pub const DATA_LANES: u64 = 4;
/// A write or sync that is not answered for so long, although its server answers pings, is given up: the disk hangs.
pub const STORE_STALL_MAX: Duration = Duration::from_secs(5);
/// A read that is not answered for so long anywhere is given up and planned anew.
pub const FETCH_STALL_MAX: Duration = Duration::from_secs(5);
/// Least time before a second replica is asked: a shorter one would double the load whenever a server is busy.
pub const HEDGE_DELAY_MIN: Duration = Duration::from_millis(20);
/// Longest such time, whatever the server's past: a frozen server must not stall a read.
pub const HEDGE_DELAY_MAX: Duration = Duration::from_millis(200);
/// A client's clock ticks so long after the last call to a chunk server.
pub const PULSE_IDLE: Duration = Duration::from_millis(200);
/// Reads of so many bytes are part of a stream.
pub const STREAM_READ_BYTES_MIN: u32 = 128 * 1024;
/// A server that failed is asked last for so long; doubles with each failure in a row.
pub const BREAKER_MIN: Duration = Duration::from_secs(1);
/// Longest such time.
pub const BREAKER_MAX: Duration = Duration::from_secs(30);
/// Chunks that a client holds ready, so that a new file waits for no allocation.
pub const CHUNK_POOL_MAX: usize = 64;
/// Attributes and map of a lookup serve the open of the same inode for so long: the kernel sends both for one open(2).
pub const LOOKUP_SERVES_OPEN: Duration = Duration::from_millis(10);
/// Lookups so remembered.
pub const LOOKUPS_REMEMBERED: usize = 1024;
/// Inodes whose last coherent view is remembered, to keep kernel pages across opens.
pub const VIEWS_REMEMBERED: usize = 65_536;
/// Idle write leases that a client keeps after close, for the next open; the oldest goes back first.
pub const IDLE_LEASES_MAX: usize = 1024;
/// So many of the oldest are given back together when there are more: one request in place of many.
pub const IDLE_LEASES_BATCH: usize = IDLE_LEASES_MAX / 4;
/// Bytes that wait for companions leave after so long.
pub const WRITE_LINGER: Duration = Duration::from_millis(100);
/// Written files are synced and committed this often without being asked: what a crash of the client can lose.
pub const WRITE_BACK: Duration = Duration::from_secs(5);
/// Extents acknowledged and not yet recorded, after which a commit is begun unasked.
pub const UNRECORDED_EXTENTS_MAX: usize = 4096;
/// Buffered writes up to this size are copied together, larger ones are kept as they came: below it the copy costs less
/// than a part of its own.
pub const COALESCE_COPY_BYTES_MAX: usize = 16 * 1024;
/// Small frames that a flusher sends itself: more are sent sooner by several threads.
pub const SENT_BY_FLUSHER_MAX: usize = 4;
/// Threads of a service ask for slices of the scheduler so short: the shortest that Linux grants. They sleep sooner.
pub const SERVICE_SLICE: Duration = Duration::from_micros(100);
/// A small write that had better be durable waits so long for it: several times what a solid-state disk takes, and no more than a moment.
pub const EAGER_WRITE_PATIENCE: Duration = Duration::from_millis(2);
/// More writes than this between two syncs of a file are no habit of syncing: as many small frames may leave for nothing.
pub const HABIT_WRITES_MAX: u32 = 4;
/// So many syncs in a row, each after few writes, make a habit: one may be chance.
pub const HABIT_SYNCS_MIN: u32 = 2;
/// So many syncs in a row, each of what the same one has written, are those of a single writer: several threads meet sooner.
pub const HABIT_SINGLE_WRITES_MIN: u32 = 16;
/// Bytes of one file in flight to chunk servers: 32 frames, several times bandwidth x delay of 25 Gbit/s and 1 ms.
pub const FILE_IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;
/// Accepted and unacknowledged bytes of one file: the window and as much again, so that the window never runs dry.
pub const FILE_UNACKNOWLEDGED_BYTES_MAX: usize = 16 << 20;
/// First read-ahead window: one frame.
pub const READ_AHEAD_BYTES_MIN: u64 = FRAME_PAYLOAD_BYTES_MAX as u64;
/// Largest read-ahead window of one open file.
pub const READ_AHEAD_BYTES_MAX: u64 = 4 << 20;
