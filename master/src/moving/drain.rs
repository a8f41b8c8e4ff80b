//! Emptying a chunk server. That it is to be emptied stands in its row; what moves where is found anew by every pass of the
//! repairs, so a drain goes on wherever its leader, or the next one, stands.

use crate::admin_service::to_status;
use crate::moving::rebalance::move_rates;
use crate::parts::Parts;
use crate::policies;
use crate::servers::ServerReport;
use cairn_core::cluster::balance::Flow;
use cairn_core::cluster::moving_time::Moving;
use cairn_core::cluster::repair::{Busy, Verdict, plan};
use cairn_core::cluster::{ClusterView, Policies, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId};
use cairn_core::limits::{ADMIN_COUNT_MAX, DRAIN_REPLICAS_WEIGHED, MOVE_BYTES_PER_SECOND, WORK_PAGE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::{Outcome, Rows};
use cairn_core::namespace::work::{ChunkRecord, Draining, chunks_named, replicas_on};
use cairn_proto::v1::{DrainReply, DrainTarget, DrainVerb};
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Status;

/// What would become of the replicas of a server, or becomes.
#[derive(Default)]
struct Weighed {
    /// Replicas that count there.
    replicas: u64,
    /// Of those looked at: who would take them.
    targets: BTreeMap<ServerId, u64>,
    /// Of those looked at: nobody can take them, or nobody has them.
    stuck: u64,
    /// The chunk is short of copies without this server.
    unsafe_without: u64,
    looked_at: u64,
}

/// Does what an operator asks for, and tells how it stands then.
pub(crate) async fn drain(parts: &Parts, server: ServerId, verb: DrainVerb) -> Result<DrainReply, FsError> {
    if !parts.servers.view(parts.now()).servers.contains_key(&server) {
        return Err(FsError::NotFound);
    }
    match verb {
        DrainVerb::DrainStatus | DrainVerb::DrainPlan => {}
        DrainVerb::DrainStart => {
            let replicas = weigh(parts, server).await?.replicas;
            change(parts, server, Some(replicas)).await?;
        }
        DrainVerb::DrainCancel => change(parts, server, None).await?,
    }
    tell(parts, server).await
}

/// The server is gone for good.
pub(crate) async fn remove(parts: &Parts, server: ServerId) -> Result<(), FsError> {
    while let Outcome::More(true) = parts.sequencer.internal(Internal::RemoveServer { server }).await? {}
    parts.servers.removed(server);
    parts.publish_view();
    Ok(())
}

async fn change(parts: &Parts, server: ServerId, replicas: Option<u64>) -> Result<(), FsError> {
    parts.sequencer.internal(Internal::DrainServer { server, replicas }).await?;
    let recorded = move |rows: &dyn Rows| cairn_core::namespace::work::server(rows, server);
    let record = parts.reader.read(recorded).await?.ok_or(FsError::NotFound)?;
    parts.servers.set_draining(server, record.draining);
    parts.publish_view();
    parts.nudge();
    Ok(())
}

async fn tell(parts: &Parts, server: ServerId) -> Result<DrainReply, FsError> {
    let weighed = weigh(parts, server).await?;
    let reports = parts.servers.reports(parts.now());
    let report = reports.iter().find(|report| report.server == server).ok_or(FsError::NotFound)?;
    let held = report.disks.iter().map(|disk| (disk.used_bytes, disk.replicas));
    let (bytes, held) = held.fold((0, 0), |sum: (u64, u64), disk| (sum.0 + disk.0, sum.1 + disk.1));
    let mean = bytes / held.max(1);
    let bytes_left = mean.saturating_mul(weighed.replicas);
    let state = match (&report.draining, weighed.replicas) {
        (None, _) => "serving",
        (Some(_), 0) => "empty",
        (Some(_), _) => "draining",
    };
    let elapsed = report.draining.map(|draining| since(parts, draining));
    let moved = report.draining.map_or(0, |draining| draining.replicas.saturating_sub(weighed.replicas));
    let estimated = match elapsed.filter(|elapsed| moved > 0 && !elapsed.is_zero()) {
        // By how fast it went so far.
        Some(elapsed) => {
            let millis = elapsed.as_millis() * u128::from(weighed.replicas) / u128::from(moved);
            Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
        }
        None => before_it_goes(&weighed, (server, mean), &reports),
    };
    let targets = weighed.targets.iter().map(|(target, &replicas)| DrainTarget {
        server: target.get(),
        replicas,
        bytes: replicas.saturating_mul(mean),
    });
    Ok(DrainReply {
        server: server.get(),
        address: report.address.clone(),
        state: state.to_owned(),
        replicas_left: weighed.replicas,
        bytes_left,
        replicas_at_start: report.draining.map_or(0, |draining| draining.replicas),
        elapsed_ms: elapsed.map_or(0, |elapsed| elapsed.as_millis() as u64),
        estimated_ms: estimated.as_millis() as u64,
        stuck: weighed.stuck,
        needed: weighed.unsafe_without,
        targets: targets.collect(),
        connected: matches!(report.health, ServerHealth::Alive | ServerHealth::Suspect),
        ..DrainReply::default()
    })
}

fn since(parts: &Parts, draining: Draining) -> Duration {
    let seconds = parts.env.clock.wall().seconds.saturating_sub(draining.since.seconds);
    Duration::from_secs(seconds.max(0) as u64)
}

/// By what a server gives to moving, and its disks and those of the others leave to it at present.
fn before_it_goes(weighed: &Weighed, (server, mean): (ServerId, u64), reports: &[ServerReport]) -> Duration {
    let all = weighed.replicas.saturating_mul(mean);
    let counted = weighed.targets.values().sum::<u64>().max(1);
    let flow = |(&to, &replicas): (&ServerId, &u64)| {
        let bytes = u128::from(all) * u128::from(replicas) / u128::from(counted);
        Flow { from: server, to, bytes: bytes as u64 }
    };
    let (flows, rates): (Vec<Flow>, _) = (weighed.targets.iter().map(flow).collect(), move_rates(reports));
    let limit_bytes = MOVE_BYTES_PER_SECOND;
    Moving { flows: &flows, replica_bytes: mean, limit_bytes, rates: &rates }.time()
}

async fn weigh(parts: &Parts, server: ServerId) -> Result<Weighed, FsError> {
    let mut view = parts.servers.view(parts.now());
    if let Some(leaving) = view.servers.get_mut(&server) {
        leaving.draining = true;
    }
    let policies = policies::current(parts).await?;
    let (mut weighed, mut from) = (Weighed::default(), ChunkId(0));
    while weighed.replicas < ADMIN_COUNT_MAX {
        let read = move |rows: &dyn Rows| replicas_on(rows, server, from, ChunkId(u64::MAX), WORK_PAGE);
        let page: Vec<ChunkId> = parts.reader.read(read).await?.into_iter().map(|(chunk, _)| chunk).collect();
        let Some(newest) = page.last() else { break };
        (weighed.replicas, from) = (weighed.replicas + page.len() as u64, ChunkId(newest.get() + 1));
        if weighed.looked_at < DRAIN_REPLICAS_WEIGHED {
            let records = parts.reader.read(move |rows| chunks_named(rows, &page)).await?;
            records.iter().for_each(|record| weighed.weigh(parts, (&view, &policies), record));
        }
    }
    Ok(weighed)
}

impl Weighed {
    fn weigh(&mut self, parts: &Parts, (view, policies): (&ClusterView, &Policies), record: &ChunkRecord) {
        self.looked_at += 1;
        let bad = parts.damage.bad_at(record.chunk, &record.servers);
        let replicas = policies::replicas(record, (&bad, &[]), policies);
        let staying = replicas.left(view).iter().filter(|&&server| !view.is_draining(server)).count();
        self.unsafe_without += u64::from(staying < usize::from(record.wanted));
        let entropy = record.chunk.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match plan(view, &Busy::default(), replicas, &[], entropy) {
            Verdict::Repair(repair) => {
                repair.targets.iter().for_each(|&target| *self.targets.entry(target).or_insert(0) += 1);
            }
            Verdict::Stuck => self.stuck += 1,
            Verdict::Wait | Verdict::Busy => {}
        }
    }
}

/// An error for the operator.
pub(crate) fn refusal(parts: &Parts, error: &FsError) -> Status {
    let address = &parts.address;
    match error {
        FsError::NotFound => Status::not_found(format!(
            "master {address}: there is no such chunk server, or no such disk of it: see `cairn admin servers`"
        )),
        FsError::Busy => Status::failed_precondition(format!(
            "master {address}: replicas there count, or the chunk server still runs: `cairn admin drain SERVER start`, wait \
             until it is empty, and stop it before"
        )),
        other => to_status(parts, other),
    }
}
