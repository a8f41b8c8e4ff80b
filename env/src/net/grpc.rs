//! gRPC over the network door: every tonic server and channel is made here, so that its timeouts stand in one place.

use crate::net::first_bytes::Unread;
use crate::net::stream::Stream;
use crate::net::{Listener, Net};
use cairn_core::limits::{
    CONNECT_TIMEOUT, GRPC_CONNECTION_WINDOW_BYTES, GRPC_KEEP_ALIVE_INTERVAL, GRPC_KEEP_ALIVE_TIMEOUT,
    GRPC_STREAM_WINDOW_BYTES, GRPC_STREAMS_PER_CONNECTION_MAX,
};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tracing::error;

/// Who called, as request extensions carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the caller; `None` when the connection was gone already.
    pub address: Option<SocketAddr>,
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { address: self.peer_addr().ok() }
    }
}

impl Connected for Unread {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.stream().connect_info()
    }
}

/// The connections of a listener, for `serve_with_incoming_shutdown`. It ends when the listening socket breaks, and with
/// it the server: a service whose server ended without being asked to must stop.
pub fn incoming(listener: Listener) -> impl futures::Stream<Item = io::Result<Stream>> + Send {
    futures::stream::unfold(Some(listener), |state| async {
        let mut listener = state?;
        match listener.accept().await {
            Ok((stream, _)) => Some((Ok(stream), Some(listener))),
            // One error, then the end: tonic would otherwise spin on a broken socket.
            Err(error) => {
                error!(%error, "listening socket is broken; no more connections are accepted");
                Some((Err(error), None))
            }
        }
    })
}

/// A server with our keep-alive, windows and stream limit; add services, then `serve_with_incoming_shutdown`.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(GRPC_KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(GRPC_KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(GRPC_STREAMS_PER_CONNECTION_MAX)
}

/// A connected channel to `host:port`.
///
/// # Errors
/// `InvalidInput` when the address does not parse; else what connecting ended in, naming the address.
pub async fn connect(net: &Arc<dyn Net>, address: &str) -> io::Result<Channel> {
    let endpoint = endpoint(address)?;
    // Dialled here, and not by tonic, whose error would hide the reason ("transport error").
    let first = net.connect(address).await?;
    let mut first = Some(first);
    let net = net.clone();
    let host = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (ready, net, host) = (first.take(), net.clone(), host.clone());
        async move {
            match ready {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => net.connect(&host).await.map(TokioIo::new),
            }
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        io::Error::new(io::ErrorKind::ConnectionAborted, format!("connect to {address}: {error}"))
    })
}

/// A channel that connects at its first call, and again after each loss.
///
/// # Errors
/// `InvalidInput` when the address does not parse.
pub fn connect_lazily(net: &Arc<dyn Net>, address: &str) -> io::Result<Channel> {
    let net = net.clone();
    let host = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (net, host) = (net.clone(), host.clone());
        async move { net.connect(&host).await.map(TokioIo::new) }
    });
    Ok(endpoint(address)?.connect_with_connector_lazy(connector))
}

fn endpoint(address: &str) -> io::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port: {error}"))
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(GRPC_KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(GRPC_KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(GRPC_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(GRPC_CONNECTION_WINDOW_BYTES))
}
