//! What `stat(2)` tells.

use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::time::Timestamp;

/// Attributes of a file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(pub(super) Attr);

impl Metadata {
    /// All attributes.
    pub fn attr(&self) -> &Attr {
        &self.0
    }

    /// The inode.
    pub fn inode(&self) -> InodeId {
        self.0.inode
    }

    /// What it is.
    pub fn kind(&self) -> NodeKind {
        self.0.kind
    }

    /// A regular file?
    pub fn is_file(&self) -> bool {
        self.0.kind == NodeKind::Regular
    }

    /// A directory?
    pub fn is_dir(&self) -> bool {
        self.0.kind == NodeKind::Directory
    }

    /// A symbolic link?
    pub fn is_symlink(&self) -> bool {
        self.0.kind == NodeKind::Symlink
    }

    /// Bytes of a file or link target; entries of a directory.
    #[allow(clippy::len_without_is_empty, reason = "mirrors std::fs::Metadata")]
    pub fn len(&self) -> u64 {
        self.0.size
    }

    /// Permission bits, 0 ..= 0o7777.
    pub fn mode(&self) -> u32 {
        self.0.mode
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// Last change of the data.
    pub fn modified(&self) -> Timestamp {
        self.0.mtime
    }

    /// Last access.
    pub fn accessed(&self) -> Timestamp {
        self.0.atime
    }
}
