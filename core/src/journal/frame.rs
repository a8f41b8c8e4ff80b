//! One journal segment, byte by byte.
//!
//! A *position* counts bytes of the journal since its beginning, across segments, headers and padding included; a segment
//! that starts at position `base` holds position p at file offset p − base. Everything starts at a sector boundary (512 B),
//! so that a sector damaged by a cut of power belongs to the one batch that was being written.
//!
//! ```text
//! segment header             all integers little-endian
//!      0    8 magic          "CairnJL1"
//!      8    4 format         1
//!     12    4 reserved       0
//!     16    8 number         1, 2, 3 … ; also the file's name
//!     24    8 base           position of this header; all before it is durable
//!     32    8 salt           random; enters the checksums of this segment's batches
//!     40    8 chain          chain value before the first batch
//!     48    8 term           hard state before the first batch
//!     56    8 vote
//!     64    8 commit
//!     72    8 last_index     last log entry before the first batch
//!     80    8 last_term
//!     88   16 node           uuid of the member that writes it
//!    104  404 reserved       0
//!    508    4 crc            CRC-32 of bytes 0..508
//!
//! batch                      from offset 512, each at the next sector boundary
//!      0    4 magic          "CRNb"
//!      4    4 reserved       0
//!      8    8 position       of this header
//!     16    8 durable        everything below was on stable storage before this batch was written
//!     24    8 chain          chain value of the batch before
//!     32    8 term           hard state with this batch
//!     40    8 vote
//!     48    8 commit
//!     56    4 length         bytes of records, without padding; 0 in a closing mark
//!     60    4 records        number of records
//!     64    4 body_crc       CRC-32 of salt, records and padding
//!     68    4 header_crc     CRC-32 of salt and bytes 0..68
//!     72    … records, then zeros up to a sector boundary
//!
//! record
//!      0    1 kind           1 entry, 2 entry that changes the group (v1), 3 likewise (v2), 4 truncate, 5 reset
//!      1    3 reserved       0
//!      4    4 length         bytes of data that follow; 0 for kinds 4 and 5
//!      8    8 index          of the entry; truncate: last entry that stays; reset: the log goes on after it
//!     16    8 term           of the entry; truncate: 0; reset: term of `index`
//!     24    … data
//! ```
//!
//! The salt makes batches of an earlier use of the same blocks invalid, and keeps data from imitating a batch. The chain
//! value of a batch mixes the one before with both checksums, so a batch follows exactly one other.

use crate::ids::{LogIndex, NodeId, Term};
use thiserror::Error;

/// Everything starts at a multiple of this.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = SECTOR_BYTES;
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = BATCH_HEADER_CRC_AT + 4;
/// Bytes of a record before its data.
pub const RECORD_HEADER_BYTES: usize = 24;
/// Version of this layout.
pub const JOURNAL_FORMAT: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"CairnJL1";
const SEGMENT_CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;
const BATCH_MAGIC: [u8; 4] = *b"CRNb";
const BATCH_BODY_CRC_AT: usize = 64;
const BATCH_HEADER_CRC_AT: usize = 68;

/// What Raft must not forget: durable before any answer that depends on it (I13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Whom this member voted for in it; 0 for nobody.
    pub vote: u64,
    /// Highest index known to be committed; may lag behind the truth.
    pub commit: LogIndex,
}

/// An entry's place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogId {
    /// Its index.
    pub index: LogIndex,
    /// The term that it was proposed in.
    pub term: Term,
}

/// First sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number.
    pub number: u64,
    /// Position of the header.
    pub base: u64,
    /// Salt of its batches.
    pub salt: u64,
    /// Chain value before its first batch.
    pub chain: u64,
    /// Hard state before its first batch.
    pub hard: HardState,
    /// Last log entry before its first batch.
    pub last: LogId,
    /// Whose journal it is.
    pub node: NodeId,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A command, or nothing (a new leader's first entry).
    Normal = 1,
    /// A change of the group, as Raft encodes it.
    ConfChange = 2,
    /// Likewise, joint.
    ConfChangeV2 = 3,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A log entry; follows the entry before it without a gap.
    Entry {
        /// Where it stands.
        id: LogId,
        /// What it is.
        kind: EntryKind,
        /// Its bytes.
        data: &'a [u8],
    },
    /// Entries after `last` are void.
    Truncate {
        /// The last entry that stays.
        last: LogIndex,
    },
    /// All entries are void; the log goes on after `last` (a snapshot was installed).
    Reset {
        /// The snapshot's place.
        last: LogId,
    },
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// Cut, not a segment, or bits have changed.
    #[error("segment header is damaged")]
    Damaged,
    /// Written by a later release.
    #[error("journal format {0} is newer than {JOURNAL_FORMAT}: start a newer cairn binary")]
    NewerFormat(u32),
}

impl SegmentHeader {
    /// Its sector.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&JOURNAL_FORMAT.to_le_bytes());
        let numbers = [
            self.number,
            self.base,
            self.salt,
            self.chain,
            self.hard.term.get(),
            self.hard.vote,
            self.hard.commit.get(),
            self.last.index.get(),
            self.last.term.get(),
        ];
        for (slot, number) in out[16..88].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        out[88..104].copy_from_slice(self.node.0.as_bytes());
        let crc = crc32fast::hash(&out[..SEGMENT_CRC_AT]);
        out[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes a segment's first sector.
    ///
    /// # Errors
    /// `Damaged` unless every bit verifies; `NewerFormat`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        if bytes.len() < SEGMENT_HEADER_BYTES
            || bytes[..8] != SEGMENT_MAGIC
            || u32_at(bytes, SEGMENT_CRC_AT) != crc32fast::hash(&bytes[..SEGMENT_CRC_AT])
        {
            return Err(SegmentError::Damaged);
        }
        let format = u32_at(bytes, 8);
        if format != JOURNAL_FORMAT {
            return Err(SegmentError::NewerFormat(format));
        }
        let node = bytes[88..104].try_into().expect("sixteen bytes");
        Ok(Self {
            number: u64_at(bytes, 16),
            base: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            chain: u64_at(bytes, 40),
            hard: hard_at(bytes, 48),
            last: LogId { index: LogIndex(u64_at(bytes, 72)), term: Term(u64_at(bytes, 80)) },
            node: NodeId(uuid::Uuid::from_bytes(node)),
        })
    }
}

/// A batch header whose own checksum holds; its body is not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Position of the header.
    pub position: u64,
    /// Everything below was durable before this batch was written.
    pub durable: u64,
    /// Chain value of the batch before.
    pub chain: u64,
    /// Hard state with this batch.
    pub hard: HardState,
    /// Bytes of records.
    pub length: u32,
    /// Number of records.
    pub records: u32,
    body_crc: u32,
    header_crc: u32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which lies at `position` of a segment salted with `salt`.
    /// `None`: there is no batch of this segment here.
    pub fn decode(bytes: &[u8], salt: u64, position: u64) -> Option<Self> {
        if bytes.len() < BATCH_HEADER_BYTES || bytes[..4] != BATCH_MAGIC || u64_at(bytes, 8) != position {
            return None;
        }
        let header_crc = u32_at(bytes, BATCH_HEADER_CRC_AT);
        if header_crc != salted_crc(salt, &bytes[..BATCH_HEADER_CRC_AT]) {
            return None;
        }
        Some(Self {
            position,
            durable: u64_at(bytes, 16),
            chain: u64_at(bytes, 24),
            hard: hard_at(bytes, 32),
            length: u32_at(bytes, 56),
            records: u32_at(bytes, 60),
            body_crc: u32_at(bytes, BATCH_BODY_CRC_AT),
            header_crc,
        })
    }

    /// The records, when all of them and the padding are in `bytes` (which starts at the header) and verify.
    pub fn verified_body<'a>(&self, bytes: &'a [u8], salt: u64) -> Option<&'a [u8]> {
        let body = bytes.get(BATCH_HEADER_BYTES..self.padded_bytes())?;
        (salted_crc(salt, body) == self.body_crc).then(|| &body[..self.length as usize])
    }

    /// Bytes from this header to the next batch.
    pub const fn padded_bytes(&self) -> usize {
        padded(BATCH_HEADER_BYTES + self.length as usize)
    }

    /// Chain value of this batch.
    pub const fn next_chain(&self) -> u64 {
        mix(self.chain ^ ((self.header_crc as u64) << 32 | self.body_crc as u64))
    }
}

/// Puts batches together in one buffer that is used again and again.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    start: usize,
    records: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH_HEADER_BYTES], start: 0, records: 0 }
    }
}

impl BatchBuilder {
    /// Adds a record to the open batch.
    pub fn push(&mut self, record: &Record<'_>) {
        let (kind, id, data): (u8, LogId, &[u8]) = match *record {
            Record::Entry { id, kind, data } => (kind as u8, id, data),
            Record::Truncate { last } => (KIND_TRUNCATE, LogId { index: last, term: Term(0) }, &[]),
            Record::Reset { last } => (KIND_RESET, last, &[]),
        };
        self.bytes.extend_from_slice(&[kind, 0, 0, 0]);
        self.bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&id.index.get().to_le_bytes());
        self.bytes.extend_from_slice(&id.term.get().to_le_bytes());
        self.bytes.extend_from_slice(data);
        self.records += 1;
    }

    /// Bytes that the open batch has with one more record of `data_len` bytes of data, padding included.
    pub fn open_bytes_with(&self, data_len: usize) -> usize {
        padded(self.bytes.len() - self.start + RECORD_HEADER_BYTES + data_len)
    }

    /// Records in the open batch.
    pub const fn open_records(&self) -> u32 {
        self.records
    }

    /// Closes the open batch, pads it and opens the next one. Returns the header, whose `next_chain` the next one needs.
    pub fn seal(
        &mut self,
        salt: u64,
        position: u64,
        durable: u64,
        chain: u64,
        hard: HardState,
    ) -> BatchHeader {
        let start = self.start;
        let length = self.bytes.len() - start - BATCH_HEADER_BYTES;
        self.bytes.resize(start + padded(BATCH_HEADER_BYTES + length), 0);
        let body_crc = salted_crc(salt, &self.bytes[start + BATCH_HEADER_BYTES..]);
        let header = &mut self.bytes[start..start + BATCH_HEADER_BYTES];
        header[..4].copy_from_slice(&BATCH_MAGIC);
        let numbers = [position, durable, chain, hard.term.get(), hard.vote, hard.commit.get()];
        for (slot, number) in header[8..56].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        header[56..60].copy_from_slice(&(length as u32).to_le_bytes());
        header[60..64].copy_from_slice(&self.records.to_le_bytes());
        header[BATCH_BODY_CRC_AT..BATCH_HEADER_CRC_AT].copy_from_slice(&body_crc.to_le_bytes());
        let header_crc = salted_crc(salt, &header[..BATCH_HEADER_CRC_AT]);
        header[BATCH_HEADER_CRC_AT..].copy_from_slice(&header_crc.to_le_bytes());
        let sealed = BatchHeader {
            position,
            durable,
            chain,
            hard,
            length: length as u32,
            records: self.records,
            body_crc,
            header_crc,
        };
        self.start = self.bytes.len();
        self.records = 0;
        self.bytes.resize(self.start + BATCH_HEADER_BYTES, 0);
        sealed
    }

    /// All sealed batches since the last [`BatchBuilder::clear`].
    pub fn sealed(&self) -> &[u8] {
        &self.bytes[..self.start]
    }

    /// Forgets everything; keeps at most `keep` bytes of memory.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.bytes.resize(BATCH_HEADER_BYTES, 0);
        self.start = 0;
        self.records = 0;
    }
}

const KIND_TRUNCATE: u8 = 4;
const KIND_RESET: u8 = 5;

/// Takes the first record off `body`. `None` at its end, and on bytes that are no record (which a verified body never holds).
pub fn next_record<'a>(body: &mut &'a [u8]) -> Option<Record<'a>> {
    let bytes: &'a [u8] = body;
    if bytes.len() < RECORD_HEADER_BYTES {
        return None;
    }
    let length = u32_at(bytes, 4) as usize;
    let data = bytes.get(RECORD_HEADER_BYTES..)?.get(..length)?;
    let id = LogId { index: LogIndex(u64_at(bytes, 8)), term: Term(u64_at(bytes, 16)) };
    let record = match bytes[0] {
        1 => Record::Entry { id, kind: EntryKind::Normal, data },
        2 => Record::Entry { id, kind: EntryKind::ConfChange, data },
        3 => Record::Entry { id, kind: EntryKind::ConfChangeV2, data },
        KIND_TRUNCATE => Record::Truncate { last: id.index },
        KIND_RESET => Record::Reset { last: id },
        _ => return None,
    };
    *body = &bytes[RECORD_HEADER_BYTES + length..];
    Some(record)
}

/// `bytes` rounded up to whole sectors.
pub const fn padded(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR_BYTES) * SECTOR_BYTES
}

fn salted_crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// splitmix64's finisher: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn hard_at(bytes: &[u8], at: usize) -> HardState {
    HardState {
        term: Term(u64_at(bytes, at)),
        vote: u64_at(bytes, at + 8),
        commit: LogIndex(u64_at(bytes, at + 16)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard() -> HardState {
        HardState { term: Term(3), vote: 1, commit: LogIndex(9) }
    }

    #[test]
    fn segment_header_round_trips_and_refuses_every_flipped_bit() {
        let header = SegmentHeader {
            number: 4,
            base: 8192,
            salt: 77,
            chain: 5,
            hard: hard(),
            last: LogId { index: LogIndex(12), term: Term(2) },
            node: NodeId(uuid::Uuid::from_u128(9)),
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), Err(SegmentError::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn batches_round_trip() {
        let data = vec![7u8; 700];
        let id = LogId { index: LogIndex(10), term: Term(3) };
        let records = [
            Record::Truncate { last: LogIndex(9) },
            Record::Entry { id, kind: EntryKind::Normal, data: &data },
            Record::Reset { last: id },
            Record::Entry { id, kind: EntryKind::ConfChangeV2, data: &[] },
        ];
        let mut builder = BatchBuilder::default();
        records.iter().for_each(|record| builder.push(record));
        let first = builder.seal(5, 512, 512, 1, hard());
        let second = builder.seal(5, 512 + first.padded_bytes() as u64, 512, first.next_chain(), hard());
        let bytes = builder.sealed();
        assert_eq!(bytes.len(), first.padded_bytes() + second.padded_bytes());
        assert_eq!(BatchHeader::decode(bytes, 5, 512), Some(first));
        assert_eq!(BatchHeader::decode(bytes, 6, 512), None, "another segment's salt");
        assert_eq!(BatchHeader::decode(bytes, 5, 1024), None, "another position");
        let mut body = first.verified_body(bytes, 5).unwrap();
        for record in &records {
            assert_eq!(next_record(&mut body).as_ref(), Some(record));
        }
        assert_eq!(next_record(&mut body), None);
        let mark = BatchHeader::decode(&bytes[first.padded_bytes()..], 5, second.position).unwrap();
        assert_eq!((mark.length, mark.records, mark.padded_bytes()), (0, 0, SECTOR_BYTES));
        assert_eq!(mark.chain, first.next_chain());
    }

    #[test]
    fn records_never_panic_on_garbage() {
        for length in 0..80 {
            for byte in [0u8, 1, 4, 0xff] {
                let bytes = vec![byte; length];
                let mut body = &bytes[..];
                while next_record(&mut body).is_some() {}
            }
        }
    }
}
