//! How long a commit of the intent journal takes, and whether that is less than handing it to another thread would take.
//!
//! A hand-over between cores costs ~25 µs each way. Memory and some disks with a battery sync in less; all others are
//! waited for beside the runtime, as a disk that was quick so far is after its second slow commit in a row (one may have been
//! interrupted by something else on a busy machine).

use cairn_core::limits::QUICK_COMMIT_MAX;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LONGEST_NS: u64 = 4 * QUICK_COMMIT_MAX.as_nanos() as u64;

/// The pace of one disk.
#[derive(Debug)]
pub(super) struct CommitPace {
    /// Smoothed nanoseconds of a commit, of which no single one counts for more than [`LONGEST_NS`].
    mean_ns: AtomicU64,
}

impl Default for CommitPace {
    /// Nothing is known: slow.
    fn default() -> Self {
        Self { mean_ns: AtomicU64::new(LONGEST_NS) }
    }
}

impl CommitPace {
    /// Notes a commit. One at a time is under way.
    pub(super) fn took(&self, span: Duration) {
        let span = span.as_nanos().min(u128::from(LONGEST_NS)) as u64;
        let mean = self.mean_ns.load(Ordering::Relaxed);
        self.mean_ns.store((7 * mean + span) / 8, Ordering::Relaxed);
    }

    pub(super) fn is_quick(&self) -> bool {
        self.mean_ns.load(Ordering::Relaxed) < QUICK_COMMIT_MAX.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_becomes_quick_slowly_and_slow_soon() {
        let pace = CommitPace::default();
        assert!(!pace.is_quick(), "nothing is known yet");
        let mut commits = 0;
        while !pace.is_quick() {
            pace.took(QUICK_COMMIT_MAX / 4);
            commits += 1;
        }
        assert!((8..64).contains(&commits), "{commits}");
        for _ in 0..100 {
            pace.took(QUICK_COMMIT_MAX / 4);
        }
        pace.took(Duration::MAX);
        assert!(pace.is_quick(), "one slow commit is an accident");
        pace.took(Duration::MAX);
        assert!(!pace.is_quick());
        (0..1000).for_each(|_| pace.took(QUICK_COMMIT_MAX * 2));
        assert!(!pace.is_quick());
    }
}
