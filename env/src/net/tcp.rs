//! The network door over the kernel's TCP.

use crate::net::stream::Stream;
use crate::net::{Listener, Net};
use cairn_core::limits::{ACCEPT_PAUSE, TCP_DEAD_PEER};
use futures::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

/// The kernel's TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Listener>> {
        Box::pin(async move {
            match TcpListener::bind(address).await {
                Ok(listener) => Ok(Listener::Tcp(listener)),
                Err(error) => Err(io::Error::new(error.kind(), format!("listen at {address}: {error}"))),
            }
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            prepare(&stream)?;
            Ok(Stream::Tcp(stream))
        })
    }
}

/// The next connection that could be set up.
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(Stream, SocketAddr)> {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match prepare(&stream) {
                Ok(()) => return Ok((Stream::Tcp(stream), peer)),
                Err(error) => warn!(%peer, %error, "connection was gone before it could be used"),
            },
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                warn!(%error, "no connection could be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What says that the listening socket itself is unusable; all else concerns one connection or passes (EMFILE, ENOMEM).
fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)
    )
}

/// Small frames leave at once, and a peer whose machine is gone is noticed even on an idle connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, TCP_DEAD_PEER / 2)?;
    sockopt::set_tcp_keepintvl(stream, TCP_DEAD_PEER / 10)?;
    sockopt::set_tcp_keepcnt(stream, 5)?;
    sockopt::set_tcp_user_timeout(stream, TCP_DEAD_PEER.as_millis() as u32)?;
    Ok(())
}

/// SO_RCVLOWAT (socket(7)): with less than so many bytes to read, whoever waits for the socket is not woken.
#[allow(unsafe_code, reason = "rustix and socket2 do not have this option")]
pub(super) fn set_low_water(socket: &TcpStream, bytes: u32) -> io::Result<()> {
    let size = size_of_val(&bytes) as libc::socklen_t;
    let option = libc::SO_RCVLOWAT;
    // SAFETY: the kernel reads `size` bytes at the address of `bytes`, an int as the option wants it, which lives to the end of
    // the call; the descriptor is open while `socket` is borrowed.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const bytes).cast(), size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

    #[tokio::test]
    async fn what_one_end_writes_the_other_reads() {
        let mut listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let mut seen = Vec::new();
            read.read_to_end(&mut seen).await.unwrap();
            write.write_all(&seen).await.unwrap();
        });
        let stream = TcpNet.connect(&address).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), address);
        let (mut read, mut write) = stream.into_split();
        assert!(write.is_write_vectored());
        let written = write.write_vectored(&[IoSlice::new(b"two "), IoSlice::new(b"parts")]).await.unwrap();
        assert_eq!(written, 9);
        write.shutdown().await.unwrap();
        let mut back = String::new();
        read.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "two parts");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_connection_names_its_address() {
        let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let Err(error) = TcpNet.connect(&address).await else { panic!("nobody listens") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&address), "{error}");
    }
}
