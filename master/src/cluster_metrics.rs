//! What a leader shows of its cluster at `/metrics`, and every master of its answers: what has labels.

use crate::admin_service::disk_state;
use crate::parts::Parts;
use crate::servers::ServerReport;
use cairn_env::metrics::{gauge, gauges, histogram, histograms};
use cairn_proto::v1::DiskStatus;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;

const SERVER_STATES: [&str; 4] = ["alive", "suspect", "down", "dead"];
const DISK_STATES: [&str; 3] = ["healthy", "full", "failed"];
/// Numbers of good copies that have a series even when no chunk has so few, so that an alert does not wait for the first.
const COPIES_SHOWN: u32 = 3;

type Figure = fn(&DiskStatus) -> u64;

/// Everything with labels.
pub(crate) fn encode(encoder: &mut DescriptorEncoder<'_>, parts: &Parts) -> fmt::Result {
    let help = "Time from reading an operation of a client to its answer, by kind";
    histograms(encoder, "operation_seconds", help, parts.latencies.operations())?;
    let help = "Time from reading a question of a client to its answer, by kind";
    histograms(encoder, "question_seconds", help, parts.latencies.questions())?;
    let journal = parts.sequencer.metrics().journal_spans.counts();
    histogram(encoder, "journal_batch_seconds", "Time to write and sync one batch of the journal", &journal)?;
    if parts.term().is_none() {
        return Ok(());
    }
    let reports = parts.servers.reports(parts.now());
    servers(encoder, &reports)?;
    disks(encoder, &reports)?;
    counts(encoder, parts)
}

fn servers(encoder: &mut DescriptorEncoder<'_>, reports: &[ServerReport]) -> fmt::Result {
    let of_server = |report: &ServerReport, state: &str| {
        let labels = [("server", report.server.to_string()), ("state", state.to_owned())];
        (labels, u64::from(report.health.name() == state))
    };
    let states = reports.iter().flat_map(|report| SERVER_STATES.map(|state| of_server(report, state)));
    gauges(encoder, "server_state", "1 for the state that the chunk server is in", states)?;
    let silent = reports.iter().filter_map(|report| {
        Some(([("server", report.server.to_string())], report.silent?.as_millis() as u64))
    });
    gauges(encoder, "server_silent_milliseconds", "Time since the chunk server was heard", silent)
}

fn disks(encoder: &mut DescriptorEncoder<'_>, reports: &[ServerReport]) -> fmt::Result {
    let all = || reports.iter().flat_map(|report| report.disks.iter().map(move |disk| (report, disk)));
    let labels = |(report, disk): &(&ServerReport, &DiskStatus)| {
        [("server", report.server.to_string()), ("disk", disk.path.clone())]
    };
    let figures: [(&str, &str, Figure); 4] = [
        ("disk_total_bytes", "Capacity of the disk", |disk| disk.total_bytes),
        ("disk_free_bytes", "Room for new data on the disk", |disk| disk.free_bytes),
        ("disk_used_bytes", "Bytes of replicas on the disk", |disk| disk.used_bytes),
        ("disk_replicas", "Replicas on the disk", |disk| disk.replicas),
    ];
    for (name, help, figure) in figures {
        gauges(encoder, name, help, all().map(|of| (labels(&of), figure(of.1))))?;
    }
    let draining = all().map(|of| (labels(&of), u64::from(of.0.drains(of.1).is_some())));
    gauges(encoder, "disk_draining", "1 while the disk is being emptied", draining)?;
    let of_disk = |of: &(&ServerReport, &DiskStatus), state: &str| {
        let [server, disk] = labels(of);
        ([server, disk, ("state", state.to_owned())], u64::from(disk_state(of.1.state()) == state))
    };
    let states = all().flat_map(|of| DISK_STATES.map(|state| of_disk(&of, state)));
    gauges(encoder, "disk_state", "1 for the state that the disk is in", states)
}

fn counts(encoder: &mut DescriptorEncoder<'_>, parts: &Parts) -> fmt::Result {
    let counted = parts.counts.latest();
    let figures = [
        ("inodes", "Inodes in use", counted.totals.inodes),
        ("chunks", "Chunks in the state", counted.totals.chunks),
        ("deletions_pending", "Replicas that wait to be deleted", counted.deletions),
        (
            "reconciliations_pending",
            "Chunks whose replicas wait to be made equal after their writer",
            counted.reconciliations,
        ),
    ];
    for (name, help, value) in figures {
        gauge(encoder, name, help, value)?;
    }
    let short = (0..COPIES_SHOWN.max(counted.copies.most() + 1))
        .map(|copies| ([("copies", copies.to_string())], counted.copies.with(copies)));
    let help = "Chunks with fewer good copies than they are to have, by the number of good ones";
    gauges(encoder, "chunks_short", help, short)
}
