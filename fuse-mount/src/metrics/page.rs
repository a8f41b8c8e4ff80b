//! The page of a mount: names and help texts that Prometheus shows.

use super::{Kind, Metrics};
use crate::errno::ErrorClass;
use crate::look_out::LookOut;
use crate::ops::Ops;
use cairn_client::figures::{CacheUse, DataFigures, DirtyFigures, Figures, LeaderFigures, MemoryUse};
use cairn_core::io::breaker::BreakerState;
use cairn_env::metrics::{Spans, counter, counters, gauge, gauges, histograms, page, present};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The whole page.
pub(super) fn metrics(ops: &Arc<Ops>, look_out: &Arc<LookOut>) -> String {
    let mut registry = Registry::with_prefix("cairn_mount");
    let (ops, look_out) = (ops.clone(), look_out.clone());
    registry.register_collector(present(move |encoder| encode(encoder, &ops, &look_out)));
    page(&registry)
}

fn encode(encoder: &mut DescriptorEncoder<'_>, ops: &Ops, look_out: &LookOut) -> fmt::Result {
    requests(encoder, ops.metrics())?;
    gauge(encoder, "requests_under_way", "Requests not answered yet", look_out.under_way() as u64)?;
    let (files, directories) = ops.open_handles();
    gauge(encoder, "open_files", "Files that programs hold open", files as u64)?;
    gauge(encoder, "open_directories", "Directories that programs hold open", directories as u64)?;
    let Figures { leader: session, caches, data, dirty, write_memory, read_memory, slow_operations } =
        ops.client().figures();
    leader(encoder, &session)?;
    cache(encoder, [("names", caches.names), ("attributes", caches.attributes), ("maps", caches.maps)])?;
    written(encoder, dirty)?;
    memory(encoder, [("write", write_memory), ("read_ahead", read_memory)])?;
    breakers(encoder, &data)?;
    reads(encoder, &data)?;
    counter(
        encoder,
        "slow_operations",
        "Operations of half a second and more, as `cairn admin slow` shows them",
        slow_operations,
    )
}

fn requests(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let value = |atomic: &AtomicU64| atomic.load(Relaxed);
    let kinds = || Kind::ALL.into_iter().map(|(_, name)| name);
    let answered = kinds().zip(&metrics.answered);
    let answered = answered.map(|(kind, count)| ([("kind", kind.to_owned())], value(count)));
    counters(encoder, "operations", "Requests of the kernel that were answered, by kind", answered)?;
    let help = "Time from receiving a request to its answer, by kind, of those that had to wait for anything: the others were answered \
                at once, from memory";
    histograms(
        encoder,
        "operation_wait_seconds",
        help,
        kinds().zip(metrics.waits.iter().map(Spans::counts)),
    )?;
    let errors = ErrorClass::ALL.into_iter().zip(&metrics.errors);
    let errors = errors.map(|((_, name), count)| ([("class", name.to_owned())], value(count)));
    counters(encoder, "errors", "Requests answered with an error, by class", errors)?;
    let help = "Bytes of files given to programs; what the kernel had in memory is not counted";
    counter(encoder, "read_bytes", help, value(&metrics.read_bytes))?;
    counter(encoder, "written_bytes", "Bytes of files accepted from programs", value(&metrics.written_bytes))
}

fn leader(encoder: &mut DescriptorEncoder<'_>, leader: &LeaderFigures) -> fmt::Result {
    let help = "1 while there is a connection to the leading master, with a session that lives";
    gauge(encoder, "leader_connected", help, u64::from(leader.is_connected))?;
    let help = "Time since the leading master was heard";
    gauge(encoder, "leader_silent_milliseconds", help, leader.silent.as_millis() as u64)?;
    let help = "Connections to a master that replaced a lost one";
    counter(encoder, "reconnects", help, leader.reconnects)?;
    let help = "Connections to another master than before, which leads now";
    counter(encoder, "leader_changes", help, leader.leader_changes)?;
    let help = "Sessions that masters ended, with their write leases and unrecorded bytes";
    counter(encoder, "sessions_lost", help, leader.sessions_lost)
}

fn cache(encoder: &mut DescriptorEncoder<'_>, caches: [(&str, CacheUse); 3]) -> fmt::Result {
    let of = |name: &str| [("cache", name.to_owned())];
    let hits = caches.iter().map(|(name, uses)| (of(name), uses.hits));
    counters(
        encoder,
        "cache_hits",
        "Requests of the kernel that were answered without asking a master",
        hits,
    )?;
    let misses = caches.iter().map(|(name, uses)| (of(name), uses.misses));
    counters(encoder, "cache_misses", "Times that a master was asked because something was not known", misses)
}

fn written(encoder: &mut DescriptorEncoder<'_>, dirty: DirtyFigures) -> fmt::Result {
    gauge(encoder, "dirty_files", "Files with bytes or times that are not recorded yet", dirty.files)?;
    let help = "Accepted bytes that chunk servers have not acknowledged yet";
    gauge(encoder, "unacknowledged_bytes", help, dirty.unacknowledged_bytes)?;
    let help = "Acknowledged bytes that the master has not recorded yet: lost with this mount";
    gauge(encoder, "unrecorded_bytes", help, dirty.unrecorded_bytes)
}

fn memory(encoder: &mut DescriptorEncoder<'_>, halves: [(&str, MemoryUse); 2]) -> fmt::Result {
    let of = |name: &str| [("use", name.to_owned())];
    let used = halves.iter().map(|(name, memory)| (of(name), memory.used));
    gauges(encoder, "memory_used_bytes", "Memory taken by bytes of files on their way", used)?;
    let budget = halves.iter().map(|(name, memory)| (of(name), memory.budget));
    gauges(encoder, "memory_budget_bytes", "Memory that bytes of files may take (option `memory`)", budget)
}

fn breakers(encoder: &mut DescriptorEncoder<'_>, data: &DataFigures) -> fmt::Result {
    let is = |breaker: BreakerState, state: BreakerState| u64::from(breaker == state);
    let servers = data.servers.iter().flat_map(|server| {
        BreakerState::ALL.map(|(state, name)| {
            let labels = [("server", server.address.clone()), ("state", name.to_owned())];
            (labels, is(server.breaker, state))
        })
    });
    let help = "1 for the state of the circuit breaker of a chunk server that was met";
    gauges(encoder, "server_breaker", help, servers)?;
    let disks = data.servers.iter().flat_map(|server| server.disks.iter().map(move |disk| (server, disk)));
    let disks = disks.flat_map(|(server, &(disk, breaker))| {
        BreakerState::ALL.map(|(state, name)| {
            let labels =
                [("server", server.address.clone()), ("disk", disk.to_string()), ("state", name.to_owned())];
            (labels, is(breaker, state))
        })
    });
    let help =
        "1 for the state of the circuit breaker of a disk, by the number that its chunk server has for it";
    gauges(encoder, "disk_breaker", help, disks)
}

fn reads(encoder: &mut DescriptorEncoder<'_>, data: &DataFigures) -> fmt::Result {
    let help = "Second replicas that were asked because the first was late";
    counter(encoder, "hedged_reads", help, data.hedged_reads)?;
    let help = "Second requests that the retry budget allowed";
    counter(encoder, "retry_budget_taken", help, data.budget_taken)?;
    let help = "Second requests that the retry budget put off or refused";
    counter(encoder, "retry_budget_refused", help, data.budget_refused)?;
    let found = [("mount", data.mismatches), ("chunkserver", data.damaged)];
    let found = found.map(|(by, count)| ([("found_by", by.to_owned())], count));
    let help = "Replies of chunk servers whose bytes did not verify here, or did not verify there";
    counters(encoder, "checksum_mismatches", help, found)
}
