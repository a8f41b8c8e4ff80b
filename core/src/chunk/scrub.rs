//! Scrubbing of one disk, as values: where the round stands, when the next step is due, how old the oldest unverified byte is.
//!
//! A round goes over the replicas in the order of their keys. By schedule it takes three quarters of the period, so that a busy or
//! stopped server has the last quarter to catch up; a round that an operator demands takes as long as its limit says. A step
//! that is due waits while requests are under way, but not for ever: an eighth of the period late, it is made anyway, and those after it,
//! which are late as well, follow at the limit.
//!
//! Time is wall-clock time as [`ScrubClock`] tells it: it passes as fast as the monotonic clock while the process runs, whatever
//! jumps the wall makes, and never goes back across starts. A wall that was far ahead at a start makes the schedule late, which costs
//! a round at the limit.

use super::catalogue::ReplicaKey;
use crate::ids::{ChunkId, PartId};
use crate::limits::{SCRUB_MARKS_MAX, SCRUB_REST_MAX, SCRUB_STEP_BYTES, SCRUB_YIELD_REST};
use crate::time::{Tick, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Parts of the period that a round takes, of [`PERIOD_PARTS`].
const ROUND_PARTS: u64 = 6;
/// Parts of the period that a step waits at most for a quiet moment.
const PATIENCE_PARTS: u64 = 1;
const PERIOD_PARTS: u64 = 8;
/// Coverage is remembered in grains of the period: marks that differ by less become one.
const GRAINS: u64 = 64;
/// Seconds over which the speed is averaged.
const METER_SECONDS: u64 = 10;

/// Milliseconds since 1970.
pub type WallMillis = u64;

/// The key after `key`.
pub const fn after(key: ReplicaKey) -> ReplicaKey {
    let ReplicaKey { chunk: ChunkId(chunk), part: PartId(part) } = key;
    match (part.checked_add(1), chunk.checked_add(1)) {
        (Some(part), _) => ReplicaKey { chunk: ChunkId(chunk), part: PartId(part) },
        (None, Some(chunk)) => ReplicaKey { chunk: ChunkId(chunk), part: PartId(0) },
        (None, None) => key,
    }
}

/// How fast to go, from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Every stored byte is verified once in it; zero: only on demand.
    pub period: Duration,
    /// Most bytes per second of a scheduled round; 0: as fast as the disk.
    pub limit: u64,
}

impl Pace {
    fn parts_ms(&self, parts: u64) -> u64 {
        let period = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX);
        period / PERIOD_PARTS * parts
    }

    fn grain_ms(&self) -> u64 {
        self.parts_ms(PERIOD_PARTS) / GRAINS
    }
}

/// Why the round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// By the period.
    Scheduled,
    /// An operator wants it now.
    Demanded {
        /// Most bytes per second; 0: as fast as the disk, whatever else is under way.
        limit: u64,
    },
}

/// The replicas from `key` on, up to the next mark, were verified or written last at `at` or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// First key.
    pub key: ReplicaKey,
    /// When.
    pub at: WallMillis,
}

/// When which part of the disk was verified last. The first mark is of the first possible key; keys ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    marks: Vec<Mark>,
}

impl Coverage {
    /// Nothing was verified, and nothing is older than `at`.
    pub fn since(at: WallMillis) -> Self {
        Self { marks: vec![Mark { key: ReplicaKey::default(), at }] }
    }

    /// From marks as stored; `None` when they are none.
    pub fn from_marks(marks: Vec<Mark>) -> Option<Self> {
        let ascends = marks.windows(2).all(|pair| pair[0].key < pair[1].key);
        let sound = marks.first().is_some_and(|mark| mark.key == ReplicaKey::default());
        (ascends && sound && marks.len() <= SCRUB_MARKS_MAX).then_some(Self { marks })
    }

    /// The marks, ascending.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// When the longest unverified part was verified last, or a moment before.
    pub fn oldest(&self) -> WallMillis {
        self.marks.iter().map(|mark| mark.at).min().unwrap_or(0)
    }

    /// What lies from `from` on, before `to` (`None`: to the end), was verified at `at`. Marks `grain_ms` apart become one, the
    /// older one.
    fn cover(&mut self, from: ReplicaKey, to: Option<ReplicaKey>, at: WallMillis, grain_ms: u64) {
        let below = |key: ReplicaKey| to.is_none_or(|to| key < to);
        // What holds from `to` on.
        let rest = to.and_then(|to| self.marks.iter().rev().find(|mark| mark.key <= to).map(|mark| mark.at));
        self.marks.retain(|mark| mark.key < from || !below(mark.key));
        let place = self.marks.partition_point(|mark| mark.key < from);
        if let (Some(to), Some(at)) = (to, rest)
            && self.marks.get(place).is_none_or(|next| next.key > to)
        {
            self.marks.insert(place, Mark { key: to, at });
        }
        let joins = |before: &Mark| before.at <= at && at - before.at <= grain_ms;
        if !place.checked_sub(1).and_then(|before| self.marks.get(before)).is_some_and(joins) {
            self.marks.insert(place, Mark { key: from, at });
        }
        while self.marks.len() > SCRUB_MARKS_MAX {
            self.join_closest();
        }
    }

    fn join_closest(&mut self) {
        let distance = |pair: &[Mark]| pair[0].at.abs_diff(pair[1].at);
        let closest = (1..self.marks.len()).min_by_key(|&at| distance(&self.marks[at - 1..=at]));
        if let Some(second) = closest {
            let gone = self.marks.remove(second);
            self.marks[second - 1].at = self.marks[second - 1].at.min(gone.at);
        }
    }
}

/// What a disk remembers of its scrubbing across restarts (`super::scrub_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// An operator has stopped it.
    pub paused: bool,
    /// Why the present round runs.
    pub urgency: Urgency,
    /// When the present round began.
    pub begun: WallMillis,
    /// Replicas below were passed in it.
    pub next: ReplicaKey,
    /// Bytes of what was passed in it, as disks count what they hold.
    pub passed: u64,
    /// Rounds that have ended.
    pub rounds: u64,
    /// Bytes verified ever.
    pub verified_ever: u64,
    /// Damaged replicas found ever.
    pub damaged: u64,
    /// When what was verified.
    pub coverage: Coverage,
}

/// The moment at which somebody asks what to do.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the [`ScrubClock`].
    pub wall: WallMillis,
    /// By the monotonic clock.
    pub tick: Tick,
    /// Bytes that the disk holds.
    pub held: u64,
    /// Bytes of the present replica that were verified already.
    pub partial: u64,
    /// Whether requests are under way.
    pub busy: bool,
    /// The step before, in this run of the process.
    pub last: Option<Step>,
}

/// A step that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it ended.
    pub ended: Tick,
    /// How long it took.
    pub took: Duration,
    /// Bytes read.
    pub bytes: u64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Verify some more.
    Step,
    /// Ask again after so long, or when told something.
    Rest(Duration),
}

impl Scrub {
    /// Of a disk that was never scrubbed.
    pub fn new(now: WallMillis) -> Self {
        Self {
            paused: false,
            urgency: Urgency::Scheduled,
            begun: now,
            next: ReplicaKey::default(),
            passed: 0,
            rounds: 0,
            verified_ever: 0,
            damaged: 0,
            coverage: Coverage::since(now),
        }
    }

    /// An operator wants a round from the beginning, now, at `limit` bytes per second (0: as fast as the disk).
    pub fn start(&mut self, limit: u64, now: WallMillis) {
        self.paused = false;
        self.urgency = Urgency::Demanded { limit };
        self.begin_round(now);
    }

    /// The present replica was gone through; `verified`: since `at`, and not left out.
    pub fn pass(&mut self, key: ReplicaKey, bytes: u64, verified: Option<WallMillis>, pace: &Pace) {
        if let Some(at) = verified {
            let from = self.next.min(key);
            self.coverage.cover(from, Some(after(key)), at, pace.grain_ms());
        }
        self.next = after(key);
        self.passed = self.passed.saturating_add(bytes);
    }

    /// There is no replica from `next` on: the round is over, and another begins.
    pub fn end_round(&mut self, now: WallMillis, pace: &Pace) {
        self.coverage.cover(self.next, None, now, pace.grain_ms());
        self.rounds += 1;
        self.urgency = Urgency::Scheduled;
        self.begin_round(now);
    }

    fn begin_round(&mut self, now: WallMillis) {
        self.begun = now;
        self.next = ReplicaKey::default();
        self.passed = 0;
    }

    /// Whether the next step is due.
    pub fn next_step(&self, pace: &Pace, moment: &Moment) -> Next {
        let late = match self.urgency {
            _ if self.paused => return Next::Rest(SCRUB_REST_MAX),
            Urgency::Demanded { .. } => 0,
            Urgency::Scheduled if pace.period.is_zero() || moment.held == 0 => {
                return Next::Rest(SCRUB_REST_MAX);
            }
            Urgency::Scheduled => {
                let due = self.due(pace, moment);
                if moment.wall < due {
                    return Next::Rest(Duration::from_millis(due - moment.wall).min(SCRUB_REST_MAX));
                }
                moment.wall - due
            }
        };
        if self.urgency == Urgency::Scheduled && moment.busy && late < pace.parts_ms(PATIENCE_PARTS) {
            return Next::Rest(SCRUB_YIELD_REST);
        }
        let pause = self.pause(pace, moment);
        if pause.is_zero() { Next::Step } else { Next::Rest(pause.min(SCRUB_REST_MAX)) }
    }

    /// When the next step should have been made, if the round is to take its part of the period: at its end, so that the
    /// last one is made when the round is over.
    fn due(&self, pace: &Pace, moment: &Moment) -> WallMillis {
        let done =
            self.passed.saturating_add(moment.partial).saturating_add(SCRUB_STEP_BYTES).min(moment.held);
        let span = u128::from(pace.parts_ms(ROUND_PARTS));
        let part = span * u128::from(done) / u128::from(moment.held.max(1));
        self.begun.saturating_add(part as u64)
    }

    /// What is left of the rest after the step before: by the limit, and while others are at work three times what it took.
    fn pause(&self, pace: &Pace, moment: &Moment) -> Duration {
        let limit = self.limit(pace);
        let Some(last) = moment.last.filter(|_| limit > 0) else { return Duration::ZERO };
        let at_limit =
            Duration::from_millis(last.bytes.saturating_mul(1000) / limit).saturating_sub(last.took);
        let yielding = if moment.busy { last.took * 3 } else { Duration::ZERO };
        at_limit.max(yielding).saturating_sub(moment.tick.since(last.ended))
    }

    /// Most bytes per second of the present round; 0: as fast as the disk.
    pub fn limit(&self, pace: &Pace) -> u64 {
        match self.urgency {
            Urgency::Scheduled => pace.limit,
            Urgency::Demanded { limit } => limit,
        }
    }

    /// How long the round will take from now on, as far as anybody can tell; `rate`: bytes per second of late.
    pub fn ends_in(&self, pace: &Pace, moment: &Moment, rate: u64) -> Option<Duration> {
        let left = moment.held.saturating_sub(self.passed.saturating_add(moment.partial));
        let at = |speed: u64| Duration::from_millis(left.saturating_mul(1000) / speed.max(1));
        let limit = self.limit(pace);
        match self.urgency {
            _ if self.paused => None,
            Urgency::Scheduled if pace.period.is_zero() => None,
            Urgency::Scheduled => {
                let planned = self.begun.saturating_add(pace.parts_ms(ROUND_PARTS));
                let planned = Duration::from_millis(planned.saturating_sub(moment.wall));
                Some(if limit > 0 { planned.max(at(limit)) } else { planned })
            }
            Urgency::Demanded { .. } if rate > 0 => Some(at(rate)),
            Urgency::Demanded { .. } => (limit > 0).then(|| at(limit)),
        }
    }

    /// Age of the oldest byte that was not verified since; zero when the disk holds nothing.
    pub fn oldest_unverified(&self, moment: &Moment) -> Duration {
        match moment.held {
            0 => Duration::ZERO,
            _ => Duration::from_millis(moment.wall.saturating_sub(self.coverage.oldest())),
        }
    }
}

/// Wall-clock time that does not jump: taken from the wall once, at a start, and never before what was noted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubClock {
    wall: WallMillis,
    tick: Tick,
}

impl ScrubClock {
    /// At a start. `noted`: the latest moment that a life before has noted.
    pub fn starting(wall: Timestamp, tick: Tick, noted: WallMillis) -> Self {
        let seconds = u64::try_from(wall.seconds).unwrap_or(0);
        let wall = seconds.saturating_mul(1000).saturating_add(u64::from(wall.nanos / 1_000_000));
        Self { wall: wall.max(noted), tick }
    }

    /// The time at `tick`.
    pub fn at(&self, tick: Tick) -> WallMillis {
        self.wall.saturating_add(u64::try_from(tick.since(self.tick).as_millis()).unwrap_or(u64::MAX))
    }
}

/// Speed over the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Second, and bytes in it.
    seconds: VecDeque<(u64, u64)>,
}

impl Meter {
    /// So many bytes were read by `now`.
    pub fn note(&mut self, now: Tick, bytes: u64) {
        let second = now.0.as_secs();
        match self.seconds.back_mut() {
            Some((newest, sum)) if *newest == second => *sum += bytes,
            _ => self.seconds.push_back((second, bytes)),
        }
        while self.seconds.front().is_some_and(|&(oldest, _)| oldest + METER_SECONDS <= second) {
            self.seconds.pop_front();
        }
    }

    /// Bytes per second.
    pub fn rate(&self, now: Tick) -> u64 {
        let second = now.0.as_secs();
        let recent = self.seconds.iter().filter(|(at, _)| at + METER_SECONDS > second);
        let sum: u64 = recent.clone().map(|(_, bytes)| bytes).sum();
        let first = recent.map(|&(at, _)| at).min().unwrap_or(second);
        sum / (second - first.min(second) + 1)
    }
}

#[cfg(test)]
#[path = "scrub_test.rs"]
mod tests;
