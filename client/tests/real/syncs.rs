//! What a sync costs, and what it leaves behind.

use crate::cluster::{Cluster, READ_ONLY, create, pattern, root};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BLOCK: u64 = 4096;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_writes_are_made_durable_by_their_own_frames() {
    let cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = create(&fs, "a").await;
    fs.write(&file, 0, pattern(0, 1 << 20, 1).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    let before = cluster.requests("sync").await;

    for round in 0..5 {
        for block in [3, 40, 41, 100, 200, 7] {
            let at = (block + round) * BLOCK;
            fs.write(&file, at, pattern(at, BLOCK as usize, 2).into()).await.unwrap();
        }
        fs.fsync(&file).await.unwrap();
    }
    assert_eq!(cluster.requests("sync").await, before, "no sync was asked for by itself");
    let written = cluster.requests("write").await;
    assert!(written >= 2 * 5 * 5, "{written} writes on two servers");

    // What is large is still synced once, not frame by frame.
    fs.write(&file, 0, pattern(0, 1 << 20, 3).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    assert_eq!(cluster.requests("sync").await, before + 2);
    let bytes = fs.read(&file, 0, 1 << 20).await.unwrap();
    assert!(bytes[..] == pattern(0, 1 << 20, 3)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_while_nothing_is_unsynced_keeps_its_replicas() {
    let mut cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = create(&fs, "a").await;
    for at in [0, BLOCK] {
        fs.write(&file, at, pattern(at, BLOCK as usize, 1).into()).await.unwrap();
        fs.fsync(&file).await.unwrap();
    }
    cluster.restart(0).await;
    fs.write(&file, 2 * BLOCK, pattern(2 * BLOCK, BLOCK as usize, 1).into()).await.unwrap();
    fs.flush(&file).await.unwrap();

    // Everything stands on the one that was away for a moment.
    cluster.kill(1);
    let reader = cluster.client().await;
    let file = reader.open(&root(), file.inode(), READ_ONLY).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(20), reader.read(&file, 0, 1 << 20));
    assert_eq!(&read.await.unwrap().unwrap()[..], &pattern(0, 3 * BLOCK as usize, 1)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_several_sync_one_file_blocks_leave_before_they_are_waited_for() {
    let cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = create(&fs, "a").await;
    let block = |index: u64| (index * BLOCK, pattern(index * BLOCK, BLOCK as usize, 7));
    for round in 0..4 {
        for index in [2 * round, 2 * round + 1] {
            let (at, bytes) = block(index);
            fs.write(&file, at, bytes.into()).await.unwrap();
        }
        // The first covers both writes.
        fs.fsync(&file).await.unwrap();
        fs.fsync(&file).await.unwrap();
    }
    let (syncs, writes) = (cluster.requests("sync").await, cluster.requests("write").await);
    let (at, bytes) = block(100);
    fs.write(&file, at, bytes.into()).await.unwrap();
    while cluster.requests("write").await < writes + 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A frame that had left only because it had waited long enough would have to be synced now.
    fs.fsync(&file).await.unwrap();
    assert_eq!(cluster.requests("sync").await, syncs);

    let reader = cluster.client().await;
    let seen = reader.open(&root(), file.inode(), READ_ONLY).await.unwrap();
    assert_eq!(&reader.read(&seen, at, BLOCK as u32).await.unwrap()[..], &block(100).1[..]);
    assert_eq!(&reader.read(&seen, 7 * BLOCK, BLOCK as u32).await.unwrap()[..], &block(7).1[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_programs_take_turns_a_block_leaves_at_once_to_be_durable() {
    let cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let first = create(&fs, "a").await;
    let second = fs.open(&root(), first.inode(), first.flags()).await.unwrap();
    let mut turns = [first, second];
    for index in 0..8 {
        let at = index * BLOCK;
        fs.write(&turns[0], at, pattern(at, BLOCK as usize, 7).into()).await.unwrap();
        fs.fsync(&turns[1]).await.unwrap();
        turns.rotate_left(1);
    }
    let (syncs, writes) = (cluster.requests("sync").await, cluster.requests("write").await);
    fs.write(&turns[0], 0, pattern(0, BLOCK as usize, 8).into()).await.unwrap();
    // Also if it took longer than a write waits.
    while cluster.requests("write").await < writes + 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fs.fsync(&turns[0]).await.unwrap();
    assert_eq!(cluster.requests("sync").await, syncs, "durable by its own frame");
}

/// Also when the bytes are in the hands of another sync that has not recorded them yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_was_written_before_a_sync_is_recorded_when_it_returns() {
    const BYTES: u64 = 300;
    let cluster = Cluster::start(2, 2).await;
    let (fs, reader) = (Arc::new(cluster.client().await), Arc::new(cluster.client().await));
    let file = Arc::new(create(&fs, "a").await);
    let written = Arc::new(AtomicU64::new(0));
    let syncers: Vec<_> = (0..4)
        .map(|_| {
            let (fs, reader, file, written) = (fs.clone(), reader.clone(), file.clone(), written.clone());
            tokio::spawn(async move {
                loop {
                    let before = written.load(Ordering::SeqCst);
                    fs.fsync(&file).await.unwrap();
                    let size = reader.getattr(&root(), file.inode(), None).await.unwrap().size;
                    assert!(size >= before, "{size} of {before} bytes are recorded");
                    if before == BYTES {
                        return;
                    }
                }
            })
        })
        .collect();
    for at in 0..BYTES {
        fs.write(&file, at, vec![7].into()).await.unwrap();
        written.store(at + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for syncer in syncers {
        syncer.await.unwrap();
    }
}
