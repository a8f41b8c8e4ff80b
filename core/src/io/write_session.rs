//! Bytes on their way out: accepted, coalesced, cut into frames, in flight.
//!
//! Laws (asserted): two frames in flight never touch the same block (a delayed frame must not overwrite a newer one, and a
//! server must not mend one block twice at a time); a byte that was accepted is buffered or in flight until it is
//! acknowledged or given up; a later write wins over an earlier one.

use crate::io::write_run::Run;
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use crate::time::Tick;
use crate::units::{CHUNK_BYTES, block_ceil, block_floor};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Frames end at multiples of this, so that neighbours share no block and lie in one slot.
const FRAME: u64 = FRAME_PAYLOAD_BYTES_MAX as u64;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(FRAME));

/// Position of a write among all writes of a session.
pub type WriteSequence = u64;

/// One frame to send: bytes of one slot of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// First byte in the file; names the job while it is in flight.
    pub offset: u64,
    /// The bytes.
    pub payload: Bytes,
    /// Oldest write in it.
    pub oldest: WriteSequence,
    since: Tick,
}

impl Job {
    /// The 64 MiB slot of the file that it lies in.
    pub fn slot(&self) -> u64 {
        self.offset / CHUNK_BYTES
    }

    fn end(&self) -> u64 {
        self.offset + self.payload.len() as u64
    }
}

/// Which bytes may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Only whole frames: more may come and join the rest.
    WholeFrames,
    /// As above, and what has waited since this time.
    Since(Tick),
    /// Everything: somebody waits for it, or memory is short.
    Everything,
}

/// The unacknowledged bytes of one inode.
#[derive(Debug, Default)]
pub struct WriteSession {
    buffered: BTreeMap<u64, Run>,
    /// Offsets of runs that hold at least one whole frame.
    whole: BTreeSet<u64>,
    in_flight: BTreeMap<u64, Job>,
    in_flight_bytes: u64,
    last_write: WriteSequence,
}

impl WriteSession {
    /// Accepts bytes at `offset`. They hide whatever was accepted there before. Answers the bytes of earlier writes that
    /// this one made superfluous before they were sent.
    pub fn write(&mut self, now: Tick, offset: u64, bytes: Bytes) -> u64 {
        if bytes.is_empty() {
            return 0;
        }
        self.last_write += 1;
        let end = offset + bytes.len() as u64;
        let hidden = self.drop_buffered(offset, end);
        self.insert(offset, Run::new(bytes, self.last_write, now));
        hidden
    }

    /// The last write accepted.
    pub fn last_write(&self) -> WriteSequence {
        self.last_write
    }

    /// Whether a write up to `sequence` is still unacknowledged.
    pub fn waits_for(&self, sequence: WriteSequence) -> bool {
        self.in_flight.values().any(|job| job.oldest <= sequence)
            || self.buffered.values().any(|run| run.oldest <= sequence)
    }

    /// Whether nothing is buffered and nothing in flight.
    pub fn is_idle(&self) -> bool {
        self.buffered.is_empty() && self.in_flight.is_empty()
    }

    /// Whether nothing waits to be sent.
    pub fn all_sent(&self) -> bool {
        self.buffered.is_empty()
    }

    /// Frames in flight.
    pub fn jobs_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes buffered and in flight.
    pub fn bytes(&self) -> u64 {
        self.in_flight_bytes + self.buffered.values().map(Run::length).sum::<u64>()
    }

    /// Bytes in flight.
    pub fn bytes_in_flight(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Takes the next frame that may leave; `ready` tells whether a slot has a chunk to write to.
    pub fn next_job(&mut self, urgency: Urgency, ready: impl Fn(u64) -> bool) -> Option<Job> {
        let offset = self.candidate(urgency, ready)?;
        let run = self.buffered.remove(&offset).expect("candidate is buffered");
        self.whole.remove(&offset);
        let end = frame_end(offset, run.length());
        let (oldest, since) = (run.oldest, run.since);
        let (mut head, rest) = run.split(end - offset);
        if let Some(rest) = rest {
            self.insert(end, rest);
        }
        let job = Job { offset, payload: head.gather(), oldest, since };
        assert!(!self.touches_in_flight(job.offset, job.end()), "two frames in flight would share a block");
        self.in_flight_bytes += job.payload.len() as u64;
        self.in_flight.insert(offset, job.clone());
        Some(job)
    }

    /// The frame at `offset` is stored everywhere, or given up: it leaves memory.
    pub fn settle(&mut self, offset: u64) -> Option<Job> {
        let job = self.in_flight.remove(&offset)?;
        self.in_flight_bytes -= job.payload.len() as u64;
        Some(job)
    }

    /// The frame at `offset` must go elsewhere: it waits to be sent again, below what was written since.
    /// Answers its bytes that newer writes have made superfluous.
    pub fn requeue(&mut self, offset: u64) -> u64 {
        let Some(job) = self.settle(offset) else { return 0 };
        let mut hidden = 0;
        let mut at = job.offset;
        while at < job.end() {
            let covered = self.buffered_at(at);
            if let Some(until) = covered {
                let until = until.min(job.end());
                hidden += until - at;
                at = until;
                continue;
            }
            let until =
                self.buffered.range(at..).next().map_or(job.end(), |(&start, _)| start.min(job.end()));
            let piece = job.payload.slice((at - job.offset) as usize..(until - job.offset) as usize);
            self.insert(at, Run::new(piece, job.oldest, job.since));
            at = until;
        }
        hidden
    }

    /// Forgets buffered bytes from `length` on. Answers how many.
    pub fn truncate(&mut self, length: u64) -> u64 {
        self.drop_buffered(length, u64::MAX)
    }

    /// Unacknowledged bytes of `from .. to`, by offset, not overlapping.
    pub fn overlay(&mut self, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let mut out: BTreeMap<u64, Bytes> = BTreeMap::new();
        let first = self.buffered.range(..=from).next_back().map_or(from, |(&offset, _)| offset);
        for (&offset, run) in self.buffered.range_mut(first..to.max(first)) {
            let end = offset + run.length();
            let (start, stop) = (offset.max(from), end.min(to));
            if start < stop {
                run.for_parts(start - offset, stop - offset, |at, part| {
                    out.insert(offset + at, part);
                });
            }
        }
        let first = self.in_flight.range(..=from).next_back().map_or(from, |(&offset, _)| offset);
        for job in self.in_flight.range(first..to.max(first)).map(|(_, job)| job) {
            add_below(&mut out, job, from, to);
        }
        out.into_iter().collect()
    }

    /// Gives everything up. Answers the bytes that were buffered; frames in flight settle by themselves.
    pub fn abandon(&mut self) -> u64 {
        self.drop_buffered(0, u64::MAX)
    }

    /// Oldest time since which buffered bytes wait.
    pub fn waiting_since(&self) -> Option<Tick> {
        self.buffered.values().map(|run| run.since).min()
    }

    fn candidate(&self, urgency: Urgency, ready: impl Fn(u64) -> bool) -> Option<u64> {
        let may_leave = |offset: u64, run: &Run| {
            ready(offset / CHUNK_BYTES) && !self.touches_in_flight(offset, frame_end(offset, run.length()))
        };
        let whole = self.whole.iter().copied().find(|offset| may_leave(*offset, &self.buffered[offset]));
        if whole.is_some() || urgency == Urgency::WholeFrames {
            return whole;
        }
        let due = |run: &Run| match urgency {
            Urgency::WholeFrames => false,
            Urgency::Since(time) => run.since <= time,
            Urgency::Everything => true,
        };
        self.buffered
            .iter()
            .find(|(offset, run)| due(run) && may_leave(**offset, run))
            .map(|(&offset, _)| offset)
    }

    fn touches_in_flight(&self, from: u64, to: u64) -> bool {
        let (from, to) = (block_floor(from), block_ceil(to));
        self.in_flight.range(..to).next_back().is_some_and(|(_, job)| block_ceil(job.end()) > from)
    }

    fn buffered_at(&self, at: u64) -> Option<u64> {
        let (&offset, run) = self.buffered.range(..=at).next_back()?;
        let end = offset + run.length();
        (end > at).then_some(end)
    }

    fn insert(&mut self, offset: u64, run: Run) {
        let mut offset = offset;
        let mut run = run;
        if let Some((&left, before)) = self.buffered.range(..offset).next_back()
            && left + before.length() == offset
        {
            let mut before = self.remove_run(left);
            before.append(run);
            run = before;
            offset = left;
        }
        let end = offset + run.length();
        if self.buffered.contains_key(&end) {
            let right = self.remove_run(end);
            run.append(right);
        }
        if frame_end(offset, run.length()).is_multiple_of(FRAME) {
            self.whole.insert(offset);
        }
        self.buffered.insert(offset, run);
    }

    fn remove_run(&mut self, offset: u64) -> Run {
        self.whole.remove(&offset);
        self.buffered.remove(&offset).expect("the run is buffered")
    }

    fn drop_buffered(&mut self, from: u64, to: u64) -> u64 {
        let mut dropped = 0;
        let first = self.buffered.range(..from).next_back().map_or(from, |(&offset, _)| offset);
        let touched: Vec<u64> = self.buffered.range(first..to).map(|(&offset, _)| offset).collect();
        for offset in touched {
            let end = offset + self.buffered[&offset].length();
            if end <= from {
                continue;
            }
            let run = self.remove_run(offset);
            let middle = if offset < from {
                let (left, rest) = run.split(from - offset);
                self.insert(offset, left);
                rest
            } else {
                Some(run)
            };
            let Some(middle) = middle else { continue };
            let start = offset.max(from);
            if end > to {
                let (gone, right) = middle.split(to - start);
                dropped += gone.length();
                if let Some(right) = right {
                    self.insert(to, right);
                }
            } else {
                dropped += middle.length();
            }
        }
        dropped
    }
}

/// Where a frame that starts at `offset` ends, when `length` bytes follow.
fn frame_end(offset: u64, length: u64) -> u64 {
    ((offset / FRAME + 1) * FRAME).min(offset + length)
}

/// Adds the parts of `job` within `from .. to` that nothing in `out` covers.
fn add_below(out: &mut BTreeMap<u64, Bytes>, job: &Job, from: u64, to: u64) {
    let stop = job.end().min(to);
    let mut at = job.offset.max(from);
    while at < stop {
        let before = out.range(..=at).next_back().map(|(&offset, bytes)| offset + bytes.len() as u64);
        if let Some(covered) = before
            && covered > at
        {
            at = covered;
            continue;
        }
        let until = out.range(at..).next().map_or(stop, |(&offset, _)| offset.min(stop));
        out.insert(at, job.payload.slice((at - job.offset) as usize..(until - job.offset) as usize));
        at = until;
    }
}

#[cfg(test)]
#[path = "write_session_test.rs"]
mod tests;
