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
//! * Whoever finds the socket free writes everybody's queued frames with one vectored write ([`crate::connection`]). Nobody waits for
//!   the socket: what it does not take at once goes to a task.
//! * The death of a connection, from whatever side or cause, fails all its calls at once with one [`ConnError`].
//! * Limits are checked on the fixed header, before anything is allocated for the body.
//!
//! What does not happen here: no retry, no reconnection, no look into chunks. Frames of one connection are handled
//! concurrently and in no promised order; a caller that needs an order waits for the reply (so a Sync covers the writes
//! that were acknowledged before it was sent).

mod buffers;
mod connection;
mod pending;
mod reader;
mod serve;

#[cfg(test)]
mod data_conn_test;

pub use crate::connection::{Closer, ConnError};
pub use buffers::{PayloadBuffer, PayloadPool};
pub use connection::DataConnection;
pub use serve::{Handler, Request, ServeOptions, serve};

use crate::connection::Outgoing;
use crate::frame::Frame;
use tokio::sync::OwnedSemaphorePermit;

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

fn outgoing(frame: &Frame, places: Vec<OwnedSemaphorePermit>) -> Outgoing {
    Outgoing::new(frame.encode_head().freeze(), frame.payload.clone(), places)
}
