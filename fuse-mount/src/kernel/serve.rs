//! From a message to the callback of its operation.

use super::abi::opcode;
use super::filesystem::{Filesystem, WriteCall};
use super::interrupts::{Interrupt, Interrupts};
use super::reply::{Port, Reply, ReplyDirectory, ReplyDirectoryPlus, answer};
use super::request::{Operation, Request, operation};
use super::wire::Malformed;
use bytes::Bytes;
use rustix::io::Errno;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAcl {
    /// Everybody.
    All,
    /// The user who has mounted.
    Owner {
        /// His number.
        uid: u32,
    },
}

/// What a receiving thread needs.
pub(crate) struct Desk<F> {
    pub(crate) filesystem: F,
    pub(crate) acl: SessionAcl,
    pub(crate) interrupts: Interrupts,
}

/// What comes after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    /// The kernel says goodbye.
    Nothing,
}

impl SessionAcl {
    /// The kernel asks some things in the name of whoever happens to be there.
    fn allows(self, request: &Request) -> bool {
        match self {
            Self::All => true,
            Self::Owner { uid } => request.uid() == uid || is_asked_for_nobody(request.opcode),
        }
    }
}

fn is_asked_for_nobody(code: u32) -> bool {
    matches!(
        code,
        opcode::INIT
            | opcode::DESTROY
            | opcode::INTERRUPT
            | opcode::READ
            | opcode::READDIR
            | opcode::READDIRPLUS
            | opcode::FORGET
            | opcode::BATCH_FORGET
            | opcode::WRITE
            | opcode::FSYNC
            | opcode::FSYNCDIR
            | opcode::RELEASE
            | opcode::RELEASEDIR
    )
}

/// Whether the work on such a request may be dropped wherever it waits, and leaves nothing half done: questions, and what the
/// client carries out by itself. Changes of names and attributes are carried out even if nobody waits for them.
fn may_be_dropped(code: u32) -> bool {
    matches!(
        code,
        opcode::LOOKUP
            | opcode::GETATTR
            | opcode::READLINK
            | opcode::OPEN
            | opcode::READ
            | opcode::WRITE
            | opcode::STATFS
            | opcode::FLUSH
            | opcode::FSYNC
            | opcode::GETXATTR
            | opcode::LISTXATTR
            | opcode::READDIR
            | opcode::READDIRPLUS
            | opcode::ACCESS
            | opcode::LSEEK
    )
}

/// Serves one message. `whole` is the same, where its buffer may be kept.
pub(crate) fn serve<F: Filesystem>(
    desk: &Desk<F>,
    port: &Port,
    message: &[u8],
    whole: Option<&Bytes>,
) -> Next {
    let Ok(request) = Request::parse(message) else {
        tracing::error!(bytes = message.len(), "the kernel sent less than a header");
        return Next::Request;
    };
    let unique = request.unique();
    let asked = operation(&request, message);
    match asked {
        Ok(Operation::Forget) => return Next::Request,
        Ok(Operation::Interrupt { of }) => {
            desk.interrupts.notice(Interrupt { own: unique, of });
            return Next::Request;
        }
        Ok(Operation::Destroy) => {
            answer(&port.channel, unique, 0, &[]);
            return Next::Nothing;
        }
        _ => {}
    }
    port.underway.begin(unique, request.pid(), port.number, request.opcode == opcode::FLUSH);
    let reply = Reply::new(port.clone(), unique, may_be_dropped(request.opcode));
    match admit(desk.acl, &request, asked) {
        Ok(asked) => call(&desk.filesystem, &request, asked, whole, reply),
        Err(error) => reply.error(error),
    }
    Next::Request
}

/// What no file system is asked.
fn admit<'a>(
    acl: SessionAcl,
    request: &Request,
    asked: Result<Operation<'a>, Malformed>,
) -> Result<Operation<'a>, Errno> {
    match asked {
        Err(Malformed) => {
            tracing::error!(opcode = request.opcode, bytes = request.length, "a malformed request");
            Err(Errno::INVAL)
        }
        Ok(Operation::Unknown | Operation::IoCtl { unrestricted: true }) => Err(Errno::NOSYS),
        Ok(_) if !acl.allows(request) => Err(Errno::ACCESS),
        Ok(asked) => Ok(asked),
    }
}

fn call(fs: &impl Filesystem, req: &Request, asked: Operation<'_>, whole: Option<&Bytes>, reply: Reply) {
    let node = req.node;
    match asked {
        Operation::Read { handle, offset, size } => fs.read(req, node, handle, offset, size, reply.into()),
        Operation::Write(write) => {
            let data = match whole {
                Some(whole) => whole.slice_ref(write.data),
                None => Bytes::copy_from_slice(write.data),
            };
            let (offset, write_flags, flags) = (write.offset, write.write_flags, write.flags);
            let call = WriteCall { handle: write.handle, offset, data, write_flags, flags };
            fs.write(req, node, call, reply.into());
        }
        Operation::Flush { handle } => fs.flush(req, node, handle, reply.into()),
        Operation::Release { handle } => fs.release(req, node, handle, reply.into()),
        Operation::FSync { handle, datasync } => fs.fsync(req, node, handle, datasync, reply.into()),
        Operation::ReadDir { handle, offset, size } => {
            fs.readdir(req, node, handle, offset, ReplyDirectory::new(reply, size));
        }
        Operation::ReadDirPlus { handle, offset, size } => {
            fs.readdirplus(req, node, handle, offset, ReplyDirectoryPlus::new(reply, size));
        }
        Operation::ReleaseDir { handle } => fs.releasedir(req, node, handle, reply.into()),
        Operation::FSyncDir => fs.fsyncdir(req, node, reply.into()),
        Operation::FAllocate { handle, offset, length, mode } => {
            fs.fallocate(req, node, handle, (offset, length), mode, reply.into());
        }
        Operation::Lseek { handle, offset, whence } => {
            fs.lseek(req, node, handle, offset, whence, reply.into());
        }
        Operation::IoCtl { .. } => fs.ioctl(reply.into()),
        Operation::Poll => fs.poll(reply.into()),
        Operation::CopyFileRange => fs.copy_file_range(reply.into()),
        other => call_by_inode(fs, req, other, reply),
    }
}

fn call_by_inode(fs: &impl Filesystem, req: &Request, asked: Operation<'_>, reply: Reply) {
    let node = req.node;
    match asked {
        Operation::Lookup { name } => fs.lookup(req, node, name, reply.into()),
        Operation::GetAttr { handle } => fs.getattr(req, node, handle, reply.into()),
        Operation::SetAttr(set) => fs.setattr(req, node, set, reply.into()),
        Operation::ReadLink => fs.readlink(req, node, reply.into()),
        Operation::SymLink { name, target } => fs.symlink(req, node, name, target, reply.into()),
        Operation::MkNod { name, mode, rdev } => fs.mknod(req, node, name, mode, rdev, reply.into()),
        Operation::MkDir { name, mode } => fs.mkdir(req, node, name, mode, reply.into()),
        Operation::Unlink { name } => fs.unlink(req, node, name, reply.into()),
        Operation::RmDir { name } => fs.rmdir(req, node, name, reply.into()),
        Operation::Rename { name, new_parent, new_name, flags } => {
            fs.rename(req, (node, name), (new_parent, new_name), flags, reply.into());
        }
        Operation::Link { inode, new_name } => fs.link(req, inode, node, new_name, reply.into()),
        Operation::Create { name, mode, flags } => fs.create(req, node, name, mode, flags, reply.into()),
        Operation::Open { flags } => fs.open(req, node, flags, reply.into()),
        Operation::OpenDir => fs.opendir(req, node, reply.into()),
        Operation::StatFs => fs.statfs(req, node, reply.into()),
        Operation::SetXattr { name, value, flags } => {
            fs.setxattr(req, node, name, value, flags, reply.into());
        }
        Operation::GetXattr { name, size } => fs.getxattr(req, node, name, size, reply.into()),
        Operation::ListXattr { size } => fs.listxattr(req, node, size, reply.into()),
        Operation::RemoveXattr { name } => fs.removexattr(req, node, name, reply.into()),
        Operation::Access { mask } => fs.access(req, node, mask, reply.into()),
        _ => reply.error(Errno::NOSYS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::wire::Writer;

    /// Of user 1000.
    fn request(opcode: u32) -> Request {
        let mut out = Writer::with_capacity(40);
        out.u32(40).u32(opcode).u64(2).u64(1).u32(1000).u32(100).u32(7).u32(0);
        Request::parse(&out.finish()).unwrap()
    }

    #[test]
    fn only_its_owner_enters_a_mount_of_his_own() {
        let admits = |acl, code| admit(acl, &request(code), Ok(Operation::StatFs)).is_ok();
        for code in [opcode::LOOKUP, opcode::GETATTR, opcode::OPEN, opcode::CREATE, opcode::STATFS] {
            assert!(admits(SessionAcl::Owner { uid: 1000 }, code) && admits(SessionAcl::All, code));
            assert!(!admits(SessionAcl::Owner { uid: 0 }, code), "{code}: not even root");
        }
        // Pages are read and written, and files end, in anybody's name.
        for code in [opcode::READ, opcode::WRITE, opcode::FSYNC, opcode::RELEASE, opcode::READDIRPLUS] {
            assert!(admits(SessionAcl::Owner { uid: 0 }, code));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |asked| admit(SessionAcl::All, &request(999), asked).err();
        assert_eq!(error(Ok(Operation::Unknown)), Some(Errno::NOSYS));
        assert_eq!(error(Ok(Operation::IoCtl { unrestricted: true })), Some(Errno::NOSYS));
        assert_eq!(error(Err(Malformed)), Some(Errno::INVAL));
        assert_eq!(error(Ok(Operation::Poll)), None);
    }

    #[test]
    fn changes_of_names_are_never_dropped() {
        for code in [
            opcode::SETATTR,
            opcode::SYMLINK,
            opcode::MKNOD,
            opcode::MKDIR,
            opcode::UNLINK,
            opcode::RMDIR,
            opcode::RENAME,
            opcode::RENAME2,
            opcode::LINK,
            opcode::CREATE,
            opcode::RELEASE,
            opcode::SETXATTR,
            opcode::REMOVEXATTR,
            opcode::FALLOCATE,
        ] {
            assert!(!may_be_dropped(code), "{code}");
        }
    }
}
