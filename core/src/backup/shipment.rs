//! A stretch of the journal, as it is shipped: entries that are committed and applied, in order and without a gap.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    8 magic          "CairnBJ1"
//!      8    4 format         1
//!     12    4 entries        number of entries
//!     16   16 cluster        uuid
//!     32    8 history        upper part of the terms of the leader that shipped it
//!     40    8 first          index of the first entry
//!     48    8 last           index of the last entry
//!     56    8 before         running hash of all entries before the first
//!     64    8 after          running hash with the last
//!     72    8 seconds        leader time of the last entry, or of the last one before that has a time
//!     80    4 nanos
//!     84    4 length         bytes of entries
//!     88    4 body_crc       CRC-32 of the entries
//!     92    4 header_crc     CRC-32 of bytes 0..92
//!     96    … entries
//!
//! entry
//!      0    8 index
//!      8    8 term
//!     16    1 kind           as a record of the journal: 1 entry, 2 and 3 entry that changes the group
//!     17    3 reserved       0
//!     20    4 length         of the data
//!     24    … data
//! ```
//! The running hash is the one of the applied row: shipments, images and masters of one history agree in it at every index.

use super::fields::{FORMAT, HEAD_BYTES, Head, get_time, put_time};
use super::{BackupError, History};
use crate::ids::{ClusterId, LogIndex, Term};
use crate::journal::frame::{EntryKind, LogId};
use crate::time::Timestamp;
use bytes::{Buf, BufMut, Bytes};

/// Bytes of the header, enough to know what a shipment holds.
pub const SHIPMENT_HEADER_BYTES: usize = 96;
/// Bytes of an entry without its data.
pub const SHIPPED_ENTRY_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"CairnBJ1";
const CRC_AT: usize = SHIPMENT_HEADER_BYTES - 4;

/// What a shipment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShipmentHeader {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which of its histories.
    pub history: History,
    /// Its first entry.
    pub first: LogIndex,
    /// Its last entry.
    pub last: LogIndex,
    /// Running hash before the first.
    pub before: u64,
    /// Running hash with the last.
    pub after: u64,
    /// Leader time of the last.
    pub time: Timestamp,
    length: u32,
    body_crc: u32,
}

/// One entry of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShippedEntry {
    /// Where it stands.
    pub id: LogId,
    /// What it carries.
    pub kind: EntryKind,
    /// Its bytes.
    pub data: Bytes,
}

/// A shipment in the making.
#[derive(Debug, Default)]
pub struct ShipmentBuilder {
    body: Vec<u8>,
    bounds: Option<(LogIndex, LogIndex)>,
}

impl ShipmentBuilder {
    /// Adds the next entry.
    pub fn push(&mut self, id: LogId, kind: EntryKind, data: &[u8]) {
        debug_assert!(self.bounds.is_none_or(|(_, last)| last.get() + 1 == id.index.get()));
        let first = self.bounds.map_or(id.index, |(first, _)| first);
        self.bounds = Some((first, id.index));
        self.body.put_u64_le(id.index.get());
        self.body.put_u64_le(id.term.get());
        self.body.put_slice(&[kind as u8, 0, 0, 0]);
        self.body.put_u32_le(data.len() as u32);
        self.body.put_slice(data);
    }

    /// Bytes of entries so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is no entry in it.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_none()
    }

    /// The shipment; `None` when it has no entry.
    pub fn finish(
        self,
        (cluster, history): (ClusterId, History),
        (before, after): (u64, u64),
        time: Timestamp,
    ) -> Option<(ShipmentHeader, Bytes)> {
        let (first, last) = self.bounds?;
        let (length, body_crc) = (self.body.len() as u32, crc32fast::hash(&self.body));
        let header = ShipmentHeader { cluster, history, first, last, before, after, time, length, body_crc };
        let mut out = Vec::with_capacity(SHIPMENT_HEADER_BYTES + self.body.len());
        header.write(&mut out);
        out.put_slice(&self.body);
        Some((header, out.into()))
    }
}

impl ShipmentHeader {
    fn write(&self, out: &mut Vec<u8>) {
        let count = (self.last.get() - self.first.get() + 1) as u32;
        Head { count, cluster: self.cluster, history: self.history }.write(MAGIC, out);
        out.put_u64_le(self.first.get());
        out.put_u64_le(self.last.get());
        out.put_u64_le(self.before);
        out.put_u64_le(self.after);
        put_time(out, self.time);
        out.put_u32_le(self.length);
        out.put_u32_le(self.body_crc);
        out.put_u32_le(crc32fast::hash(out));
    }

    /// Decodes the header at the beginning of `bytes`.
    ///
    /// # Errors
    /// `Damaged` and `NewerFormat`.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let mut input = bytes.get(..SHIPMENT_HEADER_BYTES).ok_or(BackupError::Damaged)?;
        // A later format may have another length: it is told before the checksum.
        let head = Head::read(MAGIC, &mut input)?;
        debug_assert_eq!(SHIPMENT_HEADER_BYTES - input.len(), HEAD_BYTES);
        let (first, last) = (LogIndex(input.get_u64_le()), LogIndex(input.get_u64_le()));
        let (before, after) = (input.get_u64_le(), input.get_u64_le());
        let time = get_time(&mut input)?;
        let (length, body_crc) = (input.get_u32_le(), input.get_u32_le());
        let whole = input.get_u32_le() == crc32fast::hash(&bytes[..CRC_AT]);
        let span = last.get().checked_sub(first.get()).and_then(|span| span.checked_add(1));
        if !whole || first.get() == 0 || span != Some(u64::from(head.count)) {
            return Err(BackupError::Damaged);
        }
        let Head { cluster, history, .. } = head;
        Ok(Self { cluster, history, first, last, before, after, time, length, body_crc })
    }
}

/// Decodes a whole shipment; the entries share its memory.
///
/// # Errors
/// `Damaged` and `NewerFormat`.
pub fn decode(mut object: Bytes) -> Result<(ShipmentHeader, Vec<ShippedEntry>), BackupError> {
    let header = ShipmentHeader::decode(&object)?;
    object.advance(SHIPMENT_HEADER_BYTES);
    if object.len() != header.length as usize || crc32fast::hash(&object) != header.body_crc {
        return Err(BackupError::Damaged);
    }
    let count = (header.last.get() - header.first.get() + 1) as usize;
    let mut entries = Vec::with_capacity(count.min(object.len() / SHIPPED_ENTRY_BYTES));
    for index in header.first.get()..=header.last.get() {
        if object.len() < SHIPPED_ENTRY_BYTES {
            return Err(BackupError::Damaged);
        }
        let id = LogId { index: LogIndex(object.get_u64_le()), term: Term(object.get_u64_le()) };
        let kind = match object.get_u32_le() {
            1 => EntryKind::Normal,
            2 => EntryKind::ConfChange,
            3 => EntryKind::ConfChangeV2,
            _ => return Err(BackupError::Damaged),
        };
        let length = object.get_u32_le() as usize;
        if id.index.get() != index || object.len() < length {
            return Err(BackupError::Damaged);
        }
        entries.push(ShippedEntry { id, kind, data: object.split_to(length) });
    }
    if object.is_empty() { Ok((header, entries)) } else { Err(BackupError::Damaged) }
}

const _: () = assert!(FORMAT == 1, "docs/FORMATS.md describes format 1");

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn shipment() -> (ShipmentHeader, Bytes) {
        let mut builder = ShipmentBuilder::default();
        for (index, data) in [(7, &b"one"[..]), (8, b""), (9, &[3; 300])] {
            let id = LogId { index: LogIndex(index), term: Term(2) };
            let kind = if index == 8 { EntryKind::ConfChangeV2 } else { EntryKind::Normal };
            builder.push(id, kind, data);
        }
        let of = (ClusterId(Uuid::from_u128(5)), History(3));
        builder.finish(of, (11, 22), Timestamp { seconds: 9, nanos: 8 }).unwrap()
    }

    #[test]
    fn round_trips() {
        let (header, bytes) = shipment();
        let (decoded, entries) = decode(bytes.clone()).unwrap();
        assert_eq!(decoded, header);
        assert_eq!(ShipmentHeader::decode(&bytes[..SHIPMENT_HEADER_BYTES]), Ok(header));
        assert_eq!(entries.iter().map(|entry| entry.id.index.get()).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(entries[2].data, vec![3; 300]);
        assert_eq!(entries[1].kind, EntryKind::ConfChangeV2);
        let nothing = ShipmentBuilder::default();
        assert!(nothing.finish((header.cluster, header.history), (0, 0), header.time).is_none());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let (_, bytes) = shipment();
        assert!((0..bytes.len()).all(|cut| decode(bytes.slice(..cut)).is_err()));
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(decode(longer.into()), Err(BackupError::Damaged));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(damaged.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let (_, bytes) = shipment();
        let mut later = bytes.to_vec();
        later[8] = 2;
        assert_eq!(decode(later.into()), Err(BackupError::NewerFormat(2)));
    }
}
