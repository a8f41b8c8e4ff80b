//! Copies of repairs and moves give way to what programs wait for, on each disk for itself: the shell of
//! `cairn_core::cluster::pace`.

use super::volume::Volume;
use super::{ChunkStore, Shared};
use cairn_core::cluster::pace::{ForegroundWork, Haste, Pace, Portion};
use cairn_core::ids::{ChunkId, PartId};
use cairn_core::limits::{PACE_SYNC_BYTES, PACE_WAIT_MAX};
use cairn_core::time::Tick;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The copies of one disk.
#[derive(Default)]
pub(super) struct Copies {
    pace: Mutex<Pace>,
    /// Written by copies and perhaps not durable.
    unsynced: AtomicU64,
}

/// How copies on a disk are held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyPace {
    /// What they may take, in thousandths of a stream that never pauses.
    pub share: u32,
    /// 99th percentile of the foreground's answers without copies; zero: not known.
    pub usual: Duration,
    /// Bytes a second of such a stream; zero: not known.
    pub stream_bytes: u64,
}

impl Copies {
    pub(super) fn report(&self, now: Tick) -> CopyPace {
        let mut pace = self.pace();
        pace.look(now);
        CopyPace { share: pace.share(), usual: pace.usual(), stream_bytes: pace.stream_bytes() }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no holder of the pace panics")
    }
}

impl ChunkStore {
    /// The foreground got an answer that concerned a replica here.
    pub(crate) fn answered(&self, chunk: ChunkId, part: PartId, work: ForegroundWork, took: Duration) {
        if let Some(volume) = self.volume_of(chunk, part) {
            volume.copies.pace().answered(work, took, self.shared.env.clock.now());
        }
    }

    /// Does a portion of a copy when the disk of the replica can spare the time, or after [`PACE_WAIT_MAX`]; at once when others
    /// wait for it (`haste` is `None`), and then copies pay for it later. `bytes`: what it moves.
    pub(crate) async fn portion<T>(
        &self,
        (chunk, part): (ChunkId, PartId),
        haste: Option<Haste>,
        bytes: usize,
        work: impl Future<Output = T>,
    ) -> T {
        let now = || self.shared.env.clock.now();
        let portion = match (haste, self.volume_of(chunk, part)) {
            (Some(haste), Some(volume)) => self.shared.turn(&volume, haste).await,
            _ => None,
        };
        let begun = now();
        let outcome = work.await;
        let ended = now();
        // Only now it may be known on which disk it is.
        if let Some(volume) = self.volume_of(chunk, part) {
            let (mut pace, took) = (volume.copies.pace(), (bytes as u64, ended.since(begun)));
            match portion {
                Some(portion) => pace.end(portion, took, ended),
                None => pace.charge(haste.unwrap_or(Haste::Short), took, ended),
            }
        }
        outcome
    }

    /// Counts bytes that a copy is about to write. True: they are to be made durable at once, so that no sync has much to do.
    pub(crate) fn is_sync_due(&self, chunk: ChunkId, part: PartId, bytes: usize) -> bool {
        let Some(volume) = self.volume_of(chunk, part) else { return false };
        let before = volume.copies.unsynced.fetch_add(bytes as u64, Ordering::Relaxed);
        let is_due = before + bytes as u64 >= PACE_SYNC_BYTES;
        if is_due {
            volume.copies.unsynced.store(0, Ordering::Relaxed);
        }
        is_due && volume.copies.pace().is_held_back()
    }

    /// Where the replica stands, or will: a server has one disk as a rule.
    fn volume_of(&self, chunk: ChunkId, part: PartId) -> Option<Arc<Volume>> {
        if let Some(replica) = self.shared.find(chunk, part) {
            return Some(Arc::clone(&replica.volume));
        }
        let mut volumes = self.shared.volumes();
        let first = volumes.next()?;
        volumes.next().is_none().then(|| Arc::clone(first))
    }
}

impl Shared {
    /// Does a portion of a move between two disks when both can spare the time, or after [`PACE_WAIT_MAX`]. `bytes`: what it moves.
    pub(super) async fn portion_of_move<T>(
        &self,
        [source, target]: [&Arc<Volume>; 2],
        bytes: u64,
        work: impl Future<Output = T>,
    ) -> T {
        let haste = Haste::Move;
        let portions = [self.turn(source, haste).await, self.turn(target, haste).await];
        let begun = self.env.clock.now();
        let outcome = work.await;
        let ended = self.env.clock.now();
        for (volume, portion) in [source, target].into_iter().zip(portions) {
            let (mut pace, took) = (volume.copies.pace(), (bytes, ended.since(begun)));
            match portion {
                Some(portion) => pace.end(portion, took, ended),
                None => pace.charge(haste, took, ended),
            }
        }
        outcome
    }

    async fn turn(&self, volume: &Volume, haste: Haste) -> Option<Portion> {
        let begun = self.env.clock.now();
        loop {
            let now = self.env.clock.now();
            let asked = volume.copies.pace().begin(haste, now);
            match asked {
                Ok(portion) => return Some(portion),
                Err(_) if now.since(begun) >= PACE_WAIT_MAX || self.is_closing() => return None,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

#[cfg(test)]
#[path = "copies_test.rs"]
mod tests;
