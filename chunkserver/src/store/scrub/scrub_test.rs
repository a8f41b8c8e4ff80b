//! Every kind of damage at rest is found, what is being changed is none, and progress outlives the process.

use super::verify::{self, Found};
use super::*;
use crate::store::crash_model_test::{
    Op, PART, open_tiny, runtime, tiny, world, write_all_back, write_request,
};
use crate::store::{ChunkStore, DiskConfig, DiskStatusReport, ScrubState, StoreEvent};
use cairn_core::chunk::replica_file::{HEADER_AT, TABLE_AT, TABLE_BYTES, file_name};
use cairn_core::ids::{ChunkId, ChunkVersion, NodeId};
use cairn_env::Env;
use cairn_env::disk::{Disk, DiskFile, OpenMode};
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::{KeepAll, LoseAll};
use std::path::{Path, PathBuf};

/// Goes over all replicas; answers what is wrong with which chunk.
pub(in crate::store) async fn scrub_all(store: &ChunkStore) -> Vec<(u64, Found)> {
    let replicas: Vec<_> = store.shared.map().values().cloned().collect();
    let mut wrong = Vec::new();
    for replica in replicas {
        let mut next = Some(0);
        while let Some(block) = next.take() {
            match verify::step(&replica, block).await {
                Found::Sound { next: more, .. } => next = more,
                Found::Gone => {}
                found => wrong.push((replica.key.chunk.get(), found)),
            }
        }
    }
    wrong
}

/// Nothing is wrong, also with what is written back from the journal now.
pub(in crate::store) async fn assert_sound(store: &ChunkStore) {
    assert_eq!(scrub_all(store).await, []);
    // The active segment only goes when another is free.
    write_all_back(store).await.unwrap();
    write_all_back(store).await.unwrap();
    assert_eq!(scrub_all(store).await, []);
    let unknown = |replica: &&Arc<Replica>| {
        let state = replica.state();
        state.digest.is_none() && !state.stored.is_empty()
    };
    assert_eq!(store.shared.map().values().filter(unknown).count(), 0);
}

const DAMAGED: Found = Found::Damaged { new: true };
const BLOCK: u64 = BLOCK_BYTES;

fn write(chunk: u64, offset: u64, length: usize, fill: u8) -> Op {
    Op::Write { chunk, version: 1, offset, length, fill, sync: true }
}

fn path(chunk: u64) -> PathBuf {
    let (folder, name) = file_name(ChunkId(chunk), PART);
    Path::new("/d/chunks").join(folder).join(name)
}

/// Two chunks, all of it at rest.
fn at_rest() -> SimDisk {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        write(1, 0, 40_000, 1).run(&store).await.unwrap();
        write(1, 5000, 100, 2).run(&store).await.unwrap();
        write(2, 0, 3 * BLOCK as usize, 3).run(&store).await.unwrap();
        store.close().await;
    });
    disk.crash_image_with(&mut KeepAll)
}

fn file(disk: &SimDisk, chunk: u64) -> Arc<dyn DiskFile> {
    disk.open(&path(chunk), OpenMode::Write).unwrap()
}

fn contents(disk: &SimDisk, chunk: u64) -> Vec<u8> {
    let file = file(disk, chunk);
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(disk: &SimDisk, chunk: u64, bytes: &[u8]) {
    let file = file(disk, chunk);
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

/// What is found of chunk 1 after this was done to the disk of a stopped server, and of one that runs with all files open.
fn found_after(damage: impl Fn(&SimDisk)) -> Vec<(u64, Found)> {
    let (stopped, running) = (at_rest(), at_rest());
    damage(&stopped);
    let found = runtime().block_on(async { scrub_all(&open_tiny(&stopped, 1).0).await });
    let while_running = runtime().block_on(async {
        let (store, _) = open_tiny(&running, 1);
        for chunk in [1, 2] {
            store.read(ChunkId(chunk), PART, ChunkVersion(1), 0, 4096).await.unwrap();
        }
        damage(&running);
        let found = scrub_all(&store).await;
        for (chunk, _) in &found {
            assert!(store.stat(ChunkId(*chunk), PART).unwrap().corrupt);
        }
        assert_eq!(store.corrupt_replicas().len(), found.len());
        assert!(scrub_all(&store).await.iter().all(|(_, found)| *found == Found::Damaged { new: false }));
        found
    });
    assert_eq!(found, while_running);
    found
}

#[test]
fn every_kind_of_damage_at_rest_is_found() {
    let one = vec![(1, DAMAGED)];
    assert_eq!(found_after(|_| {}), []);
    for offset in [0, 5050, 39_999, HEADER_AT, HEADER_AT + 20, HEADER_AT + 4000, TABLE_AT, TABLE_AT + 12] {
        assert_eq!(found_after(|disk| disk.rot_bit(&path(1), offset, 3).unwrap()), one, "{offset}");
        let unreadable = |disk: &SimDisk| disk.fail_reads(&path(1), offset..offset + 1).unwrap();
        assert_eq!(found_after(unreadable), one, "unreadable {offset}");
    }
    // Beyond the last block nothing is stored.
    assert_eq!(found_after(|disk| disk.rot_bit(&path(1), 50_000, 3).unwrap()), []);
    let whole = TABLE_AT + 80;
    for length in [0, 4096, HEADER_AT, TABLE_AT, TABLE_AT + 79, TABLE_AT + TABLE_BYTES + 1] {
        let cut = |disk: &SimDisk| {
            let file = file(disk, 1);
            file.set_len(length).unwrap();
            file.sync_all().unwrap();
        };
        assert_eq!(found_after(cut), one, "{length} of {whole}");
    }
    assert_eq!(found_after(|disk| disk.remove_file(&path(1)).unwrap()), one);
    let swap = |disk: &SimDisk| {
        let (first, second) = (contents(disk, 1), contents(disk, 2));
        put(disk, 1, &second);
        put(disk, 2, &first);
    };
    assert_eq!(found_after(swap), [(1, DAMAGED), (2, DAMAGED)]);
}

#[test]
fn bit_rot_under_a_clean_page_cache_is_no_readers_to_see_and_found() {
    let disk = at_rest();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        let mut events = store.take_events().unwrap();
        disk.rot_bit(&path(2), BLOCK + 7, 0).unwrap();
        store.read(ChunkId(2), PART, ChunkVersion(1), BLOCK, 4096).await.unwrap();
        assert_eq!(scrub_all(&store).await, [(2, DAMAGED)]);
        let StoreEvent::Corrupt { replica, offset, .. } = events.try_recv().unwrap() else { panic!() };
        assert_eq!((replica.chunk, offset), (ChunkId(2), BLOCK));
        // On record: also the next life knows.
        let (again, _) = open_tiny(&disk.crash_image_with(&mut LoseAll), 2);
        assert_eq!(again.corrupt_replicas().len(), 1);
    });
}

/// Its blocks verify each, and its header is in order.
#[test]
fn an_older_state_of_the_file_is_found_not_copied_and_not_read_once_known() {
    let disk = at_rest();
    let old = contents(&disk, 1);
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        write(1, BLOCK, 10, 9).run(&store).await.unwrap();
        store.close().await;
    });
    let new = contents(&disk, 1);
    assert_eq!(old.len(), new.len());
    put(&disk, 1, &old);
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        let (id, version) = (ChunkId(1), ChunkVersion(1));
        assert!(matches!(store.source_sums(id, PART, version).await, Err(StoreError::Corrupt { .. })));
        let read = store.read(id, PART, version, BLOCK, 4096).await;
        assert!(matches!(read, Err(StoreError::Corrupt { .. })));
        let disk = disk.crash_image_with(&mut LoseAll);
        assert_eq!(scrub_all(&open_tiny(&disk, 1).0).await, [(1, DAMAGED)]);
        let disk = disk.crash_image_with(&mut LoseAll);
        put(&disk, 1, &new);
        let again = scrub_all(&open_tiny(&disk, 1).0).await;
        assert_eq!(again, [(1, Found::Damaged { new: false })], "it stays quarantined");
    });
}

/// A repair in its place begins with a file of its own, whatever stood there.
#[test]
fn a_replica_made_anew_has_nothing_of_the_old_file() {
    let disk = at_rest();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        store.read(ChunkId(1), PART, ChunkVersion(1), 0, 4096).await.unwrap();
        // An open file without a name.
        disk.remove_file(&path(1)).unwrap();
        file(&disk, 2).set_len(TABLE_AT + TABLE_BYTES + 9).unwrap();
        assert_eq!(scrub_all(&store).await, [(1, DAMAGED), (2, DAMAGED)]);
        for chunk in [1, 2] {
            let copied = WriteRequestOf(chunk).repaired();
            store.write(copied).await.unwrap();
            store.sync(ChunkId(chunk), PART, ChunkVersion(2)).await.unwrap();
        }
        assert_sound(&store).await;
        store.close().await;
        let (store, _) = open_tiny(&disk.crash_image_with(&mut KeepAll), 2);
        assert_eq!(scrub_all(&store).await, []);
        for chunk in [1, 2] {
            let read = store.read(ChunkId(chunk), PART, ChunkVersion(2), 0, 50_000).await.unwrap();
            assert!(read.payload[..50_000] == [8; 50_000]);
        }
    });
}

struct WriteRequestOf(u64);

impl WriteRequestOf {
    fn repaired(&self) -> crate::store::WriteRequest {
        let request = write_request(self.0, 2, 0, &[8; 50_000], false);
        crate::store::WriteRequest { repair: true, ..request }
    }
}

fn open(env: &Env) -> ChunkStore {
    let config = DiskConfig { path: Path::new("/d").to_owned(), capacity_bytes: None, reserve_bytes: 0 };
    ChunkStore::open_with(env, None, NodeId::default(), &[config], tiny()).unwrap().0
}

fn options(period: Duration) -> ScrubOptions {
    ScrubOptions {
        pace: Pace { period, limit: 1 << 30 },
        busy: Arc::new(|| false),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
    }
}

fn status(store: &ChunkStore) -> DiskStatusReport {
    store.disks().remove(0)
}

async fn until(store: &ChunkStore, what: impl Fn(&DiskStatusReport) -> bool) {
    for _ in 0..1000 {
        if what(&status(store)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", status(store));
}

#[test]
fn rounds_commands_and_counts_outlive_the_process() {
    let disk = at_rest();
    let env = world(&disk, 3);
    runtime().block_on(async {
        let store = open(&env);
        assert_eq!(status(&store).scrub.state, ScrubState::Off);
        let options = options(Duration::from_secs(14 * 24 * 3600));
        store.start_scrub(&options);
        assert_eq!(status(&store).scrub.state, ScrubState::Scheduled);
        disk.rot_bit(&path(1), 5, 0).unwrap();
        store.scrub(ScrubAct::Start { limit: Some(0) }).await.unwrap();
        until(&store, |disk| disk.scrub.rounds == 1).await;
        let first = status(&store).scrub;
        assert_eq!((first.state, first.damaged), (ScrubState::Scheduled, 1));
        assert_eq!(first.verified_bytes, 3 * BLOCK, "the other one");
        store.scrub(ScrubAct::Pause).await.unwrap();
        options.stopping.cancel();
        drop(store);
    });
    let disk = disk.crash_image_with(&mut LoseAll);
    let env = world(&disk, 4);
    runtime().block_on(async {
        let store = open(&env);
        store.start_scrub(&options(Duration::from_secs(14 * 24 * 3600)));
        let scrub = status(&store).scrub;
        assert_eq!((scrub.state, scrub.rounds, scrub.damaged), (ScrubState::Paused, 1, 1));
        store.scrub(ScrubAct::Resume).await.unwrap();
        assert_eq!(status(&store).scrub.state, ScrubState::Scheduled);
    });
}

/// A stop in the middle of a round: it goes on where it stood.
#[test]
fn a_round_goes_on_where_it_stood() {
    let disk = SimDisk::new();
    let env = world(&disk, 5);
    let mut options = options(Duration::ZERO);
    options.pace.limit = 1 << 20;
    let passed = runtime().block_on(async {
        let store = open(&env);
        for chunk in 1..=40 {
            write(chunk, 0, 10_000, chunk as u8).run(&store).await.unwrap();
            write_all_back(&store).await.unwrap();
        }
        store.start_scrub(&options);
        store.scrub(ScrubAct::Start { limit: None }).await.unwrap();
        until(&store, |disk| disk.scrub.passed_bytes * 3 > disk.used_bytes).await;
        options.stopping.cancel();
        store.close().await;
        let scrub = status(&store).scrub;
        assert_eq!((scrub.state, scrub.rounds), (ScrubState::Demanded, 0));
        scrub.passed_bytes
    });
    let disk = disk.crash_image_with(&mut LoseAll);
    let env = world(&disk, 6);
    runtime().block_on(async {
        let store = open(&env);
        options.stopping = CancellationToken::new();
        store.start_scrub(&options);
        assert_eq!(status(&store).scrub.passed_bytes, passed);
        until(&store, |disk| disk.scrub.rounds == 1).await;
        assert_eq!(status(&store).scrub.verified_bytes, 40 * 3 * BLOCK, "none of it twice");
    });
}

#[test]
fn a_disk_of_which_nothing_can_be_read_has_failed_and_is_blamed_alone() {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        for chunk in 1..=5 {
            write(chunk, 0, 40_000, 1).run(&store).await.unwrap();
        }
        write_all_back(&store).await.unwrap();
        write_all_back(&store).await.unwrap();
        for chunk in 1..=5 {
            disk.fail_reads(&path(chunk), 0..1 << 20).unwrap();
        }
        let wrong = scrub_all(&store).await;
        assert_eq!(store.disks()[0].state, crate::store::DiskState::Failed);
        assert!(wrong.len() < 5, "{wrong:?}");
    });
}

#[test]
fn a_damaged_replica_is_mended_with_what_it_had_and_nothing_else() {
    let disk = at_rest();
    let (id, version) = (ChunkId(1), ChunkVersion(1));
    let whole = contents(&disk, 1);
    let block =
        |at: u64| bytes::Bytes::copy_from_slice(&whole[(at * BLOCK) as usize..((at + 1) * BLOCK) as usize]);
    for offset in [3, 5 * BLOCK + 9] {
        disk.flip_bit(&path(1), offset, 3).unwrap();
    }
    disk.fail_reads(&path(1), 8 * BLOCK..8 * BLOCK + 1).unwrap();
    disk.flip_bit(&path(1), HEADER_AT, 3).unwrap();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        assert_eq!(scrub_all(&store).await, [(1, DAMAGED)]);
        let bad = store.bad_blocks(id, PART, version).await.unwrap();
        assert_eq!(bad.iter().map(|bad| bad.block).collect::<Vec<_>>(), [0, 5, 8]);
        store.mend_block(id, PART, version, (0, block(0))).await.unwrap();
        // Another state of it.
        let other = bytes::Bytes::from(vec![9; BLOCK as usize]);
        store.mend_block(id, PART, version, (5, other)).await.unwrap();
        let sound = store.declare_sound(id, PART, version).await;
        assert_eq!(sound, Err(StoreError::Corrupt { offset: 5 * BLOCK }));
        assert!(store.stat(id, PART).unwrap().corrupt);
        // What is overwritten meanwhile stays.
        write(1, 5 * BLOCK, BLOCK as usize, 77).run(&store).await.unwrap();
        store.mend_block(id, PART, version, (5, block(5))).await.unwrap();
        store.mend_block(id, PART, version, (8, block(8))).await.unwrap();
        store.declare_sound(id, PART, version).await.unwrap();
        assert_sound(&store).await;
    });
    let disk = disk.crash_image_with(&mut LoseAll);
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        assert_eq!(store.corrupt_replicas(), []);
        assert_sound(&store).await;
        let read = store.read(id, PART, version, 0, 40_000).await.unwrap();
        assert!(read.payload[..5 * BLOCK as usize] == whole[..5 * BLOCK as usize]);
        assert!(read.payload[5 * BLOCK as usize..6 * BLOCK as usize] == [77; BLOCK as usize]);
        assert!(read.payload[6 * BLOCK as usize..40_000] == whole[6 * BLOCK as usize..40_000]);
    });
}

#[test]
fn a_damaged_table_is_put_right_and_an_older_one_is_not() {
    let disk = at_rest();
    let (id, version) = (ChunkId(1), ChunkVersion(1));
    let whole = contents(&disk, 1);
    disk.flip_bit(&path(1), TABLE_AT + 3, 3).unwrap();
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        assert_eq!(scrub_all(&store).await, [(1, DAMAGED)]);
        assert!(store.read(id, PART, version, 0, 4096).await.is_err());
        assert_eq!(store.bad_blocks(id, PART, version).await, Ok(Vec::new()));
        store.declare_sound(id, PART, version).await.unwrap();
        assert_sound(&store).await;
    });
    let disk = disk.crash_image_with(&mut LoseAll);
    runtime().block_on(async {
        let (store, _) = open_tiny(&disk, 1);
        assert_eq!(store.corrupt_replicas(), []);
        let read = store.read(id, PART, version, 0, 40_000).await.unwrap();
        assert!(read.payload[..40_000] == whole[..40_000]);
    });
}
