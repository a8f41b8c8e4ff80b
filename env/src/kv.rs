//! The ordered key-value door: the master's applied state.
//!
//! Semantics every implementation shares (one conformance test holds them to it): a batch is atomic and visible at once;
//! nothing is durable before `flush` or `checkpoint`; a crash leaves a prefix of the batches, at least all up to the last
//! flush. RocksDB (without its WAL) implements it in `master`; the in-memory twin stands in `kv_memory`.

use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// A set of writes that become visible together. Later writes to a key win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Key → value, or `None` to delete, in order.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

/// Why a row could not be read.
#[derive(Debug, Error)]
pub enum KvError {
    /// The row is not in memory, and the caller may not wait for the disk.
    #[error("row is not in memory")]
    NotInMemory,
    /// The store failed; the state must not be used further.
    #[error("key-value store failed: {0}")]
    Failed(String),
}

impl From<io::Error> for KvError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Only what is in memory, else [`KvError::NotInMemory`]: the sequencer.
    Never,
    /// As long as it takes: reader threads.
    ForDisk,
}

/// One row.
pub type Row = (Bytes, Bytes);

/// Reads. Keys are ordered bytewise.
pub trait KvRead: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8], wait: Wait) -> Result<Option<Bytes>, KvError>;

    /// Values of many keys, in their order.
    fn multi_get(&self, keys: &[Bytes], wait: Wait) -> Result<Vec<Option<Bytes>>, KvError>;

    /// At most `limit` rows with `from <= key < to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError>;

    /// At most `limit` rows with `from <= key < to`, from the last backwards.
    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError>;
}

/// The whole door.
pub trait Kv: KvRead + 'static {
    /// Applies a batch.
    fn write(&self, batch: &Batch) -> Result<(), KvError>;

    /// A frozen view of this moment.
    fn snapshot(&self) -> Arc<dyn KvRead + '_>;

    /// Makes all batches so far durable.
    fn flush(&self) -> Result<(), KvError>;

    /// Makes a durable copy at `path` (must be absent), which opens as a store of its own. What the copy holds is then
    /// durable in this store too.
    fn checkpoint(&self, path: &Path) -> Result<(), KvError>;

    /// Approximate bytes of memory in use.
    fn memory_bytes(&self) -> u64;
}
