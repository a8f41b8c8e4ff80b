//! Kinds of requests, by the names that the transport has for them.

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lookup,
    GetAttr,
    SetAttr,
    ReadLink,
    Mknod,
    Mkdir,
    Unlink,
    Rmdir,
    Symlink,
    Rename,
    Link,
    Create,
    Open,
    Read,
    Write,
    Flush,
    Release,
    Fsync,
    OpenDir,
    ReadDir,
    ReadDirPlus,
    ReleaseDir,
    FsyncDir,
    StatFs,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    Access,
    Fallocate,
    Lseek,
}

impl Kind {
    /// Every kind with its name; each stands at its own number.
    pub(crate) const ALL: [(Self, &'static str); 31] = [
        (Self::Lookup, "lookup"),
        (Self::GetAttr, "getattr"),
        (Self::SetAttr, "setattr"),
        (Self::ReadLink, "readlink"),
        (Self::Mknod, "mknod"),
        (Self::Mkdir, "mkdir"),
        (Self::Unlink, "unlink"),
        (Self::Rmdir, "rmdir"),
        (Self::Symlink, "symlink"),
        (Self::Rename, "rename"),
        (Self::Link, "link"),
        (Self::Create, "create"),
        (Self::Open, "open"),
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Flush, "flush"),
        (Self::Release, "release"),
        (Self::Fsync, "fsync"),
        (Self::OpenDir, "opendir"),
        (Self::ReadDir, "readdir"),
        (Self::ReadDirPlus, "readdirplus"),
        (Self::ReleaseDir, "releasedir"),
        (Self::FsyncDir, "fsyncdir"),
        (Self::StatFs, "statfs"),
        (Self::SetXattr, "setxattr"),
        (Self::GetXattr, "getxattr"),
        (Self::ListXattr, "listxattr"),
        (Self::RemoveXattr, "removexattr"),
        (Self::Access, "access"),
        (Self::Fallocate, "fallocate"),
        (Self::Lseek, "lseek"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (number, (kind, name)) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number, "{name}");
        }
    }
}
