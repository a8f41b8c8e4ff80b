//! What experience says of a server: how fast it answers, and whether it did at all of late.

use cairn_core::limits::{BREAKER_MAX, BREAKER_MIN, HEDGE_DELAY_MAX, HEDGE_DELAY_MIN};
use cairn_core::time::Tick;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server whose answers take so many times as long as another's is too slow to stay with. Less is the noise of two disks.
const LAG_FACTOR: u64 = 4;

/// The circuit breaker and the clock-work of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    record: Mutex<Record>,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Record {
    /// Smoothed time of an answer, in microseconds; 0: none yet.
    mean_us: u64,
    /// Smoothed deviation from it.
    deviation_us: u64,
    /// Failures in a row.
    failures: u32,
    /// Asked last until then.
    avoided_until: Tick,
    /// Gave no sign of life of late: until then little patience is had with it.
    silent_until: Tick,
}

/// Counts a request while it lives.
pub(super) struct UnderWay<'a>(&'a Health);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// An answer came after `took`.
    pub(super) fn answered(&self, took: Duration) {
        let mut record = self.record();
        let sample = (took.as_micros() as u64).max(1);
        if record.mean_us == 0 {
            record.mean_us = sample;
            record.deviation_us = sample / 2;
        } else {
            // The gains of TCP's round-trip estimator (RFC 6298).
            record.deviation_us = (3 * record.deviation_us + record.mean_us.abs_diff(sample)) / 4;
            record.mean_us = (7 * record.mean_us + sample) / 8;
        }
        record.failures = 0;
        record.avoided_until = Tick::default();
    }

    /// It failed, or was silent where another answered.
    pub(super) fn failed(&self, now: Tick) {
        let mut record = self.record();
        // Many requests fail by one event: they count as one failure.
        if record.avoided_until > now {
            return;
        }
        let span = BREAKER_MIN.saturating_mul(1 << record.failures.min(8)).min(BREAKER_MAX);
        record.failures = record.failures.saturating_add(1);
        record.avoided_until = now.after(span);
    }

    /// It gave no sign of life in all the time that a writer had for it.
    pub(super) fn was_silent(&self, now: Tick) {
        self.record().silent_until = now.after(BREAKER_MIN);
        self.failed(now);
    }

    /// Whether it gave no sign of life a moment ago.
    pub(super) fn is_silent(&self, now: Tick) -> bool {
        self.record().silent_until > now
    }

    /// How much it speaks against asking this server: avoided ones last, then by expected waiting time.
    pub(super) fn cost(&self, now: Tick) -> (bool, u64) {
        let record = self.record();
        let load = self.in_flight.load(Ordering::Relaxed) as u64 + 1;
        (record.avoided_until > now, record.mean_us.saturating_mul(load))
    }

    /// Smoothed time of an answer; 0 while there was none.
    pub(super) fn mean_us(&self) -> u64 {
        self.record().mean_us
    }

    /// Whether somebody whose answers take `quickest_us` should be asked instead, whatever is under way here.
    pub(super) fn lags_behind(&self, quickest_us: u64, now: Tick) -> bool {
        let record = self.record();
        record.avoided_until > now || record.mean_us / LAG_FACTOR > quickest_us
    }

    /// After so long without an answer somebody else is asked as well: about the 95th percentile of its answers.
    pub(super) fn hedge_delay(&self) -> Duration {
        let record = self.record();
        let late = Duration::from_micros(record.mean_us + 4 * record.deviation_us);
        late.clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_server_is_avoided_longer_each_time_and_forgiven_at_once() {
        let health = Health::default();
        let mut now = Tick(Duration::from_secs(100));
        let mut spans = Vec::new();
        for _ in 0..8 {
            health.failed(now);
            health.failed(now);
            let begun = now;
            while health.cost(now).0 {
                now = now.after(Duration::from_millis(500));
            }
            spans.push(now.since(begun));
        }
        assert_eq!(spans[0], BREAKER_MIN);
        assert_eq!(spans[1], BREAKER_MIN * 2);
        assert_eq!(spans[7], BREAKER_MAX);
        health.failed(now);
        health.answered(Duration::from_millis(1));
        assert!(!health.cost(now).0);
    }

    #[test]
    fn the_hedge_follows_experience_within_bounds() {
        let health = Health::default();
        assert_eq!(health.hedge_delay(), HEDGE_DELAY_MIN);
        for _ in 0..50 {
            health.answered(Duration::from_millis(60));
        }
        assert!(health.hedge_delay() >= Duration::from_millis(60));
        for _ in 0..50 {
            health.answered(Duration::from_secs(5));
        }
        assert_eq!(health.hedge_delay(), HEDGE_DELAY_MAX);
    }
}
