//! Full disks: what does not fit is refused, what is there stays there, and nothing of it outlives the want of room.

use super::crash_model_test::{Op, PART, open_tiny, runtime, tiny, world, write_all_back, write_request};
use super::write_back::{CatalogueWriter, Changes};
use super::*;
use cairn_core::chunk::ReplicaRecord;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::read_small;
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::LoseAll;
use std::path::Path;

fn write(chunk: u64, offset: u64, length: usize, fill: u8, sync: bool) -> Op {
    Op::Write { chunk, version: 1, offset, length, fill, sync }
}

/// Bytes in use.
fn used(disk: &SimDisk) -> u64 {
    let space = cairn_env::disk::Disk::space(disk, Path::new("/d")).unwrap();
    space.total.saturating_sub(space.free)
}

#[test]
fn a_full_disk_refuses_cleanly_still_deletes_and_recovers() {
    for spare in (0..245).step_by(4) {
        let disk = SimDisk::new();
        runtime().block_on(async {
            let config = DiskConfig { path: "/d".into(), capacity_bytes: None, reserve_bytes: 0 };
            let (store, _) =
                ChunkStore::open_with(&world(&disk, 1), None, NodeId::default(), &[config], tiny()).unwrap();
            let used = used(&disk);
            disk.set_capacity(used + spare * 1024);
            store.shared.volumes().for_each(|volume| volume.look_at_space());
            let mut done = Vec::new();
            let mut refused = 0;
            for chunk in 1..6 {
                for op in [
                    write(chunk, 0, 40_000, chunk as u8, true),
                    write(chunk, 1000, 20_000, 9, true),
                    Op::WriteBack,
                ] {
                    match op.run(&store).await {
                        Ok(()) => done.push(op),
                        Err(StoreError::DiskFull | StoreError::WritesLost | StoreError::NoSuchChunk) => {
                            refused += 1
                        }
                        Err(error) => panic!("{op:?} with {spare} KiB: {error}"),
                    }
                }
            }
            assert!(refused > 0, "with {spare} KiB nothing was refused");
            assert_ne!(store.disks()[0].state, DiskState::Failed, "{:?}", store.disks());
            for stat in store.list(ChunkId(0), ChunkId(9), 9) {
                let whole = store.raise_whole(stat.chunk, PART, stat.version, ChunkVersion(2)).await;
                assert_eq!(matches!(whole, Err(StoreError::WritesLost)), stat.writes_lost, "{stat:?}");
                store.raise_version(stat.chunk, PART, stat.version, ChunkVersion(2)).await.unwrap();
            }
            for stat in store.list(ChunkId(0), ChunkId(9), 9) {
                for block in 0..stat.length / BLOCK_BYTES {
                    store.read(stat.chunk, PART, stat.version, block * BLOCK_BYTES, 4096).await.unwrap();
                }
                store.delete(stat.chunk, PART, stat.version).await.unwrap();
            }
            disk.set_capacity(used + (1 << 20));
            store.shared.volumes().for_each(|volume| volume.look_at_space());
            write_all_back(&store).await.unwrap();
            store.write(write_request(7, 1, 0, &[8; 40_000], true)).await.unwrap();
            write_all_back(&store).await.unwrap();
            let image = disk.crash_image_with(&mut LoseAll);
            let (again, _) = open_tiny(&image, 3);
            let read = again.read(ChunkId(7), PART, ChunkVersion(1), 0, 40_000).await.unwrap();
            assert!(read.payload[..40_000] == [8; 40_000]);
            assert_eq!(again.held().len(), 1);
        });
    }
}

#[test]
fn a_catalogue_that_finds_no_room_is_gone_on_with_when_there_is_some() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        write(1, 0, 40_000, 1, true).run(&store).await.unwrap();
        write_all_back(&store).await.unwrap();
        let mut refused = 0;
        for round in 0..200 {
            // The same blocks again need no room in their file, so only the catalogue may want some.
            let fill = (round % 250) as u8;
            write(1, 0, 40_000, fill, true).run(&store).await.unwrap();
            disk.set_capacity(used(&disk));
            if let Err(error) = write_all_back(&store).await {
                assert_eq!(error, StoreError::DiskFull, "round {round}");
                assert_ne!(store.disks()[0].state, DiskState::Failed, "{:?}", store.disks());
                refused += 1;
                check_after_crash(&disk, fill).await;
                // Another frame takes the place of the one that did not fit.
                disk.set_capacity(used(&disk) + (1 << 20));
                write(2, 0, 4_096, fill, true).run(&store).await.unwrap();
                write_all_back(&store).await.unwrap();
                check_after_crash(&disk, fill).await;
            }
            disk.set_capacity(1 << 40);
        }
        assert!(refused > 1, "the catalogue grew by whole pages {refused} times");
    });
}

/// Chunk 1 is as it was acknowledged, whatever is left of what was not synced.
async fn check_after_crash(disk: &SimDisk, fill: u8) {
    let mut images = vec![disk.crash_image_with(&mut LoseAll)];
    images.extend((0..4).map(|seed| disk.crash_image(seed)));
    for image in images {
        image.set_capacity(1 << 40);
        let (again, _) = open_tiny(&image, 3);
        let read = again.read(ChunkId(1), PART, ChunkVersion(1), 0, 40_000).await.unwrap();
        assert!(read.payload[..40_000] == [fill; 40_000]);
    }
}

#[test]
fn a_catalogue_that_cannot_be_written_anew_stays_as_it_was() {
    let disk = SimDisk::new();
    let path = Path::new("/d/catalogue");
    cairn_env::disk::Disk::create_dir_all(&disk, Path::new("/d")).unwrap();
    let entries = |count: u64| -> Changes {
        let key = |chunk| ReplicaKey { chunk: ChunkId(chunk), part: PART };
        (0..count).map(|chunk| (key(chunk), Some(ReplicaRecord::default()))).collect()
    };
    CatalogueWriter::anew(&disk, path, &entries(2), 0, Term(1)).unwrap();
    let before = read_small(&disk, path, 1 << 20).unwrap();
    let used_before = used(&disk);
    for pages in 0..3 {
        disk.set_capacity(used_before + pages * BLOCK_BYTES);
        let error = CatalogueWriter::anew(&disk, path, &entries(1000), 512, Term(1)).map(drop).unwrap_err();
        assert!(volume::is_full(&error), "{error}");
        assert_eq!(read_small(&disk, path, 1 << 20).unwrap(), before);
        let left = cairn_env::disk::Disk::exists(&disk, Path::new("/d/catalogue.new")).unwrap();
        assert!(!left, "what did not fit is removed");
        cairn_env::disk::Disk::sync_dir(&disk, Path::new("/d")).unwrap();
    }
}
