//! A cluster with each master, and each mount, on a machine of its own.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

use crate::cluster::{cairn_binary, print_log_end, test_dir};
use crate::network::{Host, Network, address};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Machines of the masters; their numbers are the masters' own.
pub const MASTERS: [Host; 3] = [1, 2, 3];
/// Machine of all chunk servers.
pub const CHUNKSERVERS: Host = 4;
/// Machines of the mounts.
pub const MOUNTS: [Host; 2] = [5, 6];
const MASTER_PORT: u16 = 9400;
/// Replicas of each chunk.
const REPLICAS: u16 = 2;

/// The cluster. Dropping it stops everything, in whatever state it is.
pub struct Spread {
    /// What joins its machines.
    pub network: Network,
    root: TempDir,
    processes: Vec<(String, Child)>,
    mounts: Vec<PathBuf>,
}

/// Every machine that is not one of these.
pub fn all_but(some: &[Host]) -> Vec<Host> {
    let all = MASTERS.into_iter().chain([CHUNKSERVERS]).chain(MOUNTS);
    all.filter(|host| !some.contains(host)).collect()
}

fn masters() -> Vec<String> {
    MASTERS.into_iter().map(|host| format!("{}:{MASTER_PORT}", address(host))).collect()
}

impl Spread {
    /// Starts everything and waits until both mounts are usable.
    pub fn up() -> Self {
        let hosts = all_but(&[]);
        let mut cluster = Self {
            network: Network::new(&hosts),
            root: test_dir(),
            processes: Vec::new(),
            mounts: Vec::new(),
        };
        let group = uuid::Uuid::new_v4();
        MASTERS.into_iter().for_each(|host| cluster.start_master(host, group));
        (1..=3).for_each(|number| cluster.start_chunkserver(number));
        MOUNTS.into_iter().for_each(|host| cluster.start_mount(host));
        cluster
    }

    /// The mount points.
    pub fn mounts(&self) -> &[PathBuf] {
        &self.mounts
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.path().join(name).join("log")
    }

    fn launch(&mut self, name: &str, host: Host, arguments: &[&str]) {
        let [enter, network] = self.network.on(host);
        let log = File::create(self.log(name)).unwrap();
        let mut command = Command::new(enter);
        command.arg(network).arg(cairn_binary()).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.processes.push((name.to_owned(), command.spawn().unwrap()));
    }

    fn start_service(&mut self, verb: &str, name: &str, host: Host, config: &str) {
        let directory = self.root.path().join(name);
        fs::create_dir(&directory).unwrap();
        let file = directory.join("config.toml");
        fs::write(&file, config).unwrap();
        self.launch(name, host, &[verb, "--config", file.to_str().unwrap()]);
    }

    fn start_master(&mut self, host: Host, group: uuid::Uuid) {
        let (name, own) = (format!("master-{host}"), address(host));
        let members = masters().into_iter().zip(MASTERS).map(|(master, id)| format!("{id}={master}"));
        let config = format!(
            "data_dir = {:?}\nlisten = \"{own}:{MASTER_PORT}\"\nhttp_listen = \"{own}:0\"\nnode_id = {host}\n\
             members = {:?}\ncluster = \"{group}\"\ndefault_replicas = {REPLICAS}\n",
            self.root.path().join(&name).join("data"),
            members.collect::<Vec<_>>(),
        );
        self.start_service("master", &name, host, &config);
    }

    fn start_chunkserver(&mut self, number: u16) {
        let (name, own) = (format!("chunkserver-{number}"), address(CHUNKSERVERS));
        let config = format!(
            "masters = {:?}\nlisten = \"{own}:{}\"\nhttp_listen = \"{own}:0\"\n\n[[disks]]\npath = {:?}\n",
            masters(),
            9410 + number,
            self.root.path().join(&name).join("disk"),
        );
        self.start_service("chunkserver", &name, CHUNKSERVERS, &config);
    }

    fn start_mount(&mut self, host: Host) {
        let name = format!("mount-{host}");
        let point = self.root.path().join(&name).join("point");
        fs::create_dir_all(&point).unwrap();
        self.mounts.push(point.clone());
        self.launch(&name, host, &["mount", &masters().join(","), point.to_str().unwrap(), "--foreground"]);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_mounted(&point) || fs::write(point.join(&name), "here").is_err() {
            assert!(Instant::now() < deadline, "{name} does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Number of the master that leads, as a client sees it. Waits until one does.
    pub fn leader(&mut self) -> Host {
        let on = self.network.on(MOUNTS[0]).join(" ");
        let line = format!(
            "{on} {} --masters {} --json admin masters 2>&1",
            cairn_binary().display(),
            masters().join(",")
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.network.shell().attempt(&line).unwrap_or_default();
            if let Some(leader) = leader_of(&said) {
                return leader;
            }
            assert!(Instant::now() < deadline, "nobody leads: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn leader_of(masters: &str) -> Option<Host> {
    let masters: serde_json::Value = serde_json::from_str(masters).ok()?;
    let leads = |master: &&serde_json::Value| master["state"] == "leader";
    masters.as_array()?.iter().find(leads)?["id"].as_u64()?.try_into().ok()
}

/// Whether something is mounted there. Asks the kernel's table, which waits for no mount.
pub fn is_mounted(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}

impl Drop for Spread {
    fn drop(&mut self) {
        // Mounts first, and at once: whoever waits for one of them then gets an error, and this process can fork.
        for (_, process) in self.processes.iter_mut().rev() {
            drop(process.kill());
        }
        for (name, process) in self.processes.iter_mut().rev() {
            if let Err(error) = process.wait() {
                eprintln!("{name}: {error}");
            }
        }
        for point in self.mounts.iter().filter(|point| is_mounted(point)) {
            if let Err(error) = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH) {
                eprintln!("{} is left mounted: {error}", point.display());
            }
        }
        if std::thread::panicking() {
            for (name, _) in &self.processes {
                print_log_end(name, &fs::read_to_string(self.log(name)).unwrap_or_default());
            }
            if std::env::var_os("CAIRN_TEST_KEEP").is_some() {
                self.root.disable_cleanup(true);
                eprintln!("kept {}", self.root.path().display());
            }
        }
    }
}
