//! What the leader answers.

#![allow(missing_docs, reason = "a field is explained by the operation that it belongs to")]

use super::name_page::NamePage;
use crate::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, ServerId};
use crate::namespace::attr::{Attr, NodeKind};
use crate::namespace::request::Extent;
use bytes::Bytes;

/// A successful outcome; refusals are [`crate::error::FsError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// Attributes after the operation.
    Attr(Attr),
    /// An inode found or made, and the map of a small file when the leader had it at hand.
    Entry { attr: Attr, map: Option<Map> },
    /// `created` is false when an existing file was opened; `lease` is granted with creation only.
    Created { attr: Attr, created: bool, lease: Option<LeaseNumber> },
    /// One page of names without attributes.
    Names(NamePage),
    /// One page with attributes; `end` when nothing follows.
    Directory { entries: Vec<DirectoryEntry>, end: bool },
    /// Symlink target, extended attribute, or list of names.
    Bytes(Bytes),
    /// File map.
    Map(Map),
    /// Chunk locations, in the order asked.
    Chunks(Vec<ChunkLocation>),
    /// The lease and the attributes at its grant (an appender needs the length).
    Leased { lease: LeaseNumber, attr: Attr },
    /// statfs(2).
    FileSystem(FileSystemStats),
}

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Raw name.
    pub name: Bytes,
    /// Inode.
    pub inode: InodeId,
    /// Kind of the inode.
    pub kind: NodeKind,
    /// Resume after this entry with this value; stable for the life of the entry, at least 3 (1 and 2 are `.` and `..`).
    pub cookie: u64,
    /// Attributes, when asked for. Boxed: most pages come without, and entries are moved often.
    pub attr: Option<Box<Attr>>,
    /// The map of a small file, when asked for.
    pub map: Option<Box<Map>>,
}

/// A stretch of a file's map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Extents in order of offset.
    pub extents: Vec<Extent>,
    /// Every chunk that the extents name, once each.
    pub chunks: Vec<ChunkLocation>,
    /// The map is complete up to this offset: less than asked when it was cut at the message limit.
    pub complete_to: u64,
    /// Attributes read with it.
    pub attr: Option<Attr>,
}

/// Where a chunk's replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkLocation {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its present version.
    pub version: ChunkVersion,
    /// Fewest replicas that must hold a write before it may be acknowledged.
    pub minimum: u8,
    /// A session holds a write lease on it: others read the last replica of the list.
    pub write_leased: bool,
    /// Replicas in chain order, with the address where each server is reached at present (empty when it is down).
    pub replicas: Vec<ReplicaLocation>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLocation {
    /// The chunk server.
    pub server: ServerId,
    /// `host:port` of its data plane; empty while the server is not connected.
    pub address: String,
}

/// statfs(2), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystemStats {
    /// Capacity of all disks, divided by the replicas of a new chunk.
    pub total_bytes: u64,
    /// Free, likewise.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
}
