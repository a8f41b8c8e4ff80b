//! What fails, and when it passes.

use super::chunkserver::SERVERS_FROM;
use super::client::CLIENTS_FROM;
use super::member::{Need, empty_disk};
use super::world::{Event, FAULTY, World};
use cairn_core::ids::NodeId;
use cairn_core::journal::scan::stated_bytes;
use cairn_env::disk::{Disk, read_small};
use cairn_env::random::Random;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every kind of fault and what the network did: over many seeds each of them is met.
pub(super) const KINDS: [&str; 30] = [
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
    "followers that blink",
    "isolations",
    "isolations one way",
    "journals found damaged",
    "leads handed over",
    "leads that flicker",
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

/// A message that is late comes so much later, at most.
const LATE: Duration = Duration::from_secs(1);

/// A fault that passes.
pub(super) enum Passing {
    /// The links that it cut.
    Cut(Vec<(u64, u64)>),
    Loss,
    Doubles,
    Delays,
    /// One more time that the leader is not heard for about as long as an election takes.
    Flicker {
        until: Duration,
    },
    /// One more short crash of a follower.
    Blink {
        id: u64,
        leader: u64,
    },
    /// One more time that a follower does not hear the leader, and another one crashes shortly.
    Deafen {
        deaf: u64,
        id: u64,
        leader: u64,
    },
}

impl World {
    /// The next fault: some 45 of them in a run.
    pub(super) fn plan_fault(&mut self) {
        let at = self.now + Duration::from_millis(500 + self.below(15_000));
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
        let number = self.below(22);
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
            19 => self.flicker(self.now + for_a_while),
            20 => self.blink(),
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
                self.network.late = LATE;
                Passing::Delays
            }
        };
        self.queue.push(self.now + for_a_while, Event::Heal(passing));
    }

    /// Again and again the leader is not heard for about as long as an election takes, and what it has said comes late: a follower
    /// that hears it again is asked for its vote at the same time.
    fn flicker(&mut self, until: Duration) {
        self.hit("leads that flicker");
        (self.network.delays, self.network.late) = (2, Duration::from_millis(300));
        let cut = Duration::from_millis(150 + self.below(300));
        if let Some(leader) = self.leader() {
            let links = vec![(leader, u64::MAX), (u64::MAX, leader)];
            self.network.cut.extend(links.iter().copied());
            self.queue.push(self.now + cut, Event::Heal(Passing::Cut(links)));
        }
        let again = self.now + cut + Duration::from_millis(self.below(400));
        self.queue.push(again, Event::Heal(Passing::Flicker { until }));
    }

    /// A follower does not hear the leader, and wants to be elected; another one does, and crashes shortly some times.
    fn blink(&mut self) {
        let Some(leader) = self.leader() else { return };
        let others: Vec<u64> = (1..=self.members.len() as u64).filter(|id| *id != leader).collect();
        let at = self.below(others.len() as u64) as usize;
        let (deaf, id) = (others[at], others[(at + 1) % others.len()]);
        self.hit("followers that blink");
        self.tell(|| format!("fault: master {deaf} does not hear {leader}, and {id} crashes shortly"));
        for time in 0..6 {
            let at = self.now + Duration::from_millis(time * 900);
            self.queue.push(at, Event::Heal(Passing::Deafen { deaf, id, leader }));
        }
    }

    /// Not for long: who lacks entries is not elected.
    fn deafen(&mut self, deaf: u64, id: u64, leader: u64) {
        let links = vec![(leader, deaf), (deaf, leader)];
        self.network.cut.extend(links.iter().copied());
        self.queue.push(self.now + Duration::from_millis(550), Event::Heal(Passing::Cut(links)));
        let at = self.now + Duration::from_millis(200 + self.below(150));
        self.queue.push(at, Event::Heal(Passing::Blink { id, leader }));
    }

    /// A follower comes back, and does not hear the leader, while the leader may still count on what it has heard of it.
    fn crash_shortly(&mut self, id: u64, leader: u64) {
        let pause = Duration::from_millis(5 + self.below(60));
        self.crash(id, pause);
        self.network.cut.insert((leader, id));
        let heal = Event::Heal(Passing::Cut(vec![(leader, id)]));
        self.queue.push(self.now + Duration::from_millis(180), heal);
    }

    /// Whether one more member may lose what it has said: the others that keep their votes must be a majority of the voters that
    /// each of them knows. (Votes are counted by the group as a member has applied it.)
    fn may_lose(&self, id: u64) -> bool {
        let keeps_vote = |member: &&super::member::Member| {
            member.id != id && member.keeps_vote() && !self.invariants.is_rotten(member.id)
        };
        let left: Vec<u64> = self.members.iter().filter(keeps_vote).map(|member| member.id).collect();
        let is_enough = |member: &super::member::Member| {
            let voters = &member.voters;
            voters.contains(&member.id)
                && voters.iter().filter(|id| left.contains(id)).count() * 2 > voters.len()
        };
        self.others_have_state(id) && self.members.iter().filter(keeps_vote).all(is_enough)
    }

    /// Whether another member has a state that it can go on with, and hand out.
    fn others_have_state(&self, id: u64) -> bool {
        let has_state = |member: &super::member::Member| {
            member.needs.is_none() && !member.sync_fails && !self.invariants.is_rotten(member.id)
        };
        self.members.iter().any(|member| member.id != id && has_state(member))
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
        self.invariants.disk_lost(id);
        // What was under way for the member that it was says nothing of this one.
        self.step.take_if(|step| step.member == id);
    }

    /// A bit of the journal turns, in a file that is at rest: the process is down when it happens.
    fn rot(&mut self, id: u64, for_a_while: Duration) {
        if !self.may_lose(id) || !self.member(id).keeps_vote() {
            return;
        }
        self.crash(id, for_a_while);
        let directory = Path::new(super::member::DATA_DIR).join("journal");
        let disk = self.member(id).disk.clone();
        let Ok(files) = disk.list(&directory) else { return };
        let mut files: Vec<PathBuf> = files.into_iter().map(|item| directory.join(item.name)).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "journal"));
        files.sort();
        let newest = self.chance(2);
        let at = if newest { files.len() as u64 - 1 } else { self.below(files.len() as u64) };
        let Some(file) = files.get(at as usize) else { return };
        let Ok(bytes) = read_small(&disk, file, u64::MAX) else { return };
        let offset = self.below(stated_bytes(&bytes));
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
        if part == "state" {
            if !self.others_have_state(id) {
                return;
            }
            self.member(id).sync_fails = true;
        }
        self.hit(kind);
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
            Passing::Flicker { until } if self.now < until && !self.healed => self.flicker(until),
            Passing::Flicker { .. } => self.network.delays = 0,
            Passing::Deafen { deaf, id, leader } if !self.healed => self.deafen(deaf, id, leader),
            Passing::Deafen { .. } => {}
            Passing::Blink { id, leader } if !self.healed => self.crash_shortly(id, leader),
            Passing::Blink { .. } => {}
        }
    }

    /// Everything is whole again.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.network = super::network::Network::default();
        let now = self.now;
        // Who is stopped goes on in time: what it has not heard yet waits for that moment, and is to be heard first.
        for id in 1..=self.members.len() as u64 {
            let member = self.member(id);
            if member.process.is_none() && member.needs.is_none() {
                self.boot(id);
            }
        }
        self.servers.iter_mut().for_each(|server| server.down_until = now);
        self.tell(|| "everything is healed".into());
    }
}
