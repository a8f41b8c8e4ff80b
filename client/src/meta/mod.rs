//! The session with the masters: every metadata request goes through here.
//!
//! ```text
//!   operation() ─► slot ─► in_flight ─► outbox ─► stream ─► leader
//!       ▲                      │                      │
//!       └──── oneshot ◄────────┴──────── task ◄───────┘
//! ```
//!
//! What is in flight stays in the table until it is answered. When the stream breaks, the task finds the leader, attaches
//! the same session again and sends everything once more with the same slot and sequence, so that each operation happens
//! exactly once. When the session itself is gone, operations whose fate is unknown fail with a clear error.

mod dial;
mod doubt;
mod doubted;
mod session;
mod table;

pub(crate) use session::{Event, Events};

use crate::error::ConnectError;
use crate::figures::{Counts, LeaderFigures};
use crate::observations::Observations;
use crate::options::ConnectOptions;
use crate::slow::{self, SlowOperations};
use cairn_core::caching::cache::{Cache, Ticket};
use cairn_core::error::{Advice, FsError};
use cairn_core::ids::{ClusterId, InodeId, LeaseNumber, NodeId};
use cairn_core::limits::{
    LEASE_RETRY_MAX, LEASE_RETRY_MIN, QUERIES_IN_FLIGHT_MAX, SESSION_SLOTS, SLOW_HOP_MIN,
};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Credentials, Operation, OperationKind, Query, QueryKind};
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::busy_poll::Demand;
use cairn_proto::v1::{self, SlowHopKind};
use doubted::Doubted;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use table::{Table, Told};
use tokio::sync::{Notify, Semaphore, oneshot};

/// The session. Clones share it.
#[derive(Clone)]
pub(crate) struct Meta {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    env: Env,
    options: ConnectOptions,
    node: NodeId,
    table: Mutex<Table>,
    /// What may be believed without asking. When both are locked, the table is first.
    cache: Arc<Mutex<Cache>>,
    events: Events,
    /// `host:port` of the masters, as the last one that welcomed us has told.
    told: Mutex<Vec<String>>,
    slots: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    /// Wakes the task when something must be sent that the outbox had no room for, or at the end.
    kick: Notify,
    /// The task has ended.
    stopped: Notify,
    /// Of the task, by whoever waits for an answer.
    demand: OnceLock<Demand>,
    /// Told with the next renewal.
    observations: Arc<Observations>,
    slow: Arc<SlowOperations>,
    counts: Arc<Counts>,
}

/// An answer to a question, and what it is worth.
pub(crate) struct Heard {
    /// The answer.
    pub(crate) outcome: Result<Answer, FsError>,
    /// It may be believed until it is taken back: the cache decides, by `ticket`.
    pub(crate) leased: bool,
    /// The moment before it was asked.
    pub(crate) ticket: Ticket,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        doubted::lock(&self.cache)
    }

    fn told(&self) -> MutexGuard<'_, Vec<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table; what it queues leaves then.
    fn tell<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        let (outcome, outbox) = {
            let mut table = self.table();
            (act(&mut table), table.outbox())
        };
        if let Some(outbox) = outbox {
            outbox.flush();
        }
        outcome
    }

    /// Before a hello: what an earlier stream granted may be taken back without our hearing of it.
    fn believe_nothing(&self) {
        let inodes = self.cache().forget_all(self.env.clock.now());
        (self.events)(Event::Disbelieve { inodes, names: true });
    }
}

impl Meta {
    /// Opens a session. `events` hears of recalls and of the loss of a session.
    pub(crate) async fn connect(
        env: Env,
        options: ConnectOptions,
        node: NodeId,
        events: Events,
    ) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared {
            env,
            options,
            node,
            table: Mutex::new(Table::default()),
            cache: Arc::default(),
            events,
            told: Mutex::default(),
            slots: Arc::new(Semaphore::new(SESSION_SLOTS as usize)),
            queries: Arc::new(Semaphore::new(QUERIES_IN_FLIGHT_MAX)),
            kick: Notify::new(),
            stopped: Notify::new(),
            demand: OnceLock::new(),
            observations: Arc::default(),
            slow: Arc::default(),
            counts: Arc::default(),
        });
        session::start(shared.clone()).await?;
        Ok(Self { shared })
    }

    /// What is told to the master of chunk servers.
    pub(crate) fn observations(&self) -> Arc<Observations> {
        self.shared.observations.clone()
    }

    /// What took long, for the same.
    pub(crate) fn slow(&self) -> &SlowOperations {
        &self.shared.slow
    }

    /// What is counted.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.shared.counts
    }

    /// How the session stands.
    pub(crate) fn leader(&self, sessions_lost: u64) -> LeaderFigures {
        let counts = &self.shared.counts;
        let table = self.shared.table();
        LeaderFigures {
            address: table.leader.clone(),
            is_connected: table.is_attached(),
            silent: self.shared.env.clock.now().since(counts.heard_at()),
            reconnects: counts.reconnects.get(),
            leader_changes: counts.leader_changes.get(),
            sessions_lost,
        }
    }

    /// The cluster, as its master names itself.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.shared.table().cluster
    }

    /// Sends an operation and waits for its one answer. `LeaseHeld` and `Overloaded` are tried again until the deadline.
    pub(crate) async fn operation(&self, who: &Credentials, kind: OperationKind) -> Result<Answer, FsError> {
        let what = kind_name(&kind);
        let work = pin!(self.with_deadline(what, async {
            let mut pause = LEASE_RETRY_MIN;
            loop {
                let operation = Operation { credentials: who.clone(), kind: kind.clone() };
                let since = self.shared.env.clock.now();
                let outcome = self.one_operation(operation).await;
                let waits_for = match outcome {
                    Err(FsError::LeaseHeld) => SlowHopKind::HopLease,
                    _ => SlowHopKind::HopMaster,
                };
                self.waited(since, waits_for);
                match outcome {
                    Err(FsError::LeaseHeld | FsError::Overloaded) => self.pause(&mut pause, waits_for).await,
                    other => return other,
                }
            }
        }));
        slow::part_or_operation(&self.shared.env, &self.shared.slow, what, work).await
    }

    /// What may be believed without asking.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.shared.cache()
    }

    /// Asks, again and again as the connection requires.
    pub(crate) async fn query(&self, who: &Credentials, kind: QueryKind) -> Result<Answer, FsError> {
        self.ask(who, kind).await?.outcome
    }

    /// As [`Meta::query`], and whether the answer may be kept.
    ///
    /// # Errors
    /// That of the connection; a refusal is the outcome.
    pub(crate) async fn ask(&self, who: &Credentials, kind: QueryKind) -> Result<Heard, FsError> {
        let work = pin!(self.with_deadline("query", async {
            let mut pause = LEASE_RETRY_MIN;
            loop {
                let query = Query { credentials: who.clone(), kind: kind.clone() };
                let since = self.shared.env.clock.now();
                let heard = self.one_query(query).await;
                self.waited(since, SlowHopKind::HopMaster);
                let heard = heard?;
                match &heard.outcome {
                    Err(error) if error.advice() == Advice::RetryLater => {
                        self.pause(&mut pause, SlowHopKind::HopMaster).await;
                    }
                    _ => return Ok(heard),
                }
            }
        }));
        slow::part_or_operation(&self.shared.env, &self.shared.slow, "query", work).await
    }

    /// Tells the leader, before any request that follows, that these inodes are open or no longer so.
    pub(crate) fn declare(&self, opened: Option<InodeId>, closed: Option<InodeId>) {
        self.shared.table().declare(opened, closed);
    }

    /// Sends what was declared, if no request has taken it along.
    pub(crate) fn flush_declarations(&self) {
        self.shared.tell(Table::flush_declarations);
    }

    /// Answers a recall: nothing of the lease is held any more.
    pub(crate) fn lease_returned(&self, inode: InodeId, lease: LeaseNumber) {
        let message = v1::LeaseReturned { inode: inode.get(), lease: lease.get() };
        let message = v1::client_message::Message::LeaseReturned(message);
        self.shared.tell(|table| table.send_once(message));
    }

    /// Ends the session in order.
    pub(crate) async fn detach(&self) {
        let stopped = self.shared.stopped.notified();
        if !self.end() {
            return;
        }
        // The session would expire by itself; nobody needs to wait long for the courtesy.
        let _ = tokio::time::timeout(Duration::from_secs(1), stopped).await;
    }

    /// Ends the session without waiting.
    pub(crate) fn abandon(&self) {
        self.end();
    }

    /// No more requests. What was asked may still be done, so that nothing is believed any more. False when it had ended before.
    fn end(&self) -> bool {
        drop(self.cache().forget_all(self.shared.env.clock.now()));
        let ended = self.shared.table().end(FsError::Stale);
        self.shared.kick.notify_one();
        ended
    }

    async fn one_operation(&self, operation: Operation) -> Result<Answer, FsError> {
        let Ok(permit) = self.shared.slots.clone().acquire_owned().await else { return Err(FsError::Stale) };
        let (reply, answer) = oneshot::channel();
        let doubted = Doubted::begin(&self.shared.cache, &operation.kind);
        let _expected = self.shared.demand.get().map(Demand::expect);
        self.shared.tell(|table| table.begin_operation(operation, doubted, permit, reply))?;
        answer.await.map_err(|_| FsError::Stale)?.outcome
    }

    async fn one_query(&self, query: Query) -> Result<Heard, FsError> {
        let Ok(permit) = self.shared.queries.clone().acquire_owned().await else {
            return Err(FsError::Stale);
        };
        let (reply, answer) = oneshot::channel();
        let ticket = self.shared.cache().ticket();
        let _expected = self.shared.demand.get().map(Demand::expect);
        self.shared.tell(|table| table.begin_query(query, permit, reply))?;
        let told: Told = answer.await.unwrap_or_else(|_| FsError::Stale.into());
        Ok(Heard { outcome: told.outcome, leased: told.leased, ticket })
    }

    async fn with_deadline<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, FsError>>,
    ) -> Result<T, FsError> {
        let deadline = self.shared.options.operation_deadline;
        match tokio::time::timeout(deadline, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let leader = self.shared.table().leader.clone();
                let message = format!(
                    "{what}: master {leader} gave no answer within {} ms; try: cairn admin masters",
                    deadline.as_millis()
                );
                Err(FsError::TimedOut(message))
            }
        }
    }

    async fn pause(&self, pause: &mut Duration, waits_for: SlowHopKind) {
        let jitter = self.shared.env.random.below(pause.as_micros() as u64 / 2 + 1);
        let span = *pause + Duration::from_micros(jitter);
        tokio::time::sleep(span).await;
        *pause = (*pause * 2).min(LEASE_RETRY_MAX);
        slow::waited_for(span, waits_for, "");
    }

    /// For the leader's answer, since then.
    fn waited(&self, since: Tick, waits_for: SlowHopKind) {
        let took = self.shared.env.clock.now().since(since);
        if took >= SLOW_HOP_MIN {
            let leader = match waits_for {
                SlowHopKind::HopMaster => self.shared.table().leader.clone(),
                _ => String::new(),
            };
            slow::waited_for(took, waits_for, &leader);
        }
    }
}

/// For messages to users.
fn kind_name(kind: &OperationKind) -> &'static str {
    match kind {
        OperationKind::Create { .. } => "create",
        OperationKind::Mkdir { .. } => "mkdir",
        OperationKind::Mknod { .. } => "mknod",
        OperationKind::Symlink { .. } => "symlink",
        OperationKind::Link { .. } => "link",
        OperationKind::Unlink { .. } => "unlink",
        OperationKind::Rmdir { .. } => "rmdir",
        OperationKind::Rename { .. } => "rename",
        OperationKind::SetAttr { .. } => "setattr",
        OperationKind::Allocate { .. } => "fallocate",
        OperationKind::SetXattr { .. } => "setxattr",
        OperationKind::RemoveXattr { .. } => "removexattr",
        OperationKind::AllocateChunks { .. } => "allocation of chunks",
        OperationKind::LeaseFile { .. } => "write lease",
        OperationKind::Commit { .. } => "commit",
        OperationKind::ReplaceReplicas { .. } => "replacement of replicas",
        OperationKind::ReleaseChunks { .. } => "release of chunks",
        OperationKind::ReleaseLeases { .. } => "release of write leases",
    }
}
