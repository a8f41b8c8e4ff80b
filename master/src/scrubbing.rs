//! `admin scrub`: what chunk servers are told about scrubbing, and where that stands. Nothing of it is kept here: each server
//! remembers what it was told, and its heartbeats tell how far it is.

use crate::parts::Parts;
use crate::servers::ServerReport;
use cairn_core::cluster::ServerHealth;
use cairn_core::ids::Term;
use cairn_core::limits::SCRUB_COMMAND_PATIENCE;
use cairn_proto::v1::{
    DiskStatus, ScrubAction, ScrubRefusal, ScrubReply, ScrubRequest, ScrubState, ScrubbedDisk,
};
use std::time::Duration;
use tonic::Status;

/// Does what is asked on every server, or on one, and shows all of these.
///
/// # Errors
/// This master does not lead, or knows no such server.
pub(crate) async fn scrub(parts: &Parts, request: ScrubRequest) -> Result<ScrubReply, Status> {
    let address = &parts.address;
    let Some(term) = parts.term() else {
        return Err(Status::unavailable(format!("master {address} does not lead: ask the others")));
    };
    let chosen = || {
        let reports = parts.servers.reports(parts.now()).into_iter();
        reports.filter(|report| request.server == 0 || report.server.get() == request.server)
    };
    if request.server != 0 && chosen().next().is_none() {
        let server = request.server;
        return Err(Status::invalid_argument(format!(
            "master {address}: there is no chunk server {server}: see `cairn admin servers`"
        )));
    }
    let action = request.action();
    let refused = match action {
        ScrubAction::ScrubNothing => Vec::new(),
        _ => {
            let told = chosen().map(|report| tell(parts, term, report, (action, request.limit)));
            futures::future::join_all(told).await.into_iter().flatten().collect()
        }
    };
    Ok(ScrubReply { disks: chosen().flat_map(disks).collect(), refused })
}

async fn tell(
    parts: &Parts,
    term: Term,
    report: ServerReport,
    act: (ScrubAction, Option<u64>),
) -> Option<ScrubRefusal> {
    let told = match parts.servers.link(report.server) {
        Some(link) => link.scrub(term, act, SCRUB_COMMAND_PATIENCE).await.map_err(|error| error.to_string()),
        None => Err("it is not connected".to_owned()),
    };
    told.err().map(|reason| ScrubRefusal { server: report.server.get(), reason })
}

fn disks(report: ServerReport) -> impl Iterator<Item = ScrubbedDisk> {
    let server = report.server.get();
    report.disks.into_iter().map(move |disk| ScrubbedDisk {
        server,
        disk: disk.disk,
        path: disk.path,
        used_bytes: disk.used_bytes,
        scrub: disk.scrub,
    })
}

fn reachable(parts: &Parts) -> impl Iterator<Item = DiskStatus> {
    let reports = parts.servers.reports(parts.now()).into_iter();
    reports.filter(|report| report.health != ServerHealth::Dead).flat_map(|report| report.disks)
}

/// Age of the oldest byte on any disk that was not verified since; of dead servers nothing counts any more.
pub(crate) fn oldest_unverified(parts: &Parts) -> Duration {
    let ages = reachable(parts).filter_map(|disk| disk.scrub).map(|scrub| scrub.oldest_unverified_ms);
    Duration::from_millis(ages.max().unwrap_or(0))
}

/// What an operator should know.
pub(crate) fn warning(parts: &Parts) -> Option<String> {
    let is_paused =
        |disk: &DiskStatus| disk.scrub.is_some_and(|scrub| scrub.state() == ScrubState::ScrubPaused);
    let paused = reachable(parts).filter(is_paused).count();
    (paused > 0).then(|| {
        format!(
            "scrubbing is paused on {paused} disks, damage at rest is not found: `cairn admin scrub resume`"
        )
    })
}
