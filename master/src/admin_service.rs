//! The gRPC service of operators: rare unary calls, and one stream of pages.

use crate::backup::Shown;
use crate::capacity_page;
use crate::damage::Report;
use crate::driven::Driven;
use crate::event_pages;
use crate::fsck_pages;
use crate::hello::printable;
use crate::moving::{disk_drain, drain, rebalance, whatif};
use crate::parts::Parts;
use crate::placement_pages;
use crate::policy_pages;
use crate::redundancy;
use crate::scrubbing;
use crate::sequencer::GroupRefusal;
use crate::servers::ServerReport;
use crate::slow;
use crate::why;
use cairn_core::address::host_port;
use cairn_core::cluster::ServerHealth;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, DiskId, LogIndex, ServerId};
use cairn_core::journal::members::Member;
use cairn_core::journal::membership::MemberChange;
use cairn_core::limits::{ADMIN_COUNT_MAX, ADMIN_PAGES_QUEUED, HAND_OVER_PATIENCE, WORK_PAGE};
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{deletions, replicas_on, totals};
use cairn_proto::v1::admin_server::Admin;
use cairn_proto::v1::change_masters_request::Change;
use cairn_proto::v1::{
    BackupStatus, CapacityReply, CapacityRequest, ChangeMastersReply, ChangeMastersRequest, ChunksReply,
    ChunksRequest, CorruptionReport, CreateBackupReply, CreateBackupRequest, DiskDrainStatus, DiskState,
    DiskStatus, DrainReply, DrainRequest, EventsReply, EventsRequest, FsckReply, FsckRequest, MasterStatus,
    MastersReply, MastersRequest, PlaceOfMaster, PolicyReply, PolicyRequest, RebalanceReply,
    RebalanceRequest, RemoveServerReply, RemoveServerRequest, ScrubReply, ScrubRequest, ServerDisk,
    ServerStatus, ServersReply, ServersRequest, SlowReply, SlowRequest, StatusReply, StatusRequest,
    TransferLeaderReply, TransferLeaderRequest, WhatIfReply, WhatIfRequest, WhyReply, WhyRequest,
};
use futures::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response, Status};

/// Serves operators.
pub(crate) struct AdminService {
    pub(crate) parts: Arc<Parts>,
    /// One examination of the state at a time: it holds a snapshot, and reads as fast as the disk can.
    pub(crate) examining: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Admin for AdminService {
    type ChunksStream = Driven<Result<ChunksReply, Status>>;
    type FsckStream = Driven<Result<FsckReply, Status>>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        status(&self.parts).await.map(Response::new).map_err(|error| to_status(&self.parts, &error))
    }

    async fn masters(&self, _: Request<MastersRequest>) -> Result<Response<MastersReply>, Status> {
        Ok(Response::new(MastersReply {
            masters: masters(&self.parts),
            answered_by: self.parts.config.node_id,
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let to = Some(request.into_inner().to).filter(|to| *to != 0);
        let (parts, address) = (&self.parts, &self.parts.address);
        if parts.term().is_none() {
            return Err(to_status(parts, &FsError::NotLeader));
        }
        if to == Some(parts.config.node_id) {
            return Ok(Response::new(TransferLeaderReply {}));
        }
        if let Some(to) = to
            && parts.sequencer.members().get(to).is_none()
        {
            let message = format!("master {address}: there is no master {to}: see `cairn admin masters`");
            return Err(Status::invalid_argument(message));
        }
        match parts.sequencer.hand_over(to, HAND_OVER_PATIENCE).await {
            true => Ok(Response::new(TransferLeaderReply {})),
            false => Err(Status::unavailable(format!(
                "master {address}: nobody has taken the lead over: the other must be there and caught up, see `cairn \
                 admin masters`"
            ))),
        }
    }

    async fn change_masters(
        &self,
        request: Request<ChangeMastersRequest>,
    ) -> Result<Response<ChangeMastersReply>, Status> {
        let (parts, address) = (&self.parts, &self.parts.address);
        let invalid = |message: String| Status::invalid_argument(format!("master {address}: {message}"));
        let change = match request.into_inner().change {
            Some(Change::Add(PlaceOfMaster { id, address })) if host_port(&address).is_some() => {
                MemberChange::Add { id, address }
            }
            Some(Change::Replace(PlaceOfMaster { id, address })) if address.is_empty() => {
                MemberChange::Replace { id, address: None }
            }
            Some(Change::Replace(PlaceOfMaster { id, address })) if host_port(&address).is_some() => {
                MemberChange::Replace { id, address: Some(address) }
            }
            Some(Change::Remove(id)) => MemberChange::Remove { id },
            Some(Change::Add(place) | Change::Replace(place)) => {
                return Err(invalid(format!("\"{}\" is not host:port", printable(&place.address))));
            }
            None => return Err(invalid("no change is named".to_owned())),
        };
        if parts.term().is_none() {
            return Err(to_status(parts, &FsError::NotLeader));
        }
        match parts.sequencer.change(change).await {
            Ok(()) => Ok(Response::new(ChangeMastersReply {})),
            Err(GroupRefusal::NotLeader) => Err(to_status(parts, &FsError::NotLeader)),
            Err(error @ GroupRefusal::Rules(_)) => Err(invalid(error.to_string())),
            Err(error) => Err(Status::unavailable(format!("master {address}: {error}"))),
        }
    }

    async fn create_backup(
        &self,
        _: Request<CreateBackupRequest>,
    ) -> Result<Response<CreateBackupReply>, Status> {
        let parts = &self.parts;
        if parts.term().is_none() {
            return Err(to_status(parts, &FsError::NotLeader));
        }
        let made = parts.backup.create().await;
        let made = made.map_err(|reason| Status::unavailable(format!("master {}: {reason}", parts.address)));
        let destination = parts.config.backup.clone();
        Ok(Response::new(CreateBackupReply { index: made?.get(), destination }))
    }

    async fn servers(&self, _: Request<ServersRequest>) -> Result<Response<ServersReply>, Status> {
        let mut servers = Vec::new();
        for report in self.parts.servers.reports(self.parts.now()) {
            let chunks = count_chunks(&self.parts, report.server).await;
            servers.push(server_status(report, chunks.map_err(|error| to_status(&self.parts, &error))?));
        }
        Ok(Response::new(ServersReply { servers }))
    }

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<ScrubReply>, Status> {
        scrubbing::scrub(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<EventsReply>, Status> {
        let answer = event_pages::page(&self.parts, &request.into_inner());
        answer.map(Response::new).map_err(|error| to_status(&self.parts, &error))
    }

    async fn slow(&self, request: Request<SlowRequest>) -> Result<Response<SlowReply>, Status> {
        let answer = slow::page(&self.parts, &request.into_inner());
        answer.map(Response::new).map_err(|error| to_status(&self.parts, &error))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyReply>, Status> {
        let answer = why::answer(&self.parts, &request.into_inner().path).await;
        answer.map(Response::new).map_err(|error| to_status(&self.parts, &error))
    }

    async fn capacity(&self, _: Request<CapacityRequest>) -> Result<Response<CapacityReply>, Status> {
        let answer = capacity_page::page(&self.parts).await;
        answer.map(Response::new).map_err(|error| to_status(&self.parts, &error))
    }

    async fn policy(&self, request: Request<PolicyRequest>) -> Result<Response<PolicyReply>, Status> {
        policy_pages::answer(&self.parts, request.into_inner()).await.map(Response::new)
    }

    async fn chunks(&self, request: Request<ChunksRequest>) -> Result<Response<Self::ChunksStream>, Status> {
        let path = request.into_inner().path;
        let (pages, out) = mpsc::channel(ADMIN_PAGES_QUEUED);
        let parts = self.parts.clone();
        let work = async move {
            if let Err(error) = placement_pages::send(&parts, &path, &pages).await {
                // The receiver may be gone: then nobody asks any more.
                drop(pages.send(Err(to_status(&parts, &error))).await);
            }
        };
        Ok(Response::new(Driven::new(work.boxed(), out)))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let request = request.into_inner();
        let (parts, server, verb) = (&self.parts, ServerId(request.server), request.verb());
        let asked = match uuid::Uuid::from_slice(&request.disk) {
            Ok(disk) => disk_drain::drain(parts, (server, DiskId(disk)), verb).await,
            Err(_) if request.disk.is_empty() => drain::drain(parts, server, verb).await,
            Err(_) => Err(FsError::NotFound),
        };
        asked.map(Response::new).map_err(|error| drain::refusal(parts, &error))
    }

    async fn rebalance(
        &self,
        request: Request<RebalanceRequest>,
    ) -> Result<Response<RebalanceReply>, Status> {
        let asked = rebalance::answer(&self.parts, request.into_inner()).await;
        asked.map(Response::new).map_err(|error| rebalance::refusal(&self.parts, &error))
    }

    async fn what_if(&self, request: Request<WhatIfRequest>) -> Result<Response<WhatIfReply>, Status> {
        let asked = whatif::lose(&self.parts, &request.into_inner().lose).await;
        asked.map(Response::new).map_err(|error| drain::refusal(&self.parts, &error))
    }

    async fn remove_server(
        &self,
        request: Request<RemoveServerRequest>,
    ) -> Result<Response<RemoveServerReply>, Status> {
        let removed = drain::remove(&self.parts, ServerId(request.into_inner().server)).await;
        removed
            .map(|()| Response::new(RemoveServerReply {}))
            .map_err(|error| drain::refusal(&self.parts, &error))
    }

    async fn fsck(&self, _: Request<FsckRequest>) -> Result<Response<Self::FsckStream>, Status> {
        let Ok(turn) = self.examining.clone().try_acquire_owned() else {
            let address = &self.parts.address;
            let message =
                format!("master {address} is examining its state already: wait for that, then ask again");
            return Err(Status::resource_exhausted(message));
        };
        let (pages, out) = mpsc::channel(ADMIN_PAGES_QUEUED);
        let parts = self.parts.clone();
        let work = async move {
            if let Err(error) = fsck_pages::send(&parts, turn, &pages).await {
                // The receiver may be gone: then nobody asks any more.
                drop(pages.send(Err(to_status(&parts, &error))).await);
            }
        };
        Ok(Response::new(Driven::new(work.boxed(), out)))
    }
}

/// The group: exact for this member, of the others what a leader knows.
fn masters(parts: &Parts) -> Vec<MasterStatus> {
    let group = parts.sequencer.group();
    let group = group.borrow();
    let leads = parts.term().is_some();
    let status = |member: &Member| {
        let this = member.id == parts.config.node_id;
        let follower = group.followers.iter().find(|follower| follower.id == member.id);
        let state = match follower {
            _ if member.is_awaited() => "awaited",
            _ if this && leads => "leader",
            _ if this && group.leader == 0 => "candidate",
            _ if this && group.is_caught_up() => "follower",
            _ if this => "catching up",
            Some(follower) if !follower.active => "down",
            Some(follower) if follower.learner => "learner",
            Some(follower) if follower.matched < group.applied => "catching up",
            Some(_) => "follower",
            // Its place is kept, and it has not been taken in again.
            None if leads => "awaited",
            None if member.id == group.leader => "leader",
            None if parts.peers.reaches(member.id) => "reachable",
            None => "unreachable",
        };
        MasterStatus {
            id: member.id,
            address: if this { parts.address.clone() } else { member.address.clone() },
            leader: if this { leads } else { member.id == group.leader },
            state: state.to_owned(),
            term: if this || follower.is_some() { group.term.get() } else { 0 },
            commit_index: if this { group.told_commit.get() } else { 0 },
            applied_index: if this { group.applied.get() } else { 0 },
            durable_index: follower
                .map_or(if this { group.applied.get() } else { 0 }, |follower| follower.matched.get()),
        }
    };
    parts.sequencer.members().iter().map(status).collect()
}

async fn status(parts: &Arc<Parts>) -> Result<StatusReply, FsError> {
    let totals = parts.reader.read(totals).await?;
    let reports = parts.servers.reports(parts.now());
    let alive = reports.iter().filter(|server| server.health == ServerHealth::Alive).count();
    let view = parts.servers.view(parts.now());
    let damage = parts.damage.counts();
    let term = parts.term();
    let metrics = parts.sequencer.metrics();
    let backup = parts.backup.shown(parts.now());
    let (repairs_waiting, repairs_under_way) = parts.repairs.counts();
    let copies = redundancy::copies(parts).await?;
    let policies = policy_pages::records(parts).await?;
    let reply = StatusReply {
        cluster: parts.cluster.0.as_bytes().to_vec().into(),
        leader: if term.is_some() { parts.address.clone() } else { String::new() },
        term: term.map_or(0, cairn_core::ids::Term::get),
        commit_index: metrics.commit_index.load(Ordering::Relaxed),
        applied_index: metrics.applied_index.load(Ordering::Relaxed),
        inodes: totals.inodes,
        chunks: totals.chunks,
        total_bytes: view.servers.values().map(|server| server.total_bytes).fold(0, u64::saturating_add),
        free_bytes: view.servers.values().map(|server| server.free_bytes).fold(0, u64::saturating_add),
        servers_alive: alive as u32,
        servers_known: reports.len() as u32,
        sessions: parts.sessions.len() as u32,
        default_replicas: policies.first().map_or(0, |policy| u32::from(policy.says.replicas)),
        corrupt_blocks_found: damage.blocks_found,
        corrupt_replicas: damage.corrupt,
        pending_deletions: pending_deletions(parts).await?,
        pending_reconciliations: redundancy::pending_reconciliations(parts).await?,
        warnings: Vec::new(),
        recent_corruption: parts.damage.recent().into_iter().map(corruption_report).collect(),
        backup: Some(backup_status(&backup)),
        short_chunks: redundancy::short_sets(parts).await?,
        replicas_on_dead: replicas_on_dead(parts, &reports).await?,
        repairs_waiting,
        repairs_under_way,
        server_states: redundancy::states(reports.iter().map(|report| report.health.name())),
        disk_states: redundancy::states(
            reports.iter().flat_map(|report| &report.disks).map(|disk| disk_state(disk.state())),
        ),
        master_states: redundancy::states(masters(parts).iter().map(|master| master.state.as_str())),
        chunks_whole: totals.chunks.saturating_sub(copies.short),
        chunks_short: copies.rows(),
        copies_exact: copies.exact,
        disk_drains: reports.iter().flat_map(disk_drains).collect(),
    };
    let mut warnings = warnings(parts, &reply, &reports);
    warnings.extend(backup.warning());
    warnings.extend(scrubbing::warning(parts));
    warnings.extend(policy_pages::warnings(&view, &policies));
    if copies.lost() > 0 {
        let lost = copies.lost();
        warnings.push(format!(
            "{lost} chunks have no good copy at present and cannot be read: start the missing chunk servers, see `cairn \
             admin servers` and `cairn admin chunks /`"
        ));
    }
    Ok(StatusReply { warnings, ..reply })
}

fn warnings(parts: &Parts, status: &StatusReply, reports: &[ServerReport]) -> Vec<String> {
    let mut warnings = Vec::new();
    let (alive, replicas) = (status.servers_alive, status.default_replicas);
    if alive < replicas {
        warnings.push(format!(
            "only {alive} chunk servers are alive, new files want {replicas} copies: see `cairn admin servers` and \
             start the missing ones"
        ));
    }
    if replicas == 2 {
        warnings.push(
            "two copies: a write is acknowledged with one while a server is down; for more safety `cairn admin \
             policy change default --replicas 3`"
                .to_owned(),
        );
    }
    warnings.extend(reports.iter().flat_map(disk_warnings));
    if status.short_chunks + status.replicas_on_dead > 0 {
        warnings.push(redundancy_warning(status));
    }
    if status.corrupt_replicas > 0 {
        warnings.push(format!(
            "{} replicas are corrupt and read from elsewhere: `cairn admin chunks /` shows which",
            status.corrupt_replicas
        ));
    }
    let absent = parts.damage.counts().absent;
    if absent > 0 {
        warnings.push(format!(
            "{absent} replicas are missing or stale at their servers: `cairn admin chunks /` shows which"
        ));
    }
    if parts.sequencer.metrics().disk_low.load(Ordering::Relaxed) != 0 {
        let path = parts.config.data_dir.display();
        warnings.push(format!(
            "the master's disk below {path} is nearly full: make room, or no file can be created; `cairn admin \
             masters` shows who could lead instead"
        ));
    }
    warnings
}

fn disk_warnings(report: &ServerReport) -> Vec<String> {
    let server = report.server;
    let warning = |disk: &DiskStatus| {
        let (path, detail) = (&disk.path, &disk.detail);
        match disk.state() {
            DiskState::DiskFailed => Some(format!(
                "disk {path} of {server} has failed: {detail}; what it held is made anew elsewhere; replace it and \
                 restart the server"
            )),
            DiskState::DiskSlow => Some(format!(
                "disk {path} of {server} is slow: {detail}; it is read only where nobody else can serve and gets no \
                 new replicas; look at it with `smartctl` or `iostat -x` there"
            )),
            _ => None,
        }
    };
    report.disks.iter().filter_map(warning).collect()
}

/// Disks of a server that are being emptied.
fn disk_drains(report: &ServerReport) -> Vec<DiskDrainStatus> {
    let status = |disk: &DiskStatus| {
        Some(DiskDrainStatus {
            server: report.server.get(),
            disk: disk.disk.clone(),
            path: disk.path.clone(),
            replicas_left: disk.replicas,
            replicas_at_start: report.drains(disk)?.replicas,
        })
    };
    report.disks.iter().filter_map(status).collect()
}

fn redundancy_warning(status: &StatusReply) -> String {
    let (short, dead) = (status.short_chunks, status.replicas_on_dead);
    let (waiting, under_way) = (status.repairs_waiting, status.repairs_under_way);
    let work = match waiting + under_way {
        0 => "nothing can be repaired at present: start the missing chunk servers, or add one with room"
            .to_owned(),
        _ => format!("{under_way} are being repaired and {waiting} wait: see `cairn admin servers`"),
    };
    format!("{short} chunks have too few copies, and {dead} copies are on dead chunk servers; {work}")
}

fn backup_status(backup: &Shown) -> BackupStatus {
    let (image_index, image_seconds) =
        backup.image.map_or((0, 0), |(index, time)| (index.get(), time.seconds));
    BackupStatus {
        destination: backup.url.clone(),
        image_index,
        image_seconds,
        image_runs: backup.image_runs,
        shipped_index: backup.shipped.map_or(0, LogIndex::get),
        restorable: backup.age.is_some(),
        age_ms: backup.unsafe_for.as_millis() as u64,
        failure: backup.failure.clone(),
        gaps: backup.gaps,
    }
}

fn corruption_report(report: Report) -> CorruptionReport {
    CorruptionReport {
        chunk: report.chunk.get(),
        server: report.server.get(),
        detail: report.detail,
        seconds: report.when.seconds,
    }
}

/// Counts rows page by page; `page` yields how many rows one page has, and where the next begins, if there is one.
async fn count<C, F, Fut>(start: C, page: F) -> Result<u64, FsError>
where
    F: Fn(C) -> Fut,
    Fut: Future<Output = Result<(usize, Option<C>), FsError>>,
{
    let (mut sum, mut at) = (0, start);
    while sum < ADMIN_COUNT_MAX {
        let (rows, next) = page(at).await?;
        sum += rows as u64;
        match next {
            Some(next) if rows == WORK_PAGE => at = next,
            _ => break,
        }
    }
    Ok(sum)
}

/// Replicas that wait to be deleted.
pub(crate) async fn pending_deletions(parts: &Parts) -> Result<u64, FsError> {
    count(None, |after| async move {
        let page = parts.reader.read(move |rows| deletions(rows, after, WORK_PAGE)).await?;
        Ok((page.len(), page.last().map(|newest| Some((newest.server, newest.chunk)))))
    })
    .await
}

async fn replicas_on_dead(parts: &Parts, reports: &[ServerReport]) -> Result<u64, FsError> {
    let mut sum = 0;
    for report in reports.iter().filter(|report| report.health == ServerHealth::Dead) {
        sum += count_chunks(parts, report.server).await?;
    }
    Ok(sum)
}

async fn count_chunks(parts: &Parts, server: ServerId) -> Result<u64, FsError> {
    count(ChunkId(0), |from| async move {
        let read = move |rows: &dyn Rows| replicas_on(rows, server, from, ChunkId(u64::MAX), WORK_PAGE);
        let page = parts.reader.read(read).await?;
        Ok((page.len(), page.last().map(|(newest, _)| ChunkId(newest.get() + 1))))
    })
    .await
}

fn server_status(report: ServerReport, chunks: u64) -> ServerStatus {
    let disks = report.disks.iter().map(|disk| server_disk(disk, report.drains(disk).is_some())).collect();
    ServerStatus {
        server: report.server.get(),
        node: report.node.0.as_bytes().to_vec().into(),
        address: report.address,
        state: report.health.name().to_owned(),
        silent_ms: report.silent.map_or(u64::MAX, |silent| silent.as_millis() as u64),
        disks,
        chunks,
        draining: report.draining.is_some(),
        labels: report.labels.texts().collect(),
    }
}

/// What operators read.
pub(crate) fn disk_state(state: DiskState) -> &'static str {
    match state {
        DiskState::DiskHealthy => "healthy",
        DiskState::DiskFull => "full",
        DiskState::DiskFailed => "failed",
        DiskState::DiskSlow => "slow",
        DiskState::DiskUnspecified => "unknown",
    }
}

fn server_disk(disk: &DiskStatus, draining: bool) -> ServerDisk {
    let disk = disk.clone();
    ServerDisk {
        draining,
        state: disk_state(disk.state()).to_owned(),
        disk: disk.disk,
        path: disk.path,
        total_bytes: disk.total_bytes,
        free_bytes: disk.free_bytes,
        used_bytes: disk.used_bytes,
        replicas: disk.replicas,
        read_us: disk.read_us,
        sync_us: disk.sync_us,
        detail: disk.detail,
    }
}

/// An error for the operator: names the master and the next step.
pub(crate) fn to_status(parts: &Parts, error: &FsError) -> Status {
    let address = &parts.address;
    match error {
        FsError::NotLeader => Status::unavailable(format!("master {address} does not lead: ask the others")),
        FsError::NotFound => Status::not_found(format!("master {address}: no such file or directory")),
        FsError::NotDirectory | FsError::InvalidArgument | FsError::NameTooLong => {
            Status::invalid_argument(format!("master {address}: {error}"))
        }
        other => Status::internal(format!("master {address}: {other}; see its log")),
    }
}
