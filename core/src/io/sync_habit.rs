//! Whether a small write of a file had better be durable when it returns, because somebody will soon wait for that.
//!
//! That is so where several programs write and sync one file. The kernel lets one request of a file in at a time, so nothing is
//! lost by waiting in the write for what the next sync would wait for; and the kernel wakes whoever is next while the write
//! lasts, so that they take turns. A write that returns at once is over before the next one is awake: some then go several
//! times, others wait for several rounds.
//! A single writer, which may write a few blocks before each sync, is left alone: its own sync sends them all at once.
//!
//! It is a guess, on which only costs depend: a wrong one sends a few small frames that could have been one, and waits for them.

use crate::limits::{HABIT_SINGLE_WRITES_MIN, HABIT_SYNCS_MIN, HABIT_WRITES_MAX};

/// Tells the writers of a file apart: any number that open handles do not share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterTag(pub usize);

/// What is known of the writers of one file.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncHabit {
    /// Since the last sync.
    writes: u32,
    /// In a row, each after few writes.
    syncs: u32,
    /// Syncs of several writers are believed in for so many more that do not look like it.
    several: u32,
    /// Who wrote last.
    writer: WriterTag,
}

impl SyncHabit {
    /// Notes a write. True when its bytes had better be durable at once.
    pub fn wrote(&mut self, by: WriterTag) -> bool {
        self.writer = by;
        self.writes = self.writes.saturating_add(1);
        if self.writes > HABIT_WRITES_MAX {
            self.syncs = 0;
        }
        self.syncs >= HABIT_SYNCS_MIN && self.several > 0
    }

    /// Notes that a program waits for what was written to be durable.
    pub fn synced(&mut self, by: WriterTag) {
        self.syncs = if self.writes <= HABIT_WRITES_MAX { self.syncs.saturating_add(1) } else { 0 };
        // Another's sync has covered what this one wrote: or it syncs what another wrote.
        let are_several = self.writes == 0 || self.writer != by;
        self.several = if are_several { HABIT_SINGLE_WRITES_MIN } else { self.several.saturating_sub(1) };
        self.writes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many writes, then a sync, leave at once.
    fn eager(habit: &mut SyncHabit, writes: u32) -> u32 {
        let eager = (0..writes).filter(|_| habit.wrote(WriterTag(1))).count() as u32;
        habit.synced(WriterTag(1));
        eager
    }

    #[test]
    fn programs_that_take_turns_are_several() {
        let mut habit = SyncHabit::default();
        let mut turn = |last: usize, next: usize| {
            let eager = habit.wrote(WriterTag(last));
            habit.synced(WriterTag(next));
            eager
        };
        let eager: Vec<bool> = (0..100).map(|turns| turn(turns % 3, (turns + 1) % 3)).collect();
        assert_eq!(eager.iter().filter(|eager| !**eager).count() as u32, HABIT_SYNCS_MIN, "{eager:?}");
        let alone = (0..100).filter(|_| turn(5, 5)).count() as u32;
        assert_eq!(alone, HABIT_SINGLE_WRITES_MIN);
    }

    #[test]
    fn a_single_writer_is_left_alone_whatever_it_writes_before_a_sync() {
        let mut habit = SyncHabit::default();
        assert_eq!((0..100).map(|round| eager(&mut habit, 1 + round % HABIT_WRITES_MAX)).sum::<u32>(), 0);
    }

    #[test]
    fn several_writers_are_noticed_and_forgotten() {
        let mut habit = SyncHabit::default();
        // Threads share a handle: one's sync covers the other's write, whose own sync then finds nothing.
        for _ in 0..2 {
            eager(&mut habit, 2);
            eager(&mut habit, 0);
        }
        assert_eq!(eager(&mut habit, 2), 2);
        eager(&mut habit, 0);
        let alone: u32 = (0..100).map(|_| eager(&mut habit, 1)).sum();
        assert_eq!(alone, HABIT_SINGLE_WRITES_MIN, "one of them has gone on alone");
    }

    #[test]
    fn a_long_run_of_writes_is_soon_found_out() {
        let mut habit = SyncHabit::default();
        for _ in 0..4 {
            eager(&mut habit, 2);
            eager(&mut habit, 0);
        }
        assert_eq!(eager(&mut habit, 50), HABIT_WRITES_MAX);
        assert_eq!(eager(&mut habit, 2), 0);
    }
}
