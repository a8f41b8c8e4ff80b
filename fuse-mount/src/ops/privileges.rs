//! What a write takes away: setuid, setgid where it means privilege, and file capabilities.
//!
//! FUSE_HANDLE_KILLPRIV_V2 gives this duty to us; without it the kernel would ask for `security.capability` before every
//! write(2). The master does it with each change of owner or recorded data. What is written is recorded later, though,
//! and stat(2) must show at once that the bits are gone: so an unprivileged writer's first write to a file takes them off
//! here. An inode found free of them stays so until somebody adds some: through this mount that is noticed, through
//! another one it is seen when the data is recorded.

use super::{FileHandle, Ops, ourselves};
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{Attr, AttrChanges};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where file capabilities stand.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// What this mount knows of privileges.
#[derive(Default)]
pub(crate) struct Privileges {
    /// How often privileges were added through this mount, plus one.
    added: AtomicU64,
    /// Files made here and still open since: they have no capability, so the kernel's question needs no master. As many
    /// as open files at most.
    fresh: Mutex<HashSet<InodeId>>,
}

/// What one open file knows: the count of [`Privileges::added`] at which its inode was found free, plus one; or 0.
#[derive(Default)]
pub(crate) struct Checked(AtomicU64);

impl Privileges {
    /// Somebody may have added some.
    pub(crate) fn added(&self) {
        self.added.fetch_add(1, Ordering::AcqRel);
    }

    /// A file was created or, as it may be, opened by create: new ones have not changed since.
    pub(crate) fn created(&self, attr: &Attr, checked: &Checked) {
        if attr.ctime != attr.btime || attr.mode & (SETUID | SETGID) != 0 {
            return;
        }
        self.lock_fresh().insert(attr.inode);
        checked.found_free(self.added.load(Ordering::Acquire));
    }

    /// The file that was fresh is closed, or got a capability.
    pub(crate) fn not_fresh(&self, inode: InodeId) {
        self.lock_fresh().remove(&inode);
    }

    /// Whether the file certainly has no capability.
    pub(crate) fn is_fresh(&self, inode: InodeId) -> bool {
        self.lock_fresh().contains(&inode)
    }

    fn lock_fresh(&self) -> std::sync::MutexGuard<'_, HashSet<InodeId>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checked {
    fn found_free(&self, added: u64) {
        self.0.store(added + 1, Ordering::Release);
    }

    fn is_free(&self, added: u64) -> bool {
        self.0.load(Ordering::Acquire) == added + 1
    }
}

impl Ops {
    /// Before an unprivileged writer changes bytes of `handle`.
    pub(super) async fn drop_privileges(&self, handle: &FileHandle) -> Result<(), FsError> {
        let added = self.privileges.added.load(Ordering::Acquire);
        if handle.checked.is_free(added) {
            return Ok(());
        }
        let (inode, we) = (handle.file.inode(), ourselves());
        let mode = self.client.getattr(&we, inode, Some(&handle.file)).await?.mode;
        let stripped = without_privilege(mode);
        if stripped != mode {
            let changes = AttrChanges { mode: Some(stripped), ..AttrChanges::default() };
            // A writer that goes away does not leave that half done: of a file in use the client carries it out by itself.
            self.client.setattr(&we, inode, changes, Some(&handle.file)).await?;
        }
        handle.checked.found_free(added);
        Ok(())
    }
}

/// Whether a mode that is set may bring privileges.
pub(crate) fn is_privileged(mode: u32) -> bool {
    mode & (SETUID | SETGID) != 0
}

fn without_privilege(mode: u32) -> u32 {
    let setgid = if mode & GROUP_EXECUTE != 0 { SETGID } else { 0 };
    mode & !(SETUID | setgid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setgid_without_group_execute_is_no_privilege() {
        assert_eq!(without_privilege(0o6777), 0o777);
        assert_eq!(without_privilege(0o6767), 0o2767);
        assert_eq!(without_privilege(0o1644), 0o1644);
    }

    #[test]
    fn what_was_found_free_is_asked_again_after_something_was_added() {
        let (privileges, checked) = (Privileges::default(), Checked::default());
        assert!(!checked.is_free(privileges.added.load(Ordering::Acquire)));
        checked.found_free(privileges.added.load(Ordering::Acquire));
        assert!(checked.is_free(privileges.added.load(Ordering::Acquire)));
        privileges.added();
        assert!(!checked.is_free(privileges.added.load(Ordering::Acquire)));
    }
}
