//! Handles that the kernel holds: open files and open directories, by number.
//!
//! Numbers are never used again, so a stale one finds nothing. Inodes need no table: their numbers are the cluster's own
//! and are never reused, open files are declared to the master by the client, and so `forget` has nothing to do.

use cairn_core::error::FsError;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Open handles of one kind. The kernel bounds their number by the open files of all processes (fs.file-max).
pub(crate) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        // 0 is what the kernel sends when there is no handle.
        Self { next: AtomicU64::new(1), open: RwLock::default() }
    }
}

impl<T> Handles<T> {
    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Keeps `what` and returns its number.
    pub(crate) fn insert(&self, what: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(what));
        number
    }

    /// Finds a handle.
    ///
    /// # Errors
    /// `Stale` when it is not open: the kernel never asks so, unless it speaks to a daemon that did not open it.
    pub(crate) fn get(&self, number: u64) -> Result<Arc<T>, FsError> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned().ok_or(FsError::Stale)
    }

    /// Forgets a handle and returns it for its end.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn remove(&self, number: u64) -> Result<Arc<T>, FsError> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&number).ok_or(FsError::Stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_used_again() {
        let handles = Handles::default();
        let (a, b) = (handles.insert("a"), handles.insert("b"));
        assert_ne!(a, b);
        assert_ne!(a, 0);
        assert_eq!(*handles.remove(a).unwrap(), "a");
        assert_eq!(handles.get(a).unwrap_err(), FsError::Stale);
        assert_eq!(handles.remove(a).unwrap_err(), FsError::Stale);
        assert_eq!((*handles.get(b).unwrap(), handles.count()), ("b", 1));
        assert!(handles.insert("c") > b);
    }

    #[test]
    fn a_request_under_way_keeps_its_handle() {
        let handles = Handles::default();
        let number = handles.insert(7);
        let held = handles.get(number).unwrap();
        handles.remove(number).unwrap();
        assert_eq!(*held, 7);
    }
}
