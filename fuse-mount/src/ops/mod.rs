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
use crate::kernel_cache::KernelCache;
use crate::metrics::Metrics;
use cairn_client::fs::FileSystem;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use privileges::Privileges;
use std::sync::Arc;
use std::time::Duration;

/// One mount: the client below it and what the kernel holds open in it.
pub(crate) struct Ops {
    client: FileSystem,
    files: Handles<FileHandle>,
    directories: Handles<OpenDirectory>,
    privileges: Privileges,
    kernel: Arc<KernelCache>,
    metrics: Arc<Metrics>,
}

/// Attributes, and how long the kernel may keep them.
pub(crate) struct Shown {
    pub(crate) attr: Attr,
    pub(crate) keep: Duration,
}

/// What a name leads to, and how long the kernel may keep that.
pub(crate) struct Entry {
    /// `None`: nothing.
    pub(crate) shown: Option<Shown>,
    pub(crate) keep: Duration,
}

impl Ops {
    /// A mount on top of `client`.
    pub(crate) fn new(client: FileSystem, kernel: Arc<KernelCache>, metrics: Arc<Metrics>) -> Self {
        let (files, directories) = (Handles::default(), Handles::default());
        let privileges = Privileges::default();
        Self { client, files, directories, privileges, kernel, metrics }
    }

    /// The client below it.
    pub(crate) fn client(&self) -> &FileSystem {
        &self.client
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Open files and open directories.
    pub(crate) fn open_handles(&self) -> (usize, usize) {
        (self.files.count(), self.directories.count())
    }

    fn shown(&self, attr: Attr) -> Shown {
        let keep = self.kernel.attr_for(&self.client, &attr);
        Shown { attr, keep }
    }

    fn entry(&self, parent: InodeId, name: &Name, attr: Attr) -> Entry {
        let keep = self.kernel.name_for(&self.client, parent, name, Some(attr.inode));
        Entry { shown: Some(self.shown(attr)), keep }
    }

    /// A name that leads nowhere: worth keeping, or an error.
    fn no_entry(&self, parent: InodeId, name: &Name) -> Result<Entry, FsError> {
        let keep = self.kernel.name_for(&self.client, parent, name, None);
        if keep.is_zero() { Err(FsError::NotFound) } else { Ok(Entry { shown: None, keep }) }
    }
}

/// The mount itself, where no program asks: background work for what is open already.
fn ourselves() -> Credentials {
    crate::credentials::caller(0, 0)
}
