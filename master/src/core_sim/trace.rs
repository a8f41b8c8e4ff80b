//! What happened, as one number, and as a log when one seed is looked at.

use std::time::Duration;

/// The trace of a run.
pub(super) struct Trace {
    hash: u64,
    events: u64,
    shown: bool,
}

impl Trace {
    pub(super) fn new(shown: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, shown }
    }

    /// Counts an event by three numbers that say what it was.
    pub(super) fn note(&mut self, now: Duration, numbers: [u64; 3]) {
        self.events += 1;
        for number in [now.as_nanos() as u64].into_iter().chain(numbers) {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// Tells what happens, when it is looked at.
    pub(super) fn tell(&self, now: Duration, what: impl FnOnce() -> String) {
        if self.shown {
            println!("{:>12.6} {}", now.as_secs_f64(), what());
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
}
