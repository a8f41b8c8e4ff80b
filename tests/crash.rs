//! Everything is killed at a random moment, again and again; what was acknowledged is there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::oracle::{FileId, Found, Tree};
use cairn_tests::{Cluster, ClusterOptions};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// By all workers, in all rounds.
static ALL_ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

/// What one worker knows of its directory: what was acknowledged, and the one change of names that was under way when
/// everything died.
#[derive(Default)]
struct Ledger {
    tree: Tree,
    under_way: Option<(&'static str, Tree)>,
    acknowledged: BTreeMap<&'static str, u64>,
}

impl Ledger {
    fn acknowledge(&mut self, what: &'static str) {
        *self.acknowledged.entry(what).or_default() += 1;
        ALL_ACKNOWLEDGED.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one operation on names: `change` is what it does when it succeeds.
    fn names<T>(
        &mut self,
        what: &'static str,
        change: impl FnOnce(&mut Tree),
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut after = self.tree.clone();
        change(&mut after);
        self.under_way = Some((what, after));
        let done = act()?;
        self.tree = self.under_way.take().unwrap().1;
        self.acknowledge(what);
        Ok(done)
    }

    fn sync(&mut self, what: &'static str, id: FileId, file: &File) -> io::Result<()> {
        file.sync_all()?;
        // Its names may be gone, and then nobody can look.
        if let Some(contents) = self.tree.contents(id) {
            contents.sync();
        }
        self.acknowledge(what);
        Ok(())
    }

    /// Holds what is there against what was acknowledged, and goes on from what is there.
    fn check(&mut self, directory: &Path) {
        let found =
            Found::below(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let under_way = self.under_way.take();
        if let Err(not_before) = self.tree.check(&found) {
            let not_after = under_way.map_or_else(
                || "nothing was under way".to_owned(),
                |(what, after)| match after.check(&found) {
                    Ok(()) => String::new(),
                    Err(why) => format!("nor as after {what}, which was under way: {why}"),
                },
            );
            let directory = directory.display();
            assert!(not_after.is_empty(), "{directory}: not as acknowledged: {not_before}; {not_after}");
        }
        self.tree = found.settle();
    }
}

/// A file that stays open over several operations, so that what is written to it is not synced yet.
struct Held {
    id: FileId,
    file: File,
    appends: bool,
}

struct Worker<'a> {
    top: &'a Path,
    random: SmallRng,
    ledger: &'a mut Ledger,
    held: Option<Held>,
}

impl Worker<'_> {
    /// A name that may be anything or nothing, in a directory that is there.
    fn any_name(&mut self) -> String {
        let directory = format!("d{}", self.random.random_range(0..4));
        let name = format!("f{}", self.random.random_range(0..24));
        if self.ledger.tree.is_directory(&directory) { format!("{directory}/{name}") } else { name }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(1..=most)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn one(&mut self) -> io::Result<()> {
        let (name, other) = (self.any_name(), self.any_name());
        let (path, target) = (self.top.join(&name), self.top.join(&other));
        let id = self.ledger.tree.file(&name);
        match (self.random.random_range(0..20), id) {
            (0..5, _) => self.create(&name, &path),
            (5..7, Some(id)) => self.append(id, &path),
            (7..13, _) if self.held.is_some() => self.write_held(),
            (7..13, Some(id)) => self.hold(id, &path),
            (13..15, Some(_)) if self.ledger.tree.is_free(&other) => {
                self.ledger.names("link", |tree| tree.link(&name, &other), || fs::hard_link(&path, &target))
            }
            (15..17, Some(_)) => {
                let what = if self.ledger.tree.is_free(&other) { "rename" } else { "rename over" };
                self.ledger.names(what, |tree| tree.rename(&name, &other), || fs::rename(&path, &target))
            }
            (17, Some(_)) => {
                self.ledger.names("unlink", |tree| tree.remove(&name), || fs::remove_file(&path))
            }
            (18.., _) => self.directories(),
            _ => Ok(()),
        }
    }

    fn create(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let mut file = self.ledger.names("create", |tree| tree.create(name), || File::create(path))?;
        let id = self.ledger.tree.file(name).unwrap();
        let bytes = self.bytes(40_000);
        self.ledger.tree.contents(id).unwrap().write(0, &bytes);
        file.write_all(&bytes)?;
        self.ledger.sync("write and fsync", id, &file)
    }

    fn append(&mut self, id: FileId, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(path)?;
        self.append_to(id, &mut file)?;
        self.ledger.sync("append and fsync", id, &file)
    }

    fn append_to(&mut self, id: FileId, file: &mut File) -> io::Result<()> {
        let bytes = self.bytes(10_000);
        if let Some(contents) = self.ledger.tree.contents(id) {
            contents.write(contents.length(), &bytes);
        }
        file.write_all(&bytes)
    }

    fn hold(&mut self, id: FileId, path: &Path) -> io::Result<()> {
        let appends = self.random.random_range(0..3) == 0;
        let file = OpenOptions::new().write(true).append(appends).open(path)?;
        self.held = Some(Held { id, file, appends });
        Ok(())
    }

    /// Writes to the file that is held open; most writes are not synced at once. Let go, a file has been synced.
    fn write_held(&mut self) -> io::Result<()> {
        let mut held = self.held.take().unwrap();
        let length = self.ledger.tree.contents(held.id).map_or(0, |contents| contents.length());
        if held.appends && length < 200_000 {
            self.append_to(held.id, &mut held.file)?;
        } else if !held.appends && length > 0 {
            let offset = self.random.random_range(0..length);
            let bytes = self.bytes(12_000.min(length - offset));
            self.ledger.tree.contents(held.id).unwrap().write(offset, &bytes);
            held.file.write_all_at(&bytes, offset as u64)?;
        } else {
            return self.ledger.sync("fsync", held.id, &held.file);
        }
        let what = if held.appends { "appends, then fsync" } else { "overwrites, then fsync" };
        match self.random.random_range(0..10) {
            0 => self.ledger.sync(what, held.id, &held.file),
            fate => {
                if fate < 3 {
                    self.ledger.sync(what, held.id, &held.file)?;
                }
                self.held = Some(held);
                Ok(())
            }
        }
    }

    fn directories(&mut self) -> io::Result<()> {
        // More than files are put in: some stay empty.
        let mut any = || format!("d{}", self.random.random_range(0..8));
        let (name, other) = (any(), any());
        let (path, target) = (self.top.join(&name), self.top.join(&other));
        let tree = &self.ledger.tree;
        if tree.is_free(&name) {
            self.ledger.names("mkdir", |tree| tree.make_directory(&name), || fs::create_dir(&path))
        } else if tree.is_empty(&name) {
            self.ledger.names("rmdir", |tree| tree.remove(&name), || fs::remove_dir(&path))
        } else if name != other && tree.is_empty(&other) {
            let act = || fs::rename(&path, &target);
            self.ledger.names("rename of a directory", |tree| tree.rename(&name, &other), act)
        } else {
            Ok(())
        }
    }
}

/// Works until everything dies. An error before that is a fault.
fn work(top: &Path, seed: u64, ledger: &mut Ledger, dying: &AtomicBool) {
    let mut worker = Worker { top, random: SmallRng::seed_from_u64(seed), ledger, held: None };
    while !dying.load(Ordering::SeqCst) {
        if let Err(error) = worker.one() {
            assert!(dying.load(Ordering::SeqCst), "{}: {error} while all is well", top.display());
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
