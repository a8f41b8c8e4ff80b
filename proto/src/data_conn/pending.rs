//! Calls that wait for their reply, by wire id.
//!
//! A call whose caller went away keeps its entry, and its place among the frames in flight, until the reply comes or the
//! connection dies: the peer is still working on it.

use crate::data_conn::ConnError;
use crate::frame::Frame;
use cairn_core::ids::RequestId;
use std::collections::BTreeMap;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Low bits of a wire id: the call within its connection. Above them stands what they have room for of the caller's own
/// request id, so that logs on both sides can be joined.
const CALL_BITS: u32 = 20;

/// One waiting call.
pub(crate) struct Waiting {
    /// The caller's id, restored in what it gets.
    pub(crate) request: RequestId,
    /// Where the final reply goes.
    pub(crate) reply: oneshot::Sender<Result<Frame, ConnError>>,
    /// Where notices go; they are dropped when nobody takes them.
    pub(crate) notices: Option<mpsc::Sender<Frame>>,
    /// The place among the frames in flight.
    pub(crate) _place: OwnedSemaphorePermit,
}

#[derive(Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<u64, Waiting>,
    calls: u64,
    dead: Option<ConnError>,
}

impl Pending {
    /// Enters a call and returns its wire id, or why it cannot be sent.
    pub(crate) fn enter(&mut self, call: Waiting) -> Result<RequestId, ConnError> {
        if let Some(error) = &self.dead {
            return Err(error.clone());
        }
        let traced = call.request.get() << CALL_BITS;
        let wire = loop {
            self.calls += 1;
            let wire = traced | (self.calls & ((1 << CALL_BITS) - 1));
            if !self.waiting.contains_key(&wire) {
                break wire;
            }
        };
        self.waiting.insert(wire, call);
        Ok(RequestId(wire))
    }

    /// Hands a reply to its call. Replies to unknown calls are none of ours: a harmless peer sends none.
    pub(crate) fn reply(&mut self, mut frame: Frame) {
        if let Some(call) = self.waiting.remove(&frame.header.request.get()) {
            frame.header.request = call.request;
            // The caller may have gone away.
            let _ = call.reply.send(Ok(frame));
        }
    }

    /// Hands a notice to its call, which goes on waiting.
    pub(crate) fn notice(&self, mut frame: Frame) {
        if let Some(call) = self.waiting.get(&frame.header.request.get())
            && let Some(notices) = &call.notices
        {
            frame.header.request = call.request;
            // Only a hint: a caller that is full of them or gone needs no further one.
            let _ = notices.try_send(frame);
        }
    }

    /// Takes a call back that was never sent.
    pub(crate) fn withdraw(&mut self, wire: RequestId) {
        self.waiting.remove(&wire.get());
    }

    /// Fails everything that waits, and everything that will.
    pub(crate) fn fail_all(&mut self, error: &ConnError) {
        self.dead.get_or_insert_with(|| error.clone());
        for (_, call) in std::mem::take(&mut self.waiting) {
            // A caller that gave up waiting is not there to hear it.
            let _ = call.reply.send(Err(error.clone()));
        }
    }
}
