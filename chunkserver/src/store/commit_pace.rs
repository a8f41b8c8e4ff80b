//! How long a commit of the intent journal takes, and whether that is less than handing it to another thread would take.
//!
//! A hand-over between cores costs ~25 µs each way. Memory and some disks with a battery sync in less; all others are
//! waited for beside the runtime, as a disk that was quick so far is after its first slow commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Commits done in a row by one who came to have his own done: the rest of what others want goes to another thread.
pub(super) const COMMIT_ROUNDS_HERE: usize = 3;

/// A disk that commits faster is not worth a hand-over, which costs as much for the way back alone.
const QUICK_COMMIT_MAX: Duration = Duration::from_micros(30);

/// The pace of one disk.
#[derive(Debug)]
pub(super) struct CommitPace {
    /// Nanoseconds: at once as large as any commit, and slowly smaller.
    slow_ns: AtomicU64,
}

impl Default for CommitPace {
    /// Nothing is known: slow.
    fn default() -> Self {
        Self { slow_ns: AtomicU64::new(16 * QUICK_COMMIT_MAX.as_nanos() as u64) }
    }
}

impl CommitPace {
    /// Notes a commit. One at a time is under way.
    pub(super) fn took(&self, span: Duration) {
        let span = span.as_nanos().min(u128::from(u64::MAX / 8)) as u64;
        let slow = self.slow_ns.load(Ordering::Relaxed);
        self.slow_ns.store(span.max((7 * slow + span) / 8), Ordering::Relaxed);
    }

    pub(super) fn is_quick(&self) -> bool {
        self.slow_ns.load(Ordering::Relaxed) < QUICK_COMMIT_MAX.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_becomes_quick_slowly_and_slow_at_once() {
        let pace = CommitPace::default();
        assert!(!pace.is_quick(), "nothing is known yet");
        let mut commits = 0;
        while !pace.is_quick() {
            pace.took(QUICK_COMMIT_MAX / 4);
            commits += 1;
        }
        assert!((8..64).contains(&commits), "{commits}");
        pace.took(QUICK_COMMIT_MAX);
        assert!(!pace.is_quick());
        pace.took(Duration::MAX);
        pace.took(Duration::ZERO);
        assert!(!pace.is_quick());
    }
}
