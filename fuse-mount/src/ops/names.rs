//! The namespace: names that appear, move and vanish.

use super::{Entry, Ops};
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::NodeKind;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, RenameMode};
use std::time::Duration;

/// `renameat2(2)`.
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

/// One component as the kernel sends it: an exporter (NFS) also looks up `.` and `..`.
pub(crate) enum Component {
    /// The directory itself.
    Dot,
    /// Its parent.
    DotDot,
    /// An entry.
    Entry(Name),
}

impl Component {
    /// Reads one.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub(crate) fn new(raw: &[u8]) -> Result<Self, FsError> {
        Ok(match raw {
            b"." => Self::Dot,
            b".." => Self::DotDot,
            _ => Self::Entry(Name::new(Bytes::copy_from_slice(raw))?),
        })
    }
}

impl Ops {
    pub(crate) async fn lookup(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Component, FsError>,
    ) -> Result<Entry, FsError> {
        let unnamed = |attr| Entry { shown: Some(self.shown(attr)), keep: Duration::ZERO };
        match name? {
            Component::Dot => self.client.getattr(&who, parent, None).await.map(unnamed),
            Component::DotDot => self.client.lookup_parent(&who, parent).await.map(unnamed),
            Component::Entry(name) => match self.client.lookup(&who, parent, &name).await {
                Ok(attr) => Ok(self.entry(parent, &name, attr)),
                Err(FsError::NotFound) => self.no_entry(parent, &name),
                Err(error) => Err(error),
            },
        }
    }

    pub(crate) async fn mkdir(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
        mode: u32,
    ) -> Result<Entry, FsError> {
        let name = name?;
        let attr = self.client.mkdir(&who, parent, &name, mode & 0o7777).await?;
        Ok(self.entry(parent, &name, attr))
    }

    pub(crate) async fn mknod(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
        kind: Result<NodeKind, FsError>,
        (mode, rdev): (u32, u32),
    ) -> Result<Entry, FsError> {
        let name = name?;
        let attr = self.client.mknod(&who, parent, &name, kind?, mode & 0o7777, rdev.into()).await?;
        Ok(self.entry(parent, &name, attr))
    }

    pub(crate) async fn symlink(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
        target: Bytes,
    ) -> Result<Entry, FsError> {
        let name = name?;
        let attr = self.client.symlink(&who, parent, &name, target).await?;
        Ok(self.entry(parent, &name, attr))
    }

    pub(crate) async fn link(
        &self,
        who: Credentials,
        inode: InodeId,
        new_parent: InodeId,
        new_name: Result<Name, FsError>,
    ) -> Result<Entry, FsError> {
        let new_name = new_name?;
        let attr = self.client.link(&who, inode, new_parent, &new_name).await?;
        Ok(self.entry(new_parent, &new_name, attr))
    }

    pub(crate) async fn unlink(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
    ) -> Result<(), FsError> {
        self.client.unlink(&who, parent, &name?).await
    }

    pub(crate) async fn rmdir(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
    ) -> Result<(), FsError> {
        self.client.rmdir(&who, parent, &name?).await
    }

    pub(crate) async fn rename(
        &self,
        who: Credentials,
        from: (InodeId, Result<Name, FsError>),
        to: (InodeId, Result<Name, FsError>),
        flags: u32,
    ) -> Result<(), FsError> {
        let mode = rename_mode(flags)?;
        self.client.rename(&who, from.0, &from.1?, to.0, &to.1?, mode).await
    }

    pub(crate) async fn readlink(&self, who: Credentials, inode: InodeId) -> Result<Bytes, FsError> {
        self.client.readlink(&who, inode).await
    }
}

fn rename_mode(flags: u32) -> Result<RenameMode, FsError> {
    match flags {
        0 => Ok(RenameMode::Replace),
        RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        // RENAME_WHITEOUT and combinations: renameat2(2) says EINVAL where the file system has them not.
        _ => Err(FsError::InvalidArgument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_renameat2() {
        assert_eq!(rename_mode(0), Ok(RenameMode::Replace));
        assert_eq!(rename_mode(1), Ok(RenameMode::NoReplace));
        assert_eq!(rename_mode(2), Ok(RenameMode::Exchange));
        assert_eq!(rename_mode(3), Err(FsError::InvalidArgument));
        assert_eq!(rename_mode(4), Err(FsError::InvalidArgument));
    }

    #[test]
    fn components() {
        assert!(matches!(Component::new(b"."), Ok(Component::Dot)));
        assert!(matches!(Component::new(b".."), Ok(Component::DotDot)));
        assert!(matches!(Component::new(b"..."), Ok(Component::Entry(_))));
        assert!(matches!(Component::new(&[0xff; 255]), Ok(Component::Entry(_))));
        assert_eq!(Component::new(&[0xff; 256]).err(), Some(FsError::NameTooLong));
    }
}
