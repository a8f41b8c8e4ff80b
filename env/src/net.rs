//! Sockets: the door of every connection, control plane and data plane.
//!
//! Addresses are `host:port` strings, because that is what configurations, messages and simulated hosts share. The real
//! path costs one enum match over a bare TCP stream; a simulation brings boxed streams of its own.

pub mod bounded;
pub mod first_bytes;
pub mod grpc;
pub mod pages;
pub mod stream;
pub mod tcp;

use crate::net::stream::{SimulatedStream, Stream};
use cairn_core::limits::CONNECT_TIMEOUT;
use futures::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The network door.
pub trait Net: Send + Sync + 'static {
    /// Listens at `host:port`; port 0 lets the system choose (see [`Listener::local_addr`]).
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>>;

    /// Connects to `host:port` and waits as long as the network does; callers want [`Net::connect`].
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;

    /// Connects to `host:port` within [`CONNECT_TIMEOUT`]. Errors name the address.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.dial(address)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("connect to {address}: {error}"))),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("connect to {address}: no answer within {} ms", CONNECT_TIMEOUT.as_millis()),
                )),
            }
        })
    }
}

/// A simulated listening socket.
pub trait SimulatedListener: Send + Sync + 'static {
    /// The next connection and its peer.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn SimulatedStream>, SocketAddr)>>;
    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A listening socket.
pub enum Listener {
    /// The kernel's.
    Tcp(TcpListener),
    /// A simulation's.
    Simulated(Box<dyn SimulatedListener>),
}

impl Listener {
    /// The next connection and its peer. Failures that concern one connection, or pass (no descriptors left), are
    /// waited out here.
    ///
    /// # Errors
    /// The socket itself is broken; do not call again.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => tcp::accept(listener).await,
            Self::Simulated(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Simulated(stream), peer))
            }
        }
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Simulated(listener) => listener.local_addr(),
        }
    }
}
