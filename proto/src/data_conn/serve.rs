//! The answering side of a connection.

use crate::connection::{Closer, ConnError, Link};
use crate::data_conn::Lane;
use crate::data_conn::buffers::PayloadPool;
use crate::data_conn::outgoing;
use crate::data_conn::reader::FrameReader;
use crate::frame::{Frame, FrameError, Header, Op, Status};
use crate::v1::{Hello, Refused};
use cairn_core::limits::{
    DATA_HANDSHAKE_MAX, DATA_IDLE_MAX, FRAMES_HELD_MAX, FRAMES_HELD_PER_CONNECTION_MAX, HELLO_BYTES_MAX,
    SMALL_WRITE_BYTES_MAX,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

/// What answers the requests of all connections of a server.
pub trait Handler: Send + Sync + 'static {
    /// What the handler knows of one connection; dropped when its last request has ended.
    type Session: Send + Sync + 'static;

    /// Judges a Hello. An implementation that fences lanes closes the predecessor and waits for its end here.
    fn hello(
        &self,
        hello: Hello,
        lane: Lane,
        closer: Closer,
    ) -> impl Future<Output = Result<(Hello, Self::Session), Refused>> + Send;

    /// Answers a request. Polled once where the frame was read, then, when it waits, by a task of its own; runs to its
    /// end even when the connection dies. The reply's request id is set by the caller.
    fn handle(self: Arc<Self>, request: Request<Self::Session>) -> BoxFuture<'static, Frame>;
}

/// One request as its handler gets it.
pub struct Request<S> {
    /// What was asked.
    pub frame: Frame,
    /// The connection it came by.
    pub session: Arc<S>,
    link: Arc<Link>,
}

impl<S> Request<S> {
    /// Sends a notice (`NextHopSlow`) ahead of the reply. Lost silently when the connection has died.
    pub fn notify(&self, notice: &Frame) {
        let _ = self.link.send(outgoing(notice, Vec::new()));
    }

    /// Whether the connection has died, so that nobody waits for the reply.
    pub fn abandoned(&self) -> bool {
        self.link.dead().is_some()
    }
}

/// What all connections of a server share. Cloning shares it.
#[derive(Clone)]
pub struct ServeOptions {
    /// Payload buffers.
    pub pool: PayloadPool,
    /// Places for requests of all connections.
    pub places: Arc<Semaphore>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { pool: PayloadPool::default(), places: Arc::new(Semaphore::new(FRAMES_HELD_MAX)) }
    }
}

struct Serving<H: Handler> {
    handler: Arc<H>,
    session: Arc<H::Session>,
    link: Arc<Link>,
    /// Places of this connection.
    places: Arc<Semaphore>,
    /// Places of all connections.
    all_places: Arc<Semaphore>,
    frames: AtomicU64,
}

struct CloseOnDrop(Option<Closer>);

impl CloseOnDrop {
    fn new(link: &Arc<Link>) -> Self {
        Self(Some(Closer(link.clone())))
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(closer) = &self.0 {
            closer.close();
        }
    }
}

/// Serves one accepted stream until it ends, and returns when the last of its requests has ended too.
///
/// # Errors
/// Why the connection ended; a peer that hung up between frames is `Closed`.
pub async fn serve<H: Handler>(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    peer: &str,
    options: &ServeOptions,
    handler: Arc<H>,
) -> Result<(), ConnError> {
    let peer: Arc<str> = peer.into();
    let mut reader = FrameReader::new(Box::new(read), options.pool.clone(), peer.clone());
    let link = Link::new(Box::new(write), peer.clone());
    // Also when this future is dropped: begun requests hold the link, the peer must not wait for them.
    let _end = CloseOnDrop::new(&link);
    let greeting = greet(&mut reader, &link, handler.as_ref());
    let session = match tokio::time::timeout(DATA_HANDSHAKE_MAX, greeting).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(ConnError::Silent { peer, silent_ms: DATA_HANDSHAKE_MAX.as_millis() as u64 }),
    };
    let serving = Serving {
        handler,
        session: Arc::new(session),
        link: link.clone(),
        places: Arc::new(Semaphore::new(FRAMES_HELD_PER_CONNECTION_MAX)),
        all_places: options.places.clone(),
        frames: AtomicU64::new(0),
    };
    let error = tokio::select! {
        error = serving.receive(&mut reader) => error,
        error = link.died() => error,
        error = serving.watch_idle() => error,
    };
    link.die(error.clone());
    drop(reader);
    // Every request holds a place until it has ended and its reply has left or was dropped.
    let _ = serving.places.acquire_many(FRAMES_HELD_PER_CONNECTION_MAX as u32).await;
    Err(error)
}

impl<H: Handler> Serving<H> {
    async fn receive(&self, reader: &mut FrameReader) -> ConnError {
        loop {
            // Replies to frames that came together leave together, but never wait for a frame still to come.
            if !reader.has_whole_frame() {
                self.link.uncork();
            }
            if let Err(error) = self.next(reader).await {
                return error;
            }
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn next(&self, reader: &mut FrameReader) -> Result<(), ConnError> {
        let header = reader.header().await?;
        if header.reply || header.op == Op::Hello {
            let source = FrameError::Invalid("op: a request was due");
            return Err(ConnError::Protocol { peer: self.link.peer().clone(), source });
        }
        if header.op == Op::Ping {
            reader.skip_body(&header).await?;
            let places = match self.places.clone().try_acquire_owned() {
                Ok(place) => vec![place],
                // The peer does not read its replies: one pong less among so many.
                Err(_) => return Ok(()),
            };
            return self.link.send(outgoing(&Frame::bare(header.reply(Status::Ok)), places));
        }
        match self.places() {
            Some(places) => {
                let frame = reader.body(header).await?;
                if reader.has_whole_frame() {
                    self.link.cork();
                }
                self.dispatch(frame, places);
                Ok(())
            }
            None => {
                reader.skip_body(&header).await?;
                self.refuse_overloaded(&header).await
            }
        }
    }

    fn places(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let own = self.places.clone().try_acquire_owned().ok()?;
        let shared = self.all_places.clone().try_acquire_owned().ok()?;
        Some(vec![own, shared])
    }

    /// Refusals are bounded too: without a place for one, the peer is not read until it takes its replies.
    async fn refuse_overloaded(&self, header: &Header) -> Result<(), ConnError> {
        self.link.uncork();
        let places = self.places.clone().acquire_owned().await.into_iter().collect();
        self.link.send(outgoing(&Frame::bare(header.reply(Status::Overloaded)), places))
    }

    fn dispatch(&self, frame: Frame, places: Vec<OwnedSemaphorePermit>) {
        let id = frame.header.request;
        let heavy = frame.payload.len() > SMALL_WRITE_BYTES_MAX && !frame.hops.is_empty();
        let request = Request { frame, session: self.session.clone(), link: self.link.clone() };
        let mut work = self.handler.clone().handle(request);
        let link = self.link.clone();
        // What is answered from memory, or handed to a disk, costs no hand-over to another core here; copying a large
        // payload to the next hop must not delay the next read.
        let now = if heavy { None } else { (&mut work).now_or_never() };
        match now {
            Some(reply) => finish(&link, reply, id, places),
            None => drop(tokio::spawn(async move {
                // A request that ends without a reply must not leave its caller waiting for ever.
                let unanswered = CloseOnDrop::new(&link);
                let reply = work.await;
                unanswered.disarm();
                finish(&link, reply, id, places);
            })),
        }
    }

    async fn watch_idle(&self) -> ConnError {
        let mut seen = u64::MAX;
        loop {
            let now = self.frames.load(Ordering::Relaxed);
            if now == seen {
                let silent_ms = DATA_IDLE_MAX.as_millis() as u64;
                return ConnError::Silent { peer: self.link.peer().clone(), silent_ms };
            }
            seen = now;
            tokio::time::sleep(DATA_IDLE_MAX).await;
        }
    }
}

fn finish(
    link: &Arc<Link>,
    mut reply: Frame,
    id: cairn_core::ids::RequestId,
    places: Vec<OwnedSemaphorePermit>,
) {
    reply.header.request = id;
    let outgoing = outgoing(&reply, places);
    let sent = match reply.header.status {
        Status::BadRequest => link.send_last(outgoing),
        _ => link.send(outgoing),
    };
    if let Err(error) = sent {
        debug!(peer = %link.peer(), %error, "reply could not be sent");
    }
}

async fn greet<H: Handler>(
    reader: &mut FrameReader,
    link: &Arc<Link>,
    handler: &H,
) -> Result<H::Session, ConnError> {
    let header = reader.header().await?;
    let broken = |what| ConnError::Protocol { peer: link.peer().clone(), source: FrameError::Invalid(what) };
    if header.op != Op::Hello || header.reply || header.body_len() > HELLO_BYTES_MAX {
        return Err(broken("op: a Hello was due"));
    }
    let lane = Lane { number: header.chunk.get(), generation: header.version.get() };
    let frame = reader.body(header).await?;
    let hello = Hello::decode(frame.payload).map_err(|_| broken("hello"))?;
    let header = frame.header;
    match handler.hello(hello, lane, Closer(link.clone())).await {
        Ok((ours, session)) => {
            let mut reply = Frame::bare(header.reply(Status::Ok));
            reply.payload = ours.encode_to_vec().into();
            link.send(outgoing(&reply, Vec::new()))?;
            Ok(session)
        }
        Err(refused) => {
            let mut reply = Frame::bare(header.reply(Status::Refused));
            reply.payload = refused.encode_to_vec().into();
            link.send_last(outgoing(&reply, Vec::new()))?;
            // Give the refusal time to leave: the peer hangs up when it has it.
            link.died().await;
            let (reason, message) = (refused.reason(), refused.message);
            Err(ConnError::Refused { peer: link.peer().clone(), reason, message })
        }
    }
}
