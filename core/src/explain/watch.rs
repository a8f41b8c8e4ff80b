//! What has changed between two looks at a cluster.

use super::event::{Event, seconds};
use crate::cluster::ServerHealth;
use crate::ids::ServerId;
use crate::limits::SERVER_SUSPECT;
use std::collections::BTreeMap;
use std::time::Duration;

/// A cluster at a moment, as its leader sees it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every chunk server.
    pub servers: BTreeMap<ServerId, ServerSeen>,
    /// The masters' addresses, by Raft id.
    pub masters: BTreeMap<u64, String>,
    /// Why the backup makes no progress; empty: it does, or there is none.
    pub backup_failure: String,
    /// Times that journal went before it was in the backup.
    pub backup_gaps: u64,
    /// The leader's disk is nearly full.
    pub disk_low: bool,
    /// The leader's Raft id.
    pub leader: u64,
}

/// A chunk server at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSeen {
    /// As it is counted on.
    pub health: ServerHealth,
    /// Since it was heard; `None`: never by this leader.
    pub silent: Option<Duration>,
    /// Whether it has a connection to the leader.
    pub connected: bool,
    /// State and detail of each disk, by its directory.
    pub disks: BTreeMap<String, (String, String)>,
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<Seen>,
}

impl Watch {
    /// Another lead begins: nothing is known.
    pub fn begin_anew(&mut self) {
        self.last = None;
    }

    /// What has changed since the last look. At the first one: whatever is not as it should be.
    pub fn look(&mut self, seen: Seen) -> Vec<Event> {
        let is_first = self.last.is_none();
        let last =
            self.last.take().unwrap_or_else(|| Seen { masters: seen.masters.clone(), ..Seen::default() });
        let mut events = Vec::new();
        masters(&last, &seen, &mut events);
        for (&server, now) in &seen.servers {
            server_changed(server, last.servers.get(&server), now, is_first, &mut events);
        }
        if last.backup_failure.is_empty() != seen.backup_failure.is_empty() {
            let reason = seen.backup_failure.clone();
            events.push(if reason.is_empty() {
                Event::BackupRecovered
            } else {
                Event::BackupFails { reason }
            });
        }
        if seen.backup_gaps > last.backup_gaps && !is_first {
            events.push(Event::BackupGap);
        }
        if seen.disk_low != last.disk_low {
            let master = seen.leader;
            let low = seen.disk_low;
            events.push(if low {
                Event::MasterDiskLow { master }
            } else {
                Event::MasterDiskHasRoom { master }
            });
        }
        self.last = Some(seen);
        events
    }
}

fn masters(last: &Seen, seen: &Seen, events: &mut Vec<Event>) {
    for (&master, address) in &seen.masters {
        if last.masters.get(&master) != Some(address) {
            events.push(Event::MasterAdded { master, address: address.clone() });
        }
    }
    for (&master, address) in &last.masters {
        if !seen.masters.contains_key(&master) {
            events.push(Event::MasterRemoved { master, address: address.clone() });
        }
    }
}

fn server_changed(
    server: ServerId,
    before: Option<&ServerSeen>,
    now: &ServerSeen,
    is_first: bool,
    events: &mut Vec<Event>,
) {
    let from = before.map(|before| before.health);
    if from != Some(now.health) && !(is_first && now.health == ServerHealth::Alive) {
        events.push(Event::ServerChanged { server, from, to: now.health, why: why(from, now) });
    }
    for (path, (state, detail)) in &now.disks {
        let known = before.and_then(|before| before.disks.get(path));
        let from = known.map_or("", |(state, _)| state);
        let is_news = known.map_or(state != "healthy", |_| from != state);
        if is_news {
            events.push(Event::DiskChanged {
                server,
                path: path.clone(),
                from: from.to_owned(),
                to: state.clone(),
                detail: detail.clone(),
            });
        }
    }
}

fn why(from: Option<ServerHealth>, now: &ServerSeen) -> String {
    let silent = now.silent.map(|silent| format!("silent for {}", seconds(silent)));
    match now.health {
        ServerHealth::Alive if from.is_none() => "it has registered".to_owned(),
        ServerHealth::Alive => "heard again".to_owned(),
        ServerHealth::Suspect => {
            let not_reached = "a client could not reach it".to_owned();
            silent.filter(|_| now.silent > Some(SERVER_SUSPECT)).unwrap_or(not_reached)
        }
        ServerHealth::Down if !now.connected && now.silent.is_some() => "its connection has ended".to_owned(),
        ServerHealth::Down | ServerHealth::Dead => {
            silent.unwrap_or_else(|| "on record, and not heard by this leader".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(health: ServerHealth, millis: u64, connected: bool, disk: &str) -> ServerSeen {
        let disks = BTreeMap::from([("/d".to_owned(), (disk.to_owned(), "EIO".to_owned()))]);
        ServerSeen { health, silent: Some(Duration::from_millis(millis)), connected, disks }
    }

    fn seen(one: ServerSeen) -> Seen {
        Seen { servers: BTreeMap::from([(ServerId(1), one)]), ..Seen::default() }
    }

    fn said(events: Vec<Event>) -> Vec<String> {
        events
            .iter()
            .map(Event::told)
            .map(|told| format!("{}: {}: {}", told.object, told.what, told.why))
            .collect()
    }

    #[test]
    fn a_server_that_stays_away_is_told_of_step_by_step() {
        let mut watch = Watch::default();
        assert!(watch.look(seen(server(ServerHealth::Alive, 0, true, "healthy"))).is_empty());
        let mut look =
            |health, millis, connected| said(watch.look(seen(server(health, millis, connected, "healthy"))));
        assert_eq!(look(ServerHealth::Suspect, 1200, true), [": alive -> suspect: silent for 1.2 s"]);
        assert_eq!(look(ServerHealth::Suspect, 1400, true), [""; 0]);
        assert_eq!(look(ServerHealth::Down, 2000, false), [": suspect -> down: its connection has ended"]);
        assert_eq!(look(ServerHealth::Dead, 10_100, false), [": down -> dead: silent for 10.1 s"]);
        assert_eq!(look(ServerHealth::Alive, 0, true), [": dead -> alive: heard again"]);
        assert_eq!(
            look(ServerHealth::Suspect, 10, true),
            [": alive -> suspect: a client could not reach it"]
        );
    }

    #[test]
    fn a_first_look_tells_what_is_not_as_it_should_be() {
        let mut watch = Watch::default();
        let never = ServerSeen { silent: None, ..server(ServerHealth::Down, 0, false, "failed") };
        let told = ["is down: on record, and not heard by this leader", "/d: is failed: EIO"];
        assert_eq!(said(watch.look(seen(never.clone()))), [format!(": {}", told[0]), told[1].to_owned()]);
        assert!(watch.look(seen(never.clone())).is_empty());
        watch.begin_anew();
        assert_eq!(watch.look(seen(never)).len(), 2);
    }

    #[test]
    fn disks_masters_and_backups_are_told_of_once() {
        let mut watch = Watch::default();
        watch.look(Seen { masters: BTreeMap::from([(1, "a:1".to_owned())]), ..Seen::default() });
        let mut later = seen(server(ServerHealth::Alive, 0, true, "full"));
        later.masters.insert(2, "b:1".to_owned());
        later.backup_failure = "no such bucket".to_owned();
        later.backup_gaps = 1;
        later.disk_low = true;
        let kinds = |events: Vec<Event>| events.iter().map(|event| event.told().kind).collect::<Vec<_>>();
        let all = [
            "master_added",
            "master_removed",
            "server_state",
            "disk_state",
            "backup_fails",
            "backup_gap",
            "master_disk",
        ];
        assert_eq!(kinds(watch.look(later.clone())), all);
        assert_eq!(kinds(watch.look(later.clone())), [""; 0]);
        later.backup_failure.clear();
        assert_eq!(kinds(watch.look(later)), ["backup_recovered"]);
    }
}
