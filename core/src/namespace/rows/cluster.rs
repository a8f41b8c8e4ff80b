//! SERVER, SERVER_NODE, COUNTER and CLUSTER rows.
//!
//! ```text
//! SERVER       key 18 | tree 0 | server u32 BE
//!              +0 format u8 = 2   +1 node [16]   +17 flags u8 (bit 0 draining)   +18 draining since (i64, u32)
//!              +30 replicas when the draining began u64   +38 data address: length u16 | UTF-8   then http address, likewise
//!              then labels: count u8, each "key=value" likewise, ascending
//! SERVER_NODE  key 19 | tree 0 | node [16]       +0 format u8 = 1   +1 server u32
//! COUNTER      key 20 | tree 0 | counter u8      +0 format u8 = 1   +1 number u64
//!              1 next inode or data id   2 next chunk   3 next session   4 next server
//!              5 numbers of counter 1 that are no inode any more         6 chunks that are gone   7 next policy
//! CLUSTER      key 22 | tree 0
//!              +0 format u8 = 1   +1 cluster [16]   +17 default replicas u8   +18 feature level u32
//!              +22 formatted (i64, u32)
//! ```

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::cluster::Labels;
use crate::ids::{ClusterId, NodeId, ServerId, TreeId};
use crate::time::Timestamp;
use uuid::Uuid;

/// Key of a chunk server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey(pub ServerId);

/// A chunk server as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRow {
    /// Its identity.
    pub node: NodeId,
    /// `host:port` of its data plane at its last registration.
    pub data_address: String,
    /// `host:port` of its health pages at its last registration.
    pub http_address: String,
    /// Where it stands and what it is, as it last said.
    pub labels: Labels,
    /// It is to be emptied.
    pub draining: Option<Draining>,
}

/// A server that is to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Since when.
    pub since: Timestamp,
    /// Replicas that it had then.
    pub replicas: u64,
}

const FLAG_DRAINING: u8 = 1;

/// Key of a node among the chunk servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerNodeKey(pub NodeId);

/// Its short id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerNodeRow(pub ServerId);

/// Key of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CounterKey {
    /// Next inode number or data id.
    NextInode = 1,
    /// Next chunk id.
    NextChunk = 2,
    /// Next session.
    NextSession = 3,
    /// Next chunk server.
    NextServer = 4,
    /// Numbers of `NextInode` that are no inode any more, or never were (data ids).
    InodesGone = 5,
    /// Chunks that are gone.
    ChunksGone = 6,
    /// Next storage policy.
    NextPolicy = 7,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberRow(pub u64);

/// Key of the cluster's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterKey;

/// The cluster's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Identity.
    pub cluster: ClusterId,
    /// Replicas of a new chunk.
    pub default_replicas: u8,
    /// Which rows a leader may write.
    pub feature_level: u32,
    /// When it was formatted.
    pub formatted: Timestamp,
}

impl Key for ServerKey {
    const TABLE: Table = Table::Server;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = ServerRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(ServerId(input.u32_be()?)))
    }
}

impl Value for ServerRow {
    const FORMAT: u8 = 2;

    fn write(&self, out: &mut Writer) {
        let none = Draining { since: Timestamp::default(), replicas: 0 };
        let Draining { since, replicas } = self.draining.unwrap_or(none);
        out.bytes(self.node.0.as_bytes());
        out.u8(if self.draining.is_some() { FLAG_DRAINING } else { 0 });
        out.time(since);
        out.u64(replicas);
        out.text(&self.data_address);
        out.text(&self.http_address);
        out.u8(self.labels.len() as u8);
        self.labels.texts().for_each(|label| out.text(&label));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let node = NodeId(Uuid::from_bytes(input.array()?));
        let flags = input.u8()?;
        let draining = Draining { since: input.time()?, replicas: input.u64()? };
        let (data_address, http_address) = (input.text()?, input.text()?);
        let texts = (0..input.u8()?).map(|_| input.text()).collect::<Result<Vec<_>, _>>()?;
        let labels = Labels::parse(&texts).map_err(|_| Damaged)?;
        let is_canonical = flags & !FLAG_DRAINING == 0 && labels.texts().eq(texts);
        let draining = (flags & FLAG_DRAINING != 0).then_some(draining);
        if is_canonical {
            Ok(Self { node, data_address, http_address, labels, draining })
        } else {
            Err(Damaged)
        }
    }
}

impl Key for ServerNodeKey {
    const TABLE: Table = Table::ServerNode;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = ServerNodeRow;

    fn write(&self, out: &mut Writer) {
        out.bytes(self.0.0.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(NodeId(Uuid::from_bytes(input.array()?))))
    }
}

impl Value for ServerNodeRow {
    fn write(&self, out: &mut Writer) {
        out.u32(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(ServerId(input.u32()?)))
    }
}

impl Key for CounterKey {
    const TABLE: Table = Table::Counter;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = NumberRow;

    fn write(&self, out: &mut Writer) {
        out.u8(*self as u8);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(match input.u8()? {
            1 => Self::NextInode,
            2 => Self::NextChunk,
            3 => Self::NextSession,
            4 => Self::NextServer,
            5 => Self::InodesGone,
            6 => Self::ChunksGone,
            7 => Self::NextPolicy,
            _ => return Err(Damaged),
        })
    }
}

impl Value for NumberRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(input.u64()?))
    }
}

impl Key for ClusterKey {
    const TABLE: Table = Table::Cluster;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = ClusterRow;

    fn write(&self, _out: &mut Writer) {}

    fn read(_input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self)
    }
}

impl Value for ClusterRow {
    fn write(&self, out: &mut Writer) {
        out.bytes(self.cluster.0.as_bytes());
        out.u8(self.default_replicas);
        out.u32(self.feature_level);
        out.time(self.formatted);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self {
            cluster: ClusterId(Uuid::from_bytes(input.array()?)),
            default_replicas: input.u8()?,
            feature_level: input.u32()?,
            formatted: input.time()?,
        })
    }
}
