//! Everything is killed at a random moment, again and again; what was acknowledged is there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::ledger::{ALL_ACKNOWLEDGED, Ledger};
use cairn_tests::tree_worker::TreeWorker;
use cairn_tests::{Cluster, ClusterOptions};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Works until everything dies. An error before that is a fault.
fn work(top: &Path, seed: u64, ledger: &mut Ledger, dying: &AtomicBool) {
    let mut worker = TreeWorker::new(top, seed, std::mem::take(ledger));
    while !dying.load(Ordering::SeqCst) {
        if let Err(error) = worker.one() {
            assert!(dying.load(Ordering::SeqCst), "{}: {error} while all is well", top.display());
        }
    }
    *ledger = worker.ledger;
}

/// Until so many more operations were acknowledged.
fn wait_for_work(operations: u64) {
    let (begin, before) = (Instant::now(), ALL_ACKNOWLEDGED.load(Ordering::Relaxed));
    let done = || ALL_ACKNOWLEDGED.load(Ordering::Relaxed) - before;
    while done() < operations {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} operations in a minute", done());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{operations} operations took {:.2} s", begin.elapsed().as_secs_f64());
}

fn kill_everything(cluster: &Cluster) {
    for process in cluster.ps() {
        if let Some(pid) = process.pid.and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
}

/// A call that hangs in a mount can only be ended by the end of the mount. Killing everything then lets the test fail.
struct Watchdog<'a> {
    cluster: &'a Cluster,
    /// Counts what was done: it must go on.
    progress: AtomicU64,
    finished: AtomicBool,
}

impl Watchdog<'_> {
    fn pat(&self) {
        self.progress.fetch_add(1, Ordering::SeqCst);
    }

    fn watch(&self) {
        let (mut seen, mut since) = (0, Instant::now());
        while !self.finished.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.progress.load(Ordering::SeqCst);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(120) {
                kill_everything(self.cluster);
                panic!("nothing went on for two minutes after step {now}: the mount hung");
            }
        }
    }
}

/// `CAIRN_CRASH_ROUNDS` makes it longer; the seed is printed and taken from `CAIRN_SEED`.
#[test]
fn nothing_acknowledged_is_lost_when_everything_dies() {
    let rounds: u32 = std::env::var("CAIRN_CRASH_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let seed = std::env::var("CAIRN_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("CAIRN_SEED={seed} rounds={rounds}");
    let cluster = Cluster::up(ClusterOptions::default());
    let workers = 8;
    let directories: Vec<PathBuf> = (0..workers).map(|n| cluster.mount().join(format!("w{n}"))).collect();
    for directory in &directories {
        fs::create_dir(directory).unwrap();
    }
    let mut ledgers: Vec<Ledger> = (0..workers).map(|_| Ledger::default()).collect();
    let watchdog =
        Watchdog { cluster: &cluster, progress: AtomicU64::new(0), finished: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| watchdog.watch());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            crash_and_check(&watchdog, (rounds, seed), &directories, &mut ledgers);
        }));
        watchdog.finished.store(true, Ordering::SeqCst);
        watch.join().unwrap_or_else(|hung| resume_unwind(hung));
        outcome.unwrap_or_else(|failed| resume_unwind(failed));
    });
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for ledger in &ledgers {
        ledger.acknowledged.iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
    }
    let acknowledged: u64 = all.values().sum();
    println!("{acknowledged} acknowledged operations over {rounds} rounds: {all:?}");
    assert!(acknowledged > 100 * u64::from(rounds), "only {acknowledged} operations were acknowledged");
}

fn crash_and_check(
    watchdog: &Watchdog<'_>,
    (rounds, seed): (u32, u64),
    directories: &[PathBuf],
    ledgers: &mut [Ledger],
) {
    let cluster = watchdog.cluster;
    let (mut random, workers) = (SmallRng::seed_from_u64(seed), directories.len() as u64);
    for round in 0..rounds {
        watchdog.pat();
        let dying = AtomicBool::new(false);
        let alive = Duration::from_millis(random.random_range(300..2500));
        std::thread::scope(|scope| {
            for (number, (directory, ledger)) in directories.iter().zip(&mut *ledgers).enumerate() {
                let (dying, worker_seed) = (&dying, seed ^ u64::from(round) << 32 ^ number as u64);
                scope.spawn(move || work(directory, worker_seed, ledger, dying));
            }
            // Most rounds let work begin: what the dead mount held is waited for first. The others die at once again.
            if random.random_range(0..4) > 0 {
                wait_for_work(8 * workers);
            }
            std::thread::sleep(alive);
            dying.store(true, Ordering::SeqCst);
            kill_everything(cluster);
        });
        watchdog.pat();
        cluster.dev(&["up"]);
        for (directory, ledger) in directories.iter().zip(&mut *ledgers) {
            ledger.check(directory);
            watchdog.pat();
        }
    }
    // By another mount: what was found after the crashes is certain now, whichever replica is read.
    cluster.remount();
    for (directory, ledger) in directories.iter().zip(ledgers) {
        ledger.check(directory);
        watchdog.pat();
    }
}
