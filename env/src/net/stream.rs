//! A connection: the kernel's TCP stream, or a simulation's.

use crate::busy_poll::{self, Polling};
use crate::net::tcp::set_low_water;
use cairn_core::limits::{BUSY_LOW_WATER_BYTES, BUSY_READ_BYTES};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;

/// What a simulation must offer for one connection.
pub trait SimulatedStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// The other end.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    /// This end.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection. Dropping it closes both directions.
pub enum Stream {
    /// The kernel's, with TCP_NODELAY.
    Tcp(TcpStream),
    /// A simulation's.
    Simulated(Box<dyn SimulatedStream>),
}

/// The reading half of a [`Stream`].
pub enum ReadHalf {
    /// The kernel's.
    Tcp(TcpReadHalf),
    /// A simulation's.
    Simulated(tokio::io::ReadHalf<Box<dyn SimulatedStream>>),
}

/// The reading half of a TCP connection.
pub struct TcpReadHalf {
    half: OwnedReadHalf,
    /// What a busy poll reads passes through here; made for the first of them.
    passage: Box<[u8]>,
    /// The socket wakes nobody for a small message: a busy poll will find it.
    is_quiet: bool,
}

/// The writing half of a [`Stream`]. Dropping it ends the writing direction only.
pub enum WriteHalf {
    /// The kernel's.
    Tcp(OwnedWriteHalf),
    /// A simulation's.
    Simulated(tokio::io::WriteHalf<Box<dyn SimulatedStream>>),
}

impl Stream {
    /// The other end.
    ///
    /// # Errors
    /// As getpeername(2): the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Simulated(stream) => stream.peer_addr(),
        }
    }

    /// This end.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            Self::Simulated(stream) => stream.local_addr(),
        }
    }

    /// The same connection, of which that runtime tells its tasks.
    ///
    /// # Errors
    /// The runtime is shut down, or has no room for it.
    pub fn on(self, runtime: &Handle) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => {
                let stream = stream.into_std()?;
                let _entered = runtime.enter();
                TcpStream::from_std(stream).map(Self::Tcp)
            }
            Self::Simulated(stream) => Ok(Self::Simulated(stream)),
        }
    }

    /// Two halves for two tasks, without a lock between them on the real path.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (
                    ReadHalf::Tcp(TcpReadHalf { half: read, passage: Box::default(), is_quiet: false }),
                    WriteHalf::Tcp(write),
                )
            }
            Self::Simulated(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::Simulated(read), WriteHalf::Simulated(write))
            }
        }
    }
}

impl TcpReadHalf {
    /// Ends the silence; the kernel tells at once of what is there already.
    fn be_heard(&mut self) -> io::Result<()> {
        if self.is_quiet {
            set_low_water(self.half.as_ref(), 1)?;
            self.is_quiet = false;
        }
        Ok(())
    }

    /// Asks the socket itself, and sees that the next message wakes nobody in vain.
    fn read_now(&mut self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.passage.is_empty() {
            self.passage = vec![0; BUSY_READ_BYTES].into();
        }
        let most = buffer.remaining().min(BUSY_READ_BYTES);
        let socket: &TcpStream = self.half.as_ref();
        if !self.is_quiet {
            // It works as well where this is refused.
            self.is_quiet = set_low_water(socket, BUSY_LOW_WATER_BYTES).is_ok();
        }
        match recv(socket, &mut self.passage[..most], RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                buffer.put_slice(&self.passage[..count]);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncRead for TcpReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match busy_poll::polling() {
            Polling::Busily => self.read_now(buffer),
            Polling::Read => Poll::Pending,
            Polling::Leaving => {
                self.be_heard()?;
                let socket: &TcpStream = self.half.as_ref();
                ready!(socket.poll_read_ready(context))?;
                // The runtime has heard of something: it reads.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Polling::ByRuntime => {
                self.be_heard()?;
                Pin::new(&mut self.half).poll_read(context, buffer)
            }
        }
    }
}

macro_rules! forward_read {
    ($name:ty) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(inner) => Pin::new(inner).poll_read(context, buffer),
                    Self::Simulated(inner) => Pin::new(inner).poll_read(context, buffer),
                }
            }
        }
    };
}

macro_rules! forward_write {
    ($name:ty) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(inner) => Pin::new(inner).poll_write(context, bytes),
                    Self::Simulated(inner) => Pin::new(inner).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(inner) => Pin::new(inner).poll_write_vectored(context, parts),
                    Self::Simulated(inner) => Pin::new(inner).poll_write_vectored(context, parts),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Tcp(inner) => inner.is_write_vectored(),
                    Self::Simulated(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(inner) => Pin::new(inner).poll_flush(context),
                    Self::Simulated(inner) => Pin::new(inner).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(inner) => Pin::new(inner).poll_shutdown(context),
                    Self::Simulated(inner) => Pin::new(inner).poll_shutdown(context),
                }
            }
        }
    };
}

forward_read!(Stream);
forward_read!(ReadHalf);
forward_write!(Stream);
forward_write!(WriteHalf);

#[cfg(test)]
mod tests {
    use crate::net::Net;
    use crate::net::tcp::TcpNet;
    use crate::spawn::{Spawn, ThreadSpawn};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{mpsc, oneshot};

    #[tokio::test]
    async fn a_connection_goes_on_beside_an_owner() {
        let spawn: Arc<dyn Spawn> = Arc::new(ThreadSpawn);
        let (hears, mut heard) = mpsc::channel(1);
        let (done, outcome) = oneshot::channel();
        let owner = spawn.owner("owner", async move {
            done.send((heard.recv().await, std::thread::current().id())).unwrap();
        });
        let owner = owner.unwrap();
        let mut listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut near = TcpNet.connect(&address).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let moved = far.on(owner.runtime()).unwrap();
        drop(owner.runtime().spawn(async move {
            let (mut read, _write) = moved.into_split();
            let byte = read.read_u8().await.unwrap();
            hears.send((byte, std::thread::current().id())).await.unwrap();
        }));
        // After it waits there.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        near.write_u8(7).await.unwrap();
        let (said, owners) = outcome.await.unwrap();
        assert_eq!(said, Some((7, owners)), "read by the owner's own thread");
    }
}
