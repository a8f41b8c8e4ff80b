//! What time and fullness ask for: writing back, closing marks, looking at the free space; and the clean stop.

use super::Shared;
use super::error::StoreError;
use super::replica::Replica;
use super::volume::{Queue, Volume};
use super::write_back::write_back;
use cairn_core::limits::{DISK_LOOK_PERIOD, DISK_TRIAL_PERIOD, INTENT_AGE_MAX};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between looks at an idle disk.
const PERIOD: Duration = Duration::from_millis(100);
/// Pause after a write-back that found no room.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Looks at the pace of a slow disk from one trial to the next.
const LOOKS_PER_TRIAL: u128 = DISK_TRIAL_PERIOD.as_millis() / DISK_LOOK_PERIOD.as_millis();

/// Replicas synced in one round when too many wait for their writers' sync.
const SYNCS_AT_ONCE: usize = 64;

/// Starts the upkeep of every disk; it ends with the store.
pub(super) fn start(shared: &Arc<Shared>) {
    for volume in shared.volumes() {
        tokio::spawn(run(Arc::downgrade(shared), Arc::downgrade(volume)));
        tokio::spawn(relieve(Arc::downgrade(shared), Arc::downgrade(volume)));
        tokio::spawn(watch_pace(Arc::downgrade(shared), Arc::downgrade(volume)));
    }
}

async fn run(shared: Weak<Shared>, volume: Weak<Volume>) {
    let mut idle = Duration::ZERO;
    loop {
        let Some(journal) = volume.upgrade().map(|volume| Arc::clone(&volume.journal)) else { return };
        let woken = tokio::time::timeout(PERIOD, journal.flush_wanted.notified()).await.is_ok();
        let (Some(shared), Some(volume)) = (shared.upgrade(), volume.upgrade()) else { return };
        if volume.check_alive().is_err() {
            return;
        }
        idle = if woken || !journal.has_records() { Duration::ZERO } else { idle + PERIOD };
        let old = idle >= INTENT_AGE_MAX;
        // Woken without a full segment: somebody waits for space, so the active one has to go.
        if (woken || old || journal.has_closed())
            && let Err(error) =
                one_write_back(&shared, &volume, old || (woken && !journal.has_closed())).await
        {
            tracing::debug!(disk = %volume.disk_id, %error, "write-back postponed");
            tokio::time::sleep(FULL_PAUSE).await;
        }
        if old {
            idle = Duration::ZERO;
        }
        if !woken {
            look(&volume).await;
        }
    }
}

async fn one_write_back(shared: &Arc<Shared>, volume: &Arc<Volume>, all: bool) -> Result<(), StoreError> {
    write_back(volume, all, &|| shared.held_by(volume)).await
}

/// A task of its own: a sync may wait for journal space, which the write-back makes.
async fn relieve(shared: Weak<Shared>, volume: Weak<Volume>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let (Some(shared), Some(volume)) = (shared.upgrade(), volume.upgrade()) else { return };
        if volume.check_alive().is_err() {
            return;
        }
        if volume.files.many_pinned() {
            sync_some(&shared, &volume).await;
        }
    }
}

/// A task of its own: the others may be waiting for the disk whose pace this judges.
async fn watch_pace(shared: Weak<Shared>, volume: Weak<Volume>) {
    let mut trial: Option<tokio::task::JoinHandle<()>> = None;
    let mut looks = 0;
    loop {
        tokio::time::sleep(DISK_LOOK_PERIOD).await;
        let (Some(shared), Some(volume)) = (shared.upgrade(), volume.upgrade()) else { return };
        if volume.has_failed() {
            return;
        }
        let peers = shared.peers(&volume);
        volume.look_at_pace(peers);
        looks += 1;
        let is_due = volume.pace.is_slow() && looks % LOOKS_PER_TRIAL == 0;
        if is_due && trial.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            trial = Some(tokio::spawn(async move { volume.try_out().await }));
        }
    }
}

/// Writers that never sync (they may have died) must not hold file handles and dirty pages for ever.
async fn sync_some(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    let unsynced = |replica: &Arc<Replica>| {
        let state = replica.state();
        !state.unsynced.is_empty() && !state.writes_lost
    };
    for replica in shared.held_by(volume).into_iter().filter(unsynced).take(SYNCS_AT_ONCE) {
        let version = replica.state().version;
        if let Err(error) = super::sync::sync(&replica, version).await {
            tracing::debug!(chunk = %replica.key.chunk, %error, "replica not synced by upkeep");
        }
    }
}

async fn look(volume: &Arc<Volume>) {
    let job = Arc::clone(volume);
    // Overloaded or stopping: the next time will do.
    let _ = volume
        .call(Queue::Write, move || {
            job.look_at_space();
            if let Err(error) = job.journal.closing_mark(false) {
                job.fail(&format!("intent journal: {error}"));
            }
        })
        .await;
}

/// The clean stop of one disk.
pub(super) async fn close(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    // Marked ones: after a clean stop nothing is said to be lost.
    let marked = |replica: &Arc<Replica>| {
        let state = replica.state();
        state.mark.is_some() || !state.unsynced.is_empty()
    };
    let syncs: Vec<_> = shared.held_by(volume).into_iter().filter(marked).collect();
    for replica in syncs {
        let version = replica.state().version;
        if let Err(error) = super::sync::sync(&replica, version).await {
            tracing::warn!(chunk = %replica.key.chunk, %error, "replica could not be synced at the stop");
        }
    }
    if let Err(error) = one_write_back(shared, volume, true).await {
        tracing::warn!(disk = %volume.disk_id, %error, "intent journal could not be written back at the stop");
    }
    let job = Arc::clone(volume);
    let marked = volume.call(Queue::Write, move || job.journal.closing_mark(true)).await;
    if let Ok(Err(error)) = marked {
        volume.fail(&format!("intent journal: {error}"));
    }
}
