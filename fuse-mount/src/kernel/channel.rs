//! One descriptor of the device: whole requests come out of it, whole answers go in.

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::ioctl;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where the kernel offers FUSE.
pub(super) const DEVICE: &str = "/dev/fuse";
/// `FUSE_DEV_IOC_CLONE`
const CLONE: ioctl::Opcode = ioctl::opcode::read::<u32>(229, 0);

/// A descriptor of a session. The kernel wants each answer at the descriptor that its request came from.
#[derive(Debug)]
pub(crate) struct Channel {
    device: OwnedFd,
}

/// Why no request came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The kernel has let go of the session.
    Unmounted,
    /// That is a fault.
    Failed(Errno),
}

impl Channel {
    /// The session that `device` was mounted with.
    pub(crate) fn new(device: OwnedFd) -> Self {
        Self { device }
    }

    /// Another descriptor of the same session, which a thread reads without meeting the others.
    ///
    /// # Errors
    /// Those of open(2) and ioctl(2).
    pub(crate) fn another(&self) -> io::Result<Self> {
        let device = open_device()?;
        clone_session(&device, &self.device)?;
        Ok(Self { device })
    }

    /// Waits for a request, which `buffer` then holds; it needs room for the largest.
    ///
    /// # Errors
    /// No more will come.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> Result<(), Ended> {
        loop {
            buffer.clear();
            match rustix::io::read(&self.device, spare_capacity(buffer)) {
                Ok(_) => return Ok(()),
                // A request that was taken back before it was read; a signal; as it says.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::NODEV) => return Err(Ended::Unmounted),
                Err(error) => return Err(Ended::Failed(error)),
            }
        }
    }

    /// Sends an answer whose parts make one message.
    ///
    /// # Errors
    /// `NOENT`: nobody waits for it any more.
    pub(crate) fn send(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        // The kernel takes all of it or nothing.
        rustix::io::writev(&self.device, parts).map(drop)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Opens the device, for a new session or for a part of one.
///
/// # Errors
/// As open(2).
pub(super) fn open_device() -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map(OwnedFd::from)
}

#[allow(unsafe_code, reason = "rustix has no safe wrapper of this ioctl")]
fn clone_session(fresh: &OwnedFd, session: &OwnedFd) -> io::Result<()> {
    let number = session.as_raw_fd() as u32;
    // SAFETY: FUSE_DEV_IOC_CLONE reads a u32, the number of an open descriptor, from where its argument points, which is
    // what a `Setter` of a u32 passes; it writes nothing.
    unsafe { ioctl::ioctl(fresh, ioctl::Setter::<CLONE, u32>::new(number)) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_request_fills_the_buffer_anew() {
        let (reader, mut writer) = io::pipe().unwrap();
        let channel = Channel::new(reader.into());
        let mut buffer = Vec::with_capacity(64);
        for request in [&b"a long request"[..], b"short"] {
            writer.write_all(request).unwrap();
            channel.receive(&mut buffer).unwrap();
            assert_eq!(buffer, request);
        }
        assert_eq!(buffer.capacity(), 64, "never moved");
    }

    #[test]
    fn a_fault_is_told_from_an_end() {
        let (_reader, writer) = io::pipe().unwrap();
        let channel = Channel::new(writer.into());
        assert_eq!(channel.receive(&mut Vec::with_capacity(64)), Err(Ended::Failed(Errno::BADF)));
    }
}
