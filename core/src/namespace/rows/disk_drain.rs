//! The DISK_DRAIN rows.
//!
//! ```text
//! DISK_DRAIN  key 26 | tree 0 | server u32 BE | disk [16]
//!             +0 format u8 = 1   +1 since (i64, u32)   +13 replicas when the draining began u64
//! ```

use super::cluster::Draining;
use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::ids::{DiskId, ServerId, TreeId};
use uuid::Uuid;

/// Key of a disk that is to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskDrainKey {
    /// Whose disk it is.
    pub server: ServerId,
    /// Which.
    pub disk: DiskId,
}

/// Since when, and how much there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskDrainRow(pub Draining);

impl Key for DiskDrainKey {
    const TABLE: Table = Table::DiskDrain;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = DiskDrainRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.server.get());
        out.bytes(self.disk.0.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { server: ServerId(input.u32_be()?), disk: DiskId(Uuid::from_bytes(input.array()?)) })
    }
}

impl Value for DiskDrainRow {
    fn write(&self, out: &mut Writer) {
        out.time(self.0.since);
        out.u64(self.0.replicas);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(Draining { since: input.time()?, replicas: input.u64()? }))
    }
}
