//! The kernel's callbacks: span, call, reply. A callback with an `if` is in the wrong room.

use crate::convert::{inode, name, node_kind, open_flags, time_set};
use crate::credentials::caller;
use crate::dispatch::start;
use crate::kernel::{
    FileHandle, Filesystem, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, SetAttr,
    WriteCall, WriteFlags,
};
use crate::look_out::LookOut;
use crate::metrics::Kind;
use crate::ops::{Component, Ops, WriteRequest};
use crate::respond::{OrRelease, Respond};
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::Credentials;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tokio::runtime::Handle;
use tracing::{Span, debug_span};

/// The file system as the kernel sees it.
pub(crate) struct KernelFs {
    ops: Arc<Ops>,
    messages: Handle,
    bytes: Handle,
    look_out: Arc<LookOut>,
}

impl KernelFs {
    /// Messages and bytes of files each have a runtime.
    pub(crate) fn new(ops: Arc<Ops>, (messages, bytes): (Handle, Handle), look_out: Arc<LookOut>) -> Self {
        Self { ops, messages, bytes, look_out }
    }

    /// Begins a request of messages.
    fn start<T, F>(
        &self,
        (kind, span): (Kind, Span),
        call: impl FnOnce(Arc<Ops>) -> F,
        reply: impl Respond<T>,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        self.start_on(&self.messages, (kind, span), call, reply);
    }

    /// Begins a request that moves bytes of files.
    fn move_bytes<T, F>(
        &self,
        (kind, span): (Kind, Span),
        call: impl FnOnce(Arc<Ops>) -> F,
        reply: impl Respond<T>,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        self.start_on(&self.bytes, (kind, span), call, reply);
    }

    fn start_on<T, F>(
        &self,
        runtime: &Handle,
        (kind, span): (Kind, Span),
        call: impl FnOnce(Arc<Ops>) -> F,
        reply: impl Respond<T>,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, FsError>> + Send + 'static,
    {
        start(runtime, &self.look_out, (kind, span), call(self.ops.clone()), reply);
    }

    /// A reply to open(2). Should the kernel not want the file any more when it is open, it is closed again.
    fn or_release<R>(&self, reply: R) -> OrRelease<R, impl FnOnce(u64) + Send + Sync + 'static> {
        let (ops, runtime) = (self.ops.clone(), self.messages.clone());
        OrRelease::new(reply, move |handle| {
            // Nobody hears how it ends.
            drop(runtime.spawn(async move { ops.release(handle).await }));
        })
    }
}

/// A span that names the request: off unless someone listens at level debug.
macro_rules! span {
    ($call:literal, $req:expr, $($field:tt)*) => {
        debug_span!($call, unique = $req.unique().0, pid = $req.pid(), $($field)*)
    };
}

fn who(req: &Request) -> Credentials {
    caller(req.uid(), req.gid())
}

fn bytes(raw: &OsStr) -> Bytes {
    Bytes::copy_from_slice(raw.as_bytes())
}

impl Filesystem for KernelFs {
    fn lookup(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEntry) {
        let span = span!("lookup", req, parent = parent.0, name = ?raw);
        let (who, parent, name) = (who(req), inode(parent), Component::new(raw.as_bytes()));
        self.start((Kind::Lookup, span), |ops| async move { ops.lookup(who, parent, name).await }, reply);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let span = span!("getattr", req, inode = ino.0);
        let (who, inode, handle) = (who(req), inode(ino), fh.map(|fh| fh.0));
        self.start((Kind::GetAttr, span), |ops| async move { ops.getattr(who, inode, handle).await }, reply);
    }

    fn setattr(&self, req: &Request, ino: INodeNo, set: SetAttr, reply: ReplyAttr) {
        let SetAttr { mode, uid, gid, size, atime, mtime, handle } = set;
        let span = span!("setattr", req, inode = ino.0, ?mode, ?uid, ?gid, ?size, ?atime, ?mtime);
        let mode = mode.map(|mode| mode & 0o7777);
        let changes =
            AttrChanges { mode, uid, gid, size, atime: atime.map(time_set), mtime: mtime.map(time_set) };
        let (who, inode, handle) = (who(req), inode(ino), handle.map(|fh| fh.0));
        self.start(
            (Kind::SetAttr, span),
            |ops| async move { ops.setattr(who, inode, changes, handle).await },
            reply,
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let span = span!("readlink", req, inode = ino.0);
        let (who, inode) = (who(req), inode(ino));
        self.start((Kind::ReadLink, span), |ops| async move { ops.readlink(who, inode).await }, reply);
    }

    fn mknod(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, rdev: u32, reply: ReplyEntry) {
        let span = span!("mknod", req, parent = parent.0, name = ?raw, mode, rdev);
        let (who, parent, name, kind) = (who(req), inode(parent), name(raw), node_kind(mode));
        self.start(
            (Kind::Mknod, span),
            |ops| async move { ops.mknod(who, parent, name, kind, (mode, rdev)).await },
            reply,
        );
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, reply: ReplyEntry) {
        let span = span!("mkdir", req, parent = parent.0, name = ?raw, mode);
        let (who, parent, name) = (who(req), inode(parent), name(raw));
        self.start((Kind::Mkdir, span), |ops| async move { ops.mkdir(who, parent, name, mode).await }, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEmpty) {
        let span = span!("unlink", req, parent = parent.0, name = ?raw);
        let (who, parent, name) = (who(req), inode(parent), name(raw));
        self.start((Kind::Unlink, span), |ops| async move { ops.unlink(who, parent, name).await }, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, raw: &OsStr, reply: ReplyEmpty) {
        let span = span!("rmdir", req, parent = parent.0, name = ?raw);
        let (who, parent, name) = (who(req), inode(parent), name(raw));
        self.start((Kind::Rmdir, span), |ops| async move { ops.rmdir(who, parent, name).await }, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, raw: &OsStr, target: &OsStr, reply: ReplyEntry) {
        let span = span!("symlink", req, parent = parent.0, name = ?raw);
        let (who, parent, name, target) = (who(req), inode(parent), name(raw), bytes(target));
        self.start(
            (Kind::Symlink, span),
            |ops| async move { ops.symlink(who, parent, name, target).await },
            reply,
        );
    }

    fn rename(
        &self,
        req: &Request,
        (parent, raw): (INodeNo, &OsStr),
        (new_parent, new_raw): (INodeNo, &OsStr),
        flags: u32,
        reply: ReplyEmpty,
    ) {
        let span =
            span!("rename", req, parent = parent.0, name = ?raw, to = new_parent.0, new = ?new_raw, flags);
        let (from, to) = ((inode(parent), name(raw)), (inode(new_parent), name(new_raw)));
        let who = who(req);
        self.start((Kind::Rename, span), |ops| async move { ops.rename(who, from, to, flags).await }, reply);
    }

    fn link(&self, req: &Request, ino: INodeNo, new_parent: INodeNo, new_raw: &OsStr, reply: ReplyEntry) {
        let span = span!("link", req, inode = ino.0, to = new_parent.0, new = ?new_raw);
        let (who, inode, parent, name) = (who(req), inode(ino), inode(new_parent), name(new_raw));
        self.start((Kind::Link, span), |ops| async move { ops.link(who, inode, parent, name).await }, reply);
    }

    fn create(&self, req: &Request, parent: INodeNo, raw: &OsStr, mode: u32, flags: i32, reply: ReplyCreate) {
        let span = span!("create", req, parent = parent.0, name = ?raw, mode, flags);
        let (who, parent, name, flags) = (who(req), inode(parent), name(raw), open_flags(flags));
        let reply = self.or_release(reply);
        self.start(
            (Kind::Create, span),
            |ops| async move { ops.create(who, parent, name, mode, flags).await },
            reply,
        );
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: i32, reply: ReplyOpen) {
        let span = span!("open", req, inode = ino.0, flags);
        let (who, inode, flags) = (who(req), inode(ino), open_flags(flags));
        let reply = self.or_release(reply);
        self.start((Kind::Open, span), |ops| async move { ops.open(who, inode, flags).await }, reply);
    }

    fn read(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, size: u32, reply: ReplyData) {
        let span = span!("read", req, inode = ino.0, offset, size);
        self.move_bytes((Kind::Read, span), |ops| async move { ops.read(fh.0, offset, size).await }, reply);
    }

    fn write(&self, req: &Request, ino: INodeNo, call: WriteCall, reply: ReplyWrite) {
        let WriteCall { handle, offset, data, write_flags, flags } = call;
        let span = span!("write", req, inode = ino.0, offset, size = data.len());
        let append =
            flags & OFlags::APPEND.bits() as i32 != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let drops_privilege = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let request = WriteRequest { handle: handle.0, offset, data, append, drops_privilege };
        self.move_bytes((Kind::Write, span), |ops| async move { ops.write(request).await }, reply);
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
        let span = span!("flush", req, inode = ino.0);
        self.move_bytes((Kind::Flush, span), |ops| async move { ops.flush(fh.0).await }, reply);
    }

    fn release(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
        let span = span!("release", req, inode = ino.0);
        self.start((Kind::Release, span), |ops| async move { ops.release(fh.0).await }, reply);
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let span = span!("fsync", req, inode = ino.0, datasync);
        self.move_bytes((Kind::Fsync, span), |ops| async move { ops.fsync(fh.0).await }, reply);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, reply: ReplyOpen) {
        let span = span!("opendir", req, inode = ino.0);
        let (inode, ops) = (inode(ino), self.ops.clone());
        let reply = OrRelease::new(reply, move |handle| {
            // It was opened just now.
            let _ = ops.release_directory(handle);
        });
        self.start((Kind::OpenDir, span), |ops| async move { ops.open_directory(inode) }, reply);
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let span = span!("readdir", req, inode = ino.0, offset);
        let who = who(req);
        self.start(
            (Kind::ReadDir, span),
            |ops| async move { ops.list(who, fh.0, offset, false).await },
            reply,
        );
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let span = span!("readdirplus", req, inode = ino.0, offset);
        let who = who(req);
        self.start(
            (Kind::ReadDirPlus, span),
            |ops| async move { ops.list(who, fh.0, offset, true).await },
            reply,
        );
    }

    fn releasedir(&self, req: &Request, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
        let span = span!("releasedir", req, inode = ino.0);
        self.start((Kind::ReleaseDir, span), |ops| async move { ops.release_directory(fh.0) }, reply);
    }

    /// Names are durable before their operation is answered, so there is nothing left to do.
    fn fsyncdir(&self, req: &Request, ino: INodeNo, reply: ReplyEmpty) {
        let span = span!("fsyncdir", req, inode = ino.0);
        self.start((Kind::FsyncDir, span), |_| async { Ok(()) }, reply);
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let span = span!("statfs", req, inode = ino.0);
        let who = who(req);
        self.start((Kind::StatFs, span), |ops| async move { ops.statfs(who).await }, reply);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        let span = span!("setxattr", req, inode = ino.0, ?name, size = value.len());
        let (who, inode, pair) = (who(req), inode(ino), (bytes(name), Bytes::copy_from_slice(value)));
        self.start(
            (Kind::SetXattr, span),
            |ops| async move { ops.set_xattr(who, inode, pair, flags).await },
            reply,
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let span = span!("getxattr", req, inode = ino.0, ?name, size);
        let (who, inode, name) = (who(req), inode(ino), bytes(name));
        self.start(
            (Kind::GetXattr, span),
            |ops| async move { ops.get_xattr(who, inode, name, size).await },
            reply,
        );
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let span = span!("listxattr", req, inode = ino.0, size);
        let (who, inode) = (who(req), inode(ino));
        self.start(
            (Kind::ListXattr, span),
            |ops| async move { ops.list_xattr(who, inode, size).await },
            reply,
        );
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let span = span!("removexattr", req, inode = ino.0, ?name);
        let (who, inode, name) = (who(req), inode(ino), bytes(name));
        self.start(
            (Kind::RemoveXattr, span),
            |ops| async move { ops.remove_xattr(who, inode, name).await },
            reply,
        );
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: u32, reply: ReplyEmpty) {
        let span = span!("access", req, inode = ino.0, mask);
        let (who, inode) = (who(req), inode(ino));
        self.start((Kind::Access, span), |ops| async move { ops.access(who, inode, mask).await }, reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        (offset, length): (u64, u64),
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let span = span!("fallocate", req, inode = ino.0, offset, length, mode);
        let who = who(req);
        self.start(
            (Kind::Fallocate, span),
            |ops| async move { ops.fallocate(who, fh.0, (offset, length), mode).await },
            reply,
        );
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let span = span!("lseek", req, inode = ino.0, offset, whence);
        self.start((Kind::Lseek, span), |ops| async move { ops.seek(fh.0, offset, whence).await }, reply);
    }

    /// Asked by isatty(3) of every file that a script reads. We have no ioctl of our own.
    fn ioctl(&self, reply: ReplyEmpty) {
        reply.error(Errno::NOTTY);
    }

    /// Left to the kernel, which reads and writes instead once it has got this answer.
    fn copy_file_range(&self, reply: ReplyEmpty) {
        reply.error(Errno::NOSYS);
    }

    /// Files are always ready; after this answer the kernel says so itself.
    fn poll(&self, reply: ReplyEmpty) {
        reply.error(Errno::NOSYS);
    }
}
