//! What would become of the chunks if chunk servers were lost.

use crate::parts::Parts;
use cairn_core::cluster::repair::Replicas;
use cairn_core::cluster::{ClusterView, Labels, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId};
use cairn_core::limits::{ADMIN_COUNT_MAX, REPAIR_BYTES_PER_SECOND, REPLICAS_MAX, WORK_PAGE};
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{ChunkRecord, chunks_named, replicas_on};
use cairn_proto::v1::{DiskState, WhatIfReply};
use std::collections::BTreeSet;

/// What a loss of servers comes to.
#[derive(Default)]
struct Loss {
    chunks: u64,
    replicas: u64,
    by_copies: [u64; REPLICAS_MAX + 1],
    below_minimum: u64,
    cannot_be_whole: u64,
}

/// Whoever `target` names: a server by its number, or all with the label `key=value`.
fn named(view: &ClusterView, target: &str) -> BTreeSet<ServerId> {
    let label = target.split_once('=');
    let is_meant = |(server, known): &(&ServerId, &cairn_core::cluster::ServerView)| match label {
        Some((key, value)) => known.labels.get(key) == Some(value),
        None => target.parse() == Ok(server.get()),
    };
    view.servers.iter().filter(is_meant).map(|(&server, _)| server).collect()
}

/// Looks at every chunk of these servers, up to a bound.
pub(crate) async fn lose(parts: &Parts, target: &str) -> Result<WhatIfReply, FsError> {
    let mut view = parts.servers.view(parts.now());
    let lost = named(&view, target);
    if lost.is_empty() {
        return Err(FsError::NotFound);
    }
    for server in &lost {
        if let Some(known) = view.servers.get_mut(server) {
            known.health = ServerHealth::Dead;
        }
    }
    let mut loss = Loss::default();
    let mut complete = true;
    for &server in &lost {
        complete &= look(parts, &view, &lost, server, &mut loss).await?;
    }
    Ok(tell(parts, &view, &lost, &loss, complete))
}

async fn look(
    parts: &Parts,
    view: &ClusterView,
    lost: &BTreeSet<ServerId>,
    server: ServerId,
    loss: &mut Loss,
) -> Result<bool, FsError> {
    let mut from = ChunkId(0);
    while loss.replicas < ADMIN_COUNT_MAX {
        let read = move |rows: &dyn Rows| replicas_on(rows, server, from, ChunkId(u64::MAX), WORK_PAGE);
        let page: Vec<ChunkId> = parts.reader.read(read).await?.into_iter().map(|(chunk, _)| chunk).collect();
        let Some(newest) = page.last() else { return Ok(true) };
        from = ChunkId(newest.get() + 1);
        for record in parts.reader.read(move |rows| chunks_named(rows, &page)).await? {
            // Each chunk is looked at where it is met first.
            let first = record.servers.iter().filter(|server| lost.contains(server)).min();
            loss.replicas += 1;
            if first == Some(&server) {
                loss.add(parts, view, &record);
            }
        }
    }
    Ok(false)
}

impl Loss {
    fn add(&mut self, parts: &Parts, view: &ClusterView, record: &ChunkRecord) {
        let bad = parts.damage.bad_at(record.chunk, &record.servers);
        let (set, wanted, required) = (&record.servers[..], record.wanted, &Labels::none());
        let left = Replicas { set, bad: &bad, leaving: &[], wanted, required }.left(view).len();
        let alive = view.servers.values().filter(|server| server.health == ServerHealth::Alive).count();
        self.chunks += 1;
        if let Some(count) = self.by_copies.get_mut(left) {
            *count += 1;
        }
        self.below_minimum += u64::from(left < usize::from(record.minimum));
        self.cannot_be_whole += u64::from(left > 0 && alive < usize::from(record.wanted));
    }
}

fn tell(
    parts: &Parts,
    view: &ClusterView,
    lost: &BTreeSet<ServerId>,
    loss: &Loss,
    complete: bool,
) -> WhatIfReply {
    let reports = parts.servers.reports(parts.now());
    let disks = reports.iter().flat_map(|report| &report.disks);
    let (bytes, count) =
        disks.fold((0, 0), |sum: (u64, u64), disk| (sum.0 + disk.used_bytes, sum.1 + disk.replicas));
    let to_copy = loss.replicas.saturating_mul(bytes / count.max(1));
    let stays = reports.iter().filter(|report| !lost.contains(&report.server) && report.draining.is_none());
    let healthy =
        stays.flat_map(|report| &report.disks).filter(|disk| disk.state() == DiskState::DiskHealthy);
    let free: u64 = healthy.map(|disk| disk.free_bytes).sum();
    let alive = view.servers.values().filter(|server| server.health == ServerHealth::Alive).count() as u64;
    WhatIfReply {
        servers: lost.iter().map(|server| server.get()).collect(),
        chunks: loss.chunks,
        by_copies_left: loss.by_copies.to_vec(),
        unreadable: loss.by_copies[0],
        below_minimum: loss.below_minimum,
        cannot_be_whole: loss.cannot_be_whole,
        bytes_to_copy: to_copy,
        free_bytes: free,
        fits: to_copy <= free && loss.cannot_be_whole == 0,
        estimated_ms: to_copy.saturating_mul(1000) / (REPAIR_BYTES_PER_SECOND * alive.max(1)),
        complete,
    }
}
