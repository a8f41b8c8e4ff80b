//! Time as a value: nothing in this crate reads a clock; callers pass what they read from `env`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Wall-clock time of a file attribute: nanoseconds are always below 10^9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 ..= 999_999_999.
    pub nanos: u32,
}

/// Monotonic time since an arbitrary start (CLOCK_BOOTTIME in the real clock): the only time deadlines are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub Duration);

impl Tick {
    /// The instant `span` later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
