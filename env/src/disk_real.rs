//! The disk door over the kernel: buffered positional I/O on ordinary files.
//!
//! Directories are made with mode 0700, files with 0600: what a server stores is nobody else's to read. Interrupted calls
//! are taken up again; a failed sync is passed on and never retried (I3).

use crate::disk::{DirItem, Disk, DiskFile, MediumFile, OpenMode, Space};
use crate::disk_medium::RealMedium;
use rustix::fs::{FallocateFlags, FlockOperation, FsWord, fallocate, flock, fstatfs, statvfs};
use rustix::io::{Errno, ReadWriteFlags, preadv, preadv2, pwritev, retry_on_intr};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most parts of one pwritev(2) (Linux UIO_MAXIOV).
const PARTS_PER_CALL_MAX: usize = 1024;

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

struct RealFile(File);

/// statfs(2).
const TMPFS_MAGIC: FsWord = 0x0102_1994;
/// Longest read of a file system in memory that counts as needing no waiting.
const MEMORY_READ_BYTES_MAX: usize = 64 * 1024;

/// Holds a file open whose advisory lock is ours; the kernel drops the lock with the last descriptor, also on SIGKILL.
struct LockGuard {
    file: File,
}

impl Drop for LockGuard {
    /// Without waiting for the last descriptor (flock(2)): a child of this process has all of them until it executes something.
    fn drop(&mut self) {
        // The lock goes with the descriptor at the latest.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    match mode {
        OpenMode::Read => {}
        OpenMode::Write => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true).truncate(false);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options
}

/// Names the file in the error, keeping its kind: what reaches a log or a user must say where to look.
fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), AtPath { path: path.to_owned(), error }))
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
struct AtPath {
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = at(path, options(mode).open(path))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_medium(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        Ok(Arc::new(at(path, RealMedium::open(path))?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        at(path, DirBuilder::new().recursive(true).mode(0o700).create(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        let mut items = Vec::new();
        for entry in at(path, fs::read_dir(path))? {
            let entry = at(path, entry)?;
            let is_dir = at(path, entry.file_type())?.is_dir();
            items.push(DirItem { name: entry.file_name(), is_dir });
        }
        items.sort();
        Ok(items)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        at(path, fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        at(path, fs::remove_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        at(from, fs::rename(from, to))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        at(path, File::open(path).and_then(|directory| directory.sync_all()))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => at(path, Err(error)),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stats = at(path, retry_on_intr(|| statvfs(path)).map_err(io::Error::from))?;
        Ok(Space {
            total: stats.f_blocks.saturating_mul(stats.f_frsize),
            free: stats.f_bavail.saturating_mul(stats.f_frsize),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = at(path, options(OpenMode::Create).open(path))?;
        let taken = retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive));
        at(path, taken.map_err(io::Error::from))?;
        Ok(Box::new(LockGuard { file }))
    }
}

impl RealFile {
    fn is_in_memory(&self) -> bool {
        fstatfs(&self.0).is_ok_and(|status| status.f_type == TMPFS_MAGIC)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        let wanted = buffer.len();
        let read = match preadv2(&self.0, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            // tmpfs cannot say what is swapped out; it has no device to wait for otherwise. Long copies are left to others.
            Err(Errno::OPNOTSUPP) if wanted <= MEMORY_READ_BYTES_MAX && self.is_in_memory() => {
                preadv(&self.0, &mut [IoSliceMut::new(buffer)], offset)
            }
            read => read,
        };
        // Not cached, partly cached, at the end, or a file system that cannot tell: all the same to the caller.
        read.is_ok_and(|read| read == wanted)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for group in parts.chunks(PARTS_PER_CALL_MAX) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = &mut slices[..];
            // Empty parts in front would make a call that writes nothing look like a full disk.
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let written = retry_on_intr(|| pwritev(&self.0, rest, at))?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn start_writeback(&self, offset: u64, length: u64) -> io::Result<()> {
        start_writeback(&self.0, offset, length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        match retry_on_intr(|| fallocate(&self.0, FallocateFlags::empty(), offset, length)) {
            // A file system without fallocate(2): the length is what formats rely on, reserved blocks are a matter of speed.
            Err(Errno::OPNOTSUPP) if self.len()? < offset + length => self.set_len(offset + length),
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.blocks() * 512)
    }
}

/// sync_file_range(2) with SYNC_FILE_RANGE_WRITE, which no safe crate of ours offers.
#[allow(unsafe_code, reason = "the system call has no safe wrapper")]
fn start_writeback(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the descriptor is open for the whole call, and the call touches no memory of ours.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_small, replace_durably};
    use std::os::unix::fs::PermissionsExt;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        RealDisk.create_dir_all(&folder).unwrap();
        RealDisk.create_dir_all(&folder).unwrap();
        RealDisk.open(&folder.join("file"), OpenMode::CreateNew).unwrap();
        assert_eq!((mode_of(&root.path().join("a")), mode_of(&folder)), (0o700, 0o700));
        assert_eq!(mode_of(&folder.join("file")), 0o600);
        let again = RealDisk.open(&folder.join("file"), OpenMode::CreateNew).map(|_| ()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let missing = RealDisk.open(&folder.join("none"), OpenMode::Write).map(|_| ()).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("none"), "{missing}");
    }

    #[test]
    fn cached_bytes_are_read_without_waiting_and_nothing_short_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&root.path().join("file"), OpenMode::Create).unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        let mut buffer = vec![0; 4096];
        if file.try_read_at(&mut buffer, 4096) {
            assert_eq!(buffer, vec![7; 4096]);
        }
        assert!(!file.try_read_at(&mut buffer, 4097));
    }

    #[test]
    fn memory_is_not_waited_for() {
        // As good as always a tmpfs; the rule does not depend on it elsewhere.
        let Ok(root) = tempfile::tempdir_in("/dev/shm") else { return };
        let file = RealDisk.open(&root.path().join("file"), OpenMode::Create).unwrap();
        file.write_all_at(&[7; 1 << 20], 0).unwrap();
        let mut buffer = vec![0; 4096];
        assert!(file.try_read_at(&mut buffer, 4096));
        assert_eq!(buffer, vec![7; 4096]);
        assert!(!file.try_read_at(&mut buffer, (1 << 20) - 4095), "short");
    }

    #[test]
    fn more_parts_than_one_call_takes_land_in_order() {
        let root = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&root.path().join("file"), OpenMode::Create).unwrap();
        let pieces: Vec<Vec<u8>> = (0..3000).map(|i| vec![i as u8; i % 5]).collect();
        let parts: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        file.write_parts_at(&parts, 7).unwrap();
        file.write_parts_at(&[b"", b""], 0).unwrap();
        let expected: Vec<u8> = pieces.concat();
        let mut back = vec![0; expected.len() + 100];
        assert_eq!(file.read_at(&mut back, 7).unwrap(), expected.len());
        assert_eq!(&back[..expected.len()], &expected);
        assert_eq!(file.len().unwrap(), 7 + expected.len() as u64);
    }

    #[test]
    fn allocation_extends_and_writeback_starts() {
        let root = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&root.path().join("file"), OpenMode::Create).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert!(file.allocated().unwrap() >= 1 << 20);
        file.write_all_at(&[1; 4096], 8192).unwrap();
        file.start_writeback(8192, 4096).unwrap();
        file.sync_data().unwrap();
        file.set_len(10).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.len().unwrap(), 10);
        let space = RealDisk.space(root.path()).unwrap();
        assert!(space.free > 0 && space.free <= space.total);
    }

    #[test]
    fn a_lock_excludes_until_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        let refused = RealDisk.lock(&path).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn a_lock_that_is_dropped_is_free_although_a_child_has_the_descriptor() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let file = File::create(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        // As after fork(2): another descriptor of the same open file.
        let _of_child = file.try_clone().unwrap();
        let held = LockGuard { file };
        assert!(RealDisk.lock(&path).is_err());
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn a_small_file_is_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        for contents in [&b"first"[..], b"the second, longer", b""] {
            replace_durably(&RealDisk, &path, contents).unwrap();
            assert_eq!(read_small(&RealDisk, &path, 100).unwrap(), contents);
        }
        assert_eq!(RealDisk.list(root.path()).unwrap().len(), 1);
        RealDisk.remove_file(&path).unwrap();
        assert!(!RealDisk.exists(&path).unwrap());
    }
}
