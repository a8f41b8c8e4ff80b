//! Moves replicas from fuller chunk servers to emptier ones while a rebalancing is wanted, in rounds: each looks at how full the
//! servers are, moves what that asks for, and waits until what was left behind is deleted and the servers have told how full they
//! are then. Nothing of it is remembered but that it is wanted and how much has moved, so that the next leader goes on.
//!
//! What lacks copies comes first: nothing moves while chunks are to be repaired or a server is not alive.

use crate::moving::rebalance::{Untold, fills};
use crate::parts::Parts;
use crate::policies;
use crate::work::repair::is_settled;
use crate::work::replicate::carry_out;
use cairn_core::cluster::balance::{Balance, Fit, Proposal};
use cairn_core::cluster::repair::{Busy, Repair};
use cairn_core::cluster::{Policies, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{
    HINDERED_MOVES_PAUSE, LIST_PATIENCE, MOVES_ASIDE_MAX, MOVES_IN_FLIGHT_MAX, MOVES_PER_SERVER_MAX,
    MOVES_REMEMBERED, MOVES_TOLD_EVERY, REBALANCE_PERIOD, WORK_PAGE,
};
use cairn_core::namespace::internal::{Internal, RebalanceStep};
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{
    ChunkRecord, RebalanceRow, RebalanceState, chunk, chunks_named, deleting_at, deletions, rebalance,
    repairs, replicas_on,
};
use cairn_core::time::Tick;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    match waits_for(&parts, term).await {
        Ok("") => {}
        Ok(what) => return parts.rebalancing.show(|shown| shown.waits_for = what),
        Err(error) => return warn!(%error, "whether replicas may move could not be read"),
    }
    parts.rebalancing.show(|shown| shown.waits_for = "");
    let balance = Balance::of(&fills(&parts.servers.reports(parts.now())), u32::from(row.tolerance_permille));
    let outcome = match balance.is_done() {
        true => Ok(Outcome::NothingFits),
        false => match policies::current(&parts).await {
            Ok(policies) => Round::new(&parts, term, &row, (balance, policies)).run().await,
            Err(error) => Err(error),
        },
    };
    parts.rebalancing.show(|shown| shown.under_way = 0);
    let ended = match outcome {
        Ok(Outcome::Moved) => Ok(()),
        Ok(Outcome::Hindered(by)) => return wait_for(&parts, by).await,
        Ok(Outcome::NothingFits) => {
            parts.sequencer.internal(Internal::Rebalance(RebalanceStep::Done)).await.map(|_| ())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        info!(%error, "a round of the rebalancing ended early");
    }
}

/// Looks again after a while: each look reads all that those have who have too much.
async fn wait_for(parts: &Parts, what: &'static str) {
    parts.rebalancing.show(|shown| shown.waits_for = what);
    let steps = parts.rebalancing.shown().steps;
    let until = parts.now().after(HINDERED_MOVES_PAUSE);
    while parts.now() < until && parts.rebalancing.shown().steps == steps {
        tokio::time::sleep(REBALANCE_PERIOD).await;
    }
}

/// Why nothing may move at present; empty: it may.
async fn waits_for(parts: &Parts, term: Term) -> Result<&'static str, FsError> {
    let view = parts.servers.view(parts.now());
    if view.servers.values().any(|server| server.health != ServerHealth::Alive) {
        return Ok("chunk servers that are away");
    }
    let short = parts.reader.read(|rows| repairs(rows, None, 1)).await?;
    if parts.repairs.counts() != (0, 0) || !short.is_empty() {
        return Ok("repairs");
    }
    match was_left_behind(parts, term).await? {
        true => Ok("deletions"),
        false => Ok(""),
    }
}

/// Whether servers tell that they hold what has moved away: it would be taken for what is too much.
async fn was_left_behind(parts: &Parts, term: Term) -> Result<bool, FsError> {
    if parts.rebalancing.is_new_in(term) {
        let rows = parts.reader.read(|rows| deletions(rows, None, MOVES_REMEMBERED)).await?;
        rows.iter().for_each(|row| parts.rebalancing.left_behind(row.server, row.chunk));
        parts.rebalancing.looked_in(term);
    }
    while let Some((server, chunk)) = parts.rebalancing.oldest_left_behind() {
        let deleting = parts.reader.read(move |rows| deleting_at(rows, chunk, &[server])).await?;
        if !deleting.is_empty() {
            return Ok(parts.rebalancing.still_waits(parts.now()));
        }
        parts.rebalancing.deleted_oldest(parts.now());
    }
    Ok(parts.rebalancing.settles(parts.now()))
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
    /// The limit says so.
    NotYet,
    /// Everybody who could take or copy something is at it.
    Later,
    Nothing,
}

/// What a look at a replica comes to.
enum Considered {
    Start(Box<Move>),
    Busy,
    /// It may move later: what is waited for until then.
    Hindered(&'static str),
    Stays,
}

/// What a round comes to.
enum Outcome {
    /// It is to be looked how full the servers are now.
    Moved,
    /// What could still move may do so later.
    Hindered(&'static str),
    /// They are as even as they can be.
    NothingFits,
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
    /// Their other replicas, which other givers may have, stay meanwhile.
    under_way: BTreeSet<ChunkId>,
    fit: Fit,
    /// Something was begun, or might have been.
    is_fruitful: bool,
    hindered_by: Option<&'static str>,
    /// By the limit, nothing begins before.
    not_before: Tick,
    untold: Untold,
    told: Tick,
}

impl<'p> Round<'p> {
    fn new(
        parts: &'p Parts,
        term: Term,
        row: &RebalanceRow,
        (balance, policies): (Balance, Policies),
    ) -> Self {
        let now = parts.now();
        Self {
            parts,
            term,
            limit_bytes: row.limit_bytes,
            steps: parts.rebalancing.shown().steps,
            feeds: feeds(&balance),
            under_way: BTreeSet::new(),
            balance,
            fit: Fit::Within,
            is_fruitful: false,
            hindered_by: None,
            policies,
            busy: Busy::new(MOVES_PER_SERVER_MAX).in_racks(&parts.servers.view(now)),
            not_before: now,
            untold: Untold { begun: row.begun, beyond_bytes: row.moved_bytes, ..Untold::default() },
            told: now,
        }
    }

    async fn run(mut self) -> Result<Outcome, FsError> {
        let (parts, term) = (self.parts, self.term);
        let mut running = FuturesUnordered::new();
        let (mut more, mut crowded) = (true, false);
        loop {
            if more && !self.may_go_on() {
                (more, self.is_fruitful) = (false, true);
            }
            // Looks up now and then: operators do not wait for a limit of a few bytes a second.
            let pause = self.not_before.since(parts.now()).min(REBALANCE_PERIOD);
            tokio::select! {
                Some((done, outcome)) = running.next(), if !running.is_empty() => {
                    crowded = false;
                    let done: Box<Move> = done;
                    self.ended(&done, outcome);
                }
                () = tokio::time::sleep(pause), if more && !crowded && running.len() < MOVES_IN_FLIGHT_MAX => {
                    let next = if pause.is_zero() { self.next().await? } else { Next::NotYet };
                    match next {
                        Next::Start(_) if !parts.rebalancing.may_begin(self.steps) => self.is_fruitful = true,
                        Next::Start(one) => {
                            self.is_fruitful = true;
                            self.begin(&one);
                            running.push(async move {
                                let outcome = carry_out(parts, term, &one.record, &one.repair).await;
                                (one, outcome)
                            });
                        }
                        Next::Later => (crowded, self.is_fruitful) = (true, true),
                        Next::NotYet => {}
                        Next::Nothing => more = false,
                    }
                }
                else => break,
            }
            let untold = self.untold;
            parts.rebalancing.show(|shown| (shown.under_way, shown.untold) = (running.len() as u64, untold));
            self.tell(MOVES_TOLD_EVERY).await?;
        }
        self.tell(Duration::ZERO).await?;
        Ok(match self.hindered_by {
            _ if self.is_fruitful => Outcome::Moved,
            Some(what) => Outcome::Hindered(what),
            None => Outcome::NothingFits,
        })
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
        self.under_way.insert(one.record.chunk);
        self.balance.take(one.from, one.repair.targets[0], one.bytes);
        // No limit, no pause.
        let micros = one.bytes.saturating_mul(1_000_000).checked_div(self.limit_bytes).unwrap_or(0);
        self.not_before = self.not_before.max(self.parts.now()).after(Duration::from_micros(micros));
    }

    fn ended(&mut self, one: &Move, outcome: Result<(), FsError>) {
        self.busy.end(&one.repair);
        self.under_way.remove(&one.record.chunk);
        match outcome {
            Ok(()) => {
                self.parts.metrics.moved.inc();
                self.parts.metrics.moved_bytes.inc_by(one.bytes);
                self.untold.bytes += one.bytes;
                self.untold.replicas += 1;
                self.parts.rebalancing.left_behind(one.from, one.record.chunk);
            }
            // The next round finds out what that leaves to be done.
            Err(error) => info!(chunk = %one.record.chunk, %error, "replica could not be moved"),
        }
    }

    async fn tell(&mut self, at_most_every: Duration) -> Result<(), FsError> {
        let now = self.parts.now();
        let Untold { begun, beyond_bytes, bytes, replicas } = self.untold;
        if replicas == 0 || now.since(self.told) < at_most_every {
            return Ok(());
        }
        let millis = (now.since(self.told).as_millis() as u64).max(1);
        let rate = bytes.saturating_mul(1000) / millis;
        let is_long = millis >= MOVES_TOLD_EVERY.as_millis() as u64;
        self.parts.rebalancing.show(|shown| match shown.rate_bytes {
            0 => shown.rate_bytes = rate,
            known if is_long => shown.rate_bytes = (known * 3 + rate) / 4,
            _ => {}
        });
        self.told = now;
        self.untold = Untold { begun, beyond_bytes: beyond_bytes + bytes, ..Untold::default() };
        let step = RebalanceStep::Moved { begun, bytes, replicas };
        let told = self.parts.sequencer.internal(Internal::Rebalance(step)).await;
        self.parts.rebalancing.show(|shown| shown.untold = self.untold);
        told.map(|_| ())
    }

    /// The next replica that may move.
    async fn next(&mut self) -> Result<Next, FsError> {
        self.busy.heed(&self.parts.servers.copy_shares());
        loop {
            let next = self.next_that_fits().await?;
            if !matches!(next, Next::Nothing) || self.fit == Fit::Nearer || self.balance.is_even() {
                return Ok(next);
            }
            (self.fit, self.feeds) = (Fit::Nearer, feeds(&self.balance));
        }
    }

    /// Of each giver in turn.
    async fn next_that_fits(&mut self) -> Result<Next, FsError> {
        let mut aside = 0;
        while let Some(mut feed) = self.feeds.pop_front() {
            if !self.balance.gives(feed.server) {
                continue;
            }
            let is_enough = self.fit == Fit::Nearer && self.balance.is_even();
            if is_enough || !self.balance.has_idle_taker(&self.busy) || aside > MOVES_ASIDE_MAX {
                self.feeds.push_front(feed);
                return Ok(if is_enough || self.balance.is_done() { Next::Nothing } else { Next::Later });
            }
            if feed.ready.is_empty() && !self.fill(&mut feed).await? {
                continue;
            }
            let candidate = feed.ready.pop_front();
            let considered = match &candidate {
                Some((record, bytes)) => self.consider(feed.server, record.chunk, *bytes).await?,
                None => Considered::Stays,
            };
            match considered {
                Considered::Busy => {
                    feed.ready.extend(candidate);
                    aside += 1;
                }
                Considered::Hindered(by) => self.hindered_by = Some(by),
                Considered::Start(_) | Considered::Stays => {}
            }
            self.feeds.push_back(feed);
            if let Considered::Start(one) = considered {
                return Ok(Next::Start(one));
            }
        }
        Ok(Next::Nothing)
    }

    async fn consider(&self, from: ServerId, id: ChunkId, bytes: u64) -> Result<Considered, FsError> {
        let parts = self.parts;
        let record = parts.reader.read(move |rows| chunk(rows, id)).await?;
        let movable = |record: &ChunkRecord| {
            !self.under_way.contains(&id)
                && record.servers.contains(&from)
                && record.servers.len() == usize::from(record.wanted)
                && parts.damage.bad_at(record.chunk, &record.servers).is_empty()
        };
        let Some(record) = record.filter(movable) else { return Ok(Considered::Stays) };
        let view = parts.servers.view(parts.now());
        let replica = (&record.servers[..], from, self.policies.required(record.policy));
        Ok(match self.balance.propose(&view, &self.busy, replica, (bytes, self.fit)) {
            Proposal::Unfit if self.balance.is_unhindered(&view) => Considered::Stays,
            Proposal::Unfit => Considered::Hindered("chunk servers that are slow or away"),
            _ if !is_settled(&record) => Considered::Hindered("files that are being written"),
            Proposal::Busy => Considered::Busy,
            Proposal::Move(repair) => Considered::Start(Box::new(Move { from, bytes, record, repair })),
        })
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
                Some((record, bytes))
            });
            feed.ready.extend(sized);
            if !feed.ready.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn feeds(balance: &Balance) -> VecDeque<Feed> {
    let feed = |server| Feed { server, from: Some(ChunkId(0)), ready: VecDeque::new() };
    balance.givers().into_iter().map(feed).collect()
}
