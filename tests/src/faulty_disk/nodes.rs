//! Which file an inode or a handle of the kernel means.

use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::UNIX_EPOCH;

const ROOT: u64 = 1;

/// Everything the kernel knows by number.
pub(super) struct Nodes {
    known: Mutex<Known>,
}

struct Known {
    paths: BTreeMap<u64, PathBuf>,
    inodes: BTreeMap<PathBuf, u64>,
    open: BTreeMap<u64, (u64, Arc<File>)>,
    last: u64,
}

impl Nodes {
    pub(super) fn new(root: &Path) -> Self {
        let known = Known {
            paths: BTreeMap::from([(ROOT, root.to_owned())]),
            inodes: BTreeMap::from([(root.to_owned(), ROOT)]),
            open: BTreeMap::new(),
            last: ROOT,
        };
        Self { known: Mutex::new(known) }
    }

    pub(super) fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        self.known().paths.get(&inode.0).cloned().ok_or(Errno::ENOENT)
    }

    pub(super) fn child(&self, parent: INodeNo, name: &std::ffi::OsStr) -> Result<PathBuf, Errno> {
        Ok(self.path(parent)?.join(name))
    }

    /// Number and attributes of what stands at `path`.
    pub(super) fn look_up(&self, path: &Path) -> Result<FileAttr, Errno> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(attributes(self.known().number(path), &metadata))
    }

    /// Attributes, also of a file that is open and has no name any more.
    pub(super) fn attributes(&self, inode: INodeNo, handle: Option<FileHandle>) -> Result<FileAttr, Errno> {
        let open = self.known().open_file(inode, handle);
        let metadata = match open {
            Some(file) => file.metadata()?,
            None => std::fs::symlink_metadata(self.path(inode)?)?,
        };
        Ok(attributes(inode.0, &metadata))
    }

    pub(super) fn opened(&self, inode: u64, file: File) -> FileHandle {
        let mut known = self.known();
        known.last += 1;
        let handle = known.last;
        known.open.insert(handle, (inode, Arc::new(file)));
        FileHandle(handle)
    }

    pub(super) fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        self.known().open.get(&handle.0).map(|(_, file)| file.clone()).ok_or(Errno::EBADF)
    }

    pub(super) fn closed(&self, handle: FileHandle) {
        self.known().open.remove(&handle.0);
    }

    /// The name is gone; whoever has the file open keeps its number.
    pub(super) fn removed(&self, path: &Path) {
        self.known().inodes.remove(path);
    }

    pub(super) fn renamed(&self, from: &Path, to: &Path) {
        let mut known = self.known();
        if let Some(inode) = known.inodes.remove(from) {
            known.inodes.insert(to.to_owned(), inode);
            known.paths.insert(inode, to.to_owned());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of the nodes panics")
    }
}

impl Known {
    fn number(&mut self, path: &Path) -> u64 {
        if let Some(&inode) = self.inodes.get(path) {
            return inode;
        }
        self.last += 1;
        self.inodes.insert(path.to_owned(), self.last);
        self.paths.insert(self.last, path.to_owned());
        self.last
    }

    fn open_file(&self, inode: INodeNo, handle: Option<FileHandle>) -> Option<Arc<File>> {
        let by_handle = handle.and_then(|handle| self.open.get(&handle.0));
        let any = || self.open.values().find(|(owner, _)| *owner == inode.0);
        by_handle.or_else(any).map(|(_, file)| file.clone())
    }
}

fn attributes(inode: u64, metadata: &Metadata) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: metadata.accessed().unwrap_or(UNIX_EPOCH),
        mtime: metadata.modified().unwrap_or(UNIX_EPOCH),
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if metadata.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (metadata.permissions().mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
