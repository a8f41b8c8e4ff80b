//! The hosts of a simulated cluster: the real servers on simulated disks, clocks and sockets.

use super::kernel::KernelNet;
use crate::turmoil_net::simulated_env_with;
use cairn_chunkserver::ChunkServerConfig;
use cairn_chunkserver::config::DiskSetting;
use cairn_client::ConnectOptions;
use cairn_core::namespace::request::{Credentials, PermissionCheck};
use cairn_core::time::{Tick, Timestamp};
use cairn_env::Env;
use cairn_env::clock::Clock;
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::{Random, SeededRandom};
use cairn_master::{MasterConfig, StateStore};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many of each.
pub(crate) const MASTERS: u64 = 3;
pub(crate) const CHUNKSERVERS: u64 = 5;
pub(crate) const CLIENTS: u64 = 3;
const CONTROL: u16 = 7000;
const HTTP: u16 = 7001;
const DATA: u16 = 7002;
const CLUSTER: &str = "6a3f2b1c-0000-4000-8000-00000000ca1b";

pub(crate) fn master(id: u64) -> String {
    format!("master-{id}")
}

pub(crate) fn chunkserver(id: u64) -> String {
    format!("chunkserver-{id}")
}

pub(crate) fn client(id: u64) -> String {
    format!("client-{id}")
}

/// `host:port` of a master.
pub(crate) fn address(id: u64) -> String {
    format!("{}:{CONTROL}", master(id))
}

/// Those of all masters.
pub(crate) fn masters() -> Vec<String> {
    (1..=MASTERS).map(address).collect()
}

/// The time of the simulated world, to the tick: what nobody in it can see. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct WorldClock(Arc<AtomicU64>);

impl WorldClock {
    pub(crate) fn set(&self, elapsed: Duration) {
        self.0.store(elapsed.as_micros() as u64, Ordering::Relaxed);
    }

    /// Microseconds since the beginning.
    pub(crate) fn micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A host's clocks: ticks since long before it started, at its own speed, and a wall that jumps.
struct HostClock {
    start: tokio::time::Instant,
    world: WorldClock,
    wall_offset_ms: Arc<AtomicI64>,
}

/// Ticks at a start: 0 means "never" to some.
const UPTIME: Duration = Duration::from_secs(1000);

impl Clock for HostClock {
    fn now(&self) -> Tick {
        Tick(UPTIME + self.start.elapsed())
    }

    fn wall(&self) -> Timestamp {
        let elapsed = (self.world.micros() / 1000) as i64;
        let millis = 1_700_000_000_000 + elapsed + self.wall_offset_ms.load(Ordering::Relaxed);
        Timestamp { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as u32 }
    }
}

/// What outlives a host's process.
struct Hardware {
    disk: SimDisk,
    wall_offset_ms: Arc<AtomicI64>,
    /// How much faster its monotonic clock runs than it should.
    speed_ppm: i64,
    starts: u64,
    /// It was cut off since its last start: only what was synced is there.
    crashed: bool,
    /// Its process has ended by itself.
    ended: bool,
}

/// The disks and clocks of all hosts. Clones share them.
#[derive(Clone)]
pub(crate) struct Machines {
    seed: u64,
    clock: WorldClock,
    hosts: Arc<Mutex<BTreeMap<String, Hardware>>>,
}

impl Machines {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, clock: WorldClock::default(), hosts: Arc::default() }
    }

    /// Runs something on a host's hardware.
    fn with<T>(&self, host: &str, act: impl FnOnce(&mut Hardware) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap();
        let new = || Hardware {
            disk: SimDisk::new(),
            wall_offset_ms: Arc::default(),
            speed_ppm: 0,
            starts: 0,
            crashed: false,
            ended: false,
        };
        act(hosts.entry(host.to_owned()).or_insert_with(new))
    }

    /// A host starts: what a crash has left of its disk is what it has. Returns the seed of this life of it.
    pub(crate) fn power_on(&self, host: &str) -> u64 {
        let name: u64 =
            host.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.with(host, |hardware| {
            hardware.starts += 1;
            hardware.ended = false;
            let seed = name.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(hardware.starts);
            if std::mem::take(&mut hardware.crashed) {
                hardware.disk = hardware.disk.crash_image(seed);
            }
            seed
        })
    }

    /// The doors of a process that starts now. Called within it.
    pub(crate) fn boot(&self, host: &str, seed: u64, net: KernelNet) -> Env {
        let world = self.clock.clone();
        self.with(host, |hardware| {
            let start = tokio::time::Instant::now();
            let clock = HostClock { start, world, wall_offset_ms: Arc::clone(&hardware.wall_offset_ms) };
            let env = simulated_env_with(Arc::new(clock), seed, hardware.disk.clone());
            Env { net: Arc::new(net), ..env }
        })
    }

    /// The time of the world.
    pub(crate) fn clock(&self) -> &WorldClock {
        &self.clock
    }

    /// How much faster a host's monotonic clock runs than it should.
    pub(crate) fn speed_ppm(&self, host: &str) -> i64 {
        self.with(host, |hardware| hardware.speed_ppm)
    }

    /// A host's monotonic clock runs at another speed from now on.
    pub(crate) fn set_speed_ppm(&self, host: &str, speed_ppm: i64) {
        self.with(host, |hardware| hardware.speed_ppm = speed_ppm);
    }

    /// Hosts whose process has ended by itself since the last call.
    pub(crate) fn take_ended(&self) -> Vec<String> {
        let mut hosts = self.hosts.lock().unwrap();
        let ended = |(host, hardware): (&String, &mut Hardware)| {
            std::mem::take(&mut hardware.ended).then(|| host.clone())
        };
        hosts.iter_mut().filter_map(ended).collect()
    }

    /// A process has ended by itself. It stays down until somebody starts it again.
    fn note_end(&self, host: &str, ended: Result<(), String>) {
        tracing::info!(host, ?ended, "process has ended");
        self.with(host, |hardware| hardware.ended = true);
    }

    /// The power of a host is cut.
    pub(crate) fn cut_power(&self, host: &str) {
        self.with(host, |hardware| hardware.crashed = true);
    }

    /// The power of a host was cut: what that has left of its disk.
    pub(crate) fn left_by_power_cut(&self, host: &str) -> SimDisk {
        self.with(host, |hardware| {
            hardware.crashed = false;
            hardware.disk = hardware.disk.crash_image(hardware.starts);
            hardware.disk.clone()
        })
    }

    /// A host's disk is exchanged for an empty one.
    pub(crate) fn lose_disk(&self, host: &str) {
        self.with(host, |hardware| hardware.disk = SimDisk::new());
    }

    /// A host's disk as it is now.
    pub(crate) fn disk(&self, host: &str) -> SimDisk {
        self.with(host, |hardware| hardware.disk.clone())
    }

    /// A host's wall clock jumps.
    pub(crate) fn jump_wall(&self, host: &str, by_ms: i64) {
        self.with(host, |hardware| hardware.wall_offset_ms.fetch_add(by_ms, Ordering::Relaxed));
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// A master's process.
pub(crate) async fn run_master(env: Env, machines: Machines, id: u64) {
    let config = MasterConfig {
        data_dir: PathBuf::from("/data"),
        listen: any(CONTROL),
        advertise: address(id),
        http_listen: any(HTTP),
        node_id: id,
        members: masters()
            .into_iter()
            .zip(1..)
            .map(|(address, id): (_, u64)| format!("{id}={address}"))
            .collect(),
        cluster: CLUSTER.to_owned(),
        store: StateStore::Memory,
        ..MasterConfig::default()
    };
    let ended = cairn_master::run(env, config, CancellationToken::new()).await;
    machines.note_end(&master(id), ended.map_err(|error| error.to_string()));
}

/// A chunk server's process.
pub(crate) async fn run_chunkserver(env: Env, machines: Machines, id: u64) {
    let config = ChunkServerConfig {
        masters: masters(),
        listen: any(DATA),
        advertise: format!("{}:{DATA}", chunkserver(id)),
        http_listen: any(HTTP),
        disks: vec![DiskSetting { path: PathBuf::from("/disk"), capacity_mib: 0, reserve_mib: 0 }],
        ..ChunkServerConfig::default()
    };
    let ended = cairn_chunkserver::run(env, config, CancellationToken::new()).await;
    machines.note_end(&chunkserver(id), ended.map_err(|error| error.to_string()));
}

/// What a client connects with.
pub(crate) fn connect_options(id: u64) -> ConnectOptions {
    ConnectOptions {
        masters: masters(),
        description: client(id),
        memory_budget_bytes: 16 << 20,
        connect_deadline: Duration::from_secs(60),
        ..ConnectOptions::default()
    }
}

/// A stream of random numbers for one purpose.
pub(crate) fn random(seed: u64, purpose: u64) -> SeededRandom {
    let mixed = SeededRandom::new(seed ^ purpose.wrapping_mul(0xD134_2543_DE82_EF95));
    SeededRandom::new(mixed.next_u64())
}

/// Who the clients act as. What a client has heard it believes only of callers that a kernel has checked.
pub(crate) fn root(caches: bool) -> Credentials {
    let check = if caches { PermissionCheck::Kernel } else { PermissionCheck::Master };
    Credentials { uid: 0, gid: 0, groups: Vec::new(), check }
}
