//! What the kernel is allowed to keep, and how it is told that it may not any more.
//!
//! Names are taken back all at once, by a new epoch (FUSE 7.44, Linux 6.16): the older way, one name at a time, waits for
//! the directory's lock, which a request of ours may hold that waits for another mount, which waits for us. So with an
//! older kernel nothing is kept there, and only this process caches.

use crate::kernel::{INodeNo, Notifier, Version};
use cairn_client::fs::FileSystem;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::name::Name;
use rustix::io::Errno;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The first protocol version with epochs.
const EPOCHS_SINCE: Version = Version(7, 44);

/// The kernel's side of the cache.
#[derive(Default)]
pub(crate) struct KernelCache {
    has_epochs: AtomicBool,
    notifier: OnceLock<Notifier>,
}

impl KernelCache {
    /// The kernel has said which version it speaks.
    pub(crate) fn negotiated(&self, version: Version) {
        self.has_epochs.store(version >= EPOCHS_SINCE, Ordering::Release);
    }

    /// The way to the session's kernel.
    pub(crate) fn attach(&self, notifier: Notifier) {
        // One session, one way.
        let _ = self.notifier.set(notifier);
    }

    /// Whether names can be taken back.
    pub(crate) fn has_epochs(&self) -> bool {
        self.has_epochs.load(Ordering::Acquire)
    }

    /// Whether anything may be kept there.
    pub(crate) fn may_keep(&self) -> bool {
        self.has_epochs() && self.notifier.get().is_some()
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
            new_epoch |=
                self.notify(|notifier| notifier.inval_inode(INodeNo(inode.get()))) == Err(Errno::NOENT);
        }
        if new_epoch {
            // There is nothing that it could not find, and `notify` has logged what else went wrong.
            let _ = self.notify(Notifier::inc_epoch);
        }
    }

    fn notify(&self, tell: impl FnOnce(&Notifier) -> Result<(), Errno>) -> Result<(), Errno> {
        let Some(notifier) = self.notifier.get() else { return Ok(()) };
        match tell(notifier) {
            Ok(()) => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_before_the_kernel_can_be_told() {
        let cache = KernelCache::default();
        cache.negotiated(Version(7, 44));
        assert!(!cache.may_keep(), "no device yet");
        cache.disbelieve(&[InodeId(1)], true);
        cache.attach(Notifier::new(std::fs::File::open("/dev/null").unwrap().into()));
        assert!(cache.may_keep());
        cache.negotiated(Version(7, 43));
        assert!(!cache.may_keep(), "an older kernel");
    }
}
