//! Requests that the kernel waits for: each is answered once, by whoever takes it out of here first.
//!
//! That is its own reply, as a rule. A request whose program has been killed is taken out by [`super::interrupts`]; its reply
//! then comes to nothing, and what works on it hears of that the next time it waits.

use super::request::Unique;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Threads that begin and end requests at the same time seldom meet in one of so many.
const SHARDS: usize = 32;

/// All requests of a session. The kernel bounds their number: each program waits for one, and read-ahead has its own bound.
#[derive(Default)]
pub(crate) struct Underway {
    shards: [Mutex<HashMap<Unique, Waiting>>; SHARDS],
}

struct Waiting {
    caller: u32,
    channel: usize,
    is_close: bool,
    /// Of the work that may be dropped when nobody waits for it.
    work: Option<Waker>,
}

/// A request that nobody waits for any more.
pub(crate) struct GivenUp {
    /// Number of the channel that it came from.
    pub(crate) channel: usize,
    work: Option<Waker>,
}

impl GivenUp {
    /// Lets the work on it know.
    pub(crate) fn tell(self) {
        if let Some(work) = self.work {
            work.wake();
        }
    }
}

impl Underway {
    /// A request of this thread has come from this channel.
    pub(crate) fn begin(&self, unique: Unique, caller: u32, channel: usize, is_close: bool) {
        self.shard(unique).insert(unique, Waiting { caller, channel, is_close, work: None });
    }

    /// Those that close a file, with the threads that wait for them.
    pub(crate) fn closes(&self) -> Vec<(Unique, u32)> {
        let mut closes = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let of_shard = shard.iter().filter(|(_, waiting)| waiting.is_close);
            closes.extend(of_shard.map(|(unique, waiting)| (*unique, waiting.caller)));
        }
        closes
    }

    /// It is about to be answered. False: it has been.
    pub(crate) fn end(&self, unique: Unique) -> bool {
        // What goes with it may end requests itself: not under the lock.
        let waiting = self.shard(unique).remove(&unique);
        waiting.is_some()
    }

    /// The thread that waits for it; none when it is answered, or has not come yet.
    pub(crate) fn caller(&self, unique: Unique) -> Option<u32> {
        self.shard(unique).get(&unique).map(|waiting| waiting.caller)
    }

    /// Takes it from whoever works on it, for another answer. None: it is answered.
    pub(crate) fn give_up(&self, unique: Unique) -> Option<GivenUp> {
        let Waiting { channel, work, .. } = self.shard(unique).remove(&unique)?;
        Some(GivenUp { channel, work })
    }

    /// Whether nobody waits for it any more. If somebody does, `context` is woken when that changes.
    pub(crate) fn is_given_up(&self, unique: Unique, context: &Context<'_>) -> bool {
        let mut shard = self.shard(unique);
        let Some(waiting) = shard.get_mut(&unique) else { return true };
        match &mut waiting.work {
            Some(work) => work.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        false
    }

    fn shard(&self, unique: Unique) -> MutexGuard<'_, HashMap<Unique, Waiting>> {
        // The kernel counts in twos.
        let shard = (unique.0 >> 1) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn each_request_is_answered_once() {
        let underway = Underway::default();
        underway.begin(Unique(8), 77, 3, true);
        assert_eq!(underway.closes(), [(Unique(8), 77)]);
        assert_eq!((underway.caller(Unique(8)), underway.caller(Unique(6))), (Some(77), None));
        assert_eq!(underway.give_up(Unique(8)).unwrap().channel, 3);
        assert!(!underway.end(Unique(8)) && underway.give_up(Unique(8)).is_none());
        underway.begin(Unique(10), 77, 0, false);
        assert!(underway.closes().is_empty());
        assert!(underway.end(Unique(10)) && !underway.end(Unique(10)));
    }

    #[test]
    fn work_hears_that_nobody_waits_for_it() {
        let underway = Underway::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let context = Context::from_waker(&waker);
        underway.begin(Unique(2), 1, 0, false);
        assert!(!underway.is_given_up(Unique(2), &context));
        underway.give_up(Unique(2)).unwrap().tell();
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(underway.is_given_up(Unique(2), &context));
    }
}
