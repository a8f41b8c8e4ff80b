//! What the master knows of its chunk servers at a moment.

use super::labels::Labels;
use crate::ids::ServerId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Chunk servers as last heard of. Made by the shell from registrations and heartbeats; never journaled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Every server that has registered with this leader or stands in the state.
    pub servers: BTreeMap<ServerId, ServerView>,
}

/// One chunk server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Whether it may be counted on.
    pub health: ServerHealth,
    /// `host:port` of its data plane; empty while it is not connected.
    pub address: String,
    /// Capacity of its healthy disks.
    pub total_bytes: u64,
    /// Free on its healthy disks, less their reserve.
    pub free_bytes: u64,
    /// Free on its disks that are to be emptied: used for new chunks when others do not suffice.
    pub leaving_bytes: u64,
    /// Data-plane requests in flight there, as it last said.
    pub load: u64,
    /// It is to be emptied: what it has counts, and it gets no more while there are others.
    pub draining: bool,
    /// Where it stands.
    pub labels: Arc<Labels>,
}

/// Whether a server may be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerHealth {
    /// Heard of lately.
    Alive,
    /// Silent beyond [`crate::limits::SERVER_SUSPECT`]: gets no new chunks.
    Suspect,
    /// Not connected.
    Down,
    /// Not connected for so long that its replicas are made anew elsewhere.
    Dead,
}

impl ServerHealth {
    /// What operators read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Dead => "dead",
        }
    }

    /// Whether it can be talked to.
    pub fn is_reachable(self) -> bool {
        match self {
            Self::Alive | Self::Suspect => true,
            Self::Down | Self::Dead => false,
        }
    }
}

impl ClusterView {
    /// Where `server` is reached at present; empty when it is not connected.
    pub fn address(&self, server: ServerId) -> &str {
        self.servers.get(&server).map_or("", |view| view.address.as_str())
    }

    /// Whether `server` may be counted on. One that nobody has registered may not.
    pub fn health(&self, server: ServerId) -> ServerHealth {
        self.servers.get(&server).map_or(ServerHealth::Dead, |view| view.health)
    }

    /// Whether `server` is to be emptied.
    pub fn is_draining(&self, server: ServerId) -> bool {
        self.servers.get(&server).is_some_and(|view| view.draining)
    }

    /// Whether `server` is heard of.
    pub fn is_alive(&self, server: ServerId) -> bool {
        self.servers.get(&server).is_some_and(|view| view.health == ServerHealth::Alive)
    }
}
