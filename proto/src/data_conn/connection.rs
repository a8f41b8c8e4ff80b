//! The calling side of a connection.

use crate::connection::{ConnError, Link};
use crate::data_conn::Lane;
use crate::data_conn::buffers::PayloadPool;
use crate::data_conn::outgoing;
use crate::data_conn::pending::{Pending, Waiting};
use crate::data_conn::reader::FrameReader;
use crate::frame::{Frame, FrameError, Header, Op, Status};
use crate::v1::{Hello, Refused};
use cairn_core::ids::{ChunkId, ChunkVersion, RequestId};
use cairn_core::limits::{
    DATA_HANDSHAKE_MAX, DATA_IDLE_PING, DATA_SILENCE_MAX, FRAMES_IN_FLIGHT_MAX, HELLO_BYTES_MAX,
};
use prost::Message;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

/// Notices of one call that may wait for its caller.
const NOTICES_WAITING: usize = 8;
/// Wire id of pings: they have no entry among the pending calls.
const PING: RequestId = RequestId(0);

/// A connection to a chunk server, over which any number of tasks call. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct DataConnection {
    inner: Arc<Inner>,
    _close: Arc<CloseOnDrop>,
}

struct Inner {
    link: Arc<Link>,
    pending: Mutex<Pending>,
    places: Arc<Semaphore>,
    remote: Hello,
    /// Frames received.
    frames: AtomicU64,
    /// Told of every frame received.
    heard: Notify,
    ping_out: AtomicBool,
}

struct CloseOnDrop(Arc<Inner>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl DataConnection {
    /// Exchanges Hellos over a fresh stream, given as its two halves. `peer` is how errors call the other side:
    /// component and address ("chunkserver 10.0.0.7:7102").
    ///
    /// The future drives the connection: it must be polled, by a task as a rule, and ends with it.
    ///
    /// # Errors
    /// `Refused` with the peer's own words, `Silent` after [`DATA_HANDSHAKE_MAX`], or how the stream failed.
    pub async fn connect<R, W>(
        read: R,
        write: W,
        peer: &str,
        hello: &Hello,
        lane: Lane,
        pool: &PayloadPool,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<R, W>), ConnError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let peer: Arc<str> = peer.into();
        let mut reader = FrameReader::new(Box::new(read), pool.clone(), peer.clone());
        let link = Link::new(Box::new(write), peer.clone());
        let exchange = exchange_hellos(&mut reader, &link, hello, lane);
        let remote = match tokio::time::timeout(DATA_HANDSHAKE_MAX, exchange).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(ConnError::Silent { peer, silent_ms: DATA_HANDSHAKE_MAX.as_millis() as u64 });
            }
        };
        let inner = Arc::new(Inner {
            link,
            pending: Mutex::new(Pending::default()),
            places: Arc::new(Semaphore::new(FRAMES_IN_FLIGHT_MAX)),
            remote,
            frames: AtomicU64::new(0),
            heard: Notify::new(),
            ping_out: AtomicBool::new(false),
        });
        let driver = inner.clone().run(reader);
        Ok((Self { _close: Arc::new(CloseOnDrop(inner.clone())), inner }, driver))
    }

    /// Sends a request and waits for its reply, whatever its status. The frame's request id is for logs; several calls
    /// may share one. At most [`FRAMES_IN_FLIGHT_MAX`] are under way; further ones wait.
    ///
    /// Dropping the future gives the reply up; the request may still be carried out.
    ///
    /// # Errors
    /// The connection's end. Whether the request was carried out is then unknown.
    pub fn call(&self, frame: Frame) -> impl Future<Output = Result<Frame, ConnError>> + Send + '_ {
        self.exchange(frame, None)
    }

    /// As [`DataConnection::call`]; `progress` sees the notices (`NextHopSlow`) that come before the reply.
    ///
    /// # Errors
    /// As [`DataConnection::call`].
    pub async fn call_with_progress(
        &self,
        frame: Frame,
        mut progress: impl FnMut(&Frame) + Send,
    ) -> Result<Frame, ConnError> {
        let (sender, mut notices) = mpsc::channel(NOTICES_WAITING);
        let reply = self.exchange(frame, Some(sender));
        tokio::pin!(reply);
        loop {
            tokio::select! {
                biased;
                Some(notice) = notices.recv() => progress(&notice),
                reply = &mut reply => return reply,
            }
        }
    }

    async fn exchange(
        &self,
        mut frame: Frame,
        notices: Option<mpsc::Sender<Frame>>,
    ) -> Result<Frame, ConnError> {
        let place = match self.inner.places.clone().acquire_owned().await {
            Ok(place) => place,
            Err(_) => return Err(self.inner.end()),
        };
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { request: frame.header.request, reply, notices, _place: place };
        let wire = self.inner.pending().enter(waiting)?;
        frame.header.request = wire;
        if let Err(error) = self.inner.link.send(outgoing(&frame, Vec::new())) {
            self.inner.pending().withdraw(wire);
            return Err(error);
        }
        drop(frame);
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.inner.end()),
        }
    }

    /// Waits until the peer's reader is heard of: asks with a ping, and takes any frame as the answer. Never waits
    /// behind other calls, nor behind the peer's disks.
    ///
    /// # Errors
    /// The connection's end. There is no deadline; the caller sets one.
    pub async fn ping(&self) -> Result<(), ConnError> {
        let heard = self.inner.heard.notified();
        tokio::pin!(heard);
        heard.as_mut().enable();
        self.inner.send_ping()?;
        tokio::select! {
            () = heard => Ok(()),
            error = self.inner.link.died() => Err(error),
        }
    }

    /// Why the connection is of no further use, or `None` while it lives.
    pub fn dead(&self) -> Option<ConnError> {
        self.inner.link.dead()
    }

    /// Waits for the end of the connection and says why.
    pub async fn died(&self) -> ConnError {
        self.inner.link.died().await
    }

    /// Closes the connection: all calls fail at once.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Whom the connection is with, as given when it was made.
    pub fn peer(&self) -> &str {
        self.inner.link.peer()
    }

    /// The peer's Hello.
    pub fn remote(&self) -> &Hello {
        &self.inner.remote
    }

    /// Calls under way.
    pub fn in_flight(&self) -> usize {
        FRAMES_IN_FLIGHT_MAX - self.inner.places.available_permits()
    }
}

impl Inner {
    /// The task of a connection: hands out replies, keeps the peer from falling silent unnoticed, ends everything.
    async fn run(self: Arc<Self>, reader: FrameReader) {
        let error = tokio::select! {
            error = self.receive(reader) => error,
            error = self.link.died() => error,
            error = self.watch_silence() => error,
        };
        self.link.die(error);
        self.places.close();
        let error = self.end();
        self.pending().fail_all(&error);
    }

    async fn receive(&self, mut reader: FrameReader) -> ConnError {
        loop {
            let frame = match self.next_reply(&mut reader).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            self.frames.fetch_add(1, Ordering::Relaxed);
            if frame.header.op == Op::Ping {
                self.ping_out.store(false, Ordering::Release);
            } else if frame.header.status == Status::NextHopSlow {
                self.pending().notice(frame);
            } else {
                self.pending().reply(frame);
            }
            self.heard.notify_waiters();
        }
    }

    async fn next_reply(&self, reader: &mut FrameReader) -> Result<Frame, ConnError> {
        let header = reader.header().await?;
        if !header.reply {
            let source = FrameError::Invalid("op: a request where a reply was due");
            return Err(ConnError::Protocol { peer: self.link.peer().clone(), source });
        }
        reader.body(header).await
    }

    async fn watch_silence(&self) -> ConnError {
        let mut seen = self.frames.load(Ordering::Relaxed);
        let mut silent = std::time::Duration::ZERO;
        loop {
            tokio::time::sleep(DATA_IDLE_PING).await;
            let now = self.frames.load(Ordering::Relaxed);
            if now != seen {
                (seen, silent) = (now, std::time::Duration::ZERO);
                continue;
            }
            silent += DATA_IDLE_PING;
            if silent >= DATA_SILENCE_MAX {
                let silent_ms = silent.as_millis() as u64;
                return ConnError::Silent { peer: self.link.peer().clone(), silent_ms };
            }
            if let Err(error) = self.send_ping() {
                return error;
            }
        }
    }

    /// Sends a ping unless one is already on its way.
    fn send_ping(&self) -> Result<(), ConnError> {
        if self.ping_out.swap(true, Ordering::AcqRel) {
            return self.link.dead().map_or(Ok(()), Err);
        }
        self.link.send(outgoing(&Frame::bare(Header::request(Op::Ping, PING)), Vec::new()))
    }

    fn close(&self) {
        self.link.die(ConnError::ClosedHere { peer: self.link.peer().clone() });
        let error = self.end();
        self.pending().fail_all(&error);
    }

    fn end(&self) -> ConnError {
        self.link.dead().unwrap_or_else(|| ConnError::ClosedHere { peer: self.link.peer().clone() })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange_hellos(
    reader: &mut FrameReader,
    link: &Arc<Link>,
    hello: &Hello,
    lane: Lane,
) -> Result<Hello, ConnError> {
    let mut frame = Frame::bare(Header::request(Op::Hello, RequestId(0)));
    frame.header.chunk = ChunkId(lane.number);
    frame.header.version = ChunkVersion(lane.generation);
    frame.payload = hello.encode_to_vec().into();
    link.send(outgoing(&frame, Vec::new()))?;
    let header = reader.header().await?;
    let broken = |what| ConnError::Protocol { peer: link.peer().clone(), source: FrameError::Invalid(what) };
    if header.op != Op::Hello || !header.reply || header.body_len() > HELLO_BYTES_MAX {
        return Err(broken("op: a Hello was due"));
    }
    let frame = reader.body(header).await?;
    if frame.header.status == Status::Ok {
        return Hello::decode(frame.payload).map_err(|_| broken("hello"));
    }
    let refused = Refused::decode(frame.payload).map_err(|_| broken("refusal"))?;
    let (reason, message) = (refused.reason(), refused.message);
    Err(ConnError::Refused { peer: link.peer().clone(), reason, message })
}
