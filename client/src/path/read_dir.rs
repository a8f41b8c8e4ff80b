//! A directory as a stream of entries.

use super::{Client, Error, Metadata, Result};
use bytes::Bytes;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::DirectoryEntry;
use cairn_core::namespace::attr::NodeKind;
use futures::{Stream, stream};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

const PAGE_ENTRIES: u32 = 1024;

/// One name in a directory; never `.` or `..`.
#[derive(Clone, Debug)]
pub struct DirEntry {
    directory: PathBuf,
    entry: DirectoryEntry,
}

impl DirEntry {
    /// The name.
    pub fn file_name(&self) -> &OsStr {
        OsStr::from_bytes(&self.entry.name)
    }

    /// The raw bytes of the name.
    pub fn name_bytes(&self) -> Bytes {
        self.entry.name.clone()
    }

    /// Directory and name.
    pub fn path(&self) -> PathBuf {
        self.directory.join(self.file_name())
    }

    /// What it is.
    pub fn kind(&self) -> NodeKind {
        self.entry.kind
    }

    /// The inode.
    pub fn inode(&self) -> InodeId {
        self.entry.inode
    }

    /// Attributes as they were when the page was read.
    pub fn metadata(&self) -> Option<Metadata> {
        self.entry.attr.as_deref().cloned().map(Metadata)
    }
}

/// The entries of a directory, page by page: each name that was there all the time comes exactly once.
pub struct ReadDir {
    entries: Pin<Box<dyn Stream<Item = Result<DirEntry>> + Send>>,
}

struct State {
    client: Client,
    inode: InodeId,
    path: PathBuf,
    page: VecDeque<DirectoryEntry>,
    after: u64,
    end: bool,
}

impl ReadDir {
    pub(super) fn new(client: Client, inode: InodeId, path: &Path) -> Self {
        let path = path.to_owned();
        let state = State { client, inode, path, page: VecDeque::new(), after: 0, end: false };
        Self { entries: Box::pin(stream::try_unfold(state, next)) }
    }
}

async fn next(mut state: State) -> Result<Option<(DirEntry, State)>> {
    while state.page.is_empty() && !state.end {
        let who = state.client.credentials();
        let page =
            state.client.file_system().read_dir(who, state.inode, state.after, PAGE_ENTRIES, true).await;
        let page = page.map_err(Error::at(&state.path))?;
        state.end = page.end || page.entries.is_empty();
        state.page = page.entries.into();
    }
    let Some(entry) = state.page.pop_front() else {
        return Ok(None);
    };
    state.after = entry.cookie;
    Ok(Some((DirEntry { directory: state.path.clone(), entry }, state)))
}

impl Stream for ReadDir {
    type Item = Result<DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.entries.as_mut().poll_next(cx)
    }
}
