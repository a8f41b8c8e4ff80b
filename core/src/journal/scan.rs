//! Reading a segment after a crash: what was written for certain, what is a torn tail, what is corruption.
//!
//! Every batch states the position that was durable before it was written. The scan follows batches from the segment's
//! header for as long as each verifies and follows the one before. Where it stops, at position E, either the journal ends
//! or something is damaged, and the rule (it refines I12) is:
//!
//! * a batch header anywhere in the segment, verified on its own, that states a durable position beyond E proves that
//!   bytes at E had been synced: **corruption**. Nothing is cut; the member must not go on with this journal.
//! * otherwise nothing beyond E was ever stated to be durable, hence never answered: a **torn tail**, even when whole
//!   batches stand behind the damage (the disk may write in any order). The journal ends at E.
//! * a segment that is not the last must reach the base and the chain value that the next one's header states, because
//!   a segment is begun only after all before it was synced; else corruption.

use super::frame::{
    BATCH_HEADER_BYTES, BatchHeader, HardState, Record, SECTOR_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
    next_record,
};
use crate::seeded::{Bug, is_planted};
use thiserror::Error;

/// Proof that synced bytes have changed. Nothing may be cut or overwritten; fetch the log from the peers or a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "journal segment {segment} is corrupt at byte {offset}: bytes before position {durable} had been synced, \
     but what stands at position {position} does not verify"
)]
pub struct Corruption {
    /// Number of the segment.
    pub segment: u64,
    /// Offset in its file.
    pub offset: u64,
    /// The same as a position.
    pub position: u64,
    /// The highest position that is stated to have been durable.
    pub durable: u64,
}

/// Where the valid batches of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    /// Position behind the last valid batch.
    pub position: u64,
    /// Its chain value.
    pub chain: u64,
    /// Its hard state.
    pub hard: HardState,
}

/// Follows the batches of a segment (`bytes` is the whole file) and hands each batch, then its records, to `visit`.
pub fn walk<'a>(
    bytes: &'a [u8],
    header: &SegmentHeader,
    mut visit: impl FnMut(&BatchHeader, Record<'a>),
) -> SegmentEnd {
    let mut end = SegmentEnd {
        position: header.base + SEGMENT_HEADER_BYTES as u64,
        chain: header.chain,
        hard: header.hard,
    };
    while let Some((batch, body)) = batch_at(bytes, header, end.position) {
        if batch.chain != end.chain {
            break;
        }
        let mut rest = body;
        while let Some(record) = next_record(&mut rest) {
            visit(&batch, record);
        }
        end = SegmentEnd {
            position: end.position + batch.padded_bytes() as u64,
            chain: batch.next_chain(),
            hard: batch.hard,
        };
    }
    end
}

/// The verified batch at `position`, with its records.
pub fn batch_at<'a>(
    bytes: &'a [u8],
    header: &SegmentHeader,
    position: u64,
) -> Option<(BatchHeader, &'a [u8])> {
    let offset = usize::try_from(position.checked_sub(header.base)?).ok()?;
    let here = bytes.get(offset..)?;
    let batch = BatchHeader::decode(here, header.salt, position)?;
    let body = batch.verified_body(here, header.salt)?;
    Some((batch, body))
}

/// Judges the last segment of a journal, whose valid batches end at `end`.
///
/// # Errors
/// [`Corruption`] when some batch proves that synced bytes at `end` are damaged. `Ok` is an end or a torn tail.
pub fn judge_last(bytes: &[u8], header: &SegmentHeader, end: &SegmentEnd) -> Result<(), Corruption> {
    let durable = stated_durable(bytes, header, (end.position - header.base) as usize);
    if durable > end.position && !is_planted(Bug::TruncateAtBadChecksum) {
        Err(corruption(header, end, durable))
    } else {
        Ok(())
    }
}

/// Bytes at the beginning of a segment (`bytes` is the whole file) that some batch, or the segment's own being there, states to have
/// been synced: a bit that turns behind them cannot be told from a torn end (I12); closing marks are there to leave little of that.
pub fn stated_bytes(bytes: &[u8]) -> u64 {
    let stated = SegmentHeader::decode(bytes)
        .map_or(0, |header| stated_durable(bytes, &header, SEGMENT_HEADER_BYTES).saturating_sub(header.base));
    stated.max(SEGMENT_HEADER_BYTES as u64)
}

/// The highest position that a batch header from offset `from` on, verified on its own, states to have been durable; 0 when
/// there is none.
fn stated_durable(bytes: &[u8], header: &SegmentHeader, from: usize) -> u64 {
    let last = bytes.len().saturating_sub(BATCH_HEADER_BYTES);
    let batch = |at: usize| BatchHeader::decode(&bytes[at..], header.salt, header.base + at as u64);
    let stated = (from..=last).step_by(SECTOR_BYTES).filter_map(batch).map(|batch| batch.durable);
    stated.max().unwrap_or(0)
}

/// Judges a segment that is followed by `next`.
///
/// # Errors
/// [`Corruption`] unless its batches end exactly where `next` says.
pub fn judge_sealed(
    header: &SegmentHeader,
    end: &SegmentEnd,
    next: &SegmentHeader,
) -> Result<(), Corruption> {
    if end.position == next.base && end.chain == next.chain {
        Ok(())
    } else {
        Err(corruption(header, end, next.base))
    }
}

fn corruption(header: &SegmentHeader, end: &SegmentEnd, durable: u64) -> Corruption {
    Corruption { segment: header.number, offset: end.position - header.base, position: end.position, durable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LogIndex, NodeId, Term};
    use crate::journal::frame::{BatchBuilder, EntryKind, LogId};

    const SALT: u64 = 99;

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: 1,
            base: 4096,
            salt: SALT,
            chain: 3,
            hard: HardState::default(),
            last: LogId::default(),
            node: NodeId::default(),
        }
    }

    /// A segment with one batch for each (data length, whether everything before it was synced).
    fn segment(batches: &[(usize, bool)]) -> (Vec<u8>, Vec<u64>) {
        let header = header();
        let mut bytes = header.encode().to_vec();
        let (mut chain, mut durable, mut starts) = (header.chain, header.base, Vec::new());
        for (number, &(length, synced)) in batches.iter().enumerate() {
            let position = header.base + bytes.len() as u64;
            if synced {
                durable = position;
            }
            let mut builder = BatchBuilder::default();
            let id = LogId { index: LogIndex(number as u64 + 1), term: Term(1) };
            builder.push(&Record::Entry { id, kind: EntryKind::Normal, data: &vec![number as u8; length] });
            chain = builder.seal(SALT, position, durable, chain, HardState::default()).next_chain();
            bytes.extend_from_slice(builder.sealed());
            starts.push(position - header.base);
        }
        bytes.resize(bytes.len() + 2048, 0);
        (bytes, starts)
    }

    fn scan(bytes: &[u8]) -> Result<usize, Corruption> {
        let mut entries = 0;
        let end = walk(bytes, &header(), |_, _| entries += 1);
        judge_last(bytes, &header(), &end).map(|()| entries)
    }

    #[test]
    fn damage_at_or_beyond_the_stated_position_is_a_torn_tail_even_with_valid_batches_behind() {
        let (mut bytes, starts) = segment(&[(10, true), (600, true), (10, false), (10, false)]);
        assert_eq!(scan(&bytes), Ok(4));
        bytes[starts[1] as usize + 600] ^= 1;
        assert_eq!(scan(&bytes), Ok(1));
    }

    #[test]
    fn every_flipped_bit_below_the_stated_position_is_corruption() {
        let (bytes, starts) = segment(&[(10, true), (600, true), (10, true)]);
        for bit in SEGMENT_HEADER_BYTES * 8..starts[2] as usize * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(scan(&bad).is_err(), "bit {bit}");
        }
        for bit in starts[2] as usize * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(scan(&bad).is_ok_and(|entries| entries >= 2), "bit {bit}");
        }
    }

    #[test]
    fn a_sealed_segment_must_reach_the_next() {
        let (bytes, _) = segment(&[(10, true), (10, true)]);
        let end = walk(&bytes, &header(), |_, _| {});
        let next = SegmentHeader { number: 2, base: end.position, chain: end.chain, ..header() };
        assert_eq!(judge_sealed(&header(), &end, &next), Ok(()));
        let further = SegmentHeader { base: next.base + 512, ..next };
        assert!(judge_sealed(&header(), &end, &further).is_err());
        assert!(judge_sealed(&header(), &end, &SegmentHeader { chain: 1, ..next }).is_err());
    }
}
