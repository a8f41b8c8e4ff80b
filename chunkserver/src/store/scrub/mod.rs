//! Scrubbing: every block at rest is read from the medium and verified once in a period, as idle time allows.
//!
//! One runner a disk goes over its replicas in order; when the next step is due [`cairn_core::chunk::scrub`] decides. A damaged replica is
//! quarantined as when a reader meets it: on record as corrupt, told to the masters, read from elsewhere, repaired from a verified one.
//! Nothing is deleted or written over here.

mod desk;
mod mend;
mod verify;

pub(super) use desk::Desk;

use super::Shared;
use super::error::StoreError;
use super::replica::Replica;
use super::volume::{Queue, REPLICA_OVERHEAD_BYTES, Volume};
use cairn_core::chunk::scrub::{Next, Pace, Step, WallMillis};
use cairn_core::chunk::scrub_file::SCRUB_FILE;
use cairn_core::limits::{SCRUB_ATTEMPTS_MAX, SCRUB_RETRY_REST};
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::replace_durably;
use desk::Place;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
pub(super) use verify::Found;

/// How the disks of a server are scrubbed.
#[derive(Clone)]
pub struct ScrubOptions {
    /// Period and limit.
    pub pace: Pace,
    /// Whether requests are under way.
    pub busy: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Ends it.
    pub stopping: CancellationToken,
    /// The runners are counted here: when they have ended, nobody holds the disks for them.
    pub tasks: TaskTracker,
}

/// What an operator wants of a scrubber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubAct {
    /// A round from the beginning, now; also of one that is paused.
    Start {
        /// Most bytes per second; 0: as fast as the disk; `None`: as configured.
        limit: Option<u64>,
    },
    /// No step from now on, also after a restart.
    Pause,
    /// Go on where it was paused.
    Resume,
}

/// Starts the runners of all disks; they end with the store or with the options' token.
pub(super) fn start(shared: &Arc<Shared>, options: &ScrubOptions) {
    for volume in shared.volumes() {
        volume.scrub.start(options);
        options.tasks.spawn(run(Arc::downgrade(shared), Arc::downgrade(volume), options.clone()));
    }
}

/// Does what an operator wants on every disk.
pub(super) async fn command(shared: &Arc<Shared>, act: ScrubAct) -> Result<(), StoreError> {
    let mut first = Ok(());
    for volume in shared.volumes().filter(|volume| volume.check_alive().is_ok()) {
        volume.scrub.act(act, volume.env.clock.now());
        first = first.and(note(volume, true).await);
    }
    first
}

/// The clean stop of one disk.
pub(super) async fn close(volume: &Arc<Volume>) {
    if volume.check_alive().is_ok() {
        // What is not noted is verified again.
        let _ = note(volume, true).await;
    }
}

/// The replica at which a runner is.
struct At {
    replica: Arc<Replica>,
    round: u64,
    begun: WallMillis,
    /// Next block to look at.
    block: u32,
    attempts: u32,
}

async fn run(shared: Weak<Shared>, volume: Weak<Volume>, options: ScrubOptions) {
    let mut at: Option<At> = None;
    loop {
        let (Some(held), Some(disk)) = (shared.upgrade(), volume.upgrade()) else { return };
        if options.stopping.is_cancelled() || disk.check_alive().is_err() {
            return;
        }
        let rest = match disk.scrub.next(disk.env.clock.now(), disk.used_bytes(), (options.busy)()) {
            Next::Step => step(&held, &disk, &mut at).await,
            Next::Rest(rest) => rest,
        };
        // Not noted: tried again in time, and a disk that failed is noticed above.
        let _ = note(&disk, false).await;
        let desk = Arc::clone(&disk.scrub);
        drop((held, disk));
        if rest.is_zero() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = options.stopping.cancelled() => return,
            () = desk.wake.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// One step. Answers how long to rest before the next is asked for.
async fn step(shared: &Arc<Shared>, volume: &Arc<Volume>, at: &mut Option<At>) -> Duration {
    let (desk, clock) = (&volume.scrub, &volume.env.clock);
    let Place { next, round, now } = desk.place(clock.now());
    let present = at.take().filter(|at| at.round == round && at.replica.key >= next);
    let mut present = match present {
        Some(present) => present,
        None => match shared.next_held_by(volume, next) {
            Some(replica) => At { replica, round, begun: now, block: 0, attempts: 0 },
            None => {
                desk.end_round(clock.now(), round);
                tracing::info!(disk = %volume.disk_id, "every replica of the disk was looked at");
                return Duration::ZERO;
            }
        },
    };
    let begun = clock.now();
    let found = verify::step(&present.replica, present.block).await;
    let key = present.replica.key;
    let held = u64::from(present.replica.stat().blocks) * BLOCK_BYTES + REPLICA_OVERHEAD_BYTES;
    match found {
        Found::Sound { blocks, next } => {
            let blocks = u64::from(blocks) * BLOCK_BYTES;
            let frame = if present.block == 0 { REPLICA_OVERHEAD_BYTES } else { 0 };
            let ended = clock.now();
            let made = Step { ended, took: ended.since(begun), bytes: blocks + frame };
            desk.stepped(made, blocks, round);
            match next {
                Some(block) => *at = Some(At { block, attempts: 0, ..present }),
                None => desk.pass(key, held, Some(present.begun), round),
            }
        }
        Found::Damaged { new } => {
            if new {
                desk.found_damage();
            }
            desk.pass(key, held, Some(present.begun), round);
        }
        Found::Gone => desk.pass(key, 0, Some(present.begun), round),
        Found::Unclear(why) => {
            present.attempts += 1;
            tracing::debug!(chunk = %key.chunk, why, "replica could not be verified yet");
            if present.attempts < SCRUB_ATTEMPTS_MAX {
                *at = Some(present);
                return SCRUB_RETRY_REST;
            }
            tracing::warn!(chunk = %key.chunk, why, "replica could not be verified in this round");
            desk.pass(key, held, None, round);
        }
    }
    Duration::ZERO
}

/// Writes down where it stands, when it is time, or at once when `now` is.
async fn note(volume: &Arc<Volume>, now: bool) -> Result<(), StoreError> {
    let Some(bytes) = volume.scrub.to_note(volume.env.clock.now(), now) else { return Ok(()) };
    let job = Arc::clone(volume);
    let written = volume.call(Queue::Write, move || {
        replace_durably(job.disk(), &job.config.path.join(SCRUB_FILE), &bytes)
            .map_err(|error| job.write_failed("progress of scrubbing", &error))
    });
    let written = written.await.and_then(|written| written);
    if written.is_err() {
        volume.scrub.not_noted();
    }
    written
}

#[cfg(test)]
mod scrub_test;
#[cfg(test)]
pub(super) use scrub_test::{assert_sound, scrub_all};
