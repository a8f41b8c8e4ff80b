//! Identities. Each is a type of its own, so that two kinds of id can never be swapped.
//!
//! Inode and chunk ids are 16 bits of shard (0 today) above a 48-bit counter, and are never reused.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, for codecs.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// One Cairn cluster; stands in every superblock and every Hello.
    ClusterId
);
uuid_id!(
    /// One process's data directory: a master, a chunk server, or a client session's node.
    NodeId
);
uuid_id!(
    /// One data directory (disk) of a chunk server.
    DiskId
);

number_id!(
    /// An inode. The root directory is [`InodeId::ROOT`].
    InodeId, u64, "inode-"
);
number_id!(
    /// A chunk: up to 64 MiB of one file's bytes, stored as replicas.
    ChunkId, u64, "chunk-"
);
number_id!(
    /// The generation of a chunk's replica set. Raised by journal only; a replica below it is stale.
    ChunkVersion, u64, "v"
);
number_id!(
    /// Which part of a chunk a replica stores: 0 for copies; reserved for erasure-coded parts.
    PartId, u16, "part-"
);
number_id!(
    /// Short number of a chunk server, given at its registration and never reused.
    ServerId, u32, "chunkserver-"
);
number_id!(
    /// A storage policy. 0 is the one that everything has which was given no other.
    PolicyId, u32, "policy-"
);
number_id!(
    /// A client session (NFSv4.1 sense, RFC 8881 section 2.10).
    SessionId, u64, "session-"
);
number_id!(
    /// A slot of a session: at most one sequenced request is outstanding in it.
    SlotId, u32, "slot-"
);
number_id!(
    /// Position of a sequenced request in its slot; grows by at least one with each new request.
    Sequence, u64, "seq-"
);
number_id!(
    /// Number of a write lease on an inode. Grows with each grant; chunk servers refuse lower ones.
    LeaseNumber, u64, "lease-"
);
number_id!(
    /// Raft term of a leader. Chunk servers persist the highest seen before obeying it.
    Term, u64, "term-"
);
number_id!(
    /// Position in the replicated journal.
    LogIndex, u64, "index-"
);
number_id!(
    /// One request from system call to disk: in logs and on the wire.
    RequestId, u64, "req-"
);
number_id!(
    /// Tree (volume or snapshot) a row belongs to; 1 is the only one today.
    TreeId, u32, "tree-"
);

impl PolicyId {
    /// What has no other policy has this one; it is never removed.
    pub const DEFAULT: Self = Self(0);
}

impl InodeId {
    /// The root directory (FUSE fixes the number 1 as well).
    pub const ROOT: Self = Self(1);
}

impl TreeId {
    /// The tree that every file lives in today.
    pub const MAIN: Self = Self(1);
}
