//! The record that says that a fetched copy of the state is complete and is to take the place of what a member has.
//!
//! Everything in the directory beside it was synced before it was written: from then on, and not before, the copy is installed, by
//! however many starts that takes.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    8 magic          "CairnIN1"
//!      8    8 index          last entry that the copy has applied
//!     16    8 term           its term
//!     24    1 lost           1: the member's own journal is lost, and with it its vote; 0: term and vote of its journal stay
//!     25    7 reserved       0
//!     32    8 hard_term      lost: the term that the member begins in
//!     40    8 hard_vote      lost: who has its vote in that term
//!     48   12 reserved       0
//!     60    4 crc            CRC-32 of bytes 0..60
//! ```

use super::frame::LogId;
use crate::ids::{LogIndex, Term};
use bytes::{Buf, BufMut};

/// Bytes of the record.
pub const INSTALL_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"CairnIN1";

/// What is to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// Last entry that the copy has applied.
    pub last: LogId,
    /// Term and vote to begin with, when the member's own are lost.
    pub lost_vote: Option<(Term, u64)>,
}

impl Install {
    /// The bytes of the record.
    pub fn encode(&self) -> [u8; INSTALL_BYTES] {
        let mut out = Vec::with_capacity(INSTALL_BYTES);
        out.put_slice(MAGIC);
        out.put_u64_le(self.last.index.get());
        out.put_u64_le(self.last.term.get());
        out.put_u8(u8::from(self.lost_vote.is_some()));
        out.put_bytes(0, 7);
        let (term, vote) = self.lost_vote.unwrap_or_default();
        out.put_u64_le(term.get());
        out.put_u64_le(vote);
        out.put_bytes(0, 12);
        out.put_u32_le(crc32fast::hash(&out));
        let mut record = [0; INSTALL_BYTES];
        record.copy_from_slice(&out);
        record
    }

    /// Decodes a record; `None` when it is damaged or of another format.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (mut fields, mut crc) = record.split_at_checked(INSTALL_BYTES - 4)?;
        if crc.len() != 4 || crc.get_u32_le() != crc32fast::hash(fields) || !fields.starts_with(MAGIC) {
            return None;
        }
        fields.advance(MAGIC.len());
        let last = LogId { index: LogIndex(fields.get_u64_le()), term: Term(fields.get_u64_le()) };
        let is_lost = fields.get_u8() == 1;
        fields.advance(7);
        let (term, vote) = (Term(fields.get_u64_le()), fields.get_u64_le());
        Some(Self { last, lost_vote: is_lost.then_some((term, vote)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_damage() {
        for lost_vote in [None, Some((Term(7), 3))] {
            let install = Install { last: LogId { index: LogIndex(9), term: Term(2) }, lost_vote };
            let record = install.encode();
            assert_eq!(Install::decode(&record), Some(install));
            assert!((0..record.len()).all(|cut| Install::decode(&record[..cut]).is_none()));
            for at in 0..record.len() {
                let mut damaged = record;
                damaged[at] ^= 0x10;
                assert_eq!(Install::decode(&damaged), None);
            }
        }
    }
}
