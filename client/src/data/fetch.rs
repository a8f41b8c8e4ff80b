//! Reading a stretch of a chunk from whichever replica serves it first, verified block by block.

use super::Data;
use super::server::Server;
use bytes::Bytes;
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::RequestId;
use cairn_core::limits::{FETCH_STALL_MAX, STREAM_READ_BYTES_MIN};
use cairn_core::namespace::answer::ChunkLocation;
use cairn_core::units::{block_ceil, block_floor};
use cairn_proto::frame::{Frame, Header, Op, Status};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// Why a stretch could not be read.
#[derive(Clone, Debug)]
pub(crate) enum FetchError {
    /// Our idea of where the chunk is, or that it is, may be old: ask the master.
    Relocate(String),
    /// Replicas answered, and every one is damaged there.
    Corrupt(String),
    /// No replica could be reached.
    Unreachable(String),
}

/// How one replica answered.
enum Refusal {
    Old(String),
    Corrupt(String),
    Failed(String),
}

impl Data {
    /// Reads `offset .. offset + length` of a chunk; the blocks that it touches must fit one frame.
    pub(crate) async fn fetch(
        &self,
        at: &ChunkLocation,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, FetchError> {
        let mut candidates = self.candidates(at, offset, length).into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut refusals = Vec::new();
        let mut asked: Vec<Arc<Server>> = Vec::new();
        let mut patience = Duration::ZERO;
        let started = self.env.clock.now();
        self.pulse.feel();
        loop {
            if attempts.is_empty() || patience.is_zero() {
                match candidates.next() {
                    Some(server) => {
                        patience = server.health.hedge_delay();
                        asked.push(server.clone());
                        attempts.push(self.fetch_from(server, at, offset, length));
                    }
                    None if attempts.is_empty() => return Err(verdict(at, refusals)),
                    None => {
                        patience = FETCH_STALL_MAX.saturating_sub(self.env.clock.now().since(started));
                        if patience.is_zero() {
                            return Err(FetchError::Unreachable(format!(
                                "{}: no replica answered in time",
                                at.chunk
                            )));
                        }
                    }
                }
            }
            match tokio::time::timeout(patience, attempts.next()).await {
                Ok(Some((server, Ok(bytes)))) => {
                    // Who was asked earlier and overtaken is slow at present.
                    let late = asked.iter().take_while(|one| !Arc::ptr_eq(one, &server));
                    late.for_each(|one| one.health.failed(self.env.clock.now()));
                    return Ok(bytes);
                }
                Ok(Some((server, Err(refusal)))) => {
                    asked.retain(|one| !Arc::ptr_eq(one, &server));
                    debug!(chunk = %at.chunk, server = %server.address, reason = refusal.text(), "replica does not serve");
                    refusals.push(refusal);
                    patience = Duration::ZERO;
                }
                Ok(None) => patience = Duration::ZERO,
                Err(_) => patience = Duration::ZERO,
            }
        }
    }

    /// The servers to ask, best first. While somebody writes the chunk, its last replica has what all have.
    fn candidates(&self, at: &ChunkLocation, offset: u64, length: u32) -> Vec<Arc<Server>> {
        let now = self.env.clock.now();
        let mut servers: Vec<Arc<Server>> = at
            .replicas
            .iter()
            .filter(|replica| !replica.address.is_empty())
            .map(|replica| self.server(&replica.address))
            .collect();
        if servers.len() < 2 {
            return servers;
        }
        if at.write_leased {
            servers.reverse();
            servers.sort_by_key(|server| server.health.cost(now).0);
            return servers;
        }
        // Equal costs are spread by chunk, so that one file's stretches stay on one disk's read-ahead.
        let turn = (at.chunk.get() + (offset >> 26)) as usize % servers.len();
        servers.rotate_left(turn);
        if length >= STREAM_READ_BYTES_MIN {
            // A stream stays with one replica unless that is slow: each server that sees a part of it reads the whole ahead.
            let known = servers.iter().map(|server| server.health.mean_us()).filter(|&mean_us| mean_us > 0);
            let quickest = known.min().unwrap_or_default();
            servers.sort_by_key(|server| server.health.lags_behind(quickest, now));
        } else {
            servers.sort_by_key(|server| server.health.cost(now));
        }
        servers
    }

    async fn fetch_from(
        &self,
        server: Arc<Server>,
        at: &ChunkLocation,
        offset: u64,
        length: u32,
    ) -> (Arc<Server>, Result<Bytes, Refusal>) {
        let outcome = self.try_fetch(&server, at, offset, length).await;
        if matches!(outcome, Err(Refusal::Failed(_))) {
            server.health.failed(self.env.clock.now());
        }
        (server, outcome)
    }

    async fn try_fetch(
        &self,
        server: &Server,
        at: &ChunkLocation,
        offset: u64,
        length: u32,
    ) -> Result<Bytes, Refusal> {
        let _under_way = server.health.begin();
        let lane = offset / u64::from(length.max(4096));
        let connected = server.connected(self, lane).await.map_err(Refusal::Failed)?;
        let mut header = Header::request(Op::Read, RequestId(0));
        header.chunk = at.chunk;
        header.version = at.version;
        header.offset = offset;
        header.length = length;
        header.deadline_ms = FETCH_STALL_MAX.as_millis() as u32;
        let sent = self.env.clock.now();
        let _expected = connected.demand.expect();
        let reply = connected.connection.call(Frame::bare(header)).await;
        let reply = reply.map_err(|error| Refusal::Failed(error.to_string()))?;
        let bytes = judge(server, at, offset, length, reply)?;
        server.health.answered(self.env.clock.now().since(sent));
        Ok(bytes)
    }
}

fn judge(
    server: &Server,
    at: &ChunkLocation,
    offset: u64,
    length: u32,
    reply: Frame,
) -> Result<Bytes, Refusal> {
    let (address, chunk) = (&server.address, at.chunk);
    match reply.header.status {
        Status::Ok => {}
        Status::NoSuchChunk | Status::StaleVersion => {
            return Err(Refusal::Old(format!("{address} has no current replica of {chunk}")));
        }
        Status::Corrupt => {
            warn!(%chunk, server = %address, offset = reply.header.offset, "replica is damaged; reading elsewhere");
            return Err(Refusal::Corrupt(format!("{address} has a damaged replica of {chunk}")));
        }
        status => return Err(Refusal::Failed(format!("{address} answered {status:?}"))),
    }
    let floor = block_floor(offset);
    let ceil = block_ceil(offset + u64::from(length));
    let whole = reply.header.offset == floor && reply.payload.len() as u64 == ceil - floor;
    if !whole || payload_crcs(chunk, floor, &reply.payload) != reply.sums {
        warn!(%chunk, server = %address, offset, "bytes do not match their checksums; reading elsewhere");
        return Err(Refusal::Corrupt(format!("{address} sent damaged bytes of {chunk}")));
    }
    let start = (offset - floor) as usize;
    Ok(reply.payload.slice(start..start + length as usize))
}

fn verdict(at: &ChunkLocation, refusals: Vec<Refusal>) -> FetchError {
    let reasons = refusals.iter().map(Refusal::text).collect::<Vec<_>>().join("; ");
    if refusals.iter().any(|refusal| matches!(refusal, Refusal::Old(_))) {
        return FetchError::Relocate(reasons);
    }
    if !refusals.is_empty() && refusals.iter().all(|refusal| matches!(refusal, Refusal::Corrupt(_))) {
        return FetchError::Corrupt(reasons);
    }
    let reasons = if reasons.is_empty() { String::from("no replica's server is connected") } else { reasons };
    FetchError::Unreachable(format!("{}: {reasons}", at.chunk))
}

impl Refusal {
    fn text(&self) -> &str {
        match self {
            Self::Old(text) | Self::Corrupt(text) | Self::Failed(text) => text,
        }
    }
}
