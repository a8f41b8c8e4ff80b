//! A run of buffered bytes: consecutive in the file, made of the parts in which they came.

use crate::io::write_session::WriteSequence;
use crate::limits::{COALESCE_COPY_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
use crate::time::Tick;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Consecutive bytes. Small writes are copied together, large ones are kept as they came.
#[derive(Debug)]
pub(crate) struct Run {
    parts: VecDeque<Bytes>,
    /// Small writes at the end, still growing.
    tail: BytesMut,
    parts_bytes: u64,
    /// Oldest write in it.
    pub(crate) oldest: WriteSequence,
    /// When the oldest write came.
    pub(crate) since: Tick,
}

impl Run {
    pub(crate) fn new(bytes: Bytes, oldest: WriteSequence, since: Tick) -> Self {
        let parts_bytes = bytes.len() as u64;
        Self { parts: VecDeque::from([bytes]), tail: BytesMut::new(), parts_bytes, oldest, since }
    }

    pub(crate) fn length(&self) -> u64 {
        self.parts_bytes + self.tail.len() as u64
    }

    /// Appends a run that follows this one.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.oldest = self.oldest.min(other.oldest);
        self.since = self.since.min(other.since);
        if other.length() <= COALESCE_COPY_BYTES_MAX as u64 {
            for part in &other.parts {
                self.append_small(part);
            }
            self.append_small(&other.tail);
            return;
        }
        self.seal();
        self.parts_bytes += other.parts_bytes;
        self.parts.append(&mut other.parts);
        self.tail = other.tail;
    }

    fn append_small(&mut self, bytes: &[u8]) {
        if self.tail.len() + bytes.len() > FRAME_PAYLOAD_BYTES_MAX {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts_bytes += self.tail.len() as u64;
            let tail = self.tail.split().freeze();
            self.parts.push_back(tail);
        }
    }

    /// Cuts after `length` bytes, at least 1; the second part is `None` when nothing is left for it.
    pub(crate) fn split(mut self, length: u64) -> (Self, Option<Self>) {
        assert!(length > 0, "a run is never empty");
        if length >= self.length() {
            return (self, None);
        }
        if length >= self.parts_bytes && self.parts_bytes > 0 {
            // The cut lies in the tail: keep it growing in the second part.
            let taken = self.tail.split_to((length - self.parts_bytes) as usize);
            let tail = std::mem::replace(&mut self.tail, taken);
            let rest =
                Self { parts: VecDeque::new(), tail, parts_bytes: 0, oldest: self.oldest, since: self.since };
            self.seal();
            return (self, Some(rest));
        }
        self.seal();
        let mut head = VecDeque::new();
        let mut left = length;
        while left > 0 {
            let mut part = self.parts.pop_front().expect("length is within the run");
            if part.len() as u64 > left {
                head.push_back(part.split_to(left as usize));
                self.parts.push_front(part);
                left = 0;
            } else {
                left -= part.len() as u64;
                head.push_back(part);
            }
        }
        self.parts_bytes -= length;
        let head = Self {
            parts: head,
            tail: BytesMut::new(),
            parts_bytes: length,
            oldest: self.oldest,
            since: self.since,
        };
        (head, Some(self))
    }

    /// All bytes in one piece; copies only when there are several parts.
    pub(crate) fn gather(&mut self) -> Bytes {
        self.seal();
        if self.parts.len() == 1 {
            return self.parts[0].clone();
        }
        let mut out = BytesMut::with_capacity(self.parts_bytes as usize);
        for part in &self.parts {
            out.extend_from_slice(part);
        }
        out.freeze()
    }

    /// Calls `take` with (offset in the run, bytes) for each part within `from .. to`.
    pub(crate) fn for_parts(&mut self, from: u64, to: u64, mut take: impl FnMut(u64, Bytes)) {
        self.seal();
        let mut at = 0;
        for part in &self.parts {
            let end = at + part.len() as u64;
            let (start, stop) = (at.max(from), end.min(to));
            if start < stop {
                take(start, part.slice((start - at) as usize..(stop - at) as usize));
            }
            at = end;
        }
    }
}
