//! Where the scrubbing of one disk stands: shared by its runner, by commands and by those who look.

use super::super::types::{ScrubReport, ScrubState};
use super::{ScrubAct, ScrubOptions};
use cairn_core::chunk::ReplicaKey;
use cairn_core::chunk::scrub::{Meter, Moment, Next, Pace, Scrub, ScrubClock, Step, Urgency, WallMillis};
use cairn_core::chunk::scrub_file::{SCRUB_FILE, SCRUB_FILE_BYTES_MAX, decode, encode};
use cairn_core::limits::SCRUB_NOTE_PERIOD;
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::disk::read_small;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The scrubbing of one disk.
pub(in crate::store) struct Desk {
    inner: Mutex<Inner>,
    /// Told when an operator has changed something.
    pub(super) wake: Notify,
}

struct Inner {
    scrub: Scrub,
    clock: ScrubClock,
    /// `None` until the runner is started.
    pace: Option<Pace>,
    meter: Meter,
    last: Option<Step>,
    /// Bytes of the present replica that are done.
    partial: u64,
    /// Rounds begun in this life: a command may begin one in the middle of a step.
    begun: u64,
    /// It is not as the file says.
    changed: bool,
    noted: Tick,
}

/// Where a runner goes on.
pub(super) struct Place {
    pub(super) next: ReplicaKey,
    /// Which round of this life.
    pub(super) round: u64,
    pub(super) now: WallMillis,
}

impl Desk {
    /// Reads what the disk remembers; what cannot be read is begun anew. Blocks.
    pub(in crate::store) fn open(env: &Env, root: &Path) -> Self {
        let (wall, tick) = (env.clock.wall(), env.clock.now());
        let found = match read_small(&*env.disk, &root.join(SCRUB_FILE), SCRUB_FILE_BYTES_MAX) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %root.display(), %error, "progress of scrubbing cannot be read: it begins anew");
                None
            }
        };
        let known = found.is_some();
        let clock = ScrubClock::starting(wall, tick, found.as_ref().map_or(0, |(_, noted)| *noted));
        let scrub = found.map_or_else(|| Scrub::new(clock.at(tick)), |(scrub, _)| scrub);
        let inner = Inner {
            scrub,
            clock,
            pace: None,
            meter: Meter::default(),
            last: None,
            partial: 0,
            begun: 0,
            changed: !known,
            noted: tick,
        };
        Self { inner: Mutex::new(inner), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of a scrub's progress panics")
    }

    pub(super) fn start(&self, options: &ScrubOptions) {
        self.lock().pace = Some(options.pace);
    }

    pub(super) fn next(&self, tick: Tick, held: u64, busy: bool) -> Next {
        let inner = self.lock();
        match inner.pace {
            Some(pace) => inner.scrub.next_step(&pace, &inner.moment(tick, held, busy)),
            None => Next::Rest(SCRUB_NOTE_PERIOD),
        }
    }

    pub(super) fn place(&self, tick: Tick) -> Place {
        let inner = self.lock();
        Place { next: inner.scrub.next, round: inner.begun, now: inner.clock.at(tick) }
    }

    /// A step was made, over so many bytes of blocks and of what comes with them.
    pub(super) fn stepped(&self, step: Step, blocks: u64, round: u64) {
        let mut inner = self.lock();
        inner.meter.note(step.ended, blocks);
        inner.scrub.verified_ever += blocks;
        inner.changed = true;
        if inner.begun == round {
            inner.last = Some(step);
            inner.partial += step.bytes;
        }
    }

    /// A damaged replica was found that nobody knew of.
    pub(super) fn found_damage(&self) {
        self.lock().scrub.damaged += 1;
    }

    /// The replica is done with, unless another round has begun; `verified`: since when, if it was.
    pub(super) fn pass(&self, key: ReplicaKey, bytes: u64, verified: Option<WallMillis>, round: u64) {
        let inner = &mut *self.lock();
        if let (Some(pace), true) = (inner.pace, inner.begun == round) {
            inner.scrub.pass(key, bytes, verified, &pace);
            inner.partial = 0;
            inner.changed = true;
        }
    }

    /// No replica is left in this round.
    pub(super) fn end_round(&self, tick: Tick, round: u64) {
        let inner = &mut *self.lock();
        if let (Some(pace), true) = (inner.pace, inner.begun == round) {
            inner.scrub.end_round(inner.clock.at(tick), &pace);
            inner.begin();
        }
    }

    pub(super) fn act(&self, act: ScrubAct, tick: Tick) {
        let inner = &mut *self.lock();
        match act {
            ScrubAct::Start { limit } => {
                let limit = limit.or(inner.pace.map(|pace| pace.limit)).unwrap_or(0);
                inner.scrub.start(limit, inner.clock.at(tick));
                inner.begin();
            }
            ScrubAct::Pause => inner.scrub.paused = true,
            ScrubAct::Resume => inner.scrub.paused = false,
        }
        inner.changed = true;
        self.wake.notify_one();
    }

    /// The file's contents, when it is time to write it, or at any time when `now` is.
    pub(super) fn to_note(&self, tick: Tick, now: bool) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let due = now || tick.since(inner.noted) >= SCRUB_NOTE_PERIOD;
        if !due || !inner.changed || inner.pace.is_none() {
            return None;
        }
        inner.changed = false;
        inner.noted = tick;
        Some(encode(&inner.scrub, inner.clock.at(tick)))
    }

    /// What was to be noted was not.
    pub(super) fn not_noted(&self) {
        self.lock().changed = true;
    }

    /// For those who look.
    pub(in crate::store) fn report(&self, tick: Tick, held: u64) -> ScrubReport {
        let inner = self.lock();
        let Some(pace) = inner.pace else { return ScrubReport::default() };
        let (scrub, moment) = (&inner.scrub, inner.moment(tick, held, false));
        let rate = inner.meter.rate(tick);
        ScrubReport {
            state: match scrub.urgency {
                _ if scrub.paused => ScrubState::Paused,
                Urgency::Demanded { .. } => ScrubState::Demanded,
                Urgency::Scheduled if pace.period.is_zero() => ScrubState::Off,
                Urgency::Scheduled => ScrubState::Scheduled,
            },
            passed_bytes: (scrub.passed + inner.partial).min(held),
            rate,
            limit: scrub.limit(&pace),
            ends_in: scrub.ends_in(&pace, &moment, rate),
            oldest_unverified: scrub.oldest_unverified(&moment),
            rounds: scrub.rounds,
            verified_bytes: scrub.verified_ever,
            damaged: scrub.damaged,
        }
    }
}

impl Inner {
    fn moment(&self, tick: Tick, held: u64, busy: bool) -> Moment {
        Moment { wall: self.clock.at(tick), tick, held, partial: self.partial, busy, last: self.last }
    }

    fn begin(&mut self) {
        self.begun += 1;
        self.partial = 0;
        self.changed = true;
    }
}
