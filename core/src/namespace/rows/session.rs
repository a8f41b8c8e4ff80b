//! SESSION and SLOT rows.
//!
//! ```text
//! SESSION  key 10 | tree 0 | session u64 BE
//!          +0 format u8 = 1   +1 flags u8 (bit 0 ending)   +2 secret [16]   +18 node [16]   +34 opened (i64, u32)
//!          +46 description: length u16 | UTF-8
//! SLOT     key 11 | tree 0 | session u64 BE | slot u32 BE
//!          +0 format u8 = 1   +1 sequence u64   +9 answer, at most 512 bytes, as session::stored_answer draws it
//! ```

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::ids::{NodeId, Sequence, SessionId, SlotId, TreeId};
use crate::time::Timestamp;
use bytes::Bytes;

const FLAG_ENDING: u8 = 1;

/// Key of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub SessionId);

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its end has begun.
    pub ending: bool,
    /// By which a successor process may re-attach.
    pub secret: [u8; 16],
    /// The client's node.
    pub node: NodeId,
    /// When it was opened.
    pub opened: Timestamp,
    /// Shown to operators.
    pub description: String,
}

/// Key of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey {
    /// The session.
    pub session: SessionId,
    /// The slot.
    pub slot: SlotId,
}

/// The last sequenced request of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// Its position.
    pub sequence: Sequence,
    /// Its encoded answer.
    pub answer: Bytes,
}

impl Key for SessionKey {
    const TABLE: Table = Table::Session;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = SessionRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(SessionId(input.u64_be()?)))
    }
}

impl Value for SessionRow {
    fn write(&self, out: &mut Writer) {
        out.u8(if self.ending { FLAG_ENDING } else { 0 });
        out.bytes(&self.secret);
        out.bytes(self.node.0.as_bytes());
        out.time(self.opened);
        out.text(&self.description);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let flags = input.u8()?;
        if flags & !FLAG_ENDING != 0 {
            return Err(Damaged);
        }
        Ok(Self {
            ending: flags & FLAG_ENDING != 0,
            secret: input.array()?,
            node: NodeId(uuid::Uuid::from_bytes(input.array()?)),
            opened: input.time()?,
            description: input.text()?,
        })
    }
}

impl Key for SlotKey {
    const TABLE: Table = Table::Slot;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = SlotRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.session.get());
        out.u32_be(self.slot.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { session: SessionId(input.u64_be()?), slot: SlotId(input.u32_be()?) })
    }
}

impl Value for SlotRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.sequence.get());
        out.bytes(&self.answer);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { sequence: Sequence(input.u64()?), answer: Bytes::copy_from_slice(input.rest()) })
    }
}
