//! Handing a frame to the next server of its chain, and telling upstream when that server keeps us waiting.
//!
//! A frame that ended in `NextHopFailed` may still be carried out further down: whoever gets that answer must not send
//! the frame again under the same chunk version.

use crate::data_service::{DataService, Session};
use crate::hops::Purpose;
use cairn_core::limits::{HOP_SILENCE, HOP_STAGGER, HOP_WAIT_MAX, PING_SILENCE};
use cairn_core::time::Tick;
use cairn_proto::data_conn::{ConnError, DataConnection, Request};
use cairn_proto::frame::{Frame, Status, flags};
use std::convert::Infallible;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing::warn;

/// Sends the request's frame along its hop list. `Ok` when there are no hops, or all of them have carried it out:
/// with the place in the hop list of the one whose store took longest, and how long.
///
/// # Errors
/// The reply to send upstream; its hop list names the server that failed.
pub(crate) async fn forward(
    service: &DataService,
    request: &Request<Session>,
    started: Tick,
) -> Result<Option<(usize, Duration)>, Box<Frame>> {
    let Some((next, beyond)) = request.frame.hops.split_first() else { return Ok(None) };
    let mut onward = request.frame.clone();
    onward.hops = beyond.to_vec();
    let waited = service.clock().now().since(started);
    let patience = patience_left(onward.header.deadline_ms, waited);
    onward.header.deadline_ms = patience.as_millis() as u32;

    let wait = Wait {
        service,
        request,
        next,
        beyond: beyond.len(),
        heard: AtomicU64::new(0),
        connection: OnceLock::new(),
    };
    let outcome = tokio::select! {
        biased;
        outcome = tokio::time::timeout(patience, wait.exchange(onward)) => outcome,
        never = wait.tell_silence() => match never {},
    };
    let reply = match outcome {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            warn!(next = %next, %error, chunk = %request.frame.header.chunk, "next hop failed");
            service.metrics().hop_failed();
            return Err(named(request, Status::NextHopFailed, next));
        }
        Err(_) => {
            warn!(next = %next, waited = ?patience, chunk = %request.frame.header.chunk, "next hop did not finish in time");
            service.metrics().hop_failed();
            return Err(named(request, Status::NextHopFailed, next));
        }
    };
    match reply.header.status {
        Status::Ok => Ok(Some(reply.header.slowest_store())),
        // These concern the request itself, and the sender knows what to do about them.
        status
        @ (Status::StaleVersion | Status::StaleLease | Status::PayloadCorrupt | Status::Overloaded) => {
            let mut own = named(request, status, reply.hops.first().unwrap_or(next));
            (own.header.version, own.header.lease) = (reply.header.version, reply.header.lease);
            Err(own)
        }
        Status::NextHopFailed => {
            Err(named(request, Status::NextHopFailed, reply.hops.first().unwrap_or(next)))
        }
        status => {
            warn!(next = %next, ?status, chunk = %request.frame.header.chunk, "next hop refused a frame");
            service.metrics().hop_failed();
            Err(named(request, Status::NextHopFailed, next))
        }
    }
}

/// How long the sender will still wait; never longer than a hop is waited for at all.
fn patience_left(deadline_ms: u32, waited: Duration) -> Duration {
    match deadline_ms {
        0 => HOP_WAIT_MAX,
        ms => Duration::from_millis(u64::from(ms))
            .saturating_sub(waited)
            .clamp(Duration::from_millis(1), HOP_WAIT_MAX),
    }
}

fn named(request: &Request<Session>, status: Status, hop: &str) -> Box<Frame> {
    let mut reply = Frame::bare(request.frame.header.reply(status));
    reply.hops = vec![hop.to_owned()];
    Box::new(reply)
}

struct Wait<'a> {
    service: &'a DataService,
    request: &'a Request<Session>,
    next: &'a str,
    beyond: usize,
    /// Notices received from the next hop: it lives, and waits for somebody further down.
    heard: AtomicU64,
    connection: OnceLock<DataConnection>,
}

impl Wait<'_> {
    async fn exchange(&self, onward: Frame) -> Result<Frame, ConnError> {
        let chunk = onward.header.chunk;
        let purpose = Purpose::Chain { beyond: self.beyond };
        let connection = self.service.hops().get(self.next, purpose, chunk).await?;
        let connection = self.connection.get_or_init(|| connection);
        connection
            .call_with_progress(onward, |notice| {
                self.heard.fetch_add(1, Ordering::Relaxed);
                let mut upstream = Frame::bare(self.request.frame.header.reply(Status::NextHopSlow));
                upstream.header.length = notice.header.length;
                upstream.header.flags = notice.header.flags;
                upstream.hops.clone_from(&notice.hops);
                self.request.notify(&upstream);
            })
            .await
    }

    /// Says upstream whom we wait for: at first sight of silence, then again with what a ping has shown. A hop with
    /// others beyond it gets a little longer, so that the one who waits for the culprit itself speaks first.
    async fn tell_silence(&self) -> Infallible {
        let first = HOP_SILENCE + HOP_STAGGER * self.beyond as u32;
        let began = self.service.clock().now();
        loop {
            let heard = self.heard.load(Ordering::Relaxed);
            // A hop that waits itself speaks at least this often.
            tokio::time::sleep(if heard == 0 { first } else { HOP_SILENCE + PING_SILENCE }).await;
            if self.heard.load(Ordering::Relaxed) != heard {
                continue;
            }
            self.notify(began, false);
            let answers = match self.connection.get() {
                Some(connection) => {
                    matches!(tokio::time::timeout(PING_SILENCE, connection.ping()).await, Ok(Ok(())))
                }
                None => {
                    tokio::time::sleep(PING_SILENCE).await;
                    false
                }
            };
            if self.heard.load(Ordering::Relaxed) == heard {
                self.notify(began, answers);
            }
        }
    }

    fn notify(&self, began: Tick, answers: bool) {
        let mut notice = Frame::bare(self.request.frame.header.reply(Status::NextHopSlow));
        notice.header.length =
            self.service.clock().now().since(began).as_millis().min(u128::from(u32::MAX)) as u32;
        notice.header.flags = if answers { flags::ANSWERS_PINGS } else { 0 };
        notice.hops = vec![self.next.to_owned()];
        self.request.notify(&notice);
    }
}
