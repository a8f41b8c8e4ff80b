//! The stream to one master: registration, heartbeats, inventories, events; commands come down the same stream.
//!
//! Every configured master has a task of its own. A leader registers us; a standby takes us once we are on record, so that it
//! knows us from the moment it leads, and refuses us before, to be asked again.

use crate::commands::Commands;
use crate::events;
use crate::joined::Joined;
use crate::metrics::Metrics;
use crate::store::{ChunkStore, DiskState, DiskStatusReport, ScrubReport, ScrubState};
use cairn_core::cluster::Labels;
use cairn_core::cluster::digest::digest_ranges;
use cairn_core::cluster::disk_health::DiskPace;
use cairn_core::ids::{ClusterId, DiskId, ServerId};
use cairn_core::limits::{
    CONTROL_MESSAGE_BYTES_MAX, CONTROL_REPLIES_WAITING, DATA_HANDSHAKE_MAX, INVENTORY_PERIOD,
    MASTER_BACKOFF_MAX, MASTER_BACKOFF_MIN, MASTERS_MAX, NOT_LEADER_PAUSE, SERVER_HEARTBEAT,
};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::hello::cluster_of;
use cairn_proto::v1;
use cairn_proto::v1::chunk_server_message::Message as Up;
use cairn_proto::v1::cluster_client::ClusterClient;
use cairn_proto::v1::master_command::Message as Down;
use cairn_proto::v1::{ChunkServerMessage, MasterCommand, RefusedReason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

/// What every task needs.
pub(crate) struct Reporter {
    pub(crate) env: Env,
    pub(crate) store: ChunkStore,
    pub(crate) joined: Arc<Joined>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) commands: Arc<Commands>,
    pub(crate) data_address: String,
    pub(crate) http_address: String,
    pub(crate) labels: Labels,
    /// Replica events and changes of disks, for every stream.
    pub(crate) events: broadcast::Sender<Happened>,
    /// `host:port` of the masters, as one of them has told.
    pub(crate) told: watch::Sender<BTreeSet<String>>,
    pub(crate) stopping: CancellationToken,
}

/// Something that masters are told at once.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Replica(v1::ReplicaEvent),
    DisksChanged,
}

/// Why a stream ended.
#[derive(Debug, Error)]
enum StreamEnd {
    #[error("{0}")]
    Unreachable(String),
    #[error("{message}")]
    Refused { reason: RefusedReason, message: String },
    #[error("the stream was closed")]
    Closed,
    #[error("broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Store(String),
}

impl StreamEnd {
    /// Why asking again will not help until somebody changes what is configured or installed.
    fn for_good(&self) -> Option<String> {
        use RefusedReason::{RefusedVersion, RefusedWrongCluster};
        match self {
            Self::Refused { reason: RefusedWrongCluster | RefusedVersion, message }
            | Self::Store(message) => Some(message.clone()),
            _ => None,
        }
    }
}

impl Reporter {
    /// Keeps a stream to each of the configured masters, and to those that they tell of, until the server stops.
    pub(crate) async fn keep_all(self: Arc<Self>, configured: Vec<String>) {
        let configured: BTreeSet<String> = configured.into_iter().collect();
        let mut told = self.told.subscribe();
        let (mut kept, mut streams) = (BTreeMap::<String, AbortHandle>::new(), JoinSet::new());
        loop {
            let wanted: BTreeSet<String> = configured.union(&told.borrow_and_update()).cloned().collect();
            kept.retain(|master, stream| {
                let stays = wanted.contains(master);
                if !stays {
                    stream.abort();
                    self.joined.forget(master);
                }
                stays
            });
            for master in wanted {
                kept.entry(master)
                    .or_insert_with_key(|master| streams.spawn(self.clone().keep(master.clone())));
            }
            tokio::select! {
                () = self.stopping.cancelled() => break,
                Some(_) = streams.join_next() => {}
                // The sender lives as long as this does.
                _ = told.changed() => {}
            }
        }
        while streams.join_next().await.is_some() {}
    }

    fn hear_of(&self, masters: Vec<String>) {
        if !masters.is_empty() {
            let masters: BTreeSet<String> = masters.into_iter().take(MASTERS_MAX).collect();
            self.told.send_if_modified(|told| std::mem::replace(told, masters) != *told);
        }
    }

    /// Keeps a stream to `master` until the server stops.
    async fn keep(self: Arc<Self>, master: String) {
        let mut backoff = MASTER_BACKOFF_MIN;
        let mut told = String::new();
        loop {
            let ended = tokio::select! {
                () = self.stopping.cancelled() => return,
                ended = self.stream(&master, &mut backoff) => ended,
            };
            self.joined.disconnected(&master, ended.for_good());
            self.tell(&master, &ended, &mut told);
            backoff = match &ended {
                // It may lead any moment.
                StreamEnd::Refused { reason: RefusedReason::RefusedNotLeader, .. } => NOT_LEADER_PAUSE,
                _ => (backoff * 2).min(MASTER_BACKOFF_MAX),
            };
            let jitter = Duration::from_millis(self.env.random.below(backoff.as_millis() as u64 / 2 + 1));
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(backoff / 2 + jitter) => {}
            }
        }
    }

    /// Logs why a stream ended, once for each new reason.
    fn tell(&self, master: &str, ended: &StreamEnd, told: &mut String) {
        let reason = ended.to_string();
        if reason == *told {
            return debug!(master, reason, "master still cannot be used");
        }
        match ended {
            StreamEnd::Refused { reason: RefusedReason::RefusedNotLeader, .. } => {
                debug!(master, reason, "master does not lead");
            }
            StreamEnd::Refused { .. } | StreamEnd::Store(_) => {
                error!(master, reason, "master did not register this chunkserver");
            }
            _ => warn!(master, reason, "stream to the master ended; connecting again"),
        }
        *told = reason;
    }

    async fn stream(&self, master: &str, backoff: &mut Duration) -> StreamEnd {
        let channel = match grpc::connect(&self.env.net, master).await {
            Ok(channel) => channel,
            Err(error) => return StreamEnd::Unreachable(error.to_string()),
        };
        let mut client = ClusterClient::new(channel)
            .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
        let (up, outgoing) = mpsc::channel(CONTROL_REPLIES_WAITING);
        let mut events = self.events.subscribe();
        if send(&up, Up::Register(self.register())).await.is_err() {
            return StreamEnd::Closed;
        }
        let greeting = async {
            let response = client.chunk_server(ReceiverStream::new(outgoing)).await;
            let mut commands =
                response.map_err(|status| StreamEnd::Unreachable(status.message().to_owned()))?.into_inner();
            let registered = self.registered(&mut commands).await?;
            Ok((commands, registered))
        };
        let (mut commands, registered) = match tokio::time::timeout(DATA_HANDSHAKE_MAX, greeting).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(end)) => return end,
            Err(_) => return StreamEnd::Unreachable("no answer to the registration".to_owned()),
        };
        if let Err(end) = self.join(master, &registered).await {
            return end;
        }
        *backoff = MASTER_BACKOFF_MIN;
        if self.tell_corrupt(&up).await.is_err() {
            return StreamEnd::Closed;
        }
        self.serve(&up, &mut commands, &mut events).await
    }

    async fn registered(&self, commands: &mut Streaming<MasterCommand>) -> Result<v1::Registered, StreamEnd> {
        match next(commands).await? {
            Down::Registered(registered) => Ok(registered),
            Down::Refused(refused) => {
                Err(StreamEnd::Refused { reason: refused.reason(), message: refused.message })
            }
            _ => Err(StreamEnd::Protocol("a command came before the registration's answer")),
        }
    }

    /// Enters the cluster that the master named; the first one is written into every superblock.
    async fn join(&self, master: &str, registered: &v1::Registered) -> Result<(), StreamEnd> {
        let named = v1::Hello { cluster: registered.cluster.clone(), ..v1::Hello::default() };
        let cluster: ClusterId = cluster_of(&named).ok_or(StreamEnd::Protocol("it names no cluster"))?;
        if self.joined.cluster() != Some(cluster) {
            let store = self.store.clone();
            let adopted = self.env.spawn.blocking(move || store.adopt_cluster(cluster)).await;
            adopted
                .map_err(|lost| StreamEnd::Store(lost.to_string()))?
                .map_err(|error| StreamEnd::Store(error.to_string()))?;
        }
        let server = ServerId(registered.server);
        info!(master, %cluster, %server, term = registered.term, "registered");
        self.joined.registered(master, cluster, server);
        self.hear_of(registered.masters.clone());
        Ok(())
    }

    async fn serve(
        &self,
        up: &mpsc::Sender<ChunkServerMessage>,
        commands: &mut Streaming<MasterCommand>,
        events: &mut broadcast::Receiver<Happened>,
    ) -> StreamEnd {
        let mut heartbeats = tokio::time::interval(SERVER_HEARTBEAT);
        heartbeats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut inventories = tokio::time::interval(INVENTORY_PERIOD);
        loop {
            let message = tokio::select! {
                command = next(commands) => match command {
                    Ok(Down::HeartbeatSeen(seen)) => {
                        let micros = |number| Duration::from_micros(u64::from(number));
                        let (read, sync) = (micros(seen.typical_read_us), micros(seen.typical_sync_us));
                        self.store.hear_of_typical_pace(DiskPace { read, sync });
                        // Whoever does not lead knows no better, and whoever was deposed no more.
                        if seen.term > 0 && seen.term >= self.store.highest_term().get() {
                            self.store.vacate(&disk_ids(&seen.vacate));
                        }
                        self.hear_of(seen.masters);
                        continue;
                    }
                    Ok(command) => {
                        self.commands.begin(command, up.clone());
                        continue;
                    }
                    Err(end) => return end,
                },
                _ = heartbeats.tick() => Up::Heartbeat(self.heartbeat()),
                _ = inventories.tick() => Up::Inventory(self.inventory()),
                event = events.recv() => match event {
                    Ok(Happened::Replica(event)) => Up::Event(event),
                    // The states are reported as a whole.
                    Ok(Happened::DisksChanged) => {
                        inventories.reset_immediately();
                        Up::Heartbeat(self.heartbeat())
                    }
                    // So what was missed is covered.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        inventories.reset_immediately();
                        if self.tell_corrupt(up).await.is_err() {
                            return StreamEnd::Closed;
                        }
                        Up::Heartbeat(self.heartbeat())
                    }
                    Err(broadcast::error::RecvError::Closed) => return StreamEnd::Closed,
                },
            };
            if send(up, message).await.is_err() {
                return StreamEnd::Closed;
            }
        }
    }

    /// Masters keep in memory only which replicas are corrupt.
    async fn tell_corrupt(&self, up: &mpsc::Sender<ChunkServerMessage>) -> Result<(), StreamEnd> {
        for replica in self.store.corrupt_replicas() {
            send(up, Up::Event(events::corrupt(&replica, "found earlier".to_owned()))).await?;
        }
        Ok(())
    }

    fn register(&self) -> v1::Register {
        v1::Register {
            hello: Some(self.joined.hello()),
            data_address: self.data_address.clone(),
            http_address: self.http_address.clone(),
            disks: disks(&self.store),
            highest_term: self.store.highest_term().get(),
            labels: self.labels.texts().collect(),
        }
    }

    fn heartbeat(&self) -> v1::Heartbeat {
        heartbeat(&self.store, &self.metrics)
    }

    fn inventory(&self) -> v1::Inventory {
        let ranges = digest_ranges(self.store.held()).into_iter().map(|range| v1::RangeDigest {
            first: range.first.get(),
            last: range.last.get(),
            count: range.count,
            hash: range.hash,
        });
        v1::Inventory { ranges: ranges.collect() }
    }
}

/// How the server is at this moment.
pub(crate) fn heartbeat(store: &ChunkStore, metrics: &Metrics) -> v1::Heartbeat {
    v1::Heartbeat {
        disks: disks(store),
        requests_in_flight: metrics.in_flight(),
        corrupt_blocks_found: metrics.corrupt_blocks(),
    }
}

fn disks(store: &ChunkStore) -> Vec<v1::DiskStatus> {
    store.disks().iter().map(disk_status).collect()
}

fn disk_status(disk: &DiskStatusReport) -> v1::DiskStatus {
    let state = match disk.state {
        DiskState::Healthy => v1::DiskState::DiskHealthy,
        DiskState::Full => v1::DiskState::DiskFull,
        DiskState::Slow => v1::DiskState::DiskSlow,
        DiskState::Failed => v1::DiskState::DiskFailed,
    };
    let micros = |span: Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
    v1::DiskStatus {
        disk: disk.disk.0.as_bytes().to_vec().into(),
        path: disk.path.display().to_string(),
        total_bytes: disk.total_bytes,
        free_bytes: disk.free_bytes,
        used_bytes: disk.used_bytes,
        replicas: disk.replicas,
        state: state.into(),
        detail: disk.detail.clone(),
        read_us: micros(disk.pace.read),
        sync_us: micros(disk.pace.sync),
        scrub: Some(scrub_status(&disk.scrub)),
        copy_share: disk.copies.share,
        usual_p99_us: micros(disk.copies.usual),
        copy_stream_bytes: disk.copies.stream_bytes,
        vacating: disk.vacating.map(|vacating| v1::Vacating {
            waiting: vacating.waiting,
            damaged: vacating.damaged,
            nowhere: vacating.nowhere,
        }),
    }
}

fn disk_ids(ids: &[bytes::Bytes]) -> BTreeSet<DiskId> {
    ids.iter().filter_map(|id| Uuid::from_slice(id).ok()).map(DiskId).collect()
}

fn scrub_status(scrub: &ScrubReport) -> v1::ScrubStatus {
    let state = match scrub.state {
        ScrubState::Off => v1::ScrubState::ScrubOff,
        ScrubState::Scheduled => v1::ScrubState::ScrubScheduled,
        ScrubState::Demanded => v1::ScrubState::ScrubDemanded,
        ScrubState::Paused => v1::ScrubState::ScrubPaused,
    };
    v1::ScrubStatus {
        state: state.into(),
        passed_bytes: scrub.passed_bytes,
        rate: scrub.rate,
        limit: scrub.limit,
        ends: scrub.ends_in.is_some(),
        ends_in_ms: millis(scrub.ends_in.unwrap_or_default()),
        oldest_unverified_ms: millis(scrub.oldest_unverified),
        rounds: scrub.rounds,
        verified_bytes: scrub.verified_bytes,
        damaged: scrub.damaged,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

async fn next(commands: &mut Streaming<MasterCommand>) -> Result<Down, StreamEnd> {
    match commands.message().await {
        Ok(Some(MasterCommand { message: Some(message) })) => Ok(message),
        Ok(Some(MasterCommand { message: None })) => Err(StreamEnd::Protocol("a command of an unknown kind")),
        Ok(None) => Err(StreamEnd::Closed),
        Err(status) => Err(StreamEnd::Unreachable(status.message().to_owned())),
    }
}

async fn send(up: &mpsc::Sender<ChunkServerMessage>, message: Up) -> Result<(), StreamEnd> {
    up.send(ChunkServerMessage { message: Some(message) }).await.map_err(|_| StreamEnd::Closed)
}
