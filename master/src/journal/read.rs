//! Reading entries back: the newest from memory, older ones from their segments.

use super::{Journal, JournalError, LogEntry};
use bytes::Bytes;
use cairn_core::ids::LogIndex;
use cairn_core::journal::frame::{BATCH_HEADER_BYTES, BatchHeader, Record, next_record};
use cairn_core::journal::scan::Corruption;

/// Bytes read from a segment at a time.
const WINDOW_BYTES: usize = 256 << 10;

/// Entries collected in order until the range or its limit is full.
struct Collected {
    entries: Vec<LogEntry>,
    next: LogIndex,
    high: LogIndex,
    bytes: u64,
    bytes_max: u64,
}

impl Collected {
    fn is_full(&self) -> bool {
        self.next >= self.high || (self.bytes >= self.bytes_max && !self.entries.is_empty())
    }

    /// Takes the entry unless the limit forbids; the first one always fits.
    fn take(&mut self, entry: LogEntry) {
        let bytes = entry.data.len() as u64;
        if !self.entries.is_empty() && self.bytes + bytes > self.bytes_max {
            self.bytes = self.bytes_max;
            return;
        }
        self.bytes += bytes;
        self.next = LogIndex(entry.id.index.get() + 1);
        self.entries.push(entry);
    }
}

impl Journal {
    /// Entries `low .. high`, cut after `bytes_max` bytes of data but never below one entry.
    ///
    /// # Errors
    /// `Trimmed` when `low` is no longer held; `Io` and `Corrupt` when the disk fails.
    pub fn entries(
        &self,
        low: LogIndex,
        high: LogIndex,
        bytes_max: u64,
    ) -> Result<Vec<LogEntry>, JournalError> {
        if low <= self.before().index {
            return Err(JournalError::Trimmed(low.get()));
        }
        let high = high.min(LogIndex(self.last().index.get() + 1));
        let mut collected = Collected { entries: Vec::new(), next: low, high, bytes: 0, bytes_max };
        if self.shape.first_cached().is_none_or(|first| low < first) {
            self.read_segments(&mut collected)?;
        }
        for entry in self.shape.cached_from(collected.next) {
            if collected.is_full() {
                break;
            }
            collected.take(entry.clone());
        }
        Ok(collected.entries)
    }

    fn read_segments(&self, collected: &mut Collected) -> Result<(), JournalError> {
        // The newest segment with a mark at or before the entry: in older ones it may stand as well, but void.
        let found = self.segments.iter().enumerate().rev();
        let Some((first, mark)) =
            found.filter_map(|(at, segment)| Some((at, segment.mark_before(collected.next)?))).next()
        else {
            return Ok(());
        };
        let mut position = mark.position;
        for segment in self.segments.range(first..) {
            position =
                position.max(segment.header.base + cairn_core::journal::frame::SEGMENT_HEADER_BYTES as u64);
            let mut window = Window { bytes: Vec::new(), start: position };
            while position < segment.end {
                if collected.is_full() {
                    return Ok(());
                }
                let left = (segment.end - position) as usize;
                let header = window.at(position, BATCH_HEADER_BYTES, left, segment, self)?;
                let batch = BatchHeader::decode(header, segment.header.salt, position);
                let batch = batch.ok_or_else(|| self.damage(segment, position))?;
                let bytes = window.at(position, batch.padded_bytes(), left, segment, self)?;
                let body = batch.verified_body(bytes, segment.header.salt);
                let body = body.ok_or_else(|| self.damage(segment, position))?;
                self.collect(body, collected);
                position += batch.padded_bytes() as u64;
            }
        }
        Ok(())
    }

    fn collect(&self, mut body: &[u8], collected: &mut Collected) {
        while let Some(record) = next_record(&mut body) {
            if let Record::Entry { id, kind, data } = record {
                // Void entries have another term than the valid one of their index.
                let wanted = id.index == collected.next && self.term(id.index) == Some(id.term);
                if wanted && !collected.is_full() {
                    collected.take(LogEntry { id, kind, data: Bytes::copy_from_slice(data) });
                }
            }
        }
    }

    fn damage(&self, segment: &super::segment::Segment, position: u64) -> JournalError {
        let corruption = Corruption {
            segment: segment.header.number,
            offset: position - segment.header.base,
            position,
            durable: segment.end,
        };
        JournalError::Corrupt { directory: self.config.directory.clone(), corruption }
    }
}

/// A stretch of a segment in memory.
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// At least `length` bytes at `position`, of the `left` ones that the segment has there.
    fn at<'a>(
        &'a mut self,
        position: u64,
        length: usize,
        left: usize,
        segment: &super::segment::Segment,
        journal: &Journal,
    ) -> Result<&'a [u8], JournalError> {
        if length > left {
            return Err(journal.damage(segment, position));
        }
        let offset = (position - self.start) as usize;
        if self.bytes.len() < offset + length {
            self.bytes.resize(length.max(WINDOW_BYTES).min(left), 0);
            self.start = position;
            let read = segment.file.read_at(&mut self.bytes, position - segment.header.base);
            let read = read.map_err(|source| journal.config.io(source))?;
            self.bytes.truncate(read);
            if read < length {
                return Err(journal.damage(segment, position));
            }
            return Ok(&self.bytes);
        }
        Ok(&self.bytes[offset..])
    }
}
