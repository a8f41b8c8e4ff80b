//! Failing syncs and writes, flipped bits, full disks: never a false acknowledgement, never wrong bytes.

use super::crash_model_test::{ONE, Op, PART, Promise, open_tiny, runtime};
use super::*;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::{KeepAll, LoseAll};
use std::path::{Path, PathBuf};

fn write(chunk: u64, offset: u64, length: usize, fill: u8, sync: bool) -> Op {
    Op::Write { chunk, version: 1, offset, length, fill, sync }
}

fn workload() -> Vec<Op> {
    vec![
        write(1, 0, 40_000, 1, false),
        Op::Sync { chunk: 1, version: 1 },
        write(1, 100, 5_000, 2, true),
        write(2, 0, 4_096, 3, true),
        Op::WriteBack,
        write(1, 0, 40_000, 4, false),
        write(2, 4_096, 40_000, 5, true),
        Op::Term(3),
        Op::Sync { chunk: 1, version: 1 },
        Op::WriteBack,
    ]
}

/// Runs the workload with a fault until something fails, then cuts the power: what was acknowledged must be there.
fn fail_and_crash(later: &[Op], set_fault: impl Fn(&SimDisk)) -> bool {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        set_fault(&disk);
        let mut done = Vec::new();
        let mut failed = None;
        for op in workload() {
            match op.run(&store).await {
                Ok(()) if failed.is_none() => done.push(op),
                // A delayed or cancelled operation may still succeed on nothing but memory; syncs may not.
                Ok(()) => assert!(
                    !matches!(op, Op::Sync { .. } | Op::Write { .. }),
                    "{op:?} succeeded after a failure"
                ),
                Err(error) => {
                    assert_eq!(error, StoreError::DiskFailed, "{op:?}");
                    failed.get_or_insert(op);
                }
            }
        }
        if failed.is_some() {
            assert_eq!(store.disks()[0].state, DiskState::Failed);
            assert!(!store.disks()[0].detail.is_empty());
            let event = store.take_events().unwrap().try_recv().unwrap();
            assert!(matches!(event, StoreEvent::DiskFailed { .. }), "{event:?}");
            let promise = Promise::at(&done, failed.as_ref(), &ONE);
            for seed in 0..6 {
                promise.check(&disk.crash_image(seed), seed).await;
            }
            promise.check(&disk.crash_image_with(&mut LoseAll), 1).await;
            drop(store);
            go_on_after_a_start(&disk, later, done, failed.as_ref()).await;
        }
        failed.is_some()
    })
}

/// The process is started again, while the machine still has in memory what a failed sync left there; then the power is cut.
async fn go_on_after_a_start(disk: &SimDisk, later: &[Op], mut done: Vec<Op>, failed: Option<&Op>) {
    let (store, _) = open_tiny(disk, 2);
    for op in later {
        op.run(&store).await.unwrap();
        done.push(op.clone());
    }
    let promise = Promise::at(&done, failed, &ONE);
    for seed in 0..6 {
        promise.check(&disk.crash_image(seed), seed).await;
    }
    promise.check(&disk.crash_image_with(&mut LoseAll), 1).await;
}

#[test]
fn whichever_sync_fails_nothing_is_acknowledged_falsely_and_the_disk_is_never_used_again() {
    let first = write(3, 0, 4_096, 9, true);
    // Until every segment of the journal was used again.
    let rounds = (0..6).flat_map(|round| [write(3, 4_096, 4_096, round, true), Op::WriteBack]);
    for later in [vec![first], rounds.collect()] {
        let fails = |nth: &u64| fail_and_crash(&later, |disk| disk.fail_sync("/d", *nth));
        let failures = (1..40).take_while(fails).count();
        assert!((8..39).contains(&failures), "{failures} syncs were failed");
    }
}

#[test]
fn whichever_write_fails_nothing_is_acknowledged_falsely() {
    let failures = (1..80).take_while(|&nth| fail_and_crash(&[], |disk| disk.fail_write("/d", nth))).count();
    assert!((8..79).contains(&failures), "{failures} writes were failed");
}

#[test]
fn a_failed_disk_serves_what_was_durable_and_nothing_else() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        write(1, 0, 40_000, 1, true).run(&store).await.unwrap();
        write(1, 40_960, 40_000, 2, false).run(&store).await.unwrap();
        disk.fail_sync("/d/chunks", 1);
        let synced = store.sync(ChunkId(1), PART, ChunkVersion(1)).await;
        assert_eq!(synced, Err(StoreError::DiskFailed));
        let durable = store.read(ChunkId(1), PART, ChunkVersion(1), 0, 4096).await.unwrap();
        assert_eq!(durable.payload, vec![1; 4096]);
        let lost = store.read(ChunkId(1), PART, ChunkVersion(1), 40_960, 4096).await;
        assert_eq!(lost, Err(StoreError::DiskFailed));
        // Nobody counts on it: should the disk work again after a restart, the replica is a stray.
        assert_eq!(store.held(), []);
        assert_eq!(store.delete(ChunkId(1), PART, ChunkVersion(1)).await, Ok(()));
        assert_eq!(store.fence_term(Term(1)).await, Err(StoreError::DiskFailed));
    });
}

/// A disk with replicas in every place: in files, in the journal, in the catalogue.
fn filled() -> SimDisk {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        for op in workload() {
            op.run(&store).await.unwrap();
        }
        write(1, 8192, 4_096, 6, true).run(&store).await.unwrap();
        write(3, 0, 100, 7, true).run(&store).await.unwrap();
        for volume in store.shared.volumes() {
            volume.journal.closing_mark(true).unwrap();
        }
    });
    disk.crash_image_with(&mut KeepAll)
}

async fn contents(store: &ChunkStore) -> Vec<Option<Vec<u8>>> {
    let mut found = Vec::new();
    for chunk in 1..=3 {
        for block in 0..12 {
            let read = store.read(ChunkId(chunk), PART, ChunkVersion(1), block * BLOCK_BYTES, 4096).await;
            found.push(match read {
                Ok(blocks) => Some(blocks.payload.to_vec()),
                Err(StoreError::Corrupt { .. }) => None,
                Err(error) => panic!("chunk {chunk} block {block}: {error}"),
            });
        }
    }
    found
}

/// Opens a damaged disk. Every block must read as before or be reported; or the disk as a whole must refuse.
fn check_damaged(disk: &SimDisk, good: &[Option<Vec<u8>>], what: &str) -> &'static str {
    runtime().block_on(async {
        let (store, report) = open_tiny(disk, 2);
        if report.disks[0].state == DiskState::Failed {
            return "refused";
        }
        let found = contents(&store).await;
        let mut corrupt = 0;
        for (at, (found, good)) in found.iter().zip(good).enumerate() {
            match found {
                None => corrupt += 1,
                found => assert!(found == good, "{what}: block {at} reads wrong bytes"),
            }
        }
        if corrupt == 0 {
            return "harmless";
        }
        assert!(store.list(ChunkId(0), ChunkId(9), 9).iter().any(|stat| stat.corrupt), "{what}");
        let event = store.take_events().unwrap().try_recv().unwrap();
        assert!(matches!(event, StoreEvent::Corrupt { .. }), "{event:?}");
        "reported"
    })
}

#[test]
fn no_flipped_bit_ever_reads_as_data() {
    let disk = filled();
    let good = runtime().block_on(async { contents(&open_tiny(&disk.fork(), 2).0).await });
    assert!(good.iter().all(Option::is_some));
    let table = cairn_core::chunk::replica_file::TABLE_AT;
    let header = cairn_core::chunk::replica_file::HEADER_AT;
    let mut outcomes = std::collections::BTreeMap::new();
    let one = Path::new("/d/chunks/01/0000000000000001.0");
    let mut places: Vec<(PathBuf, u64)> = Vec::new();
    places.extend((0..40_000).step_by(1013).map(|at| (one.to_owned(), at)));
    places.extend((table..table + 80).map(|at| (one.to_owned(), at)));
    places.extend((header..header + 4096).step_by(511).map(|at| (one.to_owned(), at)));
    places.extend((0..300).map(|at| (PathBuf::from("/d/catalogue"), at)));
    for slot in 0..3 {
        let journal = PathBuf::from(format!("/d/journal/{slot}"));
        places.extend((0..1200).chain((1200..60_000).step_by(251)).map(|at| (journal.clone(), at)));
    }
    places.extend((0..80).map(|at| (PathBuf::from("/d/superblock"), at)));
    for (path, at) in places {
        let damaged = disk.fork();
        if damaged.flip_bit(&path, at, (at % 8) as u8).is_err() {
            continue;
        }
        let what = format!("{} at {at}", path.display());
        let outcome = check_damaged(&damaged, &good, &what);
        let file = path.iter().nth(2).unwrap().to_str().unwrap().to_owned();
        *outcomes.entry((file, outcome)).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes[&("chunks".into(), "reported")] > 60);
    assert!(outcomes[&("journal".into(), "refused")] > 50);
}

#[test]
fn unreadable_sectors_are_reported() {
    let disk = filled();
    let good = runtime().block_on(async { contents(&open_tiny(&disk.fork(), 2).0).await });
    let file = Path::new("/d/chunks/01/0000000000000001.0");
    disk.fail_reads(file, 12_288..12_800).unwrap();
    assert_eq!(check_damaged(&disk, &good, "unreadable sector"), "reported");
    disk.remove_file_for_test(file);
    assert_eq!(check_damaged(&disk, &good, "missing file"), "reported");
}

trait RemoveFile {
    fn remove_file_for_test(&self, path: &Path);
}

impl RemoveFile for SimDisk {
    fn remove_file_for_test(&self, path: &Path) {
        cairn_env::disk::Disk::remove_file(self, path).unwrap();
        cairn_env::disk::Disk::sync_dir(self, path.parent().unwrap()).unwrap();
    }
}
