//! Evening chunk servers out, as an operator asks for it: the plan, the steps that are journaled, and how it stands. What moves is
//! decided and done in `work/rebalance`.

use crate::admin_service::to_status;
use crate::parts::Parts;
use crate::servers::ServerReport;
use cairn_core::cluster::ServerHealth;
use cairn_core::cluster::balance::{Balance, Fill, Fills, spread_permille};
use cairn_core::cluster::moving_time::{self, DiskCopies, Moving};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{
    LEFT_BEHIND_PATIENCE, MOVE_BYTES_PER_SECOND, MOVE_BYTES_UNLIMITED, MOVE_SETTLE, MOVES_REMEMBERED,
    REBALANCE_PERIOD,
};
use cairn_core::namespace::internal::{Internal, RebalanceStep};
use cairn_core::namespace::work::{RebalanceRow, RebalanceState, rebalance};
use cairn_core::time::{Tick, Timestamp};
use cairn_proto::v1::{
    DiskState, DiskStatus, RebalanceFlow, RebalanceReply, RebalanceRequest, RebalanceServer, RebalanceVerb,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tonic::Status;

/// What the work remembers and shows; the state knows the rest.
#[derive(Default)]
pub(crate) struct Rebalancing {
    shown: Mutex<Shown>,
    /// Replicas that moved away from there, the oldest first.
    left_behind: Mutex<LeftBehind>,
}

#[derive(Default)]
struct LeftBehind {
    replicas: VecDeque<(ServerId, ChunkId)>,
    /// In which it was last looked what other leaders have left behind.
    term: Option<Term>,
    /// When the last of them turned out to be deleted.
    deleted: Option<Tick>,
    /// Since when the oldest is not.
    waits_since: Option<Tick>,
}

/// How it goes at present.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// What nothing moves for.
    pub(crate) waits_for: &'static str,
    /// Bytes a second of late; 0: not known.
    pub(crate) rate_bytes: u64,
    /// Replicas that move.
    pub(crate) under_way: u64,
    /// Moved and not yet journaled.
    pub(crate) untold: Untold,
    /// Counts the steps of operators: what goes on looks at the row when it changes.
    pub(crate) steps: u64,
}

/// What has moved beyond what is journaled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Untold {
    /// When the rebalancing was begun.
    pub(crate) begun: Timestamp,
    /// The journaled bytes that it comes on top of: it is part of any other figure.
    pub(crate) beyond_bytes: u64,
    pub(crate) bytes: u64,
    pub(crate) replicas: u64,
}

impl Untold {
    /// Bytes and replicas that have moved, those of `row` included.
    fn with(self, row: &RebalanceRow) -> (u64, u64) {
        match (row.begun, row.moved_bytes) == (self.begun, self.beyond_bytes) {
            true => (row.moved_bytes + self.bytes, row.moved_replicas + self.replicas),
            false => (row.moved_bytes, row.moved_replicas),
        }
    }
}

impl Rebalancing {
    /// One more move is under way, unless an operator has done something since `steps` were counted: whoever is told after a pause
    /// that nothing is under way can rely on it.
    pub(crate) fn may_begin(&self, steps: u64) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let may = shown.steps == steps;
        shown.under_way += u64::from(may);
        may
    }

    pub(crate) fn shown(&self) -> Shown {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A replica has moved away from there. Of very many only the newest are remembered: what came before is deleted before.
    pub(crate) fn left_behind(&self, server: ServerId, chunk: ChunkId) {
        let mut left = self.left();
        left.replicas.push_back((server, chunk));
        if left.replicas.len() > MOVES_REMEMBERED {
            left.replicas.pop_front();
        }
    }

    pub(crate) fn oldest_left_behind(&self) -> Option<(ServerId, ChunkId)> {
        self.left().replicas.front().copied()
    }

    pub(crate) fn deleted_oldest(&self, now: Tick) {
        let mut left = self.left();
        left.replicas.pop_front();
        (left.deleted, left.waits_since) = (Some(now), None);
    }

    /// The oldest is not deleted yet: whether it is worth waiting for. What a disk that has failed held may never be.
    pub(crate) fn still_waits(&self, now: Tick) -> bool {
        let mut left = self.left();
        let since = *left.waits_since.get_or_insert(now);
        let is_worth_it = now.since(since) < LEFT_BEHIND_PATIENCE;
        if !is_worth_it {
            left.replicas.clear();
            left.waits_since = None;
        }
        is_worth_it
    }

    /// Whether servers may not have told yet how full they are after the last deletion.
    pub(crate) fn settles(&self, now: Tick) -> bool {
        self.left().deleted.is_some_and(|deleted| now.since(deleted) < MOVE_SETTLE)
    }

    /// Whether this master leads for another term than when it was looked last what others have left behind.
    pub(crate) fn is_new_in(&self, term: Term) -> bool {
        self.left().term != Some(term)
    }

    pub(crate) fn looked_in(&self, term: Term) {
        self.left().term = Some(term);
    }

    fn left(&self) -> MutexGuard<'_, LeftBehind> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How full the servers are that take part: those that are alive or away for a moment, and are not being emptied. What is not
/// ours on their disks does not count.
pub(crate) fn fills(reports: &[ServerReport]) -> Fills {
    let takes_part = |report: &&ServerReport| {
        report.health != ServerHealth::Dead && report.draining.is_none() && !report.disks.is_empty()
    };
    let fill = |report: &ServerReport| {
        let disks = report.disks.iter().filter(|disk| disk.state() != DiskState::DiskFailed);
        let (used, free) = disks.fold((0_u64, 0_u64), |(used, free), disk| {
            // What is being emptied has no room, and what stands there goes to the others.
            let room = if report.drains(disk).is_some() { 0 } else { disk.free_bytes };
            (used.saturating_add(disk.used_bytes), free.saturating_add(room))
        });
        (report.server, Fill { used_bytes: used, capacity_bytes: used.saturating_add(free) })
    };
    reports.iter().filter(takes_part).map(fill).collect()
}

/// Does what an operator asks for, and tells how it stands then.
pub(crate) async fn answer(parts: &Parts, request: RebalanceRequest) -> Result<RebalanceReply, FsError> {
    let reports = parts.servers.reports(parts.now());
    let fills = fills(&reports);
    let tolerance = request.tolerance_permille.clamp(1, 999);
    let limit = request.limit_bytes.unwrap_or_else(|| MOVE_BYTES_PER_SECOND * fills.len().max(1) as u64);
    let step = match request.verb() {
        RebalanceVerb::RebalanceStatus | RebalanceVerb::RebalancePlan => None,
        RebalanceVerb::RebalanceStart => Some(RebalanceStep::Begin {
            tolerance_permille: tolerance as u16,
            limit_bytes: limit,
            planned_bytes: Balance::of(&fills, tolerance).bytes(),
            spread_before_permille: spread_permille(&fills),
        }),
        RebalanceVerb::RebalancePause => Some(RebalanceStep::Pause),
        RebalanceVerb::RebalanceResume => Some(RebalanceStep::Resume),
        RebalanceVerb::RebalanceCancel => Some(RebalanceStep::Cancel),
    };
    if let Some(step) = step {
        parts.sequencer.internal(Internal::Rebalance(step)).await?;
        let begins = request.verb() == RebalanceVerb::RebalanceStart;
        parts.rebalancing.show(|shown| {
            shown.steps += 1;
            shown.rate_bytes = if begins { 0 } else { shown.rate_bytes };
        });
        parts.nudge();
    }
    let row = parts.reader.read(rebalance).await?;
    let plans = request.verb() == RebalanceVerb::RebalancePlan;
    let (tolerance, limit) = match row.filter(|_| !plans) {
        Some(row) => (u32::from(row.tolerance_permille), row.limit_bytes),
        None => (tolerance, limit),
    };
    Ok(tell(parts, (&fills, &reports), (tolerance, limit, plans), row))
}

fn tell(
    parts: &Parts,
    (fills, reports): (&Fills, &[ServerReport]),
    (tolerance, limit, plans): (u32, u64, bool),
    row: Option<RebalanceRow>,
) -> RebalanceReply {
    let balance = Balance::of(fills, tolerance);
    let after = balance.after(fills);
    let shown = parts.rebalancing.shown();
    let (moved_bytes, moved_replicas) = row.map_or((0, 0), |row| shown.untold.with(&row));
    let state = match row.map(|row| row.state) {
        None => "idle",
        Some(RebalanceState::Running) if !shown.waits_for.is_empty() => "waiting",
        Some(RebalanceState::Running) => "running",
        Some(RebalanceState::Paused) => "paused",
        Some(RebalanceState::Done) => "done",
        Some(RebalanceState::Cancelled) => "cancelled",
    };
    let estimated = match state {
        "done" | "cancelled" if !plans => Duration::ZERO,
        _ => estimate(&balance, limit, reports, &shown),
    };
    let flows = balance.flows().into_iter().map(|flow| RebalanceFlow {
        from: flow.from.get(),
        to: flow.to.get(),
        bytes: flow.bytes,
    });
    let server = |(&server, fill): (&ServerId, &Fill)| RebalanceServer {
        server: server.get(),
        used_bytes: fill.used_bytes,
        capacity_bytes: fill.capacity_bytes,
        after_bytes: after.get(&server).map_or(0, |fill| fill.used_bytes),
    };
    RebalanceReply {
        state: state.to_owned(),
        waits_for: if state == "waiting" { shown.waits_for.to_owned() } else { String::new() },
        tolerance_permille: tolerance,
        limit_bytes: limit,
        elapsed_ms: row.map_or(0, |row| elapsed(parts, &row).as_millis() as u64),
        planned_bytes: row.map_or(0, |row| row.planned_bytes),
        moved_bytes,
        moved_replicas,
        to_move_bytes: balance.bytes(),
        estimated_ms: estimated.as_millis() as u64,
        rate_bytes: shown.rate_bytes,
        spread_before_permille: row.map_or(0, |row| row.spread_before_permille),
        spread_permille: spread_permille(fills),
        spread_after_permille: spread_permille(&after),
        flows: flows.collect(),
        servers: fills.iter().map(server).collect(),
        under_way: shown.under_way,
    }
}

fn elapsed(parts: &Parts, row: &RebalanceRow) -> Duration {
    let until = match row.state {
        RebalanceState::Running | RebalanceState::Paused => parts.env.clock.wall(),
        RebalanceState::Done | RebalanceState::Cancelled => row.ended,
    };
    let millis =
        |seconds: i64, nanos: u32| seconds.saturating_mul(1000).saturating_add(i64::from(nanos / 1_000_000));
    let took = millis(until.seconds, until.nanos) - millis(row.begun.seconds, row.begun.nanos);
    Duration::from_millis(took.max(0) as u64)
}

/// Mean size of a replica.
fn mean_bytes(reports: &[ServerReport]) -> u64 {
    let disks = reports.iter().flat_map(|report| &report.disks);
    let (bytes, count) =
        disks.fold((0, 0), |sum: (u64, u64), disk| (sum.0 + disk.used_bytes, sum.1 + disk.replicas));
    bytes / count.max(1)
}

/// Once it moves by how fast it does, before by what bounds it.
fn estimate(balance: &Balance, limit: u64, reports: &[ServerReport], shown: &Shown) -> Duration {
    let bytes = balance.bytes();
    if bytes == 0 {
        return Duration::ZERO;
    }
    let moves = match (shown.under_way, shown.rate_bytes) {
        (1.., 1..) => moving_time::at(bytes, shown.rate_bytes),
        _ => {
            let limit_bytes = if limit > 0 { limit } else { MOVE_BYTES_UNLIMITED };
            let (flows, rates) = (balance.flows(), move_rates(reports));
            let replica_bytes = mean_bytes(reports);
            Moving { flows: &flows, replica_bytes, limit_bytes, rates: &rates }.time()
        }
    };
    // What was left behind is deleted, servers tell how full they are, and it is looked once more how even that is.
    moves + REBALANCE_PERIOD * 2 + MOVE_SETTLE
}

/// What the disks of each server leave to moves.
pub(crate) fn move_rates(reports: &[ServerReport]) -> BTreeMap<ServerId, u64> {
    let told =
        |disk: &DiskStatus| DiskCopies { share: disk.copy_share, stream_bytes: disk.copy_stream_bytes };
    let usable = |disk: &&DiskStatus| disk.state() != DiskState::DiskFailed;
    let disks = |report: &ServerReport| report.disks.iter().filter(usable).map(told).collect();
    moving_time::move_rates(&reports.iter().map(|report| (report.server, disks(report))).collect())
}

/// An error for the operator.
pub(crate) fn refusal(parts: &Parts, error: &FsError) -> Status {
    let address = &parts.address;
    match error {
        FsError::Busy => Status::failed_precondition(format!(
            "master {address}: a rebalancing goes on: see `cairn admin rebalance status`, end it with `cancel`"
        )),
        FsError::NotFound => Status::failed_precondition(format!(
            "master {address}: no rebalancing goes on: begin one with `cairn admin rebalance start`"
        )),
        other => to_status(parts, other),
    }
}
