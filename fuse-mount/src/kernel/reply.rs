//! Answers. Each kind can say what its requests may be told; one that is dropped without a word says EIO itself.

use super::abi::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, OUT_HEADER_BYTES, put_attr, put_dirent,
    put_entry, put_open,
};
use super::channel::Channel;
use super::request::Unique;
use super::underway::Underway;
use super::wire::Writer;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// An answer without bytes of files or names is no longer.
const SHORT_BYTES: usize = 160;

/// Where the requests of one receiving thread come from.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) channel: Arc<Channel>,
    /// The channel's number in its session.
    pub(crate) number: usize,
    pub(crate) underway: Arc<Underway>,
}

/// The right to answer one request.
pub(crate) struct Reply {
    port: Port,
    unique: Unique,
    /// Its work may be dropped when nobody waits for it.
    may_be_dropped: bool,
    answered: bool,
}

impl Reply {
    /// For a request that is under way.
    pub(crate) fn new(port: Port, unique: Unique, may_be_dropped: bool) -> Self {
        Self { port, unique, may_be_dropped, answered: false }
    }

    /// Whether the work may end: nobody waits for it, and nothing stays half done.
    pub(crate) fn is_given_up(&self, context: &Context<'_>) -> bool {
        self.may_be_dropped && self.port.underway.is_given_up(self.unique, context)
    }

    /// Refuses.
    pub(crate) fn error(mut self, error: Errno) {
        self.send(error.raw_os_error(), &[]);
    }

    fn short(mut self, fill: impl FnOnce(&mut Writer)) -> bool {
        let mut body = Writer::with_capacity(SHORT_BYTES);
        fill(&mut body);
        self.send(0, &body.finish())
    }

    /// Whether the kernel has taken it.
    fn send(&mut self, error: i32, body: &[u8]) -> bool {
        self.answered = true;
        if !self.port.underway.end(self.unique) {
            return false;
        }
        answer(&self.port.channel, self.unique, error, body)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Errno::IO.raw_os_error(), &[]);
        }
    }
}

/// Sends an answer. Whether the kernel has taken it.
pub(crate) fn answer(channel: &Channel, unique: Unique, error: i32, body: &[u8]) -> bool {
    let mut header = Writer::with_capacity(OUT_HEADER_BYTES);
    header.u32((OUT_HEADER_BYTES + body.len()) as u32).i32(-error).u64(unique.0);
    let header = header.finish();
    match channel.send(&[IoSlice::new(&header), IoSlice::new(body)]) {
        Ok(()) => true,
        // It was given up in the kernel, or everything was.
        Err(error @ (Errno::NOENT | Errno::NODEV)) => {
            tracing::debug!(unique = unique.0, %error, "nobody waits for an answer");
            false
        }
        Err(error) => {
            tracing::error!(unique = unique.0, %error, "the kernel refuses an answer");
            false
        }
    }
}

macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name(Reply);

        impl From<Reply> for $name {
            fn from(reply: Reply) -> Self {
                Self(reply)
            }
        }

        impl $name {
            pub(crate) fn error(self, error: Errno) {
                self.0.error(error);
            }

            /// As [`Reply::is_given_up`].
            pub(crate) fn is_given_up(&self, context: &Context<'_>) -> bool {
                self.0.is_given_up(context)
            }
        }
    )*};
}

replies! {
    /// Done.
    ReplyEmpty,
    /// Bytes.
    ReplyData,
    /// What a name leads to.
    ReplyEntry,
    /// Attributes.
    ReplyAttr,
    /// So many bytes were written.
    ReplyWrite,
    /// An offset.
    ReplyLseek,
    /// A file, or a directory, is open.
    ReplyOpen,
    /// What a new name leads to, which is open.
    ReplyCreate,
    /// A value, or how large it is.
    ReplyXattr,
    /// The file system's size.
    ReplyStatfs,
}

impl ReplyEmpty {
    pub(crate) fn ok(mut self) {
        self.0.send(0, &[]);
    }
}

impl ReplyData {
    pub(crate) fn data(mut self, bytes: &[u8]) {
        self.0.send(0, bytes);
    }
}

impl ReplyEntry {
    pub(crate) fn entry(self, ttl: &Duration, attr: &FileAttr, generation: Generation) {
        self.entry_with_ttls(ttl, ttl, attr, generation);
    }

    /// Inode 0: there is none, for as long as the entry is kept.
    pub(crate) fn entry_with_ttls(
        self,
        attr_ttl: &Duration,
        entry_ttl: &Duration,
        attr: &FileAttr,
        generation: Generation,
    ) {
        self.0.short(|out| put_entry(out, (*entry_ttl, *attr_ttl), attr, generation));
    }
}

impl ReplyAttr {
    pub(crate) fn attr(self, ttl: &Duration, attr: &FileAttr) {
        self.0.short(|out| put_attr(out, *ttl, attr));
    }
}

impl ReplyWrite {
    pub(crate) fn written(self, bytes: u32) {
        self.0.short(|out| {
            out.u32(bytes).u32(0);
        });
    }
}

impl ReplyLseek {
    pub(crate) fn offset(self, offset: i64) {
        self.0.short(|out| {
            out.i64(offset);
        });
    }
}

impl ReplyOpen {
    /// False: nobody will ever close it.
    #[must_use]
    pub(crate) fn opened(self, handle: FileHandle, flags: FopenFlags) -> bool {
        self.0.short(|out| put_open(out, handle, flags))
    }
}

impl ReplyCreate {
    /// False: nobody will ever close it.
    #[must_use]
    pub(crate) fn created(
        self,
        ttl: &Duration,
        attr: &FileAttr,
        generation: Generation,
        handle: FileHandle,
        flags: FopenFlags,
    ) -> bool {
        self.0.short(|out| {
            put_entry(out, (*ttl, *ttl), attr, generation);
            put_open(out, handle, flags);
        })
    }
}

impl ReplyXattr {
    pub(crate) fn size(self, size: u32) {
        self.0.short(|out| {
            out.u32(size).u32(0);
        });
    }

    pub(crate) fn data(mut self, bytes: &[u8]) {
        self.0.send(0, bytes);
    }
}

/// `struct fuse_kstatfs`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statfs {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    /// To ordinary users.
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
    pub(crate) block_bytes: u32,
    pub(crate) name_bytes_max: u32,
}

impl ReplyStatfs {
    pub(crate) fn statfs(self, stats: &Statfs) {
        self.0.short(|out| {
            out.u64(stats.blocks)
                .u64(stats.free)
                .u64(stats.available)
                .u64(stats.inodes)
                .u64(stats.free_inodes);
            out.u32(stats.block_bytes).u32(stats.name_bytes_max).u32(stats.block_bytes).zeros(28);
        });
    }
}

/// Entries, as many as the kernel has room for.
struct Listing {
    reply: Reply,
    room: usize,
    entries: Writer,
}

impl Listing {
    fn new(reply: Reply, room: u32) -> Self {
        Self { reply, room: room as usize, entries: Writer::with_capacity((room as usize).min(128 << 10)) }
    }

    /// Whether there is no room for so many bytes more.
    fn is_full(&self, bytes: usize) -> bool {
        self.entries.len() + bytes.next_multiple_of(8) > self.room
    }

    fn pad(&mut self) {
        let length = self.entries.len();
        self.entries.zeros(length.next_multiple_of(8) - length);
    }

    fn ok(mut self) {
        let entries = std::mem::replace(&mut self.entries, Writer::with_capacity(0)).finish();
        self.reply.send(0, &entries);
    }
}

/// Names.
pub(crate) struct ReplyDirectory(Listing);

/// Names with attributes.
pub(crate) struct ReplyDirectoryPlus(Listing);

macro_rules! listings {
    ($($name:ident,)*) => {$(
        impl $name {
            /// With room for so many bytes.
            pub(crate) fn new(reply: Reply, room: u32) -> Self {
                Self(Listing::new(reply, room))
            }

            pub(crate) fn ok(self) {
                self.0.ok();
            }

            pub(crate) fn error(self, error: Errno) {
                self.0.reply.error(error);
            }

            /// As [`Reply::is_given_up`].
            pub(crate) fn is_given_up(&self, context: &Context<'_>) -> bool {
                self.0.reply.is_given_up(context)
            }
        }
    )*};
}

listings! {
    ReplyDirectory,
    ReplyDirectoryPlus,
}

impl ReplyDirectory {
    /// Adds an entry, unless there is no room for it: then true.
    #[must_use]
    pub(crate) fn add(&mut self, ino: INodeNo, cookie: u64, kind: FileType, name: impl AsRef<OsStr>) -> bool {
        const DIRENT_BYTES: usize = 24;
        let name = name.as_ref().as_bytes();
        if self.0.is_full(DIRENT_BYTES + name.len()) {
            return true;
        }
        put_dirent(&mut self.0.entries, ino, cookie, kind, name);
        self.0.pad();
        false
    }
}

impl ReplyDirectoryPlus {
    /// Adds an entry, unless there is no room for it: then true.
    #[must_use]
    pub(crate) fn add(
        &mut self,
        cookie: u64,
        name: impl AsRef<OsStr>,
        ttl: &Duration,
        attr: &FileAttr,
        generation: Generation,
    ) -> bool {
        const DIRENTPLUS_BYTES: usize = 152;
        let name = name.as_ref().as_bytes();
        if self.0.is_full(DIRENTPLUS_BYTES + name.len()) {
            return true;
        }
        put_entry(&mut self.0.entries, (*ttl, *ttl), attr, generation);
        put_dirent(&mut self.0.entries, attr.ino, cookie, attr.kind, name);
        self.0.pad();
        false
    }
}
