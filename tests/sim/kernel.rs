//! The kernel of a simulated machine: it holds the sockets. Its process stands beside it in a runtime of its own (`process`) and
//! reaches it through calls, as a real one does. So a process can be stopped, and what others send it waits in the sockets.

use crate::turmoil_net::TurmoilNet;
use cairn_env::net::stream::{SimulatedStream, Stream};
use cairn_env::net::{Listener, Net, SimulatedListener};
use futures::future::BoxFuture;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot};

/// Bytes that a socket takes from its process, or keeps for it.
const SOCKET_BYTES: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// What a process asks of its kernel.
pub(crate) enum Call {
    Bind(String, oneshot::Sender<io::Result<Door>>),
    Dial(String, oneshot::Sender<io::Result<Socket>>),
}

/// The calls of one process.
pub(crate) type Calls = mpsc::UnboundedReceiver<Call>;

/// The network door of a process.
pub(crate) struct KernelNet(mpsc::UnboundedSender<Call>);

/// A listening socket, as its process holds it.
pub(crate) struct Door {
    accepted: mpsc::Receiver<Socket>,
    local: SocketAddr,
}

/// A connection, as its process holds it.
pub(crate) struct Socket {
    bytes: DuplexStream,
    state: Arc<State>,
    peer: SocketAddr,
    local: SocketAddr,
}

/// What both sides know of a connection.
#[derive(Default)]
struct State {
    /// The network's word on why the connection broke.
    broken: Mutex<Option<io::ErrorKind>>,
    /// The process has closed it.
    closed: AtomicBool,
}

/// A door for a process, and what its kernel hears.
pub(crate) fn calls() -> (KernelNet, Calls) {
    let (asks, hears) = mpsc::unbounded_channel();
    (KernelNet(asks), hears)
}

/// Serves the calls of a process for ever. Runs on a host of the simulated network.
pub(crate) async fn run_kernel(mut calls: Calls) {
    while let Some(call) = calls.recv().await {
        tokio::spawn(async move {
            match call {
                Call::Bind(address, reply) => match TurmoilNet.bind(&address).await {
                    Ok(listener) => listen(listener, reply).await,
                    Err(error) => drop(reply.send(Err(error))),
                },
                Call::Dial(address, mut reply) => {
                    let dialled = tokio::select! {
                        dialled = TurmoilNet.dial(&address) => dialled,
                        // Nobody waits for it any more.
                        () = reply.closed() => return,
                    };
                    let socket = dialled.and_then(open);
                    drop(reply.send(socket));
                }
            }
        });
    }
    std::future::pending().await
}

async fn listen(mut listener: Listener, reply: oneshot::Sender<io::Result<Door>>) {
    let local = match listener.local_addr() {
        Ok(local) => local,
        Err(error) => return drop(reply.send(Err(error))),
    };
    let (sender, accepted) = mpsc::channel(BACKLOG);
    drop(reply.send(Ok(Door { accepted, local })));
    loop {
        let place = tokio::select! {
            place = sender.reserve() => place,
            () = sender.closed() => return,
        };
        let Ok(place) = place else { return };
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = sender.closed() => return,
        };
        let Ok((stream, _)) = stream else { return };
        if let Ok(socket) = open(stream) {
            place.send(socket);
        }
    }
}

/// The process's end of a connection, whose bytes are carried from now on.
fn open(stream: Stream) -> io::Result<Socket> {
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    let (bytes, ours) = tokio::io::duplex(SOCKET_BYTES);
    let state = Arc::<State>::default();
    tokio::spawn(carry(stream, ours, state.clone()));
    Ok(Socket { bytes, state, peer, local })
}

/// The connection is to end in both directions.
struct Over;

async fn carry(stream: Stream, process: DuplexStream, state: Arc<State>) {
    let (mut from_network, mut to_network) = stream.into_split();
    let (mut from_process, mut to_process) = tokio::io::split(process);
    let broke = |error: io::Error| {
        state.broken.lock().unwrap().get_or_insert(error.kind());
        Over
    };
    let inwards = async {
        let mut buffer = vec![0; SOCKET_BYTES];
        loop {
            let length = from_network.read(&mut buffer).await.map_err(broke)?;
            if length == 0 {
                return to_process.shutdown().await.map_err(|_| Over);
            }
            to_process.write_all(&buffer[..length]).await.map_err(|_| Over)?;
        }
    };
    let outwards = async {
        let mut buffer = vec![0; SOCKET_BYTES];
        loop {
            let length = from_process.read(&mut buffer).await.map_err(|_| Over)?;
            if length == 0 {
                to_network.shutdown().await.map_err(broke)?;
                return if state.closed.load(Ordering::Relaxed) { Err(Over) } else { Ok(()) };
            }
            to_network.write_all(&buffer[..length]).await.map_err(broke)?;
        }
    };
    let ended: Result<((), ()), Over> = futures::future::try_join(inwards, outwards).await;
    drop(ended);
}

impl Net for KernelNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>> {
        Box::pin(async move {
            let (reply, door) = oneshot::channel();
            self.call(Call::Bind(address.to_owned(), reply))?;
            Ok(Listener::Simulated(Box::new(door.await.map_err(|_| gone())??)))
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let (reply, socket) = oneshot::channel();
            self.call(Call::Dial(address.to_owned(), reply))?;
            Ok(Stream::Simulated(Box::new(socket.await.map_err(|_| gone())??)))
        })
    }
}

impl KernelNet {
    fn call(&self, call: Call) -> io::Result<()> {
        self.0.send(call).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NetworkDown.into()
}

impl SimulatedListener for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn SimulatedStream>, SocketAddr)>> {
        Box::pin(async {
            let socket = self.accepted.recv().await.ok_or_else(gone)?;
            let peer = socket.peer;
            Ok((Box::new(socket) as Box<dyn SimulatedStream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl SimulatedStream for Socket {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Socket {
    fn broken(&self) -> Option<io::Error> {
        self.state.broken.lock().unwrap().map(io::Error::from)
    }

    /// What a write to the kernel's side came to; the network's word on it, when that is gone.
    fn written<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| self.broken().unwrap_or(error))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.bytes).poll_read(context, buffer))?;
        let is_end = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(self.broken().filter(|_| is_end).map_or(Ok(()), Err))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.bytes).poll_write(context, bytes));
        Poll::Ready(self.written(outcome))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.bytes).poll_write_vectored(context, parts));
        Poll::Ready(self.written(outcome))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }
}
