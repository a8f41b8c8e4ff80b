//! The pace keeps the period, yields and catches up; what is remembered never makes anything younger than it is.

use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;
const MIB: u64 = 1 << 20;
const PACE: Pace = Pace { period: Duration::from_secs(8 * 24 * 3600), limit: 50 * MIB };

fn key(chunk: u64) -> ReplicaKey {
    ReplicaKey { chunk: ChunkId(chunk), part: PartId(0) }
}

fn moment(wall: u64, held: u64) -> Moment {
    let tick = Tick(Duration::from_millis(wall));
    Moment { wall, tick, held, partial: 0, busy: false, last: None }
}

/// Replicas of 10 MiB each, verified at 1 GiB/s while `busy` says whether others are at work: the time of each passing.
fn run(
    scrub: &mut Scrub,
    replicas: u64,
    from: u64,
    until: u64,
    busy: impl Fn(u64) -> bool,
) -> Vec<(u64, u64)> {
    let (mut now, mut last, mut passings) = (from, None, Vec::new());
    let (mut partial, held) = (0, replicas * 10 * MIB);
    while now < until {
        let at = Moment { partial, busy: busy(now), last, ..moment(now, held) };
        match scrub.next_step(&PACE, &at) {
            Next::Rest(rest) => now += (rest.as_millis() as u64).max(1),
            Next::Step if scrub.next.chunk.get() >= replicas => scrub.end_round(now, &PACE),
            Next::Step => {
                now += 1;
                let took = Duration::from_millis(1);
                last = Some(Step { ended: Tick(Duration::from_millis(now)), took, bytes: MIB });
                partial += MIB;
                if partial == 10 * MIB {
                    partial = 0;
                    passings.push((scrub.next.chunk.get(), now));
                    scrub.pass(key(scrub.next.chunk.get()), 10 * MIB, Some(now), &PACE);
                    // One part a chunk.
                    scrub.next = key(scrub.next.chunk.get() + u64::from(scrub.next.part.get() > 0));
                }
            }
        }
    }
    passings
}

#[test]
fn a_round_is_spread_over_three_quarters_of_the_period_and_the_next_follows() {
    let mut scrub = Scrub::new(0);
    let passings = run(&mut scrub, 100, 0, 13 * DAY_MS, |_| false);
    assert_eq!(scrub.rounds, 2);
    let half = passings.iter().find(|(chunk, _)| *chunk == 49).unwrap().1;
    assert!(half.abs_diff(3 * DAY_MS) < DAY_MS / 10, "{half}");
    let times: Vec<u64> = passings.iter().filter(|(chunk, _)| *chunk == 7).map(|(_, at)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 7 * DAY_MS), "{times:?}");
}

#[test]
fn one_small_replica_is_verified_once_a_round_and_no_oftener() {
    let mut scrub = Scrub::new(0);
    assert!(matches!(scrub.next_step(&PACE, &moment(1, 4096)), Next::Rest(_)));
    assert_eq!(scrub.next_step(&PACE, &moment(6 * DAY_MS, 4096)), Next::Step);
    scrub.pass(key(0), 4096, Some(6 * DAY_MS), &PACE);
    scrub.end_round(6 * DAY_MS, &PACE);
    assert!(matches!(scrub.next_step(&PACE, &moment(6 * DAY_MS + 5, 4096)), Next::Rest(_)));
}

#[test]
fn it_waits_while_others_work_but_not_beyond_the_period() {
    let mut scrub = Scrub::new(0);
    let passings = run(&mut scrub, 100, 0, 8 * DAY_MS, |_| true);
    assert!(passings.len() >= 100, "{} replicas", passings.len());
    assert!(passings[0].1 >= DAY_MS, "begun at {}", passings[0].1);
    // A busy day is made up for.
    let mut scrub = Scrub::new(0);
    let passings = run(&mut scrub, 100, 0, 7 * DAY_MS, |now| now < DAY_MS / 2);
    assert_eq!(passings[0].1 / (DAY_MS / 10), 5);
    assert!(passings[99].1.abs_diff(6 * DAY_MS) < DAY_MS / 10);
}

#[test]
fn the_limit_holds_also_when_late_and_slower_while_others_work() {
    let scrub = Scrub::new(0);
    let ended = Tick(Duration::from_millis(7 * DAY_MS));
    let last = Some(Step { ended, took: Duration::from_millis(5), bytes: 10 * MIB });
    let rest = |scrub: &Scrub, busy, after_ms| {
        let tick = ended.after(Duration::from_millis(after_ms));
        scrub.next_step(&PACE, &Moment { last, tick, busy, ..moment(8 * DAY_MS, 1 << 30) })
    };
    assert_eq!(rest(&scrub, false, 0), Next::Rest(Duration::from_millis(195)));
    assert_eq!(rest(&scrub, false, 195), Next::Step);
    let mut demanded = Scrub::new(0);
    demanded.start(10_000 * MIB, 5);
    assert_eq!(rest(&demanded, true, 0), Next::Rest(Duration::from_millis(15)));
    demanded.start(0, 5);
    assert_eq!(rest(&demanded, true, 0), Next::Step, "at any cost");
    demanded.paused = true;
    assert!(matches!(rest(&demanded, true, 0), Next::Rest(_)));
}

#[test]
fn a_demanded_round_begins_now_and_the_schedule_goes_on_after_it() {
    let mut scrub = Scrub::new(0);
    scrub.paused = true;
    scrub.start(0, DAY_MS);
    assert_eq!(scrub.next_step(&PACE, &moment(DAY_MS, MIB)), Next::Step);
    scrub.pass(key(3), MIB, Some(DAY_MS), &PACE);
    scrub.end_round(DAY_MS, &PACE);
    assert_eq!((scrub.rounds, scrub.urgency), (1, Urgency::Scheduled));
    let on_demand = Pace { period: Duration::ZERO, ..PACE };
    assert_eq!(scrub.next_step(&on_demand, &moment(99 * DAY_MS, MIB)), Next::Rest(SCRUB_REST_MAX));
}

#[test]
fn the_oldest_byte_is_where_nobody_has_been_for_longest() {
    let mut scrub = Scrub::new(0);
    let oldest = |scrub: &Scrub, wall| scrub.oldest_unverified(&moment(wall, MIB)).as_millis() as u64;
    assert_eq!(oldest(&scrub, DAY_MS), DAY_MS);
    for chunk in 0..10 {
        scrub.pass(key(chunk), MIB, Some((chunk + 1) * DAY_MS), &PACE);
    }
    assert_eq!(oldest(&scrub, 10 * DAY_MS), 10 * DAY_MS, "what lies behind the cursor");
    scrub.end_round(10 * DAY_MS, &PACE);
    assert_eq!(oldest(&scrub, 10 * DAY_MS), 9 * DAY_MS, "the first one");
    scrub.pass(key(0), MIB, Some(11 * DAY_MS), &PACE);
    assert_eq!(oldest(&scrub, 11 * DAY_MS), 9 * DAY_MS);
    // One that could not be read stays as old as it was.
    scrub.pass(key(1), MIB, None, &PACE);
    for chunk in 2..10 {
        scrub.pass(key(chunk), MIB, Some(12 * DAY_MS), &PACE);
    }
    scrub.end_round(12 * DAY_MS, &PACE);
    assert_eq!(oldest(&scrub, 12 * DAY_MS), 10 * DAY_MS);
    // A round that is begun anew forgets nothing.
    scrub.start(0, 12 * DAY_MS);
    assert_eq!(oldest(&scrub, 12 * DAY_MS), 10 * DAY_MS);
}

#[test]
fn coverage_is_bounded_and_never_younger_than_the_truth() {
    let (mut coverage, mut truth) = (Coverage::since(0), vec![0; 1000]);
    let mut seed = 7u64;
    let mut draw = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for now in 1..3000u64 {
        let from = draw(1000);
        let to = (from + 1 + draw(30)).min(1000);
        coverage.cover(key(from), Some(key(to)), now, 3);
        truth[from as usize..to as usize].fill(now);
        assert!(coverage.marks().len() <= SCRUB_MARKS_MAX);
        assert_eq!(Coverage::from_marks(coverage.marks().to_vec()).as_ref(), Some(&coverage));
        for (chunk, &at) in truth.iter().enumerate().step_by(17) {
            let mark = coverage.marks().iter().rev().find(|mark| mark.key <= key(chunk as u64)).unwrap();
            assert!(mark.at <= at, "{chunk}: {} > {at}", mark.at);
        }
    }
    coverage.cover(ReplicaKey::default(), None, 9000, 3);
    assert_eq!(coverage, Coverage::since(9000));
}

#[test]
fn the_clock_does_not_jump() {
    let wall = |seconds| Timestamp { seconds, nanos: 5_000_000 };
    let tick = |seconds| Tick(Duration::from_secs(seconds));
    let clock = ScrubClock::starting(wall(100), tick(7), 0);
    assert_eq!((clock.at(tick(7)), clock.at(tick(9))), (100_005, 102_005));
    let clock = ScrubClock::starting(wall(50), tick(1), 102_005);
    assert_eq!(clock.at(tick(2)), 103_005, "the wall went back, the time does not");
    assert_eq!(ScrubClock::starting(wall(-9), tick(1), 40).at(tick(0)), 40);
}

#[test]
fn the_estimate_follows_the_plan_and_the_speed() {
    let mut scrub = Scrub::new(0);
    let ends = |scrub: &Scrub, wall, rate| scrub.ends_in(&PACE, &moment(wall, 100 * MIB), rate);
    assert_eq!(ends(&scrub, DAY_MS, 0), Some(Duration::from_millis(5 * DAY_MS)));
    assert_eq!(ends(&scrub, 9 * DAY_MS, 0), Some(Duration::from_secs(2)), "late: at the limit");
    scrub.start(10 * MIB, DAY_MS);
    assert_eq!(ends(&scrub, DAY_MS, 0), Some(Duration::from_secs(10)));
    assert_eq!(ends(&scrub, DAY_MS, 20 * MIB), Some(Duration::from_secs(5)));
    scrub.paused = true;
    assert_eq!(ends(&scrub, DAY_MS, 0), None);
    let mut meter = Meter::default();
    (0..30).for_each(|second| meter.note(Tick(Duration::from_secs(second)), 5 * MIB));
    assert_eq!(meter.rate(Tick(Duration::from_secs(29))), 5 * MIB);
    assert_eq!(meter.rate(Tick(Duration::from_secs(99))), 0);
}
