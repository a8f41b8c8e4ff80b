//! Open directories: page by page, the next one fetched while the kernel takes this one in.

use super::{Opened, Ops};
use crate::listing::{AFTER_DOT_DOT, Listing, Page};
use cairn_client::fs::{DirPage, FileSystem};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::DirectoryEntry;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use cairn_env::errand;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Entries of the first page. The kernel always asks for attributes at first, and goes on only if they are looked at; it takes
/// some microseconds for each. In a directory known to have more, nobody has asked for one yet: the first answer is `.` and
/// `..`, the next so many names, and then it is known what is wanted.
const FIRST_ENTRIES: usize = 64;
/// Entries of a page with attributes: about what one getdents(2) of libc takes (128 KiB).
const ENTRIES_WITH_ATTRS: usize = 512;
/// Entries of a page of names alone. Smaller than the kernel would take, so that the master, this process and the kernel
/// work at the same time, on pages that follow each other.
const NAMES: usize = 1024;
/// Pages of a large directory on their way at a time.
const PAGES_ASKED: usize = 3;
/// Pages that may wait for the kernel; one more is on its way.
const PAGES_AHEAD: usize = 1;

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
    /// Whether the next page has come.
    fn is_at_hand(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| !ahead.pages.is_empty())
    }
}

/// Pages on their way, one after the other.
struct Ahead {
    with_attrs: bool,
    pages: mpsc::Receiver<Result<Page, FsError>>,
}

/// What follows a cookie in a directory: more, as a rule, than fits the kernel's buffer.
pub(crate) struct Entries {
    /// The directory, for `.`.
    pub(crate) inode: InodeId,
    /// Its parent, for `..`.
    pub(crate) parent: InodeId,
    /// The kernel has everything up to here.
    pub(crate) cookie: u64,
    /// No more of them are shown.
    most: usize,
    page: Arc<Page>,
    ops: Arc<Ops>,
}

impl Entries {
    /// Entries after `.` and `..`.
    pub(crate) fn rest(&self) -> &[DirectoryEntry] {
        let rest = &self.page.entries[self.page.position(self.cookie)..];
        &rest[..rest.len().min(self.most)]
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
        let is_large =
            self.client.known_size(directory.inode).is_some_and(|size| size > FIRST_ENTRIES as u64);
        let is_first = after == AFTER_DOT_DOT && is_large;
        if is_first && with_attrs {
            reading.ahead = Some(self.fetch_ahead(who.clone(), directory.inode, after, false));
            let parent = self.parent_of(&who, directory.inode, cookie).await;
            let page = Page { after, entries: Vec::new(), end: false, with_attrs };
            let dots = Entries {
                inode: directory.inode,
                parent,
                cookie,
                most: 0,
                page: Arc::new(page),
                ops: self.clone(),
            };
            return Ok(dots);
        }
        let (parent, page) = tokio::join!(
            biased;
            self.parent_of(&who, directory.inode, cookie),
            self.page_after(&who, directory.inode, after, with_attrs, &mut reading),
        );
        let page = page?;
        if reading.ahead.is_none()
            && let Some(next) = reading.listing.wish()
        {
            reading.ahead = Some(self.fetch_ahead(who, directory.inode, next, with_attrs && cookie != 0));
            if !at_hand {
                // This very thread sends the question: before it makes the answer to the kernel, not after.
                tokio::task::yield_now().await;
            }
        }
        let most = if is_first { FIRST_ENTRIES } else { usize::MAX };
        Ok(Entries { inode: directory.inode, parent, cookie, most, page, ops: self.clone() })
    }

    /// The inode shown for `..`, asked only where it is shown. A directory that has just been removed has itself.
    async fn parent_of(&self, who: &Credentials, inode: InodeId, cookie: u64) -> InodeId {
        if cookie >= AFTER_DOT_DOT || inode == InodeId::ROOT {
            return inode;
        }
        if let Some(parent) = self.client.known_parent(inode) {
            return parent;
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
        if let Some(mut ahead) = reading.ahead.take().filter(|ahead| ahead.with_attrs || !with_attrs)
            && let Some(page) = ahead.pages.recv().await
        {
            let page = page?;
            if page.answers(after, with_attrs) {
                reading.ahead = Some(ahead).filter(|_| !page.end);
                return Ok(reading.listing.turn_to(page));
            }
        }
        Ok(reading.listing.turn_to(fetch(&self.client, who, inode, after, with_attrs).await?))
    }

    /// Fetches what follows a cookie, as long as somebody takes it.
    fn fetch_ahead(&self, who: Credentials, inode: InodeId, after: u64, with_attrs: bool) -> Ahead {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let size = self.client.known_size(inode).unwrap_or_default();
        let client = self.client.clone();
        // It ends when nobody takes its pages any more.
        drop(errand::start(async move {
            pages_after(&client, &who, inode, (after, size), with_attrs, &sender).await
        }));
        Ahead { with_attrs, pages }
    }
}

/// Several pages of a large directory are asked for at a time: those after the first as if no name had ever been removed
/// from it, so that cookies are dense. The first that shows a gap ends that.
async fn pages_after(
    client: &FileSystem,
    who: &Credentials,
    inode: InodeId,
    (mut after, size): (u64, u64),
    with_attrs: bool,
    sender: &mpsc::Sender<Result<Page, FsError>>,
) {
    let step = limit(after, with_attrs) as u64;
    let mut is_dense = size > after.saturating_add(step);
    let mut coming = FuturesOrdered::new();
    loop {
        while coming.len() < if is_dense { PAGES_ASKED } else { 1 } {
            coming.push_back(fetch(client, who, inode, after, with_attrs));
            after = after.saturating_add(step);
        }
        let Some(page) = coming.next().await else { return };
        let goes_on = |page: &&Page| !page.end && !page.entries.is_empty();
        let next =
            page.as_ref().ok().filter(goes_on).map(|page| (page.after.saturating_add(step), page.last()));
        if sender.send(page).await.is_err() {
            return;
        }
        let Some((expected, next)) = next else { return };
        if !is_dense || next != expected {
            (is_dense, after) = (false, next);
            coming = FuturesOrdered::new();
        }
    }
}

fn limit(after: u64, with_attrs: bool) -> usize {
    match with_attrs {
        true if after == AFTER_DOT_DOT => FIRST_ENTRIES,
        true => ENTRIES_WITH_ATTRS,
        false => NAMES,
    }
}

async fn fetch(
    client: &FileSystem,
    who: &Credentials,
    inode: InodeId,
    after: u64,
    with_attrs: bool,
) -> Result<Page, FsError> {
    let limit = limit(after, with_attrs);
    let DirPage { entries, end } = client.read_dir(who, inode, after, limit as u32, with_attrs).await?;
    Ok(Page { after, entries, end, with_attrs })
}
