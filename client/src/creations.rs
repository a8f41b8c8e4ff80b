//! Creations under way: the lease of a new file is granted before its answer arrives, so a recall may overtake it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// See above.
#[derive(Default)]
pub(crate) struct Creations {
    begun: Mutex<Begun>,
    ended: Notify,
}

#[derive(Default)]
struct Begun {
    count: u64,
    under_way: BTreeSet<u64>,
}

/// One of them, until it is dropped.
pub(crate) struct Creation<'a>(&'a Creations, u64);

impl Creations {
    /// One begins. It ends when what was granted is known to the file's state, or nothing was.
    pub(crate) fn begin(&self) -> Creation<'_> {
        let mut begun = self.begun();
        begun.count += 1;
        let number = begun.count;
        begun.under_way.insert(number);
        Creation(self, number)
    }

    /// Waits for the end of those that have begun.
    pub(crate) async fn ended(&self) {
        let last = self.begun().count;
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.begun().under_way.first().is_none_or(|&first| first > last) {
                return;
            }
            ended.await;
        }
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Creation<'_> {
    fn drop(&mut self) {
        self.0.begun().under_way.remove(&self.1);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn who_waits_waits_for_those_begun_before() {
        let creations = Creations::default();
        assert!(creations.ended().now_or_never().is_some());
        let first = creations.begin();
        let mut waits = Box::pin(creations.ended());
        assert!(waits.as_mut().now_or_never().is_none());
        let second = creations.begin();
        drop(first);
        assert!(waits.now_or_never().is_some(), "what began later is not waited for");
        drop(second);
    }
}
