//! What the kernel is told without having asked.

use super::abi::{INodeNo, OUT_HEADER_BYTES};
use super::wire::Writer;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// `enum fuse_notify_code`
const INVAL_INODE: i32 = 2;
const INC_EPOCH: i32 = 8;
/// `struct fuse_notify_inval_inode_out`
const INVAL_INODE_BYTES: usize = 24;

/// The way there.
#[derive(Debug)]
pub(crate) struct Notifier {
    device: OwnedFd,
}

impl Notifier {
    /// By any descriptor of the session.
    pub(crate) fn new(device: OwnedFd) -> Self {
        Self { device }
    }

    /// The attributes of an inode may have changed.
    ///
    /// # Errors
    /// `NOENT`: the kernel does not know it.
    pub(crate) fn inval_inode(&self, inode: INodeNo) -> Result<(), Errno> {
        self.send(&inval_inode(inode))
    }

    /// What any name leads to may have changed (FUSE 7.44).
    ///
    /// # Errors
    /// As write(2) of the device.
    pub(crate) fn inc_epoch(&self) -> Result<(), Errno> {
        self.send(&message(INC_EPOCH, 0, |_| {}))
    }

    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.device, message).map(drop)
    }
}

fn inval_inode(inode: INodeNo) -> Vec<u8> {
    // A negative offset: attributes only.
    message(INVAL_INODE, INVAL_INODE_BYTES, |out| {
        out.u64(inode.0).i64(-1).i64(0);
    })
}

/// Request 0 is none, and where an answer has its error a notification has its code.
fn message(code: i32, bytes: usize, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::with_capacity(OUT_HEADER_BYTES + bytes);
    out.u32((OUT_HEADER_BYTES + bytes) as u32).i32(code).u64(0);
    fill(&mut out);
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
    fn messages_have_the_sizes_of_the_kernel() {
        assert_eq!(message(INC_EPOCH, 0, |_| {}).len(), OUT_HEADER_BYTES);
        let message = inval_inode(INodeNo(7));
        assert_eq!(message.len(), OUT_HEADER_BYTES + INVAL_INODE_BYTES);
        assert_eq!(message[0..4], 40_u32.to_ne_bytes());
        assert_eq!(message[4..8], 2_i32.to_ne_bytes());
        assert_eq!(message[16..24], 7_u64.to_ne_bytes());
        assert_eq!(message[24..32], (-1_i64).to_ne_bytes());
    }
}
