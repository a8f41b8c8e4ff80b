//! What a file system does with requests: one callback for each, which answers by its reply, now or later.

use super::abi::{FileHandle, INodeNo, WriteFlags};
use super::reply::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use super::request::{Request, SetAttr};
use bytes::Bytes;
use std::ffi::OsStr;

/// A write, whose bytes belong to whoever handles it.
pub(crate) struct WriteCall {
    pub(crate) handle: FileHandle,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) write_flags: WriteFlags,
    /// Of open(2), as fcntl(2) has changed them since.
    pub(crate) flags: i32,
}

/// A file system. Callbacks run on the thread that received the request, several at a time.
#[rustfmt::skip]
pub(crate) trait Filesystem: Send + Sync + 'static {
    fn lookup(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEntry);
    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr);
    fn setattr(&self, req: &Request, ino: INodeNo, set: SetAttr, reply: ReplyAttr);
    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData);
    fn mknod(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, rdev: u32, reply: ReplyEntry);
    fn mkdir(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, reply: ReplyEntry);
    fn unlink(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEmpty);
    fn rmdir(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEmpty);
    fn symlink(&self, req: &Request, parent: INodeNo, raw: &OsStr, target: &OsStr, reply: ReplyEntry);
    fn rename(&self, req: &Request, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: u32, reply: ReplyEmpty);
    fn link(&self, req: &Request, ino: INodeNo, new_parent: INodeNo, new_raw: &OsStr, reply: ReplyEntry);
    fn create(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, flags: i32, reply: ReplyCreate);
    fn open(&self, req: &Request, ino: INodeNo, flags: i32, reply: ReplyOpen);
    fn read(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, size: u32, reply: ReplyData);
    fn write(&self, req: &Request, ino: INodeNo, call: WriteCall, reply: ReplyWrite);
    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty);
    fn release(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty);
    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty);
    fn opendir(&self, req: &Request, ino: INodeNo, reply: ReplyOpen);
    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory);
    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
    fn releasedir(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty);
    fn fsyncdir(&self, req: &Request, ino: INodeNo, reply: ReplyEmpty);
    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs);
    fn setxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, value: &[u8], flags: i32, reply: ReplyEmpty);
    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr);
    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty);
    fn access(&self, req: &Request, ino: INodeNo, mask: u32, reply: ReplyEmpty);
    fn fallocate(&self, req: &Request, ino: INodeNo, fh: FileHandle, range: (u64, u64), mode: i32, reply: ReplyEmpty);
    fn lseek(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
    fn ioctl(&self, reply: ReplyEmpty);
    fn copy_file_range(&self, reply: ReplyEmpty);
    fn poll(&self, reply: ReplyEmpty);
}
