//! Masters that die under running applications: nobody sees an error, nothing acknowledged is lost or done twice.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::cluster::cairn_binary;
use cairn_tests::{Cluster, ClusterOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
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

fn number(name: &str) -> Option<u64> {
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
struct Load {
    begun: Instant,
    stop: Arc<AtomicBool>,
    pulses: Vec<Arc<Pulse>>,
    threads: Vec<JoinHandle<Worker>>,
}

impl Load {
    fn start(mounts: &[PathBuf], seed: u64) -> Self {
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

    fn operations(&self) -> u64 {
        self.pulses.iter().map(|pulse| pulse.operations.load(Ordering::SeqCst)).sum()
    }

    /// The longest stall of any worker since the last call.
    fn longest(&self) -> Duration {
        self.pulses.iter().map(|pulse| pulse.take_longest(self.begun)).max().unwrap()
    }

    /// Waits until every worker has done something more.
    fn wait_for_all(&self) {
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
    fn finish_and_verify(self, mounts: &[PathBuf]) -> u64 {
        let operations = self.operations();
        self.stop.store(true, Ordering::SeqCst);
        let workers: Vec<Worker> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            worker.verify(&mounts[1 - number / WORKERS]);
        }
        operations
    }
}

fn report(what: &str, mut stalls: Vec<Duration>, operations: u64) {
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

fn cluster() -> (Cluster, Vec<PathBuf>) {
    let mut cluster = Cluster::up(ClusterOptions { masters: 3, replicas: 2, ..ClusterOptions::default() });
    let mounts = vec![cluster.mount(), cluster.second_mount()];
    (cluster, mounts)
}

#[test]
fn a_killed_leader_is_noticed_by_nobody() {
    let rounds = number("CAIRN_FAILOVERS").unwrap_or(5);
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 11);
    let mut stalls = Vec::new();
    for round in 0..rounds {
        load.wait_for_all();
        let leader = cluster.leader();
        load.longest();
        cluster.kill(&leader);
        load.wait_for_all();
        std::thread::sleep(Duration::from_millis(300));
        let stall = load.longest();
        println!("kill {round} of {leader}: longest stall {:.3} s", stall.as_secs_f64());
        stalls.push(stall);
        cluster.start(&leader);
    }
    let operations = load.finish_and_verify(&mounts);
    report("killed leader", stalls, operations);
}

#[test]
fn a_frozen_leader_answers_nothing_stale_when_it_wakes() {
    let rounds = number("CAIRN_FREEZES").unwrap_or(2);
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 23);
    let shared = mounts[0].join("shared");
    let file = File::create(&shared).unwrap();
    let mut stalls = Vec::new();
    for round in 0..rounds {
        load.wait_for_all();
        let leader = cluster.leader();
        let pid = Pid::from_raw(cluster.process(&leader).pid.unwrap()).unwrap();
        load.longest();
        kill_process(pid, Signal::STOP).unwrap();
        std::thread::sleep(Duration::from_secs(5));
        // Written under the new leader, read through the other mount while the old one wakes.
        let mark = [round as u8; 16];
        file.write_all_at(&mark, round * 16).unwrap();
        file.sync_all().unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        let length = fs::metadata(mounts[1].join("shared")).unwrap().len();
        assert_eq!(length, (round + 1) * 16, "a stale answer");
        load.wait_for_all();
        stalls.push(load.longest());
    }
    let operations = load.finish_and_verify(&mounts);
    report("frozen leader", stalls, operations);
}

#[test]
fn the_lead_is_handed_over_at_an_orderly_stop_and_when_asked() {
    let (cluster, mounts) = cluster();
    let load = Load::start(&mounts, 51);
    let mut stalls = Vec::new();
    for round in 0..number("CAIRN_HAND_OVERS").unwrap_or(4) {
        load.wait_for_all();
        let leader = cluster.leader();
        load.longest();
        if round % 2 == 0 {
            cluster.stop(&leader);
        } else {
            cluster.cairn(&["admin", "masters", "transfer-leader"]);
        }
        assert_ne!(cluster.leader(), leader);
        load.wait_for_all();
        stalls.push(load.longest());
        cluster.start(&leader);
    }
    let operations = load.finish_and_verify(&mounts);
    report("lead handed over", stalls, operations);
}

#[test]
fn a_master_that_lost_its_directory_takes_no_part() {
    let (cluster, mounts) = cluster();
    let leader = cluster.leader();
    let lost = ["master-1", "master-2", "master-3"].into_iter().find(|name| *name != leader).unwrap();
    cluster.kill(lost);
    fs::remove_dir_all(&cluster.process(lost).data_dirs[0]).unwrap();
    let started = cluster.try_dev(&["start", lost]);
    assert!(!started.status.success(), "it has lost its vote, and what it had acknowledged");
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(said.contains("on record") && said.contains("replace"), "{said}");
    fs::write(mounts[0].join("still"), "here").unwrap();
    assert_eq!(fs::read(mounts[1].join("still")).unwrap(), b"here");
}

#[test]
fn a_mount_that_stops_without_masters_can_be_killed() {
    let cluster = Cluster::up(ClusterOptions::default());
    let used = File::create(cluster.mount().join("used")).unwrap();
    let mount = Pid::from_raw(cluster.process("mount").pid.unwrap()).unwrap();
    let master = Pid::from_raw(cluster.process("master-1").pid.unwrap()).unwrap();
    kill_process(master, Signal::KILL).unwrap();
    // Beyond what the kernel may believe without asking.
    std::thread::sleep(Duration::from_secs(3));
    kill_process(mount, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(mount, Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(format!("/proc/{}/task", mount.as_raw_nonzero()))
        .is_ok_and(|threads| threads.count() > 0)
    {
        assert!(Instant::now() < deadline, "the mount's process does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(used);
}

/// A process that kills all masters, and starts them again, as often as it is told.
struct Blackout {
    shell: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Blackout {
    fn prepare(cluster: &Cluster) -> Self {
        let dev = format!("{} dev", cairn_binary().display());
        let root = cluster.root().display();
        let pids = format!(
            "{dev} ps --root {root} --json | grep -A1 '\"role\": \"master\"' | grep -o '[0-9]*,$' | tr -d ,"
        );
        let script = format!(
            "while read round; do kill -9 $({pids}); {dev} up --root {root} >/dev/null && echo done || echo failed; done"
        );
        let mut shell = Command::new("sh");
        let mut shell =
            shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        Self { shell, asks, answers }
    }

    fn strike(&mut self) {
        self.asks.write_all(b"now\n").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

impl Drop for Blackout {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

#[test]
fn masters_that_all_die_at_once_come_back_with_everything() {
    let rounds = number("CAIRN_BLACKOUTS").unwrap_or(2);
    let (cluster, mounts) = cluster();
    let mut blackout = Blackout::prepare(&cluster);
    let load = Load::start(&mounts, 37);
    let mut stalls = Vec::new();
    for _ in 0..rounds {
        load.wait_for_all();
        load.longest();
        // One command, begun before: a process that forks while nobody leads waits, because its child closes the files that
        // the workers have open, and closing records what they wrote.
        blackout.strike();
        load.wait_for_all();
        stalls.push(load.longest());
    }
    let operations = load.finish_and_verify(&mounts);
    report("all masters killed", stalls, operations);
}
