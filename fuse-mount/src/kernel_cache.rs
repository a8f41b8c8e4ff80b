//! What the kernel is allowed to keep, and how it is told that it may not any more.
//!
//! Names are taken back all at once, by a new epoch (FUSE 7.44, Linux 6.16): the older way, one name at a time, waits for
//! the directory's lock, which a request of ours may hold that waits for another mount, which waits for us. So with an
//! older kernel nothing is kept there, and only this process caches.

use cairn_client::fs::FileSystem;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::name::Name;
use fuser::Version;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first protocol version with epochs.
const EPOCHS_SINCE: Version = Version(7, 44);
/// `enum fuse_notify_code` of linux/fuse.h.
const FUSE_NOTIFY_INVAL_INODE: i32 = 2;
const FUSE_NOTIFY_INC_EPOCH: i32 = 8;
/// `struct fuse_out_header`: length u32, code i32, unique u64.
const HEADER_BYTES: usize = 16;
/// `struct fuse_notify_inval_inode_out`: inode u64, offset i64, length i64. A negative offset: attributes only.
const INVAL_INODE_BYTES: usize = HEADER_BYTES + 24;

/// The kernel's side of the cache.
#[derive(Default)]
pub(crate) struct KernelCache {
    has_epochs: AtomicBool,
    device: OnceLock<OwnedFd>,
}

impl KernelCache {
    /// The kernel has said which version it speaks.
    pub(crate) fn negotiated(&self, version: Version) {
        self.has_epochs.store(version >= EPOCHS_SINCE, Ordering::Release);
    }

    /// The session's device, to be told things without being asked.
    pub(crate) fn attach(&self, device: OwnedFd) {
        // One session, one device.
        let _ = self.device.set(device);
    }

    /// Whether names can be taken back.
    pub(crate) fn has_epochs(&self) -> bool {
        self.has_epochs.load(Ordering::Acquire)
    }

    /// Whether anything may be kept there.
    pub(crate) fn may_keep(&self) -> bool {
        self.has_epochs() && self.device.get().is_some()
    }

    /// How long the kernel may keep attributes.
    pub(crate) fn attr_for(&self, client: &FileSystem, attr: &Attr) -> Duration {
        if self.may_keep() { client.believe(attr) } else { Duration::ZERO }
    }

    /// How long it may keep where a name leads, or that it leads nowhere.
    pub(crate) fn name_for(
        &self,
        client: &FileSystem,
        parent: InodeId,
        name: &Name,
        leads_to: Option<InodeId>,
    ) -> Duration {
        if self.may_keep() { client.believe_name(parent, name, leads_to) } else { Duration::ZERO }
    }

    /// Takes back attributes, and names. Waits for no request: the kernel only marks what it has.
    pub(crate) fn disbelieve(&self, inodes: &[InodeId], names: bool) {
        if !self.may_keep() {
            return;
        }
        let mut new_epoch = names;
        for inode in inodes {
            // It does not know the inode yet, but an answer about it may be on its way there.
            new_epoch |= self.notify(&inval_inode(*inode)) == Err(Errno::NOENT);
        }
        if new_epoch {
            // There is nothing that it could not find, and `notify` has logged what else went wrong.
            let _ = self.notify(&header(HEADER_BYTES, FUSE_NOTIFY_INC_EPOCH));
        }
    }

    fn notify(&self, message: &[u8]) -> Result<(), Errno> {
        let Some(device) = self.device.get() else { return Ok(()) };
        match rustix::io::write(device, message) {
            Ok(_) => Ok(()),
            // Unmounted: nobody believes anything.
            Err(Errno::NODEV | Errno::NOTCONN) => Ok(()),
            Err(Errno::NOENT) => Err(Errno::NOENT),
            Err(error) => {
                tracing::error!(%error, "the kernel refuses to be told of a change; its cache ends by itself");
                Err(error)
            }
        }
    }
}

#[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
fn header(length: usize, code: i32) -> Vec<u8> {
    let mut message = Vec::with_capacity(INVAL_INODE_BYTES);
    message.extend((length as u32).to_ne_bytes());
    message.extend(code.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message
}

#[allow(clippy::host_endian_bytes, reason = "the device speaks the byte order of its host")]
fn inval_inode(inode: InodeId) -> Vec<u8> {
    let mut message = header(INVAL_INODE_BYTES, FUSE_NOTIFY_INVAL_INODE);
    message.extend(inode.get().to_ne_bytes());
    message.extend((-1_i64).to_ne_bytes());
    message.extend(0_i64.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::host_endian_bytes, reason = "as above")]
    fn messages_have_the_sizes_of_the_kernel() {
        assert_eq!(header(HEADER_BYTES, FUSE_NOTIFY_INC_EPOCH).len(), HEADER_BYTES);
        let message = inval_inode(InodeId(7));
        assert_eq!(message.len(), INVAL_INODE_BYTES);
        assert_eq!(message[0..4], (INVAL_INODE_BYTES as u32).to_ne_bytes());
        assert_eq!(message[16..24], 7_u64.to_ne_bytes());
    }

    #[test]
    fn nothing_is_kept_before_the_kernel_can_be_told() {
        let cache = KernelCache::default();
        cache.negotiated(Version(7, 44));
        assert!(!cache.may_keep(), "no device yet");
        cache.disbelieve(&[InodeId(1)], true);
        cache.attach(std::fs::File::open("/dev/null").unwrap().into());
        assert!(cache.may_keep());
        cache.negotiated(Version(7, 43));
        assert!(!cache.may_keep(), "an older kernel");
    }
}
