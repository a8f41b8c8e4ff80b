//! The world of one seed: hosts, the network between them, and events in the order of time. After every event the invariants
//! that it may have touched are checked.

use super::canon::{Asked, Canon};
use super::chunkserver::{FromServer, SERVERS_FROM, Server, ToServer};
use super::client::{CLIENTS_FROM, Client};
use super::clock::{HostClock, WorldTime};
use super::data::Recorded;
use super::home::Home;
use super::invariants::Invariants;
use super::member::{Member, Need};
use super::network::Network;
use super::queue::Queue;
use super::repair::Step;
use super::said::{Connection, ToClient, ToMaster};
use super::trace::Trace;
use crate::sequencer::stepped::Ended;
use cairn_core::ids::{NodeId, Term};
use cairn_core::journal::applied::Applied;
use cairn_core::journal::members::{Member as Master, Members};
use cairn_core::namespace::request::OperationKind;
use cairn_env::clock::Clock;
use cairn_env::random::{Random, SeededRandom};
use raft::eraftpb::Message;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Faults strike until then.
pub(super) const FAULTY: Duration = Duration::from_secs(570);
/// Everything is whole again from then on, up to here.
pub(super) const END: Duration = Duration::from_secs(620);
/// Nothing new is begun from then on.
pub(super) const QUIET: Duration = Duration::from_secs(610);
const CLIENTS: u64 = 3;
const SERVERS: u64 = 5;
/// How often what is begun by nobody in particular is looked after.
const UPKEEP: Duration = Duration::from_millis(250);

/// Something that happens.
pub(super) enum Event {
    /// A master's timer, of its so-many-th start.
    Tick { member: u64, start: u64 },
    /// One master's word reaches another.
    Raft(Box<Message>),
    /// A leader's word that it no longer holds what a follower lacks.
    Behind { from: u64, to: u64, term: Term },
    /// A master's power comes back.
    Boot { member: u64 },
    /// Operators, promotions, fillings.
    Upkeep,
    /// A client looks around.
    Client { client: u64 },
    /// A client's word reaches a master.
    Up { conn: u64, said: Box<ToMaster> },
    /// A master's word reaches a client.
    Down { conn: u64, said: Box<ToClient> },
    /// A chunk server says that it lives.
    Beat { server: u64 },
    /// A word reaches a chunk server.
    ToServer { from: u64, to: u64, said: Box<ToServer> },
    /// A chunk server's word reaches a client or a master.
    FromServer { from: u64, to: u64, said: Box<FromServer> },
    /// The next fault.
    Fault,
    /// A fault passes.
    Heal(super::faults::Passing),
}

/// The world.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: SeededRandom,
    pub(super) time: WorldTime,
    pub(super) now: Duration,
    pub(super) queue: Queue<Event>,
    pub(super) network: Network,
    pub(super) members: Vec<Member>,
    pub(super) founding: Members,
    pub(super) canon: Canon,
    pub(super) invariants: Invariants,
    pub(super) trace: Trace,
    pub(super) hits: BTreeMap<&'static str, u64>,
    pub(super) met: BTreeMap<&'static str, u64>,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    /// Files whose bytes were recorded.
    pub(super) recorded: Vec<Recorded>,
    pub(super) conns: BTreeMap<u64, Connection>,
    /// Counts streams.
    pub(super) made: u64,
    /// What each sequenced request asks for.
    pub(super) asked_for: BTreeMap<Asked, OperationKind>,
    /// Operations that were acknowledged, and questions answered.
    pub(super) operations: u64,
    pub(super) reads: u64,
    /// Homes of clients that are no more.
    pub(super) left_behind: Vec<Home>,
    /// The step of the group that is under way.
    pub(super) step: Option<Step>,
    /// Faults that have struck.
    pub(super) faults: u64,
    /// Nothing fails any more.
    pub(super) healed: bool,
}

impl World {
    pub(super) fn new(seed: u64, shown: bool) -> Self {
        let random = SeededRandom::new(seed);
        let time = WorldTime::default();
        let count = if seed % 5 == 4 { 5 } else { 3 };
        let members: Vec<Member> = (1..=count)
            .map(|id| {
                // A clock that has run for a while: 0 means never to a lease.
                let uptime = Duration::from_millis(100_000 + random.below(1_000_000));
                let drift = random.below(60_000) as i64 - 30_000;
                let node = NodeId(Uuid::from_u128(u128::from(id)));
                Member::new(id, node, HostClock::new(time.clone(), uptime, drift))
            })
            .collect();
        let record =
            |member: &Member| Master { id: member.id, node: member.node, address: address(member.id) };
        let founding = Members::new(members.iter().map(record).collect()).unwrap();
        let voters = members.iter().map(|member| member.id).collect();
        let applied = Applied { feature_level: 1, voters, ..Applied::default() };
        let canon = Canon::new(applied, founding.encode());
        let mut world = Self {
            seed,
            random,
            time,
            now: Duration::ZERO,
            queue: Queue::new(),
            network: Network::default(),
            members,
            founding,
            canon,
            invariants: Invariants::default(),
            trace: Trace::new(shown),
            hits: BTreeMap::new(),
            met: BTreeMap::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            recorded: Vec::new(),
            conns: BTreeMap::new(),
            made: 0,
            asked_for: BTreeMap::new(),
            operations: 0,
            reads: 0,
            left_behind: Vec::new(),
            step: None,
            faults: 0,
            healed: false,
        };
        (1..=count).for_each(|id| world.boot(id));
        for id in CLIENTS_FROM..CLIENTS_FROM + CLIENTS {
            let uptime = Duration::from_millis(100_000 + world.below(1_000_000));
            let drift = world.below(60_000) as i64 - 30_000;
            world.clients.push(Client::new(id, HostClock::new(world.time.clone(), uptime, drift)));
            let at = Duration::from_micros(500_000 + world.below(100_000));
            world.queue.push(at, Event::Client { client: id });
        }
        for id in SERVERS_FROM..SERVERS_FROM + SERVERS {
            world.servers.push(Server::new(id));
            world
                .queue
                .push(Duration::from_micros(600_000 + world.below(300_000)), Event::Beat { server: id });
        }
        world.queue.push(UPKEEP, Event::Upkeep);
        world.plan_fault();
        world
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    pub(super) fn chance(&self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    pub(super) fn hit(&mut self, what: &'static str) {
        *self.hits.entry(what).or_default() += 1;
    }

    /// Counts what is no fault.
    pub(super) fn hit_quietly(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        self.trace.tell(self.now, what);
    }

    pub(super) fn member(&mut self, id: u64) -> &mut Member {
        &mut self.members[id as usize - 1]
    }

    /// The master that leads and decides, as it believes itself; of two the one with the higher term.
    pub(super) fn leader(&self) -> Option<u64> {
        let leads = self.members.iter().filter_map(|member| {
            let process = member.process.as_ref()?;
            Some((process.stepped.leading()?, member.id))
        });
        leads.max().map(|(_, id)| id)
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) {
        self.until(FAULTY);
        self.heal();
        self.until(END);
        self.check_end();
    }

    fn until(&mut self, end: Duration) {
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.time.set(at);
            self.step(event);
        }
        self.now = end;
        self.time.set(end);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Tick { member, start } => self.tick(member, start),
            Event::Raft(message) => self.deliver(message),
            Event::Behind { from, to, term } => {
                if let Some(process) = self.member(to).process.as_ref() {
                    process.stepped.fall_behind(from, term);
                    self.turn(to);
                }
            }
            Event::Boot { member } => self.boot(member),
            Event::Upkeep => {
                self.queue.push(self.now + UPKEEP, Event::Upkeep);
                self.mend();
                self.upkeep();
            }
            Event::Client { client } => self.client_step(client),
            Event::Up { conn, said } => self.hear_client(conn, said),
            Event::Down { conn, said } => self.hear_master(conn, said),
            Event::Beat { server } => self.beat(server),
            Event::ToServer { from, to, said } => self.hear_at_server(from, to, *said),
            Event::FromServer { from, to, said } => self.hear_server(from, to, said),
            Event::Fault => self.fault(),
            Event::Heal(passing) => self.pass(passing),
        }
    }

    fn tick(&mut self, id: u64, start: u64) {
        let now = self.now;
        let member = self.member(id);
        if member.start != start || member.process.is_none() {
            return;
        }
        if member.paused_until > now {
            let until = member.paused_until;
            return self.queue.push(until, Event::Tick { member: id, start });
        }
        self.turn(id);
        self.plan_tick(id);
    }

    pub(super) fn plan_tick(&mut self, id: u64) {
        let member = self.member(id);
        if let Some(process) = &member.process {
            let at = member.clock.moment_of(process.stepped.next_tick());
            let event = Event::Tick { member: id, start: member.start };
            let at = at.max(self.now + Duration::from_nanos(1));
            self.queue.push(at, event);
        }
    }

    fn deliver(&mut self, message: Box<Message>) {
        let (to, now) = (message.to, self.now);
        let member = self.member(to);
        if member.paused_until > now && member.process.is_some() {
            // It waits in the socket.
            let until = member.paused_until;
            return self.queue.push(until, Event::Raft(message));
        }
        let Some(process) = &member.process else { return };
        let kind = message.msg_type as u64;
        process.stepped.hear(*message);
        self.trace.note(now, [1, to, kind]);
        self.turn(to);
    }

    /// Lets a master do what there is to do, sends what it says, and looks at what it has become.
    pub(super) fn turn(&mut self, id: u64) {
        loop {
            let Some(process) = self.member(id).process.as_mut() else { return };
            let ended = process.stepped.turn();
            let (messages, behind) = process.outbox.take();
            for message in messages {
                self.say(id, message);
            }
            for (to, term) in behind {
                if let Some(at) = self.arrival(id, to) {
                    self.queue.push(at, Event::Behind { from: id, to, term });
                }
            }
            self.observe(id, ended.is_ok());
            match ended {
                Ok(()) if self.pump(id) => {}
                Ok(()) => return,
                Err(ended) => return self.ended(id, ended),
            }
        }
    }

    /// Lets answers go. True when the sequencer has got something to do.
    fn pump(&mut self, id: u64) -> bool {
        let member = self.member(id);
        let times = (member.now(), member.clock.wall());
        let Some(process) = member.process.as_mut() else { return false };
        let mut out = Vec::new();
        let busy = process.front.pump(&process.stepped, times, &mut out);
        let commands = std::mem::take(&mut process.front.servers.out);
        commands.into_iter().for_each(|(host, said)| self.send_to_server(id, host, said));
        out.into_iter().for_each(|(conn, said)| self.down(conn, said));
        busy
    }

    fn upkeep(&mut self) {
        for id in 1..=self.members.len() as u64 {
            let now = self.now;
            let member = self.member(id);
            let own = member.now();
            let is_there = member.paused_until <= now;
            let Some(process) = member.process.as_mut().filter(|_| is_there) else { continue };
            let mut out = Vec::new();
            process.front.upkeep(&process.stepped, own, &mut out);
            out.into_iter().for_each(|(conn, said)| self.down(conn, said));
            self.turn(id);
        }
    }

    fn ended(&mut self, id: u64, ended: Ended) {
        match ended {
            Ended::MustBeFilled(reason) => {
                self.tell(|| format!("master {id} must be filled: {reason}"));
                self.stop(id);
                self.member(id).needs.get_or_insert(Need::Fill { lost_vote: false });
            }
            Ended::Failed(reason) => {
                self.tell(|| format!("master {id} fails: {reason}"));
                self.hit("masters that failed");
                self.power_off(id);
            }
        }
    }

    fn say(&mut self, id: u64, message: Message) {
        self.invariants.said(self.seed, &mut self.members[id as usize - 1], &message);
        let to = message.to;
        if to as usize > self.members.len() {
            return;
        }
        let (first, second) = self.arrivals(id, to);
        if let Some(at) = second {
            self.queue.push(at, Event::Raft(Box::new(message.clone())));
        }
        if let Some(at) = first {
            self.queue.push(at, Event::Raft(Box::new(message)));
        }
    }

    /// What a master has become since it was looked at last; one that is not `sound` ends with this turn.
    fn observe(&mut self, id: u64, sound: bool) {
        let Self { seed, members, canon, invariants, now, asked_for, servers, .. } = self;
        let member = &mut members[id as usize - 1];
        let Some(process) = &member.process else { return };
        if process.stepped.applied().last.index.get() != invariants.seen(id) {
            invariants.applied(*seed, id, (&process.stepped, sound), canon, asked_for, servers);
            let last = process.stepped.applied().last.index.get();
            self.trace.note(*now, [2, id, last]);
            if member.voters != process.stepped.applied().voters {
                member.voters.clone_from(&process.stepped.applied().voters);
            }
        }
        self.invariants.leads(self.seed, id, &self.members);
    }

    /// Its process is gone, its disk as it was.
    pub(super) fn stop(&mut self, id: u64) {
        let member = self.member(id);
        member.process = None;
        member.start += 1;
        self.invariants.down(id);
    }
}

pub(super) fn address(id: u64) -> String {
    format!("master-{id}:7000")
}
