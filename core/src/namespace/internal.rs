//! Commands that the master gives itself: journaled like operations, but neither sequenced nor asked for by a client.

use crate::cluster::{Labels, Policy};
use crate::ids::{ChunkId, ChunkVersion, ClusterId, DiskId, InodeId, NodeId, PolicyId, ServerId, SessionId};
use crate::namespace::alignment::Walked;
use crate::namespace::work::LeaseRecord;
use crate::time::Timestamp;

/// A command of the master itself. What it came to stands in [`crate::namespace::machine::Outcome`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Internal {
    /// First rows of a new cluster: the root directory (0755, root:root), counters, identity. Refused with `Exists` when
    /// the cluster is formatted.
    Format {
        /// Identity of the cluster.
        cluster: ClusterId,
        /// Replicas of a new chunk.
        default_replicas: u8,
        /// Which rows a leader may write.
        feature_level: u32,
    },
    /// A new client session. → `Outcome::Session`
    OpenSession {
        /// By which a successor process may re-attach.
        secret: [u8; 16],
        /// The client's node.
        node: NodeId,
        /// Shown to operators; cut at 1024 bytes.
        description: String,
    },
    /// Ends a session in bounded batches: its unattached chunks are deleted, its leases end badly (marked chunks are
    /// reconciled). The session is refused from the first batch on. An unknown session is done. → `Outcome::More`
    EndSession {
        /// The session.
        session: SessionId,
    },
    /// A chunk server came; the same node gets the same id for ever. → `Outcome::Server`
    RegisterServer {
        /// Its identity.
        node: NodeId,
        /// `host:port` of its data plane.
        data_address: String,
        /// `host:port` of its health pages.
        http_address: String,
        /// Where it stands and what it is.
        labels: Labels,
    },
    /// A chunk server is to be emptied, or no longer. Refused with `NotFound` when there is none. What is so already stays so.
    DrainServer {
        /// The server.
        server: ServerId,
        /// The replicas that it has, when it is to be emptied.
        replicas: Option<u64>,
    },
    /// A disk of a chunk server is to be emptied, or no longer. Refused with `NotFound` when there is no such server, with `Overloaded`
    /// when too many of its disks are. What is so already stays so.
    DrainDisk {
        /// Whose disk it is.
        server: ServerId,
        /// Which.
        disk: DiskId,
        /// How many replicas it has now; `None`: it stays.
        replicas: Option<u64>,
    },
    /// A chunk server is gone for good, in bounded batches. Refused with `Busy` while a replica there counts or while it is
    /// connected. One that is unknown is done. → `Outcome::More`
    RemoveServer {
        /// The server.
        server: ServerId,
    },
    /// A step of the rebalancing. Refused with `Busy` when one is to begin while one goes on, with `NotFound` when none does.
    Rebalance(RebalanceStep),
    /// Replicas are gone from the server: their work rows are dropped, unless more has been planned since.
    ForgetDeletions {
        /// The server.
        server: ServerId,
        /// At most [`crate::limits::DELETIONS_AT_ONCE`], each with the version up to which it was deleted.
        chunks: Vec<(ChunkId, ChunkVersion)>,
    },
    /// A replica that the master does not count on was found on a server and has outlived its grace: make it work to be
    /// done. Refused with `Busy` when the master does count on it.
    DeleteStray {
        /// The server.
        server: ServerId,
        /// The chunk.
        chunk: ChunkId,
        /// Delete up to this version.
        version: ChunkVersion,
    },
    /// Journals the intention to raise a chunk's version, for reconciliation. Refused with `Stale` when the version has
    /// moved on from `from`, and with `NotFound` when the chunk is gone (its work row is then gone as well).
    /// → `Outcome::Raising`
    BeginRaise {
        /// The chunk.
        chunk: ChunkId,
        /// Its version as the caller knows it.
        from: ChunkVersion,
    },
    /// The replicas at `servers` are equal, durable and raised to `version`: they are the set now. Others are deleted.
    /// Servers outside the old set are taken up to the size that is wanted.
    /// Refused with `Stale` when `version` is not the last one begun, with `Unavailable` when `servers` is empty.
    FinishReconcile {
        /// The chunk.
        chunk: ChunkId,
        /// The version begun.
        version: ChunkVersion,
        /// Who holds it now; those of the old set keep their order, others follow.
        servers: Vec<ServerId>,
    },
    /// Removes unlinked inodes that nobody holds open, in a bounded batch: extents, attributes, rows. Inodes that are
    /// not orphans are passed over. → `Outcome::More`
    ReclaimOrphans {
        /// Orphans, at most [`crate::limits::ORPHANS_PER_RECORD_MAX`]; the rest is ignored and reported as more.
        inodes: Vec<InodeId>,
    },
    /// Ends a write lease by force: the chunks marked for overwriting are reconciled. A file without lease is done.
    TakeLease {
        /// The file.
        inode: InodeId,
        /// Only when this very lease still stands: its holder may have been granted another since.
        lease: LeaseRecord,
    },
    /// Drops one bounded batch of the extents cut off by a large truncate or punch (a GARBAGE row). → `Outcome::More`
    DropGarbage {
        /// Data id of the row's key.
        data: u64,
        /// First offset of the row's key.
        from: u64,
    },
    /// How full the disks are: noted once in each hour of the leader's time, with the numbers of chunks and inodes; samples that are
    /// outdated go.
    NoteCapacity {
        /// Bytes of all disks that are there.
        total_bytes: u64,
        /// Of them not free.
        used_bytes: u64,
    },
    /// A storage policy is made, changed or removed.
    Policy(PolicyStep),
    /// Files and directories get another storage policy; the chunks of files follow later. Refused with `NotFound` when there is no
    /// such policy; an inode that is gone or of another kind is passed over.
    SetPolicy {
        /// At most [`crate::limits::POLICY_INODES_AT_ONCE`].
        inodes: Vec<InodeId>,
        /// Which.
        policy: PolicyId,
    },
    /// Chunks are brought in line with the policies of their files, and the walk over all of them has come so far. A chunk that
    /// is gone is passed over.
    AlignChunks {
        /// At most [`crate::limits::ALIGNED_AT_ONCE`].
        chunks: Vec<ChunkId>,
        /// How far the walk has come; `None`: these were met outside of it.
        walked: Option<Walked>,
    },
}

/// What becomes of a storage policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyStep {
    /// A new one. Refused with `Exists` when there is one of its name, with `InvalidArgument` when it says what cannot be, with
    /// `Overloaded` when there are [`crate::limits::POLICIES_MAX`].
    Create(Policy),
    /// It says something else from now on; chunks that have it follow later. Refused as a new one, and with `NotFound`.
    Change {
        /// Which.
        policy: PolicyId,
        /// What is new of it.
        changes: PolicyChanges,
    },
    /// It is gone. Refused with `Busy` while an inode or a chunk has it, with `InvalidArgument` for the default one.
    Remove {
        /// Which.
        policy: PolicyId,
    },
}

/// Changes of a storage policy: a field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyChanges {
    /// Copies of each chunk. The minimum becomes the usual one for so many, unless it is named as well.
    pub replicas: Option<u8>,
    /// Fewest copies that a write must reach.
    pub minimum: Option<u8>,
    /// All labels that a chunk server must have.
    pub required: Option<Labels>,
}

/// A step of the rebalancing that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceStep {
    /// It begins.
    Begin {
        /// Thousandths that may lie between the fullest and the emptiest server at its end: 1 to 999.
        tolerance_permille: u16,
        /// Most bytes that move in a second; 0: as fast as it goes.
        limit_bytes: u64,
        /// Bytes that are to move.
        planned_bytes: u64,
        /// Thousandths between the fullest and the emptiest.
        spread_before_permille: u32,
    },
    /// Nothing moves for now.
    Pause,
    /// It goes on.
    Resume,
    /// It is given up.
    Cancel,
    /// The servers are even enough.
    Done,
    /// So much more has moved.
    Moved {
        /// When the rebalancing of which they are was begun.
        begun: Timestamp,
        /// Bytes.
        bytes: u64,
        /// Replicas.
        replicas: u64,
    },
}
