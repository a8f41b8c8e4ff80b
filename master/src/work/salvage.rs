//! Mends a replica of each chunk of which nobody has a good one: it takes from the others what it cannot read, and is a source for
//! their repair then. Blocks that nobody can read any more are not made up: such a chunk stays as it is, what is whole of it is
//! read, and it is tried less and less often, a different replica each time.

use crate::link::CommandError;
use crate::parts::Parts;
use crate::work::repair::is_settled;
use cairn_core::cluster::repair::Replicas;
use cairn_core::cluster::salvage::{Salvage, salvage};
use cairn_core::cluster::{ClusterView, Labels};
use cairn_core::error::FsError;
use cairn_core::explain::event::Event;
use cairn_core::ids::{ChunkId, Term};
use cairn_core::limits::{
    REPAIR_COPY_PATIENCE, SALVAGE_PAUSE_MAX, SALVAGE_PERIOD, SALVAGES_IN_FLIGHT_MAX, WORK_PAGE,
};
use cairn_core::namespace::work::{ChunkRecord, chunks_named};
use cairn_core::time::Tick;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// Attempts that failed, by chunk: no more than there are bad replicas.
#[derive(Default)]
pub(crate) struct Salvages(Mutex<BTreeMap<ChunkId, Attempts>>);

#[derive(Clone, Default)]
struct Attempts {
    turn: usize,
    until: Tick,
    pause: Duration,
    /// Its damaged replicas then: when they are others, it is tried at once.
    replicas: usize,
}

impl Salvages {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<ChunkId, Attempts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, chunk: ChunkId) -> Attempts {
        self.locked().get(&chunk).cloned().unwrap_or_default()
    }

    /// Notes a failure. True: each of its replicas has been tried once by now.
    fn failed(&self, chunk: ChunkId, replicas: usize, now: Tick) -> bool {
        let mut known = self.locked();
        let attempts = known.entry(chunk).or_default();
        attempts.turn += 1;
        attempts.replicas = replicas;
        attempts.pause = match attempts.turn < replicas {
            true => Duration::ZERO,
            false => (attempts.pause * 2).clamp(SALVAGE_PERIOD, SALVAGE_PAUSE_MAX),
        };
        attempts.until = now.after(attempts.pause);
        attempts.turn == replicas
    }
}

/// Looks at every chunk with a bad replica once.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term, salvages: Arc<Salvages>) {
    let view = parts.servers.view(parts.now());
    let bad = parts.damage.chunks();
    {
        let still_bad: BTreeSet<ChunkId> = bad.iter().copied().collect();
        salvages.locked().retain(|chunk, _| still_bad.contains(chunk));
    }
    let mut mended = 0;
    for page in bad.chunks(WORK_PAGE) {
        let page = page.to_vec();
        let records = match parts.reader.read(move |rows| chunks_named(rows, &page)).await {
            Ok(records) => records,
            Err(error) => return warn!(%error, "chunks to be salvaged could not be read"),
        };
        let wanted = records
            .into_iter()
            .filter_map(|record| Some((plan(&parts, &view, &record, &salvages.of(record.chunk))?, record)));
        let mut mending = futures::stream::iter(wanted)
            .map(|(salvage, record)| mend(&parts, term, &salvages, record, salvage))
            .buffer_unordered(SALVAGES_IN_FLIGHT_MAX);
        while let Some(is_mended) = mending.next().await {
            mended += usize::from(is_mended);
        }
    }
    if mended > 0 {
        parts.nudge();
    }
}

fn plan(parts: &Parts, view: &ClusterView, record: &ChunkRecord, attempts: &Attempts) -> Option<Salvage> {
    if !is_settled(record) {
        return None;
    }
    let bad = parts.damage.bad_at(record.chunk, &record.servers);
    let corrupt = parts.damage.corrupt_at(record.chunk, &record.servers);
    let replicas = Replicas {
        set: &record.servers,
        bad: &bad,
        leaving: &[],
        wanted: record.wanted,
        required: &Labels::none(),
    };
    let planned = salvage(view, replicas, &corrupt, attempts.turn)?;
    let is_due = parts.now() >= attempts.until || attempts.replicas != planned.peers.len() + 1;
    is_due.then_some(planned)
}

async fn mend(parts: &Parts, term: Term, salvages: &Salvages, record: ChunkRecord, salvage: Salvage) -> bool {
    let (chunk, server) = (record.chunk, salvage.server);
    match try_mend(parts, term, &record, &salvage).await {
        Ok(()) => {
            parts.damage.cleared(server, chunk);
            info!(%chunk, %server, "replica is mended");
            parts.events.note(&parts.env, Event::ChunkSalvaged { chunk, server });
            true
        }
        Err(error) => {
            warn!(%chunk, %server, %error, "all replicas of the chunk are damaged, and this one could not be mended");
            if salvages.failed(chunk, salvage.peers.len() + 1, parts.now()) {
                parts.events.note(&parts.env, Event::ChunkDamaged { chunk, detail: error.to_string() });
            }
            false
        }
    }
}

async fn try_mend(parts: &Parts, term: Term, record: &ChunkRecord, salvage: &Salvage) -> Result<(), FsError> {
    let view = parts.servers.view(parts.now());
    let peers = salvage.peers.iter().map(|&peer| view.address(peer).to_owned());
    let peers = peers.filter(|address| !address.is_empty()).collect();
    let failed = |error: CommandError| FsError::Unavailable(error.to_string());
    let link = parts.servers.link(salvage.server).ok_or(CommandError::Gone).map_err(failed)?;
    link.mend(term, (record.chunk, record.version), peers, REPAIR_COPY_PATIENCE).await.map_err(failed)
}
