//! One connection of a client's session: reads its messages, begins what they ask, and says what must be said.
//!
//! Requests are begun where they were read, in their order; each answer is written by whoever has it. What is in work
//! and not yet written is bounded by places: while a client does not read, it is not read either.

use crate::leases;
use crate::observations;
use crate::operations;
use crate::parts::Parts;
use crate::session_open;
use crate::sessions::{Session, sent};
use crate::slow;
use cairn_core::ids::{InodeId, LeaseNumber};
use cairn_core::limits::{HELLO_PATIENCE, SESSION_REQUESTS_MAX};
use cairn_env::net::stream::Stream;
use cairn_proto::connection::{ConnError, Link};
use cairn_proto::session_conn::{MessageReader, SESSION, attend};
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::master_message::Message;
use cairn_proto::v1::{ClientHello, ClientMessage, RefusedReason, Renewed, Reply, SessionEnded};
use futures::FutureExt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

/// With so many answers outstanding on a connection, several leave with one write.
const FEW_REQUESTS: usize = 2;
/// An answer of so many bytes is one of a few.
const LONG_ANSWER_BYTES: usize = 8 * 1024;

type Reader = MessageReader<ClientMessage>;

/// Where the answer to one request goes. Dropped without one (the request panicked, or the sequencer has ended), it
/// closes the connection, so that the client asks again.
pub(crate) struct Answer {
    link: Arc<Link>,
    place: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// Sends the answer.
    pub(crate) fn send(mut self, reply: Reply) {
        let Some(place) = self.place.take() else { return };
        let outstanding = SESSION_REQUESTS_MAX - place.semaphore().available_permits();
        let message = sent(Message::Reply(reply), vec![place]);
        // A long answer is worth a write of its own, and would wait for others that are made before the write.
        let left = match outstanding <= FEW_REQUESTS || message.bytes_left() >= LONG_ANSWER_BYTES {
            true => self.link.send(message),
            false => self.link.send_soon(message),
        };
        // On a dead connection nobody waits; the client asks again over the next one.
        drop(left);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.link.die(ConnError::ClosedHere { peer: self.link.peer().clone() });
        }
    }
}

struct Serving {
    parts: Arc<Parts>,
    session: Arc<Session>,
    link: Arc<Link>,
    places: Arc<Semaphore>,
}

/// Serves a connection to its end; its session lives on.
pub(crate) async fn serve(parts: Arc<Parts>, stream: Stream, peer: SocketAddr) {
    let _counted = parts.metrics.session_stream();
    let (read, write) = stream.into_split();
    let (link, mut reader) = attend(SESSION, read, write, &format!("client {peer}"));
    let error = match converse(parts, &link, &mut reader).await {
        Ok(()) => link.died().await,
        Err(error) => error,
    };
    debug!(%peer, %error, "connection of a session has ended");
    link.die(error);
}

/// All that is said on a connection. It has ended, or will when its last message has left.
async fn converse(parts: Arc<Parts>, link: &Arc<Link>, reader: &mut Reader) -> Result<(), ConnError> {
    let silent = || {
        let silent_ms = HELLO_PATIENCE.as_millis() as u64;
        Err(ConnError::Silent { peer: link.peer().clone(), silent_ms })
    };
    let hello =
        match tokio::time::timeout(HELLO_PATIENCE, hello(reader)).await.unwrap_or_else(|_| silent())? {
            Some(hello) => hello,
            None => {
                let message = "the first message of a session must be a hello".to_owned();
                let refused = cairn_proto::hello::refused(RefusedReason::RefusedBadRequest, message);
                return link.send_last(sent(Message::Refused(refused), Vec::new()));
            }
        };
    let opened = match session_open::open(parts.clone(), hello).await {
        Ok(opened) => opened,
        Err(refused) => return link.send_last(sent(Message::Refused(refused), Vec::new())),
    };
    let session = opened.session;
    link.send(sent(Message::Welcome(opened.welcome), Vec::new()))?;
    session.attach(link.clone());
    leases::ask_again(&parts, &session);
    let places = Arc::new(Semaphore::new(SESSION_REQUESTS_MAX));
    let serving = Serving { parts, session, link: link.clone(), places };
    tokio::select! {
        ended = serving.receive(reader) => ended,
        error = link.died() => Err(error),
        () = serving.parts.stopping.cancelled() => {
            link.uncork();
            let message = "the master is stopping".to_owned();
            let refused = cairn_proto::hello::refused(RefusedReason::RefusedNotLeader, message);
            link.send_last(sent(Message::Refused(refused), Vec::new()))
        }
    }
}

/// The first message; `None` when it is another one.
async fn hello(reader: &mut Reader) -> Result<Option<ClientHello>, ConnError> {
    match reader.next().await? {
        Some(ClientMessage { message: Some(Asked::Hello(hello)) }) => Ok(Some(hello)),
        Some(_) => Ok(None),
        None => Err(ConnError::Closed { peer: reader.peer().clone() }),
    }
}

impl Serving {
    /// Takes messages until the conversation is over.
    async fn receive(&self, reader: &mut Reader) -> Result<(), ConnError> {
        while let Some(message) = reader.next().await? {
            if reader.has_whole_message() {
                self.link.cork();
            }
            // One without content is a variant of a later release: the protocol range forbids it, so it is skipped.
            let over = match message.message {
                Some(message) => self.take(message).await?,
                None => false,
            };
            if over {
                return Ok(());
            }
            if !reader.has_whole_message() {
                self.link.uncork();
            }
        }
        // What is in work is answered all the same, as long as the client reads.
        let _all = self.places.acquire_many(SESSION_REQUESTS_MAX as u32).await;
        Err(ConnError::Closed { peer: self.link.peer().clone() })
    }

    /// Takes one message; true when the conversation is over.
    async fn take(&self, message: Asked) -> Result<bool, ConnError> {
        let (parts, session) = (&self.parts, &self.session);
        session.hear(parts.now());
        match message {
            Asked::Operation(request) => {
                let answer = self.answer().await?;
                operations::operate(parts, session, request, answer);
            }
            Asked::Query(request) => {
                let (answer, parts, session) = (self.answer().await?, parts.clone(), session.clone());
                let takes_long = operations::takes_long(&request);
                let work = async move { answer.send(operations::ask(&parts, &session, request).await) };
                if takes_long {
                    // Nobody else waits for it here, and pages of one directory are made side by side.
                    drop(tokio::spawn(work));
                } else {
                    self.begin(work);
                }
            }
            Asked::Renew(renew) => {
                // What is promised here binds whoever leads: nobody else does at this moment.
                let leases = parts.reader.holds_lease() && parts.caching.renew(session.id, parts.now());
                let renewed = Renewed { sent_at_ns: renew.sent_at_ns, leases };
                self.link.send(sent(Message::Renewed(renewed), Vec::new()))?;
                observations::take(parts, session.id, renew.seen);
                slow::take(parts, session, renew.slow);
            }
            Asked::Declare(declare) => {
                let opened = declare.opened.into_iter().map(InodeId);
                if !session.declare(opened, declare.closed.into_iter().map(InodeId)) {
                    return self.say_end("the session declares too many open files");
                }
            }
            Asked::LeaseReturned(returned) => {
                let (place, parts, session) = (self.place().await?, parts.clone(), session.id);
                let (inode, lease) = (InodeId(returned.inode), LeaseNumber(returned.lease));
                self.begin(async move {
                    leases::returned(&parts, session, inode, lease).await;
                    drop(place);
                });
            }
            Asked::Invalidated(done) => parts.caching.confirmed(session.id, done.number),
            Asked::Forget(dropped) => {
                parts.caching.forget(session.id, dropped.inodes, dropped.everything);
            }
            Asked::Detach(_) => {
                session.leave();
                session_open::detach(parts.clone(), session.clone()).await;
                return self.say_end("detached");
            }
            Asked::Hello(_) => return self.say_end("a second hello on one connection"),
        }
        Ok(false)
    }

    fn say_end(&self, reason: &str) -> Result<bool, ConnError> {
        self.link.uncork();
        let ended = Message::SessionEnded(SessionEnded { reason: reason.to_owned() });
        self.link.send_last(sent(ended, Vec::new()))?;
        Ok(true)
    }

    async fn answer(&self) -> Result<Answer, ConnError> {
        Ok(Answer { link: self.link.clone(), place: Some(self.place().await?) })
    }

    /// A place for a request, when there is one.
    async fn place(&self) -> Result<OwnedSemaphorePermit, ConnError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        // Nothing that could free a place may be held back.
        self.link.uncork();
        let place = self.places.clone().acquire_owned().await;
        place.map_err(|_| ConnError::ClosedHere { peer: self.link.peer().clone() })
    }

    /// Takes the first step here, where most are finished; a task of its own does the rest.
    fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        if (&mut work).now_or_never().is_none() {
            drop(tokio::spawn(work));
        }
    }
}
