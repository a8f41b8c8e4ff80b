//! What every framed connection is made of: its writing side and fate, and the words for its end.

mod link;

pub use link::{Closer, Link, Outgoing};

use crate::frame::FrameError;
use crate::v1::RefusedReason;
use std::io;
use std::sync::Arc;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Why a connection ended, or could not begin. Every pending call gets a copy.
#[derive(Clone, Debug, Error)]
pub enum ConnError {
    /// The peer closed the connection.
    #[error("{peer} closed the connection")]
    Closed {
        /// Who.
        peer: Arc<str>,
    },
    /// This side closed it.
    #[error("the connection to {peer} was closed on this side")]
    ClosedHere {
        /// The other side.
        peer: Arc<str>,
    },
    /// The network failed.
    #[error("connection to {peer} failed: {source}")]
    Io {
        /// The other side.
        peer: Arc<str>,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// What came is not our protocol.
    #[error("{peer} broke the protocol: {source}")]
    Protocol {
        /// Who.
        peer: Arc<str>,
        /// What was wrong.
        source: FrameError,
    },
    /// The Hello was refused, by the peer or here.
    #[error("{peer} refused the connection: {message}")]
    Refused {
        /// Who.
        peer: Arc<str>,
        /// Class of the refusal.
        reason: RefusedReason,
        /// Component, version and way out, for users.
        message: String,
    },
    /// Nothing was heard for too long, or nothing was accepted for sending.
    #[error("{peer} has been silent for {silent_ms} ms")]
    Silent {
        /// Who.
        peer: Arc<str>,
        /// Milliseconds waited.
        silent_ms: u64,
    },
}

impl ConnError {
    /// Whom the connection is with, as given when it was made.
    pub fn peer(&self) -> &str {
        match self {
            Self::Closed { peer }
            | Self::ClosedHere { peer }
            | Self::Io { peer, .. }
            | Self::Protocol { peer, .. }
            | Self::Refused { peer, .. }
            | Self::Silent { peer, .. } => peer,
        }
    }

    pub(crate) fn io(peer: &Arc<str>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed { peer: peer.clone() },
            _ => Self::Io { peer: peer.clone(), source: Arc::new(source) },
        }
    }
}
