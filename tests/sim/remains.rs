//! What a cluster leaves on its disks when all its processes are gone: journal and state of each master, replicas of each chunk
//! server.

use bytes::Bytes;
use cairn_chunkserver::store::{ChunkStore, DiskConfig};
use cairn_core::ids::{ChunkId, LogIndex, Term};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::LogId;
use cairn_core::journal::members::MEMBERS_KEY;
use cairn_core::journal::membership::Votes;
use cairn_core::namespace::machine::{RowError, Rows};
use cairn_core::superblock::{SUPERBLOCK_FILE, Superblock};
use cairn_env::Env;
use cairn_env::disk::read_small;
use cairn_env::disk_sim::SimDisk;
use cairn_env::kv::{KvRead, Wait};
use cairn_env::kv_memory::MemoryKv;
use cairn_env::spawn::TaskSpawn;
use cairn_master::offline::{Content, Event, Stopped, read_journal};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Rows of a state, or versions of replicas by chunk.
type State = BTreeMap<Bytes, Bytes>;
pub(crate) type Held = BTreeMap<u64, u64>;

/// What a master leaves.
pub(crate) struct Remains {
    pub(crate) id: u64,
    /// Entries of the journal by index, with their terms.
    pub(crate) entries: BTreeMap<u64, (u64, Content)>,
    /// Last entry known to be committed.
    pub(crate) commit: u64,
    pub(crate) damages: Vec<String>,
    /// The flushed state with the committed entries laid over it.
    pub(crate) state: State,
    /// Last entry of the state.
    pub(crate) applied: u64,
}

fn doors(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), spawn: Arc::new(TaskSpawn), ..Env::real() }
}

impl Remains {
    /// Reads the disk of a master whose process is gone; why not, when it cannot be read.
    pub(crate) fn of(id: u64, disk: &SimDisk) -> Result<Self, String> {
        let env = doors(disk);
        let stopped = Stopped::open(&env, Path::new("/data")).map_err(|error| error.to_string())?;
        let mut remains = Self {
            id,
            entries: BTreeMap::new(),
            commit: 0,
            damages: Vec::new(),
            state: State::new(),
            applied: 0,
        };
        let summary = read_journal(&env, &stopped, &mut |event| remains.note(event))
            .map_err(|error| error.to_string())?;
        remains.commit = summary.hard.commit.min(summary.last.index).get();
        let kv =
            MemoryKv::open(env.disk.clone(), Path::new("/data/state")).map_err(|error| error.to_string())?;
        let rows =
            kv.scan(&[], &[0xff; 600], usize::MAX, Wait::ForDisk).map_err(|error| error.to_string())?;
        remains.state = rows.into_iter().collect();
        remains.replay()?;
        Ok(remains)
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Entry { id, content, .. } => {
                self.entries.insert(id.index.get(), (id.term.get(), (*content).clone()));
            }
            Event::Truncate { last } => self.entries.retain(|index, _| *index <= last.get()),
            Event::Reset { .. } => self.entries.clear(),
            Event::Damage { segment, offset, detail } => {
                self.damages.push(format!("segment {segment}, byte {offset}: {detail}"));
            }
            Event::Segment { .. } | Event::Batch { .. } | Event::End { .. } => {}
        }
    }

    /// Lays the committed entries over the state.
    fn replay(&mut self) -> Result<(), String> {
        let row = self.state.get(&APPLIED_KEY[..]).cloned();
        let mut applied = row.and_then(|row| Applied::decode(&row)).unwrap_or_default();
        let first = applied.last.index.get() + 1;
        for (&index, (term, content)) in
            self.entries.range(first..).take_while(|(index, _)| **index <= self.commit)
        {
            if index != applied.last.index.get() + 1 {
                return Err(format!("the journal lacks entries before {index}"));
            }
            applied.last = LogId { index: LogIndex(index), term: Term(*term) };
            match content {
                Content::Empty => {}
                Content::Act(EntryData { rows, time, .. }) => {
                    applied.time = applied.time.max(*time);
                    for (key, value) in rows {
                        match value {
                            Some(value) => drop(self.state.insert(key.clone(), value.clone())),
                            None => drop(self.state.remove(key)),
                        }
                    }
                }
                Content::Votes { change, row, .. } => {
                    let mut votes = Votes { voters: applied.voters, learners: applied.learners };
                    votes.apply(*change);
                    (applied.voters, applied.learners) = (votes.voters, votes.learners);
                    self.state.insert(Bytes::from_static(&MEMBERS_KEY), row.clone());
                }
                Content::Unreadable(error) => return Err(format!("entry {index}: {error}")),
            }
        }
        self.applied = applied.last.index.get();
        self.state.insert(Bytes::from_static(&APPLIED_KEY), applied.encode());
        Ok(())
    }
}

impl Rows for Remains {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        Ok(self.state.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        let range =
            self.state.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(range.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        let range =
            self.state.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        Ok(range.rev().take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        Ok(keys.iter().map(|key| self.state.get(key).cloned()).collect())
    }
}

/// Replicas of a chunk server whose process is gone, and its node.
pub(crate) fn replicas(disk: &SimDisk) -> Result<([u8; 16], Held), String> {
    let env = doors(disk);
    let bytes = read_small(&*env.disk, &Path::new("/disk").join(SUPERBLOCK_FILE), 1 << 16);
    let superblock = bytes.map_err(|error| error.to_string())?;
    let Superblock { cluster, node, .. } =
        Superblock::decode(&superblock).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let disks = [DiskConfig { path: "/disk".into(), capacity_bytes: None, reserve_bytes: 0 }];
        let (store, _) =
            ChunkStore::open(&env, Some(cluster), node, &disks).map_err(|error| error.to_string())?;
        let all = store.list(ChunkId(0), ChunkId(u64::MAX), usize::MAX);
        let held = all.into_iter().map(|replica| (replica.chunk.get(), replica.version.get()));
        Ok((*node.0.as_bytes(), held.collect()))
    })
}
