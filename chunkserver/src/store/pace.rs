//! How quick a disk is, measured where it is used: the shell of `cairn_core::cluster::disk_health`.

use cairn_core::chunk::ReplicaKey;
use cairn_core::cluster::disk_health::{DiskHealth, DiskPace, DiskTurn, DiskWork};
use cairn_core::time::Tick;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The pace of one disk.
#[derive(Default)]
pub(super) struct Pace {
    health: Mutex<DiskHealth>,
    /// Why it is slow, while it is.
    detail: Mutex<Option<String>>,
    /// Reads have failed since one worked: saves the lock on each read that works.
    reads_fail: AtomicBool,
}

impl Pace {
    pub(super) fn begin(&self, work: DiskWork, now: Tick) -> u64 {
        self.health().begin(work, now)
    }

    pub(super) fn end(&self, number: u64, now: Tick) {
        self.health().end(number, now);
    }

    /// True when the disk cannot be read.
    pub(super) fn read_failed(&self, replica: ReplicaKey) -> bool {
        self.reads_fail.store(true, Ordering::Relaxed);
        self.health().read_failed(replica.chunk.get())
    }

    pub(super) fn read_worked(&self) {
        if self.reads_fail.swap(false, Ordering::Relaxed) {
            self.health().read_worked();
        }
    }

    /// Whether a read is declined that others can serve. One now and then is not: it shows whether the disk is quick again.
    pub(super) fn declines(&self, now: Tick) -> bool {
        let mut health = self.health();
        health.is_slow() && !health.may_try(now)
    }

    pub(super) fn is_slow(&self) -> bool {
        self.health().is_slow()
    }

    /// Why it is slow, if it is.
    pub(super) fn slow(&self) -> Option<String> {
        self.detail.lock().expect("no holder of the detail panics").clone()
    }

    pub(super) fn present(&self, now: Tick) -> DiskPace {
        self.health().pace(now)
    }

    /// Judges; tells what has changed. An error when the disk is not to be waited for any more.
    pub(super) fn look(&self, peers: DiskPace, now: Tick) -> Result<Option<String>, String> {
        let turn = self.health().look(peers, now);
        let told = match turn {
            DiskTurn::Same => return Ok(None),
            DiskTurn::Hung(span) => return Err(format!("it hangs for {} s", span.as_secs())),
            DiskTurn::Quick => String::from("it is as quick as before"),
            DiskTurn::Slow(work, took) => {
                let (what, peers) = match work {
                    DiskWork::Read => ("reads", peers.read),
                    DiskWork::Sync => ("syncs", peers.sync),
                };
                let millis = |span: std::time::Duration| span.as_secs_f64() * 1000.0;
                let took = format!("{what} take {:.1} ms", millis(took));
                if peers.is_zero() { took } else { format!("{took}, {:.1} ms on other disks", millis(peers)) }
            }
        };
        let slow = matches!(turn, DiskTurn::Slow(..)).then(|| told.clone());
        *self.detail.lock().expect("no holder of the detail panics") = slow;
        Ok(Some(told))
    }

    fn health(&self) -> MutexGuard<'_, DiskHealth> {
        self.health.lock().expect("no holder of the latencies panics")
    }
}
