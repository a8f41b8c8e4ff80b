//! Seeds and their runs.
//!
//! `CAIRN_CORE_SEEDS` runs so many from `CAIRN_CORE_FROM`, `CAIRN_CORE_SEED` one with its log. `CAIRN_CORE_TRACES` prints what each
//! came to; `CAIRN_SEEDED_BUG` builds a fault in.

use super::faults::KINDS;
use super::world::World;
use cairn_core::seeded::VARIABLE;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2000;
/// With so many seeds every kind of fault is met.
const SEEDS_FOR_ALL_KINDS: u64 = 100;

/// What a run came to.
struct Run {
    hash: u64,
    events: u64,
    met: BTreeMap<&'static str, u64>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn run(seed: u64, shown: bool) -> Run {
    let mut world = World::new(seed, shown);
    world.run();
    let mut met = world.hits;
    met.extend(world.met);
    met.insert("operations acknowledged", world.operations);
    met.insert("questions answered", world.reads);
    met.insert("read leases looked at", world.invariants.leases_seen);
    met.insert("entries", world.canon.last());
    met.insert("faults", world.faults);
    Run { hash: world.trace.hash(), events: world.trace.events(), met }
}

/// Runs seeds side by side. Returns those that failed, and what all others met.
#[expect(
    clippy::disallowed_methods,
    reason = "threads of the test, each with worlds of its own: no world knows of another or of its thread"
)]
fn run_all(from: u64, until: u64) -> (Vec<u64>, BTreeMap<&'static str, u64>) {
    let (next, failed) = (AtomicU64::new(from), Mutex::new(Vec::new()));
    let met = Mutex::new(BTreeMap::new());
    // One seed is enough to find a fault.
    let is_planted = std::env::var_os(VARIABLE).is_some();
    let traces = std::env::var_os("CAIRN_CORE_TRACES").is_some();
    let one = |seed| match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
        Ok(run) => {
            if traces {
                println!("trace {seed} {:016x} {}", run.hash, run.events);
            }
            let mut met = met.lock().unwrap();
            run.met.into_iter().for_each(|(kind, count)| *met.entry(kind).or_default() += count);
        }
        Err(_) => failed.lock().unwrap().push(seed),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= until || (is_planted && !failed.lock().unwrap().is_empty()) {
                        return;
                    }
                    one(seed);
                }
            });
        }
    });
    (failed.into_inner().unwrap(), met.into_inner().unwrap())
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("CAIRN_CORE_SEED") {
        let run = run(seed, true);
        println!("seed {seed}: {} events, trace {:016x}, {:#?}", run.events, run.hash, run.met);
        return;
    }
    let from = number("CAIRN_CORE_FROM").unwrap_or_default();
    let count = number("CAIRN_CORE_SEEDS").unwrap_or(SEEDS);
    let (failed, met) = run_all(from, from + count);
    println!("{met:#?}");
    assert!(
        failed.is_empty(),
        "seeds {failed:?} of {from}..{} fail; one again, with its log: CAIRN_CORE_SEED={} \
         cargo test --release -p cairn-master --lib core_sim::seeds -- --nocapture",
        from + count,
        failed[0]
    );
    let never: Vec<_> = KINDS.iter().filter(|kind| !met.contains_key(*kind)).collect();
    assert!(never.is_empty() || count < SEEDS_FOR_ALL_KINDS, "never met: {never:?}");
}
