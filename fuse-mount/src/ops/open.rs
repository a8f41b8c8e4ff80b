//! The life of an open file: create, open, flush at each close(2), release after the last.

use super::privileges::Checked;
use super::{Entry, Ops, ourselves};
use cairn_client::fs::{FileSystem, OpenFile, OpenFlags};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use tokio::sync::OnceCell;

/// An open file.
pub(crate) struct FileHandle {
    /// As it was opened.
    pub(crate) file: OpenFile,
    flags: OpenFlags,
    /// Whether writes to it still take privileges away.
    pub(super) checked: Checked,
    /// The same inode opened the other way as to O_APPEND, made when first needed.
    other: OnceCell<OpenFile>,
}

/// How the kernel shall treat a file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its number from now on.
    pub(crate) handle: u64,
    /// Pages cached from earlier opens are still right.
    pub(crate) keep_cache: bool,
    /// Reads and writes bypass the page cache.
    pub(crate) direct: bool,
    /// Nothing can be lost at close(2), so the kernel need not ask.
    pub(crate) no_flush: bool,
}

impl FileHandle {
    /// The file to write through. Whether a write appends is said by each request, not by open(2): fcntl(F_SETFL) changes
    /// it, and pages written back from a shared mapping come through any handle, at their own offset.
    pub(crate) async fn writer(&self, client: &FileSystem, append: bool) -> Result<&OpenFile, FsError> {
        if append == self.flags.append {
            return Ok(&self.file);
        }
        let flags = OpenFlags { append, truncate: false, exclusive: false, ..self.flags };
        self.other
            .get_or_try_init(|| async { client.open(&ourselves(), self.file.inode(), flags).await })
            .await
    }
}

impl Ops {
    pub(crate) async fn create(
        &self,
        who: Credentials,
        parent: InodeId,
        name: Result<Name, FsError>,
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), FsError> {
        let name = name?;
        let (attr, file) = self.client.create(&who, parent, &name, mode & 0o7777, flags).await?;
        let checked = Checked::default();
        self.privileges.created(&attr, &checked);
        Ok((self.entry(parent, &name, attr), self.opened(file, flags, checked)))
    }

    pub(crate) async fn open(
        &self,
        who: Credentials,
        inode: InodeId,
        flags: OpenFlags,
    ) -> Result<Opened, FsError> {
        let file = self.client.open(&who, inode, flags).await?;
        Ok(self.opened(file, flags, Checked::default()))
    }

    fn opened(&self, file: OpenFile, flags: OpenFlags, checked: Checked) -> Opened {
        let keep_cache = file.keep_cache();
        // The kernel puts appended bytes into its cache at the end that it knows of, which another mount may have moved.
        // A file that is only appended to has no use for that cache.
        let direct = flags.direct || (flags.append && !flags.read);
        let handle = self.files.insert(FileHandle { file, flags, checked, other: OnceCell::new() });
        Opened { handle, keep_cache, direct, no_flush: !flags.write }
    }

    /// close(2) of one of the descriptors: reports what went wrong with any write so far.
    pub(crate) async fn flush(&self, handle: u64) -> Result<(), FsError> {
        let handle = self.files.get(handle)?;
        self.client.flush(&handle.file).await
    }

    pub(crate) async fn fsync(&self, handle: u64) -> Result<(), FsError> {
        let handle = self.files.get(handle)?;
        self.client.fsync(&handle.file).await
    }

    /// The last descriptor and the last mapping are gone.
    pub(crate) async fn release(&self, handle: u64) -> Result<(), FsError> {
        let handle = self.files.remove(handle)?;
        self.privileges.not_fresh(handle.file.inode());
        if let Some(other) = handle.other.get() {
            self.client.release(other).await;
        }
        self.client.release(&handle.file).await;
        Ok(())
    }
}
