//! XATTR and SYMLINK rows.
//!
//! ```text
//! XATTR    key  5 | tree 1 | inode u64 BE | name with its prefix    +0 format u8 = 1   +1 value
//! SYMLINK  key  6 | tree 1 | inode u64 BE                           +0 format u8 = 1   +1 target
//! ```

use super::codec::{Reader, Writer};
use super::{Damaged, Key, Table, Value};
use crate::ids::{InodeId, TreeId};
use bytes::Bytes;

/// Key of an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrKey {
    /// The inode.
    pub inode: InodeId,
    /// Name with its prefix.
    pub name: Bytes,
}

/// Key of a symlink's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymlinkKey(pub InodeId);

/// Raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl Key for XattrKey {
    const TABLE: Table = Table::Xattr;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Blob;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.inode.get());
        out.bytes(&self.name);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { inode: InodeId(input.u64_be()?), name: Bytes::copy_from_slice(input.rest()) })
    }
}

impl Key for SymlinkKey {
    const TABLE: Table = Table::Symlink;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Blob;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(InodeId(input.u64_be()?)))
    }
}

impl Value for Blob {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(Bytes::copy_from_slice(input.rest())))
    }
}
