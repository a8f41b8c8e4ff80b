//! A chunk server as a whole: builds its parts, starts its tasks (nobody else does), and takes them down in order.

use crate::commands::Commands;
use crate::config::ChunkServerConfig;
use crate::data_listener;
use crate::data_service::DataService;
use crate::error::ChunkServerError;
use crate::events;
use crate::heartbeat::Reporter;
use crate::hops::Hops;
use crate::http::{self, Pages};
use crate::identity::{Identity, identify};
use crate::joined::Joined;
use crate::mend::Mender;
use crate::metrics::Metrics;
use crate::reconcile::Reconciler;
use crate::store::{ChunkStore, DiskState, OpenReport, ScrubOptions};
use cairn_core::address::host_port;
use cairn_core::ids::NodeId;
use cairn_core::limits::{EVENTS_WAITING, SHUTDOWN_DRAIN};
use cairn_env::Env;
use cairn_env::net::Listener;
use cairn_proto::data_conn::ServeOptions;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// A started chunk server.
pub struct ChunkServer {
    store: ChunkStore,
    joined: Arc<Joined>,
    node: NodeId,
    data: SocketAddr,
    http: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Starts a chunk server and serves until `shutdown` is cancelled; then drains and stops.
///
/// # Errors
/// See [`ChunkServerError`].
pub async fn run(
    env: Env,
    config: ChunkServerConfig,
    shutdown: CancellationToken,
) -> Result<(), ChunkServerError> {
    let server = ChunkServer::start(env, config).await?;
    server.serve(shutdown).await;
    Ok(())
}

impl ChunkServer {
    /// Binds the sockets, opens and recovers the data directories and begins to serve.
    ///
    /// # Errors
    /// See [`ChunkServerError`].
    pub async fn start(env: Env, config: ChunkServerConfig) -> Result<Self, ChunkServerError> {
        let (data_listener, data) = bind(&env, "data", "listen", config.listen).await?;
        let (http_listener, http) = bind(&env, "http", "http_listen", config.http_listen).await?;
        let (identity, store, report) = open(&env, &config).await?;
        log_opened(&report);

        let options = ServeOptions::default();
        let metrics = Arc::new(Metrics::new(options.places.clone()));
        let run = env.random.next_u64().max(1);
        let joined = Arc::new(Joined::new(identity.node, run, identity.cluster.or(report.cluster)));
        let hops = Arc::new(Hops::new(env.clone(), joined.clone(), options.pool.clone()));
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (happened, _) = broadcast::channel(EVENTS_WAITING);
        let copying =
            (Reconciler::new(store.clone(), hops.clone()), Mender::new(store.clone(), hops.clone()));
        let commands = Commands::new(store.clone(), copying, metrics.clone(), tasks.clone());
        let service = Arc::new(DataService::new(
            store.clone(),
            hops,
            joined.clone(),
            env.clock.clone(),
            metrics.clone(),
        ));
        let counted = metrics.clone();
        store.start_scrub(&ScrubOptions {
            pace: config.scrub_pace(),
            busy: Arc::new(move || counted.in_flight() > 0),
            stopping: stopping.clone(),
            tasks: tasks.clone(),
        });
        store.start_vacating(&stopping, &tasks);
        if let Some(source) = store.take_events() {
            tasks.spawn(events::relay(source, happened.clone(), metrics.clone(), stopping.clone()));
        }
        tasks.spawn(data_listener::listen(
            data_listener,
            service,
            options,
            metrics.clone(),
            stopping.clone(),
            tasks.clone(),
        ));
        let pages = Pages {
            store: store.clone(),
            joined: joined.clone(),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
        };
        tasks.spawn(http::serve(pages, http_listener));
        let reporter = Arc::new(Reporter {
            env,
            store: store.clone(),
            joined: joined.clone(),
            metrics,
            commands,
            data_address: if config.advertise.is_empty() {
                data.to_string()
            } else {
                config.advertise.clone()
            },
            http_address: advertised_http(&config.advertise, http),
            labels: config.labels(),
            events: happened,
            told: watch::Sender::default(),
            stopping: stopping.clone(),
        });
        tasks.spawn(reporter.keep_all(config.masters));
        info!(%data, %http, node = %identity.node, "chunkserver serves");
        Ok(Self { store, joined, node: identity.node, data, http, stopping, tasks })
    }

    /// Where the data plane listens.
    pub fn data_address(&self) -> SocketAddr {
        self.data
    }

    /// Where the health pages listen.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The node that the data directories belong to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Masters that have registered this server and are connected now.
    pub fn masters_connected(&self) -> usize {
        self.joined.masters_connected()
    }

    /// The store behind the data plane.
    pub fn store(&self) -> &ChunkStore {
        &self.store
    }

    /// Serves until `shutdown` is cancelled or the data listener breaks; then drains and stops.
    pub async fn serve(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.stopping.cancelled() => {}
        }
        self.stop().await;
    }

    /// Connections first, then what they began, then the store, which makes everything durable.
    pub async fn stop(self) {
        info!("chunkserver drains");
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_DRAIN, self.tasks.wait()).await.is_err() {
            warn!("some requests did not end in time and are cut off");
        }
        self.store.close().await;
        info!("chunkserver has stopped");
    }
}

/// The health pages are told to others under the advertised host where they listen everywhere.
fn advertised_http(advertise: &str, http: SocketAddr) -> String {
    match host_port(advertise) {
        Some((host, _)) if http.ip().is_unspecified() => format!("{host}:{}", http.port()),
        _ => http.to_string(),
    }
}

async fn bind(
    env: &Env,
    what: &'static str,
    setting: &'static str,
    address: SocketAddr,
) -> Result<(Listener, SocketAddr), ChunkServerError> {
    let refused = |source| ChunkServerError::Listen { what, address: address.to_string(), setting, source };
    let listener = env.net.bind(&address.to_string()).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

async fn open(
    env: &Env,
    config: &ChunkServerConfig,
) -> Result<(Identity, ChunkStore, OpenReport), ChunkServerError> {
    let (door, disks) = (env.clone(), config.disk_configs());
    let opened = env.spawn.blocking(move || {
        let identity = identify(&door, &disks)?;
        let (store, report) = ChunkStore::open(&door, identity.cluster, identity.node, &disks)
            .map_err(|error| ChunkServerError::Store(error.to_string()))?;
        Ok((identity, store, report))
    });
    opened.await.map_err(|lost| ChunkServerError::Store(lost.to_string()))?
}

fn log_opened(report: &OpenReport) {
    for disk in &report.disks {
        let path = disk.path.display();
        match disk.state {
            DiskState::Failed => {
                error!(%path, detail = %disk.detail, "disk cannot be used; the others serve")
            }
            DiskState::Full => warn!(%path, replicas = disk.replicas, "disk is full"),
            DiskState::Healthy | DiskState::Slow => {
                info!(%path, replicas = disk.replicas, free_bytes = disk.free_bytes, "disk opened");
            }
        }
    }
}
