//! The row that says how far the journal is applied: written in the same batch as the rows of the entries it counts.
//!
//! ```text
//! key: five zero bytes (table 0, tree 0)
//! offset size field          all integers little-endian
//!      0    1 format         1
//!      1    3 reserved       0
//!      4    4 feature        which rows a leader may write
//!      8    8 index          last entry applied
//!     16    8 term           its term
//!     24    8 hash           running hash of all entries applied; members with equal index have equal hashes
//!     32    8 seconds        leader time of the last entry
//!     40    4 nanos
//!     44    2 voters         members that vote
//!     46    2 learners       members that only follow
//!     48    … member ids, u64 each: voters, then learners
//! ```

use crate::ids::{LogIndex, Term};
use crate::journal::frame::LogId;
use crate::time::Timestamp;
use bytes::{Buf, BufMut, Bytes};

/// Key of the row.
pub const APPLIED_KEY: [u8; 5] = [0; 5];
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 48;

/// How far the state is, and who its members are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Last entry applied.
    pub last: LogId,
    /// Running hash of all entries applied.
    pub hash: u64,
    /// Leader time of the last entry.
    pub time: Timestamp,
    /// Which rows a leader may write.
    pub feature_level: u32,
    /// Members that vote.
    pub voters: Vec<u64>,
    /// Members that only follow.
    pub learners: Vec<u64>,
}

impl Applied {
    /// The value of the row.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + 8 * (self.voters.len() + self.learners.len()));
        out.put_slice(&[FORMAT, 0, 0, 0]);
        out.put_u32_le(self.feature_level);
        out.put_u64_le(self.last.index.get());
        out.put_u64_le(self.last.term.get());
        out.put_u64_le(self.hash);
        out.put_i64_le(self.time.seconds);
        out.put_u32_le(self.time.nanos);
        out.put_u16_le(self.voters.len() as u16);
        out.put_u16_le(self.learners.len() as u16);
        self.voters.iter().chain(&self.learners).for_each(|&member| out.put_u64_le(member));
        out.into()
    }

    /// Decodes the value of the row; `None` when it is damaged or of a later format.
    pub fn decode(mut value: &[u8]) -> Option<Self> {
        if value.len() < HEAD_BYTES || value[0] != FORMAT {
            return None;
        }
        value.advance(4);
        let feature_level = value.get_u32_le();
        let last = LogId { index: LogIndex(value.get_u64_le()), term: Term(value.get_u64_le()) };
        let hash = value.get_u64_le();
        let time = Timestamp { seconds: value.get_i64_le(), nanos: value.get_u32_le() };
        let (voters, learners) = (usize::from(value.get_u16_le()), usize::from(value.get_u16_le()));
        if value.len() != 8 * (voters + learners) || time.nanos >= 1_000_000_000 {
            return None;
        }
        let voters = (0..voters).map(|_| value.get_u64_le()).collect();
        let learners = (0..learners).map(|_| value.get_u64_le()).collect();
        Some(Self { last, hash, time, feature_level, voters, learners })
    }

    /// Counts an entry: its place and data enter the hash.
    pub fn advance(&mut self, id: LogId, data: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.hash as u32);
        hasher.update(&id.index.get().to_le_bytes());
        hasher.update(&id.term.get().to_le_bytes());
        hasher.update(data);
        let crc = u64::from(hasher.finalize());
        // The low half is a CRC of everything so far, the high half tells histories apart whose CRCs meet.
        let high = (self.hash >> 32).wrapping_mul(0x9E37_79B1).wrapping_add(crc) & 0xffff_ffff;
        self.hash = high << 32 | crc;
        self.last = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_cuts() {
        let applied = Applied {
            last: LogId { index: LogIndex(9), term: Term(2) },
            hash: 77,
            time: Timestamp { seconds: 5, nanos: 6 },
            feature_level: 1,
            voters: vec![1, 2, 3],
            learners: vec![4],
        };
        let value = applied.encode();
        assert_eq!(Applied::decode(&value), Some(applied));
        assert!((0..value.len()).all(|cut| Applied::decode(&value[..cut]).is_none()));
    }

    #[test]
    fn the_hash_depends_on_every_entry_and_its_place() {
        let id = |index| LogId { index: LogIndex(index), term: Term(1) };
        let run = |entries: &[(u64, &[u8])]| {
            let mut applied = Applied::default();
            entries.iter().for_each(|&(index, data)| applied.advance(id(index), data));
            applied.hash
        };
        let base = run(&[(1, b"a"), (2, b"b")]);
        assert_eq!(base, run(&[(1, b"a"), (2, b"b")]));
        assert_ne!(base, run(&[(1, b"b"), (2, b"a")]));
        assert_ne!(base, run(&[(2, b"a"), (3, b"b")]));
        assert_ne!(base, run(&[(1, b"a")]));
    }
}
