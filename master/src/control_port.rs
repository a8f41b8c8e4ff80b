//! The control port: sessions of clients in frames of their own, chunk servers and administrators over gRPC. The first
//! bytes of a connection tell which it is.

use crate::admin_service::AdminService;
use crate::chunkserver_stream::ClusterService;
use crate::group_service::GroupService;
use crate::parts::Parts;
use crate::peers;
use crate::session_conn;
use cairn_core::limits::{CONTROL_MESSAGE_BYTES_MAX, HELLO_PATIENCE};
use cairn_env::net::first_bytes::{Unread, first_bytes};
use cairn_env::net::stream::Stream;
use cairn_env::net::{Listener, grpc};
use cairn_proto::session_conn::{PEERS, SESSION};
use cairn_proto::v1::admin_server::AdminServer;
use cairn_proto::v1::cluster_server::ClusterServer;
use cairn_proto::v1::group_server::GroupServer;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{error, warn};

/// Accepted connections that wait for the gRPC server to take them.
const GRPC_CONNECTIONS_WAITING: usize = 16;

type ForGrpc = mpsc::Sender<io::Result<Unread>>;

/// Serves until the master is told to stop, and returns when the last connection has ended.
///
/// # Errors
/// The listening socket is broken, or the gRPC server has failed.
pub(crate) async fn serve(parts: Arc<Parts>, listener: Listener) -> Result<(), String> {
    let limit = CONTROL_MESSAGE_BYTES_MAX;
    let cluster = ClusterServer::new(ClusterService { parts: parts.clone() });
    let admin =
        AdminServer::new(AdminService { parts: parts.clone(), examining: Arc::new(Semaphore::new(1)) });
    let router = grpc::server()
        .add_service(cluster.max_decoding_message_size(limit).max_encoding_message_size(limit))
        .add_service(GroupServer::new(GroupService { parts: parts.clone() }))
        .add_service(admin.max_decoding_message_size(limit).max_encoding_message_size(limit));
    let (for_grpc, incoming) = mpsc::channel(GRPC_CONNECTIONS_WAITING);
    let stopping = parts.stopping.clone().cancelled_owned();
    let grpc = router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), stopping);
    // One that fails does not wait for the other.
    let accepted = async { accept(parts, listener, for_grpc).await.map_err(|error| error.to_string()) };
    let served = async { grpc.await.map_err(|error| error.to_string()) };
    tokio::try_join!(accepted, served).map(drop)
}

async fn accept(parts: Arc<Parts>, mut listener: Listener, for_grpc: ForGrpc) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = parts.stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(greet(parts.clone(), stream, peer, for_grpc.clone()));
                }
                Err(error) => {
                    error!(%error, "listening socket is broken; no more connections are accepted");
                    return Err(error);
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn greet(parts: Arc<Parts>, mut stream: Stream, peer: SocketAddr, for_grpc: ForGrpc) {
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO_PATIENCE, first_bytes(&mut stream)) => first,
        () = parts.stopping.cancelled() => return,
    };
    // Whoever says nothing, or hangs up, is not missed.
    let Ok(Ok(first)) = first else { return };
    let busy_poll = parts.env.busy_poll.clone();
    if first == SESSION.magic {
        busy_poll.task(session_conn::serve(parts, stream, peer)).await;
    } else if first == PEERS.magic {
        attend_peer(parts, stream, peer).await;
    } else {
        // The gRPC server ends only when this master stops.
        drop(for_grpc.send(Ok(Unread::new(first, stream))).await);
    }
}

/// On the sequencer's own runtime: it hears what is said there without waiting for another thread to be woken.
async fn attend_peer(parts: Arc<Parts>, stream: Stream, peer: SocketAddr) {
    let (runtime, busy_poll) = (parts.sequencer_runtime.clone(), parts.env.busy_poll.clone());
    let attended = runtime.spawn(async move {
        match stream.on(&Handle::current()) {
            Ok(stream) => busy_poll.task(peers::attend::serve(parts, stream, peer)).await,
            Err(error) => warn!(%peer, %error, "the connection of another master is of no use"),
        }
    });
    // It ends early with the sequencer.
    drop(attended.await);
}
