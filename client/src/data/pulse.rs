//! Keeps the runtime's clock awake while data moves.
//!
//! Every call has a deadline, tens of milliseconds away. A runtime that would sleep longer than that must be woken to learn
//! of it, on another core and for each call; one that ticks anyway need not.

use cairn_core::limits::{HEDGE_DELAY_MIN, PULSE_IDLE};
use cairn_core::time::Tick;
use cairn_env::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Sooner than any deadline.
const PULSE: Duration = HEDGE_DELAY_MIN.checked_div(2).expect("two is not zero");

/// The ticking of one client.
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    /// Nanoseconds of the last call's tick.
    last_call_ns: AtomicU64,
    beats: AtomicBool,
}

impl Pulse {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, last_call_ns: AtomicU64::new(0), beats: AtomicBool::new(false) })
    }

    /// A call begins. Must be called within the runtime that the call waits on.
    pub(super) fn feel(self: &Arc<Self>) {
        self.last_call_ns.store(self.clock.now().0.as_nanos() as u64, Relaxed);
        if !self.beats.load(Relaxed) && !self.beats.swap(true, Relaxed) {
            drop(tokio::spawn(Self::beat(self.clone())));
        }
    }

    async fn beat(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PULSE).await;
            let last = Tick(Duration::from_nanos(self.last_call_ns.load(Relaxed)));
            if self.clock.now().since(last) > PULSE_IDLE {
                break;
            }
        }
        self.beats.store(false, Relaxed);
    }
}
