//! Crash enumeration: short workloads, the power cut before every disk operation, many states of the disk each time.

use super::crash_model_test::{
    BLOCKS, ONE, Op, PART, Promise, TWO, open_on, open_tiny, runtime, write_all_back, write_request,
};
use super::types::DiskState;
use cairn_core::ids::ChunkId;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::{KeepAll, LoseAll};
use cairn_env::random::{Random, SeededRandom};

fn small(chunk: u64, offset: u64, length: usize, fill: u8, sync: bool) -> Op {
    Op::Write { chunk, version: 1, offset, length, fill, sync }
}

/// Above the small limit: in place where never synced.
fn large(chunk: u64, offset: u64, fill: u8, sync: bool) -> Op {
    Op::Write { chunk, version: 1, offset, length: 40_000, fill, sync }
}

fn sync(chunk: u64) -> Op {
    Op::Sync { chunk, version: 1 }
}

fn workloads() -> Vec<Vec<Op>> {
    [of_one_replica(), of_commands(), of_full_segments(), of_moves()].concat()
}

fn of_moves() -> Vec<Vec<Op>> {
    let (to, back) = (Op::Move { chunk: 1 }, Op::Move { chunk: 1 });
    let raise = Op::Raise { chunk: 1, from: 1, to: 2 };
    let delete = Op::Delete { chunk: 1, version: 1 };
    vec![
        vec![large(1, 0, 1, true), to.clone(), small(1, 100, 5000, 2, true), Op::WriteBack, back.clone()],
        vec![small(1, 0, 9000, 1, true), Op::WriteBack, to.clone(), raise, large(2, 0, 3, true)],
        vec![
            large(1, 0, 1, false),
            small(1, 50_000, 10, 2, false),
            to.clone(),
            delete,
            small(2, 0, 9, 3, true),
        ],
        vec![
            small(1, 0, 4096, 1, true),
            to,
            Op::WriteBack,
            back,
            large(1, 8192, 2, false),
            Op::WriteBack,
            sync(1),
        ],
    ]
}

/// Where the disks are of the server that a workload runs on.
fn disks_of(workload: &[Op]) -> &'static [&'static str] {
    if workload.iter().any(|op| matches!(op, Op::Move { .. })) { &TWO } else { &ONE }
}

fn of_one_replica() -> Vec<Vec<Op>> {
    let write_back = || Op::WriteBack;
    vec![
        vec![
            small(1, 0, 4096, 1, true),
            small(1, 0, 4096, 2, true),
            write_back(),
            small(1, 100, 5000, 3, true),
        ],
        vec![large(1, 0, 1, false), sync(1), large(1, 0, 2, false), sync(1), write_back()],
        vec![
            large(1, 0, 1, false),
            large(1, 10_000, 2, false),
            sync(1),
            small(1, 6000, 10, 3, false),
            sync(1),
        ],
        vec![
            small(1, 50, 100, 1, false),
            small(1, 5000, 8192, 2, false),
            sync(1),
            small(1, 0, 300, 3, false),
        ],
        vec![
            large(1, 0, 1, false),
            small(1, 8000, 9000, 2, true),
            large(1, 3000, 3, false),
            sync(1),
            write_back(),
        ],
    ]
}

fn of_commands() -> Vec<Vec<Op>> {
    let delete = |version| Op::Delete { chunk: 1, version };
    let raise = |to| Op::Raise { chunk: 1, from: 1, to };
    let (one, two) = (small(1, 0, 4096, 1, true), small(2, 0, 4096, 2, true));
    let at_two = Op::Sync { chunk: 1, version: 2 };
    vec![
        vec![one, two, Op::WriteBack, delete(1), small(1, 4096, 10, 3, true), Op::WriteBack],
        vec![large(1, 0, 1, true), raise(3), Op::Term(4), delete(3), large(1, 100, 2, true)],
        vec![large(1, 0, 1, false), raise(2), at_two, Op::Term(2), Op::WriteBack],
    ]
}

fn of_full_segments() -> Vec<Vec<Op>> {
    let most = |fill| small(1, 0, 30_000, fill, true);
    let (first, second) = (small(1, 0, 100, 1, false), small(1, 0, 100, 2, false));
    let three = [small(1, 0, 10, 1, true), small(2, 0, 10, 1, false), small(3, 0, 10, 1, true)];
    vec![
        vec![most(1), most(2), most(3), most(4), most(5), Op::WriteBack],
        (1..=3).flat_map(|fill| [large(1, 0, fill, true), Op::WriteBack]).collect(),
        vec![first, Op::WriteBack, second, large(1, 4096, 3, false), Op::WriteBack, sync(1)],
        three.into_iter().chain([large(2, 0, 2, false), Op::WriteBack, sync(2)]).collect(),
    ]
}

/// Runs a workload and returns every crash point with what is promised there.
fn run(workload: &[Op]) -> Vec<(SimDisk, Promise)> {
    let disk = SimDisk::new();
    runtime().block_on(async {
        let (store, _) = open_on(&disk, 1, disks_of(workload));
        let before = disk.operations();
        disk.keep_crash_points();
        let mut ends = Vec::new();
        for op in workload {
            op.run(&store).await.unwrap_or_else(|error| panic!("{op:?}: {error}"));
            ends.push(disk.operations());
        }
        assert!(disk.operations() > before);
        let points = disk.take_crash_points();
        let promise = |number: u64| {
            // Before operation `number`: operations that had ended, and the one that was to do it.
            let done = ends.iter().take_while(|end| **end < number).count();
            Promise::at(&workload[..done], workload.get(done), disks_of(workload))
        };
        points.into_iter().map(|point| (point.disk, promise(point.before.number))).collect()
    })
}

fn check_states(disk: &SimDisk, promise: &Promise, seeds: u64) -> u64 {
    let images = [disk.crash_image_with(&mut LoseAll), disk.crash_image_with(&mut KeepAll)];
    let drawn = (0..seeds).map(|seed| disk.crash_image(seed));
    let mut states = 0;
    for (seed, image) in images.into_iter().chain(drawn).enumerate() {
        runtime().block_on(promise.check(&image, seed as u64));
        states += 1;
    }
    states
}

#[test]
fn a_crash_at_any_instant_keeps_every_promise() {
    let mut states = 0;
    for workload in workloads() {
        for (disk, promise) in run(&workload) {
            states += check_states(&disk, &promise, 48);
        }
    }
    println!("{states} crash states");
    assert!(states >= 10_000, "{states} states");
}

#[test]
fn a_crash_within_the_recovery_changes_nothing() {
    for workload in workloads() {
        for (disk, promise) in run(&workload).iter().step_by(5) {
            let image = disk.crash_image(7);
            let recovering = image.fork();
            recovering.keep_crash_points();
            drop(runtime().block_on(async { open_on(&recovering, 3, disks_of(&workload)) }));
            let first = runtime().block_on(promise.check(&image.fork(), 5));
            for point in recovering.take_crash_points() {
                for seed in 0..3 {
                    let again = point.disk.crash_image(seed);
                    let found = runtime().block_on(promise.check(&again, 5));
                    assert_eq!(found, first, "the same disk was recovered differently");
                }
            }
        }
    }
}

/// Every block of every replica whose sync is acknowledged.
async fn synced_contents(disk: &SimDisk, disks: &[&str]) -> Vec<(u64, Vec<u8>)> {
    let (store, _) = open_on(disk, 4, disks);
    let mut found = Vec::new();
    for stat in store.list(ChunkId(0), ChunkId(u64::MAX), usize::MAX) {
        if store.sync(stat.chunk, PART, stat.version).await.is_ok() {
            let length = BLOCKS * BLOCK_BYTES as u32;
            let read = store.read(stat.chunk, PART, stat.version, 0, length).await.unwrap();
            found.push((stat.chunk.get(), read.payload.to_vec()));
        }
    }
    found
}

#[test]
fn what_a_killed_process_left_in_the_page_cache_is_not_taken_for_durable() {
    for workload in workloads() {
        for (disk, _) in run(&workload) {
            // Killed, and started again: what was written and not synced is still there; then the power fails.
            let killed = disk.fork();
            let disks = disks_of(&workload);
            let promised = runtime().block_on(synced_contents(&killed, disks));
            let after = killed.crash_image_with(&mut LoseAll);
            let kept = runtime().block_on(synced_contents(&after, disks));
            assert!(promised == kept, "a sync was acknowledged for what only the page cache held");
        }
    }
}

/// Six operations drawn from a seed; each makes sense after those before it.
fn drawn_workload(seed: u64) -> Vec<Op> {
    let random = SeededRandom::new(seed);
    let mut there = [false; 3];
    (0..6)
        .map(|step| {
            let chunk = 1 + random.below(2);
            let fill = (step + 1) as u8;
            let held = there[chunk as usize];
            match random.below(10) {
                0 if held => {
                    there[chunk as usize] = false;
                    Op::Delete { chunk, version: 1 }
                }
                1 | 2 if held => sync(chunk),
                3 | 4 => Op::WriteBack,
                draw => {
                    there[chunk as usize] = true;
                    let synced = random.below(2) == 0;
                    if draw % 2 == 0 {
                        small(chunk, random.below(20_000), 1 + random.below(30_000) as usize, fill, synced)
                    } else {
                        large(chunk, random.below(16_000), fill, synced)
                    }
                }
            }
        })
        .collect()
}

#[test]
fn drawn_workloads_keep_every_promise() {
    for seed in 0..40 {
        for (disk, promise) in run(&drawn_workload(seed)) {
            check_states(&disk, &promise, 4);
        }
    }
}

#[test]
fn segments_written_back_together_are_used_again_in_order() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (store, _) = open_tiny(&disk, 1);
        let block = vec![7; 8 * BLOCK_BYTES as usize];
        for round in 0..12_u64 {
            // Five of these fill one segment and begin a second and a third.
            for write in 0..1 + round % 5 {
                let offset = write * block.len() as u64;
                store.write(write_request(round, 1, offset, &block, true)).await.unwrap();
                let reopened = open_tiny(&disk.crash_image_with(&mut LoseAll), 2).1;
                assert_eq!(reopened.disks[0].state, DiskState::Healthy, "{}", reopened.disks[0].detail);
            }
            write_all_back(&store).await.unwrap();
        }
    });
}
