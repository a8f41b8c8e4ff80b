//! Who may do what, as POSIX and Linux say it. With `PermissionCheck::Kernel` the caller's kernel has applied all of this
//! already (with the same inputs), so every check passes here; what is structural stands elsewhere.

use super::act::Act;
use super::attr::NodeKind;
use super::machine::Stop;
use super::request::{Credentials, PermissionCheck};
use super::rows::inode::InodeRow;
use super::rows::xattr::{Blob, XattrKey};
use crate::error::FsError;
use bytes::Bytes;

/// Permission to read.
pub(crate) const READ: u32 = 4;
/// Permission to write.
pub(crate) const WRITE: u32 = 2;
/// Permission to execute a file, to search a directory.
pub(crate) const EXECUTE: u32 = 1;

pub(crate) const SETUID: u32 = 0o4000;
pub(crate) const SETGID: u32 = 0o2000;
pub(crate) const STICKY: u32 = 0o1000;
pub(crate) const GROUP_EXECUTE: u32 = 0o010;

/// Where Linux keeps the capabilities of an executable.
const CAPABILITY: &[u8] = b"security.capability";

impl Credentials {
    /// Whether the effective or a supplementary group is `gid`.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether permission checks are skipped, because the caller's kernel has made them.
    pub fn checked_by_kernel(&self) -> bool {
        self.check == PermissionCheck::Kernel
    }

    fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// The mode bits: exactly one class applies, owner before group before others. Root passes, except that executing a
/// file needs one execute bit at least.
pub(crate) fn mode_allows(caller: &Credentials, row: &InodeRow, mask: u32) -> bool {
    debug_assert!(mask <= 7);
    if caller.is_root() {
        let executable = row.is_directory() || row.mode & 0o111 != 0;
        return mask & EXECUTE == 0 || executable;
    }
    let class = if caller.uid == row.uid {
        row.mode >> 6
    } else if caller.in_group(row.gid) {
        row.mode >> 3
    } else {
        row.mode
    };
    class & mask == mask
}

/// `PermissionDenied` unless the mode bits allow all of `mask`.
pub(crate) fn may(caller: &Credentials, row: &InodeRow, mask: u32) -> Result<(), FsError> {
    let passes = caller.checked_by_kernel() || mode_allows(caller, row, mask);
    if passes { Ok(()) } else { Err(FsError::PermissionDenied) }
}

/// `NotPermitted` unless the caller owns it or is root.
pub(crate) fn must_own(caller: &Credentials, row: &InodeRow) -> Result<(), FsError> {
    let passes = caller.checked_by_kernel() || caller.is_root() || caller.uid == row.uid;
    if passes { Ok(()) } else { Err(FsError::NotPermitted) }
}

/// `NotPermitted` unless the caller is root.
pub(crate) fn must_be_root(caller: &Credentials) -> Result<(), FsError> {
    if caller.checked_by_kernel() || caller.is_root() { Ok(()) } else { Err(FsError::NotPermitted) }
}

/// May a name be added to `directory`? A removed directory takes none.
pub(crate) fn may_add(caller: &Credentials, directory: &InodeRow) -> Result<(), FsError> {
    if directory.links == 0 {
        return Err(FsError::NotFound);
    }
    may(caller, directory, WRITE | EXECUTE)
}

/// May the name of `child` be taken out of `directory`? In a sticky directory only by the owner of either.
pub(crate) fn may_remove(
    caller: &Credentials,
    directory: &InodeRow,
    child: &InodeRow,
) -> Result<(), FsError> {
    may(caller, directory, WRITE | EXECUTE)?;
    let sticky = directory.mode & STICKY != 0;
    let owns = caller.is_root() || caller.uid == child.uid || caller.uid == directory.uid;
    if sticky && !owns && !caller.checked_by_kernel() { Err(FsError::NotPermitted) } else { Ok(()) }
}

/// The mode after bytes were written, or the owner changed: setuid goes, and setgid where it means privilege (the group
/// may execute).
pub(crate) fn without_privilege(mode: u32) -> u32 {
    let setgid = if mode & GROUP_EXECUTE != 0 { SETGID } else { 0 };
    mode & !(SETUID | setgid)
}

impl Act<'_> {
    /// What the bytes of a regular file may no longer carry once they were changed: setuid and setgid, unless by root;
    /// file capabilities, whoever wrote. The inode's row is left to the caller to put.
    pub(super) fn drop_privilege_on_write(&mut self, row: &mut InodeRow) -> Result<(), Stop> {
        assert!(row.kind == NodeKind::Regular, "only regular files have bytes");
        if !self.caller.is_root() {
            row.mode = without_privilege(row.mode);
        }
        self.drop_capabilities(row)
    }

    /// Removes `security.capability`, as a change of owner or data does.
    pub(super) fn drop_capabilities(&mut self, row: &mut InodeRow) -> Result<(), Stop> {
        let key = XattrKey { inode: row.inode, name: Bytes::from_static(CAPABILITY) };
        if row.xattr_bytes > 0
            && let Some(Blob(value)) = self.draft.get(&key)?
        {
            row.xattr_bytes -= (key.name.len() + value.len()) as u32;
            self.draft.delete(&key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InodeId;
    use crate::time::Timestamp;

    fn node(kind: NodeKind, mode: u32, uid: u32, gid: u32) -> InodeRow {
        InodeRow { uid, gid, ..InodeRow::new(InodeId(9), kind, mode, Timestamp::default()) }
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, gid, groups: groups.to_vec(), check: PermissionCheck::Master }
    }

    #[test]
    fn exactly_one_class_of_mode_bits_applies() {
        let table = [
            // mode, caller, mask, allowed: the file is 10:20
            (0o700, user(10, 99, &[]), 7, true),
            (0o077, user(10, 20, &[]), READ, false),
            (0o070, user(11, 20, &[]), 7, true),
            (0o070, user(11, 99, &[1, 20]), 7, true),
            (0o707, user(11, 20, &[]), READ, false),
            (0o707, user(11, 99, &[20]), READ, false),
            (0o007, user(11, 99, &[]), 7, true),
            (0o770, user(11, 99, &[]), READ, false),
            (0o600, user(10, 20, &[]), READ | WRITE, true),
            (0o600, user(10, 20, &[]), READ | EXECUTE, false),
            (0o000, user(0, 0, &[]), READ | WRITE, true),
            (0o000, user(0, 0, &[]), EXECUTE, false),
            (0o001, user(0, 0, &[]), EXECUTE, true),
            (0o000, user(10, 20, &[]), 0, true),
        ];
        for (mode, caller, mask, allowed) in table {
            let file = node(NodeKind::Regular, mode, 10, 20);
            assert_eq!(mode_allows(&caller, &file, mask), allowed, "{mode:o} {caller:?} {mask}");
        }
        assert!(mode_allows(&user(0, 0, &[]), &node(NodeKind::Directory, 0, 1, 1), EXECUTE));
    }

    #[test]
    fn sticky_directories_protect_names_of_others() {
        let sticky = node(NodeKind::Directory, 0o1777, 1, 1);
        let file = node(NodeKind::Regular, 0o777, 2, 2);
        for (uid, allowed) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(may_remove(&user(uid, 9, &[2]), &sticky, &file).is_ok(), allowed, "uid {uid}");
        }
        let plain = node(NodeKind::Directory, 0o777, 1, 1);
        assert!(may_remove(&user(3, 9, &[]), &plain, &file).is_ok());
        let closed = node(NodeKind::Directory, 0o1755, 1, 1);
        assert_eq!(may_remove(&user(2, 2, &[]), &closed, &file), Err(FsError::PermissionDenied));
    }

    #[test]
    fn the_kernel_has_checked_already() {
        let kernel = Credentials { uid: 5, gid: 5, groups: vec![], check: PermissionCheck::Kernel };
        let closed = node(NodeKind::Directory, 0o1000, 1, 1);
        assert!(may(&kernel, &closed, 7).is_ok() && must_own(&kernel, &closed).is_ok());
        assert!(may_remove(&kernel, &closed, &node(NodeKind::Regular, 0, 2, 2)).is_ok());
        let removed = InodeRow { links: 0, ..closed };
        assert_eq!(may_add(&kernel, &removed), Err(FsError::NotFound));
    }

    #[test]
    fn privilege_bits_go_with_a_write() {
        assert_eq!(without_privilege(0o6777), 0o777);
        assert_eq!(without_privilege(0o6767), 0o2767, "setgid without group execute is no privilege");
        assert_eq!(without_privilege(0o1644), 0o1644);
    }
}
