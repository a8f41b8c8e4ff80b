//! What a file-system operation can end in: a closed list, one POSIX outcome each, plus what the caller may do.

use thiserror::Error;

/// Why an operation was refused or failed. `fuse-mount/src/errno.rs` holds the one table to errno.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FsError {
    /// ENOENT
    #[error("no such file or directory")]
    NotFound,
    /// EEXIST
    #[error("file exists")]
    Exists,
    /// ENOTDIR
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR
    #[error("is a directory")]
    IsDirectory,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// EACCES: the mode bits forbid it.
    #[error("permission denied")]
    PermissionDenied,
    /// EPERM: only the owner or root may.
    #[error("operation not permitted")]
    NotPermitted,
    /// ENAMETOOLONG
    #[error("name longer than 255 bytes, or path longer than 4096")]
    NameTooLong,
    /// EINVAL
    #[error("invalid argument")]
    InvalidArgument,
    /// EXDEV
    #[error("crosses file systems")]
    CrossDevice,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// ENOSPC
    #[error("no space left on the chunk servers")]
    NoSpace,
    /// EFBIG
    #[error("file too large")]
    FileTooLarge,
    /// ENODATA: no such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// E2BIG / ENOSPC of setxattr: value or total beyond the limits.
    #[error("extended attribute too large")]
    AttributeTooLarge,
    /// ELOOP
    #[error("too many levels of symbolic links")]
    SymlinkLoop,
    /// EOPNOTSUPP
    #[error("operation not supported")]
    Unsupported,
    /// ENXIO: SEEK_DATA or SEEK_HOLE beyond the end.
    #[error("no such offset")]
    NoSuchOffset,
    /// EBUSY
    #[error("resource busy")]
    Busy,
    /// ESTALE: the inode is gone, or the session that held it has ended.
    #[error("stale file handle")]
    Stale,
    /// EIO: data that should be there cannot be had from any replica, or a device failed.
    #[error("input/output error: {0}")]
    Io(String),
    /// ETIMEDOUT after the operation's deadline; says what was waited for.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// Another session holds the write lease and has been asked for it: try again shortly. Never reaches a user.
    #[error("write lease is being recalled")]
    LeaseHeld,
    /// Refused early because a queue is full: try again after a pause.
    #[error("overloaded")]
    Overloaded,
    /// This master does not lead; try another. Never reaches a user.
    #[error("not the leader")]
    NotLeader,
    /// The session is unknown or has expired: attach a new one; what it held is gone.
    #[error("session expired")]
    SessionExpired,
    /// Too few chunk servers are reachable for this chunk or file at this moment.
    #[error("data unavailable: {0}")]
    Unavailable(String),
}

/// What the caller of a failed operation may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Final: report it to the application.
    GiveUp,
    /// The same request may succeed after a pause.
    RetryLater,
    /// Find the leader, then send the same request again in the same slot.
    FindLeader,
    /// Open a new session first.
    Reattach,
}

impl FsError {
    /// What the caller may do.
    pub fn advice(&self) -> Advice {
        match self {
            Self::LeaseHeld | Self::Overloaded | Self::Unavailable(_) => Advice::RetryLater,
            Self::NotLeader => Advice::FindLeader,
            Self::SessionExpired => Advice::Reattach,
            _ => Advice::GiveUp,
        }
    }
}
