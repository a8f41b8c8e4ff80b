//! How an outcome leaves: each reply of the transport takes what its operation ends in.

use crate::convert::{file_attr, file_type};
use crate::errno::errno;
use crate::kernel::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Statfs,
};
use crate::listing::{AFTER_DOT, AFTER_DOT_DOT};
use crate::ops::{Entries, Entry, Opened, Shown, XattrAnswer};
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::limits::NAME_BYTES_MAX;
use cairn_core::namespace::answer::FileSystemStats;
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::time::Timestamp;
use cairn_core::units::BLOCK_BYTES;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::task::Context;
use std::time::Duration;

/// Inode numbers are never reused, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// A reply that an outcome `T` can be given to.
pub(crate) trait Respond<T>: Send + Sync + 'static {
    /// Sends the outcome to the kernel.
    fn respond(self, outcome: Result<T, FsError>);

    /// Whether nobody waits for it any more, and what works on it may stop. If not, `context` is woken when that changes.
    fn is_given_up(&self, context: &Context<'_>) -> bool;
}

macro_rules! respond {
    ($reply:ty, $outcome:ty, $send:expr) => {
        impl Respond<$outcome> for $reply {
            fn respond(self, outcome: Result<$outcome, FsError>) {
                let send: fn($reply, $outcome) = $send;
                match outcome {
                    Ok(outcome) => send(self, outcome),
                    Err(error) => self.error(Errno::from_raw_os_error(errno(&error))),
                }
            }

            fn is_given_up(&self, context: &Context<'_>) -> bool {
                self.is_given_up(context)
            }
        }
    };
}

/// A reply that hands a new handle over, and what is done if the kernel does not take it: then it will never end it.
pub(crate) struct OrRelease<R, F> {
    reply: R,
    release: F,
}

impl<R, F: FnOnce(u64)> OrRelease<R, F> {
    pub(crate) fn new(reply: R, release: F) -> Self {
        Self { reply, release }
    }

    fn hand_over(self, opened: Opened, send: impl FnOnce(R, FileHandle, FopenFlags) -> bool) {
        if !send(self.reply, FileHandle(opened.handle), fopen_flags(opened)) {
            (self.release)(opened.handle);
        }
    }
}

impl<F: FnOnce(u64) + Send + Sync + 'static> Respond<Opened> for OrRelease<ReplyOpen, F> {
    fn respond(self, outcome: Result<Opened, FsError>) {
        match outcome {
            Ok(opened) => self.hand_over(opened, ReplyOpen::opened),
            Err(error) => self.reply.error(Errno::from_raw_os_error(errno(&error))),
        }
    }

    fn is_given_up(&self, context: &Context<'_>) -> bool {
        self.reply.is_given_up(context)
    }
}

impl<F: FnOnce(u64) + Send + Sync + 'static> Respond<(Entry, Opened)> for OrRelease<ReplyCreate, F> {
    fn respond(self, outcome: Result<(Entry, Opened), FsError>) {
        match outcome {
            Ok((Entry { shown: Some(Shown { attr, keep }), keep: name_keep }, opened)) => {
                let keep = keep.min(name_keep);
                self.hand_over(opened, |reply, handle, flags| {
                    reply.created(&keep, &file_attr(&attr), GENERATION, handle, flags)
                });
            }
            // A name that was just made leads somewhere.
            Ok((Entry { shown: None, .. }, opened)) => {
                (self.release)(opened.handle);
                self.reply.error(Errno::IO);
            }
            Err(error) => self.reply.error(Errno::from_raw_os_error(errno(&error))),
        }
    }

    fn is_given_up(&self, context: &Context<'_>) -> bool {
        self.reply.is_given_up(context)
    }
}

respond!(ReplyEmpty, (), |reply, ()| reply.ok());
respond!(ReplyData, Bytes, |reply, bytes| reply.data(&bytes));
respond!(ReplyEntry, Entry, |reply, entry| match entry.shown {
    Some(shown) => {
        reply.entry_with_ttls(&shown.keep, &entry.keep, &file_attr(&shown.attr), GENERATION);
    }
    None => reply.entry(&entry.keep, &file_attr(&nobody()), GENERATION),
});
respond!(ReplyAttr, Shown, |reply, shown| reply.attr(&shown.keep, &file_attr(&shown.attr)));
respond!(ReplyWrite, u32, |reply, written| reply.written(written));
respond!(ReplyLseek, u64, |reply, offset| reply.offset(offset as i64));
respond!(ReplyXattr, XattrAnswer, |reply, answer| match answer {
    XattrAnswer::Size(size) => reply.size(size),
    XattrAnswer::Data(data) => reply.data(&data),
    XattrAnswer::BufferTooSmall => reply.error(Errno::RANGE),
});
respond!(ReplyStatfs, FileSystemStats, |reply, stats| {
    let (blocks, free) = (stats.total_bytes / BLOCK_BYTES, stats.free_bytes / BLOCK_BYTES);
    // Inodes are not preallocated: as many more fit as there is room for one block each.
    let (inodes, block) = (stats.inodes.saturating_add(free), BLOCK_BYTES as u32);
    reply.statfs(&Statfs {
        blocks,
        free,
        available: free,
        inodes,
        free_inodes: free,
        block_bytes: block,
        name_bytes_max: NAME_BYTES_MAX as u32,
    });
});
respond!(ReplyDirectory, Entries, |mut reply, entries| {
    fill(&mut reply, &entries);
    reply.ok();
});
respond!(ReplyDirectoryPlus, Entries, |mut reply, entries| {
    fill_with_attrs(&mut reply, &entries);
    reply.ok();
});

fn fopen_flags(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.no_flush);
    flags
}

/// Adds entries until the kernel's buffer is full.
fn fill(reply: &mut ReplyDirectory, entries: &Entries) -> bool {
    let dots = [(AFTER_DOT, ".", entries.inode), (AFTER_DOT_DOT, "..", entries.parent)];
    let full = dots.iter().filter(|(cookie, ..)| entries.cookie < *cookie).any(|(cookie, name, inode)| {
        reply.add(INodeNo(inode.get()), *cookie, file_type(NodeKind::Directory), name)
    });
    full || entries.rest().iter().any(|entry| {
        let name = OsStr::from_bytes(&entry.name);
        reply.add(INodeNo(entry.inode.get()), entry.cookie, file_type(entry.kind), name)
    })
}

/// As [`fill`]. Entries whose inode vanished between name and attributes are left out, as if removed a moment earlier.
fn fill_with_attrs(reply: &mut ReplyDirectoryPlus, entries: &Entries) -> bool {
    let dots = [(AFTER_DOT, ".", entries.inode), (AFTER_DOT_DOT, "..", entries.parent)];
    let full = dots.iter().filter(|(cookie, ..)| entries.cookie < *cookie).any(|(cookie, name, inode)| {
        let attr = file_attr(&nameless_directory(*inode));
        reply.add(*cookie, name, &Duration::ZERO, &attr, GENERATION)
    });
    full || entries.rest().iter().any(|entry| {
        let Some(attr) = entry.attr.as_deref().map(file_attr) else { return false };
        let name = OsStr::from_bytes(&entry.name);
        reply.add(entry.cookie, name, &entries.keep(entry), &attr, GENERATION)
    })
}

/// Inode 0 says that there is none, for as long as the entry is kept.
fn nobody() -> Attr {
    nameless_directory(cairn_core::ids::InodeId(0))
}

/// The kernel takes inode number and kind of `.` and `..` and ignores the rest.
fn nameless_directory(inode: cairn_core::ids::InodeId) -> Attr {
    let time = Timestamp::default();
    Attr {
        inode,
        kind: NodeKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        links: 2,
        size: 0,
        mapped_bytes: 0,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        change: 0,
        data_change: 0,
        policy: cairn_core::ids::PolicyId::DEFAULT,
    }
}
