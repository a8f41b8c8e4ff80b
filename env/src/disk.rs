//! Files: the blocking disk door of journal and chunk store.
//!
//! Calls block; callers own the thread that may wait. Durability follows POSIX: bytes are durable after `sync_data` or
//! `sync_all` of their file, a name after `sync_dir` of its directory. A failed sync is final: the bytes may be lost and
//! the file must not be synced again (I3). No mmap.

use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    Write,
    /// Made when absent, reading and writing.
    Create,
    /// Must be absent.
    CreateNew,
}

/// Space of the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Capacity.
    pub total: u64,
    /// Available to us.
    pub free: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirItem {
    /// Last component.
    pub name: std::ffi::OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The disk door.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file to see what its medium has, whatever memory remembers of it.
    fn open_medium(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>>;
    /// Makes a directory and its missing parents (mode 0700).
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>>;
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames atomically, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Space of the file system below `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the exclusive advisory lock of a file (made when absent) for the life of the guard.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file. All calls take positions, so a file may be shared by threads.
pub trait DiskFile: Send + Sync {
    /// Reads into `buffer` from `offset`; short only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills all of `buffer` if that needs no waiting for the device (RWF_NOWAIT), and tells whether it did. Such a call may
    /// be made by a thread that must not block; `false` is always a right answer.
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        let _ = (buffer, offset);
        false
    }
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all parts one after the other from `offset`, in one call where the system allows.
    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for part in parts {
            self.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }
    /// fdatasync(2).
    fn sync_data(&self) -> io::Result<()>;
    /// fsync(2).
    fn sync_all(&self) -> io::Result<()>;
    /// Starts writing dirty pages of the range back, without waiting and without any promise (sync_file_range).
    fn start_writeback(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros).
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Allocates blocks (fallocate(2), extending the length).
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Bytes allocated on the device (`st_blocks * 512`).
    fn allocated(&self) -> io::Result<u64>;
}

/// A file past the page cache. What was written and not synced may be written out first, and is then seen.
pub trait MediumFile: Send + Sync {
    /// Reads into `buffer` from `offset`; short only at the end of the file. Whole pages cost least. What memory keeps of the
    /// file for others stays there, where the file system allows.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Whether an error says that the file, or what it holds, is gone or unreadable: neither a want of memory or descriptors, nor a
/// machine that stops.
pub fn is_damage(error: &io::Error) -> bool {
    const DAMAGE: [Errno; 7] =
        [Errno::IO, Errno::UCLEAN, Errno::NODATA, Errno::REMOTEIO, Errno::ISDIR, Errno::NOTDIR, Errno::LOOP];
    if error.kind() == io::ErrorKind::NotFound {
        return true;
    }
    // The doors name the file around the system's error.
    let named = error.get_ref().and_then(std::error::Error::source);
    let inner = named.and_then(|source| source.downcast_ref::<io::Error>()).unwrap_or(error);
    inner.raw_os_error().is_some_and(|code| DAMAGE.iter().any(|errno| errno.raw_os_error() == code))
}

/// Reads a whole small file.
///
/// # Errors
/// As the door's; `InvalidData` beyond `limit` bytes.
pub fn read_small(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = file.len()?;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too large", path.display())));
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces a small file atomically and durably: temporary name, sync, rename, sync of the directory.
///
/// # Errors
/// As the door's. After `StorageFull` and `QuotaExceeded` the old contents are still there, and it can be tried again; after any
/// other error either may be there.
pub fn replace_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary: PathBuf = path.to_owned();
    temporary.as_mut_os_string().push(".new");
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    if let Err(error) = file.write_all_at(bytes, 0) {
        // Where there was no room for it, it shall not take what room there is; at worst the next attempt removes it.
        let _ = disk.remove_file(&temporary);
        return Err(error);
    }
    file.sync_all().map_err(of_sync)?;
    disk.rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent).map_err(of_sync),
        None => Ok(()),
    }
}

/// The error of a sync, never taken for a want of room that passes: what a failed sync leaves on the disk nobody knows, and a
/// second one may succeed all the same (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
pub fn of_sync(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            io::Error::other(format!("sync: {error}"))
        }
        _ => error,
    }
}
