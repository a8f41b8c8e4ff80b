//! How far answers and the state are: an answer leaves when its entry is committed, before its rows are in the state, so
//! that the writing of rows delays nobody; a read that begins later waits for the rows.

use cairn_core::ids::LogIndex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Two positions in the journal: applied ≤ answered. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Answers that saw this entry may have left.
    answered: AtomicU64,
    /// Its rows are in the state.
    applied: AtomicU64,
    /// `applied` has moved.
    moved: Notify,
}

impl Progress {
    /// The state holds everything up to `applied`.
    pub(super) fn new(applied: LogIndex) -> Self {
        let at = || AtomicU64::new(applied.get());
        Self { shared: Arc::new(Shared { answered: at(), applied: at(), moved: Notify::new() }) }
    }

    /// Answers up to this entry leave from now on.
    pub(super) fn answer(&self, index: LogIndex) {
        self.shared.answered.store(index.get(), Ordering::SeqCst);
    }

    /// The state holds this entry.
    pub(super) fn applied(&self, index: LogIndex) {
        self.shared.applied.store(index.get(), Ordering::SeqCst);
        self.shared.moved.notify_waiters();
    }

    /// Waits until the state holds what was answered before this call.
    pub(super) async fn caught_up(&self) {
        let answered = self.shared.answered.load(Ordering::SeqCst);
        while self.shared.applied.load(Ordering::SeqCst) < answered {
            let moved = self.shared.moved.notified();
            if self.shared.applied.load(Ordering::SeqCst) >= answered {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_read_waits_for_what_was_answered_and_no_longer() {
        let progress = Progress::new(LogIndex(7));
        assert!(progress.caught_up().now_or_never().is_some());
        progress.answer(LogIndex(9));
        let mut read = Box::pin(progress.caught_up());
        assert!((&mut read).now_or_never().is_none());
        progress.applied(LogIndex(8));
        assert!((&mut read).now_or_never().is_none());
        progress.answer(LogIndex(12));
        progress.applied(LogIndex(9));
        assert!((&mut read).now_or_never().is_some(), "what is answered later is not its business");
        assert!(progress.caught_up().now_or_never().is_none());
    }
}
