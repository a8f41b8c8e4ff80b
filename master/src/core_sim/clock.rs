//! Simulated time, and what each host's clocks make of it.

use cairn_core::time::{Tick, Timestamp};
use cairn_env::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Time of the whole world since its beginning. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct WorldTime {
    nanos: Arc<AtomicU64>,
}

impl WorldTime {
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, now: Duration) {
        self.nanos.store(now.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Nanoseconds of a run times this still fit: a run is far shorter than two hours.
const MILLION: i64 = 1_000_000;

/// A host's clocks: ticks that run a little fast or slow, and a wall that jumps.
pub(super) struct HostClock {
    world: WorldTime,
    uptime: Duration,
    /// Millionths by which its ticks run fast (or slow).
    drift: i64,
    wall_offset_ms: AtomicI64,
}

impl HostClock {
    pub(super) fn new(world: WorldTime, uptime: Duration, drift: i64) -> Self {
        Self { world, uptime, drift, wall_offset_ms: AtomicI64::default() }
    }

    /// When this clock will show `tick`.
    pub(super) fn moment_of(&self, tick: Tick) -> Duration {
        let ran = tick.0.saturating_sub(self.uptime).as_nanos() as i64;
        let nanos = (ran * MILLION).div_euclid(MILLION + self.drift) + 1;
        Duration::from_nanos(nanos as u64)
    }

    pub(super) fn jump_wall(&self, by_ms: i64) {
        self.wall_offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for HostClock {
    fn now(&self) -> Tick {
        let nanos = self.world.now().as_nanos() as i64;
        let ran = nanos * (MILLION + self.drift) / MILLION;
        Tick(self.uptime + Duration::from_nanos(ran as u64))
    }

    fn wall(&self) -> Timestamp {
        let elapsed = self.world.now().as_millis() as i64;
        let millis = 1_700_000_000_000 + elapsed + self.wall_offset_ms.load(Ordering::Relaxed);
        Timestamp { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as u32 }
    }
}
