//! Reclaims inodes whose last name is gone, once no session holds them open.
//!
//! An inode must have been seen undeclared for [`ORPHAN_INODE_GRACE`]: the declaration of an open may cross the unlink
//! on its way here. After a leader's start nothing is reclaimed until every session has re-attached or has ended.

use crate::parts::Parts;
use cairn_core::ids::InodeId;
use cairn_core::limits::{ORPHAN_INODE_GRACE, ORPHANS_PER_RECORD_MAX, ORPHANS_WATCHED_MAX, WORK_PAGE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::work::orphans;
use cairn_core::time::Tick;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use tracing::warn;

/// Orphans that nobody was seen to hold, and since when.
#[derive(Default)]
pub(crate) struct Watched {
    since: BTreeMap<InodeId, Tick>,
}

impl Watched {
    /// Notes what is free now, forgets everything else of the looked-at range, and yields what has been free long enough.
    pub(crate) fn update(&mut self, looked_at: &[InodeId], free: &[InodeId], now: Tick) -> Vec<InodeId> {
        let (Some(&first), Some(&last)) = (looked_at.first(), looked_at.last()) else { return Vec::new() };
        let before: Vec<_> = self.since.range(first..=last).map(|(&inode, _)| inode).collect();
        for inode in before {
            if free.binary_search(&inode).is_err() {
                self.since.remove(&inode);
            }
        }
        let mut ripe = Vec::new();
        for &inode in free {
            match self.since.get(&inode) {
                Some(&since) if now.since(since) >= ORPHAN_INODE_GRACE => {
                    self.since.remove(&inode);
                    ripe.push(inode);
                }
                Some(_) => {}
                None if self.since.len() < ORPHANS_WATCHED_MAX => drop(self.since.insert(inode, now)),
                None => {}
            }
        }
        ripe
    }
}

/// Looks at every orphan once.
pub(crate) async fn pass(parts: Arc<Parts>, watched: Arc<Mutex<Watched>>) {
    let mut watched = watched.lock().await;
    let mut after = None;
    loop {
        let page = match parts.reader.read(move |rows| orphans(rows, after, WORK_PAGE)).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "orphans could not be read");
                return;
            }
        };
        let Some(&newest) = page.last() else { return };
        after = Some(newest);
        let free = parts.sessions.not_open(&page);
        for batch in watched.update(&page, &free, parts.now()).chunks(ORPHANS_PER_RECORD_MAX) {
            if !reclaim(&parts, batch).await {
                return;
            }
        }
        if page.len() < WORK_PAGE || parts.stopping.is_cancelled() {
            return;
        }
    }
}

async fn reclaim(parts: &Parts, batch: &[InodeId]) -> bool {
    loop {
        match parts.sequencer.internal(Internal::ReclaimOrphans { inodes: batch.to_vec() }).await {
            Ok(Outcome::More(true)) => {}
            Ok(_) => {
                parts.metrics.orphans_reclaimed.inc_by(batch.len() as u64);
                parts.nudge();
                return true;
            }
            Err(error) => {
                warn!(%error, "orphans could not be reclaimed yet");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ids(numbers: &[u64]) -> Vec<InodeId> {
        numbers.iter().map(|&number| InodeId(number)).collect()
    }

    #[test]
    fn only_what_stayed_free_is_reclaimed() {
        let mut watched = Watched::default();
        let page = ids(&[1, 2, 3]);
        let at = |millis| Tick(Duration::from_millis(millis));
        assert!(watched.update(&page, &ids(&[1, 2]), at(0)).is_empty());
        assert!(watched.update(&page, &ids(&[1]), at(1000)).is_empty(), "2 was declared open");
        assert_eq!(watched.update(&page, &ids(&[1, 2]), at(2000)), ids(&[1]));
        assert_eq!(watched.update(&ids(&[2, 3]), &ids(&[2, 3]), at(4000)), ids(&[2]));
        assert_eq!(watched.update(&ids(&[3]), &ids(&[3]), at(6000)), ids(&[3]));
        assert!(watched.since.is_empty());
    }
}
