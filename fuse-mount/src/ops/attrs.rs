//! Attributes of inodes and of the whole file system.

use super::privileges::is_privileged;
use super::{Ops, Shown};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::FileSystemStats;
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::Credentials;

impl Ops {
    /// `handle`: any open file of the inode, so that an unlinked one still answers.
    pub(crate) async fn getattr(
        &self,
        who: Credentials,
        inode: InodeId,
        handle: Option<u64>,
    ) -> Result<Shown, FsError> {
        let file = handle.map(|number| self.files.get(number)).transpose()?;
        let attr = self.client.getattr(&who, inode, file.as_ref().map(|handle| &handle.file)).await?;
        Ok(self.shown(attr))
    }

    /// `handle`: the file of ftruncate(2), whose mode bits no longer matter.
    pub(crate) async fn setattr(
        &self,
        who: Credentials,
        inode: InodeId,
        changes: AttrChanges,
        handle: Option<u64>,
    ) -> Result<Shown, FsError> {
        let file = handle.map(|number| self.files.get(number)).transpose()?;
        let brings_privilege = changes.mode.is_some_and(is_privileged);
        let attr = self.client.setattr(&who, inode, changes, file.as_ref().map(|handle| &handle.file)).await;
        if brings_privilege {
            self.privileges.added();
        }
        attr.map(|attr| self.shown(attr))
    }

    pub(crate) async fn access(&self, who: Credentials, inode: InodeId, mask: u32) -> Result<(), FsError> {
        self.client.access(&who, inode, mask).await
    }

    pub(crate) async fn statfs(&self, who: Credentials) -> Result<FileSystemStats, FsError> {
        self.client.statfs(&who).await
    }
}
