//! Reading a stretch of a chunk from whichever replica serves it first, verified block by block.

use super::Data;
use super::server::Server;
use crate::slow;
use bytes::Bytes;
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::{ChunkId, ChunkVersion, RequestId, ServerId};
use cairn_core::io::breaker::Gate;
use cairn_core::limits::{FETCH_STALL_MAX, HEDGE_DELAY_MIN, HEDGE_UNBUDGETED, STREAM_READ_BYTES_MIN};
use cairn_core::namespace::answer::ChunkLocation;
use cairn_core::time::Tick;
use cairn_core::units::{block_ceil, block_floor};
use cairn_proto::frame::{Frame, Header, Op, Status, flags};
use cairn_proto::v1::{ObservationKind, SlowHopKind};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{debug, info, warn};

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

/// The run in which each server took bytes that were not synced since. In another one it has the chunk as it was before them.
pub(crate) type Runs = BTreeMap<ServerId, u64>;

/// How one replica answered.
enum Refusal {
    Old(String),
    Corrupt(String),
    Declined(String),
    Failed(String),
    Restarted(String),
}

/// One replica is asked.
struct Ask {
    data: Arc<Data>,
    server: Arc<Server>,
    chunk: ChunkId,
    version: ChunkVersion,
    offset: u64,
    length: u32,
    /// The only one in which the server may answer.
    run: Option<u64>,
    may_decline: bool,
    /// Somebody else has answered meanwhile.
    overtaken: Arc<AtomicBool>,
}

type Asked = (Arc<Server>, Result<Bytes, Refusal>);

/// A stretch that is being read.
struct Fetching<'a> {
    data: &'a Arc<Data>,
    at: &'a ChunkLocation,
    /// Nothing any more, when all servers have begun others.
    runs: Option<&'a Runs>,
    offset: u64,
    length: u32,
    started: Tick,
    candidates: std::vec::IntoIter<Arc<Server>>,
    /// Others can be asked than whoever is asked first.
    has_choice: bool,
    /// Without an answer so far, in the order in which they were asked.
    asked: Vec<Arc<Server>>,
    /// Would serve, slowly.
    declined: Vec<Arc<Server>>,
    refusals: Vec<Refusal>,
    overtaken: Arc<AtomicBool>,
    attempts: FuturesUnordered<BoxFuture<'static, Asked>>,
}

impl Data {
    /// Reads `offset .. offset + length` of a chunk, from servers in these runs if they are known; when all have begun others, what was
    /// not synced is lost, and what is there is read. The blocks that it touches must fit one frame.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        (at, runs): (&ChunkLocation, &Runs),
        offset: u64,
        length: u32,
    ) -> Result<Bytes, FetchError> {
        let candidates = self.candidates(at, offset, length);
        self.pulse.feel();
        self.budget().request();
        let fetching = Fetching {
            data: self,
            at,
            runs: Some(runs),
            offset,
            length,
            started: self.env.clock.now(),
            has_choice: candidates.len() > 1,
            candidates: candidates.into_iter(),
            asked: Vec::new(),
            declined: Vec::new(),
            refusals: Vec::new(),
            overtaken: Arc::default(),
            attempts: FuturesUnordered::new(),
        };
        fetching.run().await
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
        let standing = |server: &Arc<Server>| server.health.standing(at.chunk, now);
        if at.write_leased {
            servers.reverse();
            servers.sort_by_key(|server| standing(server).gate_rank());
            return servers;
        }
        // Equal costs are spread by chunk, so that one file's stretches stay on one disk's read-ahead.
        let turn = (at.chunk.get() + (offset >> 26)) as usize % servers.len();
        servers.rotate_left(turn);
        if length >= STREAM_READ_BYTES_MIN {
            // A stream stays with one replica unless that is slow: each server that sees a part of it reads the whole ahead.
            let known = servers.iter().map(|server| standing(server).mean_us).filter(|&mean_us| mean_us > 0);
            let quickest = known.min().unwrap_or_default();
            servers.sort_by_key(|server| standing(server).stream_rank(quickest));
        } else {
            servers.sort_by_key(|server| standing(server).rank());
        }
        servers
    }
}

impl Fetching<'_> {
    async fn run(mut self) -> Result<Bytes, FetchError> {
        let mut patience = Duration::ZERO;
        loop {
            if self.attempts.is_empty() || patience.is_zero() {
                patience = match self.ask_another() {
                    Some(patience) => patience,
                    None if self.attempts.is_empty() => {
                        if self.all_have_restarted() {
                            self.begin_without_runs();
                            continue;
                        }
                        return Err(verdict(self.at, self.refusals));
                    }
                    None => FETCH_STALL_MAX.saturating_sub(self.waited()),
                };
                if patience.is_zero() {
                    let chunk = self.at.chunk;
                    return Err(FetchError::Unreachable(format!("{chunk}: no replica answered in time")));
                }
            }
            match tokio::time::timeout(patience, self.attempts.next()).await {
                Ok(Some((server, Ok(bytes)))) => {
                    self.overtaken_by(&server);
                    return Ok(bytes);
                }
                Ok(Some((server, Err(refusal)))) => {
                    self.refused(server, refusal);
                    patience = Duration::ZERO;
                }
                Ok(None) | Err(_) => patience = Duration::ZERO,
            }
        }
    }

    fn run_of(&self, server: &Server) -> Option<u64> {
        let runs = self.runs.filter(|runs| !runs.is_empty())?;
        let replica = self.at.replicas.iter().find(|replica| replica.address == server.address)?;
        runs.get(&replica.server).copied()
    }

    fn all_have_restarted(&self) -> bool {
        let restarted = self.refusals.iter().filter(|refusal| matches!(refusal, Refusal::Restarted(_)));
        self.runs.is_some_and(|runs| !runs.is_empty()) && restarted.count() >= self.at.replicas.len()
    }

    /// The next sync tells what is lost.
    fn begin_without_runs(&mut self) {
        (self.runs, self.refusals) = (None, Vec::new());
        self.candidates = self.data.candidates(self.at, self.offset, self.length).into_iter();
    }

    fn waited(&self) -> Duration {
        self.data.env.clock.now().since(self.started)
    }

    /// Asks whoever is next, and tells how long to wait for the answer before the one after. Nobody when all have been asked.
    fn ask_another(&mut self) -> Option<Duration> {
        // One who failed is followed at once; one who is late only if that is affordable.
        let is_hedge = !self.attempts.is_empty();
        if self.candidates.len() + self.declined.len() == 0 {
            return None;
        }
        if is_hedge && !self.data.budget().take() && self.waited() < HEDGE_UNBUDGETED {
            debug!(chunk = %self.at.chunk, "no second server is asked: too many were of late");
            return Some(HEDGE_DELAY_MIN);
        }
        let (server, may_decline) = match self.candidates.next() {
            Some(server) => (server, self.has_choice),
            None => (self.declined.pop()?, false),
        };
        let now = self.data.env.clock.now();
        let standing = server.health.standing(self.at.chunk, now);
        let patience = match standing.gate {
            Gate::Closed | Gate::Open => standing.hedge_delay,
            Gate::Probe => {
                server.health.probe(self.at.chunk, now);
                HEDGE_DELAY_MIN
            }
        };
        if is_hedge {
            self.data.counts.hedged_reads.one_more();
            debug!(chunk = %self.at.chunk, server = %server.address, "a second server is asked");
        }
        let ask = Ask {
            data: self.data.clone(),
            server: server.clone(),
            chunk: self.at.chunk,
            version: self.at.version,
            offset: self.offset,
            length: self.length,
            run: self.run_of(&server),
            may_decline,
            overtaken: self.overtaken.clone(),
        };
        self.asked.push(server);
        self.attempts.push(ask.run().boxed());
        Some(patience)
    }

    fn refused(&mut self, server: Arc<Server>, refusal: Refusal) {
        self.asked.retain(|one| !Arc::ptr_eq(one, &server));
        debug!(chunk = %self.at.chunk, server = %server.address, reason = refusal.text(), "replica does not serve");
        match refusal {
            Refusal::Declined(_) => self.declined.push(server),
            refusal => self.refusals.push(refusal),
        }
    }

    /// Who was asked earlier and overtaken is slow at present. Their answers are waited for elsewhere: they tell which disk is.
    fn overtaken_by(mut self, winner: &Arc<Server>) {
        let now = self.data.env.clock.now();
        for late in self.asked.iter().take_while(|one| !Arc::ptr_eq(one, winner)) {
            slow::waited(&self.data.env, self.started, SlowHopKind::HopSilent, &late.address);
            if late.health.late(self.at.chunk, now) {
                info!(chunk = %self.at.chunk, server = %late.address, "answers late; asking others for a while");
                self.data.observations.note(&late.address, ObservationKind::ObservedSlow, self.at.chunk);
            }
        }
        if !self.attempts.is_empty() {
            self.overtaken.store(true, Ordering::Relaxed);
            let rest = async move { while self.attempts.next().await.is_some() {} };
            drop(tokio::spawn(tokio::time::timeout(FETCH_STALL_MAX, rest)));
        }
    }
}

impl Ask {
    async fn run(self) -> Asked {
        let outcome = self.attempt().await;
        let now = self.data.env.clock.now();
        if matches!(outcome, Err(Refusal::Failed(_))) && self.server.health.failed(now) {
            info!(server = %self.server.address, "failed; asking others for a while");
        }
        (self.server, outcome)
    }

    async fn attempt(&self) -> Result<Bytes, Refusal> {
        let (data, server, length) = (&self.data, &self.server, self.length);
        let _under_way = server.health.begin();
        let lane = self.offset / u64::from(length.max(4096));
        let unreachable = |reason| {
            data.observations.note(&server.address, ObservationKind::ObservedUnreachable, self.chunk);
            Refusal::Failed(reason)
        };
        let connected = server.connected(data, lane).await.map_err(unreachable)?;
        if self.run.is_some_and(|run| run != connected.run) {
            return Err(Refusal::Restarted(format!(
                "{} has restarted and lost what was not synced",
                server.address
            )));
        }
        let mut header = Header::request(Op::Read, RequestId(0));
        header.chunk = self.chunk;
        header.version = self.version;
        header.offset = self.offset;
        header.length = length;
        header.deadline_ms = FETCH_STALL_MAX.as_millis() as u32;
        header.flags = if self.may_decline { flags::MAY_DECLINE } else { 0 };
        let sent = data.env.clock.now();
        let _expected = connected.demand.expect();
        let reply = connected.connection.call(Frame::bare(header)).await;
        let disk = reply.as_ref().map_or(Duration::ZERO, |reply| reply.header.slowest_store().1);
        let took = data.env.clock.now().since(sent);
        slow::waited_for(disk, SlowHopKind::HopDisk, &server.address);
        slow::waited_for(took.saturating_sub(disk), SlowHopKind::HopChunkserver, &server.address);
        let reply = reply.map_err(|error| unreachable(error.to_string()))?;
        let (disk, now, status) = (reply.header.disk, data.env.clock.now(), reply.header.status);
        let judged = judge(server, (self.chunk, self.offset, length), reply);
        match &judged {
            Ok(_) => {
                let took = now.since(sent);
                let in_time = !self.overtaken.load(Ordering::Relaxed);
                server.health.answered(self.chunk, disk, took, in_time, now);
            }
            Err(_) if matches!(status, Status::SlowDisk | Status::DiskFailed) => {
                if server.health.declined(self.chunk, disk, now) {
                    info!(server = %server.address, disk, ?status, "a disk does not serve; asking others for a while");
                }
            }
            // The server took them for good.
            Err(Refusal::Corrupt(_)) if status == Status::Ok => {
                data.counts.mismatches.one_more();
                data.observations.note(&server.address, ObservationKind::ObservedCorrupt, self.chunk);
            }
            Err(Refusal::Corrupt(_)) => data.counts.damaged.one_more(),
            Err(_) => {}
        }
        judged
    }
}

fn judge(
    server: &Server,
    (chunk, offset, length): (ChunkId, u64, u32),
    reply: Frame,
) -> Result<Bytes, Refusal> {
    let address = &server.address;
    match reply.header.status {
        Status::Ok => {}
        Status::NoSuchChunk | Status::StaleVersion => {
            return Err(Refusal::Old(format!("{address} has no current replica of {chunk}")));
        }
        Status::Corrupt => {
            warn!(%chunk, server = %address, offset = reply.header.offset, "replica is damaged; reading elsewhere");
            return Err(Refusal::Corrupt(format!("{address} has a damaged replica of {chunk}")));
        }
        Status::SlowDisk => {
            return Err(Refusal::Declined(format!("{address} has {chunk} on a slow disk")));
        }
        // Nothing is wrong with the server; what the disk held is being made anew elsewhere.
        Status::DiskFailed => return Err(Refusal::Old(format!("{address} had {chunk} on a failed disk"))),
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
    // Of a replica whose server is away nobody knows that it is damaged.
    let damaged = refusals.iter().filter(|refusal| matches!(refusal, Refusal::Corrupt(_))).count();
    if damaged > 0 && damaged >= at.replicas.len() {
        return FetchError::Corrupt(reasons);
    }
    let reasons = if reasons.is_empty() { String::from("no replica's server is connected") } else { reasons };
    FetchError::Unreachable(format!("{}: {reasons}", at.chunk))
}

impl Refusal {
    fn text(&self) -> &str {
        match self {
            Self::Old(text)
            | Self::Corrupt(text)
            | Self::Declined(text)
            | Self::Failed(text)
            | Self::Restarted(text) => text,
        }
    }
}
