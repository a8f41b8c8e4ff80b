//! Every bound of the system, with the argument for its value and the relations between them. Here: names, sessions and
//! messages; the other rooms by who is bounded.

mod client;
mod cluster;
mod data;
mod explain;
mod health;
mod masters;
mod pace;
mod wire;

pub use client::*;
pub use cluster::*;
pub use data::*;
pub use explain::*;
pub use health::*;
pub use masters::*;
pub use pace::*;
pub use wire::*;

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

const _: () = assert!((FRAME_PAYLOAD_BYTES_MAX as u64).is_multiple_of(BLOCK_BYTES));
const _: () = assert!(DATA_IDLE_PING.as_millis() * 3 < DATA_SILENCE_MAX.as_millis());
const _: () = assert!(DATA_SILENCE_MAX.as_millis() < HOP_WAIT_MAX.as_millis());
const _: () = assert!(FRAMES_HELD_PER_CONNECTION_MAX < FRAMES_HELD_MAX);
const _: () = assert!(DATA_SILENCE_MAX.as_millis() * 2 < DATA_IDLE_MAX.as_millis());
const _: () = assert!(SMALL_WRITE_BYTES_MAX <= FRAME_PAYLOAD_BYTES_MAX);
const _: () = assert!(DIRECTORY_PAGE_BYTES_MAX < CONTROL_MESSAGE_BYTES_MAX);
const _: () = assert!(XATTR_TOTAL_BYTES_MAX < JOURNAL_ENTRY_BYTES_MAX);
const _: () = assert!(LEASE_RECALL.as_millis() < SESSION_EXPIRY.as_millis());
const _: () = assert!(SERVER_HEARTBEAT.as_millis() * 2 < MOVE_SETTLE.as_millis());
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
