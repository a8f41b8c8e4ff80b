//! Kernel requests passed on to ordinary files, each after what is wrong with the disk.

use super::Faults;
use super::nodes::Nodes;
use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The kernel keeps nothing: each read and each look reaches the disk.
const TTL: Duration = Duration::ZERO;
const UNCACHED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
/// Largest write of the kernel.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

pub(super) struct Passthrough {
    nodes: Nodes,
    faults: Arc<Faults>,
}

impl Passthrough {
    pub(super) fn new(root: &Path, faults: Arc<Faults>) -> Self {
        Self { nodes: Nodes::new(root), faults }
    }

    fn create_file(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
    ) -> Result<(fuser::FileAttr, FileHandle), Errno> {
        self.faults.on_growth()?;
        let path = self.nodes.child(parent, name)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).mode(mode).truncate(false).open(&path)?;
        let attributes = self.nodes.look_up(&path)?;
        Ok((attributes, self.nodes.opened(attributes.ino.0, file)))
    }

    fn open_file(&self, inode: INodeNo, flags: OpenFlags) -> Result<FileHandle, Errno> {
        let writes = flags.acc_mode() != fuser::OpenAccMode::O_RDONLY;
        let file = OpenOptions::new().read(true).write(writes).open(self.nodes.path(inode)?)?;
        Ok(self.nodes.opened(inode.0, file))
    }

    fn read_file(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.faults.on_read()?;
        let file = self.nodes.file(handle)?;
        let mut buffer = vec![0; size as usize];
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    fn write_file(&self, handle: FileHandle, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let file = self.nodes.file(handle)?;
        // Asked first: it is nothing that the disk does.
        let grows = file.metadata()?.len() < offset + data.len() as u64;
        if grows {
            self.faults.on_growth()?
        } else {
            self.faults.on_write()?
        }
        file.write_all_at(data, offset)?;
        Ok(data.len() as u32)
    }

    fn change(&self, change: impl FnOnce() -> io::Result<()>) -> Result<(), Errno> {
        self.faults.on_write()?;
        Ok(change()?)
    }

    fn make_directory(&self, parent: INodeNo, name: &OsStr, mode: u32) -> Result<fuser::FileAttr, Errno> {
        let path = self.nodes.child(parent, name)?;
        self.faults.on_growth()?;
        self.change(|| fs::DirBuilder::new().mode(mode).create(&path))?;
        self.nodes.look_up(&path)
    }

    fn remove(
        &self,
        parent: INodeNo,
        name: &OsStr,
        how: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), Errno> {
        let path = self.nodes.child(parent, name)?;
        self.change(|| how(&path))?;
        self.nodes.removed(&path);
        Ok(())
    }

    fn list(&self, inode: INodeNo, offset: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        let mut names: Vec<_> = fs::read_dir(self.nodes.path(inode)?)?.collect::<io::Result<_>>()?;
        names.sort_by_key(|entry| entry.file_name());
        for (at, entry) in names.iter().enumerate().skip(offset as usize) {
            let kind = if entry.file_type()?.is_dir() { FileType::Directory } else { FileType::RegularFile };
            // The kernel looks each up; the number in a listing is only shown.
            if reply.add(INodeNo(u64::MAX - 1), at as u64 + 1, kind, entry.file_name()) {
                break;
            }
        }
        Ok(())
    }
}

fn answer(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(outcome: Result<fuser::FileAttr, Errno>, reply: ReplyEntry) {
    match outcome {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Passthrough {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Refused only beyond the transport's bounds.
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.nodes.child(parent, name).and_then(|path| self.nodes.look_up(&path));
        answer_entry(found, reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes.attributes(ino, fh) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = |size: u64| {
            let file = match fh {
                Some(handle) => self.nodes.file(handle)?,
                None => Arc::new(OpenOptions::new().write(true).open(self.nodes.path(ino)?)?),
            };
            self.change(|| file.set_len(size))
        };
        match size.map_or(Ok(()), cut).and_then(|()| self.nodes.attributes(ino, fh)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        answer_entry(self.make_directory(parent, name, mode), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(parent, name, |path| fs::remove_file(path)), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(parent, name, |path| fs::remove_dir(path)), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = || {
            let (from, to) = (self.nodes.child(parent, name)?, self.nodes.child(newparent, newname)?);
            self.change(|| fs::rename(&from, &to))?;
            self.nodes.renamed(&from, &to);
            Ok(())
        };
        answer(rename(), reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(ino, flags) {
            Ok(handle) => reply.opened(handle, UNCACHED),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        match self.create_file(parent, name, mode) {
            Ok((attributes, handle)) => reply.created(&TTL, &attributes, Generation(0), handle, UNCACHED),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(fh, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_file(fh, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.nodes.closed(fh);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let sync =
            |file: Arc<File>| self.change(|| if datasync { file.sync_data() } else { file.sync_all() });
        answer(self.nodes.file(fh).and_then(sync), reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let sync = |path| self.change(|| File::open(path).and_then(|directory| directory.sync_all()));
        answer(self.nodes.path(ino).and_then(sync), reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.list(ino, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let space = self
            .nodes
            .path(ino)
            .and_then(|path| statvfs(path).map_err(|error| io::Error::from(error).into()));
        match space {
            Ok(space) => reply.statfs(
                space.f_blocks,
                if self.faults.shows_full() { 0 } else { space.f_bfree },
                if self.faults.shows_full() { 0 } else { space.f_bavail },
                space.f_files,
                space.f_ffree,
                space.f_bsize as u32,
                255,
                space.f_frsize as u32,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let how = FallocateFlags::from_bits_retain(mode as u32);
        let allocate = |file: Arc<File>| {
            if !how.contains(FallocateFlags::PUNCH_HOLE) {
                self.faults.on_growth()?;
            }
            self.change(|| Ok(fallocate(&file, how, offset, length)?))
        };
        answer(self.nodes.file(fh).and_then(allocate), reply);
    }
}
