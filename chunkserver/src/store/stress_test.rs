//! Many tasks at once on the real disk, with a journal so small that everybody waits for everybody: no deadlock, no mixed bytes.

use super::crash_model_test::{PART, tiny, write_request};
use super::scrub::{Found, scrub_all};
use super::*;
use cairn_core::units::BLOCK_BYTES;
use std::time::Duration;

const TASKS: u64 = 12;
const ROUNDS: u64 = 60;

/// As a client would: overload is answered by a pause.
async fn patiently(store: &ChunkStore, request: WriteRequest) {
    while let Err(error) = store.write(request.clone()).await {
        assert_eq!(error, StoreError::Overloaded, "{:?}", store.disks());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each task owns one block in every eight of a shared chunk, and a chunk of its own.
async fn work(store: ChunkStore, task: u64) {
    for round in 0..ROUNDS {
        let fill = (task * 16 + round % 16) as u8;
        let block = task % 8 + 8 * (round % 5) + 64 * (task / 8);
        let sync = round % 3 == 0;
        patiently(&store, write_request(1, 1, block * BLOCK_BYTES, &[fill; 4096], sync)).await;
        let read = store.read(ChunkId(1), PART, ChunkVersion(1), block * BLOCK_BYTES, 4096).await.unwrap();
        assert!(read.payload.iter().all(|byte| *byte == fill), "task {task} round {round}");
        let own = 100 + task;
        patiently(&store, write_request(own, 1, (round % 7) * 30_000, &vec![fill; 50_000], false)).await;
        if round % 9 == 8 {
            store.sync(ChunkId(own), PART, ChunkVersion(1)).await.unwrap();
        }
        if round % 20 == 19 {
            let raised = ChunkId(1000 + task);
            patiently(&store, write_request(raised.get(), 1, 0, &[fill; 10], false)).await;
            store.raise_version(raised, PART, ChunkVersion(1), ChunkVersion(2)).await.unwrap();
            store.delete(raised, PART, ChunkVersion(2)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_and_a_tiny_journal() {
    let root = tempfile::tempdir().unwrap();
    let config = DiskConfig { path: root.path().to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    let settings = Settings { upkeep: true, ..tiny() };
    let open = || {
        ChunkStore::open_with(&Env::real(), None, NodeId::default(), std::slice::from_ref(&config), settings)
    };
    let (store, _) = open().unwrap();
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(store.clone(), task))).collect();
    let scrubbed = store.clone();
    // What is being changed is no damage.
    let scrubber = tokio::spawn(async move {
        loop {
            let wrong = scrub_all(&scrubbed).await;
            let damaged = |found: &&(u64, _)| matches!(found.1, Found::Damaged { .. });
            assert_eq!(wrong.iter().find(damaged), None);
            tokio::task::yield_now().await;
        }
    });
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("nobody waits for ever").unwrap();
    }
    scrubber.abort();
    assert!(scrubber.await.unwrap_err().is_cancelled());
    let before = store.read(ChunkId(1), PART, ChunkVersion(1), 0, 256 * 1024).await.unwrap();
    store.close().await;
    assert_eq!(store.disks()[0].state, DiskState::Healthy);
    drop(store);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (store, report) = open().unwrap();
    assert_eq!(report.disks[0].state, DiskState::Healthy, "{report:?}");
    let after = store.read(ChunkId(1), PART, ChunkVersion(1), 0, 256 * 1024).await.unwrap();
    assert!(before == after);
    assert_eq!(scrub_all(&store).await, []);
    assert_eq!(store.held().len() as u64, TASKS + 1);
}
