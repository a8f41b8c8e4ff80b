//! Gives new replicas to chunks that have too few good ones: those of dead chunk servers, those whose set has shrunk, and those
//! of which a replica is damaged, old or missing; moves what stands on chunk servers that are being emptied, on disks likewise whose
//! servers have no room on others, or where its policy does not want it; and gives up what is too much.

use crate::events;
use crate::parts::Parts;
use crate::policies;
use crate::work::replicate::carry_out;
use cairn_core::cluster::repair::{Busy, Repair, RepairQueue, Urgency, Verdict, plan};
use cairn_core::cluster::{ClusterView, Policies, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{
    REPAIR_PAUSE_MAX, REPAIR_PERIOD, REPAIRS_ASIDE_MAX, REPAIRS_IN_FLIGHT_MAX, VIEW_PERIOD, WORK_PAGE,
};
use cairn_core::namespace::work::{ChunkRecord, chunk, chunks_named, deleting_at, repairs, replicas_on};
use cairn_core::time::Tick;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// What repair remembers between its passes.
#[derive(Default)]
pub(crate) struct Repairs {
    waiting: AtomicU64,
    under_way: AtomicU64,
    /// Those under way, and since when.
    carried_out: Mutex<BTreeMap<ChunkId, Tick>>,
    rest: Mutex<Rest>,
}

/// A pass that has repaired nothing is not repeated at once, unless the servers have changed: looking costs a tenth of the
/// time at most, and what fails is tried less and less often.
#[derive(Default)]
struct Rest {
    until: Tick,
    pause: Duration,
    healths: Healths,
}

/// What a pass has come to.
#[derive(Clone, Copy, Default)]
struct Did {
    done: usize,
    failed: usize,
}

/// How the servers were when something was looked at, and which were being emptied.
type Healths = BTreeMap<ServerId, (ServerHealth, bool)>;

impl Repairs {
    /// Chunks that wait, and chunks under way.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.waiting.load(Ordering::Relaxed), self.under_way.load(Ordering::Relaxed))
    }

    fn show(&self, waiting: usize, under_way: usize) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        self.under_way.store(under_way as u64, Ordering::Relaxed);
    }

    /// Since when `chunk` is being repaired, if it is.
    pub(crate) fn since(&self, chunk: ChunkId) -> Option<Tick> {
        self.carried_out.lock().unwrap_or_else(PoisonError::into_inner).get(&chunk).copied()
    }

    /// The repair of `chunk` is under way as long as this is held, however it ends.
    fn carry_out(&self, chunk: ChunkId, now: Tick) -> UnderWay<'_> {
        self.carried_out.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, now);
        UnderWay { repairs: self, chunk }
    }

    fn rests(&self, now: Tick, healths: &Healths) -> bool {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        now < rest.until && rest.healths == *healths
    }

    /// After a pass that took `looking` to find what it did.
    fn ended(&self, now: Tick, healths: Healths, looking: Duration, did: Did) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.pause = match did {
            Did { done: 1.., .. } => Duration::ZERO,
            Did { failed: 0, .. } => REPAIR_PERIOD,
            Did { .. } => (rest.pause * 2).max(REPAIR_PERIOD),
        };
        rest.pause = rest.pause.max(looking * 9).min(REPAIR_PAUSE_MAX);
        rest.until = now.after(rest.pause);
        rest.healths = healths;
    }
}

/// See [`Repairs::carry_out`].
struct UnderWay<'r> {
    repairs: &'r Repairs,
    chunk: ChunkId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.repairs.carried_out.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.chunk);
    }
}

/// Looks for all that is to be repaired, and repairs it, the most endangered first. Ends early when the servers change: the
/// order is another one then.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term) {
    let healths = healths(&parts);
    let begun = parts.now();
    if parts.repairs.rests(begun, &healths) && parts.misplaced.is_empty() {
        return;
    }
    let (queue, policies) = match find(&parts).await {
        Ok(found) => found,
        Err(error) => return warn!(%error, "chunks to be repaired could not be read"),
    };
    let looking = parts.now().since(begun);
    if !queue.is_empty() {
        // What it follows from is told before it.
        events::look(&parts);
    }
    parts.events.repair_found(&parts.env, queue.len() as u64);
    let mut busy = Busy::default().in_racks(&parts.servers.view(parts.now()));
    busy.heed(&parts.servers.copy_shares());
    let did = Pass { parts: &parts, term, policies, busy, queue, aside: Vec::new() }.run(&healths).await;
    parts.repairs.show(0, 0);
    parts.events.repair_did(did.done as u64, did.failed as u64);
    parts.repairs.ended(parts.now(), healths, looking, did);
}

fn healths(parts: &Parts) -> Healths {
    let view = parts.servers.view(parts.now());
    // Who is suspect for a moment changes no order.
    let coarse = |health: ServerHealth| if health.is_reachable() { ServerHealth::Alive } else { health };
    view.servers.iter().map(|(&server, view)| (server, (coarse(view.health), view.draining))).collect()
}

/// Everything that can be repaired at present, by what is left of it.
async fn find(parts: &Parts) -> Result<(RepairQueue, Policies), FsError> {
    let view = &parts.servers.view(parts.now());
    let policies = policies::current(parts).await?;
    let known = (view, &policies);
    let mut queue = RepairQueue::default();
    let count = |health| view.servers.values().filter(|server| server.health == health).count();
    let (usable, dead) = (count(ServerHealth::Alive), count(ServerHealth::Dead));
    let mut after = None;
    loop {
        let page = parts.reader.read(move |rows| repairs(rows, after, WORK_PAGE)).await?;
        let Some(&newest) = page.last() else { break };
        after = Some(newest);
        // A set that spans all the servers there are cannot grow.
        if usize::from(page[0].0).saturating_sub(dead) >= usable {
            break;
        }
        note(parts, known, page.into_iter().map(|(_, chunk)| chunk).collect(), &mut queue).await?;
    }
    for (&server, server_view) in &view.servers {
        let mut from = Some(ChunkId(0));
        while let Some(first) =
            from.filter(|_| server_view.health == ServerHealth::Dead || server_view.draining)
        {
            let last = ChunkId(u64::MAX);
            let page =
                parts.reader.read(move |rows| replicas_on(rows, server, first, last, WORK_PAGE)).await?;
            from = page.last().filter(|_| page.len() == WORK_PAGE).map(|(chunk, _)| ChunkId(chunk.get() + 1));
            note(parts, known, page.into_iter().map(|(chunk, _)| chunk).collect(), &mut queue).await?;
        }
    }
    for page in [parts.damage.chunks(), parts.misplaced.take()].concat().chunks(WORK_PAGE) {
        note(parts, known, page.to_vec(), &mut queue).await?;
    }
    Ok((queue, policies))
}

/// Puts into the queue which of these chunks can be repaired.
async fn note(
    parts: &Parts,
    (view, policies): (&ClusterView, &Policies),
    page: Vec<ChunkId>,
    queue: &mut RepairQueue,
) -> Result<(), FsError> {
    let idle = Busy::default();
    for record in parts.reader.read(move |rows| chunks_named(rows, &page)).await? {
        let bad = parts.damage.bad_at(record.chunk, &record.servers);
        let leaving = parts.departures.leaving(record.chunk, &record.servers);
        let replicas = policies::replicas(&record, (&bad, &leaving), policies);
        if is_settled(&record) && matches!(plan(view, &idle, replicas, &[], 0), Verdict::Repair(_)) {
            queue.push(Urgency::of(replicas, view), record.chunk);
        }
    }
    Ok(())
}

/// Whether nobody is at its set already: its owner, or a reconciliation.
pub(crate) fn is_settled(record: &ChunkRecord) -> bool {
    record.owner.is_none() && !record.reconciling && record.raising == record.version
}

/// One pass.
struct Pass<'p> {
    parts: &'p Parts,
    term: Term,
    policies: Policies,
    busy: Busy,
    queue: RepairQueue,
    /// Taken from the queue while those who could repair them were busy.
    aside: Vec<(Urgency, ChunkId)>,
}

impl Pass<'_> {
    async fn run(mut self, healths_before: &Healths) -> Did {
        let (parts, term) = (self.parts, self.term);
        let mut running = FuturesUnordered::new();
        let (mut did, mut looked) = (Did::default(), parts.now());
        loop {
            while running.len() < REPAIRS_IN_FLIGHT_MAX && self.aside.len() < REPAIRS_ASIDE_MAX {
                let Some((record, repair)) = self.next().await else { break };
                self.busy.begin(&repair);
                let under_way = parts.repairs.carry_out(record.chunk, parts.now());
                running.push(async move {
                    let _under_way = under_way;
                    let outcome = carry_out(parts, term, &record, &repair).await;
                    (record.chunk, repair, outcome)
                });
            }
            parts.repairs.show(self.queue.len() + self.aside.len(), running.len());
            let Some((chunk, repair, outcome)) = running.next().await else { return did };
            self.busy.end(&repair);
            match outcome {
                Ok(()) => {
                    // There may be more to be set right about its places.
                    parts.misplaced.note([chunk]);
                    parts.metrics.repaired.inc();
                    did.done += 1;
                }
                Err(error) => {
                    parts.metrics.repairs_failed.inc();
                    did.failed += 1;
                    info!(%chunk, %error, "chunk could not be repaired yet");
                }
            }
            self.aside.drain(..).for_each(|(urgency, chunk)| self.queue.push(urgency, chunk));
            if parts.now().since(looked) >= VIEW_PERIOD {
                looked = parts.now();
                self.busy.heed(&parts.servers.copy_shares());
                if parts.stopping.is_cancelled() || healths(parts) != *healths_before {
                    self.queue = RepairQueue::default();
                }
            }
        }
    }

    /// The next chunk that can be repaired now.
    async fn next(&mut self) -> Option<(ChunkRecord, Repair)> {
        while let Some((urgency, id)) = self.queue.pop() {
            match self.consider(id).await {
                Ok(Some((record, Verdict::Repair(repair)))) => return Some((record, repair)),
                Ok(Some((_, Verdict::Busy))) => {
                    self.aside.push((urgency, id));
                    if self.aside.len() >= REPAIRS_ASIDE_MAX {
                        return None;
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(chunk = %id, %error, "chunk to be repaired could not be read"),
            }
        }
        None
    }

    async fn consider(&self, id: ChunkId) -> Result<Option<(ChunkRecord, Verdict)>, FsError> {
        let record = self.parts.reader.read(move |rows| chunk(rows, id)).await?;
        let Some(record) = record.filter(is_settled) else { return Ok(None) };
        let view = self.parts.servers.view(self.parts.now());
        let bad = self.parts.damage.bad_at(id, &record.servers);
        let leaving = self.parts.departures.leaving(id, &record.servers);
        let replicas = policies::replicas(&record, (&bad, &leaving), &self.policies);
        let mut avoid = Vec::new();
        loop {
            let entropy = self.parts.env.random.next_u64();
            let verdict = plan(&view, &self.busy, replicas, &avoid, entropy);
            let Verdict::Repair(repair) = &verdict else { return Ok(Some((record, verdict))) };
            let targets = repair.targets.clone();
            let deleting = self.parts.reader.read(move |rows| deleting_at(rows, id, &targets)).await?;
            if deleting.is_empty() {
                return Ok(Some((record, verdict)));
            }
            avoid.extend(deleting);
        }
    }
}
