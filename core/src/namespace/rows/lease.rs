//! LEASE, SESSION_LEASE, LEASED_CHUNK and SESSION_CHUNK rows: what a session holds.
//!
//! ```text
//! LEASE          key 13 | tree 1 | inode u64 BE                    +0 format u8 = 1   +1 session u64   +9 lease u64
//!                                                                  +17 marks u32 (LEASED_CHUNK rows of the inode)
//! SESSION_LEASE  key 23 | tree 1 | session u64 BE | inode u64 BE   +0 format u8 = 1
//! LEASED_CHUNK   key 14 | tree 1 | inode u64 BE | chunk u64 BE     +0 format u8 = 1
//! SESSION_CHUNK  key 15 | tree 0 | session u64 BE | chunk u64 BE   +0 format u8 = 1
//! ```
//! LEASE and SESSION_LEASE stand and fall together; a LEASED_CHUNK row stands only while the LEASE of its inode does; a
//! SESSION_CHUNK row stands exactly while the chunk's owner is that session.

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Present, Table, Value};
use crate::ids::{ChunkId, InodeId, LeaseNumber, SessionId, TreeId};

/// Key of a file's write lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseKey(pub InodeId);

/// Who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The session.
    pub session: SessionId,
    /// Its number.
    pub lease: LeaseNumber,
    /// LEASED_CHUNK rows of the file.
    pub marks: u32,
}

/// Key of a lease among those of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLeaseKey {
    /// The session.
    pub session: SessionId,
    /// The file.
    pub inode: InodeId,
}

/// Key of a chunk marked for overwriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasedChunkKey {
    /// The file.
    pub inode: InodeId,
    /// The chunk.
    pub chunk: ChunkId,
}

/// Key of a chunk that a session has allocated and not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionChunkKey {
    /// The session.
    pub session: SessionId,
    /// The chunk.
    pub chunk: ChunkId,
}

impl Key for LeaseKey {
    const TABLE: Table = Table::Lease;
    const TREE: TreeId = TreeId::MAIN;
    type Value = LeaseRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(InodeId(input.u64_be()?)))
    }
}

impl Value for LeaseRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.session.get());
        out.u64(self.lease.get());
        out.u32(self.marks);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { session: SessionId(input.u64()?), lease: LeaseNumber(input.u64()?), marks: input.u32()? })
    }
}

impl Key for SessionLeaseKey {
    const TABLE: Table = Table::SessionLease;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Present;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.session.get());
        out.u64_be(self.inode.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { session: SessionId(input.u64_be()?), inode: InodeId(input.u64_be()?) })
    }
}

impl Key for LeasedChunkKey {
    const TABLE: Table = Table::LeasedChunk;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Present;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.inode.get());
        out.u64_be(self.chunk.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { inode: InodeId(input.u64_be()?), chunk: ChunkId(input.u64_be()?) })
    }
}

impl Key for SessionChunkKey {
    const TABLE: Table = Table::SessionChunk;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = Present;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.session.get());
        out.u64_be(self.chunk.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { session: SessionId(input.u64_be()?), chunk: ChunkId(input.u64_be()?) })
    }
}
