//! What a mount counts, and the pages on which it shows that.
//!
//! Counting stands on the way of requests that take 20 µs in all: an addition to a place that each kind has for itself, no lock,
//! no search, and no look at the clock that is not taken anyway.

mod kind;
mod page;
mod serve;

pub(crate) use kind::Kind;
pub(crate) use serve::{Pages, listen};

use crate::errno::ErrorClass;
use cairn_core::error::FsError;
use cairn_env::metrics::Spans;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// All that is counted here; the client below counts for itself.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Together, apart from the histograms: most requests touch nothing else here, and a line of the cache that another core has costs
    /// more than the addition.
    answered: [AtomicU64; Kind::ALL.len()],
    /// How long those took that waited for anything.
    waits: [Spans; Kind::ALL.len()],
    errors: [AtomicU64; ErrorClass::ALL.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Metrics {
    /// A request was answered. `waited`: how long it took, if it had to wait for anything.
    pub(crate) fn answered(&self, kind: Kind, waited: Option<Duration>, error: Option<&FsError>) {
        self.answered[kind as usize].fetch_add(1, Relaxed);
        if let Some(took) = waited {
            self.waits[kind as usize].add(took);
        }
        if let Some(error) = error {
            self.errors[ErrorClass::of(error) as usize].fetch_add(1, Relaxed);
        }
    }

    /// Bytes have gone to a program.
    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes of a program were accepted.
    pub(crate) fn written(&self, bytes: u32) {
        self.written_bytes.fetch_add(bytes.into(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waited_is_timed() {
        let metrics = Metrics::default();
        metrics.answered(Kind::Open, None, None);
        metrics.answered(Kind::Open, Some(Duration::from_millis(3)), Some(&FsError::NotFound));
        let open = Kind::Open as usize;
        assert_eq!(metrics.answered[open].load(Relaxed), 2);
        let waits = metrics.waits[open].counts();
        assert_eq!((waits.count, waits.sum), (1, 0.003));
        assert_eq!(metrics.errors[ErrorClass::Absent as usize].load(Relaxed), 1);
        assert_eq!(metrics.answered.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 2);
    }
}
