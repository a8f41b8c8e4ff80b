//! Work that the state holds as rows: looked at in turns, done, and then removed by a journaled command. Every job may be
//! cut short at any point and begun again by this leader or the next.

pub(crate) mod capacity;
pub(crate) mod counts;
pub(crate) mod deletions;
pub(crate) mod garbage;
pub(crate) mod orphans;
pub(crate) mod policies;
pub(crate) mod rebalance;
pub(crate) mod reconcile;
pub(crate) mod repair;
pub(crate) mod replicate;
pub(crate) mod salvage;

use crate::parts::Parts;
use cairn_core::ids::Term;
use cairn_core::limits::WORK_PAUSE;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Runs one job until the master stops: at each nudge, and after `period` at the latest.
pub(crate) async fn repeat<F, Fut>(parts: Arc<Parts>, period: Duration, mut job: F)
where
    F: FnMut(Arc<Parts>, Term) -> Fut,
    Fut: Future<Output = ()>,
{
    let mut nudges = parts.nudges.subscribe();
    while !parts.stopping.is_cancelled() {
        nudges.mark_unchanged();
        if let Some(term) = parts.term() {
            // What is cut short here is a row still, and begun again by the next leader.
            tokio::select! {
                () = parts.stopping.cancelled() => return,
                () = job(parts.clone(), term) => {}
            }
        }
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            _ = nudges.changed() => {}
            () = tokio::time::sleep(period) => {}
        }
        // A storm of nudges must not become a storm of scans.
        tokio::time::sleep(WORK_PAUSE).await;
    }
}
