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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of the requests of one kind.
#[derive(Default)]
struct Requests {
    answered: AtomicU64,
    /// How long those took that waited for anything.
    waits: Spans,
}

/// All that is counted here; the client below counts for itself.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [Requests; Kind::ALL.len()],
    errors: [AtomicU64; ErrorClass::ALL.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// Where one request is counted.
pub(crate) struct Tally {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) kind: Kind,
}

impl Tally {
    /// It was answered. `waited`: how long it took, if it had to wait for anything.
    pub(crate) fn answered(&self, waited: Option<Duration>, error: Option<&FsError>) {
        let requests = &self.metrics.requests[self.kind as usize];
        requests.answered.fetch_add(1, Relaxed);
        if let Some(took) = waited {
            requests.waits.add(took);
        }
        if let Some(error) = error {
            self.metrics.errors[ErrorClass::of(error) as usize].fetch_add(1, Relaxed);
        }
    }
}

impl Metrics {
    /// Bytes have gone to a program.
    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes of a program were accepted.
    pub(crate) fn written(&self, bytes: u32) {
        self.written_bytes.fetch_add(bytes.into(), Relaxed);
    }
}
