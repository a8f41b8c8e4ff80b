//! What the kernel asks: a message of the device, checked.

use super::abi::{
    FileHandle, GETATTR_FH, IN_HEADER_BYTES, INodeNo, IOCTL_UNRESTRICTED, TimeOrNow, WriteFlags, fattr,
    opcode,
};
use super::wire::{Malformed, Reader};
use cairn_core::time::Timestamp;
use std::ffi::OsStr;

/// Numbers a request; the answer names it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Unique(pub(crate) u64);

/// `struct fuse_in_header`: who asks, about what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Of the whole message.
    pub(crate) length: u32,
    pub(crate) opcode: u32,
    unique: Unique,
    /// Most operations: the inode, or the directory of the name.
    pub(crate) node: INodeNo,
    uid: u32,
    gid: u32,
    pid: u32,
}

impl Request {
    /// Reads the header.
    ///
    /// # Errors
    /// The message is shorter than that.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message.get(..IN_HEADER_BYTES).ok_or(Malformed)?);
        Ok(Self {
            length: reader.u32()?,
            opcode: reader.u32()?,
            unique: Unique(reader.u64()?),
            node: INodeNo(reader.u64()?),
            uid: reader.u32()?,
            gid: reader.u32()?,
            pid: reader.u32()?,
        })
    }

    pub(crate) fn unique(&self) -> Unique {
        self.unique
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    /// The thread that asks; 0 when nobody does, or one that this process cannot see.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Lookup {
        name: &'a OsStr,
    },
    /// FORGET and BATCH_FORGET, which have no answer.
    Forget,
    GetAttr {
        handle: Option<FileHandle>,
    },
    SetAttr(SetAttr),
    ReadLink,
    SymLink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    MkNod {
        name: &'a OsStr,
        mode: u32,
        rdev: u32,
    },
    MkDir {
        name: &'a OsStr,
        mode: u32,
    },
    Unlink {
        name: &'a OsStr,
    },
    RmDir {
        name: &'a OsStr,
    },
    Rename {
        name: &'a OsStr,
        new_parent: INodeNo,
        new_name: &'a OsStr,
        flags: u32,
    },
    Link {
        inode: INodeNo,
        new_name: &'a OsStr,
    },
    Open {
        flags: i32,
    },
    Read {
        handle: FileHandle,
        offset: u64,
        size: u32,
    },
    Write(Write<'a>),
    StatFs,
    Release {
        handle: FileHandle,
    },
    FSync {
        handle: FileHandle,
        datasync: bool,
    },
    SetXattr {
        name: &'a OsStr,
        value: &'a [u8],
        flags: i32,
    },
    GetXattr {
        name: &'a OsStr,
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a OsStr,
    },
    Flush {
        handle: FileHandle,
    },
    OpenDir,
    ReadDir {
        handle: FileHandle,
        offset: u64,
        size: u32,
    },
    ReadDirPlus {
        handle: FileHandle,
        offset: u64,
        size: u32,
    },
    ReleaseDir {
        handle: FileHandle,
    },
    FSyncDir,
    Access {
        mask: u32,
    },
    Create {
        name: &'a OsStr,
        mode: u32,
        flags: i32,
    },
    Interrupt {
        of: Unique,
    },
    Destroy,
    IoCtl {
        unrestricted: bool,
    },
    Poll,
    FAllocate {
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
    },
    Lseek {
        handle: FileHandle,
        offset: i64,
        whence: i32,
    },
    CopyFileRange,
    /// Of a kernel that knows more than we do, or INIT at a wrong time.
    Unknown,
}

/// The fields of a setattr that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetAttr {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
    pub(crate) handle: Option<FileHandle>,
}

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    pub(crate) handle: FileHandle,
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
    pub(crate) write_flags: WriteFlags,
    /// Of open(2), as fcntl(2) has changed them since.
    pub(crate) flags: i32,
}

/// Reads what follows the header in a message that [`Request::parse`] has read.
///
/// # Errors
/// Something is missing, or the message has another length than it says.
pub(crate) fn operation<'a>(request: &Request, message: &'a [u8]) -> Result<Operation<'a>, Malformed> {
    if request.length as usize != message.len() {
        return Err(Malformed);
    }
    let mut body = Reader::new(message);
    body.bytes(IN_HEADER_BYTES)?;
    let body = &mut body;
    if let Some(named) = of_names(request.opcode, body)? {
        return Ok(named);
    }
    if let Some(opened) = of_handles(request.opcode, body)? {
        return Ok(opened);
    }
    Ok(match request.opcode {
        opcode::FORGET | opcode::BATCH_FORGET => Operation::Forget,
        opcode::GETATTR => {
            let flags = body.u32()?;
            body.u32()?;
            let handle = FileHandle(body.u64()?);
            Operation::GetAttr { handle: (flags & GETATTR_FH != 0).then_some(handle) }
        }
        opcode::SETATTR => Operation::SetAttr(set_attr(body)?),
        opcode::READLINK => Operation::ReadLink,
        opcode::OPEN => Operation::Open { flags: body.i32()? },
        opcode::OPENDIR => Operation::OpenDir,
        opcode::STATFS => Operation::StatFs,
        opcode::ACCESS => Operation::Access { mask: body.u32()? },
        opcode::INTERRUPT => Operation::Interrupt { of: Unique(body.u64()?) },
        opcode::DESTROY => Operation::Destroy,
        opcode::POLL => Operation::Poll,
        opcode::COPY_FILE_RANGE => Operation::CopyFileRange,
        _ => Operation::Unknown,
    })
}

/// Operations on names, which stand at the end of their messages.
fn of_names<'a>(code: u32, body: &mut Reader<'a>) -> Result<Option<Operation<'a>>, Malformed> {
    Ok(Some(match code {
        opcode::LOOKUP => Operation::Lookup { name: body.name()? },
        opcode::SYMLINK => Operation::SymLink { name: body.name()?, target: body.name()? },
        opcode::MKNOD => {
            let (mode, rdev) = (body.u32()?, body.u32()?);
            // The umask, which the kernel has applied.
            body.bytes(8)?;
            Operation::MkNod { name: body.name()?, mode, rdev }
        }
        opcode::MKDIR => {
            let mode = body.u32()?;
            body.u32()?;
            Operation::MkDir { name: body.name()?, mode }
        }
        opcode::CREATE => {
            let (flags, mode) = (body.i32()?, body.u32()?);
            body.bytes(8)?;
            Operation::Create { name: body.name()?, mode, flags }
        }
        opcode::UNLINK => Operation::Unlink { name: body.name()? },
        opcode::RMDIR => Operation::RmDir { name: body.name()? },
        opcode::RENAME | opcode::RENAME2 => {
            let new_parent = INodeNo(body.u64()?);
            let flags = if code == opcode::RENAME2 { rename_flags(body)? } else { 0 };
            Operation::Rename { name: body.name()?, new_parent, new_name: body.name()?, flags }
        }
        opcode::LINK => Operation::Link { inode: INodeNo(body.u64()?), new_name: body.name()? },
        opcode::SETXATTR => {
            let (size, flags) = (body.u32()? as usize, body.i32()?);
            let name = body.name()?;
            Operation::SetXattr { name, value: body.bytes(size)?, flags }
        }
        opcode::GETXATTR => {
            let size = body.u32()?;
            body.u32()?;
            Operation::GetXattr { name: body.name()?, size }
        }
        opcode::LISTXATTR => Operation::ListXattr { size: body.u32()? },
        opcode::REMOVEXATTR => Operation::RemoveXattr { name: body.name()? },
        _ => return Ok(None),
    }))
}

fn rename_flags(body: &mut Reader<'_>) -> Result<u32, Malformed> {
    let flags = body.u32()?;
    body.u32()?;
    Ok(flags)
}

/// Operations on what is open: they begin with its number.
fn of_handles<'a>(code: u32, body: &mut Reader<'a>) -> Result<Option<Operation<'a>>, Malformed> {
    let mut with_handle = *body;
    let mut handle = || with_handle.u64().map(FileHandle);
    let operation = match code {
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => {
            let (handle, offset, size) = (handle()?, with_handle.u64()?, with_handle.u32()?);
            match code {
                opcode::READ => Operation::Read { handle, offset: in_file(offset)?, size },
                opcode::READDIR => Operation::ReadDir { handle, offset, size },
                _ => Operation::ReadDirPlus { handle, offset, size },
            }
        }
        opcode::WRITE => Operation::Write(write(&mut with_handle)?),
        opcode::RELEASE => Operation::Release { handle: handle()? },
        opcode::RELEASEDIR => Operation::ReleaseDir { handle: handle()? },
        opcode::FLUSH => Operation::Flush { handle: handle()? },
        opcode::FSYNC => Operation::FSync { handle: handle()?, datasync: with_handle.u32()? & 1 != 0 },
        opcode::FSYNCDIR => Operation::FSyncDir,
        opcode::IOCTL => {
            handle()?;
            Operation::IoCtl { unrestricted: with_handle.u32()? & IOCTL_UNRESTRICTED != 0 }
        }
        opcode::FALLOCATE => Operation::FAllocate {
            handle: handle()?,
            offset: in_file(with_handle.u64()?)?,
            length: in_file(with_handle.u64()?)?,
            mode: with_handle.i32()?,
        },
        opcode::LSEEK => {
            Operation::Lseek { handle: handle()?, offset: with_handle.i64()?, whence: with_handle.i32()? }
        }
        _ => return Ok(None),
    };
    Ok(Some(operation))
}

/// Offsets in files are signed; those of directories are cookies.
fn in_file(offset: u64) -> Result<u64, Malformed> {
    i64::try_from(offset).map(|_| offset).map_err(|_| Malformed)
}

/// `struct fuse_write_in` and the bytes.
fn write<'a>(body: &mut Reader<'a>) -> Result<Write<'a>, Malformed> {
    let (handle, offset) = (FileHandle(body.u64()?), in_file(body.u64()?)?);
    let (size, write_flags) = (body.u32()? as usize, WriteFlags(body.u32()?));
    // The lock's owner.
    body.u64()?;
    let flags = body.i32()?;
    body.u32()?;
    Ok(Write { handle, offset, data: body.bytes(size)?, write_flags, flags })
}

/// `struct fuse_setattr_in`
fn set_attr(body: &mut Reader<'_>) -> Result<SetAttr, Malformed> {
    let valid = body.u32()?;
    body.u32()?;
    let (handle, size) = (FileHandle(body.u64()?), body.u64()?);
    // The lock's owner.
    body.u64()?;
    let (atime, mtime, _ctime) = (body.i64()?, body.i64()?, body.i64()?);
    let (atime_nanos, mtime_nanos, _ctime_nanos) = (body.u32()?, body.u32()?, body.u32()?);
    let mode = body.u32()?;
    body.u32()?;
    let (uid, gid) = (body.u32()?, body.u32()?);
    body.u32()?;
    let given = |flag: u32| valid & flag != 0;
    let time = |flag, now, seconds, nanos| {
        let at = if given(now) { TimeOrNow::Now } else { TimeOrNow::At(Timestamp { seconds, nanos }) };
        given(flag).then_some(at)
    };
    Ok(SetAttr {
        mode: given(fattr::MODE).then_some(mode),
        uid: given(fattr::UID).then_some(uid),
        gid: given(fattr::GID).then_some(gid),
        size: given(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, atime, atime_nanos),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, mtime, mtime_nanos),
        handle: given(fattr::FH).then_some(handle),
    })
}
