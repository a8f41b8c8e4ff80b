//! Inode attributes, as `stat(2)` shows them.

use crate::ids::{InodeId, PolicyId};
use crate::time::Timestamp;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NodeKind {
    /// Regular file.
    Regular = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Named pipe.
    Fifo = 4,
    /// Unix socket.
    Socket = 5,
    /// Character device.
    CharDevice = 6,
    /// Block device.
    BlockDevice = 7,
}

impl NodeKind {
    /// The kind of a stored or received number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::Socket,
            6 => Self::CharDevice,
            7 => Self::BlockDevice,
            _ => return None,
        })
    }
}

/// Attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub inode: InodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky: 0 ..= 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file; 2 + subdirectories of a directory.
    pub links: u32,
    /// Bytes of a file or symlink target; entries of a directory.
    pub size: u64,
    /// Bytes mapped to chunks (`st_blocks` is this / 512, rounded up).
    pub mapped_bytes: u64,
    /// Device number of a device node, as `makedev` encodes it on Linux.
    pub rdev: u64,
    /// Last access; reading does not change it.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// Grows with every change of data or attributes: two equal values mean that nothing has changed.
    pub change: u64,
    /// Grows with every change of data (bytes or length): lets a client keep its cached pages across opens.
    pub data_change: u64,
    /// Storage policy: of a file by which its chunks are placed, of a directory what is made in it gets.
    pub policy: PolicyId,
}

/// A time that a caller sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSet {
    /// The leader's present time.
    Now,
    /// This time.
    At(Timestamp),
}

/// Changes of `setattr`: a field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrChanges {
    /// New permission bits, 0 ..= 0o7777.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length; bytes beyond the old one read as zeros.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<TimeSet>,
    /// New modification time.
    pub mtime: Option<TimeSet>,
}
