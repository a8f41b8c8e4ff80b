//! Reading a segment batch by batch for whoever wants to see what stands in it, and saying what its end is.
//!
//! The rules are those of [`super::scan`]; here empty batches are seen as well, and a tail is described.

use super::frame::{
    BATCH_HEADER_BYTES, BatchHeader, Record, SECTOR_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, next_record,
};
use super::scan::{Corruption, SegmentEnd, batch_at, judge_last, judge_sealed};

/// Something in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A batch that verifies and follows the one before. Without records it is a closing mark.
    Batch(BatchHeader),
    /// A record of it.
    Record(Record<'a>),
    /// The batch verifies, but what is left of it is no record: whoever wrote it was at fault.
    Malformed,
}

/// What follows a segment.
#[derive(Clone, Copy, Debug)]
pub enum Next<'a> {
    /// Nothing: it is the last.
    Nothing,
    /// Another one.
    Segment(&'a SegmentHeader),
    /// One that is missing or cannot be read.
    Unknown,
}

/// What the end of the valid batches of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It reaches the next segment exactly.
    Sealed,
    /// Nothing was written behind it.
    Unused,
    /// Something was written behind it that nobody was answered for: it is void, and a start goes on without it.
    Torn {
        /// Bytes from the end to the last that is not zero.
        bytes: u64,
        /// Whole batches among them.
        batches: u64,
    },
    /// What followed is missing or cannot be read: whether all of the segment is there cannot be told.
    Unknown,
    /// Synced bytes have changed.
    Corrupt(Corruption),
}

/// Follows the batches of a segment (`bytes` is the whole file) as a recovery does.
pub fn review<'a>(bytes: &'a [u8], header: &SegmentHeader, mut visit: impl FnMut(Seen<'a>)) -> SegmentEnd {
    let position = header.base + SEGMENT_HEADER_BYTES as u64;
    let mut end = SegmentEnd { position, chain: header.chain, hard: header.hard };
    while let Some((batch, mut body)) = batch_at(bytes, header, end.position) {
        if batch.chain != end.chain {
            break;
        }
        visit(Seen::Batch(batch));
        let mut records = 0;
        while let Some(record) = next_record(&mut body) {
            records += 1;
            visit(Seen::Record(record));
        }
        if !body.is_empty() || records != batch.records {
            visit(Seen::Malformed);
        }
        let position = end.position + batch.padded_bytes() as u64;
        end = SegmentEnd { position, chain: batch.next_chain(), hard: batch.hard };
    }
    end
}

/// Judges the end of a segment.
pub fn judge(bytes: &[u8], header: &SegmentHeader, end: &SegmentEnd, next: Next<'_>) -> Ending {
    let judged = match next {
        Next::Segment(next) => judge_sealed(header, end, next).map(|()| Ending::Sealed),
        Next::Nothing => judge_last(bytes, header, end).map(|()| tail(bytes, header, end)),
        Next::Unknown => judge_last(bytes, header, end).map(|()| Ending::Unknown),
    };
    judged.unwrap_or_else(Ending::Corrupt)
}

fn tail(bytes: &[u8], header: &SegmentHeader, end: &SegmentEnd) -> Ending {
    let from = ((end.position - header.base) as usize).min(bytes.len());
    let Some(last) = bytes[from..].iter().rposition(|&byte| byte != 0) else { return Ending::Unused };
    let mut batches = 0;
    let mut at = from;
    while at + BATCH_HEADER_BYTES <= from + last + 1 {
        batches += u64::from(batch_at(bytes, header, header.base + at as u64).is_some());
        at += SECTOR_BYTES;
    }
    Ending::Torn { bytes: last as u64 + 1, batches }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogIndex, NodeId, Term};
    use crate::journal::frame::{BatchBuilder, EntryKind, HardState, LogId};

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: 1,
            base: 4096,
            salt: 5,
            chain: 3,
            hard: HardState::default(),
            last: LogId::default(),
            node: NodeId::default(),
        }
    }

    /// Two batches with an entry each and a closing mark, of which each says that the ones before are durable.
    fn segment() -> (Vec<u8>, SegmentEnd) {
        let header = header();
        let mut bytes = header.encode().to_vec();
        let mut end = SegmentEnd { position: 4096 + 512, chain: header.chain, hard: header.hard };
        for number in 1..=3_u64 {
            let mut builder = BatchBuilder::default();
            if number < 3 {
                let id = LogId { index: LogIndex(number), term: Term(1) };
                builder.push(&Record::Entry { id, kind: EntryKind::Normal, data: &[7; 20] });
            }
            let sealed = builder.seal(5, end.position, end.position, end.chain, HardState::default());
            bytes.extend_from_slice(builder.sealed());
            end.position += sealed.padded_bytes() as u64;
            end.chain = sealed.next_chain();
        }
        bytes.resize(bytes.len() + 4096, 0);
        (bytes, end)
    }

    fn ending(bytes: &[u8], next: Next<'_>) -> (usize, Ending) {
        let mut seen = 0;
        let end = review(bytes, &header(), |_| seen += 1);
        (seen, judge(bytes, &header(), &end, next))
    }

    #[test]
    fn every_batch_is_seen_and_the_end_is_named() {
        let (mut bytes, end) = segment();
        assert_eq!(ending(&bytes, Next::Nothing), (5, Ending::Unused));
        let next = SegmentHeader { number: 2, base: end.position, chain: end.chain, ..header() };
        assert_eq!(ending(&bytes, Next::Segment(&next)), (5, Ending::Sealed));
        assert_eq!(ending(&bytes, Next::Unknown), (5, Ending::Unknown));
        let other = SegmentHeader { chain: 0, ..next };
        assert!(matches!(ending(&bytes, Next::Segment(&other)), (5, Ending::Corrupt(_))));
        bytes[(end.position - 4096) as usize + 700] = 1;
        assert_eq!(ending(&bytes, Next::Nothing), (5, Ending::Torn { bytes: 701, batches: 0 }));
        // The closing mark says that both batches are durable.
        bytes[512 + 80] ^= 1;
        assert!(matches!(ending(&bytes, Next::Nothing), (0, Ending::Corrupt(found)) if found.offset == 512));
    }

    #[test]
    fn a_damaged_last_batch_is_a_torn_tail() {
        let (mut bytes, _) = segment();
        bytes[3 * 512] ^= 1;
        assert_eq!(ending(&bytes, Next::Nothing), (4, Ending::Torn { bytes: 72, batches: 0 }));
    }
}
