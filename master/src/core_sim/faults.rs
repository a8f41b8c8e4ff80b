//! What fails, and when it passes.

use super::chunkserver::SERVERS_FROM;
use super::client::CLIENTS_FROM;
use super::member::{Need, empty_disk};
use super::world::{Event, FAULTY, World};
use cairn_core::ids::NodeId;
use cairn_env::disk::Disk;
use cairn_env::random::Random;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every kind of fault and what the network did: over many seeds each of them is met.
pub(super) const KINDS: [&str; 28] = [
    "bits turned in a journal",
    "chunk servers cut off",
    "clients cut off",
    "clients killed",
    "clients stopped",
    "crashes after a copy",
    "crashes of a chunk server",
    "crashes of a master",
    "crashes of all masters",
    "cuts both ways",
    "cuts one way",
    "disks lost",
    "failed syncs of a journal",
    "failed syncs of a state",
    "isolations",
    "isolations one way",
    "journals found damaged",
    "leads handed over",
    "masters that failed",
    "members filled that had lost their vote",
    "members filled that lagged",
    "messages doubled",
    "messages late",
    "messages lost",
    "messages on a cut link",
    "pauses of a master",
    "pauses of the leader",
    "wall clocks jumped",
];

/// A fault that passes.
pub(super) enum Passing {
    /// The links that it cut.
    Cut(Vec<(u64, u64)>),
    Loss,
    Doubles,
    Delays,
}

impl World {
    /// The next fault: some 45 of them in ten minutes.
    pub(super) fn plan_fault(&mut self) {
        let at = self.now + Duration::from_millis(1000 + self.below(23_000));
        if at < FAULTY {
            self.queue.push(at, Event::Fault);
        }
    }

    pub(super) fn fault(&mut self) {
        self.plan_fault();
        let for_a_while = match self.below(4) {
            0 => Duration::from_millis(20 + self.below(400)),
            1 | 2 => Duration::from_millis(200 + self.below(4000)),
            _ => Duration::from_millis(3000 + self.below(9000)),
        };
        let id = 1 + self.below(self.members.len() as u64);
        let number = self.below(20);
        self.faults += 1;
        self.trace.note(self.now, [3, id, number]);
        match number {
            0..3 => self.crash(id, for_a_while),
            3 => {
                self.hit("crashes of all masters");
                (1..=self.members.len() as u64).for_each(|id| self.crash(id, for_a_while / 2));
            }
            4 | 5 => self.pause(id, for_a_while),
            6..10 => self.cut_links(id, for_a_while),
            10 | 11 => self.disturb(for_a_while),
            12 => self.lose_disk(id, for_a_while),
            13 => self.rot(id, for_a_while),
            14 => self.fail_sync(id),
            15 | 16 => self.trouble_client(for_a_while),
            17 | 18 => self.trouble_server(for_a_while),
            _ => self.jump_or_hand_over(id),
        }
    }

    fn crash(&mut self, id: u64, for_a_while: Duration) {
        if self.member(id).process.is_some() {
            self.hit("crashes of a master");
            self.tell(|| format!("fault: master {id} crashes for {for_a_while:?}"));
            self.stop(id);
            self.leave_image(id);
            self.queue.push(self.now + for_a_while, Event::Boot { member: id });
        }
    }

    /// A process that ended by itself: the machine is started again.
    pub(super) fn power_off(&mut self, id: u64) {
        self.stop(id);
        self.leave_image(id);
        let pause = Duration::from_millis(500 + self.below(1000));
        self.queue.push(self.now + pause, Event::Boot { member: id });
    }

    /// What a power cut leaves of the disk.
    pub(super) fn leave_image(&mut self, id: u64) {
        let image = self.random.next_u64();
        let member = self.member(id);
        (member.disk, member.sync_fails) = (member.disk.crash_image(image), false);
    }

    fn pause(&mut self, id: u64, for_a_while: Duration) {
        self.hit("pauses of a master");
        if self.leader() == Some(id) {
            self.hit("pauses of the leader");
        }
        self.tell(|| format!("fault: master {id} is stopped for {for_a_while:?}"));
        let until = self.now + for_a_while;
        self.member(id).paused_until = until;
    }

    fn cut_links(&mut self, id: u64, for_a_while: Duration) {
        let other = 1 + self.below(self.members.len() as u64);
        let (kind, links) = match self.below(4) {
            0 => ("cuts one way", vec![(id, other)]),
            1 => ("cuts both ways", vec![(id, other), (other, id)]),
            2 => ("isolations", vec![(id, u64::MAX), (u64::MAX, id)]),
            _ => ("isolations one way", vec![(id, u64::MAX)]),
        };
        self.hit(kind);
        self.tell(|| format!("fault: {kind}: {links:?} for {for_a_while:?}"));
        self.network.cut.extend(links.iter().copied());
        self.queue.push(self.now + for_a_while, Event::Heal(Passing::Cut(links)));
    }

    fn disturb(&mut self, for_a_while: Duration) {
        let passing = match self.below(3) {
            0 => {
                self.network.loses = 3 + self.below(20);
                Passing::Loss
            }
            1 => {
                self.network.doubles = 2 + self.below(8);
                Passing::Doubles
            }
            _ => {
                self.network.delays = 2 + self.below(12);
                Passing::Delays
            }
        };
        self.queue.push(self.now + for_a_while, Event::Heal(passing));
    }

    /// Whether one more member may lose what it has said: all others have what they had and know each other to vote, and none
    /// will have to be filled: where the leader needs the vote of a member that must be filled, nobody leads, and nobody fills it.
    fn may_lose(&self, id: u64) -> bool {
        let voters = self.members.len();
        let votes = |member: &super::member::Member| {
            member.process.as_ref().is_some_and(|process| process.stepped.applied().voters.len() == voters)
        };
        self.members.iter().all(|member| member.needs.is_none() && votes(member))
            && !self.members.iter().any(|member| member.id != id && (member.lags || member.sync_fails))
    }

    fn lose_disk(&mut self, id: u64, for_a_while: Duration) {
        if !self.may_lose(id) {
            return;
        }
        self.hit("disks lost");
        self.tell(|| format!("fault: master {id} loses its disk"));
        self.stop(id);
        let node = NodeId(self.random.uuid());
        let until = self.now + for_a_while;
        let member = self.member(id);
        (member.disk, member.node, member.said_term) = (empty_disk(), node, 0);
        (member.needs, member.paused_until) = (Some(Need::Replace), until);
    }

    /// A bit of the journal turns, in a file that is at rest: the process is down when it happens.
    fn rot(&mut self, id: u64, for_a_while: Duration) {
        if !self.may_lose(id) {
            return;
        }
        self.crash(id, for_a_while);
        let directory = Path::new(super::member::DATA_DIR).join("journal");
        let disk = self.member(id).disk.clone();
        let Ok(files) = disk.list(&directory) else { return };
        let mut files: Vec<PathBuf> = files.into_iter().map(|item| directory.join(item.name)).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "journal"));
        // A bad end of the newest one cannot be told from a torn one (I12): that is what marks are for.
        files.sort();
        files.pop();
        let Some(file) = files.get(self.below(files.len() as u64) as usize) else { return };
        let length = disk.open(file, cairn_env::disk::OpenMode::Read).and_then(|file| file.len());
        let offset = self.below(length.unwrap_or(1).min(32 << 10));
        if disk.flip_bit(file, offset, self.below(8) as u8).is_ok() {
            self.hit("bits turned in a journal");
            self.tell(|| format!("fault: a bit of {} of master {id} turns at {offset}", file.display()));
            self.invariants.rotten(id);
        }
    }

    fn fail_sync(&mut self, id: u64) {
        let (part, kind) = match self.below(2) {
            0 => ("journal", "failed syncs of a journal"),
            _ => ("state", "failed syncs of a state"),
        };
        if part == "state" && self.members.iter().any(|member| member.needs.is_some()) {
            return;
        }
        self.hit(kind);
        self.member(id).sync_fails |= part == "state";
        self.tell(|| format!("fault: a sync of {part} of master {id} will fail"));
        let nth = 1 + self.below(4);
        self.member(id).disk.fail_sync(part, nth);
    }

    fn trouble_client(&mut self, for_a_while: Duration) {
        let client = CLIENTS_FROM + self.below(self.clients.len() as u64);
        match self.below(3) {
            0 => {
                self.hit("clients killed");
                self.tell(|| format!("fault: client {client} is killed"));
                let home = self.client(client).begin_anew();
                self.left_behind.push(home);
            }
            1 => {
                self.hit("clients stopped");
                self.tell(|| format!("fault: client {client} is stopped for {for_a_while:?}"));
                let until = self.now + for_a_while * 2;
                self.client(client).paused_until = until;
            }
            _ => {
                self.hit("clients cut off");
                self.tell(|| format!("fault: client {client} is cut off for {for_a_while:?}"));
                let links = vec![(client, u64::MAX), (u64::MAX, client)];
                self.network.cut.extend(links.iter().copied());
                self.queue.push(self.now + for_a_while * 2, Event::Heal(Passing::Cut(links)));
            }
        }
    }

    fn trouble_server(&mut self, for_a_while: Duration) {
        let id = SERVERS_FROM + self.below(self.servers.len() as u64);
        let until = self.now + for_a_while;
        if self.chance(2) {
            self.hit("crashes of a chunk server");
            self.tell(|| format!("fault: chunk server {id} crashes for {for_a_while:?}"));
            let Self { servers, random, .. } = self;
            let server = &mut servers[(id - SERVERS_FROM) as usize];
            server.crash(|| random.below(2) == 0);
            server.down_until = until;
        } else {
            self.hit("chunk servers cut off");
            self.tell(|| format!("fault: chunk server {id} is cut off for {for_a_while:?}"));
            let links = vec![(id, u64::MAX), (u64::MAX, id)];
            self.network.cut.extend(links.iter().copied());
            self.queue.push(until, Event::Heal(Passing::Cut(links)));
        }
    }

    fn jump_or_hand_over(&mut self, id: u64) {
        if self.chance(2) {
            self.hit("wall clocks jumped");
            let hours = self.below(100_000) as i64 - 50_000;
            self.member(id).clock.jump_wall(hours * 3_600_000);
        } else if let Some(leader) = self.leader() {
            self.hit("leads handed over");
            if let Some(process) = &self.member(leader).process {
                process.stepped.hand_over();
            }
        }
    }

    pub(super) fn pass(&mut self, passing: Passing) {
        match passing {
            Passing::Cut(links) => self.network.cut.retain(|link| !links.contains(link)),
            Passing::Loss => self.network.loses = 0,
            Passing::Doubles => self.network.doubles = 0,
            Passing::Delays => self.network.delays = 0,
        }
    }

    /// Everything is whole again.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.network = super::network::Network::default();
        let now = self.now;
        for id in 1..=self.members.len() as u64 {
            let member = self.member(id);
            member.paused_until = now;
            if member.process.is_none() && member.needs.is_none() {
                self.boot(id);
            }
        }
        self.clients.iter_mut().for_each(|client| client.paused_until = now);
        self.servers.iter_mut().for_each(|server| server.down_until = now);
        self.tell(|| "everything is healed".into());
    }
}
