//! The chunk servers as this master hears them: connections, heartbeats, disks. In memory only; the state knows the rest.

use crate::link::Link;
use cairn_core::cluster::{ClusterView, ServerHealth, ServerView};
use cairn_core::ids::{NodeId, ServerId};
use cairn_core::limits::{SERVER_DISKS_MAX, SERVER_DISTRUST, SERVER_DOWN, SERVER_SUSPECT};
use cairn_core::namespace::work::ServerRecord;
use cairn_core::time::Tick;
use cairn_proto::v1::{DiskState, DiskStatus, Heartbeat};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Every chunk server of the cluster.
#[derive(Default)]
pub(crate) struct Servers {
    table: Mutex<BTreeMap<ServerId, Server>>,
}

struct Server {
    node: NodeId,
    data_address: String,
    http_address: String,
    link: Option<Arc<Link>>,
    heard: Option<Tick>,
    distrusted_until: Tick,
    disks: Vec<DiskStatus>,
    load: u64,
    corrupt_blocks: u64,
}

/// One server for `admin servers`.
#[derive(Clone, Debug)]
pub(crate) struct ServerReport {
    pub(crate) server: ServerId,
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) health: ServerHealth,
    pub(crate) silent: Option<Duration>,
    pub(crate) disks: Vec<DiskStatus>,
}

impl Servers {
    /// Takes over what the state knows, at the start of a leader. Who is connected to this master already stays so.
    pub(crate) fn load(&self, records: impl IntoIterator<Item = ServerRecord>) {
        let mut table = self.locked();
        for record in records {
            if table.get(&record.server).is_some_and(|known| known.link.is_some()) {
                continue;
            }
            table.insert(
                record.server,
                Server {
                    node: record.node,
                    data_address: record.data_address,
                    http_address: record.http_address,
                    link: None,
                    heard: None,
                    distrusted_until: Tick::default(),
                    disks: Vec::new(),
                    load: 0,
                    corrupt_blocks: 0,
                },
            );
        }
    }

    /// A server has registered. A former connection of it is closed: the newest is the one that counts.
    pub(crate) fn connected(&self, record: ServerRecord, disks: Vec<DiskStatus>, link: Arc<Link>, now: Tick) {
        let server = Server {
            node: record.node,
            data_address: record.data_address,
            http_address: record.http_address,
            link: Some(link),
            heard: Some(now),
            distrusted_until: Tick::default(),
            disks: bounded(disks),
            load: 0,
            corrupt_blocks: 0,
        };
        let before = self.locked().insert(record.server, server);
        if let Some(link) = before.and_then(|before| before.link) {
            link.close();
        }
    }

    /// The connection has ended, unless a later one has taken its place. True when it was the present one.
    pub(crate) fn disconnected(&self, link: &Arc<Link>) -> bool {
        link.close();
        let mut table = self.locked();
        let Some(server) = table.get_mut(&link.server) else { return false };
        let is_present = server.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link));
        if is_present {
            server.link = None;
        }
        is_present
    }

    /// A heartbeat over `link`. Returns how many corrupt blocks it has found since the last one.
    pub(crate) fn heartbeat(&self, link: &Arc<Link>, heartbeat: Heartbeat, now: Tick) -> u64 {
        let mut table = self.locked();
        let Some(server) = table.get_mut(&link.server) else { return 0 };
        if !server.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link)) {
            return 0;
        }
        server.heard = Some(now);
        server.distrusted_until = Tick::default();
        if !heartbeat.disks.is_empty() {
            server.disks = bounded(heartbeat.disks);
        }
        server.load = heartbeat.requests_in_flight;
        let found = heartbeat.corrupt_blocks_found.saturating_sub(server.corrupt_blocks);
        server.corrupt_blocks = heartbeat.corrupt_blocks_found;
        found
    }

    /// A client could not reach `server`: it gets no new chunks until it is heard of again or its silence shows.
    pub(crate) fn distrust(&self, server: ServerId, now: Tick) {
        if let Some(server) = self.locked().get_mut(&server) {
            server.distrusted_until = now.after(SERVER_DISTRUST);
        }
    }

    /// The connection of `server`, if it has one.
    pub(crate) fn link(&self, server: ServerId) -> Option<Arc<Link>> {
        self.locked().get(&server)?.link.clone()
    }

    /// Every connection.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.locked().values().filter_map(|server| server.link.clone()).collect()
    }

    /// The server of a node.
    pub(crate) fn of_node(&self, node: NodeId) -> Option<ServerId> {
        self.locked().iter().find(|(_, server)| server.node == node).map(|(&id, _)| id)
    }

    /// Whether the state knows `server` by these addresses already.
    pub(crate) fn has_addresses(&self, server: ServerId, data: &str, http: &str) -> bool {
        self.locked()
            .get(&server)
            .is_some_and(|known| known.data_address == data && known.http_address == http)
    }

    /// What decisions and answers are told of the servers.
    pub(crate) fn view(&self, now: Tick) -> ClusterView {
        let table = self.locked();
        ClusterView { servers: table.iter().map(|(&id, server)| (id, server.view(now))).collect() }
    }

    /// Every server, for operators.
    pub(crate) fn reports(&self, now: Tick) -> Vec<ServerReport> {
        let table = self.locked();
        let report = |(&id, server): (&ServerId, &Server)| ServerReport {
            server: id,
            node: server.node,
            address: server.data_address.clone(),
            health: server.health(now),
            silent: server.heard.map(|heard| now.since(heard)),
            disks: server.disks.clone(),
        };
        table.iter().map(report).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ServerId, Server>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    fn health(&self, now: Tick) -> ServerHealth {
        let Some(heard) = self.heard else { return ServerHealth::Down };
        let silent = now.since(heard);
        match (&self.link, silent) {
            (_, silent) if silent > SERVER_DOWN => ServerHealth::Down,
            (None, _) => ServerHealth::Down,
            (Some(_), silent) if silent > SERVER_SUSPECT => ServerHealth::Suspect,
            (Some(_), _) if now < self.distrusted_until => ServerHealth::Suspect,
            (Some(_), _) => ServerHealth::Alive,
        }
    }

    fn view(&self, now: Tick) -> ServerView {
        let usable = |disk: &&DiskStatus| disk.state() == DiskState::DiskHealthy;
        let has_room = |disk: &&DiskStatus| disk.state() != DiskState::DiskFailed;
        let sum = |disks: &mut dyn Iterator<Item = u64>| disks.fold(0u64, u64::saturating_add);
        ServerView {
            health: self.health(now),
            address: if self.link.is_some() { self.data_address.clone() } else { String::new() },
            total_bytes: sum(&mut self.disks.iter().filter(has_room).map(|disk| disk.total_bytes)),
            free_bytes: sum(&mut self.disks.iter().filter(usable).map(|disk| disk.free_bytes)),
            load: self.load,
        }
    }
}

fn bounded(mut disks: Vec<DiskStatus>) -> Vec<DiskStatus> {
    disks.truncate(SERVER_DISKS_MAX);
    disks
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn record() -> ServerRecord {
        ServerRecord {
            server: ServerId(1),
            node: NodeId(uuid::Uuid::from_u128(5)),
            data_address: "127.0.0.1:7".to_owned(),
            http_address: String::new(),
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
        let servers = Servers::default();
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        let health = |millis| servers.view(at(millis)).servers[&ServerId(1)].health;
        assert_eq!(health(900), ServerHealth::Alive);
        assert_eq!(health(1100), ServerHealth::Suspect);
        servers.heartbeat(&present, Heartbeat::default(), at(1200));
        assert_eq!(health(1300), ServerHealth::Alive);
        assert!(servers.disconnected(&present));
        assert_eq!(health(1300), ServerHealth::Down);
        assert_eq!(servers.view(at(1300)).address(ServerId(1)), "");
    }

    #[test]
    fn a_late_end_of_an_old_connection_does_not_touch_the_new_one() {
        let servers = Servers::default();
        let (old, new) = (link(), link());
        servers.connected(record(), Vec::new(), old.clone(), at(0));
        servers.connected(record(), Vec::new(), new.clone(), at(10));
        assert!(!servers.disconnected(&old));
        assert_eq!(
            servers.heartbeat(&old, Heartbeat { corrupt_blocks_found: 9, ..Heartbeat::default() }, at(20)),
            0
        );
        assert!(servers.link(ServerId(1)).is_some());
    }

    #[test]
    fn a_distrusted_server_is_trusted_again_when_it_is_heard() {
        let servers = Servers::default();
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        servers.distrust(ServerId(1), at(10));
        assert!(!servers.view(at(20)).is_alive(ServerId(1)));
        servers.heartbeat(&present, Heartbeat::default(), at(30));
        assert!(servers.view(at(40)).is_alive(ServerId(1)));
    }

    #[test]
    fn heartbeats_tell_new_corrupt_blocks_once() {
        let servers = Servers::default();
        let present = link();
        servers.connected(record(), Vec::new(), present.clone(), at(0));
        let beat = |found| Heartbeat { corrupt_blocks_found: found, ..Heartbeat::default() };
        assert_eq!(servers.heartbeat(&present, beat(2), at(1)), 2);
        assert_eq!(servers.heartbeat(&present, beat(2), at(2)), 0);
        assert_eq!(servers.heartbeat(&present, beat(5), at(3)), 3);
    }
}
