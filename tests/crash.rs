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
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one worker knows: acknowledged names with the checksum of their synced bytes, and the one operation that was
/// under way when everything died, whose outcome may be either.
#[derive(Default)]
struct Ledger {
    files: BTreeMap<String, u32>,
    uncertain: Option<(Vec<String>, BTreeMap<String, u32>)>,
    acknowledged: u64,
}

impl Ledger {
    /// Runs one operation: `after` is the ledger if it succeeds.
    fn attempt(
        &mut self,
        touched: &[&str],
        after: BTreeMap<String, u32>,
        act: impl FnOnce() -> std::io::Result<()>,
    ) -> bool {
        self.uncertain = Some((touched.iter().map(|name| (*name).to_owned()).collect(), after.clone()));
        if act().is_err() {
            return false;
        }
        self.files = after;
        self.uncertain = None;
        self.acknowledged += 1;
        true
    }

    fn check(&self, directory: &Path) -> BTreeMap<String, u32> {
        let found: BTreeMap<String, u32> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let contents =
                    fs::read(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display()));
                (entry.file_name().into_string().unwrap(), crc32(&contents))
            })
            .collect();
        let (touched, after) = self.uncertain.clone().unwrap_or_default();
        let names: std::collections::BTreeSet<&String> =
            found.keys().chain(self.files.keys()).chain(after.keys()).collect();
        for name in names {
            let (got, before) = (found.get(name), self.files.get(name));
            if touched.contains(name) {
                // Under way: old, new, or made and not yet filled.
                continue;
            }
            assert_eq!(got, before, "{}/{name}: found {got:?}, acknowledged {before:?}", directory.display());
        }
        found
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
                after.insert(name.clone(), crc32(&contents));
                ledger.attempt(&[&name], after, || {
                    let mut file = File::create(&path)?;
                    file.write_all(&contents)?;
                    file.sync_all()
                })
            }
            6..8 if ledger.files.contains_key(&name) && name != other => {
                let sum = after.remove(&name).unwrap();
                after.insert(other.clone(), sum);
                ledger.attempt(&[&name, &other], after, || fs::rename(&path, &target))
            }
            _ if ledger.files.contains_key(&name) => {
                after.remove(&name);
                ledger.attempt(&[&name], after, || fs::remove_file(&path))
            }
            _ => true,
        };
        if !done {
            return;
        }
    }
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
            std::thread::sleep(alive);
            kill_everything(&cluster);
            stop.store(true, Ordering::Relaxed);
        });
        cluster.dev(&["up"]);
        for (directory, ledger) in directories.iter().zip(&mut ledgers) {
            ledger.files = ledger.check(directory);
            ledger.uncertain = None;
        }
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    println!("{acknowledged} acknowledged operations over {rounds} rounds");
    assert!(acknowledged > 100 * u64::from(rounds), "only {acknowledged} operations were acknowledged");
}
