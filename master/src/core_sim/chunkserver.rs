//! A chunk server's host. Its store is a model of the rules of `chunkserver/store`, which needs a runtime: versions, lease floors and
//! terms, what a crash leaves of bytes that were not synced, and that it says so. (The real store is driven on simulated disks by
//! its own tests and by the simulation of the whole cluster.)

use super::world::{Event, World};
use cairn_core::ids::{ChunkId, ChunkVersion, LeaseNumber, NodeId, Term};
use cairn_core::seeded::{Bug, is_planted};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// First number of a chunk server's host.
pub(super) const SERVERS_FROM: u64 = 101;
/// How often a chunk server says that it lives.
const BEAT: Duration = Duration::from_millis(300);

/// The contents of a replica: block by block, a number that stands for its bytes.
pub(super) type Blocks = BTreeMap<u32, u64>;

/// A replica: what is journaled is durable before it is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    pub(super) version: ChunkVersion,
    lease: LeaseNumber,
    /// As it reads now.
    pub(super) blocks: Blocks,
    /// As it was synced last.
    pub(super) durable: Blocks,
    /// Writes that were answered were lost: no sync succeeds until the version is raised.
    pub(super) writes_lost: bool,
}

impl Replica {
    /// Whether a request of `version` may touch it.
    fn is_of(&self, version: ChunkVersion) -> bool {
        self.version == version || is_planted(Bug::IgnoreVersion)
    }
}

/// A chunk server's host.
pub(super) struct Server {
    pub(super) node: NodeId,
    pub(super) replicas: BTreeMap<ChunkId, Replica>,
    /// Highest term obeyed, on its disk.
    pub(super) term: Term,
    pub(super) down_until: Duration,
}

/// A word to a chunk server.
#[derive(Clone, Debug)]
pub(super) enum ToServer {
    Write { job: u64, chunk: ChunkId, version: ChunkVersion, lease: LeaseNumber, blocks: Blocks },
    Sync { job: u64, chunk: ChunkId, version: ChunkVersion },
    Read { job: u64, chunk: ChunkId, version: ChunkVersion },
    Fence { term: Term },
    Raise { term: Term, order: u64, chunk: ChunkId, from: ChunkVersion, to: ChunkVersion },
    Delete { term: Term, chunk: ChunkId, up_to: ChunkVersion },
}

/// A chunk server's word.
#[derive(Clone, Debug)]
pub(super) enum FromServer {
    /// It lives.
    Beat {
        node: NodeId,
    },
    /// A write or sync of a client's job is done, or was refused.
    Done {
        job: u64,
        good: bool,
    },
    /// What a replica holds; `None`: it refuses.
    Blocks {
        job: u64,
        blocks: Option<Blocks>,
    },
    Raised {
        order: u64,
    },
    Deleted {
        chunk: ChunkId,
        up_to: ChunkVersion,
    },
}

impl Server {
    pub(super) fn new(id: u64) -> Self {
        let node = NodeId(Uuid::from_u128(u128::from(id)));
        Self { node, replicas: BTreeMap::new(), term: Term(0), down_until: Duration::ZERO }
    }

    /// Persists a higher term before it obeys; refuses a lower one.
    fn obeys(&mut self, term: Term) -> bool {
        let obeys = term >= self.term;
        self.term = self.term.max(term);
        obeys
    }

    fn write(&mut self, chunk: ChunkId, version: ChunkVersion, lease: LeaseNumber, blocks: &Blocks) -> bool {
        let fresh = || Replica { version, lease, ..Replica::default() };
        let replica = self.replicas.entry(chunk).or_insert_with(fresh);
        if !replica.is_of(version) || lease < replica.lease {
            return false;
        }
        replica.lease = lease;
        replica.blocks.extend(blocks);
        true
    }

    fn sync(&mut self, chunk: ChunkId, version: ChunkVersion) -> bool {
        let replica = self.replicas.get_mut(&chunk).filter(|it| it.is_of(version) && !it.writes_lost);
        replica.map(|replica| replica.durable.clone_from(&replica.blocks)).is_some()
    }

    fn raise(&mut self, chunk: ChunkId, from: ChunkVersion, to: ChunkVersion) -> bool {
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|it| it.version >= from) else {
            return false;
        };
        if replica.version < to {
            (replica.version, replica.writes_lost) = (to, false);
        }
        true
    }

    /// A power cut: of each block that was not synced the old or the new is left.
    pub(super) fn crash(&mut self, mut keeps: impl FnMut() -> bool) {
        for replica in self.replicas.values_mut() {
            for (block, stamp) in &replica.blocks {
                if replica.durable.get(block) != Some(stamp) {
                    replica.writes_lost = true;
                    if keeps() {
                        replica.durable.insert(*block, *stamp);
                    }
                }
            }
            replica.blocks.clone_from(&replica.durable);
        }
    }
}

impl World {
    pub(super) fn server(&mut self, id: u64) -> &mut Server {
        &mut self.servers[(id - SERVERS_FROM) as usize]
    }

    /// Says something to a chunk server.
    pub(super) fn send_to_server(&mut self, from: u64, to: u64, said: ToServer) {
        if let Some(at) = self.arrival(from, to) {
            self.queue.push(at, Event::ToServer { from, to, said: Box::new(said) });
        }
    }

    /// As [`World::send_to_server`]; what a broken connection had on its way may come again much later.
    pub(super) fn write_to_server(&mut self, from: u64, to: u64, said: ToServer) {
        if self.chance(6) {
            self.hit_quietly("writes that came again later");
            let at = self.now + Duration::from_millis(self.below(3000));
            self.queue.push(at, Event::ToServer { from, to, said: Box::new(said.clone()) });
        }
        self.send_to_server(from, to, said);
    }

    fn send_from_server(&mut self, from: u64, to: u64, said: FromServer) {
        if let Some(at) = self.arrival(from, to) {
            self.queue.push(at, Event::FromServer { from, to, said: Box::new(said) });
        }
    }

    /// A chunk server tells all masters that it lives.
    pub(super) fn beat(&mut self, id: u64) {
        self.queue.push(self.now + BEAT, Event::Beat { server: id });
        let now = self.now;
        let (node, down_until) = (self.server(id).node, self.server(id).down_until);
        if down_until <= now {
            for master in 1..=self.members.len() as u64 {
                self.send_from_server(id, master, FromServer::Beat { node });
            }
        }
    }

    /// A word reaches a chunk server.
    pub(super) fn hear_at_server(&mut self, from: u64, to: u64, said: ToServer) {
        let now = self.now;
        if self.server(to).down_until > now {
            return;
        }
        self.trace.note(now, [5, to, from]);
        let server = self.server(to);
        let answer = match said {
            ToServer::Write { job, chunk, version, lease, blocks } => {
                FromServer::Done { job, good: server.write(chunk, version, lease, &blocks) }
            }
            ToServer::Sync { job, chunk, version } => {
                FromServer::Done { job, good: server.sync(chunk, version) }
            }
            ToServer::Read { job, chunk, version } => {
                let replica = server.replicas.get(&chunk).filter(|it| it.is_of(version));
                FromServer::Blocks { job, blocks: replica.map(|replica| replica.blocks.clone()) }
            }
            ToServer::Fence { term } => return self.obey(to, term, |_| ()).unwrap_or_default(),
            ToServer::Raise { term, order, chunk, from, to: version } => {
                let raised = self.obey(to, term, |server| server.raise(chunk, from, version));
                if raised != Some(true) {
                    return;
                }
                FromServer::Raised { order }
            }
            ToServer::Delete { term, chunk, up_to } => {
                if self.obey(to, term, |_| ()).is_none() {
                    return;
                }
                let is_beyond = self.server(to).replicas.get(&chunk).is_some_and(|it| it.version > up_to);
                if is_beyond {
                    return;
                }
                if self.server(to).replicas.contains_key(&chunk) {
                    self.hit_quietly("replicas deleted");
                    let node = self.server(to).node;
                    self.invariants.deleted(self.seed, node, chunk, &self.canon);
                    self.server(to).replicas.remove(&chunk);
                }
                FromServer::Deleted { chunk, up_to }
            }
        };
        self.send_from_server(to, from, answer);
    }

    /// Does what a master commands, unless a later one has spoken.
    fn obey<T>(&mut self, id: u64, term: Term, act: impl FnOnce(&mut Server) -> T) -> Option<T> {
        let server = self.server(id);
        if !server.obeys(term) {
            self.hit_quietly("commands of deposed masters refused");
            return None;
        }
        self.invariants.obeyed(self.seed, id, term);
        Some(act(self.server(id)))
    }

    /// A chunk server's word reaches a client or a master.
    pub(super) fn hear_server(&mut self, from: u64, to: u64, said: Box<FromServer>) {
        let now = self.now;
        if to >= super::client::CLIENTS_FROM {
            return self.data_answered(to, from, *said);
        }
        let member = self.member(to);
        if member.paused_until > now {
            let until = member.paused_until;
            return self.queue.push(until, Event::FromServer { from, to, said });
        }
        let own = member.now();
        let Some(process) = member.process.as_mut() else { return };
        if process.front.hear_server(&process.stepped, own, from, *said) {
            self.turn(to);
        }
    }
}
