//! Who asks, as the kernel tells it.
//!
//! The mount is made with `default_permissions`: the kernel has checked mode bits, ownership, the sticky bit and all
//! supplementary groups before a request arrives, and has applied the umask (`FUSE_DONT_MASK` is not negotiated). The
//! ids that it sends name the owner of what is created.

use cairn_core::namespace::request::{Credentials, PermissionCheck};

/// The caller of a request.
pub(crate) fn caller(uid: u32, gid: u32) -> Credentials {
    Credentials { uid, gid, groups: Vec::new(), check: PermissionCheck::Kernel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_checked() {
        let who = caller(1000, 100);
        assert_eq!((who.uid, who.gid, who.check), (1000, 100, PermissionCheck::Kernel));
        assert!(who.groups.is_empty());
    }
}
