//! The rule against a disk that is simulated: copies slow its foreground down by as much as they keep it busy.

use super::*;
use crate::limits::REPAIRS_PER_SERVER_MAX;

const STEP: Duration = Duration::from_millis(1);
const PORTION: Duration = Duration::from_millis(2);
const PORTION_BYTES: u64 = 256 << 10;

/// A disk with a foreground and streams that copy, each with a portion under way at a time.
struct Bench {
    pace: Pace,
    now: Tick,
    /// Milliseconds between two answers of the foreground; 0: there is none.
    every: u64,
    /// What an answer takes without copies.
    takes: Duration,
    /// How much longer it takes for each portion under way, in percent.
    feels: u32,
    streams: Vec<(Haste, Option<(Portion, Tick)>)>,
    /// Time that portions of each haste took.
    took: [Duration; 3],
    /// All answers.
    seen: LatencyCounts,
}

impl Bench {
    fn new(every: u64, feels: u32) -> Self {
        let (takes, took) = (Duration::from_millis(1), [Duration::ZERO; 3]);
        let now = Tick(Duration::from_secs(100));
        let seen = LatencyCounts::default();
        Self { pace: Pace::default(), now, every, takes, feels, streams: Vec::new(), took, seen }
    }

    fn copy(&mut self, haste: Haste, streams: usize) {
        self.streams.extend((0..streams).map(|_| (haste, None)));
    }

    fn run(&mut self, seconds: u64) {
        (self.took, self.seen) = ([Duration::ZERO; 3], LatencyCounts::default());
        for _ in 0..seconds * 1000 {
            self.now = self.now.after(STEP);
            let now = self.now;
            for (haste, under_way) in &mut self.streams {
                if let Some((portion, ends)) = *under_way
                    && now >= ends
                {
                    self.pace.end(portion, (PORTION_BYTES, PORTION), now);
                    self.took[*haste as usize] += PORTION;
                    *under_way = None;
                }
                if under_way.is_none() {
                    *under_way = self.pace.begin(*haste, now).ok().map(|begun| (begun, now.after(PORTION)));
                }
            }
            let millis = now.0.as_millis() as u64;
            if self.every > 0 && millis.is_multiple_of(self.every) {
                let busy = self.streams.iter().filter(|(_, under_way)| under_way.is_some()).count() as u32;
                let took = self.takes * (100 + busy * self.feels) / 100;
                self.seen.note(took);
                self.pace.answered(ForegroundWork::SmallRead, took, now);
            }
        }
    }

    /// Streams' worth of time that copies of this haste got of each second.
    fn share(&self, haste: Haste, seconds: u64) -> f64 {
        self.took[haste as usize].as_secs_f64() / seconds as f64
    }
}

#[test]
fn without_a_foreground_nothing_is_held_back() {
    let mut bench = Bench::new(0, 0);
    bench.copy(Haste::Short, 8);
    bench.run(10);
    assert!(bench.share(Haste::Short, 10) > 7.0);
    bench.every = 400;
    bench.run(10);
    assert!(bench.share(Haste::Short, 10) > 7.0, "a few answers are none");
}

#[test]
fn copies_give_way_to_a_foreground_that_suffers_and_never_stop() {
    let mut bench = Bench::new(2, 100);
    bench.run(5);
    bench.copy(Haste::Short, 8);
    bench.run(3);
    bench.run(30);
    let share = bench.share(Haste::Short, 30);
    assert!((0.08..0.5).contains(&share), "{share} of a stream");
    bench.every = 0;
    bench.run(3);
    bench.run(5);
    assert!(bench.share(Haste::Short, 5) > 7.0, "nobody is there any more");
}

#[test]
fn copies_grow_where_nobody_feels_them() {
    let mut bench = Bench::new(2, 0);
    bench.run(5);
    bench.copy(Haste::Short, 8);
    bench.run(30);
    bench.run(10);
    assert!(bench.share(Haste::Short, 10) > 5.0, "{}", bench.share(Haste::Short, 10));
}

#[test]
fn the_last_copy_hardly_gives_way_and_moves_give_way_most() {
    let mut bench = Bench::new(2, 100);
    bench.run(5);
    bench.copy(Haste::Last, 1);
    bench.copy(Haste::Short, 4);
    bench.run(30);
    let (last, short) = (bench.share(Haste::Last, 30), bench.share(Haste::Short, 30));
    assert!(last > 0.7, "{last}");
    assert!(short < 0.3, "{short}");
    let share_of = |haste| {
        let mut bench = Bench::new(2, 100);
        bench.run(5);
        bench.copy(haste, 4);
        bench.run(30);
        bench.share(haste, 30)
    };
    let (short, moved) = (share_of(Haste::Short), share_of(Haste::Move));
    assert!(moved < short * 0.7 && moved > 0.04, "{moved} of {short}");
}

#[test]
fn what_is_usual_is_found_out_though_copies_came_first() {
    let mut bench = Bench::new(2, 100);
    bench.copy(Haste::Short, 8);
    bench.run(20);
    let usual = bench.pace.usual();
    assert!(usual < Duration::from_micros(1100), "{usual:?}");
    bench.run(10);
    assert!(bench.share(Haste::Short, 10) < 0.6);
}

#[test]
fn a_foreground_that_is_slower_by_itself_is_not_laid_to_the_copies() {
    let mut bench = Bench::new(2, 0);
    bench.run(5);
    bench.copy(Haste::Short, 8);
    bench.takes = Duration::from_millis(3);
    bench.run(60);
    bench.run(10);
    assert!(bench.share(Haste::Short, 10) > 2.0, "{}", bench.share(Haste::Short, 10));
}

#[test]
fn the_foreground_keeps_most_of_its_pace() {
    let unhindered = {
        let mut bench = Bench::new(2, 100);
        bench.pace.share = PACE_SHARE_UNBOUNDED;
        bench.copy(Haste::Short, 8);
        bench.run(1);
        bench.seen.p99()
    };
    let mut bench = Bench::new(2, 100);
    bench.run(5);
    bench.copy(Haste::Short, 8);
    bench.run(5);
    bench.run(20);
    assert!(unhindered > bench.takes * 7);
    // One portion at a time: what is left of eight.
    assert!(bench.seen.p99() <= bench.takes * 3, "{:?}", bench.seen.p99());
}

#[test]
fn what_others_wait_for_is_paid_for_later() {
    let mut bench = Bench::new(2, 100);
    bench.run(5);
    bench.copy(Haste::Short, 1);
    bench.run(5);
    bench.pace.charge(Haste::Short, (0, Duration::from_millis(300)), bench.now);
    assert!(bench.pace.begin(Haste::Short, bench.now).is_err());
    assert!(bench.pace.begin(Haste::Last, bench.now).is_err(), "even the last one when it is so much");
    let before = bench.now;
    while bench.pace.begin(Haste::Short, bench.now).is_err() {
        bench.now = bench.now.after(STEP);
    }
    let waited = bench.now.since(before);
    assert!(waited >= Duration::from_millis(250) && waited <= Duration::from_millis(2500), "{waited:?}");
}

#[test]
fn haste_follows_what_is_left() {
    let of = |left, wanted| Haste::of(left, wanted);
    assert_eq!((of(1, 3), of(1, 2), of(2, 3)), (Haste::Last, Haste::Last, Haste::Short));
    assert_eq!((of(3, 3), of(1, 1)), (Haste::Move, Haste::Move));
}

#[test]
fn a_server_that_gives_way_takes_part_in_fewer_copies() {
    let at_once = |share| copies_at_once(share, REPAIRS_PER_SERVER_MAX);
    assert_eq!((at_once(PACE_SHARE_MIN), at_once(3000), at_once(PACE_SHARE_UNBOUNDED)), (2, 5, 8));
}
