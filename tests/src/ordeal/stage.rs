//! Six chunk servers with two disks each, three masters and three mounts, each on a machine of its own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

use super::losses::Losses;
use super::process::{Need, Process};
use crate::cluster::{cairn_binary, print_log_end, test_dir};
use crate::faulty_disk::FaultyDisk;
use crate::network::{Host, Network, address};
use crate::shell::Shell;
use crate::spread::is_mounted;
use rustix::mount::UnmountFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Masters; `master-1` is on machine 1.
pub const MASTERS: [Host; 3] = [1, 2, 3];
/// Machines of the chunk servers; `chunkserver-1` is on the first.
pub const SERVERS: [Host; 6] = [11, 12, 13, 14, 15, 16];
/// Disks of each chunk server.
pub const DISKS: u8 = 2;
/// Machines of the mounts; `mount-1` is on the first.
pub const MOUNTS: [Host; 3] = [21, 22, 23];
/// Machine of whoever looks at the cluster: never cut off.
pub const OPERATOR: Host = 30;
const MASTER_PORT: u16 = 9400;
/// Where each chunk server listens.
pub(super) const SERVER_PORT: u16 = 9410;
const HTTP_PORT: u16 = 9500;
/// Replicas of each chunk.
const REPLICAS: u16 = 3;
/// Everything answers within so long after its start, on a machine that has other things to do as well.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The lives of a mount: even while one lasts, odd between two.
pub type Life = Arc<AtomicU64>;

/// The cluster. Dropping it stops everything, in whatever state it is.
pub struct Stage {
    /// What joins its machines.
    pub network: Network,
    /// Whoever had something wrong.
    pub losses: Arc<Losses>,
    /// Before the directory that they are mounted in.
    disks: Vec<FaultyDisk>,
    shell: Shell,
    root: TempDir,
    processes: Vec<Process>,
    lives: Vec<Life>,
    /// Processes that ended although nobody killed them, with what they said last.
    pub ended: Vec<String>,
}

fn masters() -> String {
    MASTERS.map(|host| format!("{}:{MASTER_PORT}", address(host))).join(",")
}

impl Stage {
    /// Starts everything and waits until all mounts are usable.
    pub fn up() -> Self {
        let hosts = [&MASTERS[..], &SERVERS[..], &MOUNTS[..], &[OPERATOR]].concat();
        let mut stage = Self {
            network: Network::new(&hosts),
            losses: Arc::default(),
            disks: Vec::new(),
            shell: Shell::start(),
            root: test_dir(),
            processes: Vec::new(),
            lives: Vec::new(),
            ended: Vec::new(),
        };
        let group = uuid::Uuid::new_v4();
        MASTERS.into_iter().for_each(|host| stage.add_master(host, group));
        (1..=SERVERS.len() as u8).for_each(|number| stage.add_server(number));
        stage.tend();
        (1..=MOUNTS.len()).for_each(|number| stage.add_mount(number, MOUNTS[number - 1]));
        stage
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    fn add(&mut self, name: &str, host: Host, arguments: &str) {
        let directory = self.root().join(name);
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("log");
        let on = self.network.on(host).join(" ");
        let command = format!("{on} {} {arguments}", cairn_binary().display());
        let mut process = Process::new(name, command, log);
        process.is_wanted = true;
        self.processes.push(process);
    }

    fn add_service(&mut self, verb: &str, name: &str, host: Host, config: &str) {
        let directory = self.root().join(name);
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("config.toml");
        fs::write(&file, config).unwrap();
        self.add(name, host, &format!("{verb} --config {}", file.display()));
    }

    fn add_master(&mut self, host: Host, group: uuid::Uuid) {
        let (name, own) = (format!("master-{host}"), address(host));
        let members: Vec<_> =
            MASTERS.iter().map(|host| format!("{host}={}:{MASTER_PORT}", address(*host))).collect();
        let config = format!(
            "data_dir = {:?}\nlisten = \"{own}:{MASTER_PORT}\"\nhttp_listen = \"{own}:{HTTP_PORT}\"\nnode_id = {host}\n\
             members = {members:?}\ncluster = \"{group}\"\ndefault_replicas = {REPLICAS}\n",
            self.root().join(&name).join("data"),
        );
        self.add_service("master", &name, host, &config);
    }

    fn add_server(&mut self, number: u8) {
        let (name, host) = (format!("chunkserver-{number}"), SERVERS[usize::from(number) - 1]);
        let own = address(host);
        let masters: Vec<_> = masters().split(',').map(str::to_owned).collect();
        let mut config = format!(
            "masters = {masters:?}\nlisten = \"{own}:{SERVER_PORT}\"\nhttp_listen = \"{own}:{HTTP_PORT}\"\n"
        );
        for disk in 1..=DISKS {
            let path = self.disk_path(number, disk);
            self.disks.push(FaultyDisk::mount(&path));
            config += &format!("\n[[disks]]\npath = {path:?}\n");
        }
        self.add_service("chunkserver", &name, host, &config);
    }

    fn add_mount(&mut self, number: usize, host: Host) {
        let name = format!("mount-{number}");
        let point = self.mount_point(number);
        fs::create_dir_all(&point).unwrap();
        self.add(
            &name,
            host,
            &format!("mount {} {} --foreground -o unavailable=wait", masters(), point.display()),
        );
        self.lives.push(Arc::new(AtomicU64::new(1)));
        let deadline = Instant::now() + START_PATIENCE;
        while !self.mount_is_back(number) || fs::write(point.join(&name), "here").is_err() {
            self.tend();
            assert!(Instant::now() < deadline, "{name} does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One more mount, on the operator's machine. Returns its mount point.
    pub fn add_fresh_mount(&mut self) -> PathBuf {
        let number = self.lives.len() + 1;
        self.add_mount(number, OPERATOR);
        self.mount_point(number)
    }

    fn disk_path(&self, server: u8, disk: u8) -> PathBuf {
        self.root().join(format!("chunkserver-{server}")).join(format!("disk-{disk}"))
    }

    /// A disk; both numbers begin with 1.
    pub fn disk(&self, server: u8, disk: u8) -> &FaultyDisk {
        &self.disks[usize::from(server - 1) * usize::from(DISKS) + usize::from(disk - 1)]
    }

    /// Where a mount is; numbers begin with 1.
    pub fn mount_point(&self, number: usize) -> PathBuf {
        self.root().join(format!("mount-{number}")).join("point")
    }

    /// Its lives.
    pub fn life(&self, number: usize) -> Life {
        self.lives[number - 1].clone()
    }

    /// A process by name.
    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.iter_mut().find(|process| process.name == name).unwrap()
    }

    /// Starts what is to run and does not. Called again and again: what was killed may take its time to end.
    pub fn tend(&mut self) {
        for at in 0..self.processes.len() {
            let process = &mut self.processes[at];
            match process.need() {
                Need::Nothing => {}
                Need::Ended => {
                    let log = fs::read_to_string(&process.log).unwrap_or_default();
                    let last: Vec<_> = log.lines().rev().take(3).collect();
                    self.ended.push(format!("{} ended by itself: {last:?}", process.name));
                }
                Need::Start => self.start(at),
            }
        }
        for number in 1..=self.lives.len() {
            let life = self.lives[number - 1].clone();
            if life.load(Ordering::SeqCst) % 2 == 1 && self.mount_is_back(number) {
                life.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn start(&mut self, at: usize) {
        let (name, command) = (self.processes[at].name.clone(), self.processes[at].command.clone());
        let log = self.processes[at].log.clone();
        if name.starts_with("mount-") {
            // A dead mount stands there until it is taken away; a first one does not.
            let point = self.root().join(&name).join("point");
            let _ = rustix::mount::unmount(&point, UnmountFlags::DETACH);
        }
        let said = self.shell.run(&format!("{command} >> {} 2>&1 < /dev/null & echo $!", log.display()));
        self.processes[at].started(said.trim().parse().unwrap());
    }

    fn mount_is_back(&mut self, number: usize) -> bool {
        let point = self.mount_point(number);
        self.process(&format!("mount-{number}")).lives() && is_mounted(&point)
    }

    /// SIGKILL of a mount: who works on it is told first.
    pub fn kill_mount(&mut self, number: usize) {
        self.lives[number - 1].fetch_or(1, Ordering::SeqCst);
        self.process(&format!("mount-{number}")).kill();
    }

    /// `cairn …` on the operator's machine; `None` when it fails or takes too long.
    pub fn ask(&mut self, arguments: &str) -> Option<String> {
        self.ask_within(arguments, 20)
    }

    /// As `ask`, with other patience in seconds.
    pub fn ask_within(&mut self, arguments: &str, seconds: u64) -> Option<String> {
        let on = self.network.on(OPERATOR).join(" ");
        let (binary, masters) = (cairn_binary(), masters());
        let log = self.root().join("operator.log");
        self.shell.attempt(&format!(
            "timeout {seconds} {on} {} --masters {masters} {arguments} 2>> {}",
            binary.display(),
            log.display()
        ))
    }

    /// As `ask`, with `--json`.
    pub fn ask_json(&mut self, arguments: &str) -> Option<serde_json::Value> {
        serde_json::from_str(&self.ask(&format!("--json {arguments}"))?).ok()
    }

    /// Number of the master that leads, if one does.
    pub fn leader(&mut self) -> Option<u8> {
        let masters = self.ask_json("admin masters")?;
        let leads = |master: &&serde_json::Value| master["state"] == "leader";
        masters.as_array()?.iter().find(leads)?["id"].as_u64()?.try_into().ok()
    }

    /// Ends everything, in whatever state it is: whoever waits for a mount is let go.
    pub fn take_down(&mut self) {
        for number in 1..=self.lives.len() {
            self.kill_mount(number);
        }
        self.disks.iter().for_each(|disk| disk.faults().heal());
        self.processes.iter_mut().for_each(Process::kill);
        for number in 1..=self.lives.len() {
            let point = self.mount_point(number);
            // By force: calls that still wait for it fail.
            let how = UnmountFlags::DETACH | UnmountFlags::FORCE;
            if is_mounted(&point)
                && let Err(error) = rustix::mount::unmount(&point, how)
            {
                eprintln!("{} is left mounted: {error}", point.display());
            }
        }
        let deadline = Instant::now() + START_PATIENCE;
        while let Some(process) = self.processes.iter().find(|process| process.exists()) {
            if Instant::now() > deadline {
                eprintln!("{} does not end", process.name);
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeps the logs of a test that failed, and nothing else unless that was asked for.
    fn keep_logs(&mut self) {
        for process in &self.processes {
            print_log_end(&process.name, &fs::read_to_string(&process.log).unwrap_or_default());
        }
        self.root.disable_cleanup(true);
        eprintln!("the logs are kept in {}", self.root().display());
        if std::env::var_os("CAIRN_TEST_KEEP").is_none() {
            for number in MASTERS {
                drop(fs::remove_dir_all(self.root().join(format!("master-{number}")).join("data")));
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.take_down();
        if std::thread::panicking() {
            self.keep_logs();
        }
    }
}
