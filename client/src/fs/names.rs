//! Names and attributes: each call is one request to the master, and what is written here is laid over its answers.

use super::{DirPage, FileSystem, OpenFile};
use crate::inode::Inode;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::{Answer, FileSystemStats};
use cairn_core::namespace::attr::{Attr, AttrChanges, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, OperationKind, QueryKind, RenameMode, XattrMode};

/// The answer was of a kind that its request never has.
pub(super) fn nonsense<T>(answer: &Answer) -> Result<T, FsError> {
    Err(FsError::Io(format!("the master's answer makes no sense: {answer:?}")))
}

impl FileSystem {
    /// Attributes of the inode that `name` leads to.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `PermissionDenied`.
    pub async fn lookup(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<Attr, FsError> {
        let counts = &self.counts().names;
        if let Some(known) = self.known_name(who, parent, name) {
            counts.hits.one_more();
            return known.map(|attr| self.seen(attr));
        }
        if self.missed_name(who, parent, name).await
            && let Some(known) = self.known_name(who, parent, name)
        {
            counts.hits.one_more();
            return known.map(|attr| self.seen(attr));
        }
        counts.misses.one_more();
        let kind = QueryKind::Lookup { parent, name: name.clone() };
        let heard = self.shared.meta.ask(who, kind).await?;
        self.keep_name(&heard, parent, name);
        match heard.outcome? {
            Answer::Entry { attr, map } => {
                // What is leased stands in the cache, and is taken back there.
                if attr.kind == NodeKind::Regular && !heard.leased {
                    self.shared.lookups.remember(self.shared.env.clock.now(), &attr, map);
                }
                Ok(self.seen(attr))
            }
            answer => nonsense(&answer),
        }
    }

    /// Attributes of the directory above a directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub async fn lookup_parent(&self, who: &Credentials, inode: InodeId) -> Result<Attr, FsError> {
        self.entry(self.query(who, QueryKind::LookupParent { inode }).await?)
    }

    /// stat(2). `file`: any open handle of the inode, so that an unlinked file still answers.
    ///
    /// # Errors
    /// `NotFound` or `Stale`.
    pub async fn getattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        _file: Option<&OpenFile>,
    ) -> Result<Attr, FsError> {
        let counts = &self.counts().attributes;
        if let Some((attr, _)) = self.known_attr(who, inode) {
            counts.hits.one_more();
            return Ok(self.seen(attr));
        }
        counts.misses.one_more();
        let heard = self.shared.meta.ask(who, QueryKind::GetAttr { inode }).await?;
        self.keep_attr(&heard);
        self.attr(heard.outcome?)
    }

    /// chmod, chown, utimensat, truncate. `file`: the handle of ftruncate(2) and the like.
    ///
    /// # Errors
    /// `NotPermitted`, `PermissionDenied`, `FileTooLarge`; those of earlier writes, when a new size or time must wait for them.
    pub async fn setattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        changes: AttrChanges,
        file: Option<&OpenFile>,
    ) -> Result<Attr, FsError> {
        let via_handle = file.is_some_and(|file| file.flags().write);
        self.shared.lookups.forget(inode);
        if let Some(known) = self.shared.known_inode(inode) {
            return known.set_attr(&self.shared, who.clone(), changes, via_handle).await;
        }
        self.attr(self.operation(who, OperationKind::SetAttr { inode, changes, via_handle }).await?)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none.
    pub async fn readlink(&self, who: &Credentials, inode: InodeId) -> Result<Bytes, FsError> {
        bytes(self.query(who, QueryKind::ReadLink { inode }).await?)
    }

    /// mkdir(2).
    ///
    /// # Errors
    /// `Exists`, `NotDirectory`, `PermissionDenied`, `TooManyLinks`.
    pub async fn mkdir(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        mode: u32,
    ) -> Result<Attr, FsError> {
        let kind = OperationKind::Mkdir { parent, name: name.clone(), mode };
        self.entry(self.operation(who, kind).await?)
    }

    /// mknod(2): anything but directories and symbolic links.
    ///
    /// # Errors
    /// `Exists`, `PermissionDenied`, `NotPermitted` for devices.
    pub async fn mknod(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        kind: NodeKind,
        mode: u32,
        rdev: u64,
    ) -> Result<Attr, FsError> {
        let kind = OperationKind::Mknod { parent, name: name.clone(), kind, mode, rdev };
        self.entry(self.operation(who, kind).await?)
    }

    /// symlink(2).
    ///
    /// # Errors
    /// `Exists`, `NameTooLong`, `PermissionDenied`.
    pub async fn symlink(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        target: Bytes,
    ) -> Result<Attr, FsError> {
        let kind = OperationKind::Symlink { parent, name: name.clone(), target };
        self.entry(self.operation(who, kind).await?)
    }

    /// link(2).
    ///
    /// # Errors
    /// `Exists`, `NotPermitted` for directories, `TooManyLinks`.
    pub async fn link(
        &self,
        who: &Credentials,
        inode: InodeId,
        new_parent: InodeId,
        new_name: &Name,
    ) -> Result<Attr, FsError> {
        let kind = OperationKind::Link { inode, new_parent, new_name: new_name.clone() };
        self.entry(self.operation(who, kind).await?)
    }

    /// unlink(2). Open files live on until they are closed.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `PermissionDenied`, `NotPermitted` (sticky directory).
    pub async fn unlink(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<(), FsError> {
        done(self.operation(who, OperationKind::Unlink { parent, name: name.clone() }).await?)
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory`, `NotFound`.
    pub async fn rmdir(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<(), FsError> {
        done(self.operation(who, OperationKind::Rmdir { parent, name: name.clone() }).await?)
    }

    /// renameat2(2).
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `InvalidArgument` (a directory into itself).
    pub async fn rename(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        new_parent: InodeId,
        new_name: &Name,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let (name, new_name) = (name.clone(), new_name.clone());
        done(self.operation(who, OperationKind::Rename { parent, name, new_parent, new_name, mode }).await?)
    }

    /// access(2). `mask`: 4 read, 2 write, 1 execute, 0 existence.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound`.
    pub async fn access(&self, who: &Credentials, inode: InodeId, mask: u32) -> Result<(), FsError> {
        done(self.query(who, QueryKind::Access { inode, mask }).await?)
    }

    /// getxattr(2). `name` with its namespace prefix.
    ///
    /// # Errors
    /// `NoAttribute`, `Unsupported` (unknown namespace).
    pub async fn get_xattr(&self, who: &Credentials, inode: InodeId, name: &[u8]) -> Result<Bytes, FsError> {
        bytes(self.query(who, QueryKind::GetXattr { inode, name: Bytes::copy_from_slice(name) }).await?)
    }

    /// setxattr(2).
    ///
    /// # Errors
    /// `Exists` or `NoAttribute` as `mode` says, `AttributeTooLarge`, `Unsupported`.
    pub async fn set_xattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        name: &[u8],
        value: Bytes,
        mode: XattrMode,
    ) -> Result<(), FsError> {
        let name = Bytes::copy_from_slice(name);
        done(self.operation(who, OperationKind::SetXattr { inode, name, value, mode }).await?)
    }

    /// listxattr(2): names, each ended by NUL.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn list_xattr(&self, who: &Credentials, inode: InodeId) -> Result<Bytes, FsError> {
        bytes(self.query(who, QueryKind::ListXattr { inode }).await?)
    }

    /// removexattr(2).
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn remove_xattr(&self, who: &Credentials, inode: InodeId, name: &[u8]) -> Result<(), FsError> {
        let name = Bytes::copy_from_slice(name);
        done(self.operation(who, OperationKind::RemoveXattr { inode, name }).await?)
    }

    /// statfs(2).
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn statfs(&self, who: &Credentials) -> Result<FileSystemStats, FsError> {
        match self.query(who, QueryKind::StatFs).await? {
            Answer::FileSystem(stats) => Ok(stats),
            answer => nonsense(&answer),
        }
    }

    /// Entries after `after_cookie` (0 at first), without `.` and `..`.
    ///
    /// # Errors
    /// `NotDirectory`, `PermissionDenied`.
    pub async fn read_dir(
        &self,
        who: &Credentials,
        inode: InodeId,
        after_cookie: u64,
        limit: u32,
        with_attrs: bool,
    ) -> Result<DirPage, FsError> {
        // Removed and looked at again: `rm -r` does so with each directory.
        if let Some((attr, _)) = self.known_attr(who, inode)
            && attr.kind == NodeKind::Directory
            && attr.size == 0
        {
            return Ok(DirPage { entries: Vec::new(), end: true });
        }
        let kind = QueryKind::ReadDir { inode, after: after_cookie, limit, with_attrs };
        let heard = self.shared.meta.ask(who, kind).await?;
        self.keep_page(&heard, inode);
        match heard.outcome? {
            Answer::Names(page) => {
                let entries =
                    page.entries().map_err(|_| FsError::Io("the master's names make no sense".into()))?;
                Ok(DirPage { entries, end: page.end })
            }
            Answer::Directory { mut entries, end } => {
                for attr in entries.iter_mut().filter_map(|entry| entry.attr.as_mut()) {
                    **attr = self.seen((**attr).clone());
                }
                Ok(DirPage { entries, end })
            }
            answer => nonsense(&answer),
        }
    }

    pub(super) async fn query(&self, who: &Credentials, kind: QueryKind) -> Result<Answer, FsError> {
        self.shared.meta.query(who, kind).await
    }

    pub(super) async fn operation(&self, who: &Credentials, kind: OperationKind) -> Result<Answer, FsError> {
        self.shared.meta.operation(who, kind).await
    }

    /// Attributes with what is written here and not yet recorded.
    pub(super) fn seen(&self, attr: Attr) -> Attr {
        match self.shared.known_inode(attr.inode) {
            Some(inode) => Inode::overlay(&inode, attr),
            None => attr,
        }
    }

    fn attr(&self, answer: Answer) -> Result<Attr, FsError> {
        match answer {
            Answer::Attr(attr) => Ok(self.seen(attr)),
            answer => nonsense(&answer),
        }
    }

    fn entry(&self, answer: Answer) -> Result<Attr, FsError> {
        match answer {
            Answer::Entry { attr, .. } => Ok(self.seen(attr)),
            answer => nonsense(&answer),
        }
    }
}

fn done(answer: Answer) -> Result<(), FsError> {
    match answer {
        Answer::Done => Ok(()),
        answer => nonsense(&answer),
    }
}

fn bytes(answer: Answer) -> Result<Bytes, FsError> {
    match answer {
        Answer::Bytes(bytes) => Ok(bytes),
        answer => nonsense(&answer),
    }
}
