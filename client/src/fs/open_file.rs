//! An open file: a handle on the inode's shared state.

use cairn_core::ids::InodeId;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Reading is wanted.
    pub read: bool,
    /// Writing is wanted.
    pub write: bool,
    /// O_APPEND: each write goes to the end of the file, whatever offset it names.
    pub append: bool,
    /// O_TRUNC
    pub truncate: bool,
    /// O_EXCL, in `create` only: an existing name is an error.
    pub exclusive: bool,
    /// O_DIRECT: no read-ahead, and nothing held back to be coalesced.
    pub direct: bool,
}

/// An open file. Clones are the same handle; [`super::FileSystem::release`] ends it.
#[derive(Clone, Debug)]
pub struct OpenFile {
    inner: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    inode: InodeId,
    keep_cache: bool,
}

impl OpenFile {
    /// The inode.
    pub fn inode(&self) -> InodeId {
        self.inner.inode
    }

    /// Nobody else has changed the data since this client last saw it: pages cached by the kernel are still right.
    pub fn keep_cache(&self) -> bool {
        self.inner.keep_cache
    }
}
