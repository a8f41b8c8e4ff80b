//! Rows of the state as the namespace machine reads them: a key-value view, and the overlay of what is proposed.

use bytes::Bytes;
use cairn_core::namespace::machine::{RowError, Rows};
use cairn_env::kv::{KvError, KvRead, Wait};

/// A key-value view that waits for the disk, or does not.
pub(crate) struct KvRows<'a> {
    read: &'a dyn KvRead,
    wait: Wait,
}

impl<'a> KvRows<'a> {
    /// Rows of `read`.
    pub(crate) fn new(read: &'a dyn KvRead, wait: Wait) -> Self {
        Self { read, wait }
    }
}

fn row_error(error: KvError) -> RowError {
    match error {
        KvError::NotInMemory => RowError::NotInMemory,
        KvError::Failed(detail) => RowError::Failed(detail),
    }
}

impl Rows for KvRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        self.read.get(key, self.wait).map_err(row_error)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        self.read.scan(from, to, limit, self.wait).map_err(row_error)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        self.read.scan_reverse(from, to, limit, self.wait).map_err(row_error)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        self.read.multi_get(keys, self.wait).map_err(row_error)
    }
}
