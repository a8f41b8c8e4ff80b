//! What experience says of a server and of each of its disks: how fast they answer, and whether they did at all of late.
//!
//! Replies to reads tell on which disk the replica stands. What is slow or fails there is that disk's alone; what happens before
//! a disk is known (a connection that breaks, silence) is the server's.

use cairn_core::ids::ChunkId;
use cairn_core::io::breaker::{Breaker, BreakerState, Gate};
use cairn_core::limits::{BREAKER_MIN, CHUNK_DISKS_REMEMBERED, HEDGE_DELAY_MAX, HEDGE_DELAY_MIN};
use cairn_core::time::Tick;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server whose answers take so many times as long as another's is too slow to stay with. Less is the noise of two disks.
const LAG_FACTOR: u64 = 4;

/// The circuit breakers and the clock-work of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    records: Mutex<Records>,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Records {
    server: Record,
    /// By the number that replies carry.
    disks: BTreeMap<u8, Record>,
    /// Where replicas stand, while several disks are known.
    chunks: BTreeMap<ChunkId, u8>,
    /// Gave no sign of life of late: until then little patience is had with it.
    silent_until: Tick,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Smoothed time of an answer, in microseconds; 0: none yet.
    mean_us: u64,
    /// Smoothed deviation from it.
    deviation_us: u64,
    breaker: Breaker,
}

/// How a server stands with regard to one chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) gate: Gate,
    /// Smoothed time of an answer; 0 while there was none.
    pub(super) mean_us: u64,
    /// Expected waiting time.
    cost: u64,
    /// After so long without an answer somebody else is asked as well: about the 95th percentile of its answers.
    pub(super) hedge_delay: Duration,
}

/// Counts a request while it lives.
pub(super) struct UnderWay<'a>(&'a Health);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// An answer came from `disk` after `took`; `in_time`: before somebody else did.
    pub(super) fn answered(&self, chunk: ChunkId, disk: u8, took: Duration, in_time: bool, now: Tick) {
        let mut records = self.records();
        records.learn(chunk, disk);
        let record = records.disks.entry(disk).or_default();
        record.took(took);
        if in_time {
            record.breaker.answered();
            records.server.took(took);
            records.server.breaker.answered();
        } else {
            record.breaker.failed(now);
        }
    }

    /// The server says that the replica's disk is slow or has failed. True when that is news.
    pub(super) fn declined(&self, chunk: ChunkId, disk: u8, now: Tick) -> bool {
        let mut records = self.records();
        records.learn(chunk, disk);
        // It speaks for itself, and quickly.
        records.server.breaker.answered();
        records.disks.entry(disk).or_default().breaker.failed(now)
    }

    /// It failed. True when it is avoided from now on.
    pub(super) fn failed(&self, now: Tick) -> bool {
        self.records().server.breaker.failed(now)
    }

    /// It was silent where another answered. True when it, or the disk that is known to hold the chunk, is avoided from now on.
    pub(super) fn late(&self, chunk: ChunkId, now: Tick) -> bool {
        let mut records = self.records();
        match records.disk_of(chunk) {
            Some(disk) => records.disks.entry(disk).or_default().breaker.failed(now),
            None => records.server.breaker.late(now),
        }
    }

    /// It gave no sign of life in all the time that a writer had for it.
    pub(super) fn was_silent(&self, now: Tick) {
        self.records().silent_until = now.after(BREAKER_MIN);
        self.failed(now);
    }

    /// It has answered a writer: it is to have its time again.
    pub(super) fn was_heard(&self) {
        self.records().silent_until = Tick::default();
    }

    /// Whether it gave no sign of life a moment ago.
    pub(super) fn is_silent(&self, now: Tick) -> bool {
        self.records().silent_until > now
    }

    /// What speaks for and against asking it for `chunk`.
    pub(super) fn standing(&self, chunk: ChunkId, now: Tick) -> Standing {
        let load = self.in_flight.load(Ordering::Relaxed) as u64 + 1;
        let records = self.records();
        let disk = records.disk_of(chunk).and_then(|disk| records.disks.get(&disk));
        let record = disk.unwrap_or(&records.server);
        let gates = [records.server.breaker.gate(now), record.breaker.gate(now)];
        Standing {
            gate: gates[0].max(gates[1]),
            mean_us: record.mean_us,
            cost: record.mean_us.saturating_mul(load),
            hedge_delay: record.hedge_delay(),
        }
    }

    /// It is asked although it failed, to learn whether it works again.
    pub(super) fn probe(&self, chunk: ChunkId, now: Tick) {
        let mut records = self.records();
        records.server.breaker.probe(now);
        if let Some(disk) = records.disk_of(chunk) {
            records.disks.entry(disk).or_default().breaker.probe(now);
        }
    }

    /// The breakers of the server and of its disks.
    pub(super) fn breakers(&self, now: Tick) -> (BreakerState, Vec<(u8, BreakerState)>) {
        let records = self.records();
        let disks = records.disks.iter().map(|(&disk, record)| (disk, record.breaker.state(now)));
        (records.server.breaker.state(now), disks.collect())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// On which disk a chunk stands, as far as known. Of a server that has shown one disk everything stands there.
    fn disk_of(&self, chunk: ChunkId) -> Option<u8> {
        match self.disks.len() {
            0 => None,
            1 => self.disks.keys().next().copied(),
            _ => self.chunks.get(&chunk).copied(),
        }
    }

    fn learn(&mut self, chunk: ChunkId, disk: u8) {
        self.disks.entry(disk).or_default();
        if self.disks.len() < 2 {
            return;
        }
        if self.chunks.len() >= CHUNK_DISKS_REMEMBERED && !self.chunks.contains_key(&chunk) {
            // Any one: it is learned again with the next answer.
            self.chunks.pop_first();
        }
        self.chunks.insert(chunk, disk);
    }
}

impl Record {
    fn took(&mut self, took: Duration) {
        let sample = (took.as_micros() as u64).max(1);
        if self.mean_us == 0 {
            self.mean_us = sample;
            self.deviation_us = sample / 2;
        } else {
            // The gains of TCP's round-trip estimator (RFC 6298).
            self.deviation_us = (3 * self.deviation_us + self.mean_us.abs_diff(sample)) / 4;
            self.mean_us = (7 * self.mean_us + sample) / 8;
        }
    }

    fn hedge_delay(&self) -> Duration {
        let late = Duration::from_micros(self.mean_us + 4 * self.deviation_us);
        late.clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
    }
}

impl Standing {
    /// Who is asked first: whoever is to be probed, then by expected waiting time, avoided ones last.
    pub(super) fn rank(&self) -> (u8, u64) {
        (self.gate_rank(), self.cost)
    }

    /// For a stream, which stays with one server unless that takes much longer than `quickest_us`.
    pub(super) fn stream_rank(&self, quickest_us: u64) -> (u8, bool) {
        (self.gate_rank(), self.mean_us / LAG_FACTOR > quickest_us)
    }

    /// Of the gate alone.
    pub(super) fn gate_rank(&self) -> u8 {
        match self.gate {
            Gate::Probe => 0,
            Gate::Closed => 1,
            Gate::Open => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn now() -> Tick {
        Tick(Duration::from_secs(100))
    }

    fn gate(health: &Health, chunk: u64) -> Gate {
        health.standing(ChunkId(chunk), now()).gate
    }

    #[test]
    fn a_slow_disk_does_not_condemn_its_server() {
        let health = Health::default();
        health.answered(ChunkId(1), 1, MILLI, true, now());
        health.answered(ChunkId(2), 2, MILLI, true, now());
        assert!(health.late(ChunkId(2), now()));
        assert!(health.declined(ChunkId(3), 2, now()) || gate(&health, 3) == Gate::Open);
        let gates = [1, 2, 3, 9].map(|chunk| gate(&health, chunk));
        assert_eq!(gates, [Gate::Closed, Gate::Open, Gate::Open, Gate::Closed]);
        let disks = vec![(1, BreakerState::Closed), (2, BreakerState::Open)];
        assert_eq!(health.breakers(now()), (BreakerState::Closed, disks));
        health.failed(now());
        assert_eq!(gate(&health, 1), Gate::Open, "the connection is every disk's");
        assert_eq!(health.breakers(now()).0, BreakerState::Open);
    }

    #[test]
    fn a_server_with_one_disk_is_that_disk() {
        let health = Health::default();
        health.answered(ChunkId(1), 1, MILLI, true, now());
        health.late(ChunkId(7), now());
        assert_eq!(gate(&health, 1), Gate::Open);
        health.answered(ChunkId(7), 1, MILLI, false, now());
        assert_eq!(gate(&health, 1), Gate::Open, "a late answer forgives nothing");
        health.answered(ChunkId(7), 1, MILLI, true, now());
        assert_eq!(gate(&health, 1), Gate::Closed);
    }

    #[test]
    fn one_probe_goes_first_and_the_others_elsewhere() {
        let health = Health::default();
        health.failed(now());
        let later = now().after(BREAKER_MIN);
        assert_eq!(health.standing(ChunkId(1), later).gate, Gate::Probe);
        health.probe(ChunkId(1), later);
        assert_eq!(health.standing(ChunkId(1), later).gate, Gate::Open);
    }

    #[test]
    fn the_hedge_follows_experience_within_bounds() {
        let health = Health::default();
        let hedge = |health: &Health| health.standing(ChunkId(1), now()).hedge_delay;
        assert_eq!(hedge(&health), HEDGE_DELAY_MIN);
        for _ in 0..50 {
            health.answered(ChunkId(1), 1, 60 * MILLI, true, now());
        }
        assert!(hedge(&health) >= 60 * MILLI);
        for _ in 0..50 {
            health.answered(ChunkId(1), 1, 5000 * MILLI, true, now());
        }
        assert_eq!(hedge(&health), HEDGE_DELAY_MAX);
    }

    #[test]
    fn what_is_remembered_of_chunks_is_bounded() {
        let health = Health::default();
        for chunk in 0..2 * CHUNK_DISKS_REMEMBERED as u64 {
            health.answered(ChunkId(chunk), (chunk % 2) as u8, MILLI, true, now());
        }
        assert_eq!(health.records().chunks.len(), CHUNK_DISKS_REMEMBERED);
    }
}
