//! The writing side and the fate of one connection, shared by everybody who uses it.
//!
//! Invariant: the socket is either in `State::socket` (nobody writes; the queue is empty or corked), or with exactly one
//! writer, who puts it back only when the queue is empty. A frame is never written by halves while the connection lives: a
//! sender does not wait, so cancelling it cannot cut a frame.

use crate::connection::{BoxWrite, ConnError};
use bytes::{Buf, Bytes};
use cairn_core::limits::DATA_WRITE_STALL_MAX;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Frames that one vectored write covers: head and payload each make a slice.
const BATCH_FRAMES: usize = 16;
/// A sender writes at most so many batches of others before a task goes on.
const INLINE_BATCHES: usize = 4;

/// An encoded frame on its way, with the places it occupies until it has left.
pub struct Outgoing {
    head: Bytes,
    payload: Bytes,
    _places: Vec<OwnedSemaphorePermit>,
}

impl Outgoing {
    /// A frame of two parts; `places` are given back when both have left, or the connection has died.
    pub fn new(head: Bytes, payload: Bytes, places: Vec<OwnedSemaphorePermit>) -> Self {
        Self { head, payload, _places: places }
    }

    /// Bytes that have not left yet.
    pub fn bytes_left(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

struct State {
    queue: VecDeque<Outgoing>,
    socket: Option<BoxWrite>,
    /// Close once the queue is empty.
    last_queued: bool,
    /// More replies will follow at once: frames wait for `uncork`, to leave with one write.
    corked: bool,
}

/// One connection as its senders see it.
pub struct Link {
    peer: Arc<str>,
    state: Mutex<State>,
    death: watch::Sender<Option<ConnError>>,
    runtime: Handle,
}

/// Ends a connection from outside.
#[derive(Clone)]
pub struct Closer(pub(crate) Arc<Link>);

impl Closer {
    /// Closes the connection; its calls fail, its frames are no longer read.
    pub fn close(&self) {
        self.0.die(ConnError::ClosedHere { peer: self.0.peer.clone() });
    }
}

/// The socket in the hands of its writer.
struct Active {
    socket: BoxWrite,
    batch: VecDeque<Outgoing>,
}

impl Link {
    /// Must be called within a runtime; later sends may come from any thread.
    pub(crate) fn new(socket: BoxWrite, peer: Arc<str>) -> Arc<Self> {
        let state = State { queue: VecDeque::new(), socket: Some(socket), last_queued: false, corked: false };
        Arc::new(Self {
            peer,
            state: Mutex::new(state),
            death: watch::Sender::new(None),
            runtime: Handle::current(),
        })
    }

    /// Whom the connection is with, for errors.
    pub fn peer(&self) -> &Arc<str> {
        &self.peer
    }

    /// Sends a frame, now or as soon as the socket takes it. The queue is bounded by the places that callers hold.
    pub fn send(self: &Arc<Self>, frame: Outgoing) -> Result<(), ConnError> {
        if let Some(socket) = self.enqueue(frame, false)? {
            self.write_now(Active { socket, batch: VecDeque::new() });
        }
        Ok(())
    }

    /// Sends a frame together with others that follow at once: a task writes what has gathered when it gets its turn. To
    /// be used where many answers become ready together.
    pub fn send_soon(self: &Arc<Self>, frame: Outgoing) -> Result<(), ConnError> {
        if let Some(socket) = self.enqueue(frame, false)? {
            self.runtime.spawn(self.clone().drain(Active { socket, batch: VecDeque::new() }));
        }
        Ok(())
    }

    /// Sends the last frame: the connection is closed when it has left.
    pub fn send_last(self: &Arc<Self>, frame: Outgoing) -> Result<(), ConnError> {
        if let Some(socket) = self.enqueue(frame, true)? {
            self.write_now(Active { socket, batch: VecDeque::new() });
        }
        Ok(())
    }

    /// Queues a frame; the socket, if it is the caller who must write.
    fn enqueue(&self, frame: Outgoing, last: bool) -> Result<Option<BoxWrite>, ConnError> {
        let mut state = self.lock();
        if let Some(error) = self.dead() {
            return Err(error);
        }
        state.queue.push_back(frame);
        state.last_queued |= last;
        Ok(if state.corked { None } else { state.socket.take() })
    }

    /// Queues a frame unless `most` wait already; [`Link::flush`] lets it leave. False when there is no room, or the
    /// connection has died.
    pub fn queue(&self, frame: Outgoing, most: usize) -> bool {
        let mut state = self.lock();
        if state.queue.len() >= most || state.last_queued || self.dead().is_some() {
            return false;
        }
        state.queue.push_back(frame);
        true
    }

    /// Writes what is queued, unless somebody does so already or will at `uncork`.
    pub fn flush(self: &Arc<Self>) {
        let socket = {
            let mut state = self.lock();
            if state.corked || state.queue.is_empty() { None } else { state.socket.take() }
        };
        if let Some(socket) = socket {
            self.write_now(Active { socket, batch: VecDeque::new() });
        }
    }

    /// Lets frames wait in the queue. Whoever corks must uncork before waiting for anything.
    pub fn cork(&self) {
        self.lock().corked = true;
    }

    /// Writes what has gathered.
    pub fn uncork(self: &Arc<Self>) {
        self.lock().corked = false;
        self.flush();
    }

    /// Writes what the socket takes without waiting; a task does the rest.
    fn write_now(self: &Arc<Self>, mut active: Active) {
        let mut context = Context::from_waker(Waker::noop());
        let mut batches = 0;
        loop {
            if active.batch.is_empty() {
                if batches == INLINE_BATCHES {
                    break;
                }
                batches += 1;
                match self.refill(active) {
                    Some(refilled) => active = refilled,
                    None => return,
                }
            }
            match active.poll_write(&mut context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.die(ConnError::io(&self.peer, error)),
                Poll::Pending => break,
            }
        }
        self.runtime.spawn(self.clone().drain(active));
    }

    /// Takes the next frames to write; `None` when there are none and the socket was put back (or closed).
    fn refill(&self, mut active: Active) -> Option<Active> {
        let mut state = self.lock();
        let count = state.queue.len().min(BATCH_FRAMES);
        if count > 0 {
            active.batch.extend(state.queue.drain(..count));
            return Some(active);
        }
        if state.last_queued {
            drop(state);
            self.die(ConnError::ClosedHere { peer: self.peer.clone() });
        } else if self.dead().is_none() {
            state.socket = Some(active.socket);
        }
        None
    }

    async fn drain(self: Arc<Self>, mut active: Active) {
        let mut death = self.death.subscribe();
        loop {
            if active.batch.is_empty() {
                match self.refill(active) {
                    Some(refilled) => active = refilled,
                    None => return,
                }
            }
            let write =
                tokio::time::timeout(DATA_WRITE_STALL_MAX, poll_fn(|context| active.poll_write(context)));
            let written = tokio::select! {
                biased;
                _ = death.wait_for(Option::is_some) => return,
                written = write => written,
            };
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.die(ConnError::io(&self.peer, error)),
                Err(_) => {
                    let silent_ms = DATA_WRITE_STALL_MAX.as_millis() as u64;
                    return self.die(ConnError::Silent { peer: self.peer.clone(), silent_ms });
                }
            }
        }
    }

    /// Ends the connection; the first cause counts. What is queued is dropped, the socket closed.
    pub fn die(&self, error: ConnError) {
        let dropped = {
            let mut state = self.lock();
            self.death.send_if_modified(|death| {
                let first = death.is_none();
                if first {
                    *death = Some(error);
                }
                first
            });
            (std::mem::take(&mut state.queue), state.socket.take())
        };
        drop(dropped);
    }

    /// Why the connection is of no further use, or `None` while it lives.
    pub fn dead(&self) -> Option<ConnError> {
        self.death.borrow().clone()
    }

    /// Waits for the end of the connection.
    pub async fn died(&self) -> ConnError {
        let mut death = self.death.subscribe();
        match death.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            _ => ConnError::ClosedHere { peer: self.peer.clone() },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    /// One vectored write of what is in the batch; frames that have left are dropped.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); 2 * BATCH_FRAMES];
        let mut used = 0;
        for part in self.batch.iter().flat_map(|frame| [&frame.head, &frame.payload]) {
            if !part.is_empty() {
                slices[used] = IoSlice::new(part);
                used += 1;
            }
        }
        let written = match Pin::new(&mut self.socket).poll_write_vectored(context, &slices[..used]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        self.forget(written);
        Poll::Ready(Ok(()))
    }

    fn forget(&mut self, mut written: usize) {
        while let Some(frame) = self.batch.front_mut() {
            for part in [&mut frame.head, &mut frame.payload] {
                let gone = part.len().min(written);
                part.advance(gone);
                written -= gone;
            }
            if frame.head.is_empty() && frame.payload.is_empty() {
                self.batch.pop_front();
            } else {
                return;
            }
        }
    }
}
