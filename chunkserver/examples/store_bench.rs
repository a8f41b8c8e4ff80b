//! Measures the chunk store alone, without a network: `cargo run --release --example store_bench -- DIRECTORY [creates]`.
#![allow(clippy::print_stdout, missing_docs)]

use bytes::Bytes;
use cairn_chunkserver::store::{ChunkStore, DiskConfig, WriteRequest};
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::{ChunkId, ChunkVersion, LeaseNumber, NodeId, PartId};
use cairn_core::units::CHUNK_BYTES;
use cairn_env::Env;
use futures::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SPAN: Duration = Duration::from_secs(1);
const FRAME: u64 = 256 * 1024;

fn request(chunk: u64, offset: u64, payload: Bytes, sync: bool) -> WriteRequest {
    let sums = payload_crcs(ChunkId(chunk), offset, &payload);
    WriteRequest {
        chunk: ChunkId(chunk),
        part: PartId(0),
        version: ChunkVersion(1),
        lease: LeaseNumber(1),
        offset,
        payload,
        sums,
        create: true,
        sync,
        repair: false,
    }
}

/// Runs `one` in `tasks` tasks for a while and prints its rate.
async fn rate<F, Fut>(env: &Env, what: &str, tasks: u64, bytes: u64, one: F)
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let one = Arc::new(one);
    let next = Arc::new(AtomicU64::new(0));
    let start = env.clock.now();
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (one, next, clock) = (Arc::clone(&one), Arc::clone(&next), Arc::clone(&env.clock));
            tokio::spawn(async move {
                while clock.now().since(start) < SPAN {
                    one(next.fetch_add(1, Ordering::Relaxed)).await;
                }
            })
        })
        .collect();
    for task in running {
        task.await.expect("the store does its work");
    }
    let seconds = env.clock.now().since(start).as_secs_f64();
    let count = next.load(Ordering::Relaxed) as f64;
    let mib = count * bytes as f64 / seconds / (1 << 20) as f64;
    println!("{what:<42} {tasks:>3} tasks {:>10.0} /s {mib:>9.0} MiB/s", count / seconds);
}

async fn streaming(env: &Env, store: &ChunkStore, frame: &Bytes, mut base: u64) {
    for tasks in [1, 4] {
        base += 100_000_000;
        let (store, frame) = (store.clone(), frame.clone());
        rate(env, "streaming: whole chunks in 256 KiB frames, sync", tasks, CHUNK_BYTES, move |i| {
            let (store, frame) = (store.clone(), frame.clone());
            async move {
                for offset in (0..CHUNK_BYTES).step_by(FRAME as usize) {
                    store
                        .write(request(base + i, offset, frame.clone(), false))
                        .await
                        .expect("the store does its work");
                }
                store
                    .sync(ChunkId(base + i), PartId(0), ChunkVersion(1))
                    .await
                    .expect("the store does its work");
                if i > 4 {
                    store
                        .delete(ChunkId(base + i - 4), PartId(0), ChunkVersion(1))
                        .await
                        .expect("the store does its work");
                }
            }
        })
        .await;
    }
    base += 100_000_000;
    let (piped, pipe_frame) = (store.clone(), frame.clone());
    rate(env, "streaming, 16 frames in flight, sync", 1, CHUNK_BYTES, move |i| {
        let (store, frame) = (piped.clone(), pipe_frame.clone());
        async move {
            let frames = (0..CHUNK_BYTES).step_by(FRAME as usize);
            let writes = frames.map(|offset| {
                let (store, request) = (store.clone(), request(base + i, offset, frame.clone(), false));
                tokio::spawn(async move { store.write(request).await.expect("the store does its work") })
            });
            futures::stream::iter(writes)
                .buffered(16)
                .for_each(|done| async { done.expect("the store does its work") })
                .await;
            store.sync(ChunkId(base + i), PartId(0), ChunkVersion(1)).await.expect("the store does its work");
            if i > 4 {
                store
                    .delete(ChunkId(base + i - 4), PartId(0), ChunkVersion(1))
                    .await
                    .expect("the store does its work");
            }
        }
    })
    .await;
}

async fn random(env: &Env, store: &ChunkStore, frame: &Bytes, small: &Bytes) {
    for offset in (0..CHUNK_BYTES).step_by(FRAME as usize) {
        store.write(request(1, offset, frame.clone(), false)).await.expect("the store does its work");
    }
    store.sync(ChunkId(1), PartId(0), ChunkVersion(1)).await.expect("the store does its work");
    let block = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (CHUNK_BYTES / 4096) * 4096;
    for tasks in [1, 16, 64] {
        let (store, small) = (store.clone(), small.clone());
        rate(env, "4 KiB random overwrite + sync", tasks, 4096, move |i| {
            let (store, request) = (store.clone(), request(1, block(i), small.clone(), true));
            async move { store.write(request).await.expect("the store does its work") }
        })
        .await;
    }
    for (tasks, length) in [(1, 4096), (16, 4096), (1, FRAME), (4, FRAME)] {
        let store = store.clone();
        rate(env, &format!("random reads of {} KiB", length / 1024), tasks, length, move |i| {
            let (store, offset) = (store.clone(), block(i).min(CHUNK_BYTES - length));
            async move {
                store
                    .read(ChunkId(1), PartId(0), ChunkVersion(1), offset, length as u32)
                    .await
                    .map(drop)
                    .expect("the store does its work")
            }
        })
        .await;
    }
}

#[tokio::main]
async fn main() {
    let directory = std::env::args().nth(1).expect("give a directory");
    let env = Env::real();
    let disk = DiskConfig { path: directory.into(), capacity_bytes: None, reserve_bytes: 0 };
    let (store, report) =
        ChunkStore::open(&env, None, NodeId::default(), &[disk]).expect("the store does its work");
    println!("{:?}", report.disks);
    let small = Bytes::from(vec![7u8; 4096]);
    let only_creates = std::env::args().nth(2).is_some_and(|what| what == "creates");
    let mut base = 0;
    for tasks in [1, 16, 64] {
        base += 100_000_000;
        let (store, small) = (store.clone(), small.clone());
        rate(&env, "create + write + sync of 4 KiB replicas", tasks, 4096, move |i| {
            let (store, request) = (store.clone(), request(base + i, 0, small.clone(), true));
            async move { store.write(request).await.expect("the store does its work") }
        })
        .await;
    }
    if only_creates {
        return store.close().await;
    }
    let frame = Bytes::from(vec![9u8; FRAME as usize]);
    streaming(&env, &store, &frame, base).await;
    random(&env, &store, &frame, &small).await;
    store.close().await;
}
