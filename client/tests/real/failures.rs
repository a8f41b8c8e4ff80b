//! Chunk servers that die or freeze while files are written and read.

use crate::cluster::{Cluster, READ_ONLY, create, pattern, root};
use crate::proxy::Proxy;
use cairn_client::fs::{FileSystem, OpenFile};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// Writes `length` bytes, calling `at_half` half-way; returns the longest single wait.
async fn write_through(fs: &FileSystem, name: &str, length: u64, at_half: impl FnOnce()) -> Duration {
    let file = create(fs, name).await;
    let mut at_half = Some(at_half);
    let mut longest = Duration::ZERO;
    for at in (0..length).step_by(MIB as usize) {
        if at >= length / 2
            && let Some(at_half) = at_half.take()
        {
            at_half();
        }
        let begun = Instant::now();
        assert_eq!(fs.write(&file, at, pattern(at, MIB as usize, 5).into()).await, Ok(MIB as u32));
        longest = longest.max(begun.elapsed());
    }
    let begun = Instant::now();
    fs.flush(&file).await.unwrap();
    fs.release(&file).await;
    longest.max(begun.elapsed())
}

async fn read_through(
    fs: &FileSystem,
    inode: cairn_core::ids::InodeId,
    length: u64,
    at_half: impl FnOnce(),
) -> Duration {
    let file = fs.open(&root(), inode, READ_ONLY).await.unwrap();
    let mut at_half = Some(at_half);
    let mut longest = Duration::ZERO;
    for at in (0..length).step_by(MIB as usize) {
        if at >= length / 2
            && let Some(at_half) = at_half.take()
        {
            at_half();
        }
        let begun = Instant::now();
        let bytes = fs.read(&file, at, MIB as u32).await.unwrap();
        longest = longest.max(begun.elapsed());
        assert!(bytes[..] == pattern(at, MIB as usize, 5)[..], "at {at}");
    }
    longest
}

async fn inode_of(fs: &FileSystem, name: &str) -> cairn_core::ids::InodeId {
    fs.lookup(&root(), cairn_core::ids::InodeId::ROOT, &crate::cluster::name(name)).await.unwrap().inode
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_stops_neither_writer_nor_reader() {
    for (replicas, victim) in [(2, 0), (2, 1), (3, 0), (3, 2)] {
        let mut cluster = Cluster::start(3, replicas).await;
        let fs = cluster.client().await;
        let stall = write_through(&fs, "w", 96 * MIB, || cluster.kill(victim)).await;
        eprintln!("replicas {replicas}, killed {victim} while writing: longest wait {stall:?}");
        assert!(stall < Duration::from_secs(3));
        let other = cluster.client().await;
        let inode = inode_of(&other, "w").await;
        read_through(&other, inode, 96 * MIB, || {}).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_a_reader_is_not_noticed() {
    for victim in [0, 1] {
        let mut cluster = Cluster::start(2, 2).await;
        let fs = cluster.client().await;
        write_through(&fs, "r", 64 * MIB, || {}).await;
        let inode = inode_of(&fs, "r").await;
        let stall = read_through(&fs, inode, 64 * MIB, || cluster.kill(victim)).await;
        eprintln!("killed {victim} while reading: longest wait {stall:?}");
        assert!(stall < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_stalls_nobody_for_long() {
    for victim in [0, 1, 2] {
        let cluster = Cluster::start(3, 3).await;
        let fs = cluster.client().await;
        write_through(&fs, "r", 64 * MIB, || {}).await;
        let freeze = || cluster.freeze(victim, Duration::from_secs(8));
        let stall = write_through(&fs, "w", 96 * MIB, freeze).await;
        eprintln!("froze {victim} while writing: longest wait {stall:?}");
        assert!(stall < Duration::from_secs(3));
        let inode = inode_of(&fs, "r").await;
        let stall = read_through(&fs, inode, 64 * MIB, || {}).await;
        eprintln!("reading with {victim} frozen: longest wait {stall:?}");
        assert!(stall < Duration::from_secs(2));
        let inode = inode_of(&fs, "w").await;
        read_through(&fs, inode, 96 * MIB, || {}).await;
    }
}

/// Writes four megabytes that all servers have and nobody has synced.
async fn write_unsynced(cluster: &Cluster, fs: &FileSystem) -> OpenFile {
    let file = create(fs, "unsynced").await;
    write_everywhere(cluster, fs, (&file, 0)).await;
    file
}

/// The same, to this place.
async fn write_everywhere(cluster: &Cluster, fs: &FileSystem, (file, at): (&OpenFile, u64)) {
    let before = cluster.requests("write").await;
    fs.write(file, at, pattern(at, 4 << 20, 6).into()).await.unwrap();
    let mut seen = before;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = cluster.requests("write").await;
        if now > before && now == seen {
            return;
        }
        seen = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_synced_outlives_the_connections_to_all_servers() {
    let cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = write_unsynced(&cluster, &fs).await;
    let lost = cairn_core::limits::DATA_SILENCE_MAX + Duration::from_secs(3);
    cluster.freeze(0, lost);
    cluster.freeze(1, lost);
    fs.fsync(&file).await.unwrap();
    fs.release(&file).await;
    let other = cluster.client().await;
    let file = other.open(&root(), inode_of(&other, "unsynced").await, READ_ONLY).await.unwrap();
    assert!(other.read(&file, 0, 4 << 20).await.unwrap()[..] == pattern(0, 4 << 20, 6)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_does_not_wait_for_what_restarts_have_taken() {
    let mut cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = write_unsynced(&cluster, &fs).await;
    cluster.restart(0).await;
    cluster.restart(1).await;
    let error = fs.fsync(&file).await.unwrap_err();
    assert!(error.to_string().contains("2 of its servers have restarted"), "{error}");
    // The file goes on with what is written next.
    fs.write(&file, 0, pattern(0, 1 << 20, 7).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    assert!(fs.read(&file, 0, 1 << 20).await.unwrap()[..] == pattern(0, 1 << 20, 7)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_chunks_lost_at_once_are_told_once() {
    let mut cluster = Cluster::start(2, 2).await;
    let fs = cluster.client().await;
    let file = write_unsynced(&cluster, &fs).await;
    write_everywhere(&cluster, &fs, (&file, 64 * MIB)).await;
    cluster.restart(0).await;
    cluster.restart(1).await;
    let error = fs.fsync(&file).await.unwrap_err();
    assert!(error.to_string().contains("2 of its servers have restarted"), "{error}");
    // The handle has been told.
    fs.fsync(&file).await.unwrap();
    fs.write(&file, 64 * MIB, pattern(0, 1 << 20, 7).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    assert!(fs.read(&file, 64 * MIB, 1 << 20).await.unwrap()[..] == pattern(0, 1 << 20, 7)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_restarts_have_taken_is_told_though_the_writer_went_on_meanwhile() {
    let mut cluster = Cluster::start(3, 3).await;
    let fs = Arc::new(cluster.client().await);
    let file = create(&fs, "goes-on").await;
    fs.write(&file, 0, pattern(0, MIB as usize, 5).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    write_everywhere(&cluster, &fs, (&file, MIB)).await;
    let file = Arc::new(file);
    (0..3).for_each(|server| cluster.kill(server));
    let goes_on = {
        let (fs, file) = (fs.clone(), file.clone());
        tokio::spawn(async move {
            for number in 0..60 {
                let at = 5 * MIB + number * 65_536;
                // It may be told already what is lost.
                let _ = fs.write(&file, at, pattern(at, 65_536, 7).into()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(400)).await;
    for server in 0..3 {
        cluster.restart(server).await;
    }
    let synced = fs.fsync(&file).await;
    goes_on.await.unwrap();
    let kept = fs.read(&file, MIB, 4 << 20).await.unwrap()[..] == pattern(MIB, 4 << 20, 6)[..];
    assert!(synced.is_err() || kept, "fsync succeeded, and what was written before it is gone");
    // What was written after the first sync may be lost as well, and is told here then.
    let _ = fs.fsync(&file).await;
    assert!(fs.read(&file, 0, MIB as u32).await.unwrap()[..] == pattern(0, MIB as usize, 5)[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_a_sync_has_left_behind_is_not_read() {
    let mut cluster = Cluster::start(3, 3).await;
    let fs = cluster.client().await;
    let file = create(&fs, "overwritten").await;
    fs.write(&file, 0, pattern(0, 4 << 20, 5).into()).await.unwrap();
    fs.fsync(&file).await.unwrap();
    write_everywhere(&cluster, &fs, (&file, 0)).await;
    cluster.kill(1);
    fs.fsync(&file).await.unwrap();
    // Nobody can tell it, nor the client, that its replica is of no use any more.
    cluster.stop_master();
    cluster.restart(1).await;
    for at in (0..4 * MIB).step_by(65_536) {
        let bytes = fs.read(&file, at, 65_536).await.unwrap();
        assert!(bytes[..] == pattern(at, 65_536, 6)[..], "at {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restarted_server_has_lost_is_read_from_the_others() {
    for restarted in 0..3 {
        let mut cluster = Cluster::start(3, 3).await;
        let fs = cluster.client().await;
        let file = create(&fs, "unsynced").await;
        fs.write(&file, 0, pattern(0, 4 << 20, 5).into()).await.unwrap();
        fs.fsync(&file).await.unwrap();
        write_everywhere(&cluster, &fs, (&file, 0)).await;
        cluster.restart(restarted).await;
        assert!(fs.read(&file, 0, 4 << 20).await.unwrap()[..] == pattern(0, 4 << 20, 6)[..], "{restarted}");
        // Nobody may have it any more: what is there can be read, and the sync tells.
        cluster.restart((restarted + 1) % 3).await;
        cluster.restart((restarted + 2) % 3).await;
        assert_eq!(fs.read(&file, 0, 4 << 20).await.unwrap().len(), 4 << 20, "{restarted}");
        fs.fsync(&file).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_the_network_hides_takes_nothing_that_came_after_it() {
    let mut cluster = Cluster::start(3, 3).await;
    let proxy = Proxy::to(cluster.servers[1].data).await;
    cluster.restart_behind(1, proxy.address).await;
    // Neither of the two that are left can be done without.
    cluster.kill(2);
    let fs = cluster.client().await;
    let file = create(&fs, "after-the-restart").await;
    // Sooner or later the proxied server is not the first of the chain, and gets its bytes from the other one.
    for round in 0..6_u64 {
        fs.write(&file, round * 64 * MIB, pattern(0, 4 << 20, 5).into()).await.unwrap();
        fs.fsync(&file).await.unwrap();
        proxy.hide_the_end_of_all(Duration::from_millis(1500));
        cluster.restart(1).await;
        // Its own connections to the other one are new then, and pass.
        cluster.restart(0).await;
        // Whoever was heard of a moment ago is believed to be there.
        tokio::time::sleep(cairn_core::limits::HOP_SILENCE).await;
        fs.write(&file, round * 64 * MIB, pattern(0, 4 << 20, 6).into()).await.unwrap();
        fs.fsync(&file).await.unwrap();
        let bytes = fs.read(&file, round * 64 * MIB, 4 << 20).await.unwrap();
        assert!(bytes[..] == pattern(0, 4 << 20, 6)[..], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_ends_though_a_replacement_got_no_further_than_half_way() {
    // Of each order of the three in the chain one pair has the silent one before the one that does not raise.
    for (silent, late) in [(0, 1), (1, 2), (2, 0)] {
        let cluster = Cluster::start(3, 3).await;
        let fs = cluster.client().await;
        let file = write_unsynced(&cluster, &fs).await;
        cluster.freeze(silent, Duration::from_millis(1200));
        tokio::time::sleep(Duration::from_millis(50)).await;
        fs.write(&file, 4 * MIB, pattern(0, 1 << 20, 7).into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.freeze(late, Duration::from_millis(1500));
        // All are there again, and in the same run, before anybody looks.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let synced = tokio::time::timeout(Duration::from_secs(40), fs.fsync(&file)).await;
        assert_eq!(synced, Ok(Ok(())), "{silent} silent, {late} late");
        assert!(fs.read(&file, 0, 4 << 20).await.unwrap()[..] == pattern(0, 4 << 20, 6)[..]);
        assert!(fs.read(&file, 4 * MIB, 1 << 20).await.unwrap()[..] == pattern(0, 1 << 20, 7)[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_waits_for_a_frozen_server_where_another_has_lost_what_it_holds() {
    for (frozen, restarted) in [(0, 1), (1, 2), (2, 0)] {
        let mut cluster = Cluster::start(3, 3).await;
        let fs = cluster.client().await;
        let file = write_unsynced(&cluster, &fs).await;
        // Longer than the master takes it for connected.
        cluster.freeze(frozen, Duration::from_secs(8));
        cluster.restart(restarted).await;
        let synced = tokio::time::timeout(Duration::from_secs(40), fs.fsync(&file)).await;
        assert_eq!(synced, Ok(Ok(())), "{frozen} frozen, {restarted} restarted");
        assert!(fs.read(&file, 0, 4 << 20).await.unwrap()[..] == pattern(0, 4 << 20, 6)[..]);
    }
}
