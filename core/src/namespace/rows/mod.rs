//! Rows of the metadata state: keys ordered bytewise, values with a format byte. docs/FORMATS.md draws the same tables.
//!
//! ```text
//! key    table u8 | tree u32 BE (1; 0 for tables of the whole cluster) | ids BE … | name bytes
//! value  format u8 | fields LE …
//! ```
//! Ids in keys are big-endian so that bytewise order is numeric order; every other number is little-endian. A value is
//! decoded strictly: an unknown format, a missing byte or one too many is damage, and damage stops the member.

pub mod capacity;
pub mod chunk;
pub mod cluster;
pub mod codec;
pub mod disk_drain;
pub mod extent;
pub mod inode;
pub mod lease;
pub mod names;
pub mod policy;
pub mod rebalance;
#[cfg(test)]
mod rows_test;
pub mod session;
pub mod xattr;

use crate::ids::TreeId;
use crate::namespace::machine::Stop;
use bytes::Bytes;
use codec::{Reader, Writer};
use thiserror::Error;

/// Every table of the state. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// inode → attributes.
    Inode = 1,
    /// (parent, name) → inode, kind, cookie.
    Dentry = 2,
    /// (parent, cookie) → name, inode, kind.
    Listing = 3,
    /// (inode, parent, name): where an inode is named.
    Backlink = 4,
    /// (inode, name) → value.
    Xattr = 5,
    /// inode → target.
    Symlink = 6,
    /// (data, offset) → chunk, offset in it, length.
    Extent = 7,
    /// chunk → version, servers, references, owner.
    Chunk = 8,
    /// (server, chunk) → version: the replicas that the master counts on.
    ServerChunk = 9,
    /// session → secret, node, description.
    Session = 10,
    /// (session, slot) → sequence, answer.
    Slot = 11,
    /// inode: unlinked, to be reclaimed when nobody holds it open.
    Orphan = 12,
    /// inode → session, lease number.
    Lease = 13,
    /// (inode, chunk): marked for overwriting under the file's lease.
    LeasedChunk = 14,
    /// (session, chunk): allocated, not attached.
    SessionChunk = 15,
    /// (server, chunk) → version: a replica to be deleted.
    DeleteReplica = 16,
    /// chunk: to be reconciled.
    Reconcile = 17,
    /// server → node, addresses.
    Server = 18,
    /// node → server.
    ServerNode = 19,
    /// counter → number.
    Counter = 20,
    /// (data, from) → to, inode, epoch: extents cut off, to be dropped in batches.
    Garbage = 21,
    /// The cluster's identity: one row.
    Cluster = 22,
    /// (session, inode): leases of a session.
    SessionLease = 23,
    /// (copies, chunk): its set is not of the size that is wanted.
    Repair = 24,
    /// policy → name, replicas, minimum, labels required.
    Policy = 25,
    /// (server, disk) → since when it is to be emptied, replicas then.
    DiskDrain = 26,
    /// The last rebalancing that was asked for: at most one row.
    Rebalance = 27,
    /// hour → how full the cluster was.
    Capacity = 28,
    /// Chunks are being brought in line with policies: at most one row.
    PolicyWalk = 29,
}

/// Tree of the rows that belong to the cluster, not to one tree of files.
pub const CLUSTER_TREE: TreeId = TreeId(0);
/// Bytes before the ids of a key: table and tree.
pub const KEY_HEAD_BYTES: usize = 5;

/// Room for a key with a name of ordinary length, and for an inode's value.
const KEY_BYTES_USUAL: usize = 64;
const VALUE_BYTES_USUAL: usize = 128;

/// A row that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("damaged or unknown row")]
pub struct Damaged;

/// The key of a row, and by its type the value.
pub trait Key: Sized {
    /// Where it stands.
    const TABLE: Table;
    /// Which tree it belongs to.
    const TREE: TreeId;
    /// What it leads to.
    type Value: Value;

    /// Writes the ids and the name.
    fn write(&self, out: &mut Writer);

    /// Reads what [`Key::write`] wrote.
    ///
    /// # Errors
    /// [`Damaged`].
    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged>;

    /// Adds to a decoded value what only the key says.
    fn complete(&self, _value: &mut Self::Value) {}

    /// The whole key.
    fn encode(&self) -> Bytes {
        let mut out = head(Self::TABLE, Self::TREE);
        self.write(&mut out);
        out.finish()
    }

    /// Reads a whole key.
    ///
    /// # Errors
    /// [`Damaged`] when it is of another table or malformed.
    fn decode(key: &[u8]) -> Result<Self, Damaged> {
        let mut input = Reader::new(key);
        if input.u8()? != Self::TABLE as u8 || input.u32_be()? != Self::TREE.get() {
            return Err(Damaged);
        }
        let decoded = Self::read(&mut input)?;
        input.end()?;
        Ok(decoded)
    }
}

/// The value of a row.
pub trait Value: Sized {
    /// The newest format that this build writes; it reads 1 ..= FORMAT.
    const FORMAT: u8 = 1;

    /// Writes the fields after the format byte.
    fn write(&self, out: &mut Writer);

    /// Reads what [`Value::write`] wrote.
    ///
    /// # Errors
    /// [`Damaged`].
    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged>;

    /// The whole value.
    fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(VALUE_BYTES_USUAL);
        out.u8(Self::FORMAT);
        self.write(&mut out);
        out.finish()
    }

    /// Reads a whole value.
    ///
    /// # Errors
    /// [`Damaged`] when its format is unknown or it is malformed.
    fn decode(value: &[u8]) -> Result<Self, Damaged> {
        let mut input = Reader::new(value);
        if input.u8()? != Self::FORMAT {
            return Err(Damaged);
        }
        let decoded = Self::read(&mut input)?;
        input.end()?;
        Ok(decoded)
    }
}

/// A value without fields: the key says all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present;

impl Value for Present {
    fn write(&self, _out: &mut Writer) {}

    fn read(_input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self)
    }
}

/// First bytes of every key of a table.
pub fn head(table: Table, tree: TreeId) -> Writer {
    let mut out = Writer::with_capacity(KEY_BYTES_USUAL);
    out.u8(table as u8);
    out.u32_be(tree.get());
    out
}

/// The range `from <= key < to` of a table's keys whose ids begin with `prefix` (already encoded).
pub fn prefix_range<K: Key>(prefix: &[u8]) -> (Bytes, Bytes) {
    let mut from = head(K::TABLE, K::TREE);
    from.bytes(prefix);
    let from = from.finish();
    let to = successor(&from);
    (from, to)
}

/// The least key above every key that begins with `prefix`. A prefix begins with a table number, far below 255, so one
/// exists.
fn successor(prefix: &[u8]) -> Bytes {
    let mut to = prefix.to_vec();
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            break;
        }
    }
    debug_assert!(!to.is_empty(), "a table number is below 255");
    Bytes::from(to)
}

/// A damaged row as a reason to stop, naming the table and the key.
pub fn damaged(table: Table, key: &[u8]) -> Stop {
    Stop::Failed(format!(
        "a row of table {table:?} is damaged or of an unknown format, key {}",
        key.escape_ascii()
    ))
}
