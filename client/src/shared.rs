//! What every part of one connected file system uses.

use crate::creations::Creations;
use crate::data::Data;
use crate::figures::{DirtyFigures, Figures, LeaderFigures, MemoryUse};
use crate::fs::Neighbours;
use crate::inode::Inode;
use crate::meta::{Event, Events, Heard, Meta};
use crate::options::{ConnectOptions, Unavailable};
use crate::remembered::{Lookups, Views};
use crate::slow;
use crate::write::ChunkPool;
use cairn_core::ids::{InodeId, LeaseNumber};
use cairn_core::limits::LOOKUP_EXTENTS_MAX;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Credentials, OperationKind, PermissionCheck};
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_proto::v1::SlowHopKind;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// One connected file system.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) options: ConnectOptions,
    pub(crate) meta: Meta,
    pub(crate) data: Arc<Data>,
    pub(crate) pool: ChunkPool,
    pub(crate) lookups: Lookups,
    pub(crate) views: Views,
    pub(crate) neighbours: Neighbours,
    pub(crate) creations: Creations,
    /// Bytes that written data may still occupy.
    pub(crate) write_memory: Semaphore,
    /// Bytes that read-ahead may still occupy.
    pub(crate) read_memory: Arc<Semaphore>,
    inodes: Mutex<BTreeMap<InodeId, Arc<Inode>>>,
    idle: Mutex<VecDeque<InodeId>>,
    runtime: Handle,
    sessions_lost: AtomicU64,
    /// Who keeps a cache above this one.
    pub(crate) above: OnceLock<Disbelieve>,
}

/// Told which inodes' attributes, and whether names, must not be believed any more. Must not wait for any request.
pub type Disbelieve = Box<dyn Fn(&[InodeId], bool) + Send + Sync>;

impl Drop for Shared {
    fn drop(&mut self) {
        self.meta.abandon();
    }
}

/// Half of the budget is for writing, half for reading ahead.
fn half_budget(options: &ConnectOptions) -> usize {
    ((options.memory_budget_bytes / 2) as usize).clamp(1 << 20, Semaphore::MAX_PERMITS / 2)
}

/// The session's events, for a file system that exists only after the session does.
#[derive(Clone, Default)]
pub(crate) struct EventDoor {
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl EventDoor {
    pub(crate) fn events(&self) -> Events {
        let door = self.shared.clone();
        Arc::new(move |event| {
            if let Some(shared) = door.get().and_then(Weak::upgrade) {
                shared.on_event(event);
            }
        })
    }

    pub(crate) fn open(&self, shared: &Arc<Shared>) {
        // Opened once, by its maker.
        let _ = self.shared.set(Arc::downgrade(shared));
    }
}

impl Shared {
    pub(crate) fn new(env: Env, options: ConnectOptions, meta: Meta, data: Arc<Data>) -> Self {
        let half = half_budget(&options);
        Self {
            env,
            options,
            meta,
            data,
            pool: ChunkPool::default(),
            lookups: Lookups::default(),
            views: Views::default(),
            neighbours: Neighbours::default(),
            creations: Creations::default(),
            write_memory: Semaphore::new(half),
            read_memory: Arc::new(Semaphore::new(half)),
            inodes: Mutex::new(BTreeMap::new()),
            idle: Mutex::new(VecDeque::new()),
            runtime: Handle::current(),
            sessions_lost: AtomicU64::new(0),
            above: OnceLock::new(),
        }
    }

    /// For requests that serve no caller in particular.
    pub(crate) fn own_credentials(&self) -> Credentials {
        Credentials { uid: 0, gid: 0, groups: Vec::new(), check: PermissionCheck::Kernel }
    }

    /// The same caller, for what the opening of the file has allowed already.
    pub(crate) fn kernel_checked(&self, who: &Credentials) -> Credentials {
        Credentials { check: PermissionCheck::Kernel, ..who.clone() }
    }

    /// Closed inodes whose write lease is kept, oldest first.
    pub(crate) fn idle_leases(&self) -> MutexGuard<'_, VecDeque<InodeId>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task in the runtime of the connection, whichever thread asks.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }

    /// Whether the policy allows to wait longer for data that nobody can serve at present.
    pub(crate) fn may_wait(&self, since: Tick) -> bool {
        match self.options.unavailable {
            Unavailable::Wait => true,
            Unavailable::Fail { after } => self.env.clock.now().since(since) < after,
        }
    }

    /// An operation of a user, with its trail.
    pub(crate) async fn operation<T>(
        &self,
        what: &str,
        inode: InodeId,
        work: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        slow::operation(&self.env, self.meta.slow(), (what, inode), work).await
    }

    /// Sleeps with jitter and doubles the pause, up to `most`.
    pub(crate) async fn pause(&self, pause: &mut Duration, most: Duration) {
        let jitter = self.env.random.below(pause.as_micros() as u64 / 2 + 1);
        let span = *pause + Duration::from_micros(jitter);
        tokio::time::sleep(span).await;
        *pause = (*pause * 2).min(most);
        slow::waited_for(span, SlowHopKind::HopRetry, "");
    }

    /// Keeps attributes, and a map if it is whole and small: what a lookup would have brought along.
    pub(crate) fn keep_map(&self, heard: &Heard) {
        let Ok(Answer::Map(map)) = &heard.outcome else { return };
        if let Some(attr) = map.attr.as_ref().filter(|_| heard.leased) {
            let is_small = map.complete_to >= attr.size && map.extents.len() <= LOOKUP_EXTENTS_MAX;
            self.meta.cache().learn(heard.ticket, attr, is_small.then_some(map));
        }
    }

    pub(crate) fn leader(&self) -> LeaderFigures {
        self.meta.leader(self.session_epoch())
    }

    pub(crate) fn figures(&self) -> Figures {
        let budget = half_budget(&self.options) as u64;
        let memory = |left: usize| MemoryUse { used: budget.saturating_sub(left as u64), budget };
        let mut dirty = DirtyFigures::default();
        self.all_inodes().iter().for_each(|inode| inode.add_dirty(&mut dirty));
        Figures {
            leader: self.leader(),
            caches: self.meta.counts().caches(),
            data: self.data.figures(),
            dirty,
            write_memory: memory(self.write_memory.available_permits()),
            read_memory: memory(self.read_memory.available_permits()),
            slow_operations: self.meta.slow().count(),
        }
    }

    /// Counts the sessions lost: what was granted in another epoch is gone.
    pub(crate) fn session_epoch(&self) -> u64 {
        self.sessions_lost.load(Ordering::Acquire)
    }

    pub(crate) fn inodes(&self) -> MutexGuard<'_, BTreeMap<InodeId, Arc<Inode>>> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of an inode that is in use here.
    pub(crate) fn known_inode(&self, inode: InodeId) -> Option<Arc<Inode>> {
        self.inodes().get(&inode).cloned()
    }

    pub(crate) fn all_inodes(&self) -> Vec<Arc<Inode>> {
        self.inodes().values().cloned().collect()
    }

    fn on_event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Recall { inode, lease } => self.spawn(recall(self.clone(), inode, lease)),
            Event::Disbelieve { inodes, names } => {
                if let Some(above) = self.above.get() {
                    above(&inodes, names);
                }
            }
            Event::SessionLost => {
                self.sessions_lost.fetch_add(1, Ordering::AcqRel);
                drop(self.pool.drain());
                for inode in self.all_inodes() {
                    inode.session_lost(self);
                }
            }
        }
    }
}

async fn recall(shared: Arc<Shared>, inode: InodeId, lease: LeaseNumber) {
    let held = shared.known_inode(inode).filter(|known| known.holds(lease));
    if held.is_none() {
        // The answer to the creation that granted it may come after the recall.
        shared.creations.ended().await;
    }
    if let Some(known) = held.or_else(|| shared.known_inode(inode)) {
        known.give_lease_back(&shared, lease).await;
    }
    shared.meta.lease_returned(inode, lease);
}

/// Gives unused chunks back, at the end.
pub(crate) async fn release_pool(shared: &Shared) {
    let chunks: Vec<_> = shared.pool.drain().iter().map(|chunk| chunk.chunk).collect();
    if !chunks.is_empty() {
        let kind = OperationKind::ReleaseChunks { chunks };
        // The end of the session releases them as well.
        let _ = shared.meta.operation(&shared.own_credentials(), kind).await;
    }
}
