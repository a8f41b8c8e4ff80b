//! A cluster of real processes in a directory of its own, started by `cairn dev` as a user would.

#![allow(clippy::print_stderr, reason = "a failed test says what it left behind")]

use crate::faulty_disk::{Faults, FaultyDisk};
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Most of the processes that a test cluster can have.
const PROCESSES: [&str; 10] = [
    "mount",
    "chunkserver-1",
    "chunkserver-2",
    "chunkserver-3",
    "chunkserver-4",
    "chunkserver-5",
    "chunkserver-6",
    "master-1",
    "master-2",
    "master-3",
];

/// Shape of a test cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// Masters.
    pub masters: u32,
    /// Chunk servers.
    pub chunkservers: u32,
    /// Replicas of each chunk.
    pub replicas: u8,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { masters: 1, chunkservers: 3, replicas: 3 }
    }
}

/// A running cluster. Dropping it stops everything and removes the directory.
pub struct Cluster {
    /// Before the directory that they are mounted in.
    faulty: Vec<FaultyDisk>,
    root: TempDir,
    cairn: PathBuf,
    extra_mounts: Vec<PathBuf>,
    /// What processes that are started find in their environment beside that of the test.
    environment: Vec<(String, String)>,
}

/// One row of `dev ps --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// `master-1`, `chunkserver-2`, `mount`
    pub name: String,
    /// Pid, unless stopped.
    pub pid: Option<i32>,
    /// `host:port`, or the mount point.
    pub address: String,
    /// running, stopped, dead
    pub state: String,
    /// `host:port` of its health pages, if it has any.
    pub http: Option<String>,
    /// Data directories.
    pub data_dirs: Vec<PathBuf>,
    /// Of a master: whether it leads.
    pub leader: Option<bool>,
}

/// A suite that is a crate with a binary: `./scripts/test` installs it below the target directory.
pub fn suite(name: &str) -> PathBuf {
    let binary = cairn_binary().with_file_name("..").join("tools/bin").join(name);
    assert!(binary.exists(), "{} is missing: `./scripts/test` installs it", binary.display());
    binary
}

/// The binary under test: beside the test's own executable, where cargo puts it.
pub fn cairn_binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let target = own.parent().and_then(Path::parent).expect("tests run from target/PROFILE/deps");
    let binary = target.join("cairn");
    assert!(
        binary.exists(),
        "{} is missing: run `cargo build --release -p cairn-cli` first",
        binary.display()
    );
    binary
}

/// A fresh directory for a test: below `CAIRN_TEST_DIR` if set, else the system's place for temporary files.
pub fn test_dir() -> TempDir {
    match std::env::var_os("CAIRN_TEST_DIR") {
        Some(dir) => TempDir::with_prefix_in("cairn-test-", dir),
        None => TempDir::with_prefix("cairn-test-"),
    }
    .expect("a temporary directory can be made")
}

/// What a process said last, if anything.
pub(crate) fn print_log_end(process: &str, log: &str) {
    if !log.is_empty() {
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        eprintln!("--- end of the log of {process}\n{end}");
    }
}

/// An address for one cluster: 127.a.b.c, of this process (a, b) and of its clusters so far (c). Ports of clusters that
/// are tested side by side never meet, also not while a server is down.
fn own_address() -> Ipv4Addr {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let (process, cluster) = (std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
    let octet = |number: u32| (number % 254) as u8 + 1;
    Ipv4Addr::new(127, octet(process / 256), (process % 256) as u8, octet(cluster))
}

impl Cluster {
    /// Starts a cluster and its mount.
    pub fn up(options: ClusterOptions) -> Self {
        Self::up_with(options, Vec::new())
    }

    /// Starts a cluster, whose processes find this in their environment.
    pub fn up_with(options: ClusterOptions, environment: Vec<(String, String)>) -> Self {
        let cluster = Self::prepared(environment);
        cluster.begin(options, 1);
        cluster
    }

    /// Starts a cluster whose chunk servers have so many disks each.
    pub fn up_with_disks(options: ClusterOptions, disks: u32) -> Self {
        let cluster = Self::prepared(Vec::new());
        cluster.begin(options, disks);
        cluster
    }

    /// Starts a cluster whose chunk servers have so many disks each, every one a [`FaultyDisk`].
    pub fn up_on_faulty_disks(options: ClusterOptions, disks: u32) -> Self {
        let mut cluster = Self::prepared(Vec::new());
        for server in 1..=options.chunkservers {
            let folder = cluster.root().join(format!("chunkserver-{server}"));
            let mounted = (1..=disks).map(|disk| FaultyDisk::mount(&folder.join(format!("disk-{disk}"))));
            cluster.faulty.extend(mounted);
        }
        cluster.begin(options, disks);
        cluster
    }

    fn prepared(environment: Vec<(String, String)>) -> Self {
        let (root, cairn) = (test_dir(), cairn_binary());
        Self { faulty: Vec::new(), root, cairn, extra_mounts: Vec::new(), environment }
    }

    fn begin(&self, options: ClusterOptions, disks: u32) {
        let ClusterOptions { masters, chunkservers, replicas } = options;
        let (masters, chunkservers) = (masters.to_string(), chunkservers.to_string());
        let (replicas, disks) = (replicas.to_string(), disks.to_string());
        let shape = ["--masters", &masters, "--chunkservers", &chunkservers, "--replicas", &replicas];
        let up = ["up", "--address", &own_address().to_string(), "--disks", &disks];
        self.dev(&[&up[..], &shape[..]].concat());
    }

    /// What is wrong with a disk of a cluster that was started on faulty ones.
    pub fn faults(&self, server: &str, disk: u32) -> &Faults {
        let path = self.root().join(server).join(format!("disk-{disk}"));
        let found = self.faulty.iter().find(|faulty| faulty.path() == path);
        found.unwrap_or_else(|| panic!("{} is no faulty disk", path.display())).faults()
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The mount point.
    pub fn mount(&self) -> PathBuf {
        self.root.path().join("mnt")
    }

    /// `cairn dev VERB… --root ROOT`; must succeed.
    pub fn dev(&self, arguments: &[&str]) -> String {
        let output = self.try_dev(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "cairn dev {arguments:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// As `dev`, whatever comes of it.
    pub fn try_dev(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.cairn);
        command.arg("dev").args(arguments).arg("--root").arg(self.root()).envs(self.environment.clone());
        command.output().expect("the binary can be run")
    }

    /// `cairn --masters … ARGUMENTS…`, whatever comes of it.
    pub fn try_cairn(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.cairn);
        command.args(["--masters", &self.masters()]).args(arguments).envs(self.environment.clone());
        command.output().expect("the binary can be run")
    }

    /// As `try_cairn`; must succeed. Returns what was printed.
    pub fn cairn(&self, arguments: &[&str]) -> String {
        let output = self.try_cairn(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cairn {arguments:?}: {}\n{text}{errors}", output.status);
        text
    }

    /// A command's `--json` output.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.cairn(&all)).expect("--json prints JSON")
    }

    /// `dev ps --json`
    pub fn ps(&self) -> Vec<Process> {
        serde_json::from_str(&self.dev(&["ps", "--json"])).expect("dev ps --json prints its rows")
    }

    /// One process by name.
    pub fn process(&self, name: &str) -> Process {
        self.ps()
            .into_iter()
            .find(|process| process.name == name)
            .unwrap_or_else(|| panic!("no process {name}"))
    }

    /// `host:port,…`
    pub fn masters(&self) -> String {
        let masters: Vec<String> = self
            .ps()
            .into_iter()
            .filter(|process| process.name.starts_with("master-"))
            .map(|process| process.address)
            .collect();
        masters.join(",")
    }

    /// Name of the master that leads, as soon as one does.
    pub fn leader(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(leader) = self.ps().into_iter().find(|process| process.leader == Some(true)) {
                return leader.name;
            }
            assert!(Instant::now() < deadline, "nobody leads: {:?}", self.ps());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub fn kill(&self, name: &str) {
        self.dev(&["kill", name]);
    }

    /// Starts one process and waits until it is usable.
    pub fn start(&self, name: &str) {
        self.dev(&["start", name]);
    }

    /// SIGTERM, and waits.
    pub fn stop(&self, name: &str) {
        self.dev(&["stop", name]);
    }

    /// A new mount process, hence empty caches.
    pub fn remount(&self) {
        self.stop("mount");
        self.start("mount");
    }

    /// A second mount of the same cluster.
    pub fn second_mount(&mut self) -> PathBuf {
        let point = self.root().join(format!("mnt-{}", self.extra_mounts.len() + 2));
        std::fs::create_dir(&point).expect("a mount point can be made");
        let log = self.root().join(format!("mount-{}.log", self.extra_mounts.len() + 2));
        let output = Command::new(&self.cairn)
            .args(["mount", &self.masters()])
            .arg(&point)
            .arg("--log")
            .arg(&log)
            .output()
            .expect("the binary can be run");
        assert!(output.status.success(), "second mount: {}", String::from_utf8_lossy(&output.stderr));
        self.extra_mounts.push(point.clone());
        point
    }

    /// All replica files of one chunk server.
    pub fn replica_files(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut stack: Vec<PathBuf> =
            self.process(name).data_dirs.into_iter().map(|dir| dir.join("chunks")).collect();
        while let Some(directory) = stack.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { stack.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// Damages what a stopped chunk server has on its disks: this byte of each replica file that is so long.
    /// Tells how many.
    pub fn flip_byte_of_replicas(&self, name: &str, offset: u64) -> u64 {
        let mut damaged = 0;
        for path in self.replica_files(name) {
            let file = std::fs::OpenOptions::new().write(true).read(true).open(&path).expect("a replica");
            let mut byte = [0];
            if file.read_at(&mut byte, offset).expect("a read of a replica") == 1 {
                file.write_all_at(&[!byte[0]], offset).expect("a write to a replica");
                damaged += 1;
            }
        }
        damaged
    }

    /// The log of one process.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join(name).join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in PROCESSES {
                print_log_end(process, &self.log(process));
            }
        }
        for mount in &self.extra_mounts {
            let unmounted = Command::new(&self.cairn).args(["umount", "--lazy"]).arg(mount).output();
            if let Err(error) = unmounted {
                eprintln!("unmounting {}: {error}", mount.display());
            }
        }
        let down = self.try_dev(&["down"]);
        if !down.status.success() {
            eprintln!("dev down: {}", String::from_utf8_lossy(&down.stderr));
            for name in PROCESSES {
                self.try_dev(&["kill", name]);
            }
            drop(Command::new(&self.cairn).arg("umount").arg(self.mount()).output());
        }
        if std::thread::panicking() && std::env::var_os("CAIRN_TEST_KEEP").is_some() {
            self.root.disable_cleanup(true);
            eprintln!("kept {}", self.root().display());
        }
    }
}
