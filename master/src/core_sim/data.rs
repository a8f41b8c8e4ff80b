//! A client's file: made, written to every replica, synced, recorded, read by whoever comes across it, and removed.

use super::chunkserver::{Blocks, FromServer, ToServer};
use super::client::{DATA_SLOT, Purpose};
use super::home::name;
use super::world::World;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, ServerId};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::{Extent, OperationKind, QueryKind};
use std::collections::BTreeSet;
use std::time::Duration;

/// A replica that does not answer for so long is left behind.
const PATIENCE: Duration = Duration::from_millis(600);
const BLOCK: u64 = 4096;
const BLOCKS: u32 = 4;
/// With more files the first one is removed.
const FILES: usize = 8;

/// A file whose bytes were recorded: everybody reads them from then on.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) inode: InodeId,
    pub(super) chunk: ChunkId,
    pub(super) blocks: Blocks,
    /// Its removal was begun: it may be gone.
    pub(super) removed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// An answer of the master is awaited.
    #[default]
    Asks,
    Writes,
    Syncs,
}

/// What is under way with a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    number: u64,
    stage: Stage,
    inode: InodeId,
    lease: LeaseNumber,
    chunk: ChunkId,
    version: ChunkVersion,
    /// Servers of the set, with their hosts.
    set: Vec<(ServerId, u64)>,
    blocks: Blocks,
    waits_for: BTreeSet<u64>,
    until: Duration,
}

/// A read of a recorded file that is under way.
pub(super) struct Reading {
    pub(super) number: u64,
    pub(super) recorded: usize,
}

/// The host that stands behind an address.
fn host(address: &str) -> Option<u64> {
    address.strip_prefix("cs-")?.parse().ok()
}

fn set_of(location: &ChunkLocation) -> Vec<(ServerId, u64)> {
    // A server that is not connected has no address: nobody hears what is said to host 0.
    location.replicas.iter().map(|replica| (replica.server, host(&replica.address).unwrap_or(0))).collect()
}

impl World {
    /// What a client does about its file when it looks around.
    pub(super) fn work_on_data(&mut self, id: u64, calm: bool) {
        let now = self.now;
        let Some(job) = self.client(id).job.clone() else {
            if !calm && self.chance(70) {
                let living = self.recorded.iter().filter(|recorded| !recorded.removed).count();
                match living > FILES {
                    true => self.remove_file(id),
                    false => self.make_file(id),
                }
            }
            return;
        };
        if job.stage != Stage::Asks && job.until < now {
            self.replace(id, job);
        }
    }

    fn make_file(&mut self, id: u64) {
        self.made += 1;
        let number = self.made;
        let name = name(&format!("data-{number}"));
        let client = self.client(id);
        client.job = Some(Job { number, ..Job::default() });
        let kind = OperationKind::Create { parent: InodeId::ROOT, name, mode: 0o644, exclusive: true };
        client.operate(DATA_SLOT, Purpose::Data, kind);
    }

    /// Removes the file that was recorded first, by whomever.
    fn remove_file(&mut self, id: u64) {
        let Some(at) = self.recorded.iter().position(|recorded| !recorded.removed) else { return };
        self.recorded[at].removed = true;
        let inode = self.recorded[at].inode;
        let Some((parent, name)) = self.canon.name_of(inode) else { return };
        let client = self.client(id);
        client.job = Some(Job { inode, ..Job::default() });
        client.operate(DATA_SLOT, Purpose::Data, OperationKind::Unlink { parent, name });
    }

    /// The master has answered: the next stage.
    pub(super) fn data_done(&mut self, id: u64, kind: &OperationKind, outcome: &Result<Answer, FsError>) {
        let Some(mut job) = self.client(id).job.take() else { return };
        match (kind, outcome) {
            (OperationKind::Create { .. }, Ok(Answer::Created { attr, lease: Some(lease), .. })) => {
                (job.inode, job.lease) = (attr.inode, *lease);
                let kind = OperationKind::AllocateChunks { inode: attr.inode, count: 1 };
                self.client(id).operate(DATA_SLOT, Purpose::Data, kind);
                self.client(id).job = Some(job);
            }
            (
                OperationKind::AllocateChunks { .. } | OperationKind::ReplaceReplicas { .. },
                Ok(Answer::Chunks(it)),
            ) => {
                let [location] = &it[..] else { return };
                (job.chunk, job.version) = (location.chunk, location.version);
                job.set = set_of(location);
                // What is written under a higher version differs from what may still be on its way under the one before.
                job.blocks = (0..BLOCKS).map(|block| (block, self.below(u64::MAX))).collect();
                self.write(id, job);
            }
            (OperationKind::Commit { .. }, Ok(_)) => {
                self.hit_quietly("files recorded");
                let Job { inode, chunk, blocks, .. } = job;
                let recorded = Recorded { inode, chunk, blocks, removed: false };
                self.invariants.recorded(self.seed, &recorded, &self.servers, &self.canon);
                self.recorded.push(recorded);
            }
            // Too few replicas are left, or the lease is lost: the file is given up.
            _ => {}
        }
    }

    fn write(&mut self, id: u64, mut job: Job) {
        (job.stage, job.until) = (Stage::Writes, self.now + PATIENCE);
        self.made += 1;
        job.number = self.made;
        job.waits_for = job.set.iter().map(|(_, host)| *host).collect();
        for &(_, host) in job.set.iter().filter(|(_, host)| *host != 0) {
            let Job { number, chunk, version, lease, .. } = job;
            let blocks = job.blocks.clone();
            self.write_to_server(id, host, ToServer::Write { job: number, chunk, version, lease, blocks });
        }
        self.client(id).job = Some(job);
    }

    fn sync(&mut self, id: u64, mut job: Job) {
        (job.stage, job.until) = (Stage::Syncs, self.now + PATIENCE);
        self.made += 1;
        job.number = self.made;
        job.waits_for = job.set.iter().map(|(_, host)| *host).collect();
        for &(_, host) in &job.set {
            let Job { number, chunk, version, .. } = job;
            self.send_to_server(id, host, ToServer::Sync { job: number, chunk, version });
        }
        self.client(id).job = Some(job);
    }

    /// Has the set replaced by those of it that answer.
    fn replace(&mut self, id: u64, mut job: Job) {
        let Job { chunk, version, .. } = job;
        let is_late = |(_, host): &&(ServerId, u64)| job.waits_for.contains(host);
        let failed = job.set.iter().filter(is_late).map(|(server, _)| *server).collect();
        self.hit_quietly("replica sets to be replaced");
        job.stage = Stage::Asks;
        let client = self.client(id);
        client.job = Some(job);
        client.operate(DATA_SLOT, Purpose::Data, OperationKind::ReplaceReplicas { chunk, version, failed });
    }

    fn record(&mut self, id: u64, mut job: Job) {
        let length = BLOCK * u64::from(BLOCKS);
        let extent = Extent { offset: 0, length, chunk: job.chunk, chunk_offset: 0 };
        let kind = OperationKind::Commit {
            inode: job.inode,
            lease: job.lease,
            extents: vec![extent],
            length,
            modified: true,
            release: true,
            changes: AttrChanges::default(),
        };
        job.stage = Stage::Asks;
        let client = self.client(id);
        client.job = Some(job);
        client.operate(DATA_SLOT, Purpose::Data, kind);
    }

    /// A chunk server has answered a client.
    pub(super) fn data_answered(&mut self, id: u64, from: u64, said: FromServer) {
        let now = self.now;
        if self.client(id).paused_until > now {
            // As if it came too late.
            return;
        }
        match said {
            FromServer::Done { job: number, good } => {
                let Some(mut job) = self.client(id).job.take() else { return };
                if job.number != number || job.stage == Stage::Asks {
                    self.client(id).job = Some(job);
                    return;
                }
                if !good {
                    return self.replace(id, job);
                }
                job.waits_for.remove(&from);
                match (job.waits_for.is_empty(), job.stage) {
                    (false, _) => self.client(id).job = Some(job),
                    (true, Stage::Writes) => self.sync(id, job),
                    (true, _) => self.record(id, job),
                }
            }
            FromServer::Blocks { job, blocks } => {
                let Some(reading) = self.client(id).reading.take_if(|reading| reading.number == job) else {
                    return;
                };
                if let Some(blocks) = blocks {
                    self.hit_quietly("files read back");
                    let recorded = &self.recorded[reading.recorded];
                    self.invariants.read_back(self.seed, recorded, &blocks);
                }
            }
            FromServer::Beat { .. } | FromServer::Raised { .. } | FromServer::Deleted { .. } => {}
        }
    }

    /// Looks for the bytes of a file that anybody has recorded.
    pub(super) fn read_a_file(&mut self, id: u64) {
        let count = self.recorded.len() as u64;
        let at = self.below(count.max(1)) as usize;
        if let Some(recorded) = self.recorded.get(at).filter(|recorded| !recorded.removed) {
            let inode = recorded.inode;
            self.client(id).reading = Some(Reading { number: 0, recorded: at });
            self.ask(id, QueryKind::Map { inode, offset: 0, length: u64::MAX }, false);
        }
    }

    /// The map of a file has come: one of the replicas that it names is read.
    pub(super) fn map_found(&mut self, id: u64, inode: InodeId, outcome: &Result<Answer, FsError>) {
        let drawn = self.below(8) as usize;
        self.made += 1;
        let number = self.made;
        let Some(reading) = self.client(id).reading.as_mut() else { return };
        reading.number = number;
        let at = reading.recorded;
        let Ok(Answer::Map(map)) = outcome else { return };
        // Another file may be looked for meanwhile.
        if self.recorded[at].removed || self.recorded[at].inode != inode {
            return;
        }
        let named: Vec<ChunkId> = map.extents.iter().map(|extent| extent.chunk).collect();
        assert_eq!(named, [self.recorded[at].chunk], "seed {}: I1: the map of a recorded file", self.seed);
        let Some(location) = map.chunks.first() else { return };
        let replica = &location.replicas[drawn % location.replicas.len()];
        if let Some(host) = host(&replica.address) {
            let (chunk, version) = (location.chunk, location.version);
            self.send_to_server(id, host, ToServer::Read { job: number, chunk, version });
        }
    }
}
