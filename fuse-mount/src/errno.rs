//! [`FsError`] → errno: the one table. It has no `_` arm, so a new error cannot reach a program by accident.

use cairn_core::error::FsError;
use rustix::io::Errno;

/// The number that the kernel hands to the program.
pub(crate) fn errno(error: &FsError) -> i32 {
    let errno = match error {
        FsError::NotFound => Errno::NOENT,
        FsError::Exists => Errno::EXIST,
        FsError::NotDirectory => Errno::NOTDIR,
        FsError::IsDirectory => Errno::ISDIR,
        FsError::NotEmpty => Errno::NOTEMPTY,
        FsError::PermissionDenied => Errno::ACCESS,
        FsError::NotPermitted => Errno::PERM,
        FsError::NameTooLong => Errno::NAMETOOLONG,
        FsError::InvalidArgument => Errno::INVAL,
        FsError::CrossDevice => Errno::XDEV,
        FsError::TooManyLinks => Errno::MLINK,
        FsError::NoSpace => Errno::NOSPC,
        FsError::FileTooLarge => Errno::FBIG,
        FsError::NoAttribute => Errno::NODATA,
        FsError::AttributeTooLarge => Errno::TOOBIG,
        FsError::SymlinkLoop => Errno::LOOP,
        FsError::Unsupported => Errno::OPNOTSUPP,
        FsError::NoSuchOffset => Errno::NXIO,
        FsError::Busy => Errno::BUSY,
        FsError::Stale => Errno::STALE,
        FsError::TimedOut(_) => Errno::TIMEDOUT,
        // The client answers these itself, by trying again until its deadline; one that arrives here outlived it.
        FsError::LeaseHeld | FsError::Overloaded | FsError::NotLeader => Errno::TIMEDOUT,
        FsError::SessionExpired => Errno::STALE,
        FsError::Io(_) | FsError::Unavailable(_) => Errno::IO,
    };
    errno.raw_os_error()
}

/// Whether an operator should read about it: a failure of the cluster, not an answer about a file.
pub(crate) fn is_failure(error: &FsError) -> bool {
    matches!(
        error,
        FsError::Io(_)
            | FsError::TimedOut(_)
            | FsError::Unavailable(_)
            | FsError::LeaseHeld
            | FsError::Overloaded
            | FsError::NotLeader
            | FsError::SessionExpired
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_the_number_its_doc_names() {
        let text = || "why".to_owned();
        let table = [
            (FsError::NotFound, 2),
            (FsError::Exists, 17),
            (FsError::NotDirectory, 20),
            (FsError::IsDirectory, 21),
            (FsError::NotEmpty, 39),
            (FsError::PermissionDenied, 13),
            (FsError::NotPermitted, 1),
            (FsError::NameTooLong, 36),
            (FsError::InvalidArgument, 22),
            (FsError::CrossDevice, 18),
            (FsError::TooManyLinks, 31),
            (FsError::NoSpace, 28),
            (FsError::FileTooLarge, 27),
            (FsError::NoAttribute, 61),
            (FsError::AttributeTooLarge, 7),
            (FsError::SymlinkLoop, 40),
            (FsError::Unsupported, 95),
            (FsError::NoSuchOffset, 6),
            (FsError::Busy, 16),
            (FsError::Stale, 116),
            (FsError::Io(text()), 5),
            (FsError::TimedOut(text()), 110),
            (FsError::LeaseHeld, 110),
            (FsError::Overloaded, 110),
            (FsError::NotLeader, 110),
            (FsError::SessionExpired, 116),
            (FsError::Unavailable(text()), 5),
        ];
        for (error, number) in table {
            assert_eq!(errno(&error), number, "{error}");
        }
    }

    #[test]
    fn answers_about_files_are_not_failures() {
        assert!(!is_failure(&FsError::NotFound));
        assert!(is_failure(&FsError::Io("chunkserver-1 (127.0.0.1:1): reset".into())));
    }
}
