//! One chunk server's stream: registration, heartbeats, outcomes of commands, reports of replicas.
//!
//! What comes in is handled by one future that the outgoing stream drives, so that both end together.

use crate::damage::{Fault, Report};
use crate::driven::Driven;
use crate::hello;
use crate::inventory;
use crate::leader;
use crate::link::{Link, Outgoing, down};
use crate::parts::Parts;
use cairn_core::cluster::Labels;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, DiskId, ServerId};
use cairn_core::limits::{COMMANDS_IN_FLIGHT_MAX, DESCRIPTION_BYTES_MAX, HELLO_PATIENCE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::{ServerRecord, server_of};
use cairn_proto::hello::refused;
use cairn_proto::v1::chunk_server_message::Message as Said;
use cairn_proto::v1::cluster_server::Cluster;
use cairn_proto::v1::master_command::Message;
use cairn_proto::v1::{
    ChunkServerMessage, HeartbeatSeen, Inventory, MasterCommand, Refused, RefusedReason, Register,
    Registered, ReplicaEvent, ReplicaState, Role,
};
use futures::future::{BoxFuture, OptionFuture};
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

/// Serves chunk servers.
pub(crate) struct ClusterService {
    pub(crate) parts: Arc<Parts>,
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    type ChunkServerStream = Driven<Result<MasterCommand, Status>>;

    async fn chunk_server(
        &self,
        request: Request<Streaming<ChunkServerMessage>>,
    ) -> Result<Response<Self::ChunkServerStream>, Status> {
        let (commands, outgoing) = mpsc::channel(COMMANDS_IN_FLIGHT_MAX);
        let incoming = serve(self.parts.clone(), request.into_inner(), commands).boxed();
        Ok(Response::new(Driven::new(incoming, outgoing)))
    }
}

/// The connection of a registered server; its end is noted however the stream ends.
struct Connected {
    parts: Arc<Parts>,
    link: Arc<Link>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        if self.parts.servers.disconnected(&self.link, self.parts.now()) {
            warn!(server = %self.link.server, "chunk server is disconnected");
            self.parts.publish_view();
        }
    }
}

async fn serve(
    parts: Arc<Parts>,
    mut incoming: Streaming<ChunkServerMessage>,
    commands: mpsc::Sender<Outgoing>,
) {
    let first = tokio::time::timeout(HELLO_PATIENCE, incoming.next()).await;
    let Ok(Some(Ok(ChunkServerMessage { message: Some(first) }))) = first else { return };
    let connected = match register(&parts, first, &commands).await {
        Ok(connected) => connected,
        Err(refused) => {
            warn!(reason = %refused.message, "chunk server is refused");
            drop(commands.try_send(down(Message::Refused(refused))));
            return;
        }
    };
    parts.nudge();
    let _counted = parts.metrics.server_stream();
    let mut comparing: OptionFuture<BoxFuture<'static, ()>> = None.into();
    let mut is_comparing = false;
    loop {
        tokio::select! {
            _ = &mut comparing, if is_comparing => {
                is_comparing = false;
                comparing = None.into();
            }
            () = parts.stopping.cancelled() => return,
            message = incoming.next() => {
                let Some(Ok(message)) = message else { return };
                // One comparison at a time: a server that sends inventories faster gets every other one looked at.
                match take(&connected, message, &commands) {
                    Some(inventory) if !is_comparing => {
                        let work = inventory::compare(connected.parts.clone(), connected.link.clone(), inventory);
                        comparing = Some(work.boxed()).into();
                        is_comparing = true;
                    }
                    _ => {}
                }
            }
        }
    }
}

async fn register(
    parts: &Arc<Parts>,
    first: Said,
    commands: &mpsc::Sender<Outgoing>,
) -> Result<Connected, Refused> {
    let Said::Register(asked) = first else {
        let message = "the first message of a chunk server must register it".to_owned();
        return Err(refused(RefusedReason::RefusedBadRequest, message));
    };
    let peer = hello::check(parts, asked.hello.as_ref(), Role::Chunkserver)?;
    let (record, term) = match parts.term() {
        Some(term) => (number(parts, &asked, peer.node).await?, term),
        None => (known_here(parts, &asked, peer.node).await?, parts.sequencer.group().borrow().term),
    };
    if asked.highest_term > term.get() {
        warn!(server = %record.server, theirs = asked.highest_term, ours = %term, "chunk server has seen a later leader");
    }
    let server = record.server;
    info!(%server, address = %record.data_address, "chunk server registered");
    let registered = Registered {
        cluster: parts.cluster.0.as_bytes().to_vec().into(),
        server: server.get(),
        term: term.get(),
        protocol: peer.protocol,
        masters: parts.master_addresses(),
    };
    // The answer enters the queue before the link is known, so that no command can come before it.
    drop(commands.try_send(down(Message::Registered(registered))));
    let link = Arc::new(Link::new(server, commands.clone()));
    parts.servers.connected(record, asked.disks, link.clone(), parts.now());
    if let Some(term) = parts.term() {
        leader::fence(term, link.clone());
    }
    parts.publish_view();
    Ok(Connected { parts: parts.clone(), link })
}

/// A standby takes a server that is on record with these addresses, so that it knows it from the first moment it leads. Only
/// the leader can put one on record.
async fn known_here(
    parts: &Parts,
    asked: &Register,
    node: cairn_core::ids::NodeId,
) -> Result<ServerRecord, Refused> {
    let found = parts.reader.peek(move |rows| server_of(rows, node)).await.unwrap_or_else(|error| {
        warn!(%node, %error, "a chunk server cannot be looked up");
        None
    });
    found.filter(|known| is_as_recorded(known, asked)).ok_or_else(|| {
        let message = format!("master {} does not lead at present: ask the others", parts.address);
        Refused { leader: parts.leader_address(), ..refused(RefusedReason::RefusedNotLeader, message) }
    })
}

/// Whether the state has nothing to learn from a registration.
fn is_as_recorded(known: &ServerRecord, asked: &Register) -> bool {
    known.data_address == asked.data_address
        && known.http_address == asked.http_address
        && known.labels.texts().eq(asked.labels.iter().cloned())
}

/// The short number of a node: from the state, or a new one. A known server at its old addresses writes nothing.
async fn number(
    parts: &Parts,
    asked: &Register,
    node: cairn_core::ids::NodeId,
) -> Result<ServerRecord, Refused> {
    let bad = |message: &str| Err(refused(RefusedReason::RefusedBadRequest, message.to_owned()));
    if node.0.is_nil() {
        return bad("a chunk server must name its node");
    }
    if asked.data_address.is_empty() || asked.data_address.len() > 255 {
        return bad("a chunk server must name its data address in at most 255 bytes");
    }
    if asked.http_address.len() > DESCRIPTION_BYTES_MAX {
        return bad("the address of the health pages is too long");
    }
    let labels = match Labels::parse(&asked.labels) {
        Ok(labels) => labels,
        Err(error) => return bad(&error.to_string()),
    };
    put_on_record(parts, asked, node, labels).await.map_err(|error| {
        let message = format!("master {} could not register the chunk server: {error}", parts.address);
        refused(RefusedReason::RefusedOverloaded, message)
    })
}

async fn put_on_record(
    parts: &Parts,
    asked: &Register,
    node: cairn_core::ids::NodeId,
    labels: Labels,
) -> Result<ServerRecord, FsError> {
    let known = parts.reader.read(move |rows| server_of(rows, node)).await?;
    if let Some(known) = known.filter(|known| is_as_recorded(known, asked)) {
        return Ok(known);
    }
    let (data_address, http_address) = (asked.data_address.clone(), asked.http_address.clone());
    parts.sequencer.internal(Internal::RegisterServer { node, data_address, http_address, labels }).await?;
    let recorded = parts.reader.read(move |rows| server_of(rows, node)).await?;
    recorded.ok_or_else(|| FsError::Io(format!("{node} is not on record after its registration")))
}

/// Takes one message; an inventory is handed back to be compared beside the others.
fn take(
    connected: &Connected,
    message: ChunkServerMessage,
    commands: &mpsc::Sender<Outgoing>,
) -> Option<Inventory> {
    let Connected { parts, link } = connected;
    match message.message? {
        Said::Heartbeat(heartbeat) => {
            let found = parts.servers.heartbeat(link, heartbeat, parts.now());
            if found > 0 {
                parts.damage.count_blocks(found);
            }
            parts.publish_view();
            let term = parts.term().map_or(0, cairn_core::ids::Term::get);
            let masters = parts.master_addresses();
            // A full queue shows that it does not read: it will see silence, as it should.
            let pace = parts.servers.typical_pace(parts.now());
            let micros = |span: Duration| u32::try_from(span.as_micros()).unwrap_or(u32::MAX);
            let (typical_read_us, typical_sync_us) = (micros(pace.read), micros(pace.sync));
            let vacate = match term {
                0 => Vec::new(),
                _ => parts.servers.disk_drains_of(link.server).keys().map(id_bytes).collect(),
            };
            let seen = HeartbeatSeen { term, masters, typical_read_us, typical_sync_us, vacate };
            drop(commands.try_send(down(Message::HeartbeatSeen(seen))));
        }
        Said::Done(done) => link.settle(done),
        Said::Replicas(page) => link.settle_list(page),
        Said::Event(event) => replica_event(parts, link.server, &event),
        Said::Inventory(inventory) => return Some(inventory),
        Said::Register(_) => warn!(server = %link.server, "chunk server registered twice on one stream"),
    }
    None
}

fn id_bytes(disk: &DiskId) -> bytes::Bytes {
    disk.0.as_bytes().to_vec().into()
}

fn replica_event(parts: &Parts, server: ServerId, event: &ReplicaEvent) {
    let chunk = ChunkId(event.chunk);
    match event.state() {
        ReplicaState::ReplicaCorrupt => {
            let detail = hello::printable(&event.detail);
            warn!(%chunk, %server, %detail, "replica is corrupt");
            parts
                .damage
                .report(Fault::Corrupt, Report { chunk, server, detail, when: parts.env.clock.wall() });
        }
        ReplicaState::ReplicaGood => parts.damage.cleared(server, chunk),
        ReplicaState::ReplicaUnspecified => {}
    }
}
