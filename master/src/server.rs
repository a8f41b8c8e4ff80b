//! A master as a whole: builds its parts, starts its tasks (nobody else does), and takes them down in order.

use crate::backup::{self, Backup};
use crate::caching::{self, Caching};
use crate::config::MasterConfig;
use crate::control_port;
use crate::data_dir::{self, DataDir, DataDirError};
use crate::events;
use crate::filling::{Transfers, fetch, promote};
use crate::leader;
use crate::leases;
use crate::moving::disk_drain;
use crate::parts::Parts;
use crate::peers::{Identity, Peers, assembly, keep};
use crate::sequencer::{self, Leadership, LostVote, StartError};
use crate::servers::Servers;
use crate::session_open;
use crate::sessions::Sessions;
use crate::work;
use cairn_core::cluster::ClusterView;
use cairn_core::ids::ClusterId;
use cairn_core::limits::{
    CAPACITY_PERIOD, COUNTS_PERIOD, DELETIONS_PERIOD, DISK_DRAIN_PERIOD, FILL_PAUSE, FILL_PAUSE_MAX,
    GARBAGE_PERIOD, HAND_OVER_PATIENCE, ORPHANS_PERIOD, POLICY_WALK_PERIOD, PROMOTION_PERIOD,
    REBALANCE_PERIOD, RECONCILE_PERIOD, RELEASE_POLL, REPAIR_PERIOD, SALVAGE_PERIOD, SHUTDOWN_DRAIN,
    SWEEP_PERIOD_MAX, VIEW_PERIOD,
};
use cairn_env::Env;
use cairn_env::config::ConfigError;
use cairn_env::net::Listener;
use cairn_env::spawn::Owner;
use futures::TryFutureExt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Why a master could not start, or had to end; shown to the user as it is.
#[derive(Debug, Error)]
pub enum MasterError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A socket could not be bound.
    #[error("master: {error}: choose another address for `{setting}`, or stop the process that has this one")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// What the system said, with the address.
        error: io::Error,
    },
    /// Journal or state could not be opened.
    #[error("master: {0}")]
    State(String),
    /// The leader must fill it with a copy of its state before it can go on.
    #[error("{reason}")]
    MustBeFilled {
        /// Whether it is to be taken in as one that has neither voted nor acknowledged anything.
        lost_vote: LostVote,
        /// What is wrong with what it has.
        reason: String,
    },
    /// A part has ended that never may.
    #[error("master: {0}; the log tells why")]
    Ended(String),
}

/// A started master.
pub struct Master {
    parts: Arc<Parts>,
    control: SocketAddr,
    http: SocketAddr,
    tasks: JoinSet<Result<(), MasterError>>,
    sequencer: Owner,
    _data_dir: DataDir,
}

/// Starts a master and serves until `shutdown` is cancelled; then drains and stops.
///
/// # Errors
/// See [`MasterError`].
pub async fn run(env: Env, config: MasterConfig, shutdown: CancellationToken) -> Result<(), MasterError> {
    // One that a copy does not help must not keep the others busy.
    let mut pause = Duration::ZERO;
    loop {
        let began = env.clock.now();
        let ended = tokio::select! {
            started = Master::start(env.clone(), config.clone()) => match started {
                Ok(master) => master.serve(shutdown.clone()).await,
                Err(error) => Err(error),
            },
            // A founder may wait long for the others.
            () = shutdown.cancelled() => return Ok(()),
        };
        let Err(MasterError::MustBeFilled { lost_vote, reason }) = ended else { return ended };
        warn!(reason, "this master must be filled by another one");
        if env.clock.now().since(began) > FILL_PAUSE_MAX {
            pause = Duration::ZERO;
        }
        let filling = async {
            tokio::time::sleep(pause).await;
            fetch::fill(&env, &config, lost_vote.0).await
        };
        tokio::select! {
            filled = filling => filled?,
            () = shutdown.cancelled() => return Ok(()),
        }
        pause = (pause * 2).clamp(FILL_PAUSE, FILL_PAUSE_MAX);
    }
}

impl Master {
    /// Opens the data directory, binds the sockets and begins to serve.
    ///
    /// # Errors
    /// See [`MasterError`].
    pub async fn start(env: Env, config: MasterConfig) -> Result<Self, MasterError> {
        let wanted = config.cluster_id()?;
        let mut control = bind(&env, "listen", config.listen).await?;
        let http = bind(&env, "http_listen", config.http_listen).await?;
        let data_dir = {
            let (env, config) = (env.clone(), config.clone());
            let opened = env.spawn.clone().blocking(move || data_dir::open(&env, &config, wanted)).await;
            opened.map_err(|lost| MasterError::Ended(lost.to_string()))??
        };
        let addresses = (local(&control, "listen")?, local(&http, "http_listen")?);
        let (view, view_receiver) = watch::channel(Arc::new(ClusterView::default()));
        let settings = sequencer::Settings {
            data_dir: data_dir.path.clone(),
            node_id: config.node_id,
            node: data_dir.node,
            default_replicas: config.default_replicas,
            cache_bytes: config.cache_mib << 20,
            store: config.store,
            tuning: config.tuning(),
            caching: Arc::default(),
            peers: Arc::default(),
            pins: Arc::default(),
        };
        let transfers = Transfers::open(&*env.disk, &data_dir.path, Arc::clone(&settings.pins));
        let transfers = transfers.map_err(|error| MasterError::State(error.to_string()))?;
        let backup = Backup::new(config.backup.clone(), Arc::clone(&settings.pins));
        let shared = (Arc::clone(&settings.caching), Arc::clone(&settings.peers), transfers, backup);
        let identity = Identity { cluster: data_dir.cluster, node: data_dir.node, id: config.node_id };
        let configured = config.group(&addresses.0.to_string())?;
        let founding =
            assembly::assemble(&env, &identity, &configured, &mut control).map_err(StartError::from);
        let (handle, owner) = sequencer::start(&env, settings, view_receiver, founding)
            .await
            .map_err(|error| start_failed(&error, configured.len() > 1))?;
        let parts =
            Arc::new(build(env, config, &data_dir, (handle, owner.runtime()), addresses.0, view, shared));
        let group = parts.sequencer.members();
        if group.get(identity.id).is_none() {
            return Err(MasterError::State(format!(
                "master {} is no member of its group any more",
                identity.id
            )));
        }
        let mut tasks = JoinSet::new();
        spawn_services(&mut tasks, &parts, control, http);
        spawn_jobs(&mut tasks, &parts);
        spawn_peers(&mut tasks, &parts, identity);
        info!(control = %addresses.0, http = %addresses.1, cluster = %parts.cluster, "master serves");
        let (control, http) = addresses;
        Ok(Self { parts, control, http, tasks, sequencer: owner, _data_dir: data_dir })
    }

    /// Where the control plane listens.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Where the health pages listen.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The cluster that it serves.
    pub fn cluster(&self) -> ClusterId {
        self.parts.cluster
    }

    /// Waits until it leads and has loaded what a leader must know.
    pub async fn ready(&self) {
        let mut nudges = self.parts.nudges.subscribe();
        while self.parts.term().is_none() {
            // The sender lives as long as the parts.
            if nudges.changed().await.is_err() {
                return;
            }
        }
    }

    /// Serves until `shutdown` is cancelled or a part ends that never may; then drains and stops.
    ///
    /// # Errors
    /// `Ended` when a part ended by itself.
    pub async fn serve(mut self, shutdown: CancellationToken) -> Result<(), MasterError> {
        let mut leadership = self.parts.leadership.clone();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            _ = leadership.wait_for(|now| *now == Leadership::Stopped) => Err(self.why_stopped()),
            ended = self.tasks.join_next() => Err(why_ended(ended)),
        };
        if let Err(error) = &outcome {
            error!(%error, "master stops");
        }
        self.stop().await;
        outcome
    }

    fn why_stopped(&self) -> MasterError {
        match self.parts.sequencer.must_be_filled() {
            Some(reason) => MasterError::MustBeFilled { lost_vote: LostVote(false), reason },
            None => MasterError::Ended("the journal or the state has stopped".to_owned()),
        }
    }

    /// Connections first (their clients are told), then the tasks, then the sequencer, which makes the state durable.
    async fn stop(mut self) {
        if self.parts.term().is_some() && self.parts.sequencer.hand_over(None, HAND_OVER_PATIENCE).await {
            info!("the lead is handed over");
        }
        info!("master drains");
        self.parts.stopping.cancel();
        let drained =
            tokio::time::timeout(SHUTDOWN_DRAIN, async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            info!("some requests did not end in time and are cut off");
            self.tasks.shutdown().await;
        }
        self.parts.sequencer.stop().await;
        if self.sequencer.ended().await.is_err() {
            error!(
                "the sequencer did not stop in an orderly way; the journal will be recovered at the next start"
            );
        }
        // The state is open as long as a connection that was cut off still ends.
        let parts = Arc::downgrade(&self.parts);
        drop(self.parts);
        let released = async {
            while parts.strong_count() > 0 {
                tokio::time::sleep(RELEASE_POLL).await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_DRAIN, released).await.is_err() {
            info!("somebody still holds parts of the stopped master");
        }
        info!("master has stopped");
    }
}

/// A start that failed: in a group the others can put some of it right.
fn start_failed(error: &StartError, has_others: bool) -> MasterError {
    let reason = error.to_string();
    match error.filling().filter(|_| has_others) {
        Some(lost_vote) => MasterError::MustBeFilled { lost_vote, reason },
        None => MasterError::State(reason),
    }
}

async fn bind(env: &Env, setting: &'static str, address: SocketAddr) -> Result<Listener, MasterError> {
    env.net.bind(&address.to_string()).await.map_err(|error| MasterError::Bind { setting, error })
}

fn local(listener: &Listener, setting: &'static str) -> Result<SocketAddr, MasterError> {
    listener.local_addr().map_err(|error| MasterError::Bind { setting, error })
}

fn build(
    env: Env,
    config: MasterConfig,
    data_dir: &DataDir,
    (sequencer, runtime): (sequencer::SequencerHandle, &Handle),
    bound: SocketAddr,
    view: watch::Sender<Arc<ClusterView>>,
    (caching, peers, transfers, backup): (Arc<Caching>, Arc<Peers>, Transfers, Backup),
) -> Parts {
    let address = config.reached_at(&bound.to_string());
    Parts {
        sessions: Sessions::new(config.session_expiry()),
        cluster: data_dir.cluster,
        node: data_dir.node,
        address,
        leadership: sequencer.leadership(),
        reader: sequencer.reader(),
        sequencer,
        sequencer_runtime: runtime.clone(),
        servers: Servers::new(config.server_dead()),
        caching,
        peers,
        transfers,
        backup,
        recalls: Default::default(),
        repairs: Default::default(),
        rebalancing: Default::default(),
        damage: Default::default(),
        misplaced: Default::default(),
        departures: Default::default(),
        strays: Default::default(),
        events: Default::default(),
        slow: Default::default(),
        latencies: Default::default(),
        counts: Default::default(),
        metrics: Default::default(),
        nudges: watch::Sender::new(0),
        taken_over: AtomicU64::new(0),
        stopping: CancellationToken::new(),
        view,
        env,
        config,
    }
}

fn spawn_services(
    tasks: &mut JoinSet<Result<(), MasterError>>,
    parts: &Arc<Parts>,
    control: Listener,
    http: Listener,
) {
    let serving = parts.clone();
    tasks.spawn(async move {
        let stopping = serving.stopping.clone();
        let served = control_port::serve(serving, control).await;
        ended(&stopping, "the control plane", served.err())
    });
    let parts = parts.clone();
    tasks.spawn(async move {
        let stopping = parts.stopping.clone();
        let served = crate::http::serve(parts, http).await;
        ended(&stopping, "the http server", served.err().map(|error| error.to_string()))
    });
}

fn spawn_peers(tasks: &mut JoinSet<Result<(), MasterError>>, parts: &Arc<Parts>, identity: Identity) {
    let keeping = keep::connections(parts.clone(), identity);
    tasks.spawn(async move {
        keeping.await;
        Ok(())
    });
}

fn spawn_jobs(tasks: &mut JoinSet<Result<(), MasterError>>, parts: &Arc<Parts>) {
    let leading = parts.clone();
    tasks.spawn(async move {
        leader::follow_leadership(leading).await;
        Ok(())
    });
    let shipping = backup::ship_in_background(parts.clone());
    tasks.spawn(async move {
        shipping.await;
        Ok(())
    });
    let making = backup::make_in_background(parts.clone());
    tasks.spawn(async move {
        making.await;
        Ok(())
    });
    let watching = parts.clone();
    tasks.spawn(async move {
        while !watching.stopping.is_cancelled() {
            watching.publish_view();
            tokio::time::sleep(VIEW_PERIOD).await;
        }
        Ok(())
    });
    let looking = events::watch_in_background(parts.clone());
    tasks.spawn(async move {
        looking.await;
        Ok(())
    });
    let telling = caching::tell_in_background(parts.clone());
    let stopping = parts.stopping.clone();
    tasks.spawn(async move {
        // It ends only by being cancelled.
        stopping.run_until_cancelled(telling).await;
        Ok(())
    });
    let sweep_period = (parts.config.session_expiry() / 10).min(SWEEP_PERIOD_MAX);
    spawn_job(tasks, parts, sweep_period, |parts, _| async move { session_open::expire(&parts).await });
    spawn_job(tasks, parts, SWEEP_PERIOD_MAX, |parts, _| async move { leases::enforce(&parts).await });
    spawn_job(tasks, parts, PROMOTION_PERIOD, promote::pass);
    spawn_job(tasks, parts, DELETIONS_PERIOD, work::deletions::pass);
    spawn_job(tasks, parts, GARBAGE_PERIOD, |parts, _| work::garbage::pass(parts));
    let watched = Arc::default();
    spawn_job(tasks, parts, ORPHANS_PERIOD, move |parts, _| work::orphans::pass(parts, Arc::clone(&watched)));
    let attempts = Arc::default();
    spawn_job(tasks, parts, RECONCILE_PERIOD, move |parts, term| {
        work::reconcile::pass(parts, term, Arc::clone(&attempts))
    });
    spawn_job(tasks, parts, REPAIR_PERIOD, work::repair::pass);
    spawn_job(tasks, parts, DISK_DRAIN_PERIOD, disk_drain::pass);
    let walker = Arc::default();
    spawn_job(tasks, parts, POLICY_WALK_PERIOD, move |parts, term| {
        work::policies::pass(parts, term, Arc::clone(&walker))
    });
    spawn_job(tasks, parts, REBALANCE_PERIOD, work::rebalance::pass);
    let salvages = Arc::default();
    spawn_job(tasks, parts, SALVAGE_PERIOD, move |parts, term| {
        work::salvage::pass(parts, term, Arc::clone(&salvages))
    });
    spawn_job(tasks, parts, COUNTS_PERIOD, work::counts::pass);
    let noted = Arc::default();
    spawn_job(tasks, parts, CAPACITY_PERIOD, move |parts, term| {
        work::capacity::pass(parts, term, Arc::clone(&noted))
    });
}

fn spawn_job<F, Fut>(
    tasks: &mut JoinSet<Result<(), MasterError>>,
    parts: &Arc<Parts>,
    period: std::time::Duration,
    job: F,
) where
    F: FnMut(Arc<Parts>, cairn_core::ids::Term) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let running = work::repeat(parts.clone(), period, job);
    tasks.spawn(async move {
        running.await;
        Ok(())
    });
}

fn ended(stopping: &CancellationToken, what: &str, error: Option<String>) -> Result<(), MasterError> {
    match error {
        None if stopping.is_cancelled() => Ok(()),
        None => Err(MasterError::Ended(format!("{what} has ended"))),
        Some(error) => Err(MasterError::Ended(format!("{what} has failed: {error}"))),
    }
}

fn why_ended(ended: Option<Result<Result<(), MasterError>, tokio::task::JoinError>>) -> MasterError {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => MasterError::Ended(format!("a task has failed: {error}")),
        Some(Ok(Ok(()))) | None => MasterError::Ended("a task has ended before its time".to_owned()),
    }
}
