//! How long something takes, counted by powers: a histogram that any thread adds to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; what is longer counts in the last one, without a bound.
const BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// A histogram of spans of time. Its last bucket holds what no bound does (`le="+Inf"`): without that one Prometheus computes no
/// quantile.
#[derive(Debug, Default)]
pub struct Spans {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    nanos: AtomicU64,
}

/// What it shows: as the exposition format of Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanCounts {
    /// Sum of all spans, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// Upper bound in seconds, and how many fell between the bound before and this one.
    pub buckets: Vec<(f64, u64)>,
}

impl Spans {
    /// One more.
    pub fn add(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn counts(&self) -> SpanCounts {
        let bounds = BOUNDS_MICROS.iter().map(|&micros| micros as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        SpanCounts { sum, count: buckets.iter().map(|bucket| bucket.1).sum(), buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_fall_into_the_first_bucket_that_holds_them() {
        let spans = Spans::default();
        [50, 51, 1_000, 99_000_000].into_iter().for_each(|micros| spans.add(Duration::from_micros(micros)));
        let counts = spans.counts();
        let of = |bound: f64| counts.buckets.iter().find(|bucket| bucket.0 == bound).map(|bucket| bucket.1);
        assert_eq!(
            [of(0.00005), of(0.0001), of(0.001), of(f64::INFINITY), of(1.0)],
            [1, 1, 1, 1, 0].map(Some)
        );
        assert_eq!(counts.count, 4);
        assert!((counts.sum - 99.001101).abs() < 1e-9);
    }
}
