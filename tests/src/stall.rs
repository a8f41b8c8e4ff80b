//! The longest time between two successes of one thread of an application.

use std::time::{Duration, Instant};

/// Stop-watch of one thread.
#[derive(Debug)]
pub struct Stall {
    last: Instant,
    longest: Duration,
}

impl Default for Stall {
    fn default() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }
}

impl Stall {
    /// Something succeeded.
    pub fn success(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }

    /// The longest gap so far.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}
