//! The state of one inode that is open here, shared by all its handles: map, lease, bytes on their way out.
//!
//! Two locks. `state` is held for moments, never across an await. `order` is held by whatever must see the file quiet or
//! change who may write it (lease, flush, truncate, recall); plain writes take it only when they find something missing.
//!
//! Laws: bytes are accepted only under the write lease and into slots that have a chunk; a map is kept only as long as
//! `data_change` is the one it was read at, or was moved on by us alone, under the lease.

mod lease;
mod places;
mod read;
mod resize;
mod state;
mod sync;
mod table;
mod write;
mod writers;

pub(crate) use table::sweep;

use crate::figures::DirtyFigures;
use crate::fs::Handle;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::limits::FILE_UNACKNOWLEDGED_BYTES_MAX;
use cairn_core::namespace::answer::{Answer, Map};
use cairn_core::namespace::attr::Attr;
use state::State;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// One inode in use.
pub(crate) struct Inode {
    /// Which.
    pub(crate) id: InodeId,
    state: Mutex<State>,
    order: tokio::sync::Mutex<()>,
    /// Frames were settled, or something else changed that a flusher waits for.
    progress: Notify,
    /// Bytes that may still be accepted.
    window: Semaphore,
}

impl Inode {
    fn new(attr: &Attr) -> Self {
        Self {
            id: attr.inode,
            state: Mutex::new(State::new(attr)),
            order: tokio::sync::Mutex::new(()),
            progress: Notify::new(),
            window: Semaphore::new(FILE_UNACKNOWLEDGED_BYTES_MAX),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of attributes (and map) that the master has just told.
    pub(crate) fn absorb(&self, attr: &Attr, map: Option<&Map>) {
        let mut state = self.state();
        state.absorb(attr);
        if let Some(map) = map {
            state.learn(0, attr.data_change, map);
        }
    }

    /// `attr` as the caller should see it: with what was written here and is not yet recorded.
    pub(crate) fn overlay(&self, attr: Attr) -> Attr {
        let mut state = self.state();
        state.absorb(&attr);
        state.overlay(attr)
    }

    /// The change of data that this client's view corresponds to.
    pub(crate) fn data_change(&self) -> u64 {
        self.state().map_version
    }

    /// Whether the file has any bytes, unrecorded ones included.
    pub(crate) fn has_bytes(&self) -> bool {
        self.state().size > 0
    }

    /// Whether bytes were accepted here that are not recorded yet: the file has other attributes than anybody else knows.
    pub(crate) fn is_ahead(&self) -> bool {
        let state = self.state();
        state.is_dirty() || state.touched.is_some()
    }

    /// Adds the bytes that are on their way.
    pub(crate) fn add_dirty(&self, dirty: &mut DirtyFigures) {
        let state = self.state();
        if state.is_dirty() || state.recording_bytes > 0 {
            dirty.files += 1;
            dirty.unacknowledged_bytes += state.session.bytes();
            dirty.unrecorded_bytes += state.pending.bytes() + state.recording_bytes;
        }
    }

    /// How many background errors there were: a new handle is told of later ones only.
    pub(crate) fn errors(&self) -> u64 {
        self.state().errors
    }

    /// The error of an earlier write that this handle has not heard of yet.
    pub(crate) fn report_error(&self, handle: &Handle) -> Result<(), FsError> {
        let state = self.state();
        match &state.error {
            Some(error) if handle.hear_of(state.errors) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

/// The answer was of a kind that its request never has.
fn nonsense(answer: &Answer) -> FsError {
    FsError::Io(format!("the master's answer makes no sense: {answer:?}"))
}
