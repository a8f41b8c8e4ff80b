//! The data-plane connection: frames of [`crate::frame`], multiplexed and pipelined over one stream.
//!
//! ```text
//!   caller: call(frame) ──► CombiningWriter ═══ stream ═══► reader ──► Handler::handle ──┐
//!             ▲                                                                          │
//!             └──── pending table ◄── reader ═══ stream ═══ CombiningWriter ◄── reply ◄──┘
//! ```
//!
//! * [`DataConnection`] is the calling side (the client library, and a chunk server towards the next hop);
//!   [`serve`] the answering side. Both begin with the Hello exchange.
//! * Whoever finds the socket free writes everybody's queued frames with one vectored write ([`link`]). Nobody waits for
//!   the socket: what it does not take at once goes to a task.
//! * The death of a connection, from whatever side or cause, fails all its calls at once with one [`ConnError`].
//! * Limits are checked on the fixed header, before anything is allocated for the body.
//!
//! What does not happen here: no retry, no reconnection, no look into chunks. Frames of one connection are handled
//! concurrently and in no promised order; a caller that needs an order waits for the reply (so a Sync covers the writes
//! that were acknowledged before it was sent).

mod buffers;
mod connection;
mod link;
mod pending;
mod reader;
mod serve;

#[cfg(test)]
mod data_conn_test;

pub use buffers::{PayloadBuffer, PayloadPool};
pub use connection::DataConnection;
pub use link::Closer;
pub use serve::{Handler, Request, ServeOptions, serve};

use crate::frame::FrameError;
use crate::v1::RefusedReason;
use std::io;
use std::sync::Arc;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Which of a node's parallel connections to one server this is.
///
/// A caller that reconnects a lane uses a higher generation (0: not fenced). Whatever connection the server accepts next
/// for the lane replaces the one before: the server closes the predecessor, ends the work that it had begun for it, and
/// only then answers the Hello, so an old frame never lands after a new one. That holds within a lane, so a caller sends
/// all frames of one chunk on the same lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Lane {
    /// Number of the lane among the node's connections to this server.
    pub number: u64,
    /// Grows with each reconnection of the lane.
    pub generation: u64,
}

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
    #[error("{peer} broke the data protocol: {source}")]
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
