//! What a client may ask of the leader.
//!
//! Operations change the namespace: they are sequenced (session, slot, sequence), journaled, and answered exactly once.
//! Queries change nothing: they read applied state beside the sequencer and may be sent again at will.

#![allow(missing_docs, reason = "a field is explained by the operation that it belongs to")]

use crate::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, ServerId};
use crate::namespace::attr::{AttrChanges, NodeKind};
use crate::namespace::name::Name;
use bytes::Bytes;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user; 0 passes every permission check.
    pub uid: u32,
    /// Effective group: group of what is created.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Who checks permissions.
    pub check: PermissionCheck,
}

/// Who checks permissions. Clients are trusted for the ids that they claim, hence for this as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PermissionCheck {
    /// The master, as POSIX says.
    #[default]
    Master,
    /// The caller's kernel has checked already (a mount with `default_permissions`); uid and gid name the owner of
    /// what is created. Rules that the kernel does not apply (clearing setuid and setgid) still hold.
    Kernel,
}

/// A sequenced operation with its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asks.
    pub credentials: Credentials,
    /// What.
    pub kind: OperationKind,
}

/// A question with its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Who asks.
    pub credentials: Credentials,
    /// What.
    pub kind: QueryKind,
}

/// `renameat2(2)` flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace an existing target (POSIX).
    #[default]
    Replace,
    /// RENAME_NOREPLACE: an existing target is an error.
    NoReplace,
    /// RENAME_EXCHANGE: both must exist; they swap.
    Exchange,
}

/// `setxattr(2)` flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    #[default]
    Either,
    /// XATTR_CREATE
    Create,
    /// XATTR_REPLACE
    Replace,
}

/// `fallocate(2)` modes. No space is reserved on chunk servers; unmapped bytes read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Plain: the file is at least `offset + length` long afterwards.
    Extend,
    /// FALLOC_FL_KEEP_SIZE: changes nothing but ctime.
    KeepSize,
    /// FALLOC_FL_PUNCH_HOLE: the range becomes a hole; the length stays.
    PunchHole,
    /// FALLOC_FL_ZERO_RANGE: the range becomes a hole; the file is at least as long as its end.
    ZeroRange,
    /// FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE.
    ZeroRangeKeepSize,
}

/// A stretch of a file's bytes in one chunk. Extents of a file never overlap; bytes in none are a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// The chunk that holds them.
    pub chunk: ChunkId,
    /// Where in the chunk they start.
    pub chunk_offset: u64,
}

/// What changes the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Create a regular file, or open the existing one when not `exclusive`. A new file's write lease is granted with it.
    /// → `Created`
    Create { parent: InodeId, name: Name, mode: u32, exclusive: bool },
    /// → `Entry`
    Mkdir { parent: InodeId, name: Name, mode: u32 },
    /// Anything but directories and symlinks; `rdev` matters for devices only. → `Entry`
    Mknod { parent: InodeId, name: Name, kind: NodeKind, mode: u32, rdev: u64 },
    /// → `Entry`
    Symlink { parent: InodeId, name: Name, target: Bytes },
    /// → `Entry` (the linked inode)
    Link { inode: InodeId, new_parent: InodeId, new_name: Name },
    /// → `Done`
    Unlink { parent: InodeId, name: Name },
    /// → `Done`
    Rmdir { parent: InodeId, name: Name },
    /// → `Done`
    Rename { parent: InodeId, name: Name, new_parent: InodeId, new_name: Name, mode: RenameMode },
    /// `via_handle`: the caller holds the file open for writing, so a change of size needs no permission (ftruncate).
    /// → `Attr`
    SetAttr { inode: InodeId, changes: AttrChanges, via_handle: bool },
    /// → `Attr`
    Allocate { inode: InodeId, mode: AllocateMode, offset: u64, length: u64 },
    /// `name` carries its namespace prefix (`user.`, `trusted.`, `security.`). → `Done`
    SetXattr { inode: InodeId, name: Bytes, value: Bytes, mode: XattrMode },
    /// → `Done`
    RemoveXattr { inode: InodeId, name: Bytes },
    /// Allocate `count` chunks on distinct servers for new data of `inode`. They belong to the session until a `Commit`
    /// attaches them, and are deleted when it ends. → `Chunks`
    AllocateChunks { inode: InodeId, count: u32 },
    /// Take (or confirm) the write lease on `inode`, and mark `chunks`, already attached, as about to be overwritten, so
    /// that they are reconciled should this session end badly. Opens the way to write(2). → `Leased`
    LeaseFile { inode: InodeId, chunks: Vec<ChunkId> },
    /// Record what is on stable storage on the minimum of replicas: `extents` replace what was mapped there; the file is
    /// at least `length` long. Refused with `Stale` when the lease is not the session's. `changes` are made after it, as by
    /// `SetAttr` of the same caller, and are never of the length. All of it is done, or nothing. → `Attr`
    Commit {
        inode: InodeId,
        lease: LeaseNumber,
        extents: Vec<Extent>,
        length: u64,
        modified: bool,
        release: bool,
        changes: AttrChanges,
    },
    /// A writer could not reach `failed`, or found them wanting: raise the version on the others and drop them.
    /// → `Chunks` with one location
    ReplaceReplicas { chunk: ChunkId, version: ChunkVersion, failed: Vec<ServerId> },
    /// Give chunks back that were allocated and not attached. → `Done`
    ReleaseChunks { chunks: Vec<ChunkId> },
    /// Let write leases go under which everything is recorded. Those that the session does not hold, or not under that
    /// number, are passed over. → `Done`
    ReleaseLeases { leases: Vec<(InodeId, LeaseNumber)> },
}

/// What asks without changing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// → `Entry`; with the first extents of a small file.
    Lookup { parent: InodeId, name: Name },
    /// `..` of a directory. → `Entry`
    LookupParent { inode: InodeId },
    /// → `Attr`
    GetAttr { inode: InodeId },
    /// Entries after cookie `after` (0 at first). → `Directory`
    ReadDir { inode: InodeId, after: u64, limit: u32, with_attrs: bool },
    /// Entries with attributes that a directory lists after `after` (from its beginning without), and the maps of small
    /// files if so wished. `NotFound` when the name is not there. → `Directory`
    Neighbours { parent: InodeId, after: Option<Name>, limit: u32, with_maps: bool },
    /// → `Bytes`
    ReadLink { inode: InodeId },
    /// → `Bytes`
    GetXattr { inode: InodeId, name: Bytes },
    /// Names, each ended by NUL. → `Bytes`
    ListXattr { inode: InodeId },
    /// Extents that intersect the range, in order. → `Map`
    Map { inode: InodeId, offset: u64, length: u64 },
    /// Whether the caller may access it: bits 4 read, 2 write, 1 execute, 0 existence. → `Done`
    Access { inode: InodeId, mask: u32 },
    /// → `FileSystem`
    StatFs,
    /// Present locations of chunks. → `Chunks`
    Locate { chunks: Vec<ChunkId> },
}
