//! A name that has passed the checks.

use crate::error::FsError;
use crate::limits::NAME_BYTES_MAX;
use bytes::Bytes;
use std::fmt;

/// One component of a path: 1 ..= 255 arbitrary bytes without `/` and NUL, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Bytes);

impl Name {
    /// Checks a raw name.
    ///
    /// # Errors
    /// `NameTooLong` beyond 255 bytes; `InvalidArgument` when empty, `.`, `..`, or holding `/` or NUL.
    pub fn new(raw: impl Into<Bytes>) -> Result<Self, FsError> {
        let raw = raw.into();
        if raw.len() > NAME_BYTES_MAX {
            return Err(FsError::NameTooLong);
        }
        let reserved = raw.is_empty() || &raw[..] == b"." || &raw[..] == b"..";
        if reserved || raw.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(FsError::InvalidArgument);
        }
        Ok(Self(raw))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The raw bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The raw bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}
