//! Emptying one disk of a chunk server. That it is to be emptied stands in a row; the server is told with each heartbeat, and moves what
//! it can to its other disks. What these have no room for it lists, and the repairs move that to other servers.

use crate::parts::Parts;
use crate::policies;
use crate::servers::{ServerReport, disk_id};
use cairn_core::cluster::repair::{Busy, Verdict, plan};
use cairn_core::error::FsError;
use cairn_core::explain::event::{DiskDrainStep, Event};
use cairn_core::ids::{ChunkId, DiskId, ServerId, Term};
use cairn_core::limits::{
    DISK_DRAIN_AGAIN, DRAIN_REPLICAS_WEIGHED, LIST_PATIENCE, MOVE_BYTES_PER_SECOND, VACATE_LISTED_MAX,
    WORK_PAGE,
};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::{ChunkRecord, DrainedDisk, Draining, chunks_named, drained_disks};
use cairn_core::time::Tick;
use cairn_core::units::CHUNK_BYTES;
use cairn_proto::v1::{DiskState, DiskStatus, DrainReply, DrainTarget, DrainVerb, HeldReplica, Vacating};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// What leaves its disk for another server, as the servers last listed it, and which disks were told of as empty. In memory only.
#[derive(Default)]
pub(crate) struct Departures {
    leaving: Mutex<BTreeMap<(ServerId, DiskId), Leaving>>,
    empty: Mutex<BTreeSet<(ServerId, DiskId)>>,
}

/// Replicas of one disk that leave it, and when repair was last told of them.
struct Leaving {
    chunks: BTreeSet<ChunkId>,
    told: Tick,
}

impl Departures {
    /// Another lead begins.
    pub(crate) fn begin_anew(&self) {
        self.leaving_now().clear();
        self.empty().clear();
    }

    /// Whose replica of `chunk`, of those of its set, must leave its disk for another server.
    pub(crate) fn leaving(&self, chunk: ChunkId, set: &[ServerId]) -> Vec<ServerId> {
        let leaving = self.leaving_now();
        let leaves = |(_, leaving): &(_, &Leaving)| leaving.chunks.contains(&chunk);
        let servers = leaving.iter().filter(leaves).map(|(&(server, _), _)| server);
        servers.filter(|server| set.contains(server)).collect()
    }

    /// Takes what a server has listed; answers whether repair is to be told.
    fn listed(&self, disk: (ServerId, DiskId), chunks: BTreeSet<ChunkId>, now: Tick) -> bool {
        let mut leaving = self.leaving_now();
        if chunks.is_empty() {
            leaving.remove(&disk);
            return false;
        }
        let is_known =
            |before: &Leaving| before.chunks == chunks && now.since(before.told) < DISK_DRAIN_AGAIN;
        if leaving.get(&disk).is_some_and(is_known) {
            return false;
        }
        leaving.insert(disk, Leaving { chunks, told: now });
        true
    }

    /// Whether it is news that the disk is empty.
    fn is_news(&self, disk: (ServerId, DiskId), is_empty: bool) -> bool {
        let mut empty = self.empty();
        if !is_empty {
            empty.remove(&disk);
        }
        is_empty && empty.insert(disk)
    }

    fn leaving_now(&self) -> MutexGuard<'_, BTreeMap<(ServerId, DiskId), Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn empty(&self) -> MutexGuard<'_, BTreeSet<(ServerId, DiskId)>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every disk on record as one that is to be emptied.
pub(crate) async fn recorded(parts: &Parts) -> Result<Vec<DrainedDisk>, FsError> {
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = parts.reader.read(move |rows| drained_disks(rows, after, WORK_PAGE)).await?;
        let Some(newest) = page.last() else { return Ok(all) };
        after = Some((newest.server, newest.disk));
        all.extend(page);
    }
}

/// Looks after the disks that are being emptied.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term) {
    for report in parts.servers.reports(parts.now()) {
        for (&disk, &draining) in &report.disk_drains {
            match report.disks.iter().find(|status| disk_id(status) == disk) {
                Some(status) => attend(&parts, term, &report, (disk, status)).await,
                None if is_taken_out(&report) => take_off(&parts, &report, disk, draining).await,
                None => {}
            }
        }
    }
}

async fn attend(parts: &Parts, term: Term, report: &ServerReport, (disk, status): (DiskId, &DiskStatus)) {
    let server = report.server;
    if parts.departures.is_news((server, disk), is_empty(status)) {
        tell_of(parts, (server, &status.path), DiskDrainStep::Ended, 0);
    }
    let nowhere = status.vacating.as_ref().map_or(0, |vacating| vacating.nowhere);
    let listed = match (nowhere, parts.servers.link(server)) {
        (0, _) | (_, None) => Ok(Vec::new()),
        (_, Some(link)) => {
            link.list_on_disk(term, (disk, true), VACATE_LISTED_MAX as u64, LIST_PATIENCE).await
        }
    };
    match listed {
        Ok(listed) => {
            let chunks: BTreeSet<ChunkId> = listed.iter().map(|held| ChunkId(held.chunk)).collect();
            if parts.departures.listed((server, disk), chunks.clone(), parts.now()) {
                parts.misplaced.note(chunks);
            }
        }
        Err(error) => warn!(%server, %disk, %error, "what must leave a disk is not known at present"),
    }
}

/// Whether the server runs, and knows every disk that it was started with.
fn is_taken_out(report: &ServerReport) -> bool {
    let is_known = |disk: &DiskStatus| disk_id(disk) != DiskId::default();
    report.connected && !report.disks.is_empty() && report.disks.iter().all(is_known)
}

async fn take_off(parts: &Parts, report: &ServerReport, disk: DiskId, draining: Draining) {
    let server = report.server;
    info!(%server, %disk, since = draining.since.seconds, "a disk that was being emptied is no more");
    match parts.sequencer.internal(Internal::DrainDisk { server, disk, replicas: None }).await {
        Ok(_) => {
            parts.servers.set_disk_draining(server, disk, None);
            parts.departures.listed((server, disk), BTreeSet::new(), parts.now());
            tell_of(parts, (server, &disk.to_string()), DiskDrainStep::TakenOut, 0);
        }
        Err(error) => warn!(%server, %disk, %error, "a disk could not be taken off the record"),
    }
}

fn tell_of(parts: &Parts, (server, disk): (ServerId, &str), step: DiskDrainStep, replicas: u64) {
    parts.events.note(&parts.env, Event::DiskDrain { server, disk: disk.to_owned(), step, replicas });
}

/// Nothing is left there, and the server says so knowing that it is to be emptied.
fn is_empty(status: &DiskStatus) -> bool {
    status.vacating.is_some() && status.replicas == 0 && status.state() != DiskState::DiskFailed
}

/// Does what an operator asks for, and tells how it stands then.
pub(crate) async fn drain(
    parts: &Parts,
    (server, disk): (ServerId, DiskId),
    verb: DrainVerb,
) -> Result<DrainReply, FsError> {
    let (report, status) = look(parts, server, disk)?;
    let held = status.as_ref().map_or(0, |status| status.replicas);
    let before = report.disk_drains.get(&disk).copied();
    match verb {
        DrainVerb::DrainStart if status.is_some() && before.is_none() => {
            change(parts, (server, disk), Some(held)).await?;
        }
        DrainVerb::DrainCancel if before.is_some() => change(parts, (server, disk), None).await?,
        _ => {}
    }
    let (report, status) = look(parts, server, disk)?;
    let path = status.as_ref().map_or_else(|| disk.to_string(), |status| status.path.clone());
    match (before, report.disk_drains.get(&disk)) {
        (None, Some(_)) => tell_of(parts, (server, &path), DiskDrainStep::Begun, held),
        (Some(_), None) => tell_of(parts, (server, &path), DiskDrainStep::Cancelled, held),
        _ => {}
    }
    tell(parts, &report, (disk, status)).await
}

/// The server, and the disk as it last told; refused when nobody knows of such a disk.
fn look(
    parts: &Parts,
    server: ServerId,
    disk: DiskId,
) -> Result<(ServerReport, Option<DiskStatus>), FsError> {
    let report = parts.servers.reports(parts.now()).into_iter().find(|report| report.server == server);
    let report = report.ok_or(FsError::NotFound)?;
    let status = report.disks.iter().find(|status| disk_id(status) == disk).cloned();
    let is_known = disk != DiskId::default() && (status.is_some() || report.disk_drains.contains_key(&disk));
    if is_known { Ok((report, status)) } else { Err(FsError::NotFound) }
}

async fn change(
    parts: &Parts,
    (server, disk): (ServerId, DiskId),
    replicas: Option<u64>,
) -> Result<(), FsError> {
    parts.sequencer.internal(Internal::DrainDisk { server, disk, replicas }).await?;
    let recorded = recorded(parts).await?;
    let record = recorded.iter().find(|found| (found.server, found.disk) == (server, disk));
    parts.servers.set_disk_draining(server, disk, record.map(|record| record.draining));
    parts.departures.listed((server, disk), BTreeSet::new(), parts.now());
    parts.departures.is_news((server, disk), false);
    parts.publish_view();
    parts.nudge();
    Ok(())
}

/// Where the replicas of a disk would go, or go.
#[derive(Default)]
struct Ways {
    targets: BTreeMap<ServerId, Target>,
    /// Neither has another disk room, nor another server.
    stuck: u64,
}

#[derive(Clone, Copy, Default)]
struct Target {
    replicas: u64,
    bytes: u64,
}

impl Ways {
    fn goes(&mut self, server: ServerId, bytes: u64) {
        let target = self.targets.entry(server).or_default();
        target.replicas += 1;
        target.bytes += bytes;
    }
}

async fn tell(
    parts: &Parts,
    report: &ServerReport,
    (disk, status): (DiskId, Option<DiskStatus>),
) -> Result<DrainReply, FsError> {
    let draining = report.disk_drains.get(&disk).copied();
    // A server that has not reached this leader yet has told of none.
    let is_gone = status.is_none() && report.connected;
    let status = status.unwrap_or_default();
    let vacating = status.vacating.unwrap_or_default();
    let ways = ways(parts, report, disk, draining.map(|_| vacating)).await?;
    let state = match draining {
        _ if is_gone || status.state() == DiskState::DiskFailed => "failed",
        None => "serving",
        Some(_) if is_empty(&status) => "empty",
        Some(_) => "draining",
    };
    let elapsed = draining.map_or(Duration::ZERO, |draining| {
        let seconds = parts.env.clock.wall().seconds.saturating_sub(draining.since.seconds);
        Duration::from_secs(seconds.max(0) as u64)
    });
    let targets = ways.targets.iter().map(|(server, target)| DrainTarget {
        server: server.get(),
        replicas: target.replicas,
        bytes: target.bytes,
    });
    Ok(DrainReply {
        server: report.server.get(),
        address: report.address.clone(),
        state: state.to_owned(),
        replicas_left: status.replicas,
        bytes_left: status.used_bytes,
        replicas_at_start: draining.map_or(0, |draining| draining.replicas),
        elapsed_ms: elapsed.as_millis() as u64,
        estimated_ms: estimate(&status, draining, elapsed).as_millis() as u64,
        stuck: ways.stuck,
        needed: status.replicas,
        targets: targets.collect(),
        connected: report.connected,
        disk: disk.0.as_bytes().to_vec().into(),
        path: status.path,
        damaged: vacating.damaged,
        waiting: vacating.waiting,
        elsewhere: vacating.nowhere,
    })
}

/// By how fast it went so far, and before it has gone at all by what a server gives to moving.
fn estimate(status: &DiskStatus, draining: Option<Draining>, elapsed: Duration) -> Duration {
    let moved = draining.map_or(0, |draining| draining.replicas.saturating_sub(status.replicas));
    if moved == 0 || elapsed.is_zero() {
        return Duration::from_secs(status.used_bytes / MOVE_BYTES_PER_SECOND);
    }
    let millis = u128::from(status.replicas) * elapsed.as_millis() / u128::from(moved);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// While it is being emptied the server has said what it has no room for; before, that is guessed from what is free there.
async fn ways(
    parts: &Parts,
    report: &ServerReport,
    disk: DiskId,
    vacating: Option<Vacating>,
) -> Result<Ways, FsError> {
    let mut ways = Ways::default();
    let (Some(term), Some(link)) = (parts.term(), parts.servers.link(report.server)) else { return Ok(ways) };
    // How many replicas there are is older than what the server lists now.
    if vacating.is_some_and(|vacating| vacating.nowhere == 0) {
        return Ok(ways);
    }
    let asked = (disk, vacating.is_some());
    let held = link.list_on_disk(term, asked, DRAIN_REPLICAS_WEIGHED / 2, LIST_PATIENCE).await;
    let held = held.map_err(|error| FsError::Unavailable(format!("{}: {error}", report.server)))?;
    let mut room = if vacating.is_some() { 0 } else { room_beside(report, disk) };
    let mut elsewhere = Vec::new();
    for replica in held {
        if replica.bytes <= room {
            room -= replica.bytes;
            ways.goes(report.server, replica.bytes);
        } else {
            elsewhere.push(replica);
        }
    }
    for page in elsewhere.chunks(WORK_PAGE) {
        plan_page(parts, report.server, page, &mut ways).await?;
    }
    Ok(ways)
}

/// Bytes that the other disks of the server take: each keeps room for one replica.
fn room_beside(report: &ServerReport, disk: DiskId) -> u64 {
    let takes = |other: &&DiskStatus| {
        let is_other = disk_id(other) != disk && report.drains(other).is_none();
        is_other && matches!(other.state(), DiskState::DiskHealthy | DiskState::DiskSlow)
    };
    let room = report.disks.iter().filter(takes).map(|other| other.free_bytes.saturating_sub(CHUNK_BYTES));
    room.fold(0, u64::saturating_add)
}

/// What would become of these if they had to go to other servers.
async fn plan_page(
    parts: &Parts,
    server: ServerId,
    page: &[HeldReplica],
    ways: &mut Ways,
) -> Result<(), FsError> {
    let view = parts.servers.view(parts.now());
    let policies = policies::current(parts).await?;
    let bytes: BTreeMap<ChunkId, u64> =
        page.iter().map(|replica| (ChunkId(replica.chunk), replica.bytes)).collect();
    let asked: Vec<ChunkId> = bytes.keys().copied().collect();
    let leaving = [server];
    let records = parts.reader.read(move |rows| chunks_named(rows, &asked)).await?;
    // Of those that nobody counts on nothing becomes.
    for record in records.iter().filter(|record: &&ChunkRecord| record.servers.contains(&server)) {
        let bad = parts.damage.bad_at(record.chunk, &record.servers);
        let replicas = policies::replicas(record, (&bad, &leaving), &policies);
        let entropy = record.chunk.get().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match plan(&view, &Busy::default(), replicas, &[], entropy) {
            Verdict::Repair(repair) => {
                let size = bytes.get(&record.chunk).copied().unwrap_or(0);
                repair.targets.iter().for_each(|&target| ways.goes(target, size));
            }
            Verdict::Stuck => ways.stuck += 1,
            Verdict::Wait | Verdict::Busy => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(number: u128) -> DiskId {
        DiskId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_replica_leaves_only_where_it_is_listed() {
        let departures = Departures::default();
        let of = |chunks: &[u64]| chunks.iter().copied().map(ChunkId).collect::<BTreeSet<_>>();
        let at = |seconds| Tick(Duration::from_secs(seconds));
        assert!(departures.listed((ServerId(1), disk(1)), of(&[3, 4]), at(1)));
        assert!(departures.listed((ServerId(2), disk(2)), of(&[4]), at(1)));
        assert!(!departures.listed((ServerId(2), disk(2)), of(&[4]), at(5)), "nothing has changed");
        assert!(departures.listed((ServerId(2), disk(2)), of(&[4]), at(12)), "perhaps there is room by now");
        let leaving = |chunk, set: &[u32]| {
            let set: Vec<ServerId> = set.iter().copied().map(ServerId).collect();
            departures.leaving(ChunkId(chunk), &set).iter().map(|server| server.get()).collect::<Vec<_>>()
        };
        assert_eq!((leaving(3, &[1, 2, 3]), leaving(4, &[1, 2])), (vec![1], vec![1, 2]));
        assert_eq!((leaving(4, &[2, 3]), leaving(5, &[1, 2])), (vec![2], vec![]));
        assert!(!departures.listed((ServerId(1), disk(1)), of(&[]), at(13)));
        assert_eq!(leaving(4, &[1, 2]), [2]);
        departures.begin_anew();
        assert_eq!(leaving(4, &[1, 2]), [0; 0]);
    }

    #[test]
    fn an_empty_disk_is_news_once() {
        let departures = Departures::default();
        let one = (ServerId(1), disk(1));
        assert!(!departures.is_news(one, false));
        assert!(departures.is_news(one, true) && !departures.is_news(one, true));
        assert!(!departures.is_news(one, false));
        assert!(departures.is_news(one, true));
    }

    #[test]
    fn only_a_server_that_knows_all_its_disks_has_had_one_taken_out() {
        let report = |connected, disks: &[DiskId]| ServerReport {
            server: ServerId(1),
            node: Default::default(),
            address: String::new(),
            health: cairn_core::cluster::ServerHealth::Alive,
            silent: None,
            connected,
            disks: disks
                .iter()
                .map(|id| DiskStatus { disk: id.0.as_bytes().to_vec().into(), ..Default::default() })
                .collect(),
            draining: None,
            labels: Arc::default(),
            disk_drains: BTreeMap::new(),
        };
        assert!(is_taken_out(&report(true, &[disk(1)])));
        assert!(!is_taken_out(&report(true, &[disk(1), DiskId::default()])), "one could not be opened");
        assert!(!is_taken_out(&report(true, &[])) && !is_taken_out(&report(false, &[disk(1)])));
    }
}
