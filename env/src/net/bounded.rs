//! Connections of which there are only so many at a time, each for only so long: for pages that anybody may ask for.

use super::Listener;
use super::stream::Stream;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// A listening socket that accepts no further connection while `most` are open.
pub struct BoundedListener {
    listener: Listener,
    places: Arc<Semaphore>,
    longest: Duration,
}

impl BoundedListener {
    /// At most `most` connections at a time, each closed after `longest`.
    pub fn new(listener: Listener, most: usize, longest: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(most)), longest }
    }

    /// The next connection and its peer, once there is a place.
    ///
    /// # Errors
    /// The socket itself is broken; do not call again.
    pub async fn accept(&mut self) -> io::Result<(BoundedStream, SocketAddr)> {
        let place = self.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.listener.accept().await?;
        let end = Box::pin(tokio::time::sleep(self.longest));
        Ok((BoundedStream { stream, end, _place: place }, peer))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As [`Listener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails by itself when its time is over: whoever dawdles keeps nobody else out for long.
pub struct BoundedStream {
    stream: Stream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        Pin::new(&mut this.stream).poll_flush(context)
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
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_connection_that_dawdles_gives_its_place_to_the_next() {
        let listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut bounded = BoundedListener::new(listener, 1, Duration::from_millis(200));
        let _silent = TcpNet.connect(&address).await.unwrap();
        let _second = TcpNet.connect(&address).await.unwrap();
        let (mut first, _) = bounded.accept().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), bounded.accept()).await;
        assert!(early.is_err(), "there is one place");
        let error = first.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        assert!(bounded.accept().await.is_ok());
    }
}
