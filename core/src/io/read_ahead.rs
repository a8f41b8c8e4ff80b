//! When to read ahead, and how far: the window doubles while reads are sequential and closes when they are not.

use crate::limits::{READ_AHEAD_BYTES_MAX, READ_AHEAD_BYTES_MIN};

/// The judge of one open file's reads.
#[derive(Clone, Debug, Default)]
pub struct ReadAhead {
    /// Where the last read ended.
    next: u64,
    /// Bytes to keep ahead of the reader; 0 while the access is not sequential.
    window: u64,
    /// Everything below was asked for already.
    asked_to: u64,
    streak: u32,
}

/// Sequential reads after which reading ahead starts. The second one proves nothing yet: `file(1)` reads twice.
const STREAK_MIN: u32 = 2;

impl ReadAhead {
    /// Notes the read of `from .. to` in a file of `size` bytes. Answers what to fetch ahead, if anything.
    pub fn on_read(&mut self, from: u64, to: u64, size: u64) -> Option<(u64, u64)> {
        // Parallel readers of one handle (a kernel's own read-ahead) arrive a little out of order.
        let near = from <= self.next.saturating_add(READ_AHEAD_BYTES_MIN)
            && to.saturating_add(READ_AHEAD_BYTES_MIN) >= self.next;
        if !near {
            *self = Self { next: to, window: 0, asked_to: 0, streak: 0 };
            return None;
        }
        self.next = self.next.max(to);
        self.streak = self.streak.saturating_add(1);
        if self.streak < STREAK_MIN {
            return None;
        }
        self.window = (self.window * 2).clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES_MAX);
        let from = self.asked_to.max(self.next);
        let until = self.next.saturating_add(self.window).min(size);
        // Ask in steps of a quarter window, so that small reads do not each cause a small request.
        if from >= until || (until < size && until - from < self.window / 4) {
            return None;
        }
        self.asked_to = until;
        Some((from, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_on_sequential_reads_and_is_bounded() {
        let mut judge = ReadAhead::default();
        let (mut at, mut fetched) = (0, 0);
        for _ in 0..1000 {
            if let Some((from, to)) = judge.on_read(at, at + 131_072, u64::MAX / 2) {
                assert!(from >= fetched, "asks for nothing twice");
                assert!(to - at <= READ_AHEAD_BYTES_MAX + 131_072);
                fetched = to;
            }
            at += 131_072;
        }
        assert!(fetched >= at + READ_AHEAD_BYTES_MAX / 2, "keeps well ahead");
    }

    #[test]
    fn random_reads_fetch_nothing() {
        let mut judge = ReadAhead::default();
        let mut at = 1u64;
        for _ in 0..100 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
                % (1 << 40);
            assert_eq!(judge.on_read(at, at + 4096, 1 << 41), None);
        }
    }

    #[test]
    fn nothing_is_fetched_beyond_the_end() {
        let mut judge = ReadAhead::default();
        for at in 0..10u64 {
            if let Some((_, to)) = judge.on_read(at * 100, at * 100 + 100, 1000) {
                assert!(to <= 1000);
            }
        }
    }
}
