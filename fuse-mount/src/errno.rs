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

/// Kinds of errors, as operators tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    /// ENOENT, ENODATA, ENXIO
    Absent,
    /// EEXIST, ENOTEMPTY, EBUSY
    InTheWay,
    /// EACCES, EPERM
    Denied,
    /// What was asked makes no sense, or is not offered.
    Invalid,
    /// ENOSPC
    NoSpace,
    /// ESTALE
    Stale,
    /// ETIMEDOUT
    TimedOut,
    /// EIO
    Io,
}

impl ErrorClass {
    /// Every class with its name; each stands at its own number.
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (Self::Absent, "absent"),
        (Self::InTheWay, "in_the_way"),
        (Self::Denied, "denied"),
        (Self::Invalid, "invalid"),
        (Self::NoSpace, "no_space"),
        (Self::Stale, "stale"),
        (Self::TimedOut, "timed_out"),
        (Self::Io, "io"),
    ];

    /// Follows the number that the program sees.
    pub(crate) fn of(error: &FsError) -> Self {
        match Errno::from_raw_os_error(errno(error)) {
            Errno::NOENT | Errno::NODATA | Errno::NXIO => Self::Absent,
            Errno::EXIST | Errno::NOTEMPTY | Errno::BUSY => Self::InTheWay,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::NOSPC => Self::NoSpace,
            Errno::STALE => Self::Stale,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::IO => Self::Io,
            _ => Self::Invalid,
        }
    }
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
            let is_timely = !matches!(ErrorClass::of(&error), ErrorClass::Io | ErrorClass::TimedOut);
            assert!(is_timely || is_failure(&error), "{error}");
        }
    }

    #[test]
    fn classes_stand_at_their_numbers() {
        for (number, (class, name)) in ErrorClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number, "{name}");
        }
        assert_eq!(ErrorClass::of(&FsError::Exists), ErrorClass::InTheWay);
        assert_eq!(ErrorClass::of(&FsError::NotDirectory), ErrorClass::Invalid);
        assert_eq!(ErrorClass::of(&FsError::Overloaded), ErrorClass::TimedOut);
    }

    #[test]
    fn answers_about_files_are_not_failures() {
        assert!(!is_failure(&FsError::NotFound));
        assert!(is_failure(&FsError::Io("chunkserver-1 (127.0.0.1:1): reset".into())));
    }
}
