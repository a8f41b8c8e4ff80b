//! Names in directories: a DENTRY, a LISTING and a BACKLINK row each, added and removed together, and counted in the
//! directory's size.

use super::act::{Act, require};
use super::attr::NodeKind;
use super::machine::Stop;
use super::name::Name;
use super::permission::{EXECUTE, may, may_add};
use super::rows::Present;
use super::rows::inode::{InodeRow, OrphanKey};
use super::rows::names::{BacklinkKey, DentryKey, DentryRow, ListingKey, ListingRow};
use crate::error::FsError;
use crate::ids::InodeId;

impl Act<'_> {
    /// The directory, which the caller may search, and what `name` leads to in it.
    pub(crate) fn search(&self, parent: InodeId, name: &Name) -> Result<(InodeRow, Option<DentryRow>), Stop> {
        let directory = self.directory(parent)?;
        may(self.caller, &directory, EXECUTE)?;
        let entry = self.draft.get(&DentryKey { parent, name: name.clone() })?;
        Ok((directory, entry))
    }

    /// As [`Act::search`] for a name that must not exist, in a directory that takes it.
    pub(crate) fn search_vacant(&self, parent: InodeId, name: &Name) -> Result<InodeRow, Stop> {
        let (directory, entry) = self.search(parent, name)?;
        require(entry.is_none(), FsError::Exists)?;
        may_add(self.caller, &directory)?;
        Ok(directory)
    }

    /// As [`Act::search`] for a name that must exist.
    pub(crate) fn search_present(&self, parent: InodeId, name: &Name) -> Result<(InodeRow, DentryRow), Stop> {
        let (directory, entry) = self.search(parent, name)?;
        Ok((directory, entry.ok_or(FsError::NotFound)?))
    }

    /// Adds a name; the directory's row is left to the caller to put.
    pub(crate) fn add_name(&mut self, directory: &mut InodeRow, name: &Name, inode: InodeId, kind: NodeKind) {
        assert!(directory.is_directory() && directory.links > 0, "names are added to living directories");
        let cookie = directory.next_cookie;
        directory.next_cookie += 1;
        directory.size += 1;
        directory.touch_data(self.context.now);
        self.put_name(directory.inode, name, DentryRow { kind, inode, cookie });
    }

    /// Removes a name; the directory's row is left to the caller to put.
    pub(crate) fn remove_name(&mut self, directory: &mut InodeRow, name: &Name, entry: &DentryRow) {
        assert!(directory.size > 0, "a directory counts its names");
        let parent = directory.inode;
        directory.size -= 1;
        directory.touch_data(self.context.now);
        self.draft.delete(&DentryKey { parent, name: name.clone() });
        self.draft.delete(&ListingKey { parent, cookie: entry.cookie });
        self.draft.delete(&BacklinkKey { inode: entry.inode, parent, name: name.clone() });
    }

    /// Makes an existing name lead elsewhere, at the same place of the listing.
    pub(crate) fn retarget_name(
        &mut self,
        directory: &mut InodeRow,
        name: &Name,
        entry: &DentryRow,
        inode: InodeId,
        kind: NodeKind,
    ) {
        let parent = directory.inode;
        directory.touch_data(self.context.now);
        self.draft.delete(&BacklinkKey { inode: entry.inode, parent, name: name.clone() });
        self.put_name(parent, name, DentryRow { kind, inode, cookie: entry.cookie });
    }

    fn put_name(&mut self, parent: InodeId, name: &Name, entry: DentryRow) {
        let DentryRow { kind, inode, cookie } = entry;
        self.draft.put(&DentryKey { parent, name: name.clone() }, &entry);
        self.draft.put(&ListingKey { parent, cookie }, &ListingRow { kind, inode, name: name.clone() });
        self.draft.put(&BacklinkKey { inode, parent, name: name.clone() }, &Present);
    }

    /// Takes one name's link off an inode and puts its row; without names it is an orphan. A directory loses its own
    /// `.` as well.
    pub(crate) fn drop_link(&mut self, child: &mut InodeRow) {
        assert!(child.links > 0, "a named inode has links");
        child.links = if child.is_directory() { 0 } else { child.links - 1 };
        child.touch(self.context.now);
        if child.links == 0 {
            self.draft.put(&OrphanKey(child.inode), &Present);
        }
        self.put_inode(child);
    }
}
