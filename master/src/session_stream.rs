//! One session's stream: a state machine that the connection's own task polls. It reads, starts and finishes requests in
//! one place, because each hand-over to another task costs a wake-up of 25 µs.
//!
//! Nothing is queued here without a bound: while the client does not read, the transport does not poll this stream, so
//! that no further request is read either.

use crate::leases;
use crate::metrics::ConnectionGuard;
use crate::operations;
use crate::parts::Parts;
use crate::session_open;
use crate::sessions::Session;
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, LeaseNumber};
use cairn_core::limits::{HELLO_PATIENCE, SESSION_REQUESTS_MAX};
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::master_message::Message;
use cairn_proto::v1::{
    ClientHello, ClientMessage, MasterMessage, Refused, RefusedReason, Renewed, SessionEnded,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tonic::{Status, Streaming};
use tracing::{debug, info};

/// What the connection polls for messages to the client.
pub(crate) struct SessionStream {
    parts: Arc<Parts>,
    inbound: Streaming<ClientMessage>,
    stage: Stage,
    _counted: ConnectionGuard,
}

enum Stage {
    /// Waits for the hello, until a deadline.
    Greeting(Pin<Box<Sleep>>),
    /// Opens or re-attaches the session.
    Opening(BoxFuture<'static, Result<session_open::Opened, Refused>>),
    /// Serves.
    Serving(Serving),
    /// Ends the session at its client's wish.
    Detaching(BoxFuture<'static, ()>),
    /// Nothing follows.
    Closed,
}

struct Serving {
    session: Arc<Session>,
    pushes: mpsc::Receiver<Message>,
    in_work: FuturesUnordered<BoxFuture<'static, Option<Message>>>,
    /// The client has closed its direction: what is in work is answered, then the stream ends.
    last_was_read: bool,
}

/// What one poll of a serving stream came to.
enum Step {
    Send(Message),
    SendAndClose(Message),
    Fail(Status),
    Detach(Arc<Session>),
    Close,
}

impl SessionStream {
    /// A stream that waits for its hello.
    pub(crate) fn new(parts: Arc<Parts>, inbound: Streaming<ClientMessage>) -> Self {
        let _counted = parts.metrics.session_stream();
        let stage = Stage::Greeting(Box::pin(tokio::time::sleep(HELLO_PATIENCE)));
        Self { parts, inbound, stage, _counted }
    }

    fn poll_greeting(&mut self, context: &mut Context<'_>) -> Poll<Result<ClientHello, Option<Refused>>> {
        let Stage::Greeting(deadline) = &mut self.stage else { return Poll::Ready(Err(None)) };
        if deadline.as_mut().poll_unpin(context).is_ready() {
            return Poll::Ready(Err(None));
        }
        match std::task::ready!(self.inbound.poll_next_unpin(context)) {
            Some(Ok(ClientMessage { message: Some(Asked::Hello(hello)) })) => Poll::Ready(Ok(hello)),
            Some(Ok(_)) => {
                let message = "the first message of a session stream must be a hello".to_owned();
                Poll::Ready(Err(Some(cairn_proto::hello::refused(RefusedReason::RefusedBadRequest, message))))
            }
            Some(Err(_)) | None => Poll::Ready(Err(None)),
        }
    }

    fn open(&mut self, hello: ClientHello) {
        self.stage = Stage::Opening(Box::pin(session_open::open(self.parts.clone(), hello)));
    }

    fn close_with(&mut self, message: Message) -> Poll<Option<Result<MasterMessage, Status>>> {
        self.stage = Stage::Closed;
        sent(message)
    }
}

impl Stream for SessionStream {
    type Item = Result<MasterMessage, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.stage {
                Stage::Greeting(_) => match std::task::ready!(this.poll_greeting(context)) {
                    Ok(hello) => this.open(hello),
                    Err(Some(refused)) => return this.close_with(Message::Refused(refused)),
                    Err(None) => this.stage = Stage::Closed,
                },
                Stage::Opening(opening) => match std::task::ready!(opening.poll_unpin(context)) {
                    Ok(opened) => {
                        let pushes = opened.session.attach();
                        let session = opened.session;
                        leases::ask_again(&this.parts, &session);
                        let in_work = FuturesUnordered::new();
                        this.stage =
                            Stage::Serving(Serving { session, pushes, in_work, last_was_read: false });
                        return sent(Message::Welcome(opened.welcome));
                    }
                    Err(refused) => return this.close_with(Message::Refused(refused)),
                },
                Stage::Serving(serving) => {
                    match std::task::ready!(serving.poll_step(&this.parts, &mut this.inbound, context)) {
                        Step::Send(message) => return sent(message),
                        Step::SendAndClose(message) => return this.close_with(message),
                        Step::Fail(status) => {
                            this.stage = Stage::Closed;
                            return Poll::Ready(Some(Err(status)));
                        }
                        Step::Detach(session) => {
                            this.stage =
                                Stage::Detaching(Box::pin(session_open::detach(this.parts.clone(), session)));
                        }
                        Step::Close => this.stage = Stage::Closed,
                    }
                }
                Stage::Detaching(detaching) => {
                    std::task::ready!(detaching.poll_unpin(context));
                    return this.close_with(session_ended("detached"));
                }
                Stage::Closed => return Poll::Ready(None),
            }
        }
    }
}

impl Serving {
    fn poll_step(
        &mut self,
        parts: &Arc<Parts>,
        inbound: &mut Streaming<ClientMessage>,
        context: &mut Context<'_>,
    ) -> Poll<Step> {
        loop {
            match self.in_work.poll_next_unpin(context) {
                Poll::Ready(Some(Some(message))) => return Poll::Ready(Step::Send(message)),
                Poll::Ready(Some(None)) => continue,
                Poll::Ready(None) if self.last_was_read => return Poll::Ready(Step::Close),
                Poll::Ready(None) | Poll::Pending => {}
            }
            match self.pushes.poll_recv(context) {
                Poll::Ready(Some(message)) => return Poll::Ready(Step::Send(message)),
                Poll::Ready(None) => {
                    return Poll::Ready(Step::SendAndClose(session_ended(self.why_cut(parts))));
                }
                Poll::Pending => {}
            }
            if self.last_was_read {
                return Poll::Pending;
            }
            match std::task::ready!(inbound.poll_next_unpin(context)) {
                Some(Ok(ClientMessage { message: Some(message) })) => {
                    if let Some(step) = self.take(parts, message) {
                        return Poll::Ready(step);
                    }
                }
                // A variant of a later release: the protocol range forbids it, so it is skipped.
                Some(Ok(ClientMessage { message: None })) => {}
                Some(Err(status)) => {
                    debug!(session = %self.session.id, %status, "session stream broke");
                    return Poll::Ready(Step::Fail(status));
                }
                None => self.last_was_read = true,
            }
        }
    }

    /// Takes one message; what it needs is put into work.
    fn take(&mut self, parts: &Arc<Parts>, message: Asked) -> Option<Step> {
        self.session.hear(parts.now());
        match message {
            Asked::Operation(request) => {
                if self.in_work.len() >= SESSION_REQUESTS_MAX {
                    return Some(Step::Send(Message::Reply(operations::reply(
                        request.id,
                        Err(FsError::Overloaded),
                    ))));
                }
                let work = operations::operate(parts.clone(), self.session.clone(), request);
                self.in_work.push(Box::pin(work.map(Some)));
            }
            Asked::Query(request) => {
                if self.in_work.len() >= SESSION_REQUESTS_MAX {
                    return Some(Step::Send(Message::Reply(operations::reply(
                        request.id,
                        Err(FsError::Overloaded),
                    ))));
                }
                let work = operations::ask(parts.clone(), self.session.clone(), request);
                self.in_work.push(Box::pin(work.map(Some)));
            }
            Asked::Renew(renew) => {
                let leases = parts.caching.renew(self.session.id, parts.now());
                return Some(Step::Send(Message::Renewed(Renewed { sent_at_ns: renew.sent_at_ns, leases })));
            }
            Asked::Declare(declare) => {
                let opened = declare.opened.into_iter().map(InodeId);
                if !self.session.declare(opened, declare.closed.into_iter().map(InodeId)) {
                    return Some(Step::SendAndClose(session_ended(
                        "the session declares too many open files",
                    )));
                }
            }
            Asked::LeaseReturned(returned) => self.lease_returned(parts, returned.inode, returned.lease),
            Asked::Invalidated(done) => parts.caching.confirmed(self.session.id, done.number),
            Asked::Forget(dropped) => {
                parts.caching.forget(self.session.id, dropped.inodes, dropped.everything);
            }
            Asked::Detach(_) => return Some(Step::Detach(self.session.clone())),
            Asked::Hello(_) => {
                return Some(Step::SendAndClose(session_ended("a second hello on one stream")));
            }
        }
        None
    }

    fn lease_returned(&mut self, parts: &Arc<Parts>, inode: u64, lease: u64) {
        if self.in_work.len() >= SESSION_REQUESTS_MAX {
            return; // The recall runs out, and the lease is taken then.
        }
        let (parts, session) = (parts.clone(), self.session.id);
        self.in_work.push(Box::pin(async move {
            leases::returned(&parts, session, InodeId(inode), LeaseNumber(lease)).await;
            None
        }));
    }

    fn why_cut(&self, parts: &Parts) -> &'static str {
        if parts.stopping.is_cancelled() {
            "the master is stopping"
        } else if self.session.has_ended() {
            info!(session = %self.session.id, client = %self.session.description, "session's stream is closed: it was ended");
            "the session was silent beyond its expiry and has been ended"
        } else {
            "the session was attached over another connection"
        }
    }
}

fn session_ended(reason: &str) -> Message {
    Message::SessionEnded(SessionEnded { reason: reason.to_owned() })
}

fn sent(message: Message) -> Poll<Option<Result<MasterMessage, Status>>> {
    Poll::Ready(Some(Ok(MasterMessage { message: Some(message) })))
}
