//! mount(2), or the set-user-id helper `fusermount3` that does it for ordinary users.

use super::channel::open_device;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use std::ffi::CString;
use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const FUSERMOUNT: &str = "fusermount3";
/// Names the socket on which `fusermount3` passes the device.
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Options of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What the mount table shows as mounted.
    pub(crate) source: String,
    /// What follows `fuse.` there.
    pub(crate) subtype: &'static str,
    /// Other users may enter.
    pub(crate) allow_other: bool,
    pub(crate) read_only: bool,
    pub(crate) suid: bool,
    pub(crate) dev: bool,
    pub(crate) no_exec: bool,
    pub(crate) sync: bool,
}

impl Options {
    /// For the kernel's FUSE itself. The kernel checks permissions (`default_permissions`).
    fn of_fuse(&self) -> String {
        let others = if self.allow_other { ",allow_other" } else { "" };
        format!("subtype={},default_permissions{others}", self.subtype)
    }

    fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::NOATIME;
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, !self.suid);
        flags.set(MountFlags::NODEV, !self.dev);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags.set(MountFlags::SYNCHRONOUS, self.sync);
        flags
    }

    /// For `fusermount3`, which splits at commas.
    fn of_helper(&self) -> String {
        let word = |is, yes: &'static str, no: &'static str| if is { yes } else { no };
        let access = word(self.read_only, "ro", "rw");
        let (suid, dev) = (word(self.suid, "suid", "nosuid"), word(self.dev, "dev", "nodev"));
        let more = (word(self.no_exec, ",noexec", ""), word(self.sync, ",sync", ""));
        let source = self.source.replace(',', ";");
        format!("fsname={source},{},noatime,{access},{suid},{dev}{}{}", self.of_fuse(), more.0, more.1)
    }
}

/// Mounts; the session is that of the descriptor.
///
/// # Errors
/// What mount(2) or `fusermount3` said.
pub(crate) fn mount(path: &Path, options: &Options) -> io::Result<OwnedFd> {
    let device = open_device()?;
    let root_mode = fs::metadata(path)?.mode();
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let number = device.as_raw_fd();
    let own = options.of_fuse();
    let data =
        CString::new(format!("fd={number},rootmode={root_mode:o},user_id={user},group_id={group},{own}"))?;
    match rustix::mount::mount(options.source.as_str(), path, "fuse", options.flags(), data.as_c_str()) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => mount_by_helper(path, options),
        Err(error) => Err(error.into()),
    }
}

/// Its end of the socket is the helper's standard input, so that no other program inherits it.
fn mount_by_helper(path: &Path, options: &Options) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-o").arg(options.of_helper()).arg("--").arg(path).env(SOCKET_VARIABLE, "0");
    command.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::piped());
    let helper = command.spawn()?;
    // It holds the other end of the socket: else nobody would tell us that the helper has ended.
    drop(command);
    let received = receive_device(&ours);
    drop(ours);
    let said = words_of(helper)?;
    received?.ok_or_else(|| io::Error::other(said))
}

/// What it says when it has ended.
fn words_of(mut helper: Child) -> io::Result<String> {
    let mut said = String::new();
    if let Some(mut words) = helper.stderr.take() {
        words.read_to_string(&mut said)?;
    }
    let status = helper.wait()?;
    let said = said.trim();
    Ok(if said.is_empty() { format!("{FUSERMOUNT} ended with {status}") } else { said.to_owned() })
}

/// None: it ended without having sent one.
fn receive_device(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut parts, &mut passed, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(passed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    pub(super) fn options() -> Options {
        Options {
            source: "a:1;b:2".to_owned(),
            subtype: "cairn",
            allow_other: false,
            read_only: false,
            suid: false,
            dev: false,
            no_exec: false,
            sync: false,
        }
    }

    #[test]
    fn options_are_the_same_for_the_kernel_and_for_the_helper() {
        let plain = options();
        assert_eq!(plain.of_fuse(), "subtype=cairn,default_permissions");
        assert_eq!(plain.flags(), MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV);
        assert_eq!(
            plain.of_helper(),
            "fsname=a:1;b:2,subtype=cairn,default_permissions,noatime,rw,nosuid,nodev"
        );
        let full = Options {
            allow_other: true,
            read_only: true,
            suid: true,
            dev: true,
            no_exec: true,
            sync: true,
            ..plain
        };
        assert_eq!(full.of_fuse(), "subtype=cairn,default_permissions,allow_other");
        let all = MountFlags::NOATIME | MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::SYNCHRONOUS;
        assert_eq!(full.flags(), all);
        let words = full.of_helper();
        assert!(words.ends_with(",allow_other,noatime,ro,suid,dev,noexec,sync"), "{words}");
    }

    #[test]
    fn the_device_is_passed_over_a_socket() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (ours, theirs) = pair();
        let (mut reader, writer) = io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut passed = SendAncillaryBuffer::new(&mut space);
        let descriptors = [writer.as_fd()];
        assert!(passed.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&theirs, &[IoSlice::new(&[0])], &mut passed, SendFlags::empty()).unwrap();
        let received = receive_device(&ours).unwrap().unwrap();
        drop(writer);
        rustix::io::write(&received, b"x").unwrap();
        drop(received);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"x");
        let (ours, theirs) = pair();
        drop(theirs);
        assert!(receive_device(&ours).unwrap().is_none(), "the helper ended");
    }
}
