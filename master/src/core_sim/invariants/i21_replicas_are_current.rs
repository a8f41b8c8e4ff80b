//! I1, I21: whoever reads a replica that the leader names gets what was recorded; when it is recorded, and at the end, every replica of
//! the set holds it, synced.

use crate::core_sim::canon::Canon;
use crate::core_sim::chunkserver::{Blocks, Server};
use crate::core_sim::data::Recorded;
use cairn_core::namespace::work::{chunk, servers};

/// What was read back is what was recorded.
pub(super) fn check_read(seed: u64, recorded: &Recorded, blocks: &Blocks) {
    assert_eq!(*blocks, recorded.blocks, "seed {seed}: I21: what is read of {}", recorded.chunk);
}

/// Every replica of the present set has every recorded byte on stable storage.
pub(in crate::core_sim) fn check_all(seed: u64, recorded: &[Recorded], hosts: &[Server], canon: &Canon) {
    let known = servers(canon, None, usize::MAX).unwrap();
    for file in recorded.iter().filter(|file| !file.removed) {
        let Some(row) = chunk(canon, file.chunk).unwrap() else {
            panic!("seed {seed}: I1: {} of a recorded file is gone", file.chunk)
        };
        assert!(row.servers.len() >= usize::from(row.minimum), "seed {seed}: I1: {row:?}");
        for server in row.servers {
            let node = known.iter().find(|record| record.server == server).map(|record| record.node);
            let host = hosts.iter().find(|host| Some(host.node) == node);
            let replica = host.and_then(|host| host.replicas.get(&file.chunk));
            assert!(
                replica.is_some_and(|it| it.version == row.version && it.durable == file.blocks),
                "seed {seed}: I1: {server} holds {replica:?} of {file:?}, in version {}",
                row.version
            );
        }
    }
}
