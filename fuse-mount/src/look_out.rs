//! When a receiving thread waits for an answer itself, reading the connections, instead of leaving the request to be woken.
//!
//! It does so for a request that is alone, because then nobody else needs the thread, and as long as such requests are
//! answered within [`BUSY_WAIT`]: an answer that takes longer is worth a sleep.

use crate::metrics::{Kind, Metrics};
use cairn_core::error::FsError;
use cairn_core::limits::BUSY_WAIT;
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::busy_poll::{self, BusyPoll};
use cairn_env::clock::Clock;
use cairn_env::errand::Attention;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What the receiving threads of a mount know of each other.
pub(crate) struct LookOut {
    busy_poll: BusyPoll,
    clock: Arc<dyn Clock>,
    patience: Duration,
    /// Requests begun and not ended.
    under_way: AtomicUsize,
    /// A thread is looking out.
    taken: AtomicBool,
    /// The last answer that was waited for came within `patience`.
    brisk: AtomicBool,
    /// Where requests are counted when they end.
    metrics: Arc<Metrics>,
}

/// A request under way.
pub(crate) struct UnderWay {
    look_out: Arc<LookOut>,
    kind: Kind,
    /// When it came.
    pub(crate) since: Tick,
}

impl UnderWay {
    /// It is about to be answered. The clock is read for those only that have waited for anything.
    pub(crate) fn end(self, has_waited: bool, error: Option<&FsError>) {
        let LookOut { clock, brisk, patience, metrics, .. } = &*self.look_out;
        let waited = has_waited.then(|| clock.now().since(self.since));
        if let Some(took) = waited {
            brisk.store(took < *patience, Relaxed);
        }
        metrics.answered(self.kind, waited, error);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.look_out.under_way.fetch_sub(1, Relaxed);
    }
}

/// The one thread that looks out.
pub(crate) struct Watch<'a> {
    look_out: &'a LookOut,
    connections: busy_poll::Watch,
    attention: Attention,
    since: Tick,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.look_out.taken.store(false, Relaxed);
    }
}

impl LookOut {
    /// On a machine where nobody gains by it, no thread ever looks out.
    pub(crate) fn new(env: &Env, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with_patience(
            env,
            metrics,
            if env.spawn.look_out().is_zero() { Duration::ZERO } else { BUSY_WAIT },
        )
    }

    /// Looks out so long at most.
    pub(crate) fn with_patience(env: &Env, metrics: Arc<Metrics>, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            busy_poll: env.busy_poll.clone(),
            clock: Arc::clone(&env.clock),
            patience,
            under_way: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            brisk: AtomicBool::new(false),
            metrics,
        })
    }

    /// Counts a request until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, kind: Kind) -> UnderWay {
        self.under_way.fetch_add(1, Relaxed);
        UnderWay { look_out: Arc::clone(self), kind, since: self.clock.now() }
    }

    /// Looks out for what the request waits for that came at `since`, if that is worth it.
    pub(crate) fn begin(&self, since: Tick) -> Option<Watch<'_>> {
        let worth = self.brisk.load(Relaxed) && self.is_alone() && !self.taken.swap(true, Relaxed);
        worth.then(|| Watch {
            look_out: self,
            connections: self.busy_poll.watch(),
            attention: Attention::begin(),
            since,
        })
    }

    /// Requests begun and not ended.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Relaxed)
    }

    fn is_alone(&self) -> bool {
        self.under_way() == 1
    }
}

impl Watch<'_> {
    /// Reads what has come, goes on with it, and lets others have the core if they want it. False when that has lasted long enough.
    pub(crate) fn goes_on(&self) -> bool {
        let LookOut { clock, brisk, patience, .. } = self.look_out;
        if clock.now().since(self.since) >= *patience {
            brisk.store(false, Relaxed);
            return false;
        }
        if !self.look_out.is_alone() {
            return false;
        }
        self.connections.poll();
        self.attention.work();
        std::thread::yield_now();
        true
    }
}
