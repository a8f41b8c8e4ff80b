//! Reads of the applied state, beside the sequencer.
//!
//! An answer to an operation may leave before its rows are written; a read that starts later waits for them. A read is answered
//! only when it is known after it was made that nobody else led at that moment (I8): the read lease holds, or later heartbeats
//! were answered by a majority. A group of one always leads.

use super::group_view::GroupView;
use super::handle::{Leadership, Request};
use super::progress::Progress;
use super::rows::KvRows;
use crate::raft::LeaseClock;
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::fsck::Interrupted;
use cairn_core::ids::SessionId;
use cairn_core::limits::READ_LEASE_PATIENCE;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::machine::{Context, RowError, Rows, Stop, query};
use cairn_core::namespace::request::Query;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_env::kv::{Kv, Wait};
use cairn_env::{Env, spawn::Spawn};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The door of readers; cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pub(super) progress: Progress,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) lease: LeaseClock,
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
    /// Where a damaged state is reported.
    pub(super) failures: mpsc::Sender<Request>,
    /// Whether others can take over then.
    pub(super) group: watch::Receiver<Arc<GroupView>>,
    pub(super) env: Env,
    pub(super) default_replicas: u8,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("leadership", &*self.leadership.borrow()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Answers a question of `session`: at once when the rows are in memory, else on a thread that waits for the disk.
    ///
    /// # Errors
    /// The refusal; `NotLeader` when this member does not lead, before or after the read.
    pub async fn query(&self, session: SessionId, question: &Query) -> Result<Answer, FsError> {
        let view = Arc::clone(&self.view.borrow());
        let question = question.clone();
        let (now, default_replicas) = (self.env.clock.wall(), self.default_replicas);
        self.read(move |rows| {
            let context = Context { now, session, view: &view, entropy: 0, default_replicas };
            query(rows, &context, &question)
        })
        .await
    }

    /// Runs `read` on one consistent view of the applied state; it may be run twice.
    ///
    /// # Errors
    /// What `read` refuses; `NotLeader` when this member does not lead, before or after the read.
    pub async fn read<T, F>(&self, read: F) -> Result<T, FsError>
    where
        T: Send + 'static,
        F: Fn(&dyn Rows) -> Result<T, Stop> + Send + 'static,
    {
        let began = self.env.clock.now();
        self.leads()?;
        self.progress.caught_up().await;
        let first = read(&KvRows::new(&*self.kv.snapshot(), Wait::Never));
        let result = match first {
            Err(Stop::NotInMemory) => {
                let kv = Arc::clone(&self.kv);
                let spawn: &dyn Spawn = &*self.env.spawn;
                spawn
                    .blocking(move || read(&KvRows::new(&*kv.snapshot(), Wait::ForDisk)))
                    .await
                    .map_err(|lost| FsError::Io(format!("a reader of the metadata state failed: {lost}")))?
            }
            result => result,
        };
        self.led_at(began).await?;
        match result {
            Ok(value) => Ok(value),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::NotInMemory) => Err(FsError::Io("metadata rows could not be loaded".into())),
            Err(Stop::Failed(detail)) => Err(self.failed(detail)),
        }
    }

    /// The state is damaged: where others can lead, this member gives up.
    fn failed(&self, detail: String) -> FsError {
        tracing::error!(%detail, "metadata state failed on read");
        if self.group.borrow().has_other_voters() {
            // A full queue: the next read reports it again.
            drop(self.failures.try_send(Request::StateFailed(detail)));
            return FsError::NotLeader;
        }
        FsError::Io(format!("the master's metadata state failed: {detail}"))
    }

    /// Runs a long `job` on one consistent view of the applied state, on a thread that waits for the disk. This member leads when
    /// it begins; what it sees stays as it was.
    ///
    /// # Errors
    /// `NotLeader` when this member does not lead, or gives the lead up because its state is damaged; `Io` when there is nobody
    /// else to lead, or the job was lost; `Stale` when the job has given up.
    pub(crate) async fn examine<T, F>(&self, job: F) -> Result<T, FsError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Rows) -> Result<T, Interrupted> + Send + 'static,
    {
        let began = self.env.clock.now();
        self.leads()?;
        self.progress.caught_up().await;
        self.led_at(began).await?;
        let kv = Arc::clone(&self.kv);
        let spawn: &dyn Spawn = &*self.env.spawn;
        let done = spawn.blocking(move || job(&KvRows::new(&*kv.snapshot(), Wait::ForDisk))).await;
        let lost = |lost| FsError::Io(format!("an examination of the metadata state failed: {lost}"));
        done.map_err(lost)?.map_err(|interrupted| match interrupted {
            Interrupted::Store(RowError::Failed(detail)) => self.failed(detail),
            Interrupted::Store(RowError::NotInMemory) => {
                FsError::Io("metadata rows could not be loaded".into())
            }
            Interrupted::Abandoned => FsError::Stale,
        })
    }

    /// Runs `read` on this member's own state, whoever leads: it may lag behind. For hints only.
    ///
    /// # Errors
    /// What `read` refuses; `Io` when the state fails.
    pub(crate) async fn peek<T, F>(&self, read: F) -> Result<T, FsError>
    where
        T: Send + 'static,
        F: Fn(&dyn Rows) -> Result<T, Stop> + Send + 'static,
    {
        let kv = Arc::clone(&self.kv);
        let spawn: &dyn Spawn = &*self.env.spawn;
        let outcome = spawn.blocking(move || read(&KvRows::new(&*kv.snapshot(), Wait::ForDisk))).await;
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Stop::Refused(refusal))) => Err(refusal),
            Ok(Err(Stop::NotInMemory | Stop::Failed(_))) | Err(_) => {
                Err(FsError::Io("the master's metadata state failed".into()))
            }
        }
    }

    /// The state itself, to copy it.
    pub(crate) fn state(&self) -> &dyn Kv {
        &*self.kv
    }

    /// Approximate bytes of memory that the state occupies: cached blocks, and rows not yet flushed.
    pub fn memory_bytes(&self) -> u64 {
        self.kv.memory_bytes()
    }

    /// Whether nobody else can lead at this moment.
    pub(crate) fn holds_lease(&self) -> bool {
        self.lease.holds(self.env.clock.now())
    }

    /// Whether this member leads, and nobody else can at this moment: no change of members that it has not applied is acknowledged.
    pub(crate) fn leads_alone(&self) -> bool {
        self.holds_lease() && self.leads().is_ok()
    }

    /// Waits until it is known that nobody else led at `then`, which is before this call.
    ///
    /// # Errors
    /// `NotLeader` when it cannot be known in time.
    pub(crate) async fn led_at(&self, then: Tick) -> Result<(), FsError> {
        if is_planted(Bug::ReadWithoutLease) {
            return self.leads();
        }
        if !self.holds_lease() && !self.lease.confirmed(then, READ_LEASE_PATIENCE).await {
            return Err(FsError::NotLeader);
        }
        self.leads()
    }

    fn leads(&self) -> Result<(), FsError> {
        match *self.leadership.borrow() {
            Leadership::Leads { .. } => Ok(()),
            Leadership::Follows { .. } | Leadership::Stopped => Err(FsError::NotLeader),
        }
    }
}
