//! Measures the data plane: real servers in this process, on loopback sockets and below TMPDIR.
//!
//! `TMPDIR=/dev/shm cargo run --release -p cairn-chunkserver --example data_plane_bench`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "a measurement"
)]

#[path = "../tests/server/fixture.rs"]
mod fixture;
#[path = "../tests/server/leader.rs"]
mod leader;

use cairn_core::ids::{ChunkId, ChunkVersion, PartId};
use cairn_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use cairn_core::units::CHUNK_BYTES;
use cairn_env::Env;
use cairn_env::clock::Clock;
use cairn_proto::data_conn::DataConnection;
use cairn_proto::frame::{Frame, Status, flags};
use fixture::{Cluster, pattern, read, sync, write};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 512 MiB. Chunks are deleted after each round, so that the next one finds memory that the host has given already: in a
/// virtual machine the first touch of a page costs more than everything measured here.
const STREAM_CHUNKS: u64 = 8;
const ROUNDS: u64 = 5;
const WINDOW: usize = 32;

#[tokio::main]
async fn main() {
    let clock = Env::real().clock;
    let cluster = Cluster::of(3).await;
    small(&cluster, &clock).await;
    // Touches as much memory as any later round.
    stream_write(&cluster, &clock, 3, 0).await;
    for replicas in 1..=3 {
        let mut rounds = Vec::new();
        let cpu_before = cpu();
        for round in 1..=ROUNDS {
            rounds.push(stream_write(&cluster, &clock, replicas, round).await);
        }
        let cpu_spent =
            (cpu() - cpu_before) / (ROUNDS * STREAM_CHUNKS * CHUNK_BYTES) as f64 * (1u64 << 30) as f64;
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (written, synced, read) = rounds[rounds.len() / 2];
        println!(
            "stream, chain of {replicas}: write {written:.2} GiB/s, with the sync {synced:.2} GiB/s, read {read:.2} GiB/s; \
             processor {cpu_spent:.2} s for each GiB written and read"
        );
    }
    for server in cluster.servers {
        server.stop().await;
    }
}

/// Processor seconds of this process: what stays comparable on a busy machine.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

async fn small(cluster: &Cluster, clock: &Arc<dyn Clock>) {
    let connection = cluster.connect(0).await;
    let block = pattern(1, 4096);
    for offset in 0..256 {
        ok(connection.call(write(900, 1, offset * 4096, block.clone(), Vec::new())).await.unwrap());
    }
    ok(connection.call(sync(900, 1, Vec::new())).await.unwrap());
    let times = each(clock, 20_000, |i| connection.call(read(900, 1, (i % 256) * 4096, 4096))).await;
    report("read 4 KiB", times);
    for (name, hops) in [
        ("write+sync 4 KiB, 1 replica", Vec::new()),
        ("write+sync 4 KiB, chain of 2", cluster.addresses(&[1])),
        ("write+sync 4 KiB, chain of 3", cluster.addresses(&[1, 2])),
    ] {
        let times = each(clock, 5000, |i| {
            let mut frame = write(901 + hops.len() as u64, 1, (i % 256) * 4096, block.clone(), hops.clone());
            frame.header.flags |= flags::SYNC;
            connection.call(frame)
        });
        report(name, times.await);
    }
    let began = clock.now();
    let reads = futures::stream::iter(0..100_000u64)
        .map(|i| connection.call(read(900, 1, (i % 256) * 4096, 4096)))
        .buffer_unordered(32);
    reads.for_each(|reply| async { ok(reply.unwrap()) }).await;
    println!("read 4 KiB, 32 in flight: {:.0} k/s", 100.0 / clock.now().since(began).as_secs_f64());
}

async fn each<F, R>(clock: &Arc<dyn Clock>, count: u64, call: F) -> Vec<Duration>
where
    F: Fn(u64) -> R,
    R: Future<Output = Result<Frame, cairn_proto::data_conn::ConnError>>,
{
    let mut times = Vec::new();
    for i in 0..count {
        let began = clock.now();
        ok(call(i).await.unwrap());
        times.push(clock.now().since(began));
    }
    times
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 1000].as_secs_f64() * 1e6;
    println!("{name}: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us", at(500), at(990), at(999));
}

/// GiB/s of writing, of writing with the sync, and of reading back.
async fn stream_write(
    cluster: &Cluster,
    clock: &Arc<dyn Clock>,
    replicas: usize,
    round: u64,
) -> (f64, f64, f64) {
    let first_chunk = 1000 * replicas as u64 + 100 * round;
    let connections = pair(cluster, 0).await;
    let hops = cluster.addresses(&(1..replicas).collect::<Vec<_>>());
    let frame = write(0, 1, 0, pattern(3, FRAME_PAYLOAD_BYTES_MAX), hops.clone());
    let frames: Vec<_> = frames(first_chunk)
        .map(|(chunk, offset)| {
            let mut next = frame.clone();
            next.header.chunk = ChunkId(chunk);
            next.header.offset = offset;
            next.sums = cairn_core::checksum::payload_crcs(next.header.chunk, offset, &next.payload);
            next
        })
        .collect();
    let bytes = frames.len() as f64 * FRAME_PAYLOAD_BYTES_MAX as f64;
    let began = clock.now();
    let calls = futures::stream::iter(frames)
        .map(|frame| connections[(frame.header.chunk.get() % 2) as usize].call(frame))
        .buffer_unordered(WINDOW);
    calls.for_each(|reply| async { ok(reply.unwrap()) }).await;
    let written = clock.now().since(began);
    let syncs = (0..STREAM_CHUNKS).map(|i| connections[0].call(sync(first_chunk + i, 1, hops.clone())));
    futures::future::join_all(syncs).await.into_iter().for_each(|reply| ok(reply.unwrap()));
    let synced = clock.now().since(began);
    let read = stream_read(clock, &connections, first_chunk).await;
    for server in &cluster.servers[..replicas] {
        for i in 0..STREAM_CHUNKS {
            server.store().delete(ChunkId(first_chunk + i), PartId(0), ChunkVersion(1)).await.unwrap();
        }
    }
    let speed = |span: Duration| bytes / span.as_secs_f64() / (1u64 << 30) as f64;
    (speed(written), speed(synced), read)
}

async fn stream_read(clock: &Arc<dyn Clock>, connections: &[DataConnection; 2], first_chunk: u64) -> f64 {
    let began = clock.now();
    let calls = futures::stream::iter(frames(first_chunk))
        .map(|(chunk, offset)| {
            connections[(chunk % 2) as usize].call(read(chunk, 1, offset, FRAME_PAYLOAD_BYTES_MAX as u32))
        })
        .buffer_unordered(WINDOW);
    calls.for_each(|reply| async { ok(reply.unwrap()) }).await;
    let bytes = STREAM_CHUNKS as f64 * CHUNK_BYTES as f64;
    bytes / clock.now().since(began).as_secs_f64() / (1u64 << 30) as f64
}

async fn pair(cluster: &Cluster, server: usize) -> [DataConnection; 2] {
    [cluster.connect(server).await, cluster.connect(server).await]
}

fn frames(first: u64) -> impl Iterator<Item = (u64, u64)> {
    // Two chunks at a time, so that both connections carry something.
    (0..STREAM_CHUNKS / 2).flat_map(move |pair| {
        (0..CHUNK_BYTES)
            .step_by(FRAME_PAYLOAD_BYTES_MAX)
            .flat_map(move |offset| [(first + 2 * pair, offset), (first + 2 * pair + 1, offset)])
    })
}

fn ok(reply: Frame) {
    assert_eq!(reply.header.status, Status::Ok);
}
