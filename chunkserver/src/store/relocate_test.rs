//! Moves between two disks of a server: under writers and readers, and with a disk that is away after a crash.

use super::crash_model_test::{
    ONE, Op, PART, TWO, move_over, open_on, runtime, tiny, world, write_all_back, write_request,
};
use super::relocate::Outcome;
use super::scrub::assert_sound;
use super::*;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::{Disk as _, OpenMode};
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::KeepAll;
use std::collections::BTreeSet;
use std::path::Path;

const BLOCK: usize = BLOCK_BYTES as usize;
const CHUNK: ChunkId = ChunkId(1);
const ALONE: [&str; 1] = ["/e"];

fn write(fill: u8, offset: u64, length: usize) -> Op {
    Op::Write { chunk: 1, version: 1, offset, length, fill, sync: true }
}

async fn content(store: &ChunkStore, version: u64, length: usize) -> Result<Vec<u8>, StoreError> {
    let read = store.read(CHUNK, PART, ChunkVersion(version), 0, length as u32).await?;
    Ok(read.payload[..length].to_vec())
}

/// Every crash point within a move.
fn crash_points_of_a_move() -> Vec<SimDisk> {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_on(&disk, 1, &TWO);
        write(1, 0, 3 * BLOCK).run(&store).await.unwrap();
        disk.keep_crash_points();
        assert_eq!(move_over(&store, 1).await, Ok(Outcome::Moved));
    });
    disk.take_crash_points().into_iter().map(|point| point.disk).collect()
}

#[test]
fn what_was_written_while_one_disk_was_away_is_never_undone() {
    let (mut lost, mut kept) = (0, 0);
    for point in crash_points_of_a_move() {
        for (seed, alone) in (0..6).flat_map(|seed| [(seed, &ONE), (seed, &ALONE)]) {
            let image = point.crash_image(seed);
            let written = runtime().block_on(async {
                let (store, _) = open_on(&image, 2, alone);
                if store.stat(CHUNK, PART).is_none() {
                    return false;
                }
                assert_eq!(content(&store, 1, 3 * BLOCK).await.unwrap(), vec![1; 3 * BLOCK]);
                write(7, 0, 3 * BLOCK).run(&store).await.unwrap();
                store.close().await;
                true
            });
            runtime().block_on(async {
                let (store, _) = open_on(&image.crash_image_with(&mut KeepAll), 3, &TWO);
                // Both are there again: one of them counts.
                let fill = if written { 7 } else { 1 };
                assert_eq!(content(&store, 1, 3 * BLOCK).await.unwrap(), vec![fill; 3 * BLOCK]);
                assert_sound(&store).await;
            });
            (lost, kept) = if written { (lost, kept + 1) } else { (lost + 1, kept) };
        }
    }
    assert!(lost > 10 && kept > 10, "{lost} {kept}");
}

#[test]
fn a_damaged_replica_is_left_where_it_is() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (store, _) = open_on(&disk, 1, &TWO);
        write(1, 0, 3 * BLOCK).run(&store).await.unwrap();
        write_all_back(&store).await.unwrap();
        let replica = store.find(CHUNK, PART).unwrap();
        let path = replica.volume.replica_path(replica.key);
        disk.open(&path, OpenMode::Write).unwrap().write_all_at(&[9; 10], 5000).unwrap();
        assert_eq!(move_over(&store, 1).await, Ok(Outcome::Damaged));
        assert!(store.stat(CHUNK, PART).unwrap().corrupt);
        assert_eq!(store.stat(CHUNK, PART).unwrap().disk, replica.volume.disk_id);
        assert!(content(&store, 1, BLOCK).await.is_ok(), "its other blocks are read as before");
    });
}

#[test]
fn lost_writes_are_not_forgotten_by_a_move() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_on(&disk, 1, &TWO);
        Op::Write { chunk: 1, version: 1, offset: 0, length: 9000, fill: 1, sync: false }
            .run(&store)
            .await
            .unwrap();
    });
    let image = disk.crash_image_with(&mut KeepAll);
    runtime().block_on(async {
        let (store, _) = open_on(&image, 2, &TWO);
        assert!(store.stat(CHUNK, PART).unwrap().writes_lost);
        assert_eq!(move_over(&store, 1).await, Ok(Outcome::Moved));
        assert_eq!(store.sync(CHUNK, PART, ChunkVersion(1)).await, Err(StoreError::WritesLost));
    });
    runtime().block_on(async {
        let (store, _) = open_on(&image.crash_image_with(&mut KeepAll), 3, &TWO);
        assert!(store.stat(CHUNK, PART).unwrap().writes_lost, "also after a restart");
    });
}

/// Writes block after block, each acknowledged write remembered, until `moves` are over.
async fn overwrite(store: &ChunkStore, over: &AtomicBool, blocks: &mut [u8]) -> u64 {
    let mut writes = 0;
    while !over.load(Ordering::Relaxed) {
        writes += 1;
        let at = (writes * 7 % blocks.len() as u64) as usize;
        let (fill, count) = ((writes % 251) as u8 + 1, 1 + writes as usize % 3);
        let end = blocks.len().min(at + count);
        let payload = vec![fill; (end - at) * BLOCK];
        let request = write_request(1, 1, (at * BLOCK) as u64, &payload, writes.is_multiple_of(5));
        store.write(request).await.unwrap();
        blocks[at..end].fill(fill);
        if writes.is_multiple_of(11) {
            store.sync(CHUNK, PART, ChunkVersion(1)).await.unwrap();
        }
        let read = store.read(CHUNK, PART, ChunkVersion(1), (at * BLOCK) as u64, BLOCK as u32).await.unwrap();
        assert!(read.payload == vec![fill; BLOCK], "block {at}");
        tokio::task::yield_now().await;
    }
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_readers_go_on_through_moves_and_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let paths = [root.path().join("d"), root.path().join("e")];
    let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let config =
        |path: &&str| DiskConfig { path: Path::new(path).to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    let configs: Vec<_> = paths.iter().map(config).collect();
    let open = || ChunkStore::open(&Env::real(), None, NodeId::default(), &configs).unwrap().0;
    let store = open();
    let mut blocks = vec![9; 600];
    for at in (0..600).step_by(60) {
        store.write(write_request(1, 1, (at * BLOCK) as u64, &vec![9; 60 * BLOCK], false)).await.unwrap();
    }
    let over = AtomicBool::new(false);
    let moves = async {
        let (mut moved, mut disks) = (0, BTreeSet::new());
        for _ in 0..400 {
            moved += u64::from(move_over(&store, 1).await.unwrap() == Outcome::Moved);
            disks.insert(store.stat(CHUNK, PART).unwrap().disk.0);
            if moved >= 12 {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        (moved, disks.len())
    };
    let ((moved, disks), writes) = tokio::join!(moves, overwrite(&store, &over, &mut blocks));
    assert!(moved >= 12 && disks == 2 && writes > 20, "{moved} moves, {writes} writes");
    let held: u64 = store.disks().iter().map(|disk| disk.replicas).sum();
    assert_eq!(held, 1);
    store.close().await;
    drop(store);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let store = open();
    for (at, fill) in blocks.iter().enumerate() {
        let read = store.read(CHUNK, PART, ChunkVersion(1), (at * BLOCK) as u64, BLOCK as u32).await.unwrap();
        assert!(read.payload == vec![*fill; BLOCK], "block {at}");
    }
    assert_sound(&store).await;
}

/// A store with a disk of any size and one of `second_bytes`.
fn open_beside(second_bytes: u64, settings: Settings) -> ChunkStore {
    let config = |path: &str, capacity_bytes| DiskConfig {
        path: Path::new(path).to_owned(),
        capacity_bytes,
        reserve_bytes: 0,
    };
    let configs = [config("/d", None), config("/e", Some(second_bytes))];
    let world = world(&SimDisk::new(), 1);
    ChunkStore::open_with(&world, None, NodeId::default(), &configs, settings).unwrap().0
}

#[tokio::test]
async fn a_disk_that_is_to_go_takes_what_the_others_have_no_room_for() {
    let store = open_beside(1 << 20, tiny());
    store.vacate(&BTreeSet::from([store.disks()[0].disk]));
    for chunk in 1..=30 {
        store.write(write_request(chunk, 1, 0, &vec![chunk as u8; 4096], true)).await.unwrap();
    }
    // A replica grows: what has room for its first bytes only would fail its writer.
    assert_eq!((store.disks()[0].replicas, store.disks()[1].replicas), (30, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_emptied_as_far_as_the_others_have_room() {
    let store = open_beside(2 * CHUNK_BYTES, Settings { upkeep: true, ..tiny() });
    let from = store.disks()[0].disk;
    store.vacate(&BTreeSet::from([store.disks()[1].disk]));
    for chunk in 1..=30 {
        store.write(write_request(chunk, 1, 0, &vec![chunk as u8; 20_000], true)).await.unwrap();
    }
    assert_eq!(store.disks()[1].replicas, 0, "nothing new comes to a disk that is to go");
    store.vacate(&BTreeSet::from([from]));
    let (stopping, tasks) = Default::default();
    store.start_vacating(&stopping, &tasks);
    while store.disks()[0].replicas > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.disks()[1].replicas, 30);
    store.write(write_request(99, 1, 0, &vec![1; 4096], true)).await.unwrap();
    assert_eq!((store.disks()[0].replicas, store.disks()[1].replicas), (0, 31));
    // The other way there is room for a few at the most: the disk that is left counts its own.
    store.vacate(&BTreeSet::from([store.disks()[1].disk]));
    while store.disks()[1].replicas > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.vacate(&BTreeSet::new());
    assert!(store.disks().iter().all(|disk| disk.vacating.is_none()));
    stopping.cancel();
}
