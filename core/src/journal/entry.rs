//! The data of a journal entry: what was decided, by whom and when, and the rows to write.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    1 format         1
//!      1    1 kind           RecordKind
//!      2    1 flags          bit 0: a client's operation (session, slot and sequence are set)
//!      3    1 reserved       0
//!      4    4 nanos          leader time: never goes back from one entry to the next
//!      8    8 seconds
//!     16    8 session
//!     24    8 sequence
//!     32    4 slot
//!     36    4 rows           number of rows that follow
//!     40    … rows           u16 key length, u32 value length (2^32 − 1: delete), key, value
//! ```
//!
//! The answer that a retry gets is the value of the entry's own SLOT row. A format that this binary does not know stops the
//! member: it must not skip what the others have written.

use crate::ids::{Sequence, SessionId, SlotId};
use crate::time::Timestamp;
use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

/// Version of this layout.
pub const ENTRY_FORMAT: u8 = 1;
const HEAD_BYTES: usize = 40;
const FLAG_SEQUENCED: u8 = 1;
const DELETE: u32 = u32::MAX;

/// Who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The master itself.
    Internal,
    /// A client.
    Client {
        /// Its session.
        session: SessionId,
        /// The slot.
        slot: SlotId,
        /// Position in the slot.
        sequence: Sequence,
    },
}

/// One decided act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryData {
    /// `RecordKind`, as a number: a reader need not know every kind to apply its rows.
    pub kind: u8,
    /// When the leader decided it.
    pub time: Timestamp,
    /// Who asked.
    pub origin: Origin,
    /// Key → value, or `None` to delete.
    pub rows: Vec<(Bytes, Option<Bytes>)>,
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Written by a later release.
    #[error("journal entry of format {0}, newer than {ENTRY_FORMAT}: start a newer cairn binary")]
    NewerFormat(u8),
    /// Cut, or lengths that make no sense.
    #[error("journal entry is damaged")]
    Damaged,
}

impl EntryData {
    /// Bytes of [`EntryData::encode`].
    pub fn encoded_len(&self) -> usize {
        let row =
            |(key, value): &(Bytes, Option<Bytes>)| 6 + key.len() + value.as_ref().map_or(0, Bytes::len);
        HEAD_BYTES + self.rows.iter().map(row).sum::<usize>()
    }

    /// The entry's data.
    pub fn encode(&self) -> Bytes {
        let (flags, session, slot, sequence) = match self.origin {
            Origin::Internal => (0, 0, 0, 0),
            Origin::Client { session, slot, sequence } => {
                (FLAG_SEQUENCED, session.get(), slot.get(), sequence.get())
            }
        };
        let mut out = Vec::with_capacity(self.encoded_len());
        out.put_slice(&[ENTRY_FORMAT, self.kind, flags, 0]);
        out.put_u32_le(self.time.nanos);
        out.put_i64_le(self.time.seconds);
        out.put_u64_le(session);
        out.put_u64_le(sequence);
        out.put_u32_le(slot);
        out.put_u32_le(self.rows.len() as u32);
        for (key, value) in &self.rows {
            debug_assert!(key.len() <= usize::from(u16::MAX));
            out.put_u16_le(key.len() as u16);
            out.put_u32_le(value.as_ref().map_or(DELETE, |value| value.len() as u32));
            out.put_slice(key);
            out.put_slice(value.as_deref().unwrap_or_default());
        }
        out.into()
    }

    /// When the leader decided it, without decoding the rest; `None` when that is no entry of this format.
    pub fn time_of(data: &[u8]) -> Option<Timestamp> {
        let (mut nanos, mut seconds) = (data.get(4..8)?, data.get(8..16)?);
        let time = Timestamp { nanos: nanos.get_u32_le(), seconds: seconds.get_i64_le() };
        (data[0] == ENTRY_FORMAT && time.nanos < 1_000_000_000).then_some(time)
    }

    /// Decodes an entry's data; rows share its memory.
    ///
    /// # Errors
    /// `NewerFormat` and `Damaged`.
    pub fn decode(mut data: Bytes) -> Result<Self, EntryError> {
        if data.first().is_some_and(|&format| format != ENTRY_FORMAT) {
            return Err(EntryError::NewerFormat(data[0]));
        }
        if data.len() < HEAD_BYTES {
            return Err(EntryError::Damaged);
        }
        data.advance(1);
        let kind = data.get_u8();
        let flags = data.get_u8();
        data.advance(1);
        let nanos = data.get_u32_le();
        let time = Timestamp { seconds: data.get_i64_le(), nanos };
        let session = SessionId(data.get_u64_le());
        let sequence = Sequence(data.get_u64_le());
        let slot = SlotId(data.get_u32_le());
        let count = data.get_u32_le() as usize;
        let origin = match flags {
            0 => Origin::Internal,
            FLAG_SEQUENCED => Origin::Client { session, slot, sequence },
            _ => return Err(EntryError::Damaged),
        };
        // A row has at least six bytes: a hostile count allocates nothing beyond what is there.
        let mut rows = Vec::with_capacity(count.min(data.len() / 6));
        for _ in 0..count {
            rows.push(decode_row(&mut data)?);
        }
        if data.has_remaining() || nanos >= 1_000_000_000 {
            return Err(EntryError::Damaged);
        }
        Ok(Self { kind, time, origin, rows })
    }
}

fn decode_row(data: &mut Bytes) -> Result<(Bytes, Option<Bytes>), EntryError> {
    if data.len() < 6 {
        return Err(EntryError::Damaged);
    }
    let key_len = usize::from(data.get_u16_le());
    let value_len = data.get_u32_le();
    if data.len() < key_len {
        return Err(EntryError::Damaged);
    }
    let key = data.split_to(key_len);
    if value_len == DELETE {
        return Ok((key, None));
    }
    if data.len() < value_len as usize {
        return Err(EntryError::Damaged);
    }
    Ok((key, Some(data.split_to(value_len as usize))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EntryData {
        EntryData {
            kind: 5,
            time: Timestamp { seconds: -3, nanos: 999_999_999 },
            origin: Origin::Client { session: SessionId(7), slot: SlotId(3), sequence: Sequence(1 << 40) },
            rows: vec![
                (Bytes::from_static(b"key"), Some(Bytes::from_static(b"value"))),
                (Bytes::from_static(b"gone"), None),
                (Bytes::from_static(b"empty"), Some(Bytes::new())),
            ],
        }
    }

    #[test]
    fn round_trips() {
        let internal = EntryData { origin: Origin::Internal, rows: Vec::new(), ..sample() };
        for entry in [sample(), internal] {
            let data = entry.encode();
            assert_eq!(data.len(), entry.encoded_len());
            assert_eq!(EntryData::time_of(&data), Some(entry.time));
            assert!((0..16).all(|cut| EntryData::time_of(&data[..cut]).is_none()));
            assert_eq!(EntryData::decode(data), Ok(entry));
        }
    }

    #[test]
    fn every_cut_and_every_longer_form_is_refused() {
        let data = sample().encode();
        for cut in 0..data.len() {
            assert!(EntryData::decode(data.slice(..cut)).is_err(), "cut at {cut}");
        }
        let longer = [&data[..], &[0]].concat();
        assert_eq!(EntryData::decode(longer.into()), Err(EntryError::Damaged));
    }

    #[test]
    fn hostile_bytes_never_panic_nor_allocate() {
        for byte in 0..=255u8 {
            let mut data = sample().encode().to_vec();
            for at in 0..data.len() {
                let was = std::mem::replace(&mut data[at], byte);
                let _ = EntryData::decode(Bytes::copy_from_slice(&data));
                data[at] = was;
            }
        }
        assert_eq!(EntryData::decode(Bytes::from_static(&[9; 64])), Err(EntryError::NewerFormat(9)));
    }
}
