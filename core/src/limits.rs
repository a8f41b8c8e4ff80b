//! Every bound of the system, with the argument for its value and the relations between them.

use crate::units::{BLOCK_BYTES, CHUNK_BYTES};
use std::time::Duration;

/// Longest file name in bytes (POSIX NAME_MAX on Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symlink target in bytes (PATH_MAX less the terminator).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Most hard links of one inode (as ext4).
pub const LINKS_MAX: u32 = 65_000;
/// Longest extended attribute name in bytes (Linux XATTR_NAME_MAX).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Longest extended attribute value in bytes (Linux XATTR_SIZE_MAX).
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;
/// Most bytes of names and values of all extended attributes of one inode; bounds listxattr and the unlink entry.
pub const XATTR_TOTAL_BYTES_MAX: usize = 256 * 1024;
/// Largest file size: the largest offset that fits `loff_t`, rounded down to a chunk.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64 - CHUNK_BYTES;
/// Most supplementary groups of one caller (Linux NGROUPS_MAX).
pub const GROUPS_MAX: usize = 65_536;

/// Slots of one session: as many sequenced requests of one client may be in flight.
pub const SESSION_SLOTS: u32 = 64;
/// Largest encoded answer that a slot keeps for a retry.
pub const SLOT_ANSWER_BYTES_MAX: usize = 512;
/// A session silent for so long is ended by the leader. Twice the term plus slack for a failover.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(15);
/// How often a client renews its session.
pub const SESSION_RENEW: Duration = Duration::from_millis(300);
/// How long a holder has to give a recalled write lease back before it is taken (its unsynced writes are then lost).
pub const LEASE_RECALL: Duration = Duration::from_secs(10);

/// Term of all shared leases of a session, counted by the leader from hearing the last renewal that it granted: how long
/// a client that fell silent can hold up a change of what it caches.
pub const SHARED_LEASE_TERM: Duration = Duration::from_millis(1500);
/// The same term as a client counts it, from sending: less by more than two clocks can drift apart meanwhile.
pub const SHARED_LEASE_BELIEF: Duration = Duration::from_millis(1350);
/// A client that has not confirmed an invalidation for so long is not granted its next renewal.
pub const INVALIDATION_PATIENCE: Duration = Duration::from_millis(250);
/// Inodes that one session may hold; more are answered, but not to be cached. Twice what a client keeps, for what it has
/// dropped and not yet said so.
pub const SESSION_SHARED_LEASES_MAX: usize = 2 * CACHED_ITEMS_MAX;
/// Inodes that all sessions may hold together: some 100 bytes each.
pub const SHARED_LEASES_MAX: usize = 1 << 20;
/// Inodes and names that a client caches, some 300 bytes each.
pub const CACHED_ITEMS_MAX: usize = 131_072;
/// Changes that a client remembers, to tell whether an answer on its way has been overtaken.
pub const CHANGES_REMEMBERED: usize = 4096;
/// Dropped inodes in one message to the leader.
pub const FORGOTTEN_PER_MESSAGE_MAX: usize = 8192;
/// Reads of the state that are tried again because it changed meanwhile, before an answer goes out not to be cached.
pub const LEASED_READ_ATTEMPTS: usize = 8;

/// Neighbours of a name fetched ahead at first: little more work for the master than the name itself.
pub const AHEAD_ENTRIES_MIN: u32 = 16;
/// Most neighbours fetched at once: half a millisecond to a millisecond of the master's time, in which others wait.
pub const AHEAD_ENTRIES_MAX: u32 = 1024;
/// As above, with the maps of small files: each costs some reads of the state. At most 3 MiB, with eight replicas on servers
/// with the longest of names.
pub const AHEAD_MAPS_MAX: u32 = 256;
/// Names asked for one by one in a directory before its neighbours are fetched: one alone is the step of a path.
pub const AHEAD_PATIENCE_MIN: u32 = 2;
/// As above, after fetches of no use: random access to a directory fetches one name more for 64 that it asks for.
pub const AHEAD_PATIENCE_MAX: u32 = 1024;
/// A directory is fetched whole, in whatever order its names are asked for, when it has at most so many times the entries
/// that were asked for already: an entry of a page costs a hundredth of a question.
pub const AHEAD_WHOLE_FACTOR: u64 = 16;
/// Largest directory that is fetched whole: an eighth of what a client caches.
pub const AHEAD_WHOLE_MAX: u64 = CACHED_ITEMS_MAX as u64 / 8;
/// A question waits so long at most for a fetch that probably answers it, many times what one takes: a master that is away
/// must not be waited for twice.
pub const AHEAD_WAIT: Duration = Duration::from_millis(20);
/// Directories whose walks are remembered, some 200 bytes each: many programs at work in trees.
pub const WALKS_REMEMBERED: usize = 64;

/// A write lease that somebody else wants is taken from a holder that has been silent for so long, recalled or not: eight
/// renewals, and longer than any restart of a master.
pub const LEASE_SILENCE_MAX: Duration = Duration::from_secs(4);

/// Largest directory page in entries; a page also ends at [`DIRECTORY_PAGE_BYTES_MAX`].
pub const DIRECTORY_PAGE_ENTRIES_MAX: usize = 4096;
/// Largest directory page in encoded bytes.
pub const DIRECTORY_PAGE_BYTES_MAX: usize = 512 * 1024;
/// Most extents in one Map answer, one Commit, or one journal entry of a truncate.
pub const EXTENTS_PER_MESSAGE_MAX: usize = 1024;
/// Most extents that one record cuts off; a larger cut sets a new data id and leaves the rest to be dropped in batches. A
/// dropped extent costs at most about 400 encoded bytes (its own row, its chunk's, three replicas'), so a record stays
/// below 1 MiB.
pub const EXTENTS_CUT_MAX: usize = if cfg!(test) { 6 } else { 2048 };
/// Most pieces of one file's map: one commit needs at most two for each of its extents, so that on a mended map it always
/// fits; beyond, large cuts are refused until some pieces are merged. 16 bytes each in the inode's row, while they last.
pub const MAP_PIECES_MAX: usize = if cfg!(test) { 64 } else { 2 * EXTENTS_PER_MESSAGE_MAX + 64 };
/// Most orphans reclaimed by one record.
pub const ORPHANS_PER_RECORD_MAX: usize = 256;
/// Most items (chunks, leases) released by one batch of ending a session.
pub const SESSION_END_BATCH: usize = 1024;
/// Most chunks that one lease may mark for overwriting at a time: 256 GiB of random overwrites. Beyond, the
/// holder commits with `release` and takes the lease again.
pub const LEASED_CHUNKS_MAX: u32 = 4096;
/// Most bytes of a session's description or a server's address kept in the state.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Most chunks asked for by one `Locate`.
pub const LOCATE_CHUNKS_MAX: usize = 1024;
/// A lookup carries the file's map when it has at most this many extents.
pub const LOOKUP_EXTENTS_MAX: usize = 4;
/// Most leases of one `ReleaseLeases`: each takes two rows away.
pub const LEASES_PER_REQUEST_MAX: usize = 1024;
/// Most chunks of one `ReleaseChunks` or `LeaseFile`.
pub const CHUNKS_PER_REQUEST_MAX: usize = 1024;
/// Deepest directory: bounds the walk to the root that a rename of a directory makes.
pub const DIRECTORY_DEPTH_MAX: usize = 65_536;

/// Most chunks allocated by one request; 64 keeps the answer of a request below the message limit by far.
pub const CHUNKS_PER_ALLOCATION_MAX: u32 = 16;
/// Largest control-plane message in bytes: a directory page with slack.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Largest encoded journal entry in bytes.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 4 << 20;

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
/// A chunk server not connected for so long is called down; until then suspect, as after a restart of either side.
pub const SERVER_DOWN: Duration = Duration::from_secs(10);
/// A chunk server not heard of for so long is dead: its replicas are made anew elsewhere. Longer than a restart of it takes.
pub const SERVER_DEAD: Duration = Duration::from_secs(10);
/// A master that has not looked at its servers for so long was stopped itself: their silence until then says nothing.
pub const OBSERVER_PAUSE: Duration = Duration::from_secs(1);
/// A server that a client found dead gets no new chunks for so long: until its silence shows by itself.
pub const SERVER_DISTRUST: Duration = Duration::from_millis(1500);
/// Commands that one chunk server may have outstanding. A dying neighbour raises hundreds of chunks at once.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 4096;
/// Most replicas in the list of one digest range: several times its size, for a range filled since the digest.
pub const REPLICA_LIST_MAX: usize = 65_536;
/// How long survivors have to raise a version: those later are dropped from the set. It is one small sync on their disks;
/// together with [`PING_SILENCE`] and [`HOP_SILENCE`] it stays well below the second that a frozen server may cost.
pub const RAISE_PATIENCE: Duration = Duration::from_millis(300);
/// Leases asked back at a time; further conflicts wait for one of these to end.
pub const RECALLS_MAX: usize = 65_536;
/// A stream whose first message does not come in this time is closed.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Chunks read from the state at a time when an inventory is compared.
pub const INVENTORY_PAGE: usize = 4096;
/// Ranges of one inventory: 65,536 of 4096 replicas are more than one server stores, and fit one message.
pub const INVENTORY_RANGES_MAX: usize = 65_536;
/// Stray replicas remembered until their grace is over; further ones are noticed when these are gone.
pub const STRAYS_WATCHED_MAX: usize = 262_144;
/// Least pause between two looks of one periodic job at its rows.
pub const WORK_PAUSE: Duration = Duration::from_millis(20);
/// Work rows read at a time.
pub const WORK_PAGE: usize = 1024;
/// How long a reconciliation waits for a replica that cannot be reached before that one leaves the set.
pub const RECONCILE_WAIT: Duration = Duration::from_secs(3);
/// Rows counted for one figure of `admin status`; what is beyond shows as this number.
pub const ADMIN_COUNT_MAX: u64 = 1_000_000;
/// Placements in one page of `admin chunks`: some 200 bytes each.
pub const ADMIN_PLACEMENTS_PER_PAGE: usize = 2048;
/// Pages of `admin chunks` made ahead of their reader.
pub const ADMIN_PAGES_QUEUED: usize = 2;
/// Findings that one `admin fsck` keeps, of some 300 bytes each; the others are counted: whoever has so many has one cause.
pub const FINDINGS_MAX: usize = 10_000;
/// Findings in one message of `admin fsck`: far below the size of a message.
pub const ADMIN_FINDINGS_PER_PAGE: usize = 1000;
/// Chunks whose references `admin fsck` counts in one pass over the extents: about 64 MiB of memory.
pub const FSCK_CHUNKS_COUNTED: usize = 1 << 20;
/// Lists of replicas asked for at a time by one `admin chunks`.
pub const ADMIN_LISTS_IN_FLIGHT_MAX: usize = 64;
/// Longest path given by an operator (Linux PATH_MAX).
pub const PATH_BYTES_MAX: usize = 4096;
/// How often each kind of work is looked for when nothing has hinted at it.
pub const DELETIONS_PERIOD: Duration = Duration::from_millis(500);
/// As above; nothing waits for garbage.
pub const GARBAGE_PERIOD: Duration = Duration::from_millis(1000);
/// As above; twice within [`ORPHAN_INODE_GRACE`].
pub const ORPHANS_PERIOD: Duration = Duration::from_millis(1000);
/// As above; readers wait for a reconciliation.
pub const RECONCILE_PERIOD: Duration = Duration::from_millis(100);
/// How often silent sessions and late leases are looked for, at the rarest.
pub const SWEEP_PERIOD_MAX: Duration = Duration::from_millis(250);
/// How often the view of the chunk servers is made anew without a heartbeat: silence must show.
pub const VIEW_PERIOD: Duration = Duration::from_millis(100);
/// A chunk server that is told of a new leader has so long to note it durably.
pub const FENCE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a leader tries again to load its state.
pub const TAKE_OVER_PAUSE: Duration = Duration::from_millis(200);
/// Which rows a leader of this release may write.
pub const FEATURE_LEVEL: u32 = 1;
/// Longest pause between two attempts at one chunk; the first follow each other at [`RECONCILE_PERIOD`].
pub const RECONCILE_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A version begun and not finished for so long was abandoned by its client: the master finishes it. Far above
/// [`RAISE_PATIENCE`].
pub const RAISE_ABANDONED: Duration = Duration::from_secs(5);
/// Sessions of one cluster.
pub const SESSIONS_MAX: usize = 65_536;
/// How long a deletion may take: it waits behind foreground I/O.
pub const DELETE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a reconciliation of one chunk may take: 64 MiB copied to every peer at 10 MB/s, with slack.
pub const RECONCILE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a list of replicas may take: it is read from memory.
pub const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// Reconciliations under way at a time: each may copy a chunk between servers.
pub const RECONCILES_IN_FLIGHT_MAX: usize = 32;
/// Chunks known to be repaired, at 16 bytes each; more are found again when these are done.
pub const REPAIR_QUEUE_MAX: usize = 1 << 20;
/// Repairs that one server takes part in at a time, as source or target: two streams keep a disk busy, small chunks wait for
/// syncs most of the time.
pub const REPAIRS_PER_SERVER_MAX: usize = 8;
/// Repairs under way at a time.
pub const REPAIRS_IN_FLIGHT_MAX: usize = 512;
/// How often chunks to be repaired are looked for, unless work is known of.
pub const REPAIR_PERIOD: Duration = Duration::from_millis(500);
/// Longest pause after a pass that could repair nothing: it reads every chunk that waits.
pub const REPAIR_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Chunks passed over because those who could repair them are busy: beyond so many the rest waits as well.
pub const REPAIRS_ASIDE_MAX: usize = 64;
/// How long the copy of a whole chunk may take: 64 MiB at half a megabyte a second.
pub const REPAIR_COPY_PATIENCE: Duration = Duration::from_secs(120);
/// Deletions under way at a time on one server: enough for its disks, few beside what others want of them.
pub const DELETIONS_IN_FLIGHT_MAX: usize = 32;
/// Deletions that are done are noted together, by one entry of the journal.
pub const DELETIONS_AT_ONCE: usize = 128;
/// Such groups of one server in one pass over all: some seconds.
pub const DELETION_GROUPS_A_PASS: usize = 16;
/// Between such groups on one server that has room: space is given back later, and programs do not feel it.
pub const DELETIONS_PAUSE: Duration = Duration::from_millis(100);
/// An unlinked inode is reclaimed only when no session has declared it open for so long: an open may cross an unlink.
pub const ORPHAN_INODE_GRACE: Duration = Duration::from_secs(2);
/// Orphans remembered between two looks: the next are looked at when these are gone.
pub const ORPHANS_WATCHED_MAX: usize = 262_144;
/// Requests of one session in work: every slot's operation and as many queries again, eight times over.
pub const SESSION_REQUESTS_MAX: usize = SESSION_SLOTS as usize * 16;
/// Recalls and notices queued for one session; more are dropped, and sent again when the conflict recurs.
pub const SESSION_PUSHES_MAX: usize = 1024;
/// Inodes that one session may declare open (40 MiB of memory): several times the kernel's limit of one process.
pub const SESSION_OPEN_INODES_MAX: usize = 4 << 20;
/// Damaged or missing replicas remembered for `admin`; further ones are counted only.
pub const REPLICA_FAULTS_MAX: usize = 65_536;
/// Reports of corruption kept for `admin status`.
pub const CORRUPTION_REPORTS_MAX: usize = 32;
/// Disks of one chunk server.
pub const SERVER_DISKS_MAX: usize = 256;

/// Largest configuration file that is read: the annotated default is a tenth of it, and a wrong path must not fill the memory.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Most threads of one process's runtime: beyond, waking each other costs more than they carry.
pub const RUNTIME_THREADS_MAX: usize = 16;

/// A connection not made in this time is given up: far above a round trip in one data centre, below a user's patience.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// A TCP peer whose machine is silent for so long is gone; the backstop below every protocol's own, shorter deadline.
pub const TCP_DEAD_PEER: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no descriptors left), so that a full process does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// HTTP/2 ping period, idle connections included: a frozen peer is noticed while nobody asks it anything.
pub const GRPC_KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(1000);
/// An unanswered HTTP/2 ping closes the connection after so long; a stalled but living peer must survive a busy second.
pub const GRPC_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(2000);
/// HTTP/2 window of one stream: two control messages of the largest kind are in flight at most.
pub const GRPC_STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// HTTP/2 window of one connection: the stream that carries the session, and a few admin calls.
pub const GRPC_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Most concurrent gRPC streams of one connection: one session stream and some admin calls.
pub const GRPC_STREAMS_PER_CONNECTION_MAX: u32 = 256;

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
/// The sequencer looks out for its next request so long before it sleeps, while they come faster than that: a client that
/// does one operation after the other is back within 150 µs, and waking the thread costs it 60 µs.
pub const LOOK_OUT: Duration = Duration::from_micros(200);
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

const _: () = assert!((FRAME_PAYLOAD_BYTES_MAX as u64).is_multiple_of(BLOCK_BYTES));
const _: () = assert!(DATA_IDLE_PING.as_millis() * 3 < DATA_SILENCE_MAX.as_millis());
const _: () = assert!(DATA_SILENCE_MAX.as_millis() < HOP_WAIT_MAX.as_millis());
const _: () = assert!(FRAMES_HELD_PER_CONNECTION_MAX < FRAMES_HELD_MAX);
const _: () = assert!(DATA_SILENCE_MAX.as_millis() * 2 < DATA_IDLE_MAX.as_millis());
const _: () = assert!(SMALL_WRITE_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(DIRECTORY_PAGE_BYTES_MAX < CONTROL_MESSAGE_BYTES_MAX);
const _: () = assert!(XATTR_TOTAL_BYTES_MAX < JOURNAL_ENTRY_BYTES_MAX);
const _: () = assert!(LEASE_RECALL.as_millis() < SESSION_EXPIRY.as_millis());
const _: () = assert!(SERVER_HEARTBEAT.as_millis() * 3 < SERVER_SUSPECT.as_millis());
const _: () = assert!(INTENT_BLOCKS_MAX as u64 * BLOCK_BYTES >= SMALL_WRITE_BYTES_MAX as u64);
const _: () = assert!(INTENT_BATCH_BYTES_MAX as u64 * 8 <= INTENT_SEGMENT_BYTES);
const _: () = assert!(INTENT_RESERVE_BYTES < INTENT_SEGMENT_BYTES);
const _: () = assert!(SERVER_SUSPECT.as_millis() < SERVER_DISTRUST.as_millis());
const _: () = assert!(HOP_SILENCE.as_millis() + PING_SILENCE.as_millis() + RAISE_PATIENCE.as_millis() < 700);
const _: () = assert!(SESSION_REQUESTS_MAX > SESSION_SLOTS as usize);
const _: () = assert!(GRPC_STREAM_WINDOW_BYTES as usize >= CONTROL_MESSAGE_BYTES_MAX);
const _: () = assert!(GRPC_STREAM_WINDOW_BYTES <= GRPC_CONNECTION_WINDOW_BYTES);
const _: () = assert!(FILE_IN_FLIGHT_BYTES_MAX < FILE_UNACKNOWLEDGED_BYTES_MAX as u64);
const _: () = assert!(
    RAFT_HEARTBEAT_TICKS * 3 < RAFT_ELECTION_TICKS_MIN && RAFT_ELECTION_TICKS_MIN < RAFT_ELECTION_TICKS_MAX
);
const _: () = assert!(READ_LEASE.as_millis() * 11 <= RAFT_PROMISE.as_millis() * 10);
const _: () = assert!(JOURNAL_ENTRY_BYTES_MAX + (64 << 10) < PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(JOURNAL_MARK_AFTER.as_millis() + RAFT_TICK.as_millis() <= 100);
const _: () = assert!(SEQUENCER_BATCH_BYTES_MAX + JOURNAL_ENTRY_BYTES_MAX < JOURNAL_SEGMENT_BYTES as usize);
const _: () = assert!(CHECKPOINT_JOURNAL_BYTES >= 2 * JOURNAL_SEGMENT_BYTES);
const _: () = assert!(OUTBOX_MESSAGES > 2 * (SESSION_SLOTS as usize + QUERIES_IN_FLIGHT_MAX));
const _: () = assert!(LEADER_SILENCE_MAX.as_millis() > 3 * SESSION_RENEW.as_millis());
const _: () = assert!(LEADER_DOUBT.as_millis() >= SESSION_RENEW.as_millis() + 50);
const _: () = assert!(SHARED_LEASE_BELIEF.as_millis() > 3 * SESSION_RENEW.as_millis());
const _: () = assert!(SHARED_LEASE_BELIEF.as_millis() < SHARED_LEASE_TERM.as_millis());
const _: () = assert!(LEADER_SILENCE_MAX.as_millis() * 4 < SESSION_EXPIRY.as_millis());
const _: () = assert!(IDLE_LEASES_BATCH <= LEASES_PER_REQUEST_MAX);
const _: () = assert!(SHIPMENT_BYTES + 2 * JOURNAL_ENTRY_BYTES_MAX < BACKUP_OBJECT_BYTES_MAX as usize);
const _: () = assert!(BACKUP_PERIOD.as_millis() * 5 <= BACKUP_AGE_WARNED.as_millis());
