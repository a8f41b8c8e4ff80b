//! DENTRY, LISTING and BACKLINK rows: one name is one row in each.
//!
//! ```text
//! DENTRY    key  2 | tree 1 | parent u64 BE | name
//!           +0 format u8 = 1   +1 kind u8   +2 inode u64   +10 cookie u64
//! LISTING   key  3 | tree 1 | parent u64 BE | cookie u64 BE
//!           +0 format u8 = 1   +1 kind u8   +2 inode u64   +10 name
//! BACKLINK  key  4 | tree 1 | inode u64 BE | parent u64 BE | name
//!           +0 format u8 = 1
//! ```
//! The cookie comes from the directory's counter and is never used again, so a listing resumes exactly after any entry,
//! also after that entry is gone.

use super::codec::{Reader, Writer};
use super::{Damaged, Key, Present, Table, Value};
use crate::ids::{InodeId, TreeId};
use crate::limits::NAME_BYTES_MAX;
use crate::namespace::attr::NodeKind;
use crate::namespace::name::Name;

/// Key of a name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DentryKey {
    /// The directory.
    pub parent: InodeId,
    /// The name.
    pub name: Name,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DentryRow {
    /// Kind of the inode.
    pub kind: NodeKind,
    /// The inode.
    pub inode: InodeId,
    /// Its place in the listing.
    pub cookie: u64,
}

/// Key of a place in a directory's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListingKey {
    /// The directory.
    pub parent: InodeId,
    /// The place.
    pub cookie: u64,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingRow {
    /// Kind of the inode.
    pub kind: NodeKind,
    /// The inode.
    pub inode: InodeId,
    /// The name.
    pub name: Name,
}

/// A [`ListingRow`] read where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedName<'a> {
    /// Kind of the inode.
    pub kind: NodeKind,
    /// The inode.
    pub inode: InodeId,
    /// The name, as it was checked when the row was made.
    pub name: &'a [u8],
}

impl<'a> ListedName<'a> {
    /// Reads a whole value.
    ///
    /// # Errors
    /// [`Damaged`] when its format is unknown or it is malformed.
    pub fn decode(value: &'a [u8]) -> Result<Self, Damaged> {
        let mut input = Reader::new(value);
        if input.u8()? != ListingRow::FORMAT {
            return Err(Damaged);
        }
        let listed = Self::read(&mut input)?;
        if listed.name.len() > NAME_BYTES_MAX { Err(Damaged) } else { Ok(listed) }
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Damaged> {
        let kind = NodeKind::from_number(input.u8()?).ok_or(Damaged)?;
        Ok(Self { kind, inode: InodeId(input.u64()?), name: input.rest() })
    }
}

/// Where an inode is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklinkKey {
    /// The inode.
    pub inode: InodeId,
    /// The directory.
    pub parent: InodeId,
    /// The name in it.
    pub name: Name,
}

fn read_name(input: &mut Reader<'_>) -> Result<Name, Damaged> {
    Name::new(bytes::Bytes::copy_from_slice(input.rest())).map_err(|_| Damaged)
}

impl Key for DentryKey {
    const TABLE: Table = Table::Dentry;
    const TREE: TreeId = TreeId::MAIN;
    type Value = DentryRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.parent.get());
        out.bytes(self.name.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { parent: InodeId(input.u64_be()?), name: read_name(input)? })
    }
}

impl Value for DentryRow {
    fn write(&self, out: &mut Writer) {
        out.u8(self.kind as u8);
        out.u64(self.inode.get());
        out.u64(self.cookie);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let kind = NodeKind::from_number(input.u8()?).ok_or(Damaged)?;
        Ok(Self { kind, inode: InodeId(input.u64()?), cookie: input.u64()? })
    }
}

impl Key for ListingKey {
    const TABLE: Table = Table::Listing;
    const TREE: TreeId = TreeId::MAIN;
    type Value = ListingRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.parent.get());
        out.u64_be(self.cookie);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { parent: InodeId(input.u64_be()?), cookie: input.u64_be()? })
    }
}

impl Value for ListingRow {
    fn write(&self, out: &mut Writer) {
        out.u8(self.kind as u8);
        out.u64(self.inode.get());
        out.bytes(self.name.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let ListedName { kind, inode, name } = ListedName::read(input)?;
        let name = Name::new(bytes::Bytes::copy_from_slice(name)).map_err(|_| Damaged)?;
        Ok(Self { kind, inode, name })
    }
}

impl Key for BacklinkKey {
    const TABLE: Table = Table::Backlink;
    const TREE: TreeId = TreeId::MAIN;
    type Value = Present;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.inode.get());
        out.u64_be(self.parent.get());
        out.bytes(self.name.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (inode, parent) = (InodeId(input.u64_be()?), InodeId(input.u64_be()?));
        Ok(Self { inode, parent, name: read_name(input)? })
    }
}
