//! The group of masters: Raft, copies of the state, backups, journal, sequencer.

use super::JOURNAL_ENTRY_BYTES_MAX;
use std::time::Duration;

/// Raft's clock: ten ticks make the shortest election timeout.
pub const RAFT_TICK: Duration = Duration::from_millis(20);
/// A leader's heartbeat period: five of them are lost before anybody doubts it.
pub const RAFT_HEARTBEAT_TICKS: usize = 2;
/// Shortest election timeout: 200 ms, twice a long pause of a healthy process.
pub const RAFT_ELECTION_TICKS_MIN: usize = 10;
/// Bound of the election timeout, which is drawn below it, so that candidates seldom meet.
pub const RAFT_ELECTION_TICKS_MAX: usize = 20;
/// Most bytes of entries in one append message, unless a single entry is larger.
pub const RAFT_MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Largest message from master to master: an entry of the largest size, and what stands around it.
pub const PEER_MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Messages that wait for one member to read. More are dropped, which Raft bears: with the window of append messages they
/// are mostly heartbeats and votes.
pub const PEER_MESSAGES_QUEUED_MAX: usize = 256;
/// Messages of other members that wait for the sequencer; then their connections are not read.
pub const PEER_MESSAGES_WAITING: usize = 256;
/// A master pings each other one so often.
pub const PEER_PING: Duration = Duration::from_millis(200);
/// A connection between masters on which nothing has come for so long is given up: a new one is made sooner than TCP tries
/// again after a partition.
pub const PEER_SILENCE_MAX: Duration = Duration::from_millis(800);
/// A connection to another master is made, and its hello answered, within this.
pub const PEER_DIAL_MAX: Duration = Duration::from_millis(400);
/// A change of the group is confirmed by a majority within this, or its fate is left open.
pub const GROUP_CHANGE_PATIENCE: Duration = Duration::from_secs(5);
/// A master that follows gets a vote when it lacks at most so many of the entries applied: some 20 ms of a busy leader.
pub const PROMOTION_LAG_ENTRIES: u64 = 1000;
/// Followers without a vote are looked at so often.
pub const PROMOTION_PERIOD: Duration = Duration::from_millis(200);
/// Bytes in one part of a copy of the state: small beside the window of a stream.
pub const FILL_PART_BYTES: usize = 512 << 10;
/// Parts read ahead of the stream that sends them.
pub const FILL_PARTS_QUEUED: usize = 4;
/// Bytes a second at which a leader hands out a copy: a million files take some 4 s, and clients that keep all cores of a small
/// machine busy, on which all masters run, keep nine tenths of their speed. At 160 MiB/s they kept half of it, for a second.
pub const FILL_BYTES_PER_SECOND: u64 = 32 << 20;
/// Copies handed out at a time.
pub const FILLS_MAX: usize = 2;
/// A copy and the journal after it stay so long after the last byte was sent: the member opens it, or asks for the rest.
pub const FILL_LINGER: Duration = Duration::from_secs(30);
/// Nothing of a copy arrives for so long: the stream is given up and the rest asked for again.
pub const FILL_SILENCE_MAX: Duration = Duration::from_secs(10);
/// Pause before a master that must be filled asks again.
pub const FILL_PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause, of one that was filled and cannot go on again at once.
pub const FILL_PAUSE_MAX: Duration = Duration::from_secs(8);
/// The leader ships its journal so often: twice this and the time that one object takes is what a restore may lack.
pub const BACKUP_PERIOD: Duration = Duration::from_millis(1000);
/// Bytes of entries that the sequencer reads for one question: a millisecond from memory, and few enough from the disk that
/// nobody notices.
pub const BACKUP_READ_BYTES: u64 = 1 << 20;
/// Bytes of entries after which a shipment is put and another one begun: half a second of a busy leader's journal.
pub const SHIPMENT_BYTES: usize = 8 << 20;
/// Largest object that is read as a whole: a shipment with its last entry, or the manifest of a state of 100,000 files.
pub const BACKUP_OBJECT_BYTES_MAX: u64 = 32 << 20;
/// One access to the destination of backups may take so long; it counts as failed then, and is tried again.
pub const BACKUP_PATIENCE: Duration = Duration::from_secs(60);
/// Journal that is kept on the leader's disk for a destination that does not take it. Beyond that it goes, and when the
/// destination is back a fresh image takes its place: a backup that fails must not fill the master's disk.
pub const BACKUP_PIN_BYTES: u64 = 4 << 30;
/// Journal shipped after an image before the next one is made: a restore replays it at some 60 MiB/s.
pub const BACKUP_IMAGE_BYTES: u64 = 8 << 30;
/// Time after an image before the next one is made, if anything was written: a day's objects are 86,400 at the most.
pub const BACKUP_IMAGE_AGE: Duration = Duration::from_secs(24 * 3600);
/// Most entries of one shipment: it is closed before it has two of the largest entries more than its bytes say.
pub const SHIPMENT_ENTRIES_MAX: u64 = ((SHIPMENT_BYTES + 2 * JOURNAL_ENTRY_BYTES_MAX) / 24) as u64;
/// Names of shipments that are removed at a time: a megabyte of memory.
pub const BACKUP_REMOVED_AT_ONCE: usize = 10_000;
/// Least number of images that can be kept when not all are: with one alone, a damaged object would be the end.
pub const BACKUP_IMAGES_KEPT_MIN: u32 = 2;
/// Pause after an image that could not be made.
pub const BACKUP_IMAGE_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of one part of an object that is put in parts; S3 takes 10,000 parts of at least 5 MiB: files of up to 78 GiB, and
/// RocksDB's are of 64 MiB.
pub const BACKUP_PART_BYTES: usize = 8 << 20;
/// Bytes a second at which an image is read from the leader's disk: half of what a master that is filled gets, nobody waits.
pub const BACKUP_BYTES_PER_SECOND: u64 = 80 << 20;
/// The last restorable point is at most so old, or operators are warned.
pub const BACKUP_AGE_WARNED: Duration = Duration::from_secs(10);
/// Numbers of inodes, chunks and sessions that a restore passes over: more than could be given out after the moment that is
/// restored, and few enough of the 2^48 for 65,000 restores.
pub const RESTORE_NUMBERS_SKIPPED: u64 = 1 << 32;
/// A stopped master looks so often whether its state is closed.
pub const RELEASE_POLL: Duration = Duration::from_millis(10);
/// First pause before another master is dialled again.
pub const PEER_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest such pause: a returning member is found within half an election timeout.
pub const PEER_BACKOFF_MAX: Duration = Duration::from_millis(100);
/// A follower that has heard its leader votes for nobody else for so long, on its own clock.
pub const RAFT_PROMISE: Duration = RAFT_TICK.saturating_mul(RAFT_ELECTION_TICKS_MIN as u32 - 1);
/// For so long after a heartbeat was sent that a majority answered, nobody else leads: their promise, less 10 % for clocks
/// that run at different speeds.
pub const READ_LEASE: Duration = Duration::from_millis(160);
/// A leader that stops, or is asked to, waits so long until another one has been elected: two elections.
pub const HAND_OVER_PATIENCE: Duration = Duration::from_millis(800);
/// A read whose leader lost its lease waits so long for the next heartbeat's answers.
pub const READ_LEASE_PATIENCE: Duration = Duration::from_millis(2000);
/// Most bytes of entries applied in one go: a full batch of ordinary requests. Entries, rows and the batch of writes are in
/// memory together, five times as much; a replay that takes more at a time is no faster.
pub const RAFT_APPLY_BYTES_MAX: u64 = 1 << 20;
/// Append messages in flight to one member.
pub const RAFT_INFLIGHT_MESSAGES_MAX: usize = 64;

/// Bytes of one journal segment: some seconds of full load, and 20 ms to make ahead.
pub const JOURNAL_SEGMENT_BYTES: u64 = 32 << 20;
/// Journal kept beyond what the state needs, for members that lag behind: some minutes of a busy leader.
pub const JOURNAL_KEEP_BYTES: u64 = 1 << 30;
/// Least of it that can be configured: a batch with its largest entry must fit into a segment.
pub const JOURNAL_KEEP_MIB_MIN: u64 = 16;
/// Journal kept by a master that is alone.
pub const JOURNAL_KEEP_ALONE_BYTES: u64 = JOURNAL_SEGMENT_BYTES;
/// Newest journal entries kept in memory: a follower that is a moment behind costs no read.
pub const JOURNAL_CACHE_BYTES: usize = 8 << 20;
/// An idle journal states by a closing mark that its last batch is durable after so long: at most 100 ms with one tick.
pub const JOURNAL_MARK_AFTER: Duration = Duration::from_millis(60);
/// Journal appended between two checkpoints: bounds what a restart replays (a second) and what the journal occupies.
pub const CHECKPOINT_JOURNAL_BYTES: u64 = 128 << 20;
/// A start that replayed so many entries (some 20 ms) is followed by a checkpoint: the next start need not do it again, and
/// their rows leave the memory.
pub const CHECKPOINT_REPLAY_ENTRIES: u64 = 4096;
/// A leader whose disk is nearly full lets another one lead, at most so often: the others may have no room either.
pub const DISK_LOW_HAND_OVER_PAUSE: Duration = Duration::from_secs(30);
/// Free bytes of the data directory's file system below which operations that grow the state are refused: room for a
/// checkpoint's flush, a compaction and two segments, so that deletes go on and the master needs no rescue.
pub const MASTER_DISK_RESERVE_BYTES: u64 = 384 << 20;
/// How often the free space is looked at: a second's growth of the state is far below the reserve.
pub const MASTER_DISK_CHECK: Duration = Duration::from_millis(1000);

/// Requests in the sequencer's queue: at 50,000 a second some 80 ms of work, beyond which waiting is worse than a retry.
pub const SEQUENCER_QUEUE_MAX: usize = 4096;
/// Requests decided for one journal batch: answers of the first wait for the decisions of the rest (a few ms).
pub const SEQUENCER_BATCH_REQUESTS_MAX: usize = 1024;
/// Bytes of entries in one journal batch.
pub const SEQUENCER_BATCH_BYTES_MAX: usize = 8 << 20;
/// A batch that is not committed after so long no longer holds the next one up: three times what it takes between neighbours on a
/// disk that syncs in 100 µs. (A thread that sleeps wakes up to a millisecond later.)
pub const SEQUENCER_HOLD_MAX: Duration = Duration::from_micros(500);
/// A sequencer that always has something to do lets the readers of the other members' connections, on the same thread, go on that
/// often: it costs 2 µs each time.
pub const SEQUENCER_REST_AFTER: Duration = Duration::from_micros(100);
/// A follower gathers so many committed entries, or one tick of the group, before it applies them: one batch costs less than many.
pub const BACKLOG_ENTRIES_MAX: usize = 256;
/// Decisions that wait for rows from the disk at a time; one thread each.
pub const SEQUENCER_LOADS_MAX: usize = 128;
/// A decision whose rows were loaded so often and are still not in memory waits for the disk in the sequencer itself.
pub const SEQUENCER_LOAD_ROUNDS_MAX: u32 = 6;

/// Applied rows that the sequencer keeps at hand, and a batch more: with some 200 bytes each, a megabyte.
pub const HOT_ROWS_MAX: usize = 4096;
/// The sequencer looks out for its next request so long before it sleeps, while they come faster than that. A client that does
/// one operation after the other must be back well within it on a slow machine too: it is after 130 to 250 µs, but after 250 to 450
/// once the sequencer sleeps between them (waking it costs 60 to 100), so that a bound in the midst of that halves the pace.
pub const LOOK_OUT: Duration = Duration::from_micros(500);
/// Others who want its core have it meanwhile; if they keep it for longer than this, as when all cores are busy, it sleeps: with
/// three masters and a mount on four cores a fifth more operations get done.
pub const LOOK_OUT_YIELD_MAX: Duration = Duration::from_micros(20);
/// On machines with fewer cores it sleeps at once.
pub const LOOK_OUT_CORES_MIN: usize = 4;
/// Connections that a busy poll looks at: a session with the master and those with three chunk servers.
pub const BUSY_POLLED_MAX: usize = 4;
/// Most that one busy poll reads at a time: longer messages take several.
pub const BUSY_READ_BYTES: usize = 16 * 1024;
/// While a thread polls a connection busily, nobody else is woken for less: as much as the largest answers.
pub const BUSY_LOW_WATER_BYTES: u32 = 64 * 1024;
/// A mount polls busily so long for the answer to its only request: an operation of a master that syncs takes 200 to 400 µs, an
/// fsync of a file on disks 500 to 700.
pub const BUSY_WAIT: Duration = Duration::from_micros(1000);
