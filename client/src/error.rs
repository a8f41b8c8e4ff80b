//! Why a connection to a cluster could not be made.

use thiserror::Error;

/// Why [`crate::fs::FileSystem::connect`] failed. Each message names the address and the next step.
#[derive(Clone, Debug, Error)]
pub enum ConnectError {
    /// No address was given.
    #[error("no master address given: pass host:port[,host:port…], for example 127.0.0.1:9400")]
    NoMasters,
    /// Something that is not `host:port`.
    #[error("'{0}' is not a master address: expected host:port")]
    BadAddress(String),
    /// Nobody answered in time.
    #[error(
        "no master answered within {waited_ms} ms; last tried {address}: {reason}. Is it running? Try: cairn admin masters --masters {address}"
    )]
    Unreachable {
        /// The address tried last.
        address: String,
        /// What happened there.
        reason: String,
        /// How long it was tried.
        waited_ms: u128,
    },
    /// A master answered and will not have us.
    #[error("master {address} refused the connection: {message}")]
    Refused {
        /// Who.
        address: String,
        /// Its words, with the way out.
        message: String,
    },
}
