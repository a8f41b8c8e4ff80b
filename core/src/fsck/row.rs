//! Rows as the check sees them: plain numbers, so that nothing depends on the types whose codecs it checks.

use std::fmt;

/// A name, or other bytes that are mostly text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Sixteen bytes of a uuid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes(self.0))
    }
}

/// Kind of a directory in INODE, DENTRY and LISTING rows.
pub const DIRECTORY: u8 = 2;
/// Kind of a symlink.
pub const SYMLINK: u8 = 3;

/// One row. Field names are those of docs/FORMATS.md, "Metadata rows".
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "tables and fields as docs/FORMATS.md names them")]
pub enum Row {
    Applied(Applied),
    Members(Vec<Member>),
    Inode(Inode),
    Dentry {
        parent: u64,
        name: Text,
        kind: u8,
        inode: u64,
        cookie: u64,
    },
    Listing {
        parent: u64,
        cookie: u64,
        kind: u8,
        inode: u64,
        name: Text,
    },
    Backlink {
        inode: u64,
        parent: u64,
        name: Text,
    },
    Xattr {
        inode: u64,
        name: Text,
        value_bytes: usize,
    },
    Symlink {
        inode: u64,
        target: Text,
    },
    Extent {
        data: u64,
        offset: u64,
        chunk: u64,
        chunk_offset: u32,
        length: u32,
    },
    Chunk(Chunk),
    ServerChunk {
        server: u32,
        chunk: u64,
        version: u64,
    },
    Session {
        session: u64,
        ending: bool,
        node: Id,
        opened: (i64, u32),
        description: String,
    },
    Slot {
        session: u64,
        slot: u32,
        sequence: u64,
        answer: Result<&'static str, &'static str>,
    },
    Orphan {
        inode: u64,
    },
    Lease {
        inode: u64,
        session: u64,
        lease: u64,
        marks: u32,
    },
    LeasedChunk {
        inode: u64,
        chunk: u64,
    },
    SessionChunk {
        session: u64,
        chunk: u64,
    },
    DeleteReplica {
        server: u32,
        chunk: u64,
        version: u64,
    },
    Reconcile {
        chunk: u64,
        reason: u8,
        since: (i64, u32),
    },
    Repair {
        copies: u8,
        chunk: u64,
        since: (i64, u32),
    },
    Server {
        server: u32,
        node: Id,
        data_address: String,
        http_address: String,
        labels: Vec<String>,
        draining: Option<((i64, u32), u64)>,
    },
    ServerNode {
        node: Id,
        server: u32,
    },
    Counter {
        counter: u8,
        number: u64,
    },
    Garbage {
        data: u64,
        from: u64,
        to: u64,
        inode: u64,
        epoch: u32,
    },
    Cluster {
        cluster: Id,
        default_replicas: u8,
        feature_level: u32,
        formatted: (i64, u32),
    },
    SessionLease {
        session: u64,
        inode: u64,
    },
    DiskDrain {
        server: u32,
        disk: Id,
        since: (i64, u32),
        replicas: u64,
    },
    Rebalance {
        state: u8,
        tolerance: u16,
        limit: u64,
        begun: (i64, u32),
        ended: (i64, u32),
        planned: u64,
        moved: u64,
        replicas: u64,
        spread: u32,
    },
    Policy {
        policy: u32,
        replicas: u8,
        minimum: u8,
        inodes: u64,
        chunks: u64,
        name: String,
        required: Vec<String>,
    },
    PolicyWalk {
        again: bool,
        next: u64,
        since: (i64, u32),
        changed: u64,
    },
    Capacity {
        hour: u32,
        total_bytes: u64,
        used_bytes: u64,
        chunks: u64,
        inodes: u64,
    },
}

/// The row that counts applied entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as docs/FORMATS.md names them")]
pub struct Applied {
    pub feature: u32,
    pub index: u64,
    pub term: u64,
    pub hash: u64,
    pub time: (i64, u32),
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
}

/// A master in the row of members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as docs/FORMATS.md names them")]
pub struct Member {
    pub id: u64,
    pub node: Id,
    pub address: String,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as docs/FORMATS.md names them")]
pub struct Inode {
    pub inode: u64,
    pub kind: u8,
    pub mode: u16,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mapped_bytes: u64,
    pub times: [(i64, u32); 4],
    pub change: u64,
    pub data_change: u64,
    pub rdev: u64,
    /// Of a directory: its parent and the next cookie.
    pub directory: Option<(u64, u64)>,
    pub lease: u64,
    pub xattr_bytes: u32,
    pub map_epoch: u32,
    /// Empty: one piece from 0 whose data id is the inode's number.
    pub pieces: Vec<(u64, u64)>,
    /// 0: the default one.
    pub policy: u32,
}

impl Inode {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == DIRECTORY
    }

    /// The ranges of its map: first byte, end, data id.
    pub(super) fn ranges(&self) -> Vec<(u64, u64, u64)> {
        if self.pieces.is_empty() {
            return vec![(0, u64::MAX, self.inode)];
        }
        let ends = self.pieces.iter().skip(1).map(|&(from, _)| from).chain([u64::MAX]);
        self.pieces.iter().zip(ends).map(|(&(from, data), end)| (from, end, data)).collect()
    }
}

/// A chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as docs/FORMATS.md names them")]
pub struct Chunk {
    pub chunk: u64,
    pub minimum: u8,
    pub wanted: u8,
    pub policy: u32,
    pub reconciling: bool,
    pub version: u64,
    pub raising: u64,
    pub references: u64,
    pub owner: u64,
    pub inode: u64,
    pub servers: Vec<u32>,
}
