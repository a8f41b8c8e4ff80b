//! What a server with several disks makes of one that fails.

use super::crash_model_test::{PART, runtime, tiny, world, write_all_back, write_request};
use super::*;
use cairn_core::limits::DISK_READ_FAILURES_MAX;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk_sim::SimDisk;
use std::path::Path;

/// A store on two disks, with replicas 1 to 16 on either.
async fn on_two_disks(disk: &SimDisk) -> ChunkStore {
    let config =
        |path: &str| DiskConfig { path: Path::new(path).to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    let disks = [config("/a"), config("/b")];
    let env = world(disk, 1);
    let (store, _) = ChunkStore::open_with(&env, None, NodeId::default(), &disks, tiny()).unwrap();
    for chunk in 1..=16 {
        store.write(write_request(chunk, 1, 0, &[7; 40_000], true)).await.unwrap();
    }
    store
}

fn on_disk(store: &ChunkStore, index: usize) -> Vec<u64> {
    (1..=16).filter(|&chunk| store.disk_of(ChunkId(chunk), PART) == Some(index)).collect()
}

fn held(store: &ChunkStore) -> Vec<u64> {
    store.held().iter().map(|(chunk, ..)| chunk.get()).collect()
}

async fn read(store: &ChunkStore, chunk: u64, version: u64) -> Result<ReadBlocks, StoreError> {
    store.read(ChunkId(chunk), PART, ChunkVersion(version), 0, BLOCK_BYTES as u32).await
}

#[test]
fn what_stands_on_a_failed_disk_is_not_held_and_made_anew_on_another() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = on_two_disks(&disk).await;
        let (lost, kept) = (on_disk(&store, 0), on_disk(&store, 1));
        assert!(!lost.is_empty() && !kept.is_empty());
        disk.fail_sync("/a", 1);
        let first = lost[0];
        let failed = store.write(write_request(first, 1, 0, &[8; 4096], true)).await;
        assert_eq!(failed, Err(StoreError::DiskFailed));
        let states: Vec<_> = store.disks().iter().map(|disk| disk.state).collect();
        assert_eq!(states, [DiskState::Failed, DiskState::Healthy]);
        assert_eq!(held(&store), kept);
        let listed = store.list(ChunkId(0), ChunkId(u64::MAX), 100);
        assert_eq!(listed.iter().map(|stat| stat.chunk.get()).collect::<Vec<_>>(), kept);

        // A writer that goes on must hear that its bytes are lost.
        let onward = store.write(write_request(first, 1, 4096, &[8; 4096], true)).await;
        assert_eq!(onward, Err(StoreError::DiskFailed));
        let copy = WriteRequest { repair: true, ..write_request(first, 2, 0, &[9; 4096], true) };
        store.write(copy).await.unwrap();
        assert_eq!(store.disk_of(ChunkId(first), PART), Some(1));
        assert_eq!(read(&store, first, 2).await.unwrap().disk, 1);

        // Deleting is done: nobody counts on it. New replicas go to the other disk.
        let another = *lost.last().unwrap();
        if another != first {
            store.delete(ChunkId(another), PART, ChunkVersion(1)).await.unwrap();
            assert_eq!(read(&store, another, 1).await, Err(StoreError::NoSuchChunk));
        }
        for chunk in 20..30 {
            store.write(write_request(chunk, 1, 0, &[7; 4096], true)).await.unwrap();
            assert_eq!(store.disk_of(ChunkId(chunk), PART), Some(1));
        }
    });
}

#[test]
fn reads_that_fail_one_after_the_other_fail_the_disk_and_a_single_one_does_not() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let store = on_two_disks(&disk).await;
        write_all_back(&store).await.unwrap();
        let (bad, good) = (on_disk(&store, 0), on_disk(&store, 1));
        assert!(bad.len() >= DISK_READ_FAILURES_MAX && good.len() > 1);
        let fail = |chunk: u64| {
            let replica = store.shared.find(ChunkId(chunk), PART).unwrap();
            disk.fail_reads(&replica.volume.replica_path(replica.key), 0..BLOCK_BYTES).unwrap();
        };
        // A bad sector: one replica, however often it is read.
        fail(good[0]);
        for _ in 0..2 * DISK_READ_FAILURES_MAX {
            assert_eq!(read(&store, good[0], 1).await, Err(StoreError::Corrupt { offset: 0 }));
        }
        assert_eq!(store.disks()[1].state, DiskState::Healthy);

        bad.iter().for_each(|&chunk| fail(chunk));
        let mut outcomes = Vec::new();
        for &chunk in &bad[..DISK_READ_FAILURES_MAX] {
            outcomes.push(read(&store, chunk, 1).await.unwrap_err());
        }
        assert_eq!(outcomes.pop(), Some(StoreError::DiskFailed));
        assert!(outcomes.iter().all(|error| *error == StoreError::Corrupt { offset: 0 }), "{outcomes:?}");
        assert_eq!(store.disks()[0].state, DiskState::Failed);
        assert_eq!(held(&store), good);
        assert_eq!(read(&store, good[1], 1).await.unwrap().disk, 1, "the other disk serves");
    });
}
