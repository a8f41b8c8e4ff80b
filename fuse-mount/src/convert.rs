//! Kernel values ↔ ours. Together with `fs`, `respond` and `session` the only files outside that know the types of `kernel`.

use crate::kernel::{FileAttr, FileType, INodeNo, TimeOrNow};
use bytes::Bytes;
use cairn_client::fs::OpenFlags;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{Attr, NodeKind, TimeSet};
use cairn_core::namespace::name::Name;
use rustix::fs::{FileType as ModeType, OFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What `st_blksize` says: stdio and many tools take it as their buffer size, and each write(2) costs a round trip to
/// this process, so it is far larger than a page.
const PREFERRED_IO_BYTES: u32 = 128 * 1024;
/// The unit of `st_blocks`.
const STAT_BLOCK_BYTES: u64 = 512;

/// Attributes as the kernel wants them.
pub(crate) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.inode.get()),
        size: attr.size,
        blocks: attr.mapped_bytes.div_ceil(STAT_BLOCK_BYTES),
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        // The kernel's 32-bit form equals makedev's up to 12 bits of major and 20 of minor, all that Linux has.
        rdev: attr.rdev as u32,
        blksize: PREFERRED_IO_BYTES,
    }
}

/// `d_type` and the format bits of `st_mode`.
pub(crate) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Regular => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharDevice => FileType::CharDevice,
        NodeKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that `mknod(2)` asks for.
///
/// # Errors
/// `InvalidArgument` for what mknod cannot make.
pub(crate) fn node_kind(mode: u32) -> Result<NodeKind, FsError> {
    match ModeType::from_raw_mode(mode) {
        ModeType::RegularFile => Ok(NodeKind::Regular),
        ModeType::Fifo => Ok(NodeKind::Fifo),
        ModeType::Socket => Ok(NodeKind::Socket),
        ModeType::CharacterDevice => Ok(NodeKind::CharDevice),
        ModeType::BlockDevice => Ok(NodeKind::BlockDevice),
        ModeType::Directory | ModeType::Symlink | ModeType::Unknown => Err(FsError::InvalidArgument),
    }
}

/// The flags of open(2) that matter to the client.
pub(crate) fn open_flags(raw: i32) -> OpenFlags {
    let flags = OFlags::from_bits_retain(raw as u32);
    let mode = flags & OFlags::RWMODE;
    OpenFlags {
        read: mode != OFlags::WRONLY,
        write: mode == OFlags::WRONLY || mode == OFlags::RDWR,
        append: flags.contains(OFlags::APPEND),
        truncate: flags.contains(OFlags::TRUNC),
        exclusive: flags.contains(OFlags::EXCL),
        direct: flags.contains(OFlags::DIRECT),
    }
}

/// An inode number of ours.
pub(crate) fn inode(number: INodeNo) -> InodeId {
    InodeId(number.0)
}

/// A name of the kernel's, checked.
///
/// # Errors
/// As [`Name::new`].
pub(crate) fn name(raw: &OsStr) -> Result<Name, FsError> {
    Name::new(Bytes::copy_from_slice(raw.as_bytes()))
}

/// A time that `utimensat(2)` sets.
pub(crate) fn time_set(time: TimeOrNow) -> TimeSet {
    match time {
        TimeOrNow::Now => TimeSet::Now,
        TimeOrNow::At(time) => TimeSet::At(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::time::Timestamp;

    #[test]
    fn flags_of_open() {
        assert_eq!(open_flags(0), OpenFlags { read: true, ..OpenFlags::default() });
        let append = open_flags((OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC).bits() as i32);
        assert_eq!(append, OpenFlags { write: true, append: true, truncate: true, ..OpenFlags::default() });
        let both = open_flags((OFlags::RDWR | OFlags::EXCL | OFlags::DIRECT | OFlags::CREATE).bits() as i32);
        assert_eq!(
            both,
            OpenFlags { read: true, write: true, exclusive: true, direct: true, ..OpenFlags::default() }
        );
    }

    #[test]
    fn mknod_makes_five_kinds() {
        assert_eq!(node_kind(0o100_644), Ok(NodeKind::Regular));
        assert_eq!(node_kind(0o010_644), Ok(NodeKind::Fifo));
        assert_eq!(node_kind(0o140_644), Ok(NodeKind::Socket));
        assert_eq!(node_kind(0o020_644), Ok(NodeKind::CharDevice));
        assert_eq!(node_kind(0o060_644), Ok(NodeKind::BlockDevice));
        assert_eq!(node_kind(0o040_755), Err(FsError::InvalidArgument));
        assert_eq!(node_kind(0o777), Err(FsError::InvalidArgument));
    }

    #[test]
    fn blocks_are_counted_up() {
        let attr = Attr {
            inode: InodeId(9),
            kind: NodeKind::CharDevice,
            mode: 0o4755,
            uid: 1,
            gid: 2,
            links: 1,
            size: 10,
            mapped_bytes: 513,
            rdev: 0x0103,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: Timestamp::default(),
            change: 1,
            data_change: 1,
            policy: cairn_core::ids::PolicyId::DEFAULT,
        };
        let out = file_attr(&attr);
        assert_eq!((out.blocks, out.perm, out.rdev, out.ino.0), (2, 0o4755, 0x0103, 9));
        assert_eq!(out.kind, FileType::CharDevice);
    }
}
