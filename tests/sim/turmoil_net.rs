//! The network door over turmoil, and the environment of one simulated host.
//!
//! Hosts are reached by their turmoil names (`master-1:7000`); a listener binds `0.0.0.0`, the one address that turmoil
//! knows besides localhost.

use cairn_env::Env;
use cairn_env::busy_poll::BusyPoll;
use cairn_env::clock::Clock;
use cairn_env::disk_sim::SimDisk;
use cairn_env::net::stream::{SimulatedStream, Stream};
use cairn_env::net::{Listener, Net, SimulatedListener};
use cairn_env::random::SeededRandom;
use cairn_env::spawn::TaskSpawn;
use futures::future::BoxFuture;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The environment of a simulated host; call it on that host, once per start.
pub(crate) fn simulated_env_with(clock: Arc<dyn Clock>, seed: u64, disk: SimDisk) -> Env {
    Env {
        clock,
        random: Arc::new(SeededRandom::new(seed)),
        disk: Arc::new(disk),
        net: Arc::new(TurmoilNet),
        spawn: Arc::new(TaskSpawn),
        busy_poll: BusyPoll::default(),
    }
}

/// turmoil's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurmoilNet;

struct TurmoilListener(turmoil::net::TcpListener);

struct TurmoilStream(turmoil::net::TcpStream);

impl Net for TurmoilNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>> {
        Box::pin(async move {
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Listener::Simulated(Box::new(TurmoilListener(listener))))
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect(address).await?;
            Ok(Stream::Simulated(Box::new(TurmoilStream(stream))))
        })
    }
}

impl SimulatedListener for TurmoilListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn SimulatedStream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(TurmoilStream(stream)) as Box<dyn SimulatedStream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl SimulatedStream for TurmoilStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for TurmoilStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TurmoilStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    /// One message of the simulated network for all parts, as the kernel would send it.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
        Pin::new(&mut self.0).poll_write(context, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
