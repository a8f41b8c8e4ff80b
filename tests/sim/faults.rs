//! What befalls the hosts. One seed draws all of it.

use super::cluster::Cluster;
use super::hosts::{CHUNKSERVERS, CLIENTS, MASTERS, Machines, chunkserver, client, master};
use super::operator::{Orders, Replacing};
use cairn_core::chunk::replica_file::{ENTRY_BYTES, entry_at};
use cairn_core::journal::scan::stated_bytes;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::{Disk, DiskFile, OpenMode, read_small};
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::{Random, SeededRandom};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Every kind, in the order in which they are drawn.
pub(crate) const KINDS: [&str; 28] = [
    "crash of a master",
    "crash of a chunk server",
    "crash of a client",
    "crash of all masters",
    "crash of all chunk servers",
    "crash of all servers",
    "power cut between two writes",
    "pause of a master",
    "pause of a chunk server",
    "pause of a client",
    "pause of a master and a client apart",
    "host cut off",
    "pair cut off",
    "master cut off from masters",
    "one way cut off",
    "messages held back",
    "messages lost",
    "slow network",
    "wall clock jump",
    "clock at another speed",
    "bit rot",
    "bit rot in a journal",
    "unreadable bytes",
    "failed sync",
    "failed write",
    "full disk",
    "lost disk of a master",
    "master removed and another added",
];

/// The one chunk server whose stored bytes rot, and the one whose syncs fail: others must be enough.
pub(crate) const ROTTEN: u64 = 1;
pub(crate) const FAILING: u64 = 2;
/// So long after a master has got its vote everybody has heard of it.
const AFTER_A_LOSS: Duration = Duration::from_secs(10);
/// Clocks run apart by this much at the most, each way: with both ways together less than leases allow for.
const SPEED_PPM_MAX: i64 = 40_000;
/// A pause that outlasts the leader's read lease and an election, but hardly the patience of clients, shows the most.
const SHORT_PAUSE_MS: u64 = 1000;
const PAUSE_MS: u64 = 8000;
/// Files are no larger.
const BLOCKS_LOOKED_AT: usize = 128;
const SPEED_LASTS: Duration = Duration::from_secs(10);
/// One message in so many breaks its connection when messages are lost.
const LOST_OF: f64 = 400.0;
const EVER: Duration = Duration::from_secs(1 << 20);

/// What is to be undone, and when.
enum Undo {
    Start(String),
    Repair(String, String),
    Release(String, String),
    Latency,
    Loss,
    Continue(String),
    Speed(String),
    Capacity(String),
}

/// The faults of one run.
pub(crate) struct Faults {
    random: SeededRandom,
    machines: Machines,
    due: Vec<(Duration, Undo)>,
    orders: Orders,
    /// No master's disk is lost before: all that vote must have heard that the last one does.
    next_loss: Duration,
    pub(crate) hits: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub(crate) fn new(random: SeededRandom, machines: Machines, orders: Orders) -> Self {
        let (due, hits) = (Vec::new(), BTreeMap::new());
        Self { random, machines, due, orders, next_loss: Duration::ZERO, hits }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn some_host(&self) -> String {
        match self.below(MASTERS + CHUNKSERVERS + CLIENTS) {
            at if at < MASTERS => master(at + 1),
            at if at < MASTERS + CHUNKSERVERS => chunkserver(at - MASTERS + 1),
            at => client(at - MASTERS - CHUNKSERVERS + 1),
        }
    }

    fn hosts() -> impl Iterator<Item = String> {
        (1..=MASTERS).map(master).chain((1..=CHUNKSERVERS).map(chunkserver)).chain((1..=CLIENTS).map(client))
    }

    fn some_server(&self) -> String {
        match self.below(MASTERS + CHUNKSERVERS) {
            at if at < MASTERS => master(at + 1),
            at => chunkserver(at - MASTERS + 1),
        }
    }

    /// Draws a fault. Returns what it was, for the trace; nothing when it could not be.
    pub(crate) fn strike(&mut self, cluster: &mut Cluster<'_>) -> String {
        let until = cluster.elapsed() + Duration::from_millis(100 + self.below(3000));
        let kind = KINDS[self.below(KINDS.len() as u64) as usize];
        let struck = self.strike_process(kind, cluster, until)
            || self.strike_network(kind, cluster, until)
            || self.strike_hardware(kind, cluster, until);
        if !struck {
            return String::new();
        }
        *self.hits.entry(kind).or_default() += 1;
        kind.to_owned()
    }

    fn strike_process(&mut self, kind: &str, cluster: &mut Cluster<'_>, until: Duration) -> bool {
        match kind {
            "crash of a master" => {
                let host = master(1 + self.below(MASTERS));
                self.crash(cluster, &host, until);
            }
            "crash of a chunk server" => {
                let host = chunkserver(1 + self.below(CHUNKSERVERS));
                self.crash(cluster, &host, until);
            }
            "crash of a client" => {
                let host = client(1 + self.below(CLIENTS));
                self.crash(cluster, &host, until);
            }
            "crash of all masters" => (1..=MASTERS).for_each(|id| self.crash(cluster, &master(id), until)),
            "crash of all chunk servers" => {
                (1..=CHUNKSERVERS).for_each(|id| self.crash(cluster, &chunkserver(id), until));
            }
            "crash of all servers" => (1..=MASTERS)
                .map(master)
                .chain((1..=CHUNKSERVERS).map(chunkserver))
                .for_each(|host| self.crash(cluster, &host, until)),
            "power cut between two writes" => {
                let host = self.some_server();
                let disk = self.machines.disk(&host);
                disk.crash_after(disk.operations() + 1 + self.below(40));
                // Whatever the process makes of a disk that is gone, it has no longer than this.
                self.machines.cut_power(&host);
                self.due.push((cluster.elapsed() + Duration::from_millis(300), Undo::Start(host)));
            }
            "pause of a master" => return self.pause(cluster, master(1 + self.below(MASTERS))),
            "pause of a chunk server" => {
                return self.pause(cluster, chunkserver(1 + self.below(CHUNKSERVERS)));
            }
            "pause of a client" => return self.pause(cluster, client(1 + self.below(CLIENTS))),
            "pause of a master and a client apart" => return self.pause_apart(cluster),
            _ => return false,
        }
        true
    }

    /// SIGSTOP, and SIGCONT later. Whoever is down cannot be stopped.
    fn pause(&mut self, cluster: &mut Cluster<'_>, host: String) -> bool {
        let most = if self.below(2) == 0 { SHORT_PAUSE_MS } else { PAUSE_MS };
        let until = cluster.elapsed() + Duration::from_millis(50 + self.below(most - 50));
        let stopped = cluster.stop(&host, true);
        self.due.push((until, Undo::Continue(host)));
        stopped
    }

    /// A master and a client are stopped together and cut off from everybody else, for longer than any lease; for a while after they go
    /// on they hear only each other.
    fn pause_apart(&mut self, cluster: &mut Cluster<'_>) -> bool {
        let pair = [master(1 + self.below(MASTERS)), client(1 + self.below(CLIENTS))];
        let awake = cluster.elapsed() + Duration::from_millis(3000 + self.below(2000));
        let heard = awake + Duration::from_millis(100 + self.below(1000));
        let stopped = pair.iter().filter(|host| cluster.stop(host, true)).count();
        for host in &pair {
            self.due.push((awake, Undo::Continue(host.clone())));
            for peer in Self::hosts().filter(|peer| !pair.contains(peer)) {
                cluster.network.partition(host.as_str(), peer.as_str());
                self.due.push((heard, Undo::Repair(host.clone(), peer)));
            }
        }
        stopped == pair.len()
    }

    fn strike_network(&mut self, kind: &str, cluster: &mut Cluster<'_>, until: Duration) -> bool {
        let (host, other) = (self.some_host(), self.some_host());
        match kind {
            "host cut off" => Self::hosts().filter(|peer| *peer != host).for_each(|peer| {
                cluster.network.partition(host.as_str(), peer.as_str());
                self.due.push((until, Undo::Repair(host.clone(), peer)));
            }),
            "pair cut off" if host != other => {
                cluster.network.partition(host.as_str(), other.as_str());
                self.due.push((until, Undo::Repair(host, other)));
            }
            "master cut off from masters" => {
                let host = master(1 + self.below(MASTERS));
                for peer in (1..=MASTERS).map(master).filter(|peer| *peer != host) {
                    cluster.network.partition(host.as_str(), peer.as_str());
                    self.due.push((until, Undo::Repair(host.clone(), peer)));
                }
            }
            "one way cut off" if host != other => {
                cluster.network.partition_oneway(host.as_str(), other.as_str());
                self.due.push((until, Undo::Repair(host, other)));
            }
            "messages held back" => Self::hosts().filter(|peer| *peer != host).for_each(|peer| {
                cluster.network.hold(host.as_str(), peer.as_str());
                self.due.push((until, Undo::Release(host.clone(), peer)));
            }),
            "messages lost" => {
                cluster.network.set_fail_rate(1.0 / LOST_OF);
                self.due.push((until, Undo::Loss));
            }
            "slow network" => {
                cluster.network.set_max_message_latency(Duration::from_millis(10 + self.below(200)));
                self.due.push((until, Undo::Latency));
            }
            _ => return false,
        }
        true
    }

    fn strike_hardware(&mut self, kind: &str, cluster: &mut Cluster<'_>, until: Duration) -> bool {
        match kind {
            "wall clock jump" => {
                let by_ms = self.below(7_200_000) as i64 - 3_600_000;
                self.machines.jump_wall(&self.some_host(), by_ms);
                true
            }
            "clock at another speed" => {
                let host = self.some_host();
                let speed = self.below(2 * SPEED_PPM_MAX as u64 + 1) as i64 - SPEED_PPM_MAX;
                self.machines.set_speed_ppm(&host, speed);
                self.due.push((until + SPEED_LASTS, Undo::Speed(host)));
                true
            }
            "bit rot" => self.rot(),
            "bit rot in a journal" => self.rot_journal(cluster, until),
            "unreadable bytes" => self.lose_bytes(),
            "failed sync" | "failed write" => {
                let (host, file) = match self.below(2) {
                    0 => (master(1 + self.below(MASTERS)), ".journal"),
                    _ => (chunkserver(FAILING), "/disk"),
                };
                let (disk, nth) = (self.machines.disk(&host), 1 + self.below(5));
                match kind {
                    "failed sync" => disk.fail_sync(file, nth),
                    _ => disk.fail_write(file, nth),
                }
                self.due.push((until, Undo::Start(host)));
                true
            }
            "full disk" => {
                let host = self.some_server();
                let disk = self.machines.disk(&host);
                let used = disk.space(Path::new("/")).map_or(0, |space| space.total - space.free);
                disk.set_capacity(used + self.below(1 << 20));
                self.due.push((until, Undo::Capacity(host)));
                true
            }
            "lost disk of a master" => self.lose_disk(cluster),
            "master removed and another added" => self.exchange(cluster),
            _ => false,
        }
    }

    /// One at a time, and not before all have heard that the last one votes again.
    fn may_lose_a_master(&self, cluster: &Cluster<'_>) -> bool {
        *self.orders.lock().unwrap() == Replacing::Nobody && cluster.elapsed() >= self.next_loss
    }

    fn lose_disk(&mut self, cluster: &mut Cluster<'_>) -> bool {
        let id = 1 + self.below(MASTERS);
        let may = self.may_lose_a_master(cluster);
        if may {
            self.empty(cluster, id);
            *self.orders.lock().unwrap() = Replacing::Asked(id);
        }
        may
    }

    /// A master leaves the group in order; then one with an empty disk comes in its place.
    fn exchange(&mut self, cluster: &Cluster<'_>) -> bool {
        let id = 1 + self.below(MASTERS);
        let may = self.may_lose_a_master(cluster);
        if may {
            *self.orders.lock().unwrap() = Replacing::Leaving(id);
        }
        may
    }

    fn empty(&mut self, cluster: &mut Cluster<'_>, id: u64) {
        self.due.retain(|(_, undo)| !matches!(undo, Undo::Start(host) if *host == master(id)));
        cluster.crash(&master(id));
        self.machines.lose_disk(&master(id));
    }

    /// A master whose disk is lost stays down until there is a place for a new one.
    fn is_lost(&self, host: &str) -> bool {
        match *self.orders.lock().unwrap() {
            Replacing::Asked(id) | Replacing::Missed(id) | Replacing::Awaited(id) => master(id) == host,
            Replacing::Nobody
            | Replacing::Leaving(_)
            | Replacing::Left(_)
            | Replacing::Rotten(_)
            | Replacing::Joining(_) => false,
        }
    }

    fn crash(&mut self, cluster: &mut Cluster<'_>, host: &str, until: Duration) {
        if self.is_lost(host) {
            return;
        }
        self.machines.cut_power(host);
        cluster.crash(host);
        self.due.push((until, Undo::Start(host.to_owned())));
    }

    /// Flips a bit of every replica on one chunk server, of a block or of its checksum. Nothing may be stored yet.
    fn rot(&self) -> bool {
        let disk = self.machines.disk(&chunkserver(ROTTEN));
        let flip = |(file, blocks): &(PathBuf, Vec<u32>)| {
            let block = blocks[self.below(blocks.len() as u64) as usize];
            let at = match self.below(4) {
                0 => entry_at(block) + self.below(4),
                _ => u64::from(block) * BLOCK_BYTES + self.below(BLOCK_BYTES),
            };
            disk.flip_bit(file, at, self.below(8) as u8).is_ok()
        };
        stored_blocks(&disk).iter().filter(|file| flip(file)).count() > 0
    }

    /// A bit of a master's journal turns while the master is down: of something that the journal states to be synced, since what
    /// comes after cannot be told from a torn end (I12).
    fn rot_journal(&mut self, cluster: &mut Cluster<'_>, until: Duration) -> bool {
        let id = 1 + self.below(MASTERS);
        if !self.may_lose_a_master(cluster) {
            return false;
        }
        let host = master(id);
        self.crash(cluster, &host, until);
        let disk = self.machines.left_by_power_cut(&host);
        let mut files = segments(&disk);
        if files.is_empty() {
            return false;
        }
        let (file, stated) = files.swap_remove(self.below(files.len() as u64) as usize);
        *self.orders.lock().unwrap() = Replacing::Rotten(id);
        disk.flip_bit(&file, self.below(stated), self.below(8) as u8).is_ok()
    }

    /// A block of a replica can be read no more.
    fn lose_bytes(&self) -> bool {
        let disk = self.machines.disk(&chunkserver(ROTTEN));
        let files = stored_blocks(&disk);
        if files.is_empty() {
            return false;
        }
        let (file, blocks) = &files[self.below(files.len() as u64) as usize];
        let from = u64::from(blocks[self.below(blocks.len() as u64) as usize]) * BLOCK_BYTES;
        disk.fail_reads(file, from..from + 512).is_ok()
    }

    /// Undoes what is due; at the end everything.
    pub(crate) fn heal(&mut self, cluster: &mut Cluster<'_>, all: bool) {
        let now = if all { EVER } else { cluster.elapsed() };
        let (due, later): (Vec<_>, Vec<_>) = self.due.drain(..).partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, undo) in due {
            match undo {
                Undo::Start(host) if self.is_lost(&host) => {}
                Undo::Start(host) => {
                    self.machines.cut_power(&host);
                    cluster.start(&host);
                }
                Undo::Repair(a, b) => {
                    cluster.network.repair(a.as_str(), b.as_str());
                }
                Undo::Release(a, b) => cluster.network.release(a.as_str(), b.as_str()),
                Undo::Latency => cluster.network.set_max_message_latency(super::run::LATENCY_MAX),
                Undo::Loss => cluster.network.set_fail_rate(0.0),
                Undo::Continue(host) => drop(cluster.stop(&host, false)),
                Undo::Speed(host) => self.machines.set_speed_ppm(&host, 0),
                Undo::Capacity(host) => self.machines.disk(&host).set_capacity(u64::MAX / 2),
            }
        }
    }

    /// Processes that have ended by themselves are started again, as by a supervisor.
    pub(crate) fn supervise(&mut self, cluster: &mut Cluster<'_>) {
        let orders = *self.orders.lock().unwrap();
        match orders {
            Replacing::Awaited(id) => {
                *self.orders.lock().unwrap() = Replacing::Joining(id);
                self.due.push((cluster.elapsed(), Undo::Start(master(id))));
            }
            Replacing::Left(id) => {
                self.empty(cluster, id);
                *self.orders.lock().unwrap() = Replacing::Missed(id);
            }
            Replacing::Rotten(id) if cluster.is_up(&master(id)) => {
                *self.orders.lock().unwrap() = Replacing::Joining(id);
            }
            Replacing::Asked(_)
            | Replacing::Leaving(_)
            | Replacing::Missed(_)
            | Replacing::Rotten(_)
            | Replacing::Joining(_) => {
                self.next_loss = cluster.elapsed() + AFTER_A_LOSS;
            }
            Replacing::Nobody => {}
        }
        for host in self.machines.take_ended() {
            let waits = self.due.iter().any(|(_, undo)| matches!(undo, Undo::Start(name) if *name == host));
            if !waits {
                let at = cluster.elapsed() + Duration::from_millis(50 + self.below(500));
                self.due.push((at, Undo::Start(host)));
            }
        }
    }
}

/// Segments of the journal on a master's disk, with the bytes of each that are stated to be synced.
fn segments(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let directory = Path::new("/data/journal");
    let items = disk.list(directory).unwrap_or_default();
    let files = items.into_iter().map(|item| directory.join(item.name));
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "journal"))
        .filter_map(|file| {
            let stated = stated_bytes(&read_small(disk, &file, u64::MAX).ok()?);
            Some((file, stated))
        })
        .collect()
}

/// Replicas on a chunk server's disk, with the first of the blocks that stand in each; only those with any.
fn stored_blocks(disk: &SimDisk) -> Vec<(PathBuf, Vec<u32>)> {
    let (mut files, mut stack) = (Vec::new(), vec![PathBuf::from("/disk/chunks")]);
    while let Some(directory) = stack.pop() {
        for item in disk.list(&directory).unwrap_or_default() {
            let path = directory.join(&item.name);
            if item.is_dir {
                stack.push(path);
                continue;
            }
            let mut table = [0; BLOCKS_LOOKED_AT * ENTRY_BYTES];
            let read = |file: Arc<dyn DiskFile>| file.read_at(&mut table, entry_at(0));
            let Ok(_) = disk.open(&path, OpenMode::Read).and_then(read) else { continue };
            let entries = (0..).zip(table.chunks(ENTRY_BYTES));
            let blocks: Vec<u32> =
                entries.filter(|(_, entry)| entry.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect();
            if !blocks.is_empty() {
                files.push((path, blocks));
            }
        }
    }
    files
}
