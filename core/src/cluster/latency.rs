//! Latencies of one kind, counted by magnitude: a percentile from bounded memory.

use std::time::Duration;

/// Magnitudes told apart between a number and its double: they are 6 % wide.
const STEPS: u64 = 16;
const STEPS_LOG2: u32 = STEPS.ilog2();
/// From 16 µs (below: the same) to over a minute.
const DOUBLINGS: usize = 22;

/// Counts of latencies.
#[derive(Clone, Debug)]
pub struct LatencyCounts {
    counts: [u32; DOUBLINGS * STEPS as usize],
    total: u32,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { counts: [0; DOUBLINGS * STEPS as usize], total: 0 }
    }
}

impl LatencyCounts {
    /// Counts one.
    pub fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(STEPS);
        let log2 = micros.ilog2() - STEPS_LOG2;
        let at = u64::from(log2) * STEPS + ((micros >> log2) - STEPS);
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.counts.len() - 1);
        self.counts[at] = self.counts[at].saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    /// How many.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// What all but a hundredth of them, and at least all but one, do not exceed; zero: there is none.
    pub fn p99(&self) -> Duration {
        let mut beyond = (self.total / 100).max(1);
        for (at, &count) in self.counts.iter().enumerate().rev() {
            if count > beyond || (count > 0 && self.total == 1) {
                let (log2, step) = (at as u64 / STEPS, at as u64 % STEPS);
                return Duration::from_micros((STEPS + step) << log2);
            }
            beyond -= count;
        }
        Duration::ZERO
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        if self.total > 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_within_a_step_of_the_truth() {
        for scale in [20, 300, 7_000, 900_000] {
            let mut counts = LatencyCounts::default();
            (1..=1000).for_each(|n| counts.note(Duration::from_micros(scale + n * scale / 1000)));
            let truth = Duration::from_micros(scale + 990 * scale / 1000);
            let told = counts.p99();
            assert!(told <= truth && told >= truth.mul_f64(0.93), "{told:?} for {truth:?}");
        }
    }

    #[test]
    fn one_late_answer_of_a_few_does_not_count_and_nothing_overflows() {
        let mut counts = LatencyCounts::default();
        assert_eq!(counts.p99(), Duration::ZERO);
        counts.note(Duration::MAX);
        assert!(counts.p99() > Duration::from_secs(60));
        (0..9).for_each(|_| counts.note(Duration::ZERO));
        assert_eq!((counts.p99(), counts.total()), (Duration::from_micros(16), 10));
        counts.clear();
        assert_eq!((counts.p99(), counts.total()), (Duration::ZERO, 0));
    }
}
