//! A disk in memory that remembers what was synced, and leaves what a power cut would leave.
//!
//! The exact rules of [`SimDisk::crash_image`]:
//!
//! - **Bytes.** After a successful `sync_data` or `sync_all` the file's bytes and length of that moment are always there.
//!   Since then each 512-byte sector stands in any one of the states it went through (as last synced, after the first
//!   write to it, …, after the last), independently of every other sector: writes are lost, applied, torn at sectors and
//!   reordered. A sector itself is never torn. `start_writeback` promises nothing.
//! - **Length.** The length is that after any prefix of the unsynced changes. Bytes within it whose write was lost read
//!   as zeros where the file was new. A shortening that reached the disk has erased what it cut off.
//! - **Names.** A create, remove or rename is atomic and durable after `sync_dir` of a directory that it touches (of
//!   either one, for a rename across directories). Any subset of the others is applied, except that operations on one
//!   file keep their order (it never stands under two names). Syncing a file does not make its name durable.
//! - **A failed sync** ([`SimDisk::fail_sync`]) is as on ext4: a random part of the dirty sectors reaches the disk, the
//!   rest is forgotten while reads still show it, and later syncs succeed without it.
//! - Space of a removed file returns when its removal is synced and its last handle is closed.
//!
//! A crash image is a disk of its own, synced throughout; the disk it was taken from goes on unchanged. Operations that
//! change something are numbered from 1, so that a test can cut the power before each ([`SimDisk::crash_after`]) or take
//! the state before each in one run ([`SimDisk::keep_crash_points`]). Files are copy-on-write: an image costs what
//! was unsynced, not what is stored.

pub mod choice;
mod content;
mod control;
mod file;
mod tree;

pub use control::{Operation, OperationKind};

use crate::disk::{DirItem, Disk, DiskFile, MediumFile, OpenMode, Space};
use choice::{CrashChoice, Seeded};
use control::Control;
use file::{FileNode, Usage};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::{Node, Tree, components};

/// Nothing here is left half-changed by a panic of another test thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

struct Shared {
    tree: Mutex<Tree>,
    control: Mutex<Control>,
    usage: Arc<Usage>,
    locks: Mutex<BTreeSet<PathBuf>>,
    crash_points: Mutex<Option<Vec<CrashPoint>>>,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

/// The disk as it was just before an operation.
#[derive(Clone)]
pub struct CrashPoint {
    /// The operation that the crash comes before.
    pub before: Operation,
    /// The state, to take crash images of.
    pub disk: SimDisk,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk without a capacity limit.
    pub fn new() -> Self {
        Self::of(Tree::default(), Arc::new(Usage::default()))
    }

    fn of(tree: Tree, usage: Arc<Usage>) -> Self {
        let shared = Shared {
            tree: Mutex::new(tree),
            control: Mutex::new(Control::default()),
            usage,
            locks: Mutex::new(BTreeSet::new()),
            crash_points: Mutex::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What a power cut at this moment leaves; equal seeds choose equally.
    pub fn crash_image(&self, seed: u64) -> Self {
        self.crash_image_with(&mut Seeded::new(seed))
    }

    /// What a power cut at this moment leaves, by a choice of your own.
    pub fn crash_image_with(&self, choice: &mut dyn CrashChoice) -> Self {
        let usage = Arc::new(self.shared.usage.of_same_capacity());
        let tree = lock(&self.shared.tree).crash_image(choice, &usage);
        Self::of(tree, usage)
    }

    /// The same state, unsynced changes included, as a disk of its own (without faults, log and locks).
    pub fn fork(&self) -> Self {
        let usage = Arc::new(self.shared.usage.of_same_capacity());
        let tree = lock(&self.shared.tree).fork(&usage);
        Self::of(tree, usage)
    }

    /// Number of the last operation that changed something.
    pub fn operations(&self) -> u64 {
        lock(&self.shared.control).operations
    }

    /// Syncs so far of files and directories, failed ones included.
    pub fn syncs(&self) -> u64 {
        lock(&self.shared.control).syncs
    }

    /// Starts (or stops) keeping a log of operations.
    pub fn keep_log(&self, keep: bool) {
        lock(&self.shared.control).log = keep.then(Vec::new);
    }

    /// The log since it was started.
    pub fn log(&self) -> Vec<Operation> {
        lock(&self.shared.control).log.clone().unwrap_or_default()
    }

    /// From now on keeps the state before every operation, until [`SimDisk::take_crash_points`].
    pub fn keep_crash_points(&self) {
        *lock(&self.shared.crash_points) = Some(Vec::new());
    }

    /// The states kept, in order, ending with the present one; keeping stops.
    pub fn take_crash_points(&self) -> Vec<CrashPoint> {
        let mut points = lock(&self.shared.crash_points).take().unwrap_or_default();
        let last = Operation { number: self.operations() + 1, ..Operation::none() };
        points.push(CrashPoint { before: last, disk: self.fork() });
        points
    }

    /// Cuts the power after operation `number` (0: now): later calls of every kind fail and change nothing.
    pub fn crash_after(&self, number: u64) {
        lock(&self.shared.control).crash_after = Some(number);
    }

    /// The `nth` sync from now (1: the next) of a file whose path contains `path_part` fails with EIO; see the rules above.
    pub fn fail_sync(&self, path_part: &str, nth: u64) {
        lock(&self.shared.control).fail(OperationKind::Sync, path_part, nth, rustix::io::Errno::IO);
    }

    /// The `nth` sync from now of a directory whose path contains `path_part` fails with EIO; its names stay unsynced.
    pub fn fail_sync_dir(&self, path_part: &str, nth: u64) {
        lock(&self.shared.control).fail(OperationKind::SyncDir, path_part, nth, rustix::io::Errno::IO);
    }

    /// The `nth` write or allocation from now of a path that contains `path_part` fails with EIO and changes nothing.
    pub fn fail_write(&self, path_part: &str, nth: u64) {
        lock(&self.shared.control).fail(OperationKind::Write, path_part, nth, rustix::io::Errno::IO);
    }

    /// Reads that touch these bytes of the file fail with EIO, until they are written anew; survives crash images.
    ///
    /// # Errors
    /// No such file.
    pub fn fail_reads(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        self.file(path)?.fail_reads(range);
        Ok(())
    }

    /// Flips bit `bit` (0 ..= 7) of the byte at `offset`, in the page cache and on the medium.
    ///
    /// # Errors
    /// No such file.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.file(path)?.flip_bit(offset, bit);
        Ok(())
    }

    /// Flips a bit on the medium alone, as it rots at rest: the page cache goes on showing what was written.
    ///
    /// # Errors
    /// No such file.
    pub fn rot_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.file(path)?.rot_bit(offset, bit);
        Ok(())
    }

    /// Bytes that all files may take, in whole 4 KiB pages; beyond, writes fail with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.usage.set_capacity(bytes);
    }

    fn file(&self, path: &Path) -> io::Result<Arc<FileNode>> {
        match lock(&self.shared.tree).find(path)? {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found(path)),
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory", path.display()))
}

impl Shared {
    /// Every operation that changes something passes here before it does.
    fn begin(
        self: &Arc<Self>,
        kind: OperationKind,
        path: &Path,
        offset: u64,
        length: u64,
    ) -> io::Result<Operation> {
        let operation = lock(&self.control).begin(kind, path, offset, length)?;
        let keeps = lock(&self.crash_points).is_some();
        if keeps {
            let disk = SimDisk { shared: self.clone() }.fork();
            if let Some(points) = lock(&self.crash_points).as_mut() {
                points.push(CrashPoint { before: operation.clone(), disk });
            }
        }
        lock(&self.control).fault(&operation)?;
        Ok(operation)
    }

    fn powered(&self) -> io::Result<()> {
        lock(&self.control).powered()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.powered()?;
        let found = lock(&self.shared.tree).find(path)?;
        let node = match (found, mode) {
            (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{} exists", path.display()),
                ));
            }
            (Some(Node::File(file)), _) => file,
            (None, OpenMode::Read | OpenMode::Write) => return Err(not_found(path)),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.shared.begin(OperationKind::Create, path, 0, 0)?;
                let file = Arc::new(FileNode::new(self.shared.usage.clone()));
                lock(&self.shared.tree).insert(path, Node::File(file.clone()))?;
                file
            }
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { shared: self.shared.clone(), node, path: path.to_owned(), writable }))
    }

    fn open_medium(&self, path: &Path) -> io::Result<Arc<dyn MediumFile>> {
        self.shared.powered()?;
        Ok(Arc::new(SimMedium { shared: self.shared.clone(), node: self.file(path)? }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.powered()?;
        let mut so_far = PathBuf::new();
        for component in components(path)? {
            so_far.push(component);
            let found = lock(&self.shared.tree).find(&so_far)?;
            match found {
                Some(Node::Dir(_)) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    self.shared.begin(OperationKind::Create, &so_far, 0, 0)?;
                    lock(&self.shared.tree).make_dir(&so_far)?;
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.shared.powered()?;
        lock(&self.shared.tree).list(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.shared.powered()?;
        self.file(path)?;
        self.shared.begin(OperationKind::Remove, path, 0, 0)?;
        lock(&self.shared.tree).remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.powered()?;
        for item in self.list(path)? {
            let below = path.join(&item.name);
            if item.is_dir { self.remove_dir_all(&below)? } else { self.remove_file(&below)? }
        }
        self.shared.begin(OperationKind::Remove, path, 0, 0)?;
        lock(&self.shared.tree).remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.powered()?;
        self.shared.begin(OperationKind::Rename, to, 0, 0)?;
        lock(&self.shared.tree).rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.powered()?;
        self.shared.begin(OperationKind::SyncDir, path, 0, 0)?;
        lock(&self.shared.tree).sync_dir(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.shared.powered()?;
        Ok(lock(&self.shared.tree).find(path)?.is_some())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        self.shared.powered()?;
        Ok(self.shared.usage.space())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.open(path, OpenMode::Create)?;
        if !lock(&self.shared.locks).insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard { shared: self.shared.clone(), path: path.to_owned() }))
    }
}

struct LockGuard {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        lock(&self.shared.locks).remove(&self.path);
    }
}

struct SimFile {
    shared: Arc<Shared>,
    node: Arc<FileNode>,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    fn begin(&self, kind: OperationKind, offset: u64, length: u64) -> io::Result<Operation> {
        if !self.writable && kind != OperationKind::Sync {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::BADF.raw_os_error()));
        }
        self.shared.begin(kind, &self.path, offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        match self.begin(OperationKind::Sync, 0, 0) {
            Ok(_) => {
                self.node.sync();
                Ok(())
            }
            Err(error) => {
                if self.shared.powered().is_ok() {
                    let seed = lock(&self.shared.control).operations;
                    self.node.fail_sync(&mut Seeded::new(seed));
                }
                Err(error)
            }
        }
    }
}

struct SimMedium {
    shared: Arc<Shared>,
    node: Arc<FileNode>,
}

impl MediumFile for SimMedium {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.powered()?;
        self.node.read_medium(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.shared.powered()?;
        Ok(self.node.length())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.powered()?;
        self.node.read(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_parts_at(&[bytes], offset)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let bytes = parts.concat();
        if bytes.is_empty() {
            return self.shared.powered();
        }
        self.begin(OperationKind::Write, offset, bytes.len() as u64)?;
        self.node.write(bytes.into(), offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn start_writeback(&self, _offset: u64, _length: u64) -> io::Result<()> {
        self.shared.powered()
    }

    fn len(&self) -> io::Result<u64> {
        self.shared.powered()?;
        Ok(self.node.length())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.begin(OperationKind::SetLength, length, 0)?;
        self.node.set_length(length);
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.begin(OperationKind::Write, offset, length)?;
        self.node.allocate(offset, length)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.shared.powered()?;
        Ok(self.node.allocated())
    }
}

#[cfg(test)]
#[path = "disk_sim_test.rs"]
mod tests;
