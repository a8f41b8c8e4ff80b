//! The whole cluster in one seeded simulation: the real masters, chunk servers and clients on simulated disks, clocks and
//! sockets, under faults; then everything heals, and everything acknowledged must be there and everything asked must be done.
//!
//! Each seed runs in a process of its own: only then are two runs of it the same. `CAIRN_SIM_SEEDS=N` runs more of them,
//! `CAIRN_SIM_FROM=N` begins elsewhere, and `CAIRN_SIM_SEED=N` runs one here (`CAIRN_LOG=debug` with its log).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test binary")]

#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/hosts.rs"]
mod hosts;
#[path = "sim/invariants/mod.rs"]
mod invariants;
#[path = "sim/kernel.rs"]
mod kernel;
#[path = "sim/linear.rs"]
mod linear;
#[path = "sim/mover.rs"]
mod mover;
#[path = "sim/operator.rs"]
mod operator;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/remains.rs"]
mod remains;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/scrubs.rs"]
mod scrubs;
#[path = "sim/turmoil_net.rs"]
mod turmoil_net;
#[path = "sim/workload.rs"]
mod workload;

use cairn_core::seeded::{Bug, VARIABLE};
use faults::KINDS;
use run::run;
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const ONE: &str = "CAIRN_SIM_SEED";
/// Address space of the process of a seed: many times what one takes.
const MEMORY_KIB_MAX: u64 = 4 << 20;
/// So many seeds meet every kind of fault.
const SEEDS_THAT_MEET_ALL: usize = 20;
/// Faults that other tests find, and those tests: journals rot here too seldom, a deposed master has nothing to command, and
/// whoever lacks a write is in no map.
const FOUND_ELSEWHERE: [(Bug, &str); 8] = [
    (Bug::AnswerWhatWasLost, include_str!("../master/src/core_sim/processes.rs")),
    (Bug::FillForgetsJournal, include_str!("../master/src/core_sim/processes.rs")),
    (Bug::IgnoreVotePromise, include_str!("../master/src/core_sim/processes.rs")),
    (Bug::KeepStaleReplica, include_str!("../master/src/core_sim/processes.rs")),
    (Bug::ForgetVote, include_str!("../master/src/seeded_test.rs")),
    (Bug::TruncateAtBadChecksum, include_str!("../master/src/seeded_test.rs")),
    (Bug::IgnoreVersion, include_str!("../chunkserver/tests/server/seeded.rs")),
    (Bug::IgnoreTerm, include_str!("../chunkserver/tests/server/seeded.rs")),
];

/// Run by the tests below in processes of their own, and by whoever wants to see one seed.
#[test]
fn one_seed_when_asked() {
    let Ok(seed) = std::env::var(ONE) else { return };
    if let Ok(filter) = std::env::var("CAIRN_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    }
    let outcome = run(seed.parse().unwrap());
    println!(
        "sim acknowledged={} open={} trace={:016x} simulated_ms={}",
        outcome.acknowledged,
        outcome.open,
        outcome.trace,
        outcome.simulated.as_millis()
    );
    outcome.hits.iter().for_each(|(kind, hits)| println!("sim hit={hits} kind={kind}"));
    outcome.broken.iter().for_each(|what| println!("sim broken={what}"));
    assert!(outcome.broken.is_empty(), "seed {seed}: {:?}", outcome.broken);
}

/// What a process has said of its seed.
#[derive(Default)]
struct Said {
    seed: u64,
    acknowledged: u64,
    open: u64,
    simulated_ms: u64,
    trace: String,
    hits: BTreeMap<String, u64>,
    failed: Option<String>,
}

fn in_a_process(seed: u64, bug: Option<Bug>) -> Said {
    // What has gone wrong may want all the memory there is.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {MEMORY_KIB_MAX}; exec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "one_seed_when_asked", "--nocapture"]).env(ONE, seed.to_string());
    if let Some(bug) = bug {
        command.env(VARIABLE, bug.name());
    }
    said(seed, &command.output().unwrap())
}

fn said(seed: u64, output: &Output) -> Said {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut said = Said { seed, ..Said::default() };
    for line in text.lines().filter_map(|line| line.split_once("sim ").map(|(_, rest)| rest)) {
        if let Some(rest) = line.strip_prefix("hit=") {
            let (hits, kind) = rest.split_once(" kind=").unwrap();
            said.hits.insert(kind.to_owned(), hits.parse().unwrap());
        }
        for (key, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
            match key {
                "acknowledged" => said.acknowledged = value.parse().unwrap(),
                "open" => said.open = value.parse().unwrap(),
                "simulated_ms" => said.simulated_ms = value.parse().unwrap(),
                "trace" => said.trace = value.to_owned(),
                _ => {}
            }
        }
    }
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let broken: Vec<&str> = text.lines().filter(|line| line.contains("sim broken=")).collect();
        let last = error.lines().rfind(|line| line.contains("panicked")).unwrap_or("");
        said.failed = Some(format!("{last} {}", broken.join("; ")));
    }
    said
}

/// Does work for each number, on all cores.
fn on_all_cores(numbers: std::ops::Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// Runs seeds on all cores; `each` hears of every one.
fn run_seeds(seeds: std::ops::Range<u64>, each: impl Fn(Said) + Sync) {
    on_all_cores(seeds, |seed| each(in_a_process(seed, None)));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    if std::env::var(ONE).is_ok() {
        return;
    }
    let from = number("CAIRN_SIM_FROM").unwrap_or(0);
    let seeds = from..from + number("CAIRN_SIM_SEEDS").unwrap_or(100);
    let (all, begun) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
    run_seeds(seeds, |said| all.lock().unwrap().push(said));
    let all = std::mem::take(&mut *all.lock().unwrap());
    let mut hits: BTreeMap<&str, u64> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    for (kind, count) in all.iter().flat_map(|said| &said.hits) {
        *hits.get_mut(kind.as_str()).unwrap() += count;
    }
    let sum = |of: fn(&Said) -> u64| all.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, {} operations acknowledged, {} left open, {:.0?}",
        all.len(),
        sum(|said| said.acknowledged),
        sum(|said| said.open),
        begun.elapsed()
    );
    hits.iter().for_each(|(kind, count)| println!("{count:6} {kind}"));
    let failed: Vec<String> = all
        .iter()
        .filter_map(|said| {
            let why = said.failed.as_ref()?;
            Some(format!(
                "seed {} ({ONE}={} cargo test --release --test simulation one_seed -- --nocapture): {why}",
                said.seed, said.seed
            ))
        })
        .collect();
    assert!(failed.is_empty(), "{} seeds failed:\n{}", failed.len(), failed.join("\n"));
    let fewest = all.iter().map(|said| said.acknowledged).min().unwrap();
    assert!(fewest >= 300, "a seed has acknowledged only {fewest} operations");
    let shortest = all.iter().map(|said| said.simulated_ms).min().unwrap();
    assert!(shortest >= 60_000, "a seed has simulated only {shortest} ms");
    let quietest = all.iter().map(|said| said.hits.values().sum::<u64>()).min().unwrap();
    assert!(quietest >= 5, "a seed has met only {quietest} faults");
    let never: Vec<_> = hits.iter().filter(|(_, hits)| **hits == 0).collect();
    assert!(all.len() < SEEDS_THAT_MEET_ALL || never.is_empty(), "never met: {never:?}");
}

#[test]
fn a_seed_is_one_run() {
    if std::env::var(ONE).is_ok() {
        return;
    }
    let seeds = 0..number("CAIRN_SIM_TWICE").unwrap_or(20);
    let traces = Mutex::new(BTreeMap::<u64, Vec<String>>::new());
    for _ in 0..2 {
        run_seeds(seeds.clone(), |said| {
            traces.lock().unwrap().entry(said.seed).or_default().push(said.trace)
        });
    }
    for (seed, traces) in traces.into_inner().unwrap() {
        assert_eq!(traces[0], traces[1], "seed {seed} ran differently");
        assert!(!traces[0].is_empty());
    }
}

/// The net catches fish: each fault that can be built in is found within some seeds.
#[test]
fn every_seeded_bug_is_found() {
    if std::env::var(ONE).is_ok() {
        return;
    }
    let most = number("CAIRN_SIM_BUG_SEEDS").unwrap_or(64);
    let only = std::env::var("CAIRN_SIM_ONLY_BUG").ok();
    for (bug, test) in FOUND_ELSEWHERE {
        assert!(test.contains(&format!("Bug::{},", bug.name())), "nobody looks for {}", bug.name());
    }
    let is_ours = |bug: &Bug| FOUND_ELSEWHERE.iter().all(|(other, _)| other != bug);
    let is_asked_for = |bug: &Bug| only.as_ref().is_none_or(|only| *only == bug.name());
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(is_ours).filter(is_asked_for).collect();
    let found = Mutex::new(BTreeMap::new());
    on_all_cores(0..bugs.len() as u64, |at| {
        let bug = bugs[at as usize];
        let failure = (0..most).find_map(|seed| in_a_process(seed, Some(bug)).failed.map(|why| (seed, why)));
        let how = failure.as_ref().map_or_else(
            || "not found".to_owned(),
            |(seed, why)| format!("seed {seed}: {}", why.chars().take(150).collect::<String>()),
        );
        println!("{}: {how}", bug.name());
        found.lock().unwrap().insert(bug.name(), failure);
    });
    let found = found.into_inner().unwrap();
    let missed: Vec<&String> =
        found.iter().filter(|(_, failure)| failure.is_none()).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "not found within {most} seeds: {missed:?}");
}
