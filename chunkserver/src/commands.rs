//! A master's commands: fenced by term, idempotent, each answered with its outcome.

use crate::heartbeat::heartbeat;
use crate::mend::Mender;
use crate::metrics::Metrics;
use crate::reconcile::{Care, Reconciler};
use crate::store::{ChunkStore, ReplicaStat, ScrubAct, StoreError};
use cairn_core::ids::{ChunkId, ChunkVersion, DiskId, PartId, Term};
use cairn_core::limits::{
    COMMANDS_HELD_MAX, FRAME_PAYLOAD_BYTES_MAX, RECONCILIATIONS_MAX, REPLICA_LIST_PAGE,
};
use cairn_proto::v1;
use cairn_proto::v1::chunk_server_message::Message as Up;
use cairn_proto::v1::master_command::Message as Down;
use cairn_proto::v1::{ChunkServerMessage, CommandOutcome, ScrubAction};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use uuid::Uuid;

/// Where the outcome of a command goes.
type Answers = mpsc::Sender<ChunkServerMessage>;

/// Executes commands, several at a time.
pub(crate) struct Commands {
    store: ChunkStore,
    reconciler: Reconciler,
    mender: Mender,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    reconciliations: Semaphore,
    /// Copies that nobody waits for: they may take long, and must not hold up the others.
    copies: Semaphore,
    tasks: TaskTracker,
}

/// Outcome and its explanation.
type Outcome = (CommandOutcome, String);

impl Commands {
    pub(crate) fn new(
        store: ChunkStore,
        (reconciler, mender): (Reconciler, Mender),
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            reconciler,
            mender,
            metrics,
            places: Arc::new(Semaphore::new(COMMANDS_HELD_MAX)),
            reconciliations: Semaphore::new(RECONCILIATIONS_MAX),
            copies: Semaphore::new(RECONCILIATIONS_MAX),
            tasks,
        })
    }

    /// Begins a command. One that comes when too many are under way is dropped: a master keeps its work in rows, and
    /// sends it again.
    pub(crate) fn begin(self: &Arc<Self>, command: Down, answers: Answers) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return warn!(limit = COMMANDS_HELD_MAX, "command dropped: too many are under way");
        };
        let commands = self.clone();
        self.tasks.spawn(async move {
            commands.execute(command, &answers).await;
            drop(place);
        });
    }

    async fn execute(&self, command: Down, answers: &Answers) {
        let (number, outcome) = match command {
            Down::Delete(delete) => (delete.command, self.delete(&delete).await),
            Down::Raise(raise) => (raise.command, self.raise(&raise).await),
            Down::Reconcile(reconcile) => (reconcile.command, self.reconcile(&reconcile).await),
            Down::Fence(fence) => (fence.command, outcome(self.store.fence_term(Term(fence.term)).await)),
            Down::Check(check) => (check.command, self.check(&check).await),
            Down::Mend(mend) => (mend.command, self.mend(&mend).await),
            Down::Scrub(scrub) => {
                let outcome = self.scrub(&scrub).await;
                // So that whoever is told that it is done sees it.
                let beat = heartbeat(&self.store, &self.metrics);
                drop(answers.send(ChunkServerMessage { message: Some(Up::Heartbeat(beat)) }).await);
                (scrub.command, outcome)
            }
            Down::List(list) => match self.list(&list, answers).await {
                Ok(()) => return,
                Err(error) => (list.command, outcome(Err(error))),
            },
            Down::HeartbeatSeen(_) | Down::Registered(_) | Down::Refused(_) => {
                return warn!("a master answered a registration twice");
            }
        };
        debug!(command = number, outcome = outcome.0.as_str_name(), detail = %outcome.1, "command ended");
        let done = v1::CommandDone { command: number, outcome: outcome.0.into(), detail: outcome.1 };
        // The stream may have ended: the master will ask again.
        let _ = answers.send(ChunkServerMessage { message: Some(Up::Done(done)) }).await;
    }

    async fn delete(&self, delete: &v1::DeleteReplica) -> Outcome {
        let work = async {
            self.store.fence_term(Term(delete.term)).await?;
            let part = part(delete.part)?;
            self.store.delete(ChunkId(delete.chunk), part, ChunkVersion(delete.version)).await
        };
        outcome(work.await)
    }

    async fn raise(&self, raise: &v1::RaiseVersion) -> Outcome {
        let work = async {
            self.store.fence_term(Term(raise.term)).await?;
            let (from, to) = (ChunkVersion(raise.from), ChunkVersion(raise.to));
            let (chunk, part) = (ChunkId(raise.chunk), part(raise.part)?);
            let raised = async {
                match raise.whole {
                    true => self.store.raise_whole(chunk, part, from, to).await,
                    false => self.store.raise_version(chunk, part, from, to).await,
                }
            };
            self.store.portion((chunk, part), None, 0, raised).await
        };
        outcome(work.await)
    }

    async fn mend(&self, mend: &v1::MendReplica) -> Outcome {
        let work = async {
            self.store.fence_term(Term(mend.term)).await?;
            let _place = self.reconciliations.acquire().await.map_err(|_| StoreError::ShuttingDown)?;
            self.mender.run(ChunkId(mend.chunk), ChunkVersion(mend.version), &mend.peers).await
        };
        outcome(work.await)
    }

    async fn scrub(&self, scrub: &v1::Scrub) -> Outcome {
        let work = async {
            self.store.fence_term(Term(scrub.term)).await?;
            let act = match scrub.action() {
                ScrubAction::ScrubNothing => return Ok(()),
                ScrubAction::ScrubStart => ScrubAct::Start { limit: scrub.limit },
                ScrubAction::ScrubPause => ScrubAct::Pause,
                ScrubAction::ScrubResume => ScrubAct::Resume,
            };
            self.store.scrub(act).await
        };
        outcome(work.await)
    }

    async fn reconcile(&self, reconcile: &v1::Reconcile) -> Outcome {
        if let Err(error) = self.store.fence_term(Term(reconcile.term)).await {
            return outcome(Err(error));
        }
        let places = if reconcile.ahead { &self.copies } else { &self.reconciliations };
        let Ok(_place) = places.acquire().await else {
            return outcome(Err(StoreError::ShuttingDown));
        };
        let (chunk, version) = (ChunkId(reconcile.chunk), ChunkVersion(reconcile.version));
        match self.reconciler.run((chunk, version), &reconcile.peers, Care::of(reconcile)).await {
            Ok(()) => outcome(Ok(())),
            Err(error) => error.outcome(),
        }
    }

    /// The store tells of what does not verify.
    async fn check(&self, check: &v1::CheckReplica) -> Outcome {
        let work = async {
            self.store.fence_term(Term(check.term)).await?;
            let (chunk, part) = (ChunkId(check.chunk), PartId(0));
            let stat = self.store.stat(chunk, part).ok_or(StoreError::NoSuchChunk)?;
            for offset in (0..stat.length).step_by(FRAME_PAYLOAD_BYTES_MAX) {
                let length = (stat.length - offset).min(FRAME_PAYLOAD_BYTES_MAX as u64) as u32;
                self.store.read(chunk, part, stat.version, offset, length).await?;
            }
            Ok(())
        };
        outcome(work.await)
    }

    async fn list(&self, list: &v1::ListReplicas, answers: &Answers) -> Result<(), StoreError> {
        self.store.fence_term(Term(list.term)).await?;
        let (mut from, mut listed) = (ChunkId(list.first), 0);
        let disk = Uuid::from_slice(&list.disk).ok().map(DiskId);
        let is_asked_for = |stat: &&ReplicaStat| {
            disk.is_none_or(|disk| stat.disk == disk) && (!list.nowhere || self.store.has_nowhere_to_go(stat))
        };
        loop {
            let page = self.store.list(from, ChunkId(list.last), REPLICA_LIST_PAGE);
            let next = page.last().and_then(|last| last.chunk.get().checked_add(1)).map(ChunkId);
            let replicas: Vec<_> = page.iter().filter(is_asked_for).map(held_replica).collect();
            listed += replicas.len() as u64;
            let last_page = page.len() < REPLICA_LIST_PAGE
                || next.is_none_or(|next| next.get() > list.last)
                || (list.limit > 0 && listed >= list.limit);
            let replicas = v1::ReplicaList {
                command: list.command,
                first: list.first,
                last: list.last,
                replicas,
                last_page,
            };
            let sent = answers.send(ChunkServerMessage { message: Some(Up::Replicas(replicas)) }).await;
            match next {
                Some(next) if !last_page && sent.is_ok() => from = next,
                _ => return Ok(()),
            }
        }
    }
}

fn part(part: u32) -> Result<PartId, StoreError> {
    u16::try_from(part).map(PartId).map_err(|_| StoreError::BadRequest("part"))
}

/// The outcome that a master is told.
pub(crate) fn outcome(result: Result<(), StoreError>) -> Outcome {
    match result {
        Ok(()) => (CommandOutcome::OutcomeDone, String::new()),
        Err(error @ StoreError::StaleTerm { .. }) => (CommandOutcome::OutcomeStaleTerm, error.to_string()),
        Err(error @ StoreError::WritesLost) => (CommandOutcome::OutcomeWritesLost, error.to_string()),
        Err(error @ StoreError::NoSuchChunk) => (CommandOutcome::OutcomeNoSuchReplica, error.to_string()),
        Err(error) => (CommandOutcome::OutcomeFailed, error.to_string()),
    }
}

fn held_replica(stat: &ReplicaStat) -> v1::HeldReplica {
    // A replica that lost acknowledged writes is as bad as a damaged one until its version was raised.
    let state = if stat.corrupt { v1::ReplicaState::ReplicaCorrupt } else { v1::ReplicaState::ReplicaGood };
    v1::HeldReplica {
        chunk: stat.chunk.get(),
        version: stat.version.get(),
        part: u32::from(stat.part.get()),
        disk: stat.disk.0.as_bytes().to_vec().into(),
        state: state.into(),
        bytes: stat.length,
    }
}
