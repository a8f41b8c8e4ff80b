//! An open file: a handle on the inode's shared state.

use super::ahead::Ahead;
use crate::inode::Inode;
use crate::shared::Shared;
use cairn_core::ids::InodeId;
use cairn_core::namespace::request::Credentials;
use cairn_core::time::Tick;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// An open file. Clones are the same handle; [`super::FileSystem::release`] ends it, as does dropping the last clone.
#[derive(Clone)]
pub struct OpenFile {
    pub(crate) handle: Arc<Handle>,
}

/// What all clones share.
pub(crate) struct Handle {
    pub(crate) inode: Arc<Inode>,
    pub(crate) flags: OpenFlags,
    /// Who opened it: its writes are theirs.
    pub(crate) who: Credentials,
    pub(crate) opened_at: Tick,
    pub(crate) errors_heard: AtomicU64,
    shared: Arc<Shared>,
    keep_cache: bool,
    released: AtomicBool,
    ahead: Mutex<Ahead>,
}

impl OpenFile {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        inode: Arc<Inode>,
        flags: OpenFlags,
        who: &Credentials,
        keep_cache: bool,
    ) -> Self {
        let handle = Handle {
            errors_heard: AtomicU64::new(inode.errors()),
            inode,
            flags,
            who: who.clone(),
            opened_at: shared.env.clock.now(),
            shared: shared.clone(),
            keep_cache,
            released: AtomicBool::new(false),
            ahead: Mutex::new(Ahead::default()),
        };
        Self { handle: Arc::new(handle) }
    }

    /// The inode.
    pub fn inode(&self) -> InodeId {
        self.handle.inode.id
    }

    /// How it was opened.
    pub fn flags(&self) -> OpenFlags {
        self.handle.flags
    }

    /// Nobody else has changed the data since this client last saw it: pages cached by the kernel are still right.
    pub fn keep_cache(&self) -> bool {
        self.handle.keep_cache
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile")
            .field("inode", &self.handle.inode.id)
            .field("flags", &self.handle.flags)
            .finish()
    }
}

impl Handle {
    pub(crate) fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the handle's use of its inode, once.
    pub(crate) fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            *self.ahead() = Ahead::default();
            self.inode.close(&self.shared, self.flags.write);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.release();
    }
}
