//! A master's host: its disk and clocks outlive its process, which is the real sequencer, driven by hand.

use super::clock::HostClock;
use super::front::Front;
use crate::caching::Caching;
use crate::peers::ToPeers;
use crate::sequencer::stepped::Stepped;
use crate::sequencer::{Settings, StartError, StateStore, Tuning};
use cairn_core::cluster::ClusterView;
use cairn_core::ids::{NodeId, Term};
use cairn_core::journal::members::Members;
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::clock::Clock;
use cairn_env::disk::Disk;
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::SeededRandom;
use cairn_env::spawn::TaskSpawn;
use raft::eraftpb::Message;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

pub(super) const DATA_DIR: &str = "/data";
const TUNING: Tuning = Tuning { segment_bytes: 64 << 10, keep_bytes: 16 << 10, checkpoint_bytes: 128 << 10 };

/// What a member has said and the network has not taken yet.
#[derive(Default)]
pub(super) struct Outbox {
    messages: Mutex<Vec<Message>>,
    behind: Mutex<Vec<(u64, Term)>>,
}

impl Outbox {
    pub(super) fn take(&self) -> (Vec<Message>, Vec<(u64, Term)>) {
        (
            std::mem::take(&mut *self.messages.lock().unwrap()),
            std::mem::take(&mut *self.behind.lock().unwrap()),
        )
    }
}

impl ToPeers for Outbox {
    fn send(&self, messages: Vec<Message>) -> Vec<u64> {
        self.messages.lock().unwrap().extend(messages);
        Vec::new()
    }

    fn tell_behind(&self, member: u64, term: Term) {
        self.behind.lock().unwrap().push((member, term));
    }
}

/// A running master.
pub(super) struct Process {
    pub(super) stepped: Stepped,
    pub(super) outbox: Arc<Outbox>,
    pub(super) front: Front,
    pub(super) env: Env,
}

/// What a member that cannot go on by itself needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// An operator gives the place of its lost disk away.
    Replace,
    /// What it said does not count any more.
    Detach,
    /// It follows without a vote.
    Join,
    /// A copy of the leader's state; with a vote of its own or without.
    Fill { lost_vote: bool },
}

/// A master's host.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) node: NodeId,
    pub(super) disk: SimDisk,
    pub(super) clock: Arc<HostClock>,
    /// `None` while it is down.
    pub(super) process: Option<Process>,
    /// Counts starts: what was meant for an earlier process is void.
    pub(super) start: u64,
    /// Neither ticks nor hears until then.
    pub(super) paused_until: Duration,
    pub(super) needs: Option<Need>,
    /// A sync of its state is to fail.
    pub(super) sync_fails: bool,
    /// Voters of the group as its state has them, or had them when it ran last.
    pub(super) voters: Vec<u64>,
    /// The last term that it has named to others, since it has its disk.
    pub(super) said_term: u64,
}

impl Member {
    pub(super) fn new(id: u64, node: NodeId, clock: HostClock) -> Self {
        Self {
            id,
            node,
            disk: empty_disk(),
            clock: Arc::new(clock),
            process: None,
            start: 0,
            paused_until: Duration::ZERO,
            needs: None,
            sync_fails: false,
            voters: Vec::new(),
            said_term: 0,
        }
    }

    /// Whether it still has what it has said, as far as is known.
    pub(super) fn keeps_vote(&self) -> bool {
        matches!(self.needs, None | Some(Need::Fill { lost_vote: false }))
    }

    pub(super) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// The doors of a process that starts now.
    pub(super) fn env(&self, seed: u64) -> Env {
        Env {
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(seed)),
            disk: Arc::new(self.disk.clone()),
            spawn: Arc::new(TaskSpawn),
            ..Env::real()
        }
    }

    /// Starts its process.
    pub(super) fn boot(&mut self, seed: u64, founding: &Members) -> Result<(), StartError> {
        let env = self.env(seed);
        let (view, seen) = watch::channel(Arc::new(ClusterView::default()));
        let caching: Arc<Caching> = Arc::default();
        let settings = Settings {
            store: StateStore::Memory,
            tuning: TUNING,
            caching: Arc::clone(&caching),
            default_replicas: 3,
            ..Settings::new(DATA_DIR.into(), self.id, self.node)
        };
        let outbox: Arc<Outbox> = Arc::default();
        let stepped = Stepped::open(&env, &settings, founding, seen, outbox.clone())?;
        let front = Front::new(caching, view, seed);
        self.process = Some(Process { stepped, outbox, front, env });
        self.start += 1;
        Ok(())
    }
}

/// A disk with nothing but the data directory.
pub(super) fn empty_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DATA_DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}
