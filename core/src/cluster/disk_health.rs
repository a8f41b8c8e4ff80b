//! Whether a disk is as quick as it and its peers usually are, and whether it can be read at all.
//!
//! A disk is slow when the median of its latest reads, or of its latest syncs, is many times what was usual here before and
//! what is usual on its peers, for some looks in a row. The median, because one late answer says nothing; the peers, because
//! all disks are slow under load. What is under way for long counts as an answer that took as long already: a disk that hangs
//! gives no answers, and one that hangs for very long has failed. It is quick again when it has been so for a while, a longer one
//! after each relapse. While nobody looked (the process was stopped) nothing is measured.

use crate::limits::{
    DISK_CALM_MAX, DISK_CALM_MIN, DISK_HUNG, DISK_READ_FAILURES_MAX, DISK_RELAPSE_FORGOTTEN,
    DISK_SAMPLE_AGE_MAX, DISK_SAMPLES, DISK_SAMPLES_MIN, DISK_SLOW_FACTOR, DISK_SLOW_LOOKS,
    DISK_SLOW_READ_MIN, DISK_SLOW_SYNC_MIN, DISK_TRIAL_PERIOD, OBSERVER_PAUSE,
};
use crate::time::Tick;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Kinds of work whose latencies are compared; each only with its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskWork {
    /// A read that left memory, of a frame at most.
    Read,
    /// A write and sync of the journal, of a batch at most.
    Sync,
}

/// What a disk takes, by kind of work; zero: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPace {
    /// Median of a read.
    pub read: Duration,
    /// Median of a sync.
    pub sync: Duration,
}

impl DiskPace {
    /// The medians over several disks, of what is known. The lower ones of two: a slow disk is not its own peer.
    pub fn typical(of: &[Self]) -> Self {
        let median = |pick: fn(&Self) -> Duration| {
            let mut known: Vec<_> = of.iter().map(pick).filter(|pace| !pace.is_zero()).collect();
            known.sort_unstable();
            known.get(known.len().saturating_sub(1) / 2).copied().unwrap_or_default()
        };
        Self { read: median(|pace| pace.read), sync: median(|pace| pace.sync) }
    }
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTurn {
    /// As before.
    Same,
    /// It is slow from now on.
    Slow(DiskWork, Duration),
    /// It is as quick as before.
    Quick,
    /// Something has been under way for so long that it is not waited for any more.
    Hung(Duration),
}

/// The latencies of one disk, and what follows from them.
#[derive(Debug, Default)]
pub struct DiskHealth {
    read: Latencies,
    sync: Latencies,
    under_way: BTreeMap<u64, (DiskWork, Tick)>,
    next: u64,
    /// Looks in a row that found it slow.
    slow_looks: u32,
    slow: Option<Slow>,
    /// How long it must be quick, and when it last became so.
    calm: Duration,
    recovered: Tick,
    last_trial: Tick,
    last_look: Tick,
    unread: BTreeSet<u64>,
}

#[derive(Debug)]
struct Slow {
    /// Looks have found it quick since then.
    quick_since: Option<Tick>,
}

#[derive(Debug, Default)]
struct Latencies {
    /// When each ended, and how long it took.
    recent: VecDeque<(Tick, Duration)>,
    /// Slowly follows the median while the disk is not slow.
    usual: Duration,
    looks: u32,
}

impl DiskHealth {
    /// Work begins; the number is for [`DiskHealth::end`].
    pub fn begin(&mut self, work: DiskWork, now: Tick) -> u64 {
        self.next += 1;
        self.under_way.insert(self.next, (work, now));
        self.next
    }

    /// It has ended.
    pub fn end(&mut self, number: u64, now: Tick) {
        let Some((work, begun)) = self.under_way.remove(&number) else { return };
        if self.was_stopped(now) {
            return;
        }
        let recent = &mut self.of(work).recent;
        if recent.len() == DISK_SAMPLES {
            recent.pop_front();
        }
        recent.push_back((now, now.since(begun)));
    }

    /// The system failed to read of `replica`. True when the whole disk cannot be read.
    pub fn read_failed(&mut self, replica: u64) -> bool {
        self.unread.insert(replica);
        self.unread.len() >= DISK_READ_FAILURES_MAX
    }

    /// A read gave bytes, whichever.
    pub fn read_worked(&mut self) {
        self.unread.clear();
    }

    /// Whether it is slow.
    pub fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    /// Whether a request that others can serve should try a slow disk: one each time.
    pub fn may_try(&mut self, now: Tick) -> bool {
        let due = now.since(self.last_trial) >= DISK_TRIAL_PERIOD;
        if due {
            self.last_trial = now;
        }
        due
    }

    /// What it takes at present.
    pub fn pace(&self, now: Tick) -> DiskPace {
        let pace = |work| self.figure(work, now).unwrap_or_default();
        DiskPace { read: pace(DiskWork::Read), sync: pace(DiskWork::Sync) }
    }

    /// Judges it against its past and `peers`. To be called every [`crate::limits::DISK_LOOK_PERIOD`].
    pub fn look(&mut self, peers: DiskPace, now: Tick) -> DiskTurn {
        if self.was_stopped(now) {
            self.under_way.values_mut().for_each(|(_, begun)| *begun = now);
        }
        self.last_look = now;
        let longest = self.under_way.values().map(|(_, begun)| now.since(*begun)).max();
        if let Some(longest) = longest.filter(|longest| *longest >= DISK_HUNG) {
            return DiskTurn::Hung(longest);
        }
        self.judge(peers, now)
    }

    /// Whether nobody has looked for so long that this process must have been stopped.
    fn was_stopped(&self, now: Tick) -> bool {
        now.since(self.last_look) > OBSERVER_PAUSE
    }

    fn judge(&mut self, peers: DiskPace, now: Tick) -> DiskTurn {
        let mut slowest = None;
        let mut is_known = false;
        for (work, peers) in [(DiskWork::Read, peers.read), (DiskWork::Sync, peers.sync)] {
            let Some(figure) = self.figure(work, now) else { continue };
            is_known = true;
            if figure > self.threshold(work, peers) {
                slowest = slowest.max(Some((figure, work as u8)));
            } else if self.slow.is_none() {
                self.of(work).learn(figure);
            }
        }
        let slowest =
            slowest.map(|(figure, work)| (if work == 0 { DiskWork::Read } else { DiskWork::Sync }, figure));
        match (&mut self.slow, slowest) {
            (None, None) => self.slow_looks = 0,
            (None, Some((work, figure))) => {
                self.slow_looks += 1;
                if self.slow_looks >= DISK_SLOW_LOOKS {
                    self.turned_slow(now);
                    return DiskTurn::Slow(work, figure);
                }
            }
            (Some(slow), Some(_)) => slow.quick_since = None,
            (Some(slow), None) if is_known => {
                let since = *slow.quick_since.get_or_insert(now);
                if now.since(since) >= self.calm {
                    self.slow = None;
                    self.recovered = now;
                    return DiskTurn::Quick;
                }
            }
            (Some(_), None) => {}
        }
        DiskTurn::Same
    }

    fn turned_slow(&mut self, now: Tick) {
        let is_relapse = !self.calm.is_zero() && now.since(self.recovered) < DISK_RELAPSE_FORGOTTEN;
        self.calm = if is_relapse { (self.calm * 2).min(DISK_CALM_MAX) } else { DISK_CALM_MIN };
        self.slow = Some(Slow { quick_since: None });
        self.slow_looks = 0;
    }

    fn threshold(&self, work: DiskWork, peers: Duration) -> Duration {
        let (least, usual) = match work {
            DiskWork::Read => (DISK_SLOW_READ_MIN, self.read.usual),
            DiskWork::Sync => (DISK_SLOW_SYNC_MIN, self.sync.usual),
        };
        // A slow disk must come well below what made it slow.
        let least = if self.slow.is_some() { least / 2 } else { least };
        least.max(usual.max(peers) * DISK_SLOW_FACTOR)
    }

    /// The median of what is fresh, or nothing.
    fn figure(&self, work: DiskWork, now: Tick) -> Option<Duration> {
        let (latencies, least) = match work {
            DiskWork::Read => (&self.read, DISK_SLOW_READ_MIN),
            DiskWork::Sync => (&self.sync, DISK_SLOW_SYNC_MIN),
        };
        let fresh = latencies.recent.iter().filter(|(ended, _)| now.since(*ended) <= DISK_SAMPLE_AGE_MAX);
        let late = self.under_way.values().filter(|(kind, _)| *kind == work);
        let late = late.map(|&(_, begun)| now.since(begun)).filter(|age| *age >= least);
        let mut all: Vec<Duration> = fresh.map(|&(_, took)| took).chain(late).collect();
        // A slow disk is tried now and then only.
        let needed = if self.slow.is_some() { 1 } else { DISK_SAMPLES_MIN };
        if all.len() < needed {
            return None;
        }
        all.sort_unstable();
        Some(all[all.len() / 2])
    }

    fn of(&mut self, work: DiskWork) -> &mut Latencies {
        match work {
            DiskWork::Read => &mut self.read,
            DiskWork::Sync => &mut self.sync,
        }
    }
}

impl Latencies {
    /// The mean of the first looks, then an average over some minutes of work.
    fn learn(&mut self, figure: Duration) {
        self.looks = (self.looks + 1).min(1024);
        self.usual = match figure.checked_sub(self.usual) {
            Some(more) => self.usual + more / self.looks,
            None => self.usual - (self.usual - figure) / self.looks,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DiskWork::{Read, Sync};

    const LOOK: Duration = crate::limits::DISK_LOOK_PERIOD;

    /// A disk under steady work, of which ten requests end before each look.
    #[derive(Default)]
    struct Bench {
        health: DiskHealth,
        now: Tick,
        peers: DiskPace,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self { now: Tick(millis(5000)), ..Self::default() };
            bench.health.look(bench.peers, bench.now);
            bench
        }

        fn work(&mut self, work: DiskWork, took: Duration, looks: u32) -> Vec<DiskTurn> {
            let mut turns = Vec::new();
            for _ in 0..looks {
                self.now = self.now.after(LOOK);
                for _ in 0..10 {
                    let begun = Tick(self.now.0.saturating_sub(took));
                    let number = self.health.begin(work, begun);
                    self.health.end(number, self.now);
                }
                match self.health.look(self.peers, self.now) {
                    DiskTurn::Same => {}
                    turn => turns.push(turn),
                }
            }
            turns
        }
    }

    const fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn a_disk_a_hundred_times_slower_shows_within_half_a_second() {
        let mut bench = Bench::new();
        assert_eq!(bench.work(Read, Duration::from_micros(300), 100), []);
        assert_eq!(bench.work(Read, millis(30), 8), [DiskTurn::Slow(Read, millis(30))]);
        assert!(bench.health.is_slow());
    }

    #[test]
    fn what_is_slow_everywhere_is_load() {
        for (peers, turns) in [(millis(100), 0), (millis(10), 1)] {
            let mut bench = Bench::new();
            bench.work(Sync, millis(2), 100);
            bench.peers = DiskPace { sync: peers, ..DiskPace::default() };
            assert_eq!(bench.work(Sync, millis(200), 100).len(), turns);
        }
    }

    #[test]
    fn a_disk_that_hangs_gives_no_answers_and_is_slow() {
        let mut bench = Bench::new();
        bench.work(Read, millis(1), 100);
        let begun = bench.now;
        for _ in 0..6 {
            bench.health.begin(Read, begun);
        }
        let looks = (1..40).map(|look| bench.health.look(bench.peers, begun.after(LOOK * look)));
        assert_eq!(looks.filter(|turn| matches!(turn, DiskTurn::Slow(Read, _))).count(), 1);
    }

    #[test]
    fn what_never_ends_fails_the_disk_unless_nobody_was_there_to_see() {
        let mut bench = Bench::new();
        bench.health.begin(Sync, bench.now);
        let stopped = bench.now.after(DISK_HUNG * 2);
        assert_eq!(bench.health.look(bench.peers, stopped), DiskTurn::Same, "the process was stopped");
        let mut now = stopped;
        let mut turns = Vec::new();
        while now < stopped.after(DISK_HUNG) {
            now = now.after(LOOK);
            turns.push(bench.health.look(bench.peers, now));
        }
        assert_eq!(turns.pop(), Some(DiskTurn::Hung(DISK_HUNG)));
        assert!(turns.iter().all(|turn| !matches!(turn, DiskTurn::Hung(_))));
    }

    #[test]
    fn a_stop_of_the_process_is_no_slow_disk() {
        let mut bench = Bench::new();
        bench.work(Read, millis(1), 50);
        let numbers: Vec<u64> = (0..16).map(|_| bench.health.begin(Read, bench.now)).collect();
        bench.now = bench.now.after(millis(5000));
        numbers.into_iter().for_each(|number| bench.health.end(number, bench.now));
        for _ in 0..20 {
            bench.now = bench.now.after(LOOK);
            assert_eq!(bench.health.look(bench.peers, bench.now), DiskTurn::Same);
        }
    }

    #[test]
    fn single_late_answers_are_no_slow_disk() {
        let mut bench = Bench::new();
        bench.work(Read, millis(1), 50);
        for _ in 0..50 {
            bench.now = bench.now.after(LOOK);
            for took in [1, 1, 1, 500, 1, 400] {
                let number = bench.health.begin(Read, Tick(bench.now.0 - millis(took)));
                bench.health.end(number, bench.now);
            }
            assert_eq!(bench.health.look(bench.peers, bench.now), DiskTurn::Same);
        }
    }

    #[test]
    fn it_must_stay_quick_and_longer_after_each_relapse() {
        let mut bench = Bench::new();
        bench.work(Read, millis(1), 100);
        let mut spans = Vec::new();
        for _ in 0..3 {
            assert_eq!(bench.work(Read, millis(100), 30).len(), 1);
            let begun = bench.now;
            while bench.work(Read, millis(1), 1) != [DiskTurn::Quick] {}
            spans.push(bench.now.since(begun).as_secs());
        }
        assert_eq!(spans, [10, 20, 40]);
    }

    #[test]
    fn reads_of_different_replicas_must_fail_in_a_row() {
        let mut health = DiskHealth::default();
        assert!(
            !health.read_failed(1) && !health.read_failed(1) && !health.read_failed(1),
            "one bad replica"
        );
        assert!(!health.read_failed(2));
        health.read_worked();
        assert!(!health.read_failed(3) && !health.read_failed(4));
        assert!(health.read_failed(5));
    }

    #[test]
    fn the_typical_pace_is_that_of_the_quicker_half() {
        let pace = |read| DiskPace { read: millis(read), sync: Duration::ZERO };
        assert_eq!(DiskPace::typical(&[pace(100), pace(1)]), pace(1));
        assert_eq!(DiskPace::typical(&[pace(0), pace(5), pace(0)]), pace(5));
        assert_eq!(DiskPace::typical(&[]), DiskPace::default());
    }
}
