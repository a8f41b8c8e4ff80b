//! What an own operation may change: not believed from before it is sent until its answer is there, whether or not anybody
//! still waits for that.

use cairn_core::caching::cache::{Cache, UnderWay};
use cairn_core::caching::changes::Changes;
use cairn_core::namespace::request::OperationKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Belongs to the request: it goes with the answer, or with the session, after which nothing is done any more.
pub(super) struct Doubted {
    cache: Arc<Mutex<Cache>>,
    /// Until the answer.
    operation: Option<UnderWay>,
}

impl Doubted {
    /// Must be called before the operation is sent.
    pub(super) fn begin(cache: &Arc<Mutex<Cache>>, kind: &OperationKind) -> Self {
        let operation = Some(lock(cache).begin(kind));
        Self { cache: Arc::clone(cache), operation }
    }

    /// The answer tells of these changes; `leased`: they may be believed until they are taken back.
    pub(super) fn answered(mut self, changes: &Changes, leased: bool) {
        if let Some(operation) = self.operation.take() {
            lock(&self.cache).answered(operation, changes, leased);
        }
    }
}

impl Drop for Doubted {
    fn drop(&mut self) {
        if let Some(operation) = self.operation.take() {
            lock(&self.cache).ended(operation);
        }
    }
}

pub(super) fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
