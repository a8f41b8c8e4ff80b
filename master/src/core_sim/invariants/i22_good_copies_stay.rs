//! I20, I22: no replica is deleted that the committed state counts on.

use crate::core_sim::canon::Canon;
use cairn_core::ids::{ChunkId, NodeId};
use cairn_core::namespace::work::{chunk, server_of};

/// A server deletes its replica.
pub(super) fn check(seed: u64, node: NodeId, id: ChunkId, canon: &Canon) {
    let server = server_of(canon, node).unwrap().map(|record| record.server);
    let row = chunk(canon, id).unwrap();
    let counted = row.is_some_and(|row| server.is_some_and(|server| row.servers.contains(&server)));
    assert!(!counted, "seed {seed}: I22: {id} is deleted on {server:?}, whose replica counts");
}
