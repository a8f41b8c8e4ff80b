//! Between core values and wire messages.
//!
//! Core → wire (`From`) is total and loses nothing. Wire → core (`TryFrom`) checks everything that a hostile peer could
//! send: absent parts, unknown numbers, counts and lengths beyond `cairn_core::limits`. What passes keeps the promises
//! that the core types make, so that nobody checks again.

mod answer;
mod attr;
mod error;
mod operation;
mod query;
#[cfg(test)]
mod round_trip_test;

use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::ChunkId;
use cairn_core::namespace::name::Name;
use thiserror::Error;

/// Why a message is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// A part that must be there is not; also a variant that this build does not know.
    #[error("message field {0} is missing or unknown")]
    Missing(&'static str),
    /// A value without meaning.
    #[error("message field {0} is invalid")]
    Invalid(&'static str),
    /// More or longer than the limits allow.
    #[error("message field {0} exceeds its limit")]
    TooLarge(&'static str),
    /// Well formed, but no file system would do it: POSIX has an answer for the caller.
    #[error("{0}")]
    Refused(FsError),
}

impl ConvertError {
    /// What the caller of the operation is answered.
    pub fn to_fs_error(&self) -> FsError {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Missing(_) => FsError::Unsupported,
            Self::Invalid(_) | Self::TooLarge(_) => FsError::InvalidArgument,
        }
    }
}

fn required<T>(part: Option<T>, field: &'static str) -> Result<T, ConvertError> {
    part.ok_or(ConvertError::Missing(field))
}

fn bounded(count: usize, most: usize, field: &'static str) -> Result<(), ConvertError> {
    if count > most { Err(ConvertError::TooLarge(field)) } else { Ok(()) }
}

fn name(raw: Bytes) -> Result<Name, ConvertError> {
    Name::new(raw).map_err(ConvertError::Refused)
}

fn all<W, C: TryFrom<W, Error = ConvertError>>(
    list: Vec<W>,
    most: usize,
    field: &'static str,
) -> Result<Vec<C>, ConvertError> {
    bounded(list.len(), most, field)?;
    list.into_iter().map(C::try_from).collect()
}

fn optional<W, C: TryFrom<W, Error = ConvertError>>(part: Option<W>) -> Result<Option<C>, ConvertError> {
    part.map(C::try_from).transpose()
}

fn chunk_ids(list: Vec<u64>, most: usize, field: &'static str) -> Result<Vec<ChunkId>, ConvertError> {
    bounded(list.len(), most, field)?;
    Ok(list.into_iter().map(ChunkId).collect())
}

fn chunk_numbers(list: Vec<ChunkId>) -> Vec<u64> {
    list.into_iter().map(ChunkId::get).collect()
}
