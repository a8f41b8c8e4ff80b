//! The REBALANCE row.
//!
//! ```text
//! REBALANCE  key 27 | tree 0
//!            +0  format u8 = 1     +1  state u8            1 running  2 paused  3 done  4 cancelled
//!            +2  tolerance u16, thousandths                +4  limit u64, bytes a second, 0: none
//!            +12 begun (i64, u32)  +24 ended (i64, u32)    +36 planned bytes u64
//!            +44 moved bytes u64   +52 moved replicas u64  +60 spread before u32, thousandths
//! ```

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::ids::TreeId;
use crate::time::Timestamp;

/// Key of the only row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceKey;

/// Where a rebalancing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RebalanceState {
    /// Replicas move.
    Running = 1,
    /// Nothing moves until it is resumed.
    Paused = 2,
    /// The servers were even enough.
    Done = 3,
    /// An operator has ended it.
    Cancelled = 4,
}

/// The last rebalancing that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebalanceRow {
    /// Where it stands.
    pub state: RebalanceState,
    /// Thousandths that may lie between the fullest and the emptiest server.
    pub tolerance_permille: u16,
    /// Most bytes that move in a second; 0: as fast as it goes.
    pub limit_bytes: u64,
    /// When it was asked for.
    pub begun: Timestamp,
    /// When it was done or cancelled.
    pub ended: Timestamp,
    /// Bytes that were to move when it began.
    pub planned_bytes: u64,
    /// Bytes that have moved.
    pub moved_bytes: u64,
    /// Replicas that have moved.
    pub moved_replicas: u64,
    /// Thousandths between the fullest and the emptiest when it began.
    pub spread_before_permille: u32,
}

impl Key for RebalanceKey {
    const TABLE: Table = Table::Rebalance;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = RebalanceRow;

    fn write(&self, _out: &mut Writer) {}

    fn read(_input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self)
    }
}

impl Value for RebalanceRow {
    fn write(&self, out: &mut Writer) {
        out.u8(self.state as u8);
        out.u16(self.tolerance_permille);
        out.u64(self.limit_bytes);
        out.time(self.begun);
        out.time(self.ended);
        out.u64(self.planned_bytes);
        out.u64(self.moved_bytes);
        out.u64(self.moved_replicas);
        out.u32(self.spread_before_permille);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let state = match input.u8()? {
            1 => RebalanceState::Running,
            2 => RebalanceState::Paused,
            3 => RebalanceState::Done,
            4 => RebalanceState::Cancelled,
            _ => return Err(Damaged),
        };
        Ok(Self {
            state,
            tolerance_permille: input.u16()?,
            limit_bytes: input.u64()?,
            begun: input.time()?,
            ended: input.time()?,
            planned_bytes: input.u64()?,
            moved_bytes: input.u64()?,
            moved_replicas: input.u64()?,
            spread_before_permille: input.u32()?,
        })
    }
}
