//! Moves replicas from fuller chunk servers to emptier ones while a rebalancing is wanted, in rounds: each looks at how full the
//! servers are, moves what that asks for, and waits until what was left behind is deleted and the servers have told how full they
//! are then. Nothing of it is remembered but that it is wanted and how much has moved, so that the next leader goes on.
//!
//! What lacks copies comes first: nothing moves while chunks are to be repaired or a server is not alive.

use crate::moving::rebalance::fills;
use crate::parts::Parts;
use crate::policies;
use crate::work::repair::is_settled;
use crate::work::replicate::carry_out;
use cairn_core::cluster::balance::Balance;
use cairn_core::cluster::repair::{Busy, Repair};
use cairn_core::cluster::{Policies, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{
    LIST_PATIENCE, MOVE_SETTLE, MOVES_IN_FLIGHT_MAX, MOVES_PER_SERVER_MAX, MOVES_TOLD_EVERY, WORK_PAGE,
};
use cairn_core::namespace::internal::{Internal, RebalanceStep};
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{
    ChunkRecord, RebalanceRow, RebalanceState, chunk, chunks_named, deleting_at, rebalance, repairs,
    replicas_on,
};
use cairn_core::time::Tick;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// One look at the rebalancing, and a round of it if there is one to be made.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term) {
    let row = match parts.reader.read(rebalance).await {
        Ok(row) => row.filter(|row| row.state == RebalanceState::Running),
        Err(error) => return warn!(%error, "the rebalancing could not be read"),
    };
    let Some(row) = row else { return parts.rebalancing.show(|shown| shown.waits_for = "") };
    match waits_for(&parts).await {
        Ok("") => {}
        Ok(what) => return parts.rebalancing.show(|shown| shown.waits_for = what),
        Err(error) => return warn!(%error, "whether replicas may move could not be read"),
    }
    parts.rebalancing.show(|shown| shown.waits_for = "");
    let balance = Balance::of(&fills(&parts.servers.reports(parts.now())), u32::from(row.tolerance_permille));
    let ended = match balance.is_done() {
        true => parts.sequencer.internal(Internal::Rebalance(RebalanceStep::Done)).await.map(|_| ()),
        false => match policies::current(&parts).await {
            Ok(policies) => Round::new(&parts, term, &row, (balance, policies)).run().await,
            Err(error) => Err(error),
        },
    };
    parts.rebalancing.show(|shown| shown.under_way = 0);
    match ended {
        Ok(()) if parts.stopping.is_cancelled() => {}
        // Every server has said twice by then how full it is.
        Ok(()) => tokio::time::sleep(MOVE_SETTLE).await,
        Err(error) => info!(%error, "a round of the rebalancing ended early"),
    }
}

/// Why nothing may move at present; empty: it may.
async fn waits_for(parts: &Parts) -> Result<&'static str, FsError> {
    let view = parts.servers.view(parts.now());
    if view.servers.values().any(|server| server.health != ServerHealth::Alive) {
        return Ok("chunk servers that are away");
    }
    let short = parts.reader.read(|rows| repairs(rows, None, 1)).await?;
    if parts.repairs.counts() != (0, 0) || !short.is_empty() {
        return Ok("repairs");
    }
    // What was left behind and is still to be deleted would be taken for what is too much.
    while let Some((server, chunk)) = parts.rebalancing.oldest_left_behind() {
        let deleting = parts.reader.read(move |rows| deleting_at(rows, chunk, &[server])).await?;
        if !deleting.is_empty() {
            return Ok("deletions");
        }
        parts.rebalancing.forget_oldest();
    }
    Ok("")
}

/// A replica that may move, with its size.
type Candidate = (ChunkRecord, u64);

/// What a server that has too much could give.
struct Feed {
    server: ServerId,
    from: Option<ChunkId>,
    ready: VecDeque<Candidate>,
}

/// A move.
struct Move {
    from: ServerId,
    bytes: u64,
    record: ChunkRecord,
    repair: Repair,
}

/// What comes next.
enum Next {
    Start(Box<Move>),
    /// Everybody who could take something is at it.
    Later,
    Nothing,
}

struct Round<'p> {
    parts: &'p Parts,
    term: Term,
    limit_bytes: u64,
    steps: u64,
    balance: Balance,
    policies: Policies,
    busy: Busy,
    feeds: VecDeque<Feed>,
    /// By the limit, nothing begins before.
    not_before: Tick,
    /// Moved and not yet journaled: bytes, replicas.
    untold: (u64, u64),
    told: Tick,
    begun: Tick,
    moved: u64,
}

impl<'p> Round<'p> {
    fn new(
        parts: &'p Parts,
        term: Term,
        row: &RebalanceRow,
        (balance, policies): (Balance, Policies),
    ) -> Self {
        let now = parts.now();
        let feed = |server| Feed { server, from: Some(ChunkId(0)), ready: VecDeque::new() };
        Self {
            parts,
            term,
            limit_bytes: row.limit_bytes,
            steps: parts.rebalancing.shown().steps,
            feeds: balance.givers().into_iter().map(feed).collect(),
            balance,
            policies,
            busy: Busy::new(MOVES_PER_SERVER_MAX).in_racks(&parts.servers.view(now)),
            not_before: now,
            untold: (0, 0),
            told: now,
            begun: now,
            moved: 0,
        }
    }

    async fn run(mut self) -> Result<(), FsError> {
        let (parts, term) = (self.parts, self.term);
        let mut running = FuturesUnordered::new();
        let (mut more, mut crowded) = (true, false);
        loop {
            if more && !self.may_go_on() {
                more = false;
            }
            let pause = self.not_before.since(parts.now());
            tokio::select! {
                Some((done, outcome)) = running.next(), if !running.is_empty() => {
                    crowded = false;
                    let done: Box<Move> = done;
                    self.ended(&done, outcome);
                }
                () = tokio::time::sleep(pause), if more && !crowded && running.len() < MOVES_IN_FLIGHT_MAX => {
                    self.busy.heed(&parts.servers.copy_shares());
                    match self.next().await? {
                        Next::Start(one) => {
                            self.begin(&one);
                            running.push(async move {
                                let outcome = carry_out(parts, term, &one.record, &one.repair).await;
                                (one, outcome)
                            });
                        }
                        Next::Later => crowded = true,
                        Next::Nothing => more = false,
                    }
                }
                else => break,
            }
            let untold = self.untold;
            parts.rebalancing.show(|shown| (shown.under_way, shown.untold) = (running.len() as u64, untold));
            self.tell(MOVES_TOLD_EVERY).await?;
        }
        self.tell(Duration::ZERO).await
    }

    /// Whether nothing has changed that a round must not outlive.
    fn may_go_on(&self) -> bool {
        let parts = self.parts;
        let view = parts.servers.view(parts.now());
        !parts.stopping.is_cancelled()
            && parts.rebalancing.shown().steps == self.steps
            && parts.repairs.counts() == (0, 0)
            && view.servers.values().all(|server| server.health.is_reachable())
    }

    fn begin(&mut self, one: &Move) {
        self.busy.begin(&one.repair);
        self.balance.take(one.from, one.repair.targets[0], one.bytes);
        // No limit, no pause.
        let micros = one.bytes.saturating_mul(1_000_000).checked_div(self.limit_bytes).unwrap_or(0);
        self.not_before = self.not_before.max(self.parts.now()).after(Duration::from_micros(micros));
    }

    fn ended(&mut self, one: &Move, outcome: Result<(), FsError>) {
        self.busy.end(&one.repair);
        match outcome {
            Ok(()) => {
                self.parts.metrics.moved.inc();
                self.parts.metrics.moved_bytes.inc_by(one.bytes);
                self.untold = (self.untold.0 + one.bytes, self.untold.1 + 1);
                self.moved += one.bytes;
                self.parts.rebalancing.left_behind(one.from, one.record.chunk);
            }
            // The next round finds out what that leaves to be done.
            Err(error) => info!(chunk = %one.record.chunk, %error, "replica could not be moved"),
        }
    }

    async fn tell(&mut self, at_most_every: Duration) -> Result<(), FsError> {
        let now = self.parts.now();
        let (bytes, replicas) = self.untold;
        if replicas == 0 || now.since(self.told) < at_most_every {
            return Ok(());
        }
        let rate = self.moved.saturating_mul(1000) / (now.since(self.begun).as_millis() as u64).max(1);
        self.parts.rebalancing.show(|shown| shown.rate_bytes = rate);
        (self.untold, self.told) = ((0, 0), now);
        let step = RebalanceStep::Moved { bytes, replicas };
        let told = self.parts.sequencer.internal(Internal::Rebalance(step)).await;
        self.parts.rebalancing.show(|shown| shown.untold = self.untold);
        told.map(|_| ())
    }

    /// The next replica that may move, of each giver in turn.
    async fn next(&mut self) -> Result<Next, FsError> {
        while let Some(mut feed) = self.feeds.pop_front() {
            if !self.balance.gives(feed.server) {
                continue;
            }
            if !self.balance.has_idle_taker(&self.busy) {
                self.feeds.push_front(feed);
                return Ok(if self.balance.is_done() { Next::Nothing } else { Next::Later });
            }
            if feed.ready.is_empty() && !self.fill(&mut feed).await? {
                continue;
            }
            let candidate = feed.ready.pop_front();
            let from = feed.server;
            self.feeds.push_back(feed);
            if let Some((record, bytes)) = candidate
                && let Some(one) = self.consider(from, record.chunk, bytes).await?
            {
                return Ok(Next::Start(Box::new(one)));
            }
        }
        Ok(Next::Nothing)
    }

    async fn consider(&self, from: ServerId, id: ChunkId, bytes: u64) -> Result<Option<Move>, FsError> {
        let parts = self.parts;
        let record = parts.reader.read(move |rows| chunk(rows, id)).await?;
        let movable = |record: &ChunkRecord| {
            is_settled(record)
                && record.servers.contains(&from)
                && record.servers.len() == usize::from(record.wanted)
                && parts.damage.bad_at(record.chunk, &record.servers).is_empty()
        };
        let Some(record) = record.filter(movable) else { return Ok(None) };
        let view = parts.servers.view(parts.now());
        let replica = (&record.servers[..], from, self.policies.required(record.policy));
        let proposed = self.balance.propose(&view, &self.busy, replica, bytes);
        Ok(proposed.map(|repair| Move { from, bytes, record, repair }))
    }

    /// Gets the next page of what a giver has. False: there is no more.
    async fn fill(&self, feed: &mut Feed) -> Result<bool, FsError> {
        let (parts, server) = (self.parts, feed.server);
        while let Some(from) = feed.from {
            let read = move |rows: &dyn Rows| replicas_on(rows, server, from, ChunkId(u64::MAX), WORK_PAGE);
            let page: Vec<ChunkId> =
                parts.reader.read(read).await?.into_iter().map(|(chunk, _)| chunk).collect();
            let (Some(&first), Some(&last)) = (page.first(), page.last()) else {
                feed.from = None;
                break;
            };
            feed.from = Some(ChunkId(last.get() + 1)).filter(|_| page.len() == WORK_PAGE);
            let gone = || FsError::Unavailable(format!("{server} is gone"));
            let link = parts.servers.link(server).ok_or_else(gone)?;
            let held = link.list(self.term, (first, last), LIST_PATIENCE).await;
            let held = held.map_err(|error| FsError::Unavailable(format!("{server}: {error}")))?;
            let sizes: BTreeMap<u64, u64> = held.iter().map(|held| (held.chunk, held.bytes)).collect();
            let records = parts.reader.read(move |rows| chunks_named(rows, &page)).await?;
            let sized = records.into_iter().filter_map(|record| {
                let bytes = sizes.get(&record.chunk.get()).copied().filter(|&bytes| bytes > 0)?;
                is_settled(&record).then_some((record, bytes))
            });
            feed.ready.extend(sized);
            if !feed.ready.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
