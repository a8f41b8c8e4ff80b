//! The circuit breaker of a server or of one of its disks: closed while it works, open for a while after a failure, longer
//! with each one in a row, and half-open when that is over: one request probes it, the others still go elsewhere.

use crate::limits::{BREAKER_LATE_MAX, BREAKER_MAX, BREAKER_MIN, BREAKER_PROBE_MAX};
use crate::time::Tick;

/// Whether to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// As usual.
    Closed,
    /// Once, to learn whether it works again.
    Probe,
    /// Only if nobody else can be asked.
    Open,
}

/// What operators are shown of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests go there.
    Closed,
    /// One request goes there, to learn whether it works again.
    HalfOpen,
    /// None does, as long as others can be asked.
    Open,
}

impl BreakerState {
    /// Every state with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Closed, "closed"), (Self::HalfOpen, "half_open"), (Self::Open, "open")];
}

/// One breaker. Begins closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Answers in a row that came too late.
    late: u32,
    open_until: Tick,
    /// A probe is under way since.
    probing: Option<Tick>,
}

impl Breaker {
    /// Whether it may be asked.
    pub fn gate(&self, now: Tick) -> Gate {
        match self.probing {
            _ if self.failures == 0 => Gate::Closed,
            _ if self.open_until > now => Gate::Open,
            Some(since) if now.since(since) < BREAKER_PROBE_MAX => Gate::Open,
            _ => Gate::Probe,
        }
    }

    /// The same for people: while a probe is under way it is half-open to all.
    pub fn state(&self, now: Tick) -> BreakerState {
        match self.failures {
            0 => BreakerState::Closed,
            _ if self.open_until > now => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// Whoever was told to probe does so.
    pub fn probe(&mut self, now: Tick) {
        if self.gate(now) == Gate::Probe {
            self.probing = Some(now);
        }
    }

    /// It failed. True when that opens it: many requests fail by one event, and count as one failure.
    pub fn failed(&mut self, now: Tick) -> bool {
        if self.open_until > now {
            return false;
        }
        let span = BREAKER_MIN.saturating_mul(1 << self.failures.min(8)).min(BREAKER_MAX);
        self.failures = self.failures.saturating_add(1);
        self.open_until = now.after(span);
        self.probing = None;
        self.late = 0;
        true
    }

    /// It answered later than others, or not yet where they did. Opens when that happens again and again.
    pub fn late(&mut self, now: Tick) -> bool {
        self.late += 1;
        (self.late >= BREAKER_LATE_MAX || self.failures > 0) && self.failed(now)
    }

    /// It answered in time: all is forgiven. True when that closes it.
    pub fn answered(&mut self) -> bool {
        let was_open = self.failures > 0;
        *self = Self::default();
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_opens_longer_each_time_and_lets_one_probe_through() {
        let mut breaker = Breaker::default();
        let mut now = Tick(Duration::from_secs(100));
        let mut spans = Vec::new();
        for _ in 0..8 {
            assert!(breaker.failed(now));
            assert!(!breaker.failed(now), "one event");
            let begun = now;
            while breaker.gate(now) == Gate::Open {
                now = now.after(Duration::from_millis(500));
            }
            spans.push(now.since(begun));
            assert_eq!(breaker.gate(now), Gate::Probe);
            breaker.probe(now);
            assert_eq!(breaker.gate(now), Gate::Open, "one at a time");
            assert_eq!(breaker.state(begun), BreakerState::Open);
            assert_eq!(breaker.state(now), BreakerState::HalfOpen);
        }
        assert_eq!((spans[0], spans[1], spans[7]), (BREAKER_MIN, BREAKER_MIN * 2, BREAKER_MAX));
        assert!(breaker.answered());
        assert_eq!((breaker.gate(now), breaker.state(now)), (Gate::Closed, BreakerState::Closed));
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another() {
        let mut breaker = Breaker::default();
        let now = Tick(Duration::from_secs(100));
        breaker.failed(now);
        let later = now.after(BREAKER_MIN);
        breaker.probe(later);
        assert_eq!(breaker.gate(later), Gate::Open);
        assert_eq!(breaker.gate(later.after(BREAKER_PROBE_MAX)), Gate::Probe);
    }

    #[test]
    fn one_late_answer_opens_nothing() {
        let mut breaker = Breaker::default();
        let now = Tick(Duration::from_secs(100));
        for _ in 0..10 {
            assert!(!breaker.late(now));
            assert!(!breaker.answered());
        }
        assert!((1..BREAKER_LATE_MAX).all(|_| !breaker.late(now)));
        assert!(breaker.late(now));
        assert_eq!(breaker.gate(now), Gate::Open);
    }
}
