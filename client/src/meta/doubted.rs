//! What an own operation may change: not believed from before it is sent until its answer is there, whether or not anybody
//! still waits for that.

use cairn_core::caching::cache::{Cache, Ticket, UnderWay};
use cairn_core::caching::changes::Changes;
use cairn_core::namespace::request::OperationKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Belongs to the request: it goes with the answer, or with the session, after which nothing is done any more.
pub(super) struct Doubted {
    cache: Arc<Mutex<Cache>>,
    operation: UnderWay,
    ticket: Ticket,
}

impl Doubted {
    /// Must be called before the operation is sent.
    pub(super) fn begin(cache: &Arc<Mutex<Cache>>, kind: &OperationKind) -> Self {
        let mut locked = lock(cache);
        let (operation, ticket) = (locked.begin(kind), locked.ticket());
        drop(locked);
        Self { cache: Arc::clone(cache), operation, ticket }
    }

    /// The answer tells of these changes; `leased`: they may be believed until they are taken back.
    pub(super) fn answered(self, changes: &Changes, leased: bool) {
        lock(&self.cache).own_changes(self.ticket, changes, leased);
    }
}

impl Drop for Doubted {
    fn drop(&mut self) {
        lock(&self.cache).settled(&self.operation);
    }
}

pub(super) fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
