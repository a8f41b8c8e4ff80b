//! EXTENT and GARBAGE rows.
//!
//! ```text
//! EXTENT   key  7 | tree 1 | data u64 BE | offset in the file u64 BE
//!          +0 format u8 = 1   +1 chunk u64   +9 chunk_offset u32   +13 length u32   +17 flags u8 = 0
//! GARBAGE  key 21 | tree 1 | data u64 BE | from u64 BE
//!          +0 format u8 = 1   +1 to u64   +9 inode u64   +17 map epoch u32
//! ```
//! An extent holds 1 ..= 64 MiB bytes and lies within its chunk. Extents of one data id never overlap. A GARBAGE row
//! says that the EXTENT rows of `data` in `from .. to` belong to no file any more.

use super::codec::{Reader, Writer};
use super::{Damaged, Key, Table, Value};
use crate::ids::{ChunkId, InodeId, TreeId};
use crate::namespace::request::Extent;
use crate::units::CHUNK_BYTES;

/// Key of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtentKey {
    /// Data id of the piece of the map.
    pub data: u64,
    /// First byte in the file.
    pub offset: u64,
}

/// An extent as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRow {
    /// The chunk.
    pub chunk: ChunkId,
    /// First byte in the chunk.
    pub chunk_offset: u32,
    /// Bytes.
    pub length: u32,
}

impl ExtentRow {
    /// The stored form of `extent`, which must have passed [`Self::fits`].
    pub fn of(extent: &Extent) -> Self {
        assert!(Self::fits(extent), "extents are checked before they are stored");
        Self { chunk: extent.chunk, chunk_offset: extent.chunk_offset as u32, length: extent.length as u32 }
    }

    /// Whether it is not empty and lies within a chunk.
    pub fn fits(extent: &Extent) -> bool {
        let within = extent.chunk_offset.checked_add(extent.length).is_some_and(|end| end <= CHUNK_BYTES);
        extent.length > 0 && within
    }

    /// At `offset` of the file.
    pub fn at(&self, offset: u64) -> Extent {
        Extent {
            offset,
            length: u64::from(self.length),
            chunk: self.chunk,
            chunk_offset: u64::from(self.chunk_offset),
        }
    }
}

/// Key of a range of extents cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GarbageKey {
    /// Data id.
    pub data: u64,
    /// First offset.
    pub from: u64,
}

/// A range of extents cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageRow {
    /// End of the range.
    pub to: u64,
    /// The file that it was cut from.
    pub inode: InodeId,
    /// The file's map epoch at the cut: while it is the same, dropped bytes are taken off `mapped_bytes`.
    pub epoch: u32,
}

impl Key for ExtentKey {
    const TABLE: Table = Table::Extent;
    const TREE: TreeId = TreeId::MAIN;
    type Value = ExtentRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.data);
        out.u64_be(self.offset);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { data: input.u64_be()?, offset: input.u64_be()? })
    }
}

impl Value for ExtentRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.chunk.get());
        out.u32(self.chunk_offset);
        out.u32(self.length);
        out.u8(0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let row = Self { chunk: ChunkId(input.u64()?), chunk_offset: input.u32()?, length: input.u32()? };
        let sound = input.u8()? == 0 && Self::fits(&row.at(0));
        if sound { Ok(row) } else { Err(Damaged) }
    }
}

impl Key for GarbageKey {
    const TABLE: Table = Table::Garbage;
    const TREE: TreeId = TreeId::MAIN;
    type Value = GarbageRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.data);
        out.u64_be(self.from);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { data: input.u64_be()?, from: input.u64_be()? })
    }
}

impl Value for GarbageRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.to);
        out.u64(self.inode.get());
        out.u32(self.epoch);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { to: input.u64()?, inode: InodeId(input.u64()?), epoch: input.u32()? })
    }
}
