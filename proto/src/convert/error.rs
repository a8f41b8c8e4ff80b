//! `FsError` ↔ `Error`.

use crate::convert::ConvertError;
use crate::v1::{self, ErrorCode};
use cairn_core::error::FsError;

impl From<FsError> for v1::Error {
    fn from(error: FsError) -> Self {
        let (code, detail) = match error {
            FsError::NotFound => (ErrorCode::ErrorNotFound, String::new()),
            FsError::Exists => (ErrorCode::ErrorExists, String::new()),
            FsError::NotDirectory => (ErrorCode::ErrorNotDirectory, String::new()),
            FsError::IsDirectory => (ErrorCode::ErrorIsDirectory, String::new()),
            FsError::NotEmpty => (ErrorCode::ErrorNotEmpty, String::new()),
            FsError::PermissionDenied => (ErrorCode::ErrorPermissionDenied, String::new()),
            FsError::NotPermitted => (ErrorCode::ErrorNotPermitted, String::new()),
            FsError::NameTooLong => (ErrorCode::ErrorNameTooLong, String::new()),
            FsError::InvalidArgument => (ErrorCode::ErrorInvalidArgument, String::new()),
            FsError::CrossDevice => (ErrorCode::ErrorCrossDevice, String::new()),
            FsError::TooManyLinks => (ErrorCode::ErrorTooManyLinks, String::new()),
            FsError::NoSpace => (ErrorCode::ErrorNoSpace, String::new()),
            FsError::FileTooLarge => (ErrorCode::ErrorFileTooLarge, String::new()),
            FsError::NoAttribute => (ErrorCode::ErrorNoAttribute, String::new()),
            FsError::AttributeTooLarge => (ErrorCode::ErrorAttributeTooLarge, String::new()),
            FsError::SymlinkLoop => (ErrorCode::ErrorSymlinkLoop, String::new()),
            FsError::Unsupported => (ErrorCode::ErrorUnsupported, String::new()),
            FsError::NoSuchOffset => (ErrorCode::ErrorNoSuchOffset, String::new()),
            FsError::Busy => (ErrorCode::ErrorBusy, String::new()),
            FsError::Stale => (ErrorCode::ErrorStale, String::new()),
            FsError::Io(detail) => (ErrorCode::ErrorIo, detail),
            FsError::TimedOut(detail) => (ErrorCode::ErrorTimedOut, detail),
            FsError::LeaseHeld => (ErrorCode::ErrorLeaseHeld, String::new()),
            FsError::Overloaded => (ErrorCode::ErrorOverloaded, String::new()),
            FsError::NotLeader => (ErrorCode::ErrorNotLeader, String::new()),
            FsError::SessionExpired => (ErrorCode::ErrorSessionExpired, String::new()),
            FsError::Unavailable(detail) => (ErrorCode::ErrorUnavailable, detail),
        };
        Self { code: code.into(), detail }
    }
}

impl TryFrom<v1::Error> for FsError {
    type Error = ConvertError;

    fn try_from(wire: v1::Error) -> Result<Self, ConvertError> {
        let code = ErrorCode::try_from(wire.code).map_err(|_| ConvertError::Invalid("error.code"))?;
        Ok(match code {
            ErrorCode::ErrorUnspecified => return Err(ConvertError::Missing("error.code")),
            ErrorCode::ErrorNotFound => Self::NotFound,
            ErrorCode::ErrorExists => Self::Exists,
            ErrorCode::ErrorNotDirectory => Self::NotDirectory,
            ErrorCode::ErrorIsDirectory => Self::IsDirectory,
            ErrorCode::ErrorNotEmpty => Self::NotEmpty,
            ErrorCode::ErrorPermissionDenied => Self::PermissionDenied,
            ErrorCode::ErrorNotPermitted => Self::NotPermitted,
            ErrorCode::ErrorNameTooLong => Self::NameTooLong,
            ErrorCode::ErrorInvalidArgument => Self::InvalidArgument,
            ErrorCode::ErrorCrossDevice => Self::CrossDevice,
            ErrorCode::ErrorTooManyLinks => Self::TooManyLinks,
            ErrorCode::ErrorNoSpace => Self::NoSpace,
            ErrorCode::ErrorFileTooLarge => Self::FileTooLarge,
            ErrorCode::ErrorNoAttribute => Self::NoAttribute,
            ErrorCode::ErrorAttributeTooLarge => Self::AttributeTooLarge,
            ErrorCode::ErrorSymlinkLoop => Self::SymlinkLoop,
            ErrorCode::ErrorUnsupported => Self::Unsupported,
            ErrorCode::ErrorNoSuchOffset => Self::NoSuchOffset,
            ErrorCode::ErrorBusy => Self::Busy,
            ErrorCode::ErrorStale => Self::Stale,
            ErrorCode::ErrorIo => Self::Io(wire.detail),
            ErrorCode::ErrorTimedOut => Self::TimedOut(wire.detail),
            ErrorCode::ErrorLeaseHeld => Self::LeaseHeld,
            ErrorCode::ErrorOverloaded => Self::Overloaded,
            ErrorCode::ErrorNotLeader => Self::NotLeader,
            ErrorCode::ErrorSessionExpired => Self::SessionExpired,
            ErrorCode::ErrorUnavailable => Self::Unavailable(wire.detail),
        })
    }
}
