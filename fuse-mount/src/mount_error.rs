//! Why a mount could not be made or did not end well. Each message names the place and the next step.

use cairn_client::ConnectError;
use cairn_core::error::FsError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a mount failed.
#[derive(Debug, Error)]
pub enum MountError {
    /// The kernel has no FUSE, or the container was not given the device.
    #[error(
        "/dev/fuse is missing: load it with `modprobe fuse`, or give the container the device (--device /dev/fuse)"
    )]
    NoDevice,
    /// The device is there but closed to us.
    #[error("/dev/fuse may not be opened by this user: run as root, or `chmod 666 /dev/fuse`")]
    DeviceDenied,
    /// An ordinary user needs the set-user-id helper.
    #[error("fusermount3 is not installed, and only root can mount without it: `apt-get install fuse3`")]
    NoFusermount,
    /// The mount point does not exist.
    #[error("mount point {} does not exist: `mkdir -p` it first", .0.display())]
    Missing(PathBuf),
    /// The mount point is a file.
    #[error("mount point {} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// Mounting would hide what is there.
    #[error("mount point {} is not empty: choose an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there and answers.
    #[error("{} is a mount point already ({kind} of {mounted}): `umount` it first, or choose another directory", path.display())]
    AlreadyMounted {
        /// Where.
        path: PathBuf,
        /// Its file-system type.
        kind: String,
        /// Its source.
        mounted: String,
    },
    /// A dead mount of something else, or one that could not be removed.
    #[error("a dead mount is in the way at {}, and removing it failed: {reason}; try `umount -l {}`", path.display(), path.display())]
    DeadMount {
        /// Where.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// What is mounted there does not answer.
    #[error("{} did not answer within {seconds} s: is its daemon stopped? `umount -l` it first", path.display())]
    NotAnswering {
        /// Where.
        path: PathBuf,
        /// How long it was asked.
        seconds: u64,
    },
    /// The mount point could not be looked at.
    #[error("cannot use mount point {}: {source}", path.display())]
    MountPoint {
        /// Where.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// `allow_other` is not for everybody.
    #[error("allow_other needs the line `user_allow_other` in /etc/fuse.conf, or root")]
    AllowOtherDenied,
    /// The pages of metrics have no place.
    #[error(
        "metrics cannot be served ({source}): choose another port with -o metrics=HOST:PORT, or none with metrics=off"
    )]
    Metrics {
        /// What happened, with the address.
        source: io::Error,
    },
    /// mount(2) or fusermount3 said no.
    #[error("mounting at {} was refused: {reason}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Their words.
        reason: String,
    },
    /// No session with the cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A fault in this process; the mount was taken away so that programs get an error instead of waiting for ever.
    #[error("a thread that serves {} ended unexpectedly, so it was unmounted: mount it again, and report the log", .0.display())]
    ReceiverLost(PathBuf),
    /// The mount could not be taken away.
    #[error("unmounting {} failed: {source}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The mount is gone, but not everything written reached stable storage.
    #[error("unmounted, but not all data could be saved: {0}")]
    NotSaved(FsError),
    /// As before, and the time was up.
    #[error("unmounted, but saving the last data took more than {seconds} s and was given up")]
    SaveTimedOut {
        /// The bound.
        seconds: u64,
    },
}

impl MountError {
    pub(crate) fn mount_point(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path),
            io::ErrorKind::NotADirectory => Self::NotDirectory(path),
            _ => Self::MountPoint { path, source },
        }
    }

    /// What mounting itself ended in.
    pub(crate) fn refused(path: &Path, error: &io::Error) -> Self {
        let reason = error.to_string().trim().to_owned();
        if reason.contains("user_allow_other") {
            return Self::AllowOtherDenied;
        }
        Self::Refused { path: path.to_owned(), reason }
    }
}
