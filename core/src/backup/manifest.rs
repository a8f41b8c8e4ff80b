//! What an image consists of, and which state it is. Written last: an image without it does not count.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    8 magic          "CairnBI1"
//!      8    4 format         1
//!     12    4 files          number of files
//!     16   16 cluster        uuid
//!     32    8 history        upper part of the terms of the leader that made it
//!     40    8 index          last entry that the state has applied
//!     48    8 term           its term
//!     56    8 hash           running hash of all entries applied
//!     64    8 seconds        leader time of the last entry
//!     72    4 nanos
//!     76    4 members        bytes of the members row
//!     80    … members row, as in the state
//! then for each file:
//!           8 bytes
//!           4 crc            CRC-32 of all its bytes
//!           2 length         of the name
//!             name           UTF-8
//! at the end:
//!           4 crc            CRC-32 of everything before
//! ```

use super::fields::{HEAD_BYTES, Head, get_time, put_time};
use super::{BackupError, History};
use crate::ids::{ClusterId, LogIndex, Term};
use crate::journal::applied::Applied;
use crate::journal::frame::LogId;
use crate::time::Timestamp;
use bytes::{Buf, BufMut, Bytes};
use std::collections::BTreeSet;

const MAGIC: [u8; 8] = *b"CairnBI1";
const FIXED_BYTES: usize = 80;
const FILE_BYTES: usize = 14;

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Its name, without any directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of all of it.
    pub crc: u32,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which of its histories.
    pub history: History,
    /// Last entry that the state has applied.
    pub last: LogId,
    /// Running hash of all entries applied.
    pub hash: u64,
    /// Leader time of the last.
    pub time: Timestamp,
    /// The members row as the leader knew it, for whoever looks.
    pub members: Bytes,
    /// The files of the state.
    pub files: Vec<ImageFile>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Whether a state that has applied so far is this one.
    pub fn is_of(&self, applied: &Applied) -> bool {
        applied.last == self.last && applied.hash == self.hash
    }

    /// The object.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let count = self.files.len() as u32;
        Head { count, cluster: self.cluster, history: self.history }.write(MAGIC, &mut out);
        out.put_u64_le(self.last.index.get());
        out.put_u64_le(self.last.term.get());
        out.put_u64_le(self.hash);
        put_time(&mut out, self.time);
        out.put_u32_le(self.members.len() as u32);
        out.put_slice(&self.members);
        for file in &self.files {
            out.put_u64_le(file.bytes);
            out.put_u32_le(file.crc);
            out.put_u16_le(file.name.len() as u16);
            out.put_slice(file.name.as_bytes());
        }
        out.put_u32_le(crc32fast::hash(&out));
        out.into()
    }

    /// Decodes the object.
    ///
    /// # Errors
    /// `Damaged` and `NewerFormat`.
    pub fn decode(object: &[u8]) -> Result<Self, BackupError> {
        let mut input = object;
        let head = Head::read(MAGIC, &mut input)?;
        let (_, mut crc) = object.split_at_checked(object.len() - 4).ok_or(BackupError::Damaged)?;
        if object.len() < FIXED_BYTES + 4 || crc.get_u32_le() != crc32fast::hash(&object[..object.len() - 4])
        {
            return Err(BackupError::Damaged);
        }
        let mut input = &object[HEAD_BYTES..object.len() - 4];
        let last = LogId { index: LogIndex(input.get_u64_le()), term: Term(input.get_u64_le()) };
        let hash = input.get_u64_le();
        let time = get_time(&mut input)?;
        let members = take(&mut input, 4)?.get_u32_le() as usize;
        let members = Bytes::copy_from_slice(take(&mut input, members)?);
        let mut files = Vec::with_capacity((head.count as usize).min(input.len() / FILE_BYTES));
        for _ in 0..head.count {
            let mut fixed = take(&mut input, FILE_BYTES)?;
            let (bytes, crc) = (fixed.get_u64_le(), fixed.get_u32_le());
            let name = take(&mut input, usize::from(fixed.get_u16_le()))?;
            let name = std::str::from_utf8(name).map_err(|_| BackupError::Damaged)?;
            if !is_plain(name) {
                return Err(BackupError::Damaged);
            }
            files.push(ImageFile { name: name.to_owned(), bytes, crc });
        }
        let distinct: BTreeSet<&str> = files.iter().map(|file| &*file.name).collect();
        if !input.is_empty() || distinct.len() < files.len() {
            return Err(BackupError::Damaged);
        }
        Ok(Self { cluster: head.cluster, history: head.history, last, hash, time, members, files })
    }
}

/// A name that stays in its directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

fn take<'a>(input: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], BackupError> {
    let (taken, rest) = input.split_at_checked(bytes).ok_or(BackupError::Damaged)?;
    *input = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn manifest(name: &str) -> Manifest {
        let file = |name: &str, bytes| ImageFile { name: name.to_owned(), bytes, crc: 77 };
        Manifest {
            cluster: ClusterId(Uuid::from_u128(5)),
            history: History(1),
            last: LogId { index: LogIndex(12), term: Term(1 << 20) },
            hash: 99,
            time: Timestamp { seconds: 1, nanos: 2 },
            members: Bytes::from_static(b"row"),
            files: vec![file("CURRENT", 16), file(name, 1 << 40)],
        }
    }

    #[test]
    fn round_trips_and_refuses_cuts_and_flips() {
        let manifest = manifest("000007.sst");
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        assert!((0..bytes.len()).all(|cut| Manifest::decode(&bytes[..cut]).is_err()));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_name_stands_once_and_sizes_do_not_overflow() {
        assert_eq!(Manifest::decode(&manifest("CURRENT").encode()), Err(BackupError::Damaged));
        let mut huge = manifest("000007.sst");
        huge.files.iter_mut().for_each(|file| file.bytes = u64::MAX);
        assert_eq!(Manifest::decode(&huge.encode()).map(|manifest| manifest.bytes()), Ok(u64::MAX));
    }

    #[test]
    fn a_count_that_nobody_wrote_takes_no_memory() {
        let mut bytes = manifest("000007.sst").encode().to_vec();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(BackupError::Damaged));
    }

    #[test]
    fn no_file_leaves_its_directory() {
        for name in ["../x", "a/b", "..", ".", ""] {
            assert_eq!(Manifest::decode(&manifest(name).encode()), Err(BackupError::Damaged), "{name}");
        }
    }
}
