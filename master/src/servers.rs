//! The chunk servers as this master hears them: connections, heartbeats, disks. In memory only; the state knows the rest.

use crate::link::Link;
use cairn_core::cluster::disk_health::DiskPace;
use cairn_core::cluster::failure_detector::{Listener, Presence};
use cairn_core::cluster::witness::Witnesses;
use cairn_core::cluster::{ClusterView, Labels, ServerHealth, ServerView};
use cairn_core::ids::{ChunkId, DiskId, NodeId, ServerId, SessionId};
use cairn_core::limits::{DISK_TYPICAL_PERIOD, OBSERVER_PAUSE, SERVER_DISKS_MAX};
use cairn_core::namespace::work::{DrainedDisk, Draining, ServerRecord};
use cairn_core::time::Tick;
use cairn_core::units::CHUNK_BYTES;
use cairn_proto::v1::{DiskState, DiskStatus, Heartbeat};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// With fewer steady servers that have room on quick disks, the others count: copies are worth more than pace.
const GOOD_SERVERS_MIN: usize = 3;

/// Every chunk server of the cluster.
pub(crate) struct Servers {
    table: Mutex<BTreeMap<ServerId, Server>>,
    dead_after: Duration,
    watch: Mutex<Watch>,
    typical: Mutex<(Tick, DiskPace)>,
    witnesses: Mutex<Witnesses>,
    /// Disks that are to be emptied, as the state has it.
    disk_drains: Mutex<BTreeMap<ServerId, DiskDrains>>,
}

/// Of one server, since when and of how much.
pub(crate) type DiskDrains = BTreeMap<DiskId, Draining>;

/// This master's own presence: whoever was not there to listen cannot tell that others were silent.
#[derive(Default)]
struct Watch {
    looked: Tick,
    /// Silence counts from here on.
    since: Tick,
}

impl Watch {
    fn look(&mut self, now: Tick) -> Tick {
        if now.since(self.looked) > OBSERVER_PAUSE {
            self.since = now;
        }
        self.looked = now;
        self.since
    }
}

struct Server {
    node: NodeId,
    data_address: String,
    http_address: String,
    link: Option<Arc<Link>>,
    presence: Presence,
    disks: Vec<DiskStatus>,
    load: u64,
    corrupt_blocks: u64,
    draining: Option<Draining>,
    labels: Arc<Labels>,
}

/// One server for `admin servers`.
#[derive(Clone, Debug)]
pub(crate) struct ServerReport {
    pub(crate) server: ServerId,
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) health: ServerHealth,
    pub(crate) silent: Option<Duration>,
    pub(crate) connected: bool,
    pub(crate) disks: Vec<DiskStatus>,
    pub(crate) draining: Option<Draining>,
    pub(crate) labels: Arc<Labels>,
    pub(crate) disk_drains: DiskDrains,
}

impl ServerReport {
    /// Since when a disk is being emptied, if it is.
    pub(crate) fn drains(&self, disk: &DiskStatus) -> Option<Draining> {
        self.disk_drains.get(&disk_id(disk)).copied()
    }
}

/// The disk's identity; nil: its server could not read it.
pub(crate) fn disk_id(disk: &DiskStatus) -> DiskId {
    DiskId(uuid::Uuid::from_slice(&disk.disk).unwrap_or_default())
}

impl Servers {
    /// Nobody yet. Who is silent for `dead_after` is dead.
    pub(crate) fn new(dead_after: Duration) -> Self {
        Self {
            table: Mutex::default(),
            dead_after,
            watch: Mutex::default(),
            typical: Mutex::default(),
            witnesses: Mutex::default(),
            disk_drains: Mutex::default(),
        }
    }

    /// Takes over what the state knows, all of it, at the start of a leader. Who is connected to this master already stays so,
    /// and who was is silent since then.
    pub(crate) fn load(&self, records: Vec<ServerRecord>, now: Tick) {
        let mut table = self.locked();
        let recorded: BTreeSet<ServerId> = records.iter().map(|record| record.server).collect();
        table.retain(|server, known| recorded.contains(server) || known.link.is_some());
        for record in records {
            let server = record.server;
            if let Some(known) = table.get_mut(&server) {
                known.draining = record.draining;
                if known.link.is_none() {
                    known.data_address = record.data_address;
                    known.http_address = record.http_address;
                    known.labels = Arc::new(record.labels);
                }
                continue;
            }
            table.insert(server, Server::of(record, now));
        }
    }

    /// A server has registered. A former connection of it is closed: the newest is the one that counts.
    pub(crate) fn connected(&self, record: ServerRecord, disks: Vec<DiskStatus>, link: Arc<Link>, now: Tick) {
        let id = record.server;
        let mut table = self.locked();
        let before = table.remove(&id);
        let mut presence =
            before.as_ref().map_or_else(|| Presence::known(now), |before| before.presence.clone());
        presence.connected(now);
        let server = Server { link: Some(link), presence, disks: bounded(disks), ..Server::of(record, now) };
        table.insert(id, server);
        if let Some(link) = before.and_then(|before| before.link) {
            link.close();
        }
    }

    /// Whether `server` is to be emptied, as the state has it from now on.
    pub(crate) fn set_draining(&self, server: ServerId, draining: Option<Draining>) {
        if let Some(known) = self.locked().get_mut(&server) {
            known.draining = draining;
        }
    }

    /// Disks that are to be emptied, all of them, at the start of a leader.
    pub(crate) fn load_disk_drains(&self, records: Vec<DrainedDisk>) {
        let mut drains = self.disk_drains();
        drains.clear();
        for DrainedDisk { server, disk, draining } in records {
            drains.entry(server).or_default().insert(disk, draining);
        }
    }

    /// Whether a disk is to be emptied, as the state has it from now on.
    pub(crate) fn set_disk_draining(&self, server: ServerId, disk: DiskId, draining: Option<Draining>) {
        let mut drains = self.disk_drains();
        let of_server = drains.entry(server).or_default();
        match draining {
            Some(draining) => drop(of_server.insert(disk, draining)),
            None => drop(of_server.remove(&disk)),
        }
    }

    /// Which disks of `server` are to be emptied.
    pub(crate) fn disk_drains_of(&self, server: ServerId) -> DiskDrains {
        self.disk_drains().get(&server).cloned().unwrap_or_default()
    }

    /// `server` is no more.
    pub(crate) fn removed(&self, server: ServerId) {
        self.disk_drains().remove(&server);
        if let Some(link) = self.locked().remove(&server).and_then(|known| known.link) {
            link.close();
        }
    }

    /// The connection has ended, unless a later one has taken its place. True when it was the present one.
    pub(crate) fn disconnected(&self, link: &Arc<Link>, now: Tick) -> bool {
        link.close();
        let mut table = self.locked();
        let Some(server) = table.get_mut(&link.server) else { return false };
        let is_present = server.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link));
        if is_present {
            server.link = None;
            server.presence.disconnected(now);
        }
        is_present
    }

    /// A heartbeat over `link`. Returns how many corrupt blocks it has found since the last one.
    pub(crate) fn heartbeat(&self, link: &Arc<Link>, heartbeat: Heartbeat, now: Tick) -> u64 {
        let listener = self.listener(now);
        let mut table = self.locked();
        let Some(server) = table.get_mut(&link.server) else { return 0 };
        if !server.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link)) {
            return 0;
        }
        server.presence.heard(now, listener);
        if !heartbeat.disks.is_empty() {
            server.disks = bounded(heartbeat.disks);
        }
        server.load = heartbeat.requests_in_flight;
        let found = heartbeat.corrupt_blocks_found.saturating_sub(server.corrupt_blocks);
        server.corrupt_blocks = heartbeat.corrupt_blocks_found;
        found
    }

    /// What the disks of the cluster usually take: what a chunk server holds its own against.
    pub(crate) fn typical_pace(&self, now: Tick) -> DiskPace {
        let mut typical = self.typical.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(typical.0) >= DISK_TYPICAL_PERIOD {
            let micros = |number| Duration::from_micros(u64::from(number));
            let pace =
                |disk: &DiskStatus| DiskPace { read: micros(disk.read_us), sync: micros(disk.sync_us) };
            let table = self.locked();
            let connected = table.values().filter(|server| server.link.is_some());
            let known: Vec<DiskPace> = connected.flat_map(|server| server.disks.iter().map(pace)).collect();
            *typical = (now, DiskPace::typical(&known));
        }
        typical.1
    }

    /// What the disks of each server allow to copies, the most of them: a server has copies at a time for its quickest.
    pub(crate) fn copy_shares(&self) -> BTreeMap<ServerId, u32> {
        let told = |disk: &DiskStatus| Some(disk.copy_share).filter(|&share| share > 0);
        let table = self.locked();
        let most =
            |(&id, server): (&ServerId, &Server)| Some((id, server.disks.iter().filter_map(told).max()?));
        table.iter().filter_map(most).collect()
    }

    /// A client could not reach `server`: it gets no new chunks until it is heard of again or its silence shows.
    pub(crate) fn distrust(&self, server: ServerId, now: Tick) {
        if let Some(server) = self.locked().get_mut(&server) {
            server.presence.distrusted(now);
        }
    }

    /// `by` finds the server at `address` slow or cannot reach it: it gets no new chunks for a while if others agree.
    pub(crate) fn doubt(&self, address: &str, by: SessionId, now: Tick) {
        let listener = self.listener(now);
        let mut table = self.locked();
        let Some((&id, server)) = table.iter_mut().find(|(_, server)| server.data_address == address) else {
            return;
        };
        let is_missed = server.presence.is_missed(now, listener);
        if self.witnesses().doubt(id, by, is_missed, now) {
            server.presence.doubted(now);
        }
    }

    /// Somebody got bytes of `chunk` from the server at `address` that do not verify: whom to tell to look, if that is due.
    pub(crate) fn to_check(&self, address: &str, chunk: ChunkId, now: Tick) -> Option<Arc<Link>> {
        let table = self.locked();
        let (&id, server) = table.iter().find(|(_, server)| server.data_address == address)?;
        let link = server.link.clone()?;
        self.witnesses().wants_check(id, chunk, now).then_some(link)
    }

    /// The connection of `server`, if it has one.
    pub(crate) fn link(&self, server: ServerId) -> Option<Arc<Link>> {
        self.locked().get(&server)?.link.clone()
    }

    /// Every connection.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.locked().values().filter_map(|server| server.link.clone()).collect()
    }

    /// What decisions and answers are told of the servers.
    pub(crate) fn view(&self, now: Tick) -> ClusterView {
        let listener = self.listener(now);
        let drains = self.disk_drains().clone();
        let none = DiskDrains::new();
        let drained = |id| drains.get(id).unwrap_or(&none);
        let table = self.locked();
        let mut servers: BTreeMap<ServerId, ServerView> =
            table.iter().map(|(id, server)| (*id, server.view(now, listener, drained(id)))).collect();
        let takes = |view: &&ServerView| view.health == ServerHealth::Alive && view.free_bytes >= CHUNK_BYTES;
        // Unsteady servers and slow disks take new replicas where there is hardly any other room.
        if servers.values().filter(takes).count() < GOOD_SERVERS_MIN {
            for (id, view) in &mut servers {
                let Some(server) = table.get(id) else { continue };
                if view.free_bytes < CHUNK_BYTES {
                    view.free_bytes = server.room(DiskState::DiskSlow, drained(id));
                }
                if server.presence.is_usable(now, listener) {
                    view.health = ServerHealth::Alive;
                }
            }
        }
        ClusterView { servers }
    }

    /// Every server, for operators.
    pub(crate) fn reports(&self, now: Tick) -> Vec<ServerReport> {
        let listener = self.listener(now);
        let drains = self.disk_drains().clone();
        let table = self.locked();
        let report = |(&id, server): (&ServerId, &Server)| ServerReport {
            server: id,
            node: server.node,
            address: server.data_address.clone(),
            health: server.presence.health(now, listener),
            silent: server.presence.silent(now),
            connected: server.link.is_some(),
            disks: server.disks.clone(),
            draining: server.draining,
            labels: server.labels.clone(),
            disk_drains: drains.get(&id).cloned().unwrap_or_default(),
        };
        table.iter().map(report).collect()
    }

    /// How this master itself has been listening.
    fn listener(&self, now: Tick) -> Listener {
        let since = self.watch.lock().unwrap_or_else(PoisonError::into_inner).look(now);
        Listener { since, dead_after: self.dead_after }
    }

    fn witnesses(&self) -> MutexGuard<'_, Witnesses> {
        self.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk_drains(&self) -> MutexGuard<'_, BTreeMap<ServerId, DiskDrains>> {
        self.disk_drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ServerId, Server>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// One that is not connected.
    fn of(record: ServerRecord, now: Tick) -> Self {
        Self {
            node: record.node,
            data_address: record.data_address,
            http_address: record.http_address,
            link: None,
            presence: Presence::known(now),
            disks: Vec::new(),
            load: 0,
            corrupt_blocks: 0,
            draining: record.draining,
            labels: Arc::new(record.labels),
        }
    }

    /// What is to be emptied counts as no room.
    fn view(&self, now: Tick, listener: Listener, drained: &DiskDrains) -> ServerView {
        let has_room = |disk: &&DiskStatus| {
            disk.state() != DiskState::DiskFailed && !drained.contains_key(&disk_id(disk))
        };
        ServerView {
            health: self.presence.health(now, listener),
            address: if self.link.is_some() { self.data_address.clone() } else { String::new() },
            total_bytes: sum(self.disks.iter().filter(has_room).map(|disk| disk.total_bytes)),
            free_bytes: self.room(DiskState::DiskHealthy, drained),
            leaving_bytes: self.leaving_room(drained),
            load: self.load,
            draining: self.draining.is_some(),
            labels: self.labels.clone(),
        }
    }

    /// Free bytes of its disks that are to be emptied.
    fn leaving_room(&self, drained: &DiskDrains) -> u64 {
        let leaves = |disk: &&DiskStatus| {
            disk.state() == DiskState::DiskHealthy && drained.contains_key(&disk_id(disk))
        };
        sum(self.disks.iter().filter(leaves).map(|disk| disk.free_bytes))
    }

    /// Free bytes of its disks in this state.
    fn room(&self, state: DiskState, drained: &DiskDrains) -> u64 {
        let has_room = |disk: &&DiskStatus| disk.state() == state && !drained.contains_key(&disk_id(disk));
        sum(self.disks.iter().filter(has_room).map(|disk| disk.free_bytes))
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

fn bounded(mut disks: Vec<DiskStatus>) -> Vec<DiskStatus> {
    disks.truncate(SERVER_DISKS_MAX);
    disks
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const DEAD_AFTER: Duration = Duration::from_secs(10);

    fn record() -> ServerRecord {
        ServerRecord {
            server: ServerId(1),
            node: NodeId(uuid::Uuid::from_u128(5)),
            data_address: "127.0.0.1:7".to_owned(),
            http_address: String::new(),
            labels: Labels::default(),
            draining: None,
        }
    }

    fn link() -> Arc<Link> {
        Arc::new(Link::new(ServerId(1), mpsc::channel(1).0))
    }

    fn at(millis: u64) -> Tick {
        Tick(Duration::from_millis(millis))
    }

    #[test]
    fn silence_makes_suspect_and_the_end_of_the_connection_down() {
        let servers = Servers::new(DEAD_AFTER);
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        let health = |millis| servers.view(at(millis)).servers[&ServerId(1)].health;
        assert_eq!(health(900), ServerHealth::Alive);
        assert_eq!(health(1100), ServerHealth::Suspect);
        servers.heartbeat(&present, Heartbeat::default(), at(1200));
        assert_eq!(health(1300), ServerHealth::Alive);
        assert!(servers.disconnected(&present, at(0)));
        assert_eq!(health(1300), ServerHealth::Down);
        assert_eq!(servers.view(at(1300)).address(ServerId(1)), "");
    }

    #[test]
    fn whoever_stays_away_is_dead_unless_nobody_listened() {
        let servers = Servers::new(DEAD_AFTER);
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        assert!(servers.disconnected(&present, at(0)));
        let watched = |from: u64, to: u64| {
            let looks = (from..=to).step_by(100).map(|millis| servers.view(at(millis)).health(ServerId(1)));
            looks.last()
        };
        assert_eq!(watched(0, 10_000), Some(ServerHealth::Down));
        assert_eq!(watched(10_100, 10_100), Some(ServerHealth::Dead));
        servers.connected(record(), Vec::new(), link(), at(10_200));
        assert_eq!(watched(10_200, 10_200), Some(ServerHealth::Alive));
        assert_eq!(watched(60_000, 60_000), Some(ServerHealth::Down), "the master itself was stopped");
        assert_eq!(watched(60_100, 70_100), Some(ServerHealth::Dead));
    }

    #[test]
    fn one_that_only_the_state_knows_has_its_time_from_the_start_of_the_lead() {
        let servers = Servers::new(DEAD_AFTER);
        let looks = |from: u64, to: u64| {
            (from..=to).step_by(100).map(|millis| servers.view(at(millis)).health(ServerId(1))).last()
        };
        looks(0, 20_000);
        servers.load(vec![record()], at(20_000));
        assert_eq!(looks(20_000, 30_000), Some(ServerHealth::Down));
        assert_eq!(looks(30_100, 30_100), Some(ServerHealth::Dead));
    }

    #[test]
    fn a_late_end_of_an_old_connection_does_not_touch_the_new_one() {
        let servers = Servers::new(DEAD_AFTER);
        let (old, new) = (link(), link());
        servers.connected(record(), Vec::new(), old.clone(), at(0));
        servers.connected(record(), Vec::new(), new.clone(), at(10));
        assert!(!servers.disconnected(&old, at(20)));
        assert_eq!(
            servers.heartbeat(&old, Heartbeat { corrupt_blocks_found: 9, ..Heartbeat::default() }, at(20)),
            0
        );
        assert!(servers.link(ServerId(1)).is_some());
    }

    #[test]
    fn a_distrusted_server_is_trusted_again_when_it_is_heard() {
        let servers = Servers::new(DEAD_AFTER);
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        servers.distrust(ServerId(1), at(10));
        assert!(!servers.view(at(20)).is_alive(ServerId(1)));
        servers.heartbeat(&present, Heartbeat::default(), at(30));
        assert!(servers.view(at(40)).is_alive(ServerId(1)));
    }

    #[test]
    fn slow_disks_take_new_replicas_only_where_few_others_have_room() {
        let servers = Servers::new(DEAD_AFTER);
        let disk = |state: DiskState| DiskStatus {
            state: state.into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            ..DiskStatus::default()
        };
        for number in 1..=4 {
            let state = if number == 1 { DiskState::DiskSlow } else { DiskState::DiskHealthy };
            let record = ServerRecord { server: ServerId(number), ..record() };
            let link = Arc::new(Link::new(ServerId(number), mpsc::channel(1).0));
            servers.connected(record, vec![disk(state)], link, at(0));
        }
        let free = |number| servers.view(at(10)).servers[&ServerId(number)].free_bytes;
        assert_eq!((free(1), free(2)), (0, 50 << 30));
        servers.disconnected(&servers.link(ServerId(4)).unwrap(), at(10));
        assert_eq!((free(1), free(2)), (50 << 30, 50 << 30), "two others are too few");
    }

    #[test]
    fn a_disk_that_is_to_be_emptied_counts_as_no_room() {
        let servers = Servers::new(DEAD_AFTER);
        let disk = |number: u128| DiskStatus {
            disk: uuid::Uuid::from_u128(number).as_bytes().to_vec().into(),
            state: DiskState::DiskHealthy.into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            ..DiskStatus::default()
        };
        servers.connected(record(), vec![disk(1), disk(2)], link(), at(0));
        let room = || {
            let view = &servers.view(at(10)).servers[&ServerId(1)];
            (view.free_bytes >> 30, view.total_bytes >> 30, view.leaving_bytes >> 30)
        };
        assert_eq!(room(), (100, 200, 0));
        let draining = Draining { since: Default::default(), replicas: 4 };
        let one = DiskId(uuid::Uuid::from_u128(1));
        servers.load_disk_drains(vec![DrainedDisk { server: ServerId(1), disk: one, draining }]);
        assert_eq!(room(), (50, 100, 50));
        assert_eq!(servers.reports(at(10))[0].drains(&disk(1)), Some(draining));
        assert_eq!(servers.reports(at(10))[0].drains(&disk(2)), None);
        servers.set_disk_draining(ServerId(1), one, None);
        assert_eq!(room(), (100, 200, 0));
    }

    #[test]
    fn one_that_comes_and_goes_is_suspect_unless_it_is_needed() {
        let servers = Servers::new(DEAD_AFTER);
        let disk = || DiskStatus {
            state: DiskState::DiskHealthy.into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            ..DiskStatus::default()
        };
        let connect = |number, millis| {
            let record = ServerRecord { server: ServerId(number), ..record() };
            let link = Arc::new(Link::new(ServerId(number), mpsc::channel(1).0));
            servers.connected(record, vec![disk()], link.clone(), at(millis));
            link
        };
        let others: Vec<_> = (2..=4).map(|number| connect(number, 0)).collect();
        for millis in [100, 200, 300] {
            let link = connect(1, millis);
            assert!(servers.view(at(millis)).is_alive(ServerId(1)));
            servers.disconnected(&link, at(millis));
        }
        connect(1, 400);
        assert!(!servers.view(at(500)).is_alive(ServerId(1)));
        assert_eq!(servers.reports(at(500))[0].health, ServerHealth::Suspect);
        servers.disconnected(&others[0], at(600));
        assert!(servers.view(at(600)).is_alive(ServerId(1)), "two others are too few");
    }

    #[test]
    fn heartbeats_tell_new_corrupt_blocks_once() {
        let servers = Servers::new(DEAD_AFTER);
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        let beat = |found| Heartbeat { corrupt_blocks_found: found, ..Heartbeat::default() };
        assert_eq!(servers.heartbeat(&present, beat(2), at(1)), 2);
        assert_eq!(servers.heartbeat(&present, beat(2), at(2)), 0);
        assert_eq!(servers.heartbeat(&present, beat(5), at(3)), 3);
    }
}
