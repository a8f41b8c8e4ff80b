//! A page of a directory's names as it crosses the wire: packed by the leader straight from its rows, read by whoever wants
//! the names. A large directory is listed by thousands, so each entry costs a copy here and nothing else.
//!
//! ```text
//! entry   cookie u64 LE | inode u64 LE | kind u8 | length of the name u8 | name
//! ```

use super::answer::DirectoryEntry;
use super::attr::NodeKind;
use super::name::Name;
use super::rows::Damaged;
use super::rows::codec::{Reader, Writer};
use super::rows::names::ListedName;
use crate::ids::InodeId;
use crate::limits::{DIRECTORY_PAGE_BYTES_MAX, DIRECTORY_PAGE_ENTRIES_MAX};
use bytes::Bytes;

/// Bytes of an entry beside its name.
const FIXED_BYTES: usize = 18;
/// Names of usual length, for the first allocation.
const NAME_BYTES_USUAL: usize = 16;

/// Names of a directory, in the order of their cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePage {
    packed: Bytes,
    /// Nothing follows.
    pub end: bool,
}

impl NamePage {
    /// What came over the wire; [`NamePage::entries`] says whether it makes sense.
    pub fn from_wire(packed: Bytes, end: bool) -> Self {
        Self { packed, end }
    }

    /// What goes over the wire.
    pub fn into_packed(self) -> Bytes {
        self.packed
    }

    /// The entries; their names share the memory of the page.
    ///
    /// # Errors
    /// [`Damaged`] when it was not made by a [`NamePacker`]: a `/` or `..` from a broken leader must not reach a kernel.
    pub fn entries(&self) -> Result<Vec<DirectoryEntry>, Damaged> {
        let mut input = Reader::new(&self.packed);
        let mut entries = Vec::new();
        while !input.is_empty() {
            if entries.len() == DIRECTORY_PAGE_ENTRIES_MAX {
                return Err(Damaged);
            }
            let (cookie, inode) = (input.u64()?, InodeId(input.u64()?));
            let kind = NodeKind::from_number(input.u8()?).ok_or(Damaged)?;
            let length = usize::from(input.u8()?);
            let name = self.packed.slice_ref(input.take(length)?);
            let name = Name::new(name).map_err(|_| Damaged)?.into_bytes();
            entries.push(DirectoryEntry { name, inode, kind, cookie, attr: None, map: None });
        }
        Ok(entries)
    }
}

/// A page being filled.
pub(super) struct NamePacker(Writer);

impl NamePacker {
    /// Room for so many names of usual length.
    pub(super) fn with_capacity(names: usize) -> Self {
        Self(Writer::with_capacity(names * (FIXED_BYTES + NAME_BYTES_USUAL)))
    }

    /// Adds a name; false when the page is full.
    pub(super) fn add(&mut self, cookie: u64, listed: &ListedName<'_>) -> bool {
        if self.0.len() + FIXED_BYTES + listed.name.len() > DIRECTORY_PAGE_BYTES_MAX {
            return false;
        }
        self.0.u64(cookie);
        self.0.u64(listed.inode.get());
        self.0.u8(listed.kind as u8);
        // A name has 255 bytes at most.
        self.0.u8(listed.name.len() as u8);
        self.0.bytes(listed.name);
        true
    }

    pub(super) fn finish(self, end: bool) -> NamePage {
        NamePage { packed: self.0.finish(), end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(names: &[(u64, &[u8])]) -> NamePage {
        let mut packer = NamePacker::with_capacity(names.len());
        for (number, name) in names {
            let listed = ListedName { kind: NodeKind::Fifo, inode: InodeId(number * 7), name };
            assert!(packer.add(*number, &listed));
        }
        packer.finish(true)
    }

    #[test]
    fn names_come_out_as_they_went_in() {
        let long = [0xff; 255];
        let page = packed(&[(3, b"a"), (9, &long), (u64::MAX / 8, b"\n ")]);
        let entries = page.entries().unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!((entries[1].name.as_ref(), entries[1].cookie), (&long[..], 9));
        assert_eq!((entries[0].inode, entries[0].kind), (InodeId(21), NodeKind::Fifo));
        assert!(page.end);
    }

    #[test]
    fn a_page_is_bounded() {
        let mut packer = NamePacker::with_capacity(1);
        let name = [b'x'; 255];
        let listed = ListedName { kind: NodeKind::Regular, inode: InodeId(5), name: &name };
        let fitted = (0..1_000_000).take_while(|&cookie| packer.add(cookie, &listed)).count();
        assert_eq!(fitted, DIRECTORY_PAGE_BYTES_MAX / (FIXED_BYTES + 255));
        assert!(packer.finish(false).into_packed().len() <= DIRECTORY_PAGE_BYTES_MAX);
    }

    #[test]
    fn bad_names_and_torn_pages_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(packed(&[(1, name)]).entries(), Err(Damaged), "{name:?}");
        }
        let whole = packed(&[(1, b"one"), (2, b"two")]).into_packed();
        for cut in (1..whole.len()).filter(|&cut| cut != FIXED_BYTES + 3) {
            assert_eq!(NamePage::from_wire(whole.slice(..cut), true).entries(), Err(Damaged), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entries) = NamePage::from_wire(bytes.into(), false).entries() {
                for entry in entries {
                    prop_assert!(Name::new(entry.name).is_ok());
                }
            }
        }
    }
}
