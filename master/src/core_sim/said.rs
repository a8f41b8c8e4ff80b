//! What clients and masters say to each other, as values: the session protocol without its frames.

use super::canon::Asked;
use cairn_core::caching::changes::Changes;
use cairn_core::caching::table::Invalidation;
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, LeaseNumber, Sequence, SessionId, SlotId};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Operation, Query};
use cairn_core::time::Tick;
use std::sync::Arc;
use std::time::Duration;

/// A client's word.
#[derive(Clone, Debug)]
pub(super) enum ToMaster {
    /// Opens a session, or comes back with one.
    Hello { session: Option<(SessionId, [u8; 16])> },
    /// A sequenced operation.
    Operate { slot: SlotId, sequence: Sequence, operation: Operation },
    /// A question.
    Ask { id: u64, query: Query },
    /// It lives; `sent` by its own clock.
    Renew { sent: Tick },
    /// It believes nothing any more that came before this change.
    Confirm { number: u64 },
    /// It has dropped these.
    Forget { inodes: Vec<InodeId> },
    /// It gives a write lease back.
    Returned { inode: InodeId, lease: LeaseNumber },
}

/// A master's word.
#[derive(Clone, Debug)]
pub(super) enum ToClient {
    /// The session is open on this connection.
    Welcome { session: SessionId, secret: [u8; 16] },
    /// This master does not lead, or not any more.
    NotLeader,
    /// The session is no more.
    Ended,
    /// The outcome of an operation, and what it has changed.
    Reply { of: Asked, outcome: Result<Answer, FsError>, changes: Option<Arc<Changes>>, leased: bool },
    /// The answer to a question.
    Answered { id: u64, outcome: Result<Answer, FsError>, leased: bool },
    /// The renewal sent then was heard; with it the shared leases.
    Renewed { sent: Tick, leases: bool },
    /// Something changes.
    Invalidate(Invalidation),
    /// Somebody else wants to write.
    Recall { inode: InodeId, lease: LeaseNumber },
}

/// A stream between a client and a master: what is said arrives in its order, or the stream is broken.
pub(super) struct Connection {
    pub(super) client: u64,
    pub(super) master: u64,
    /// Start of the master's process that it leads to.
    pub(super) start: u64,
    /// When the last word arrives, up and down.
    pub(super) last_up: Duration,
    pub(super) last_down: Duration,
    pub(super) broken: bool,
}
