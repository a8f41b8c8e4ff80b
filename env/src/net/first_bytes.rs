//! A connection whose first bytes were looked at: by them a port serves two protocols.

use super::stream::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How many bytes are looked at.
pub const FIRST_BYTES: usize = 4;

/// A connection that gives its first bytes once more.
pub struct Unread {
    first: [u8; FIRST_BYTES],
    /// How many of them were given.
    given: usize,
    stream: Stream,
}

/// Reads the first bytes of a fresh connection. There is no deadline; the caller sets one.
///
/// # Errors
/// The connection failed, or ended before.
pub async fn first_bytes(stream: &mut Stream) -> io::Result<[u8; FIRST_BYTES]> {
    let mut first = [0; FIRST_BYTES];
    stream.read_exact(&mut first).await?;
    Ok(first)
}

impl Unread {
    /// Puts `first`, which was read from it, back in front of the stream.
    pub fn new(first: [u8; FIRST_BYTES], stream: Stream) -> Self {
        Self { first, given: 0, stream }
    }

    /// The connection itself.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl AsyncRead for Unread {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given < FIRST_BYTES {
            let count = into.remaining().min(FIRST_BYTES - this.given);
            into.put_slice(&this.first[this.given..this.given + count]);
            this.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Unread {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Net;
    use crate::net::tcp::TcpNet;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn nothing_is_lost_by_looking() {
        let mut listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut near = TcpNet.connect(&address).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.write_all(b"PRI * HTTP").await.unwrap();
        drop(near);
        let first = first_bytes(&mut far).await.unwrap();
        assert_eq!(&first, b"PRI ");
        let mut far = Unread::new(first, far);
        let mut small = [0; 3];
        far.read_exact(&mut small).await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!((&small, &rest[..]), (b"PRI", &b" * HTTP"[..]));
    }
}
