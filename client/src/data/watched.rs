//! Calls that write: whoever falls silent on the way is found and named.

use super::Data;
use super::server::{Connected, Server};
use crate::slow;
use cairn_core::ids::ChunkId;
use cairn_core::limits::{HOP_SILENCE, PING_SILENCE, STORE_STALL_MAX};
use cairn_core::seeded::{Bug, is_planted};
use cairn_proto::data_conn::ConnError;
use cairn_proto::frame::{Frame, Status};
use cairn_proto::v1::{ObservationKind, SlowHopKind};
use std::time::Duration;

/// A ping that is not answered in time is asked once more: on a busy machine the first may be late without a fault.
const PING_PATIENCE: Duration = PING_SILENCE.saturating_mul(2);

/// With a server that has just exhausted the patience of one call, others do not begin from the start.
const PATIENCE_WITH_THE_SILENT: Duration = Duration::from_millis(30);

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch<'a> {
    /// `host:port` of the server.
    pub(crate) address: &'a str,
    /// The chunk's lane.
    pub(crate) lane: u64,
    /// Give up when the server is not in this run any more: what it had unsynced may be lost.
    pub(crate) run: Option<u64>,
}

/// A call that got no reply.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    /// The server that is to blame.
    pub(crate) address: String,
    /// For logs and users.
    pub(crate) reason: String,
    /// It has begun another run: no waiting brings back what it had unsynced.
    pub(crate) restarted: bool,
}

impl CallFailure {
    /// Of a server that may yet answer as before.
    pub(crate) fn of(address: &str, reason: String) -> Self {
        Self { address: address.to_owned(), reason, restarted: false }
    }
}

impl Data {
    /// Connects the lane if need be, and tells the server's run: the one that is there now, not one whose end has not been heard of.
    pub(crate) async fn run(&self, address: &str, lane: u64) -> Result<u64, CallFailure> {
        let blame = |reason| CallFailure::of(address, reason);
        let server = self.server(address);
        let (first, patience) = self.patience(&server);
        let living = async {
            loop {
                let connected = server.connected(self, lane).await?;
                if connected.is_fresh(self.env.clock.now()) {
                    return Ok(connected.run);
                }
                if connected.connection.ping().await.is_ok() {
                    connected.is_heard(self.env.clock.now());
                }
            }
        };
        match tokio::time::timeout(first + patience, living).await {
            Ok(Ok(run)) => Ok(run),
            Ok(Err(reason)) => Err(self.blamed(&server, blame(reason))),
            Err(_) => Err(self.blamed(&server, blame(silence(first + patience)))),
        }
    }

    /// Sends a write or sync and waits for its reply as long as everybody on the way is alive.
    pub(crate) async fn call_watched(&self, to: Watch<'_>, frame: Frame) -> Result<Frame, CallFailure> {
        let server = self.server(to.address);
        let blame = |reason| CallFailure::of(to.address, reason);
        let (first, patience) = self.patience(&server);
        let connecting = tokio::time::timeout(first + patience, server.connected(self, to.lane));
        let connected = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(reason)) => return Err(self.blamed(&server, blame(reason))),
            Err(_) => return Err(self.blamed(&server, blame(silence(first + patience)))),
        };
        if to.run.is_some_and(|run| run != connected.run) && !is_planted(Bug::TrustRestarted) {
            let failure = blame(String::from("it has restarted while it held unsynced bytes"));
            return Err(CallFailure { restarted: true, ..failure });
        }
        let (since, hops) = (self.env.clock.now(), frame.hops.clone());
        let outcome = self.wait_watched(to, &connected, frame).await;
        let took = self.env.clock.now().since(since);
        match &outcome {
            Ok(reply) => {
                connected.is_heard(self.env.clock.now());
                server.health.was_heard();
                note_hops(took, to.address, &hops, reply);
            }
            Err(failure) => slow::waited_for(took, SlowHopKind::HopSilent, &failure.address),
        }
        outcome.map_err(|failure| self.blamed(&self.server(&failure.address), failure))
    }

    async fn wait_watched(
        &self,
        to: Watch<'_>,
        connected: &Connected,
        frame: Frame,
    ) -> Result<Frame, CallFailure> {
        let blame = |reason| CallFailure::of(to.address, reason);
        let slow_hop = std::sync::Mutex::new(None::<String>);
        let _expected = connected.demand.expect();
        let reply = connected.connection.call_with_progress(frame, |notice| {
            if let (Status::NextHopSlow, Some(hop)) = (notice.header.status, notice.hops.first()) {
                *slow_hop.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(hop.clone());
            }
        });
        tokio::pin!(reply);
        let (first, _) = self.patience(&self.server(to.address));
        let mut waited = Duration::ZERO;
        self.pulse.feel();
        loop {
            match tokio::time::timeout(first, &mut reply).await {
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(error)) => return Err(blame(error.to_string())),
                Err(_) => waited += first,
            }
            let hop = slow_hop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            let suspect = hop.as_deref().unwrap_or(to.address);
            let blame_suspect = |reason| CallFailure::of(suspect, reason);
            if waited >= STORE_STALL_MAX {
                return Err(blame_suspect(format!("a write is unanswered for {} ms", waited.as_millis())));
            }
            // The reply may come while we ask whether the suspect lives.
            let alive = self.is_alive(suspect, to, connected);
            tokio::select! {
                biased;
                frame = &mut reply => return frame.map_err(|error: ConnError| blame(error.to_string())),
                alive = alive => if let Err(reason) = alive { return Err(blame_suspect(reason)) },
            }
        }
    }

    async fn is_alive(&self, suspect: &str, to: Watch<'_>, connected: &Connected) -> Result<(), String> {
        let ask = async {
            if suspect == to.address {
                return connected.connection.ping().await.map_err(|error| error.to_string());
            }
            let other = self.server(suspect).connected(self, to.lane).await?;
            other.connection.ping().await.map_err(|error| error.to_string())
        };
        let (_, patience) = self.patience(&self.server(suspect));
        match tokio::time::timeout(patience, ask).await {
            Ok(outcome) => outcome,
            Err(_) => Err(silence(patience)),
        }
    }

    /// How long an answer may take before the server is asked whether it lives, and how long that answer may take.
    fn patience(&self, server: &Server) -> (Duration, Duration) {
        if server.health.is_silent(self.env.clock.now()) {
            (PATIENCE_WITH_THE_SILENT, PATIENCE_WITH_THE_SILENT)
        } else {
            (HOP_SILENCE, PING_PATIENCE)
        }
    }

    fn blamed(&self, server: &Server, failure: CallFailure) -> CallFailure {
        server.health.was_silent(self.env.clock.now());
        self.observations.note(&server.address, ObservationKind::ObservedUnreachable, ChunkId(0));
        failure
    }
}

/// The slowest disk of the chain has told its time; the rest went by on the way.
fn note_hops(took: Duration, first: &str, others: &[String], reply: &Frame) {
    let (place, disk) = reply.header.slowest_store();
    let slowest = place.checked_sub(1).and_then(|place| others.get(place)).map_or(first, String::as_str);
    slow::waited_for(disk, SlowHopKind::HopDisk, slowest);
    slow::waited_for(took.saturating_sub(disk), SlowHopKind::HopChunkserver, first);
}

fn silence(span: Duration) -> String {
    format!("no sign of life within {} ms", span.as_millis())
}
