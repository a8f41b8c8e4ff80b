//! Open directories: page by page, the next one fetched while the kernel takes this one in.

use super::{Opened, Ops};
use crate::listing::{AFTER_DOT_DOT, Listing, Page};
use cairn_client::fs::{DirPage, FileSystem};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::DirectoryEntry;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Entries of the first page. The kernel always asks for attributes at first, and goes on only if they are looked at.
const FIRST_ENTRIES: usize = 128;
/// Entries of a page with attributes: about what one getdents(2) of libc takes (128 KiB).
const ENTRIES_WITH_ATTRS: usize = 512;
/// Entries of a page of names alone. Smaller than the kernel would take, so that the master, this process and the kernel
/// work at the same time, on pages that follow each other.
const NAMES: usize = 1024;

/// An open directory.
pub(crate) struct OpenDirectory {
    inode: InodeId,
    /// The kernel asks one question at a time for one handle, so nobody waits here for long.
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    listing: Listing,
    ahead: Option<Ahead>,
}

impl Reading {
    /// Whether the page fetched ahead has come.
    fn is_at_hand(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.task.is_finished())
    }
}

/// A page on its way.
struct Ahead {
    after: u64,
    with_attrs: bool,
    task: JoinHandle<Result<DirPage, FsError>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What follows a cookie in a directory: more, as a rule, than fits the kernel's buffer.
pub(crate) struct Entries {
    /// The directory, for `.`.
    pub(crate) inode: InodeId,
    /// Its parent, for `..`.
    pub(crate) parent: InodeId,
    /// The kernel has everything up to here.
    pub(crate) cookie: u64,
    page: Arc<Page>,
    ops: Arc<Ops>,
}

impl Entries {
    /// Entries after `.` and `..`.
    pub(crate) fn rest(&self) -> &[DirectoryEntry] {
        &self.page.entries[self.page.position(self.cookie)..]
    }

    /// How long the kernel may keep an entry and the attributes of its inode.
    pub(crate) fn keep(&self, entry: &DirectoryEntry) -> Duration {
        let (Ok(name), Some(attr)) = (Name::new(entry.name.clone()), &entry.attr) else {
            return Duration::ZERO;
        };
        let (client, kernel) = (&self.ops.client, &self.ops.kernel);
        let name_for = kernel.name_for(client, self.inode, &name, Some(entry.inode));
        name_for.min(kernel.attr_for(client, attr))
    }
}

impl Ops {
    pub(crate) fn open_directory(&self, inode: InodeId) -> Result<Opened, FsError> {
        let handle = self.directories.insert(OpenDirectory { inode, reading: Mutex::default() });
        Ok(Opened { handle, keep_cache: false, direct: false, no_flush: false })
    }

    pub(crate) fn release_directory(&self, handle: u64) -> Result<(), FsError> {
        self.directories.remove(handle).map(drop)
    }

    /// Entries after `cookie`; none when the end is reached.
    pub(crate) async fn list(
        self: &Arc<Self>,
        who: Credentials,
        handle: u64,
        cookie: u64,
        with_attrs: bool,
    ) -> Result<Entries, FsError> {
        let directory = self.directories.get(handle)?;
        let mut reading = directory.reading.lock().await;
        if cookie == 0 {
            *reading = Reading::default();
        }
        let after = cookie.max(AFTER_DOT_DOT);
        let at_hand = reading.is_at_hand();
        let (parent, page) = tokio::join!(
            self.parent_of(&who, directory.inode, cookie),
            self.page_after(&who, directory.inode, after, with_attrs, &mut reading),
        );
        let page = page?;
        if let Some(next) = reading.listing.wish().filter(|_| reading.ahead.is_none()) {
            // Nobody has looked at the attributes of the first page yet: names are the better guess, and the cheaper one.
            let with_attrs = with_attrs && cookie != 0;
            reading.ahead = Some(self.fetch_ahead(who, directory.inode, next, with_attrs));
            if !at_hand {
                // This very thread sends the question: before it makes the answer to the kernel, not after.
                tokio::task::yield_now().await;
            }
        }
        Ok(Entries { inode: directory.inode, parent, cookie, page, ops: self.clone() })
    }

    /// The inode shown for `..`, asked only where it is shown. A directory that has just been removed has itself.
    async fn parent_of(&self, who: &Credentials, inode: InodeId, cookie: u64) -> InodeId {
        if cookie >= AFTER_DOT_DOT || inode == InodeId::ROOT {
            return inode;
        }
        self.client.lookup_parent(who, inode).await.map_or(inode, |attr| attr.inode)
    }

    async fn page_after(
        &self,
        who: &Credentials,
        inode: InodeId,
        after: u64,
        with_attrs: bool,
        reading: &mut Reading,
    ) -> Result<Arc<Page>, FsError> {
        if let Some(page) = reading.listing.find(after, with_attrs) {
            return Ok(page);
        }
        let fits = |ahead: &Ahead| ahead.after == after && (ahead.with_attrs || !with_attrs);
        let (fetched, with_attrs) = match reading.ahead.take().filter(fits) {
            Some(mut ahead) => ((&mut ahead.task).await.map_err(lost)?, ahead.with_attrs),
            None => (fetch(&self.client, who, inode, after, with_attrs).await, with_attrs),
        };
        let DirPage { entries, end } = fetched?;
        Ok(reading.listing.turn_to(Page { after, entries, end, with_attrs }))
    }

    fn fetch_ahead(&self, who: Credentials, inode: InodeId, after: u64, with_attrs: bool) -> Ahead {
        let client = self.client.clone();
        let task = tokio::spawn(async move { fetch(&client, &who, inode, after, with_attrs).await });
        Ahead { after, with_attrs, task }
    }
}

async fn fetch(
    client: &FileSystem,
    who: &Credentials,
    inode: InodeId,
    after: u64,
    with_attrs: bool,
) -> Result<DirPage, FsError> {
    let limit = match with_attrs {
        true if after == AFTER_DOT_DOT => FIRST_ENTRIES,
        true => ENTRIES_WITH_ATTRS,
        false => NAMES,
    };
    client.read_dir(who, inode, after, limit as u32, with_attrs).await
}

fn lost(error: tokio::task::JoinError) -> FsError {
    FsError::Io(format!("reading a directory ahead ended early: {error}"))
}
