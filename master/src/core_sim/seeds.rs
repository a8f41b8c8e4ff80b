//! Seeds and their runs.
//!
//! `CAIRN_CORE_SEEDS` runs so many from `CAIRN_CORE_FROM`, `CAIRN_CORE_SEED` one with its log.

use super::world::World;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 200;

/// What a run came to.
struct Run {
    hash: u64,
    events: u64,
    hits: BTreeMap<&'static str, u64>,
    met: BTreeMap<&'static str, u64>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn run(seed: u64, shown: bool) -> Run {
    let mut world = World::new(seed, shown);
    world.run();
    let mut met = world.met;
    met.insert("operations acknowledged", world.operations);
    met.insert("questions answered", world.reads);
    met.insert("read leases looked at", world.invariants.leases_seen);
    met.insert("entries", world.canon.last());
    Run { met, hash: world.trace.hash(), events: world.trace.events(), hits: world.hits }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "worlds share nothing")]
fn whatever_fails_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("CAIRN_CORE_SEED") {
        let run = run(seed, true);
        println!(
            "seed {seed}: {} events, trace {:016x}, {:#?} {:#?}",
            run.events, run.hash, run.hits, run.met
        );
        return;
    }
    let from = number("CAIRN_CORE_FROM").unwrap_or_default();
    let until = from + number("CAIRN_CORE_SEEDS").unwrap_or(SEEDS);
    let (next, failed) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    let hits = Mutex::new(BTreeMap::<&str, u64>::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= until {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
                        Ok(run) => {
                            let mut all = hits.lock().unwrap();
                            // Faults and what else was met.
                            run.hits
                                .into_iter()
                                .chain(run.met)
                                .for_each(|(kind, count)| *all.entry(kind).or_default() += count);
                        }
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    println!("{:#?}", hits.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} of {from}..{until} fail; one again with its log: CAIRN_CORE_SEED={} cargo test --release -p cairn-master --lib core_sim -- --nocapture",
        failed[0]
    );
}
