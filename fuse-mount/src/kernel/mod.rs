//! The kernel's side: the protocol of /dev/fuse, spoken here and nowhere else.
//!
//! `mount` → `handshake` → `session`, whose threads take each message from their `channel` through `request` and `serve` to a
//! callback of the `filesystem`, which answers by `reply`. What the kernel waits for stands in `underway`; of programs that are
//! killed meanwhile `interrupts` takes care, with what `caller` finds out. `notify` goes the other way.

mod abi;
mod caller;
mod channel;
mod filesystem;
mod handshake;
mod interrupts;
mod mount;
mod notify;
mod reply;
mod request;
mod serve;
mod session;
mod underway;
mod wire;

#[cfg(test)]
mod message_test;

pub(crate) use abi::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags, TimeOrNow, Version,
    WriteFlags,
};
pub(crate) use filesystem::{Filesystem, WriteCall};
pub(crate) use handshake::{Offer, Wanted};
pub(crate) use mount::{Options, mount};
pub(crate) use notify::Notifier;
pub(crate) use reply::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Statfs,
};
pub(crate) use request::{Request, SetAttr};
pub(crate) use serve::SessionAcl;
pub(crate) use session::Session;
