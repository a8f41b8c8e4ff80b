//! CAPACITY rows: how full the cluster was.
//!
//! ```text
//! CAPACITY  key 28 | tree 0 | hour since 1970 u32 BE
//!           +0 format u8 = 1   +1 total bytes u64   +9 used bytes u64   +17 chunks u64   +25 inodes u64
//! ```

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::ids::TreeId;

/// Key of a sample: hours since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityKey(pub u32);

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityRow {
    /// Bytes of all disks that were there.
    pub total_bytes: u64,
    /// Of them not free; at most all.
    pub used_bytes: u64,
    /// Chunks in the state.
    pub chunks: u64,
    /// Inodes in the state.
    pub inodes: u64,
}

impl Key for CapacityKey {
    const TABLE: Table = Table::Capacity;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = CapacityRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(input.u32_be()?))
    }
}

impl Value for CapacityRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.total_bytes);
        out.u64(self.used_bytes);
        out.u64(self.chunks);
        out.u64(self.inodes);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (total_bytes, used_bytes) = (input.u64()?, input.u64()?);
        if used_bytes > total_bytes {
            return Err(Damaged);
        }
        Ok(Self { total_bytes, used_bytes, chunks: input.u64()?, inodes: input.u64()? })
    }
}
