//! What the kernel and a FUSE daemon say to each other, as linux/fuse.h has it: numbers, flags, and the structs with a meaning.

use super::wire::Writer;
use cairn_core::time::Timestamp;
use std::time::Duration;

/// The protocol that is spoken here. A later minor version of the kernel's only adds to it.
pub(crate) const VERSION: Version = Version(7, 40);
/// Before it, messages had other sizes (Linux 3.15).
pub(crate) const OLDEST: Version = Version(7, 23);
/// `struct fuse_in_header`
pub(crate) const IN_HEADER_BYTES: usize = 40;
/// `struct fuse_out_header`
pub(crate) const OUT_HEADER_BYTES: usize = 16;
/// `struct fuse_write_in`
pub(crate) const WRITE_IN_BYTES: usize = 40;

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

/// An inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct INodeNo(pub(crate) u64);

/// The number of an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHandle(pub(crate) u64);

/// Tells two inodes of one number apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) u64);

/// `enum fuse_opcode`, those that are served here.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const POLL: u32 = 40;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
}

/// Flags of INIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InitFlags(pub(crate) u64);

impl InitFlags {
    pub(crate) const FUSE_ASYNC_READ: Self = Self(1 << 0);
    pub(crate) const FUSE_EXPORT_SUPPORT: Self = Self(1 << 4);
    pub(crate) const FUSE_BIG_WRITES: Self = Self(1 << 5);
    pub(crate) const FUSE_DO_READDIRPLUS: Self = Self(1 << 13);
    pub(crate) const FUSE_READDIRPLUS_AUTO: Self = Self(1 << 14);
    pub(crate) const FUSE_ASYNC_DIO: Self = Self(1 << 15);
    pub(crate) const FUSE_PARALLEL_DIROPS: Self = Self(1 << 18);
    pub(crate) const FUSE_MAX_PAGES: Self = Self(1 << 22);
    pub(crate) const FUSE_CACHE_SYMLINKS: Self = Self(1 << 23);
    pub(crate) const FUSE_HANDLE_KILLPRIV_V2: Self = Self(1 << 28);
    pub(crate) const FUSE_INIT_EXT: Self = Self(1 << 30);
    pub(crate) const FUSE_DIRECT_IO_ALLOW_MMAP: Self = Self(1 << 36);

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Flags of the answer to open(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FopenFlags(pub(crate) u32);

impl FopenFlags {
    pub(crate) const FOPEN_DIRECT_IO: Self = Self(1 << 0);
    pub(crate) const FOPEN_KEEP_CACHE: Self = Self(1 << 1);
    pub(crate) const FOPEN_NOFLUSH: Self = Self(1 << 5);

    pub(crate) fn empty() -> Self {
        Self(0)
    }

    pub(crate) fn set(&mut self, flag: Self, on: bool) {
        self.0 = if on { self.0 | flag.0 } else { self.0 & !flag.0 };
    }
}

/// Flags of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteFlags(pub(crate) u32);

impl WriteFlags {
    /// From the page cache, later than write(2).
    pub(crate) const FUSE_WRITE_CACHE: Self = Self(1 << 0);
    pub(crate) const FUSE_WRITE_KILL_SUIDGID: Self = Self(1 << 2);

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `FATTR_*`: which fields of a setattr count.
pub(crate) mod fattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
}

/// `fuse_getattr_in.fh` counts.
pub(crate) const GETATTR_FH: u32 = 1 << 0;
/// The ioctl is not of the restricted kind that a FUSE file system may have.
pub(crate) const IOCTL_UNRESTRICTED: u32 = 1 << 1;

/// A time that utimensat(2) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeOrNow {
    At(Timestamp),
    Now,
}

/// `S_IFMT >> 12`, which is also `d_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    NamedPipe = 0o1,
    CharDevice = 0o2,
    Directory = 0o4,
    BlockDevice = 0o6,
    RegularFile = 0o10,
    Symlink = 0o12,
    Socket = 0o14,
}

/// `struct fuse_attr`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileAttr {
    pub(crate) ino: INodeNo,
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) kind: FileType,
    pub(crate) perm: u16,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) blksize: u32,
}

impl FileAttr {
    /// 88 bytes.
    pub(crate) fn put(&self, out: &mut Writer) {
        out.u64(self.ino.0).u64(self.size).u64(self.blocks);
        // Signed, whatever the header says.
        out.i64(self.atime.seconds).i64(self.mtime.seconds).i64(self.ctime.seconds);
        out.u32(self.atime.nanos).u32(self.mtime.nanos).u32(self.ctime.nanos);
        out.u32((self.kind as u32) << 12 | u32::from(self.perm));
        out.u32(self.nlink).u32(self.uid).u32(self.gid).u32(self.rdev).u32(self.blksize).u32(0);
    }
}

/// `struct fuse_entry_out`, 128 bytes.
pub(crate) fn put_entry(
    out: &mut Writer,
    (entry_ttl, attr_ttl): (Duration, Duration),
    attr: &FileAttr,
    generation: Generation,
) {
    out.u64(attr.ino.0).u64(generation.0).u64(entry_ttl.as_secs()).u64(attr_ttl.as_secs());
    out.u32(entry_ttl.subsec_nanos()).u32(attr_ttl.subsec_nanos());
    attr.put(out);
}

/// `struct fuse_attr_out`, 104 bytes.
pub(crate) fn put_attr(out: &mut Writer, ttl: Duration, attr: &FileAttr) {
    out.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0);
    attr.put(out);
}

/// `struct fuse_open_out`, 16 bytes.
pub(crate) fn put_open(out: &mut Writer, handle: FileHandle, flags: FopenFlags) {
    out.u64(handle.0).u32(flags.0).u32(0);
}

/// `struct fuse_dirent`, 24 bytes, and the name.
pub(crate) fn put_dirent(out: &mut Writer, ino: INodeNo, cookie: u64, kind: FileType, name: &[u8]) {
    out.u64(ino.0).u64(cookie).u32(name.len() as u32).u32(kind as u32).bytes(name);
}
