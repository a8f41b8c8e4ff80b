//! Applications on several mounts: each thread knows what must become of every operation, and accepts no error.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Generous: the figures are a benchmark's business. `CAIRN_STALL_MS` tightens it.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Workers on each mount.
const WORKERS: usize = 3;
/// Names that a worker uses: few, so that it meets its own earlier ones.
const NAMES: u64 = 12;

/// A number of the environment, to run more of something.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One application thread: changes its own directory, knows what must be there, and accepts no error.
struct Worker {
    directory: PathBuf,
    /// Name to contents; `None`: a directory.
    model: BTreeMap<String, Option<Vec<u8>>>,
    log: File,
    appended: u64,
    random: u64,
    pulse: Arc<Pulse>,
}

/// What the worker shows of its progress.
#[derive(Default)]
struct Pulse {
    operations: AtomicU64,
    last_millis: AtomicU64,
    longest_millis: AtomicU64,
}

impl Pulse {
    fn success(&self, begun: Instant) {
        let now = begun.elapsed().as_millis() as u64;
        let gap = now - self.last_millis.swap(now, Ordering::SeqCst);
        self.longest_millis.fetch_max(gap, Ordering::SeqCst);
        self.operations.fetch_add(1, Ordering::SeqCst);
    }

    /// The longest gap since the last call, one that still lasts included.
    fn take_longest(&self, begun: Instant) -> Duration {
        let lasting =
            (begun.elapsed().as_millis() as u64).saturating_sub(self.last_millis.load(Ordering::SeqCst));
        Duration::from_millis(self.longest_millis.swap(0, Ordering::SeqCst).max(lasting))
    }
}

impl Worker {
    fn new(directory: PathBuf, seed: u64) -> Self {
        fs::create_dir_all(&directory).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(directory.join("log")).unwrap();
        Self { directory, model: BTreeMap::new(), log, appended: 0, random: seed, pulse: Arc::default() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound
    }

    fn name(&mut self) -> String {
        format!("n{}", self.below(NAMES))
    }

    /// One operation whose outcome is known beforehand: a retry that is done twice, or not at all, shows as a wrong one.
    fn step(&mut self) {
        let (name, other) = (self.name(), self.name());
        let path = self.directory.join(&name);
        match (self.below(5), self.model.get(&name).cloned()) {
            (0, _) => {
                self.log.write_all(&self.appended.to_le_bytes()).unwrap();
                self.appended += 1;
            }
            (1, None) => {
                fs::create_dir(&path).unwrap();
                self.model.insert(name, None);
            }
            (_, None) => {
                let mut file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
                let contents = vec![self.below(256) as u8; 1 + self.below(9000) as usize];
                file.write_all(&contents).unwrap();
                file.sync_all().unwrap();
                self.model.insert(name, Some(contents));
            }
            (1, Some(Some(_))) => {
                fs::remove_file(&path).unwrap();
                self.model.remove(&name);
            }
            (_, Some(None)) => {
                fs::remove_dir(&path).unwrap();
                self.model.remove(&name);
            }
            (2, Some(Some(contents))) if name != other && !matches!(self.model.get(&other), Some(None)) => {
                fs::rename(&path, self.directory.join(&other)).unwrap();
                self.model.remove(&name);
                self.model.insert(other, Some(contents));
            }
            (3, Some(Some(contents))) if !self.model.contains_key(&other) => {
                fs::hard_link(&path, self.directory.join(&other)).unwrap();
                fs::remove_file(&path).unwrap();
                self.model.remove(&name);
                self.model.insert(other, Some(contents));
            }
            (_, Some(Some(contents))) => {
                let read = fs::read(&path).unwrap();
                assert!(read == contents, "{} has other contents", path.display());
            }
        }
    }

    fn run(mut self, begun: Instant, stop: &AtomicBool) -> Self {
        self.pulse.success(begun);
        self.pulse.longest_millis.store(0, Ordering::SeqCst);
        while !stop.load(Ordering::SeqCst) {
            self.step();
            self.pulse.success(begun);
        }
        self.log.sync_all().unwrap();
        self
    }

    /// Everything is there once, as another mount sees it.
    fn verify(&self, seen_from: &Path) {
        let directory = seen_from.join(self.directory.file_name().unwrap());
        let mut found: Vec<String> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut expected: Vec<String> = self.model.keys().cloned().chain(["log".to_owned()]).collect();
        expected.sort();
        assert_eq!(found, expected, "{}", directory.display());
        for (name, contents) in &self.model {
            match contents {
                None => assert!(directory.join(name).is_dir()),
                Some(contents) => assert!(fs::read(directory.join(name)).unwrap() == *contents, "{name}"),
            }
        }
        let log = fs::read(directory.join("log")).unwrap();
        let numbers: Vec<u64> =
            log.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        assert!(
            numbers.iter().copied().eq(0..self.appended),
            "{} appends, {} found",
            self.appended,
            numbers.len()
        );
    }
}

/// Workers on several mounts.
pub struct Load {
    begun: Instant,
    stop: Arc<AtomicBool>,
    pulses: Vec<Arc<Pulse>>,
    threads: Vec<JoinHandle<Worker>>,
}

impl Load {
    /// Begins on two mounts.
    pub fn start(mounts: &[PathBuf], seed: u64) -> Self {
        let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let mut load = Self { begun, stop, pulses: Vec::new(), threads: Vec::new() };
        for (number, mount) in mounts.iter().flat_map(|mount| std::iter::repeat_n(mount, WORKERS)).enumerate()
        {
            let worker = Worker::new(mount.join(format!("worker-{number}")), seed + number as u64);
            load.pulses.push(worker.pulse.clone());
            let stop = load.stop.clone();
            load.threads.push(std::thread::spawn(move || worker.run(begun, &stop)));
        }
        load
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.pulses.iter().map(|pulse| pulse.operations.load(Ordering::SeqCst)).sum()
    }

    /// The longest stall of any worker since the last call.
    pub fn longest(&self) -> Duration {
        self.pulses.iter().map(|pulse| pulse.take_longest(self.begun)).max().unwrap()
    }

    /// Waits until every worker has done something more.
    pub fn wait_for_all(&self) {
        let before: Vec<u64> =
            self.pulses.iter().map(|pulse| pulse.operations.load(Ordering::SeqCst)).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        for (pulse, before) in self.pulses.iter().zip(before) {
            while pulse.operations.load(Ordering::SeqCst) <= before + 1 {
                assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a worker has failed");
                assert!(Instant::now() < deadline, "a worker is stuck");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Ends the workers, and looks at what each has done through the other mount. Returns how many operations that were.
    pub fn finish_and_verify(self, mounts: &[PathBuf]) -> u64 {
        let operations = self.operations();
        self.stop.store(true, Ordering::SeqCst);
        let workers: Vec<Worker> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            worker.verify(&mounts[1 - number / WORKERS]);
        }
        operations
    }
}

/// Prints the stalls, and fails when one was beyond all bounds.
pub fn report(what: &str, mut stalls: Vec<Duration>, operations: u64) {
    stalls.sort();
    let at = |percent: usize| stalls[(stalls.len() * percent).div_ceil(100).max(1) - 1];
    println!(
        "{what}: {} rounds, {operations} operations, stall p50 {:.3} s, p99 {:.3} s, longest {:.3} s",
        stalls.len(),
        at(50).as_secs_f64(),
        at(99).as_secs_f64(),
        at(100).as_secs_f64()
    );
    let limit = number("CAIRN_STALL_MS").map_or(STALL_LIMIT, Duration::from_millis);
    assert!(at(100) < limit, "{what}: stalled {:?}", at(100));
}
