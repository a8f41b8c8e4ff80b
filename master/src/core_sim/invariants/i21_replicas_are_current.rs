//! I1, I21: whoever reads a replica that the leader names gets what was recorded; when it is recorded, and at the end, every replica of
//! the set holds it, synced.

use crate::core_sim::canon::Canon;
use crate::core_sim::chunkserver::{Blocks, Replica, Server};
use crate::core_sim::data::Recorded;
use cairn_core::ids::{ChunkId, ServerId};
use cairn_core::journal::entry::EntryData;
use cairn_core::namespace::rows::chunk::{ChunkKey, ChunkRow};
use cairn_core::namespace::rows::{KEY_HEAD_BYTES, Key, Table, Value};
use cairn_core::namespace::work::{chunk, servers};

/// What was read back is what was recorded.
pub(super) fn check_read(seed: u64, recorded: &Recorded, blocks: &Blocks) {
    assert_eq!(*blocks, recorded.blocks, "seed {seed}: I21: what is read of {}", recorded.chunk);
}

/// Whoever stays in a set whose version an entry raises has been raised: it serves nobody else from then on.
pub(super) fn check_raised(seed: u64, data: &EntryData, hosts: &[Server], canon: &Canon) {
    for (key, value) in data.rows.iter().filter(|(key, _)| key[0] == Table::Chunk as u8) {
        let number = key[KEY_HEAD_BYTES..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let id = ChunkId(number);
        debug_assert_eq!(*key, ChunkKey(id).encode());
        let before = canon.value_at(key, canon.last() - 1);
        let (Some(before), Some(after)) = (before, value) else { continue };
        let (before, after) = (ChunkRow::decode(&before).unwrap(), ChunkRow::decode(after).unwrap());
        if before.version == after.version {
            continue;
        }
        for server in &after.servers {
            let replica = host_of(*server, hosts, canon).and_then(|host| host.replicas.get(&id));
            assert!(
                replica.is_some_and(|replica| replica.version >= after.version),
                "seed {seed}: I21: {server} stays in the set of {id}, {after:?}, and holds {replica:?}"
            );
        }
    }
}

fn host_of<'a>(server: ServerId, hosts: &'a [Server], canon: &Canon) -> Option<&'a Server> {
    let known = servers(canon, None, usize::MAX).unwrap();
    let node = known.iter().find(|record| record.server == server)?.node;
    hosts.iter().find(|host| host.node == node)
}

/// Every replica of the present set has every recorded byte on stable storage.
pub(in crate::core_sim) fn check_all(seed: u64, recorded: &[Recorded], hosts: &[Server], canon: &Canon) {
    for file in recorded.iter().filter(|file| !file.removed) {
        let Some(row) = chunk(canon, file.chunk).unwrap() else {
            panic!("seed {seed}: I1: {} of a recorded file is gone", file.chunk)
        };
        assert!(row.servers.len() >= usize::from(row.minimum), "seed {seed}: I1: {row:?}");
        for server in row.servers {
            let replica = host_of(server, hosts, canon).and_then(|host| host.replicas.get(&file.chunk));
            let is_right = |replica: &Replica| {
                replica.version == row.version
                    && (&replica.durable, &replica.blocks) == (&file.blocks, &file.blocks)
            };
            assert!(
                replica.is_some_and(is_right),
                "seed {seed}: I1: {server} holds {replica:?} of {file:?}, in version {}",
                row.version
            );
        }
    }
}
