//! Time: monotonic ticks for deadlines and leases, wall time for file attributes.

use cairn_core::time::{Tick, Timestamp};

/// The clock door.
pub trait Clock: Send + Sync + 'static {
    /// CLOCK_BOOTTIME: never goes back, counts suspend. Leases and deadlines are made of it.
    fn now(&self) -> Tick;

    /// CLOCK_REALTIME: may jump. For attributes and logs only; nothing safe may depend on it (I26).
    fn wall(&self) -> Timestamp;
}
