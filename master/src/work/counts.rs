//! Counts what the metrics show and a page of metrics must not count itself: it is made at once, without reading the state.

use crate::admin_service::pending_deletions;
use crate::parts::Parts;
use crate::redundancy::{Copies, copies, pending_reconciliations};
use cairn_core::error::FsError;
use cairn_core::ids::Term;
use cairn_core::limits::COUNTS_PERIOD;
use cairn_core::namespace::work::{Totals, totals};
use cairn_core::time::Tick;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::info;

/// The latest figures of this lead.
#[derive(Default)]
pub(crate) struct Counts {
    latest: Mutex<Option<(Tick, Arc<Counted>)>>,
}

/// Figures of a moment.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) totals: Totals,
    pub(crate) copies: Copies,
    pub(crate) deletions: u64,
    pub(crate) reconciliations: u64,
}

impl Counts {
    /// What was counted last; nothing before the first time.
    pub(crate) fn latest(&self) -> Arc<Counted> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().map(|(_, counted)| counted.clone()).unwrap_or_default()
    }

    fn is_due(&self, now: Tick) -> bool {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().is_none_or(|(at, _)| now.since(*at) >= COUNTS_PERIOD)
    }
}

/// Counts, if that is some time ago.
pub(crate) async fn pass(parts: Arc<Parts>, _term: Term) {
    let now = parts.now();
    if !parts.counts.is_due(now) {
        return;
    }
    match count(&parts).await {
        Ok(counted) => {
            let mut latest = parts.counts.latest.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = Some((now, Arc::new(counted)));
        }
        Err(error) => info!(%error, "figures for the metrics could not be counted"),
    }
}

async fn count(parts: &Parts) -> Result<Counted, FsError> {
    Ok(Counted {
        totals: parts.reader.read(totals).await?,
        copies: copies(parts).await?,
        deletions: pending_deletions(parts).await?,
        reconciliations: pending_reconciliations(parts).await?,
    })
}
