//! The data plane and the chunk store.

use std::time::Duration;

/// Largest payload of one data-plane frame. 128–256 KiB sub-frames stay in L2 and pipeline well (machine facts A).
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Writes up to this size go to each replica directly and through the disk's intent journal.
pub const SMALL_WRITE_BYTES_MAX: usize = 32 * 1024;
/// Most replicas of one chunk, hence most hops of a chain.
pub const REPLICAS_MAX: usize = 8;
/// Longest `host:port`: hop lists store its length in one byte.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Masters of one group, learners included: more than seven voters cost more than they protect.
pub const MASTERS_MAX: usize = 9;
/// Frames in flight on one data-plane connection.
pub const FRAMES_IN_FLIGHT_MAX: usize = 128;
/// Requests that a server holds of one connection, from header read to reply written: twice what a caller may have in
/// flight, because a reply frees the caller's place before the server has noticed that it left.
pub const FRAMES_HELD_PER_CONNECTION_MAX: usize = 2 * FRAMES_IN_FLIGHT_MAX;
/// Requests that a server holds of all connections together; beyond it they are refused as overloaded. Bounds the memory
/// for payloads to some 530 MiB.
pub const FRAMES_HELD_MAX: usize = 2048;
/// Data-plane connections of one server. One that stalls within a frame holds one payload buffer.
pub const DATA_CONNECTIONS_MAX: usize = 1024;
/// Who has not finished the Hello exchange of a data-plane connection by then is disconnected.
pub const DATA_HANDSHAKE_MAX: Duration = Duration::from_secs(3);
/// Largest encoded Hello or refusal.
pub const HELLO_BYTES_MAX: usize = 4096;
/// A caller that hears nothing on a data-plane connection for so long pings.
pub const DATA_IDLE_PING: Duration = Duration::from_secs(1);
/// A caller that hears nothing for so long in spite of pings gives the connection up. Only a backstop: requests are
/// routed around a silent server after [`HOP_SILENCE`] and [`PING_SILENCE`] already.
pub const DATA_SILENCE_MAX: Duration = Duration::from_secs(5);
/// A server closes a connection on which no whole frame came for so long: callers ping far more often.
pub const DATA_IDLE_MAX: Duration = Duration::from_secs(30);
/// A peer that accepts no byte for so long is disconnected; what was queued for it is dropped.
pub const DATA_WRITE_STALL_MAX: Duration = Duration::from_secs(10);
/// Connections from one chunk server to another for frames of one kind: one core copies 4 GiB/s over one of them.
pub const HOP_LANES: u64 = 2;
/// Connections of one chunk server to others. Hop lists come from clients, so hostile ones could name any address.
pub const HOP_CONNECTIONS_MAX: usize = 512;
/// What a hop adds to [`HOP_SILENCE`] for each server beyond its successor: whoever waits for the culprit itself speaks first.
pub const HOP_STAGGER: Duration = Duration::from_millis(20);
/// A hop waits at most so long for its successor, even one that answers pings. Beyond it the successor has failed.
pub const HOP_WAIT_MAX: Duration = Duration::from_secs(30);
/// Commands of masters under way on one chunk server; as many as a master keeps outstanding.
pub const COMMANDS_HELD_MAX: usize = 4096;
/// Messages that wait for one master's stream to take them.
pub const CONTROL_REPLIES_WAITING: usize = 256;
/// Reconciliations at a time on one source: each keeps [`COPY_WINDOW`] frames in flight to each peer.
pub const RECONCILIATIONS_MAX: usize = 8;
/// Frames in flight of one copy to one peer: 2 MiB.
pub const COPY_WINDOW: usize = 8;
/// Replicas in one page of a list: some 300 KiB.
pub const REPLICA_LIST_PAGE: usize = 4096;
/// Events of one chunk server that may wait for a master's stream; missed ones show in the next heartbeat or inventory.
pub const EVENTS_WAITING: usize = 1024;
/// How often a chunk server sends digests of all it holds, so that strays are seen again after their grace.
pub const INVENTORY_PERIOD: Duration = Duration::from_secs(60);
/// How long a service that stops waits for what it has begun.
pub const SHUTDOWN_DRAIN: Duration = Duration::from_secs(5);
/// Connections to the health pages of one server: a few collectors and operators.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// A connection to the health pages is closed after so long: a page takes milliseconds.
pub const HTTP_CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Pause before a chunk server asks a master again that does not lead: a part of what a failover takes.
pub const NOT_LEADER_PAUSE: Duration = Duration::from_millis(300);
/// First pause before a chunk server asks a master again.
pub const MASTER_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a chunk server asks a master again.
pub const MASTER_BACKOFF_MAX: Duration = Duration::from_millis(2000);
/// Free payload buffers that a process keeps for the next frames: 17 MiB.
pub const POOLED_BUFFERS_MAX: usize = 64;

/// A hop that waits so long for its successor says so upstream.
pub const HOP_SILENCE: Duration = Duration::from_millis(100);
/// A server that answers no ping for so long after [`HOP_SILENCE`] is reported to the master.
pub const PING_SILENCE: Duration = Duration::from_millis(150);
/// Chunk servers' heartbeat period.
pub const SERVER_HEARTBEAT: Duration = Duration::from_millis(300);
/// A chunk server silent for so long gets no new chunks.
pub const SERVER_SUSPECT: Duration = Duration::from_millis(1000);
/// A replica found on a server but unknown to the master is deleted only after this grace.
pub const ORPHAN_REPLICA_GRACE: Duration = Duration::from_secs(300);

/// Blocks of one record of a disk's intent journal: a small write, so that batches can be cut finely.
pub const INTENT_BLOCKS_MAX: usize = 8;
/// Bytes of one intent journal segment; several are used in turn, so that writing back and journaling overlap.
pub const INTENT_SEGMENT_BYTES: u64 = 8 << 20;
/// Segments of one disk's intent journal. Their sum bounds memory (journaled blocks stay there until written back),
/// disk space and the time of recovery; when they are full, writers wait.
pub const INTENT_SEGMENTS: u64 = 4;
/// Bytes of one journal batch: an eighth of a segment, so that little is lost at its end.
pub const INTENT_BATCH_BYTES_MAX: usize = 1 << 20;
/// Journal bytes that only commands, syncs and deletes may use: they work while data is refused or waits.
pub const INTENT_RESERVE_BYTES: u64 = 1 << 20;
/// A journal with records this old is written back although it is not full, so that a restart finds little to do.
pub const INTENT_AGE_MAX: Duration = Duration::from_secs(5);
/// Replica files that a server keeps open, and whose tables (at most 128 KiB each) it keeps in memory: a quarter of a
/// million-descriptor limit is never near, and 128 MiB are.
pub const OPEN_REPLICAS_MAX: usize = 1024;
/// Blocking calls at work on one disk: more queue depth than a disk gains from, few threads of the blocking pool.
pub const DISK_CALLS_MAX: usize = 16;
/// A disk whose journal commits faster is committed by whoever asks: a hand-over to another thread costs some 25 µs each
/// way, more than the commit.
pub const QUICK_COMMIT_MAX: Duration = Duration::from_micros(30);
/// Such commits done in a row by one who came to have his own done; the rest of what others want goes to another thread.
pub const QUICK_COMMITS_IN_A_ROW_MAX: usize = 3;
/// Requests that may wait for one disk; beyond, `Overloaded`. At 10 k/s it is 0.1 s of work.
pub const DISK_QUEUE_MAX: usize = 1024;
/// Bytes written in place after which the system is asked to write them out: large enough for the disk, small against a chunk.
pub const START_WRITE_OUT_BYTES: u64 = 4 << 20;
/// Jobs of one write-back at the same time: their fdatasyncs share the file system's own commits.
pub const WRITE_BACK_CONCURRENCY: usize = 8;
/// Replicas of one such job: far fewer hand-overs between threads than files.
pub const WRITE_BACK_JOB: usize = 32;
/// Blocks of one replica written back in one go: its writers wait meanwhile, for some hundred microseconds.
pub const WRITE_BACK_PORTION: usize = 32;
/// Between such portions, while the journal has room: so that the disk has time for those who wait for a sync.
pub const WRITE_BACK_PAUSE: Duration = Duration::from_millis(1);
/// Replicas written back before their files are synced together: so many file handles are held.
pub const WRITE_BACK_GROUP: usize = 256;
/// Events waiting for the heartbeat; more are dropped, the state itself stays in the lists.
pub const STORE_EVENTS_MAX: usize = 1024;

/// Bytes that a scrubber reads at a time: some milliseconds of a hard disk, in which others wait for it.
pub const SCRUB_STEP_BYTES: u64 = 1 << 20;
/// Longest rest of a scrubber: then it looks again what is due.
pub const SCRUB_REST_MAX: Duration = Duration::from_secs(10);
/// Rest of a scrubber that waits for a quiet moment: several requests long, so that it does not stand between two of them.
pub const SCRUB_YIELD_REST: Duration = Duration::from_millis(200);
/// Parts of a disk of which is remembered when they were verified last: twice what a round lays down, 3 KiB of the progress file.
pub const SCRUB_MARKS_MAX: usize = 128;
/// How often the progress of a scrubber is noted on its disk while it moves: what a crash makes it verify again.
pub const SCRUB_NOTE_PERIOD: Duration = Duration::from_secs(60);
/// Rest before a scrubber tries again what it could not read for another reason than damage.
pub const SCRUB_RETRY_REST: Duration = Duration::from_secs(1);
/// Attempts at one replica before it is left for the next round, as old as it is.
pub const SCRUB_ATTEMPTS_MAX: u32 = 10;
/// Default period of scrubbing: fault studies of large fleets find latent errors to add up over weeks.
pub const SCRUB_PERIOD_DAYS: u32 = 14;
/// Default limit of scrubbing: a third of what a hard disk reads, 55 TiB in [`SCRUB_PERIOD_DAYS`].
pub const SCRUB_MIB_PER_SECOND: u32 = 50;

/// Blocks of a moving replica that are copied while nobody can write to it: half a mebibyte, some milliseconds of a disk.
pub const MOVE_LAST_BLOCKS_MAX: u32 = 128;
/// How often what was written meanwhile is copied again before a move to another disk is left for later.
pub const MOVE_ROUNDS_MAX: usize = 5;
/// Replicas that move off a disk at a time: small ones wait for syncs most of the time, which they share.
pub const VACATE_CONCURRENCY: usize = 4;
/// Rest between two passes over a disk that is being emptied, when the first has moved nothing.
pub const VACATE_REST: Duration = Duration::from_secs(1);
/// Replicas listed for the masters that no other disk of their server has room for; when these have gone, others are.
pub const VACATE_LISTED_MAX: usize = 4096;
