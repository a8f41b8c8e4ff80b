//! What the sequencer has done by others: journal files made ahead, checkpoints, removal of old journal, a look at the disk.

use super::open::{Settings, StateStore, checkpoint_path};
use crate::checkpoint;
use crate::journal::{Spare, SpareJob, remove_trimmed};
use cairn_core::ids::LogIndex;
use cairn_core::limits::{MASTER_DISK_CHECK, MASTER_DISK_RESERVE_BYTES};
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::kv::Kv;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Jobs under way at a time: one of each kind.
const JOBS_MAX: usize = 8;

/// A job is done.
pub(super) enum Finished {
    /// The next segment's file, or `None` when there was no room for it.
    Spare(Option<Spare>),
    /// A checkpoint reaches so far, or `None` when there is none.
    Checkpoint(Option<LogIndex>),
    /// Trimmed journal files are gone, except these after an error.
    Removed(Vec<PathBuf>),
}

pub(super) struct Jobs {
    env: Env,
    store: StateStore,
    data_dir: PathBuf,
    checkpoint_bytes: u64,
    sender: mpsc::Sender<Finished>,
    pub(super) finished: mpsc::Receiver<Finished>,
    checkpoint_runs: bool,
    /// Trimmed journal files, oldest first. One job at a time removes them, so that a crash never leaves a gap between
    /// those that stay.
    trimmed: Vec<PathBuf>,
    removal_runs: bool,
    /// Journal position at the last checkpoint, or before it.
    checkpoint_at: u64,
    /// The next one is due, however little was written.
    checkpoint_hastened: bool,
    /// After a failure: not before.
    not_before: Tick,
    spare_failed: bool,
    space_checked: Tick,
    space_low: bool,
}

impl Jobs {
    /// `checkpoint_at` is where the journal held begins: what earlier runs left without a checkpoint counts as well.
    pub(super) fn new(env: &Env, settings: &Settings, checkpoint_at: u64) -> Self {
        let (sender, finished) = mpsc::channel(JOBS_MAX);
        Self {
            env: env.clone(),
            store: settings.store,
            data_dir: settings.data_dir.clone(),
            checkpoint_bytes: settings.tuning.checkpoint_bytes,
            sender,
            finished,
            checkpoint_runs: false,
            trimmed: Vec::new(),
            removal_runs: false,
            checkpoint_at,
            checkpoint_hastened: false,
            not_before: Tick::default(),
            spare_failed: false,
            space_checked: Tick::default(),
            space_low: false,
        }
    }

    fn start(&self, job: impl FnOnce() -> Finished + Send + 'static) {
        let sender = self.sender.clone();
        self.env.spawn.start_blocking(Box::new(move || {
            // The channel holds more than can be under way; it is closed when the sequencer has ended.
            drop(sender.try_send(job()));
        }));
    }

    /// Whether a job that holds the state or removes files is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.checkpoint_runs || self.removal_runs
    }

    /// Whether a spare may be made now.
    pub(super) fn may_make_spare(&self, now: Tick) -> bool {
        now >= self.not_before
    }

    pub(super) fn make_spare(&self, job: SpareJob) {
        let disk = Arc::clone(&self.env.disk);
        self.start(move || {
            let made = job.run(&*disk);
            let made =
                made.inspect_err(|error| tracing::error!(%error, "the next journal segment cannot be made"));
            Finished::Spare(made.ok())
        });
    }

    pub(super) fn spare_made(&mut self, good: bool, now: Tick) {
        self.spare_failed = !good;
        if !good {
            self.not_before = now.after(MASTER_DISK_CHECK);
        }
    }

    /// Starts a checkpoint when enough journal was written since the last one.
    pub(super) fn checkpoint_if_due(&mut self, kv: &Arc<dyn Kv>, position: u64, now: Tick) {
        let due = self.checkpoint_hastened || position - self.checkpoint_at >= self.checkpoint_bytes;
        if !due || self.checkpoint_runs || now < self.not_before {
            return;
        }
        self.checkpoint_runs = true;
        self.checkpoint_hastened = false;
        self.checkpoint_at = position;
        let (env, kv, store) = (self.env.clone(), Arc::clone(kv), self.store);
        let directory = checkpoint_path(&self.data_dir);
        self.start(move || {
            let made = checkpoint::make(&env, &*kv, store, &directory);
            let made = made.inspect_err(|error| tracing::error!(%error, "no checkpoint could be made"));
            Finished::Checkpoint(made.ok().map(|applied| applied.last.index))
        });
    }

    /// The next checkpoint is due at once: after a long replay, so that no later start has to do it again.
    pub(super) fn hasten_checkpoint(&mut self) {
        self.checkpoint_hastened = true;
    }

    pub(super) fn checkpoint_made(&mut self, good: bool, now: Tick) {
        self.checkpoint_runs = false;
        if !good {
            // As much journal again before the next try would be too late for a disk that fills.
            self.checkpoint_at = self.checkpoint_at.saturating_sub(self.checkpoint_bytes);
            self.not_before = now.after(MASTER_DISK_CHECK);
        }
    }

    /// Removes trimmed journal files after those named before.
    pub(super) fn remove(&mut self, paths: Vec<PathBuf>) {
        self.trimmed.extend(paths);
        if self.trimmed.is_empty() || self.removal_runs {
            return;
        }
        self.removal_runs = true;
        let (disk, paths) = (Arc::clone(&self.env.disk), std::mem::take(&mut self.trimmed));
        self.start(move || {
            match remove_trimmed(&*disk, &paths) {
                Ok(()) => Finished::Removed(Vec::new()),
                Err(error) => {
                    tracing::warn!(%error, "old journal could not be removed; tried again after the next checkpoint");
                    Finished::Removed(paths)
                }
            }
        });
    }

    /// The job is done. What it left comes first in the next one, however much was trimmed since.
    pub(super) fn removed(&mut self, left: Vec<PathBuf>) {
        self.removal_runs = false;
        let good = left.is_empty();
        let newer = std::mem::replace(&mut self.trimmed, left);
        self.trimmed.extend(newer);
        if good {
            self.remove(Vec::new());
        }
    }

    /// Looks at the free space once in a while. True while operations that grow the state are to be refused.
    pub(super) fn disk_is_low(&mut self, now: Tick) -> bool {
        if now.since(self.space_checked) >= MASTER_DISK_CHECK {
            self.space_checked = now;
            if let Ok(space) = self.env.disk.space(&self.data_dir) {
                let low = space.free < MASTER_DISK_RESERVE_BYTES;
                if low != self.space_low {
                    let free_mib = space.free >> 20;
                    let reserve_mib = MASTER_DISK_RESERVE_BYTES >> 20;
                    let data_dir = self.data_dir.display();
                    if low {
                        tracing::error!(
                            %data_dir, free_mib, reserve_mib,
                            "disk is nearly full: operations that grow the state are refused until there is room"
                        );
                    } else {
                        tracing::info!(%data_dir, free_mib, "disk has room again");
                    }
                }
                self.space_low = low;
            }
        }
        self.space_low || self.spare_failed
    }

    /// Whether the journal may soon have no room at all.
    pub(super) fn spare_failed(&self) -> bool {
        self.spare_failed
    }
}
