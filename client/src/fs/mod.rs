//! The inode-level file system: what a mount needs, one method per system call.

mod open_file;

pub use open_file::{OpenFile, OpenFlags};

use crate::error::ConnectError;
use crate::options::ConnectOptions;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::{DirectoryEntry, FileSystemStats};
use cairn_core::namespace::attr::{Attr, AttrChanges, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{AllocateMode, Credentials, RenameMode, XattrMode};
use cairn_env::Env;

/// One page of a directory.
#[derive(Clone, Debug)]
pub struct DirPage {
    /// Entries in cookie order.
    pub entries: Vec<DirectoryEntry>,
    /// Nothing follows.
    pub end: bool,
}

/// What `lseek(2)` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekFor {
    /// SEEK_DATA
    Data,
    /// SEEK_HOLE; the end of the file counts as one.
    Hole,
}

/// A connected file system. Clones share one session, one set of connections and one memory budget.
#[derive(Clone)]
pub struct FileSystem;

impl FileSystem {
    /// Connects and opens a session.
    pub async fn connect(env: Env, options: ConnectOptions) -> Result<Self, ConnectError> {
        let _ = (env, options);
        Err(ConnectError::NoMasters)
    }
    pub async fn lookup(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<Attr, FsError> {
        let _ = (who, parent, name);
        Err(FsError::Unsupported)
    }
    pub async fn lookup_parent(&self, who: &Credentials, inode: InodeId) -> Result<Attr, FsError> {
        let _ = (who, inode);
        Err(FsError::Unsupported)
    }
    /// `file`: any open handle of the inode, so that an unlinked file still answers.
    pub async fn getattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        file: Option<&OpenFile>,
    ) -> Result<Attr, FsError> {
        let _ = (who, inode, file);
        Err(FsError::Unsupported)
    }
    /// `file`: the handle of ftruncate(2) and the like.
    pub async fn setattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        changes: AttrChanges,
        file: Option<&OpenFile>,
    ) -> Result<Attr, FsError> {
        let _ = (who, inode, changes, file);
        Err(FsError::Unsupported)
    }
    pub async fn readlink(&self, who: &Credentials, inode: InodeId) -> Result<Bytes, FsError> {
        let _ = (who, inode);
        Err(FsError::Unsupported)
    }
    pub async fn mkdir(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        mode: u32,
    ) -> Result<Attr, FsError> {
        let _ = (who, parent, name, mode);
        Err(FsError::Unsupported)
    }
    pub async fn mknod(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        kind: NodeKind,
        mode: u32,
        rdev: u64,
    ) -> Result<Attr, FsError> {
        let _ = (who, parent, name, kind, mode, rdev);
        Err(FsError::Unsupported)
    }
    pub async fn symlink(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        target: Bytes,
    ) -> Result<Attr, FsError> {
        let _ = (who, parent, name, target);
        Err(FsError::Unsupported)
    }
    pub async fn link(
        &self,
        who: &Credentials,
        inode: InodeId,
        new_parent: InodeId,
        new_name: &Name,
    ) -> Result<Attr, FsError> {
        let _ = (who, inode, new_parent, new_name);
        Err(FsError::Unsupported)
    }
    pub async fn unlink(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<(), FsError> {
        let _ = (who, parent, name);
        Err(FsError::Unsupported)
    }
    pub async fn rmdir(&self, who: &Credentials, parent: InodeId, name: &Name) -> Result<(), FsError> {
        let _ = (who, parent, name);
        Err(FsError::Unsupported)
    }
    pub async fn rename(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        new_parent: InodeId,
        new_name: &Name,
        mode: RenameMode,
    ) -> Result<(), FsError> {
        let _ = (who, parent, name, new_parent, new_name, mode);
        Err(FsError::Unsupported)
    }
    /// `mask`: 4 read, 2 write, 1 execute, 0 existence.
    pub async fn access(&self, who: &Credentials, inode: InodeId, mask: u32) -> Result<(), FsError> {
        let _ = (who, inode, mask);
        Err(FsError::Unsupported)
    }
    /// `name` with its namespace prefix.
    pub async fn get_xattr(&self, who: &Credentials, inode: InodeId, name: &[u8]) -> Result<Bytes, FsError> {
        let _ = (who, inode, name);
        Err(FsError::Unsupported)
    }
    pub async fn set_xattr(
        &self,
        who: &Credentials,
        inode: InodeId,
        name: &[u8],
        value: Bytes,
        mode: XattrMode,
    ) -> Result<(), FsError> {
        let _ = (who, inode, name, value, mode);
        Err(FsError::Unsupported)
    }
    /// Names, each ended by NUL.
    pub async fn list_xattr(&self, who: &Credentials, inode: InodeId) -> Result<Bytes, FsError> {
        let _ = (who, inode);
        Err(FsError::Unsupported)
    }
    pub async fn remove_xattr(&self, who: &Credentials, inode: InodeId, name: &[u8]) -> Result<(), FsError> {
        let _ = (who, inode, name);
        Err(FsError::Unsupported)
    }
    pub async fn statfs(&self, who: &Credentials) -> Result<FileSystemStats, FsError> {
        let _ = who;
        Err(FsError::Unsupported)
    }
    /// Entries after `after_cookie` (0 at first), without `.` and `..`.
    pub async fn read_dir(
        &self,
        who: &Credentials,
        inode: InodeId,
        after_cookie: u64,
        limit: u32,
        with_attrs: bool,
    ) -> Result<DirPage, FsError> {
        let _ = (who, inode, after_cookie, limit, with_attrs);
        Err(FsError::Unsupported)
    }
    /// Creates (or opens, unless `flags.exclusive`) a regular file.
    pub async fn create(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Attr, OpenFile), FsError> {
        let _ = (who, parent, name, mode, flags);
        Err(FsError::Unsupported)
    }
    pub async fn open(
        &self,
        who: &Credentials,
        inode: InodeId,
        flags: OpenFlags,
    ) -> Result<OpenFile, FsError> {
        let _ = (who, inode, flags);
        Err(FsError::Unsupported)
    }
    /// Short only at the end of the file. Sees this client's own writes.
    pub async fn read(&self, file: &OpenFile, offset: u64, length: u32) -> Result<Bytes, FsError> {
        let _ = (file, offset, length);
        Err(FsError::Unsupported)
    }
    /// Returns when the bytes are accepted into the bounded window. With `append` the offset is chosen here.
    pub async fn write(&self, file: &OpenFile, offset: u64, data: Bytes) -> Result<u32, FsError> {
        let _ = (file, offset, data);
        Err(FsError::Unsupported)
    }
    /// close(2): everything written is durable and visible to others when this returns Ok.
    pub async fn flush(&self, file: &OpenFile) -> Result<(), FsError> {
        let _ = file;
        Err(FsError::Unsupported)
    }
    pub async fn fsync(&self, file: &OpenFile) -> Result<(), FsError> {
        let _ = file;
        Err(FsError::Unsupported)
    }
    /// The last use of the handle.
    pub async fn release(&self, file: &OpenFile) {
        let _ = file;
    }
    pub async fn allocate(
        &self,
        who: &Credentials,
        file: &OpenFile,
        mode: AllocateMode,
        offset: u64,
        length: u64,
    ) -> Result<(), FsError> {
        let _ = (who, file, mode, offset, length);
        Err(FsError::Unsupported)
    }
    pub async fn seek(&self, file: &OpenFile, what: SeekFor, offset: u64) -> Result<u64, FsError> {
        let _ = (file, what, offset);
        Err(FsError::Unsupported)
    }
    /// Flushes everything and ends the session. The first error met is returned after everything was tried.
    pub async fn shutdown(&self) -> Result<(), FsError> {
        Ok(())
    }
}
