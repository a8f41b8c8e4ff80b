//! Kernel arguments ↔ client calls. What a request means, without a word about how it came or how the answer leaves.

mod attrs;
mod data;
mod directories;
mod names;
mod open;
mod privileges;
mod xattrs;

pub(crate) use data::WriteRequest;
pub(crate) use directories::{Entries, OpenDirectory};
pub(crate) use names::Component;
pub(crate) use open::{FileHandle, Opened};
pub(crate) use xattrs::XattrAnswer;

use crate::handles::Handles;
use crate::just_seen::JustSeen;
use cairn_client::fs::FileSystem;
use cairn_core::namespace::request::Credentials;
use cairn_env::clock::Clock;
use privileges::Privileges;
use std::sync::Arc;

/// One mount: the client below it and what the kernel holds open in it.
pub(crate) struct Ops {
    client: FileSystem,
    files: Handles<FileHandle>,
    directories: Handles<OpenDirectory>,
    privileges: Privileges,
    just_seen: JustSeen,
    clock: Arc<dyn Clock>,
}

impl Ops {
    /// A mount on top of `client`.
    pub(crate) fn new(client: FileSystem, clock: Arc<dyn Clock>) -> Self {
        let (files, directories) = (Handles::default(), Handles::default());
        Self {
            client,
            files,
            directories,
            privileges: Privileges::default(),
            just_seen: JustSeen::default(),
            clock,
        }
    }

    /// Called first with each request but GETATTR: the kernel thread's last LOOKUP is over.
    pub(crate) fn begins(&self, thread: u32) {
        self.just_seen.forget(thread);
    }
}

/// The mount itself, where no program asks: background work for what is open already.
fn ourselves() -> Credentials {
    crate::credentials::caller(0, 0)
}
