//! One chunk being written: its replicas as one thing that stores and syncs.
//!
//! A frame is acknowledged when every replica of the present set has it. When one fails, the failure is reported to the
//! master, which raises the version on the others; everything unacknowledged is then sent again under the new version.
//! A frame is never sent twice under one version over two connections: the server could still hold the first (the lane's
//! generation fences that on one server, the version on all).

use super::unsynced::Unsynced;
use crate::data::{CallFailure, Runs, Watch};
use crate::shared::Shared;
use bytes::Bytes;
use cairn_core::checksum::payload_crcs;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, LeaseNumber, RequestId, ServerId};
use cairn_core::limits::{
    LEASE_RETRY_MAX, LEASE_RETRY_MIN, RAISE_ABANDONED, SMALL_WRITE_BYTES_MAX, STORE_STALL_MAX,
};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::request::{OperationKind, QueryKind};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_proto::frame::{Frame, Header, Op, Status, flags};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// A replica whose server is not connected to the master is given up after so long.
const AWAY_GRACE: Duration = Duration::from_millis(240);

/// Why bytes could not be stored in this chunk.
#[derive(Clone, Debug)]
pub(crate) enum StoreError {
    /// Too few replicas are reachable: write new data elsewhere.
    Unavailable(String),
    /// The lease is no longer ours, or the chunk is gone.
    Fenced(String),
    /// Anything else that another attempt will not cure.
    Failed(FsError),
}

impl From<StoreError> for FsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Fenced(why) => Self::Io(why),
            StoreError::Failed(error) => error,
        }
    }
}

/// Where the chunk is at present.
#[derive(Clone, Debug)]
struct Place {
    location: Arc<ChunkLocation>,
    /// Replicas are being replaced: send nothing.
    recovering: bool,
    /// Too few replicas are left: new bytes go elsewhere.
    abandoned: Option<Arc<str>>,
}

/// A chunk that this client writes under a lease.
pub(crate) struct ChunkWriter {
    /// The chunk.
    pub(crate) chunk: ChunkId,
    place: watch::Sender<Place>,
    /// A Commit has attached it to its file.
    attached: AtomicBool,
    /// It was allocated for us, and nothing was stored on all of its servers so far: it may not exist there yet. A server that
    /// lacks it later has lost it, and must not begin it anew.
    fresh: AtomicBool,
    unsynced: Mutex<Unsynced>,
}

/// What one try ended in.
enum Attempt {
    Stored,
    /// The set has changed meanwhile.
    Moved,
    /// These replicas have failed.
    Lost(Vec<ServerId>, String),
    /// Our version is old.
    Stale,
    /// Try again soon.
    Busy,
    Refused(StoreError),
}

/// What is to be done on every replica.
#[derive(Clone)]
struct Order {
    op: Op,
    lease: LeaseNumber,
    offset: u64,
    payload: Bytes,
    sums: Vec<u32>,
    flags: u16,
}

impl ChunkWriter {
    /// A chunk just allocated for this session.
    pub(crate) fn fresh(location: ChunkLocation) -> Self {
        Self::new(location, true)
    }

    /// A chunk of the file's map, named in a lease.
    pub(crate) fn attached(location: ChunkLocation) -> Self {
        Self::new(location, false)
    }

    fn new(location: ChunkLocation, fresh: bool) -> Self {
        Self {
            chunk: location.chunk,
            place: watch::Sender::new(Place {
                location: Arc::new(location),
                recovering: false,
                abandoned: None,
            }),
            attached: AtomicBool::new(!fresh),
            fresh: AtomicBool::new(fresh),
            unsynced: Mutex::default(),
        }
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    pub(crate) fn set_attached(&self) {
        self.attached.store(true, Ordering::Relaxed);
    }

    /// Whether too few of its replicas are left, so that new bytes go elsewhere.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.place.borrow().abandoned.is_some()
    }

    /// Where its replicas are at present.
    pub(crate) fn location(&self) -> ChunkLocation {
        ChunkLocation::clone(&self.place.borrow().location)
    }

    /// The version that its replicas have by now.
    pub(crate) fn version(&self) -> ChunkVersion {
        self.place.borrow().location.version
    }

    /// Whether a replica is on this server.
    pub(crate) fn uses(&self, server: ServerId) -> bool {
        self.place.borrow().location.replicas.iter().any(|replica| replica.server == server)
    }

    /// Stores bytes on every replica; durable there when `sync`.
    pub(crate) async fn store(
        &self,
        shared: &Shared,
        lease: LeaseNumber,
        offset: u64,
        payload: Bytes,
        sync: bool,
    ) -> Result<(), StoreError> {
        let sums = payload_crcs(self.chunk, offset, &payload);
        let flags = if sync { flags::SYNC } else { 0 };
        self.unsynced().write_begins(sync);
        let outcome =
            self.carry_out(shared, Order { op: Op::Write, lease, offset, payload, sums, flags }).await;
        self.unsynced().write_ends(sync, outcome.is_ok());
        outcome
    }

    /// Makes everything acknowledged durable on every replica.
    pub(crate) async fn sync(&self, shared: &Shared, lease: LeaseNumber) -> Result<(), StoreError> {
        let order =
            Order { op: Op::Sync, lease, offset: 0, payload: Bytes::new(), sums: Vec::new(), flags: 0 };
        let started = shared.env.clock.now();
        let mut pause = LEASE_RETRY_MIN;
        loop {
            let covered = self.unsynced().sync_begins();
            match self.carry_out(shared, order.clone()).await {
                // These bytes are nowhere else: wait for the servers as the policy says, unless that is in vain.
                Err(StoreError::Unavailable(why)) if shared.may_wait(started) => {
                    self.require_unsynced(&why)?;
                    warn!(chunk = %self.chunk, %why, "sync waits for chunk servers");
                    shared.pause(&mut pause, Duration::from_secs(1)).await;
                    self.relocate(shared).await?;
                }
                outcome => {
                    if outcome.is_ok() {
                        self.unsynced().synced(&covered);
                    }
                    return outcome;
                }
            }
        }
    }

    async fn carry_out(&self, shared: &Shared, order: Order) -> Result<(), StoreError> {
        let mut place = self.place.subscribe();
        let mut pause = LEASE_RETRY_MIN;
        let (started, mut stale_since) = (shared.env.clock.now(), None);
        loop {
            let (location, abandoned) = match place.wait_for(|place| !place.recovering).await {
                Ok(place) => (place.location.clone(), place.abandoned.clone()),
                Err(_) => return Err(StoreError::Failed(FsError::Stale)),
            };
            if order.op == Op::Write
                && let Some(why) = abandoned
            {
                return Err(StoreError::Unavailable(why.to_string()));
            }
            let version = location.version;
            let settled = location.replicas.iter().all(|replica| !replica.address.is_empty());
            if !settled && shared.env.clock.now().since(started) < AWAY_GRACE {
                // A master that has just started hears of its servers one by one.
                tokio::time::sleep(AWAY_GRACE / 8).await;
                self.relocate(shared).await?;
                continue;
            }
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(shared, &location, &order) => attempt,
                _ = place.wait_for(|place| {
                    let given_up = order.op == Op::Write && place.abandoned.is_some();
                    place.recovering || given_up || place.location.version != version
                }) => Attempt::Moved,
            };
            match attempt {
                Attempt::Stored => {
                    if order.op == Op::Write {
                        self.fresh.store(false, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Attempt::Moved => {}
                Attempt::Lost(servers, reason) => {
                    self.replace(shared, &location, servers, &reason, &order).await?;
                    if is_planted(Bug::ForgetUnacknowledged) && order.op == Op::Write {
                        return Ok(());
                    }
                }
                Attempt::Stale => {
                    shared.pause(&mut pause, LEASE_RETRY_MAX).await;
                    self.catch_up(shared, &location, &order, &mut stale_since).await?;
                }
                Attempt::Busy if shared.may_wait(started) => shared.pause(&mut pause, LEASE_RETRY_MAX).await,
                Attempt::Busy => {
                    let why = format!("{}: its servers are overloaded", self.chunk);
                    return Err(StoreError::Failed(FsError::Io(why)));
                }
                Attempt::Refused(error) => return Err(error),
            }
        }
    }

    /// Small writes and syncs go to each replica directly, large ones once, down the chain.
    async fn attempt(&self, shared: &Shared, location: &ChunkLocation, order: &Order) -> Attempt {
        let away = location.replicas.iter().filter(|replica| replica.address.is_empty());
        let away: Vec<ServerId> = away.map(|replica| replica.server).collect();
        if !away.is_empty() {
            return Attempt::Lost(away, String::from("not connected to the master"));
        }
        if order.op == Op::Write
            && let Err(attempt) = self.note_runs(shared, location).await
        {
            return attempt;
        }
        let direct = order.op == Op::Sync || order.payload.len() <= SMALL_WRITE_BYTES_MAX;
        if direct || location.replicas.len() == 1 {
            let calls = location.replicas.iter().map(|replica| {
                let run = self.unsynced().runs.get(&replica.server).copied();
                self.call(shared, location, order, &replica.address, Vec::new(), run)
            });
            let outcomes = futures::future::join_all(calls).await;
            return merge(outcomes);
        }
        let hops = location.replicas[1..].iter().map(|replica| replica.address.clone()).collect();
        let first = &location.replicas[0];
        let run = self.unsynced().runs.get(&first.server).copied();
        self.call(shared, location, order, &first.address, hops, run).await
    }

    /// Before the first unsynced byte leaves: in which run of its servers a sync must find it again.
    async fn note_runs(&self, shared: &Shared, location: &ChunkLocation) -> Result<(), Attempt> {
        let unknown: Vec<_> = {
            let unsynced = self.unsynced();
            location.replicas.iter().filter(|replica| !unsynced.runs.contains_key(&replica.server)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let lane = self.chunk.get();
        let asked = unknown.iter().map(|replica| shared.data.run(&replica.address, lane));
        let mut lost = (Vec::new(), String::new());
        for (replica, outcome) in unknown.iter().zip(futures::future::join_all(asked).await) {
            match outcome {
                Ok(run) => {
                    self.unsynced().runs.entry(replica.server).or_insert(run);
                }
                Err(failure) => {
                    lost.0.push(replica.server);
                    lost.1 = failure.reason;
                }
            }
        }
        if lost.0.is_empty() { Ok(()) } else { Err(Attempt::Lost(lost.0, lost.1)) }
    }

    async fn call(
        &self,
        shared: &Shared,
        location: &ChunkLocation,
        order: &Order,
        address: &str,
        hops: Vec<String>,
        run: Option<u64>,
    ) -> Attempt {
        let mut header = Header::request(order.op, RequestId(0));
        header.chunk = self.chunk;
        header.version = location.version;
        header.lease = order.lease;
        header.offset = order.offset;
        header.flags = order.flags;
        if order.op == Op::Write && self.fresh.load(Ordering::Relaxed) {
            header.flags |= flags::CREATE;
        }
        header.minimum = location.minimum;
        header.deadline_ms = STORE_STALL_MAX.as_millis() as u32;
        let frame = Frame { header, hops, sums: order.sums.clone(), payload: order.payload.clone() };
        let watch = Watch { address, lane: self.chunk.get(), run };
        match shared.data.call_watched(watch, frame).await {
            Ok(reply) => self.judge(location, address, &reply),
            Err(failure) => {
                let attempt = lost(location, &failure);
                if let Attempt::Lost(servers, _) = &attempt
                    && failure.restarted
                {
                    self.unsynced().restarted.extend(servers);
                }
                attempt
            }
        }
    }

    fn judge(&self, location: &ChunkLocation, address: &str, reply: &Frame) -> Attempt {
        let failure = |address: &str, reason: String| lost(location, &CallFailure::of(address, reason));
        let chunk = self.chunk;
        match reply.header.status {
            Status::Ok => Attempt::Stored,
            Status::StaleVersion => Attempt::Stale,
            Status::StaleLease => {
                Attempt::Refused(StoreError::Fenced(format!("{chunk}: another client has the lease")))
            }
            Status::Overloaded | Status::PayloadCorrupt => Attempt::Busy,
            Status::NextHopFailed => {
                let hop = reply.hops.first().map_or(address, String::as_str);
                failure(hop, String::from("its predecessor in the chain cannot reach it"))
            }
            Status::BadRequest => {
                let why = format!("{chunk}: {address} does not understand a write");
                Attempt::Refused(StoreError::Failed(FsError::Io(why)))
            }
            status => failure(address, format!("it answered {status:?}")),
        }
    }

    /// Reports failed replicas and takes the new set. One caller does it, the others wait for the outcome.
    async fn replace(
        &self,
        shared: &Shared,
        location: &ChunkLocation,
        failed: Vec<ServerId>,
        reason: &str,
        order: &Order,
    ) -> Result<(), StoreError> {
        let version = location.version;
        let mine = self.place.send_if_modified(|place| {
            let mine = !place.recovering && place.location.version == version;
            place.recovering |= mine;
            mine
        });
        if !mine {
            return Ok(());
        }
        let mut failed = self.plant(shared, location, failed, order).await;
        // What they lack, others hold: a set that counts on them could do without one of those.
        let lost = self.restarted(location);
        failed.retain(|server| !lost.contains(server));
        failed.extend(lost);
        warn!(chunk = %self.chunk, %version, ?failed, reason, "replicas fail; going on without them");
        let kind = OperationKind::ReplaceReplicas { chunk: self.chunk, version, failed: failed.clone() };
        let outcome = shared.meta.operation(&shared.own_credentials(), kind).await;
        for server in failed {
            shared.pool.distrust(server);
        }
        match outcome {
            Ok(Answer::Chunks(mut chunks)) if chunks.len() == 1 => {
                let location = chunks.remove(0);
                info!(chunk = %self.chunk, version = %location.version, "replicas replaced");
                self.settle(Some(location));
                Ok(())
            }
            Ok(_) => {
                self.settle(None);
                Err(StoreError::Failed(FsError::Io(String::from("the master's answer makes no sense"))))
            }
            Err(error) => {
                self.settle(None);
                Err(match error {
                    FsError::Unavailable(why) => {
                        self.place.send_modify(|place| place.abandoned = Some(why.as_str().into()));
                        StoreError::Unavailable(why)
                    }
                    FsError::Stale | FsError::NotFound | FsError::SessionExpired => {
                        StoreError::Fenced(format!("{}: the write lease was lost", self.chunk))
                    }
                    error => StoreError::Failed(error),
                })
            }
        }
    }

    /// A chunk just allocated exists on a server only once bytes came: the survivors get these now, so that there is
    /// something whose version can be raised. Answers all that have failed.
    async fn plant(
        &self,
        shared: &Shared,
        location: &ChunkLocation,
        mut failed: Vec<ServerId>,
        order: &Order,
    ) -> Vec<ServerId> {
        if order.op != Op::Write || !self.fresh.load(Ordering::Relaxed) || self.is_attached() {
            return failed;
        }
        let survivors = location.replicas.iter().filter(|replica| !failed.contains(&replica.server));
        let calls =
            survivors.map(|replica| self.call(shared, location, order, &replica.address, Vec::new(), None));
        if let Attempt::Lost(mut more, _) = merge(futures::future::join_all(calls).await) {
            failed.append(&mut more);
        }
        failed
    }

    /// Some replicas have another version. Either a replacement is under way, and the master knows the new set soon; or one, perhaps
    /// our own, got no further than to raise some of them, and nobody else ends it while the chunk belongs to no file.
    async fn catch_up(
        &self,
        shared: &Shared,
        location: &ChunkLocation,
        order: &Order,
        stale_since: &mut Option<Tick>,
    ) -> Result<(), StoreError> {
        self.relocate(shared).await?;
        let now = shared.env.clock.now();
        if self.version() != location.version {
            *stale_since = None;
        } else if now.since(*stale_since.get_or_insert(now)) >= RAISE_ABANDONED {
            *stale_since = None;
            let reason = "a version was begun and nobody ends it";
            self.replace(shared, location, Vec::new(), reason, order).await?;
        }
        Ok(())
    }

    /// Asks the master where the chunk is now.
    async fn relocate(&self, shared: &Shared) -> Result<(), StoreError> {
        let kind = QueryKind::Locate { chunks: vec![self.chunk] };
        match shared.meta.query(&shared.own_credentials(), kind).await {
            Ok(Answer::Chunks(mut chunks)) if chunks.len() == 1 && !chunks[0].replicas.is_empty() => {
                self.settle(Some(chunks.remove(0)));
                Ok(())
            }
            Ok(_) | Err(FsError::NotFound | FsError::Stale) => {
                Err(StoreError::Fenced(format!("{} no longer exists", self.chunk)))
            }
            Err(error) => Err(StoreError::Failed(error)),
        }
    }

    /// Whether enough replicas may still hold what is not synced.
    fn require_unsynced(&self, why: &str) -> Result<(), StoreError> {
        let location = self.location();
        let restarted = self.restarted(&location).len();
        let left = location.replicas.len() - restarted;
        if left >= usize::from(location.minimum.max(1)) {
            return Ok(());
        }
        let why = format!("{why}; {restarted} of its servers have restarted and lost what was not synced");
        Err(StoreError::Failed(FsError::Io(why)))
    }

    /// Servers of the set that may lack, for good, some of what is not synced.
    fn restarted(&self, location: &ChunkLocation) -> BTreeSet<ServerId> {
        let of_set = location.replicas.iter().map(|replica| replica.server).collect();
        self.unsynced().restarted.intersection(&of_set).copied().collect()
    }

    /// Ends a recovery. The version never goes back.
    fn settle(&self, location: Option<ChunkLocation>) {
        self.place.send_modify(|place| {
            place.recovering = false;
            place.abandoned = None;
            if let Some(location) = location
                && location.version >= place.location.version
            {
                place.location = Arc::new(location);
            }
        });
    }

    /// In which run of its servers what it has not made durable can be read.
    pub(crate) fn runs(&self) -> Runs {
        self.unsynced().runs.clone()
    }

    fn unsynced(&self) -> std::sync::MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The failure of a server as the loss of its replica.
fn lost(location: &ChunkLocation, failure: &CallFailure) -> Attempt {
    let named = location.replicas.iter().find(|replica| replica.address == failure.address);
    match named {
        Some(replica) => Attempt::Lost(vec![replica.server], failure.reason.clone()),
        None => Attempt::Stale,
    }
}

/// All must have stored it. All failures are reported together.
fn merge(attempts: Vec<Attempt>) -> Attempt {
    let mut servers = Vec::new();
    let mut why = String::new();
    let mut other = Attempt::Stored;
    for attempt in attempts {
        match attempt {
            Attempt::Stored => {}
            Attempt::Lost(mut lost, reason) => {
                servers.append(&mut lost);
                why = reason;
            }
            refused @ Attempt::Refused(_) => other = refused,
            attempt => {
                if !matches!(other, Attempt::Refused(_)) {
                    other = attempt;
                }
            }
        }
    }
    match other {
        Attempt::Refused(_) => other,
        _ if !servers.is_empty() => Attempt::Lost(servers, why),
        _ => other,
    }
}
