//! The interface for programs: paths, files, streams, as in `tokio::fs`.

mod client;
mod file;
mod metadata;
mod open_options;
mod read_dir;
mod trees;
mod walk;

pub use client::Client;
pub use file::File;
pub use metadata::Metadata;
pub use open_options::OpenOptions;
pub use read_dir::{DirEntry, ReadDir};

use cairn_core::error::FsError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A failed operation: on what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {source}", path = path.display())]
pub struct Error {
    /// The path that was operated on.
    pub path: PathBuf,
    /// Why it failed.
    pub source: FsError,
}

/// Outcome of an operation on a path.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn at(path: &Path) -> impl FnOnce(FsError) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io_kind(&error.source), error)
    }
}

/// The `std::io` kind nearest to a file-system error.
fn io_kind(error: &FsError) -> io::ErrorKind {
    use io::ErrorKind as Kind;
    match error {
        FsError::NotFound | FsError::NoAttribute => Kind::NotFound,
        FsError::Exists => Kind::AlreadyExists,
        FsError::NotDirectory => Kind::NotADirectory,
        FsError::IsDirectory => Kind::IsADirectory,
        FsError::NotEmpty => Kind::DirectoryNotEmpty,
        FsError::PermissionDenied | FsError::NotPermitted => Kind::PermissionDenied,
        FsError::NameTooLong => Kind::InvalidFilename,
        FsError::InvalidArgument | FsError::NoSuchOffset => Kind::InvalidInput,
        FsError::CrossDevice => Kind::CrossesDevices,
        FsError::TooManyLinks => Kind::TooManyLinks,
        FsError::NoSpace | FsError::AttributeTooLarge => Kind::StorageFull,
        FsError::FileTooLarge => Kind::FileTooLarge,
        FsError::Unsupported => Kind::Unsupported,
        FsError::Busy | FsError::LeaseHeld | FsError::Overloaded => Kind::ResourceBusy,
        FsError::Stale | FsError::SessionExpired => Kind::StaleNetworkFileHandle,
        FsError::TimedOut(_) => Kind::TimedOut,
        FsError::NotLeader | FsError::Unavailable(_) => Kind::HostUnreachable,
        FsError::SymlinkLoop | FsError::Io(_) => Kind::Other,
    }
}
