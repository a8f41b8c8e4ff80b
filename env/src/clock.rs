//! Time: monotonic ticks for deadlines and leases, wall time for file attributes.

use cairn_core::time::{Tick, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The clock door.
pub trait Clock: Send + Sync + 'static {
    /// CLOCK_BOOTTIME: never goes back, counts suspend. Leases and deadlines are made of it.
    fn now(&self) -> Tick;

    /// CLOCK_REALTIME: may jump. For attributes and logs only; nothing safe may depend on it (I26).
    fn wall(&self) -> Timestamp;
}

/// The kernel's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Tick {
        let time = clock_gettime(ClockId::Boottime);
        Tick(Duration::new(time.tv_sec.unsigned_abs(), nanos_below_second(time.tv_nsec)))
    }

    fn wall(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Realtime);
        Timestamp { seconds: time.tv_sec, nanos: nanos_below_second(time.tv_nsec) }
    }
}

/// The kernel promises 0 ..= 999_999_999; [`Timestamp`] relies on it.
fn nanos_below_second(nanos: i64) -> u32 {
    nanos.clamp(0, 999_999_999) as u32
}

/// The time of the tokio runtime: follows a paused or simulated runtime (turmoil), where the kernel's clocks do not.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeClock {
    start: tokio::time::Instant,
    wall_at_start: Timestamp,
}

impl RuntimeClock {
    /// A clock whose ticks begin at zero now; `wall_at_start` is the wall time of this moment.
    pub fn starting_at(wall_at_start: Timestamp) -> Self {
        Self { start: tokio::time::Instant::now(), wall_at_start }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Tick {
        Tick(self.start.elapsed())
    }

    fn wall(&self) -> Timestamp {
        plus(self.wall_at_start, self.start.elapsed())
    }
}

/// A clock that moves only when told: for tests of synchronous code.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// Lets `span` pass.
    pub fn advance(&self, span: Duration) {
        self.nanos.fetch_add(span.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        Tick(Duration::from_nanos(self.nanos.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> Timestamp {
        plus(Timestamp { seconds: 1_700_000_000, nanos: 0 }, self.now().0)
    }
}

fn plus(start: Timestamp, span: Duration) -> Timestamp {
    let nanos = u64::from(start.nanos) + u64::from(span.subsec_nanos());
    let seconds = start.seconds.saturating_add_unsigned(span.as_secs() + nanos / 1_000_000_000);
    Timestamp { seconds, nanos: (nanos % 1_000_000_000) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_ticks_never_go_back() {
        let mut last = SystemClock.now();
        for _ in 0..10_000 {
            let now = SystemClock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(SystemClock.wall().seconds > 1_600_000_000);
    }

    #[test]
    fn wall_time_carries_nanoseconds_into_seconds() {
        let sum = plus(Timestamp { seconds: -1, nanos: 900_000_000 }, Duration::new(2, 300_000_000));
        assert_eq!(sum, Timestamp { seconds: 2, nanos: 200_000_000 });
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let clock = ManualClock::default();
        let before = clock.now();
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().since(before), Duration::from_millis(1500));
        assert_eq!(clock.wall(), Timestamp { seconds: 1_700_000_001, nanos: 500_000_000 });
    }
}
