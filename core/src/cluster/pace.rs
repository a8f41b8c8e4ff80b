//! How much of a disk the copies of repairs and moves may take, so that programs do not feel them.
//!
//! What copies take is counted in time: a portion that keeps the disk for 3 ms costs 3 ms. They may spend a share of each
//! second, in thousandths of one stream that never pauses; so the rule needs no figure of any disk, and a disk that slows down
//! under load gets fewer bytes of them by itself. The share falls by half whenever the 99th percentile of the foreground's
//! answers is beyond what is usual here without copies, grows step by step while it is not, and doubles while there is no
//! foreground at all. It never falls to nothing. What is usual is learned while nothing is copied; while copies go on they stop
//! for a moment now and then to let it show.
//!
//! Copies of what has one replica left pay an eighth, so they get eight times as much, and stop for nobody; moves that only
//! tidy up pay double.

use super::latency::LatencyCounts;
use crate::limits::{
    PACE_ANSWERS_MIN, PACE_CREDIT_MAX, PACE_FIRST_TRIAL_PERIOD, PACE_IDLE, PACE_LAST_DEBT_MAX,
    PACE_LOOK_PERIOD, PACE_SHARE_MIN, PACE_SHARE_START, PACE_SHARE_STEP, PACE_SHARE_STREAM,
    PACE_SHARE_UNBOUNDED, PACE_STREAM_MEMORY, PACE_STREAM_MIN, PACE_SUFFERS_MIN, PACE_SUFFERS_PERCENT,
    PACE_TRIAL, PACE_TRIAL_PERIOD, PACE_TRIAL_SETTLES, PACE_WINDOW, PACED_REPAIRS_MIN,
};
use crate::time::Tick;
use std::time::Duration;

/// How little a copy gives way, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// One replica is left of several.
    Last,
    /// Fewer are left than are wanted.
    Short,
    /// Nothing is lacking: it only moves.
    Move,
}

impl Haste {
    /// Of a chunk with so many good replicas, of so many wanted.
    pub fn of(left: usize, wanted: usize) -> Self {
        match left {
            1 if wanted > 1 => Self::Last,
            _ if left < wanted => Self::Short,
            _ => Self::Move,
        }
    }

    /// What a microsecond costs, in eighths.
    const fn price(self) -> i64 {
        match self {
            Self::Last => 1,
            Self::Short => 8,
            Self::Move => 16,
        }
    }

    /// How many times its price a copy of what lacks replicas would get done.
    pub(super) const fn times(self) -> u64 {
        self.price() as u64 / Self::Short.price() as u64
    }
}

/// Kinds of foreground work whose latencies are compared; each only with its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForegroundWork {
    /// A read of few blocks.
    SmallRead,
    /// Another read.
    LargeRead,
    /// A write of few blocks.
    SmallWrite,
    /// Another write.
    LargeWrite,
    /// A sync.
    Sync,
}

const KINDS: usize = 5;

/// Answers of one kind.
#[derive(Clone, Debug, Default)]
struct Kind {
    /// Of this window.
    counts: LatencyCounts,
    /// 99th percentile without copies; zero: not known.
    usual: Duration,
}

impl Kind {
    fn tells(&self) -> bool {
        self.counts.total() >= PACE_ANSWERS_MIN
    }

    fn suffers(&self) -> bool {
        let bound = (self.usual * PACE_SUFFERS_PERCENT / 100).max(self.usual + PACE_SUFFERS_MIN);
        self.tells() && !self.usual.is_zero() && self.counts.p99() > bound
    }

    /// `part` of the way towards what is seen now.
    fn learn(&mut self, part: u32) {
        let seen = self.counts.p99();
        self.usual = if self.usual.is_zero() { seen } else { (self.usual * (part - 1) + seen) / part };
    }
}

/// The pace of copies on one disk.
#[derive(Clone, Debug)]
pub struct Pace {
    kinds: [Kind; KINDS],
    /// Answers of this window, and since when it lasts.
    answers: u32,
    window: Tick,
    looked: Tick,
    idle: bool,
    /// Thousandths of a stream.
    share: u32,
    /// Eighths of microseconds that copies may still take; below zero: they have taken too much.
    credit: i64,
    credited: Tick,
    /// Bytes that copies moved, and the time it took them.
    streamed: (u64, Duration),
    /// What a portion usually takes.
    portion: Duration,
    /// When copies last took something.
    copied: Option<Tick>,
    /// They stop until then.
    trial_ends: Option<Tick>,
    tried: Tick,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            kinds: Default::default(),
            answers: 0,
            window: Tick::default(),
            looked: Tick::default(),
            idle: true,
            share: PACE_SHARE_UNBOUNDED,
            credit: 0,
            credited: Tick::default(),
            streamed: (0, Duration::ZERO),
            portion: Duration::ZERO,
            copied: None,
            trial_ends: None,
            tried: Tick::default(),
        }
    }
}

/// A portion of a copy that was let go.
#[derive(Clone, Copy, Debug)]
pub struct Portion {
    haste: Haste,
    /// What it was taken to cost.
    paid: i64,
}

impl Pace {
    /// The foreground got an answer.
    pub fn answered(&mut self, work: ForegroundWork, took: Duration, now: Tick) {
        if now >= self.window {
            self.kinds[work as usize].counts.note(took);
            self.answers = self.answers.saturating_add(1);
        }
        if self.idle && self.answers >= PACE_ANSWERS_MIN {
            self.idle = false;
            self.share = self.share.min(PACE_SHARE_START);
        }
        self.look(now);
    }

    /// Whether a portion of a copy may begin; else how long to wait before asking again.
    ///
    /// # Errors
    /// The time to wait, never zero.
    pub fn begin(&mut self, haste: Haste, now: Tick) -> Result<Portion, Duration> {
        self.look(now);
        let is_new = self.copied.is_none_or(|copied| now.since(copied) > PACE_TRIAL_PERIOD);
        if is_new && !self.idle {
            self.share = self.share.min(PACE_SHARE_START);
        }
        self.copied = Some(now);
        if let Some(ends) = self.trial_ends.filter(|_| haste != Haste::Last) {
            return Err(ends.since(now).max(Duration::from_millis(1)));
        }
        self.refill(now);
        if !self.is_held_back() {
            return Ok(Portion { haste, paid: 0 });
        }
        let debt = if haste == Haste::Last { PACE_LAST_DEBT_MAX } else { Duration::ZERO };
        let lacks = -self.credit - eighths(debt);
        if lacks > 0 {
            let wait = Duration::from_micros(lacks.unsigned_abs() / 8) * 1000 / self.share;
            return Err(wait.clamp(Duration::from_millis(1), PACE_LOOK_PERIOD));
        }
        let paid = cost(haste, self.portion);
        self.credit -= paid;
        Ok(Portion { haste, paid })
    }

    /// It has ended, and moved so many bytes; `took`: how long it kept the disk.
    pub fn end(&mut self, portion: Portion, (bytes, took): (u64, Duration), now: Tick) {
        self.stream(bytes, took);
        self.portion = if self.portion.is_zero() { took } else { (self.portion * 7 + took) / 8 };
        self.copied = Some(now);
        self.credit = self.credit.saturating_add(portion.paid).saturating_sub(cost(portion.haste, took));
    }

    /// Copies took so much without asking, since others wait for it.
    pub fn charge(&mut self, haste: Haste, (bytes, took): (u64, Duration), now: Tick) {
        self.stream(bytes, took);
        self.copied = Some(now);
        self.credit = self.credit.saturating_sub(cost(haste, took));
    }

    fn stream(&mut self, bytes: u64, took: Duration) {
        self.streamed = (self.streamed.0.saturating_add(bytes), self.streamed.1 + took);
        if self.streamed.1 > PACE_STREAM_MEMORY {
            self.streamed = (self.streamed.0 / 2, self.streamed.1 / 2);
        }
    }

    /// Bytes a second that a stream of copies reaches which never pauses; zero: not known.
    pub fn stream_bytes(&self) -> u64 {
        let (bytes, took) = self.streamed;
        if took < PACE_STREAM_MIN {
            return 0;
        }
        u64::try_from(u128::from(bytes) * 1_000_000 / took.as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether copies give way at present.
    pub fn is_held_back(&self) -> bool {
        self.share < PACE_SHARE_UNBOUNDED
    }

    /// What copies may take, in thousandths of a stream.
    pub fn share(&self) -> u32 {
        self.share
    }

    /// The 99th percentile usual without copies of the kind of work that is done most at present; zero: not known.
    pub fn usual(&self) -> Duration {
        self.kinds.iter().max_by_key(|kind| kind.counts.total()).map_or(Duration::ZERO, |kind| kind.usual)
    }

    /// Judges when it is time to.
    pub fn look(&mut self, now: Tick) {
        if now.since(self.looked) < PACE_LOOK_PERIOD {
            return;
        }
        self.looked = now;
        self.refill(now);
        let age = now.since(self.window);
        match self.trial_ends {
            Some(ends) if now >= ends => {
                self.learn(2);
                (self.trial_ends, self.tried) = (None, now);
                self.begin_window(now);
            }
            Some(_) => {}
            None if self.idle => {
                self.share = self.share.saturating_mul(2).min(PACE_SHARE_UNBOUNDED);
                if age >= PACE_IDLE {
                    self.begin_window(now);
                }
            }
            None if self.answers < PACE_ANSWERS_MIN => self.idle = age >= PACE_IDLE,
            None => self.judge(age, now),
        }
    }

    /// There is a foreground.
    fn judge(&mut self, age: Duration, now: Tick) {
        let copies = self.copied.is_some_and(|copied| copied >= self.window);
        if !copies {
            let settled = self.copied.is_none_or(|at| self.window.since(at) >= PACE_TRIAL_SETTLES);
            if age >= PACE_WINDOW {
                if settled {
                    self.learn(8);
                    self.tried = now;
                }
                self.begin_window(now);
            }
            return;
        }
        if self.kinds.iter().any(Kind::suffers) {
            self.share = (self.share / 2).max(PACE_SHARE_MIN);
            self.begin_window(now);
            // Perhaps it is slower by itself than it was.
            return self.begin_trial(PACE_TRIAL_PERIOD, now);
        }
        if age < PACE_WINDOW {
            return;
        }
        let unknown = self.kinds.iter().any(|kind| kind.tells() && kind.usual.is_zero());
        if !unknown {
            self.share = (self.share + PACE_SHARE_STEP).min(PACE_SHARE_UNBOUNDED);
            // Without copies it would not have been slower than with them.
            self.kinds.iter_mut().filter(|kind| kind.tells()).for_each(|kind| {
                kind.usual = kind.usual.min((kind.usual * 7 + kind.counts.p99()) / 8);
            });
        }
        let period = if unknown { PACE_FIRST_TRIAL_PERIOD } else { PACE_TRIAL_PERIOD };
        self.begin_window(now);
        self.begin_trial(period, now);
    }

    fn begin_trial(&mut self, period: Duration, now: Tick) {
        if now.since(self.tried) >= period {
            self.trial_ends = Some(now.after(PACE_TRIAL));
            self.window = now.after(PACE_TRIAL_SETTLES);
        }
    }

    fn learn(&mut self, part: u32) {
        self.kinds.iter_mut().filter(|kind| kind.tells()).for_each(|kind| kind.learn(part));
    }

    fn begin_window(&mut self, now: Tick) {
        self.kinds.iter_mut().for_each(|kind| kind.counts.clear());
        (self.answers, self.window) = (0, now);
    }

    fn refill(&mut self, now: Tick) {
        let gained = eighths(now.since(self.credited)).saturating_mul(i64::from(self.share)) / 1000;
        self.credited = now;
        self.credit = self.credit.saturating_add(gained).min(eighths(PACE_CREDIT_MAX));
        if !self.is_held_back() {
            self.credit = 0;
        }
    }
}

fn eighths(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 1_000_000).saturating_mul(8)
}

fn cost(haste: Haste, took: Duration) -> i64 {
    eighths(took) / 8 * haste.price()
}

/// Copies at a time to or from a server whose disks allow `share`, of at most `each_max`.
pub fn copies_at_once(share: u32, each_max: usize) -> usize {
    let streams = (share / PACE_SHARE_STREAM) as usize;
    (PACED_REPAIRS_MIN + streams).min(each_max)
}

#[cfg(test)]
#[path = "pace_test.rs"]
mod tests;
