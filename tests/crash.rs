//! Everything is killed at a random moment, again and again; what was acknowledged is there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::corpus::crc32;
use cairn_tests::{Cluster, ClusterOptions};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// By all workers, in all rounds.
static ALL_ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

/// Names with the checksums of their bytes.
type Names = BTreeMap<String, u32>;

/// What one worker knows: acknowledged names with the checksums of their synced bytes, and the one operation that was under
/// way when everything died.
#[derive(Default)]
struct Ledger {
    files: Names,
    under_way: Option<UnderWay>,
    acknowledged: u64,
}

/// The names that an operation touches are all as before it or all as after it; nothing else is allowed.
struct UnderWay {
    what: &'static str,
    touched: Vec<String>,
    after: Names,
}

impl Ledger {
    /// Runs one operation: `after` is the ledger if it succeeds.
    fn attempt(
        &mut self,
        what: &'static str,
        touched: &[&str],
        after: Names,
        act: impl FnOnce() -> std::io::Result<()>,
    ) -> bool {
        let touched = touched.iter().map(|name| (*name).to_owned()).collect();
        self.under_way = Some(UnderWay { what, touched, after });
        if act().is_err() {
            return false;
        }
        self.files = self.under_way.take().unwrap().after;
        self.acknowledged += 1;
        ALL_ACKNOWLEDGED.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Holds what is there against what was acknowledged, and goes on from what is there.
    fn check(&mut self, directory: &Path) {
        let found: Names = fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let contents =
                    fs::read(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display()));
                (entry.file_name().into_string().unwrap(), crc32(&contents))
            })
            .collect();
        let directory = directory.display();
        let under_way = self.under_way.take();
        let touched = under_way.as_ref().map_or(&[][..], |operation| &operation.touched);
        for name in found.keys().chain(self.files.keys()).filter(|name| !touched.contains(name)) {
            let (got, want) = (found.get(name), self.files.get(name));
            assert_eq!(got, want, "{directory}/{name}: not as acknowledged");
        }
        if let Some(UnderWay { what, touched, after }) = &under_way {
            let only = |all: &Names| touched.iter().map(|name| all.get(name).copied()).collect::<Vec<_>>();
            let (got, before, after) = (only(&found), only(&self.files), only(after));
            assert!(
                got == before || got == after,
                "{directory}/{touched:?} under {what}: {got:?}, neither {before:?} nor {after:?}"
            );
        }
        self.files = found;
    }
}

fn work(directory: &Path, seed: u64, ledger: &mut Ledger, stop: &AtomicBool) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let name = format!("f{}", random.random_range(0..60));
        let other = format!("f{}", random.random_range(0..60));
        let (path, target) = (directory.join(&name), directory.join(&other));
        let mut after = ledger.files.clone();
        let done = match random.random_range(0..10) {
            0..6 => {
                let mut contents = vec![0; random.random_range(1..40_000)];
                random.fill_bytes(&mut contents);
                let mut empty = ledger.files.clone();
                empty.insert(name.clone(), crc32(&[]));
                after.insert(name.clone(), crc32(&contents));
                let mut file = None;
                let create = || File::create(&path).map(|made| file = Some(made));
                ledger.attempt("create", &[&name], empty, create)
                    && ledger.attempt("write and fsync", &[&name], after, || {
                        let mut file = file.take().unwrap();
                        file.write_all(&contents)?;
                        file.sync_all()
                    })
            }
            6..8 if ledger.files.contains_key(&name) && name != other => {
                let sum = after.remove(&name).unwrap();
                after.insert(other.clone(), sum);
                ledger.attempt("rename", &[&name, &other], after, || fs::rename(&path, &target))
            }
            _ if ledger.files.contains_key(&name) => {
                after.remove(&name);
                ledger.attempt("unlink", &[&name], after, || fs::remove_file(&path))
            }
            _ => true,
        };
        if !done {
            return;
        }
    }
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

/// `CAIRN_CRASH_ROUNDS` makes it longer; the seed is printed and taken from `CAIRN_SEED`.
#[test]
fn nothing_acknowledged_is_lost_when_everything_dies() {
    let rounds: u32 = std::env::var("CAIRN_CRASH_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let seed = std::env::var("CAIRN_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("CAIRN_SEED={seed} rounds={rounds}");
    let cluster = Cluster::up(ClusterOptions::default());
    let mut random = SmallRng::seed_from_u64(seed);
    let workers = 8;
    let directories: Vec<PathBuf> = (0..workers).map(|n| cluster.mount().join(format!("w{n}"))).collect();
    for directory in &directories {
        fs::create_dir(directory).unwrap();
    }
    let mut ledgers: Vec<Ledger> = (0..workers).map(|_| Ledger::default()).collect();
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let alive = Duration::from_millis(random.random_range(300..2500));
        std::thread::scope(|scope| {
            for (number, (directory, ledger)) in directories.iter().zip(&mut ledgers).enumerate() {
                let (stop, worker_seed) = (&stop, seed ^ u64::from(round) << 32 ^ number as u64);
                scope.spawn(move || work(directory, worker_seed, ledger, stop));
            }
            // Most rounds let work begin: what the dead mount held is waited for first. The others die at once again.
            if random.random_range(0..4) > 0 {
                wait_for_work(8 * workers);
            }
            std::thread::sleep(alive);
            kill_everything(&cluster);
            stop.store(true, Ordering::Relaxed);
        });
        cluster.dev(&["up"]);
        for (directory, ledger) in directories.iter().zip(&mut ledgers) {
            ledger.check(directory);
        }
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{acknowledged} acknowledged operations over {rounds} rounds");
    assert!(acknowledged > 100 * u64::from(rounds), "only {acknowledged} operations were acknowledged");
}
