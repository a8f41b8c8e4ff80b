//! POLICY and POLICY_WALK rows.
//!
//! ```text
//! POLICY       key 25 | tree 0 | policy u32 BE
//!              +0 format u8 = 1   +1 replicas u8 (1 to 8)   +2 minimum u8 (1 to replicas)
//!              +3 inodes u64: files and directories that have it   +11 chunks u64: chunks that have it
//!              +19 name: length u16 | UTF-8   then labels required: count u8, each "key=value" likewise, by ascending key
//! POLICY_WALK  key 29 | tree 0: chunks are being brought in line with policies; at most one row
//!              +0 format u8 = 1   +1 flags u8 (bit 0 again: once more from the beginning when it is through)
//!              +2 next chunk u64  +10 since (i64, u32)    +22 changed u64: chunks brought in line
//! ```
//! Policy 0 is what everything has which was given no other: without a row it is what the masters are configured for, and nobody
//! counts what has it.

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::cluster::{Labels, Policy};
use crate::ids::{ChunkId, PolicyId, TreeId};
use crate::time::Timestamp;

/// Key of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyKey(pub PolicyId);

/// A policy as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRow {
    /// What it says.
    pub policy: Policy,
    /// Files and directories that have it; 0 for the default policy.
    pub inodes: u64,
    /// Chunks that have it; 0 for the default policy.
    pub chunks: u64,
}

/// Key of the only row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyWalkKey;

/// Chunks are being brought in line with policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyWalkRow {
    /// Policies have changed since it began: it is to go through all once more.
    pub again: bool,
    /// Those below are in line.
    pub next: ChunkId,
    /// When it was asked for.
    pub since: Timestamp,
    /// Chunks that it has changed.
    pub changed: u64,
}

const FLAG_AGAIN: u8 = 1;

impl Key for PolicyKey {
    const TABLE: Table = Table::Policy;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = PolicyRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(PolicyId(input.u32_be()?)))
    }
}

impl Value for PolicyRow {
    fn write(&self, out: &mut Writer) {
        let Policy { name, replicas, minimum, required } = &self.policy;
        out.u8(*replicas);
        out.u8(*minimum);
        out.u64(self.inodes);
        out.u64(self.chunks);
        out.text(name);
        out.u8(required.len() as u8);
        required.texts().for_each(|label| out.text(&label));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (replicas, minimum) = (input.u8()?, input.u8()?);
        let (inodes, chunks, name) = (input.u64()?, input.u64()?, input.text()?);
        let texts = (0..input.u8()?).map(|_| input.text()).collect::<Result<Vec<_>, _>>()?;
        let required = Labels::parse(&texts).map_err(|_| Damaged)?;
        let is_canonical = required.texts().eq(texts);
        let policy = Policy { name, replicas, minimum, required };
        if is_canonical && policy.is_sound() { Ok(Self { policy, inodes, chunks }) } else { Err(Damaged) }
    }
}

impl Key for PolicyWalkKey {
    const TABLE: Table = Table::PolicyWalk;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = PolicyWalkRow;

    fn write(&self, _out: &mut Writer) {}

    fn read(_input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self)
    }
}

impl Value for PolicyWalkRow {
    fn write(&self, out: &mut Writer) {
        out.u8(if self.again { FLAG_AGAIN } else { 0 });
        out.u64(self.next.get());
        out.time(self.since);
        out.u64(self.changed);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let flags = input.u8()?;
        let (next, since, changed) = (ChunkId(input.u64()?), input.time()?, input.u64()?);
        let again = flags & FLAG_AGAIN != 0;
        if flags & !FLAG_AGAIN == 0 { Ok(Self { again, next, since, changed }) } else { Err(Damaged) }
    }
}
