//! The in-memory twin of the key-value door: RocksDB's commit and crash semantics for simulations and tests.
//!
//! Rows live in a `BTreeMap`. Batches are logged to one file through the disk door: from time to time without a sync, as
//! RocksDB's memtables go out when they are full, and with one at `flush`. So on a simulated disk a crash leaves a prefix
//! of the batches, at least all up to the last flush, by the disk's own rules. A checkpoint is such a log of all rows.
//!
//! ```text
//! record:  length u32 LE · CRC-32 of length and body u32 LE · body        one record per batch; replay ends at the first bad one
//! body:    for each write: key length u32 LE · value length u32 LE (u32::MAX: delete) · key · value
//! ```
//!
//! A snapshot that is held makes the next write copy the map: fine for tests, the reason this is no production store.

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::disk_sim::SimDisk;
use crate::kv::{Batch, Kv, KvError, KvRead, Row, Wait};
use bytes::{Buf, BufMut, Bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

type Rows = BTreeMap<Bytes, Bytes>;

const LOG_NAME: &str = "rows.log";
const HEAD_BYTES: usize = 8;
const DELETED: u32 = u32::MAX;
/// Logged bytes that wait for a write to the file; small, so that tests see batches go out before their flush.
const SPILL_BYTES: usize = 4096;
/// A log is rewritten when it has so many bytes and is four times its rows.
const COMPACT_BYTES_MIN: u64 = 1 << 20;
/// What a row takes in memory beyond its bytes, about.
const ROW_OVERHEAD_BYTES: u64 = 96;

/// Which rows a reader that may not wait is refused; see [`MemoryKv::set_cold`].
#[derive(Default)]
struct Coldness {
    /// One in so many keys is cold; 0: none.
    one_in: AtomicU32,
    warmed: Mutex<BTreeSet<Bytes>>,
}

impl Coldness {
    fn admit(&self, key: &[u8], wait: Wait) -> Result<(), KvError> {
        let one_in = self.one_in.load(Ordering::Relaxed);
        if one_in == 0 || !crc32fast::hash(key).is_multiple_of(one_in) {
            return Ok(());
        }
        match wait {
            Wait::Never if guard(&self.warmed).contains(key) => Ok(()),
            Wait::Never => Err(KvError::NotInMemory),
            Wait::ForDisk => {
                guard(&self.warmed).insert(Bytes::copy_from_slice(key));
                Ok(())
            }
        }
    }
}

/// What a panic elsewhere left is still whole: every critical section here either appends or replaces.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One version of the rows.
struct View {
    rows: Arc<Rows>,
    coldness: Arc<Coldness>,
}

struct Log {
    file: Arc<dyn DiskFile>,
    /// Bytes of whole records in the file.
    length: u64,
    /// Records not yet in the file.
    waiting: Vec<u8>,
    /// A write or sync failed: nothing may be promised any more.
    failed: bool,
}

/// The store.
pub struct MemoryKv {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    rows: RwLock<Arc<Rows>>,
    coldness: Arc<Coldness>,
    log: Mutex<Log>,
}

impl MemoryKv {
    /// An empty store on a simulated disk of its own.
    pub fn new() -> Self {
        Self::open(Arc::new(SimDisk::new()), Path::new("/kv")).expect("a fresh simulated disk does not fail")
    }

    /// Opens the store in the directory `path`, which is made when absent.
    ///
    /// # Errors
    /// As the disk's.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, KvError> {
        if !disk.exists(&path.join(LOG_NAME))? {
            write_rows(&*disk, path, &Rows::new())?;
        }
        let file = disk.open(&path.join(LOG_NAME), OpenMode::Write)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_at(&mut bytes, 0)?;
        let (rows, length) = replay(Bytes::from(bytes));
        if length < file.len()? {
            // Records behind a torn one must not come back to life behind the next ones.
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(Self {
            disk,
            path: path.to_owned(),
            rows: RwLock::new(Arc::new(rows)),
            coldness: Arc::default(),
            log: Mutex::new(Log { file, length, waiting: Vec::new(), failed: false }),
        })
    }

    /// From now on one in `one_in` keys (chosen by its hash; 0: none) is refused with `NotInMemory` to readers that may
    /// not wait, until somebody has read or written it.
    pub fn set_cold(&self, one_in: u32) {
        guard(&self.coldness.warmed).clear();
        self.coldness.one_in.store(one_in, Ordering::Relaxed);
    }

    fn view(&self) -> View {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner).clone();
        View { rows, coldness: self.coldness.clone() }
    }
}

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}

fn record(writes: &[(Bytes, Option<Bytes>)]) -> Vec<u8> {
    let mut out = vec![0; HEAD_BYTES];
    for (key, value) in writes {
        out.put_u32_le(key.len() as u32);
        out.put_u32_le(value.as_ref().map_or(DELETED, |value| value.len() as u32));
        out.put_slice(key);
        out.put_slice(value.as_deref().unwrap_or_default());
    }
    let length = (out.len() - HEAD_BYTES) as u32;
    let crc = record_crc(length, &out[HEAD_BYTES..]);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Covers the length too, so that a sector of zeros (a lost one) is no row of empty records.
fn record_crc(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The rows of all whole records, and where the last of these ends.
fn replay(mut log: Bytes) -> (Rows, u64) {
    let mut rows = Rows::new();
    let mut end = 0;
    while log.len() >= HEAD_BYTES {
        let (length, crc) = (log.get_u32_le() as usize, log.get_u32_le());
        if length > log.len() {
            break;
        }
        let body = log.split_to(length);
        if record_crc(length as u32, &body) != crc {
            break;
        }
        let Some(writes) = decode(body) else { break };
        apply(&mut rows, &writes);
        end += (HEAD_BYTES + length) as u64;
    }
    (rows, end)
}

fn decode(mut body: Bytes) -> Option<Vec<(Bytes, Option<Bytes>)>> {
    let mut writes = Vec::new();
    while !body.is_empty() {
        if body.len() < 8 {
            return None;
        }
        let (key_length, value_length) = (body.get_u32_le(), body.get_u32_le());
        let stored = if value_length == DELETED { 0 } else { value_length as usize };
        if body.len() < (key_length as usize).checked_add(stored)? {
            return None;
        }
        let key = body.split_to(key_length as usize);
        let value = body.split_to(stored);
        writes.push((key, (value_length != DELETED).then_some(value)));
    }
    Some(writes)
}

fn apply(rows: &mut Rows, writes: &[(Bytes, Option<Bytes>)]) {
    for (key, value) in writes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

/// Writes a log of exactly these rows, durably and in one step, in place of what is there.
fn write_rows(disk: &dyn Disk, path: &Path, rows: &Rows) -> io::Result<()> {
    disk.create_dir_all(path)?;
    let mut bytes = Vec::new();
    for (key, value) in rows {
        bytes.extend(record(&[(key.clone(), Some(value.clone()))]));
    }
    crate::disk::replace_durably(disk, &path.join(LOG_NAME), &bytes)?;
    for directory in path.ancestors().skip(1) {
        if directory.as_os_str().is_empty() {
            break;
        }
        disk.sync_dir(directory)?;
    }
    Ok(())
}

impl Log {
    fn usable(&self) -> Result<(), KvError> {
        if self.failed { Err(KvError::Failed("an earlier write or sync failed".into())) } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.file.write_all_at(&self.waiting, self.length)?;
            self.length += self.waiting.len() as u64;
            self.waiting.clear();
        }
        Ok(())
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), KvError> {
        let done = work(self);
        self.failed |= done.is_err();
        Ok(done?)
    }
}

impl KvRead for View {
    fn get(&self, key: &[u8], wait: Wait) -> Result<Option<Bytes>, KvError> {
        self.coldness.admit(key, wait)?;
        Ok(self.rows.get(key).cloned())
    }

    fn multi_get(&self, keys: &[Bytes], wait: Wait) -> Result<Vec<Option<Bytes>>, KvError> {
        keys.iter().map(|key| self.get(key, wait)).collect()
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        collect(range(&self.rows, from, to), limit, &self.coldness, wait)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        collect(range(&self.rows, from, to).rev(), limit, &self.coldness, wait)
    }
}

fn range<'a>(rows: &'a Rows, from: &[u8], to: &[u8]) -> std::collections::btree_map::Range<'a, Bytes, Bytes> {
    // A range that ends before it begins is empty here, and a panic in `BTreeMap`.
    let to = to.max(from);
    rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
}

fn collect<'a>(
    rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
    limit: usize,
    coldness: &Coldness,
    wait: Wait,
) -> Result<Vec<Row>, KvError> {
    rows.take(limit)
        .map(|(key, value)| coldness.admit(key, wait).map(|()| (key.clone(), value.clone())))
        .collect()
}

impl KvRead for MemoryKv {
    fn get(&self, key: &[u8], wait: Wait) -> Result<Option<Bytes>, KvError> {
        self.view().get(key, wait)
    }

    fn multi_get(&self, keys: &[Bytes], wait: Wait) -> Result<Vec<Option<Bytes>>, KvError> {
        self.view().multi_get(keys, wait)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        self.view().scan(from, to, limit, wait)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        self.view().scan_reverse(from, to, limit, wait)
    }
}

impl Kv for MemoryKv {
    fn write(&self, batch: &Batch) -> Result<(), KvError> {
        let mut log = guard(&self.log);
        log.usable()?;
        log.waiting.extend(record(&batch.writes));
        if log.waiting.len() >= SPILL_BYTES {
            log.guarded(Log::spill)?;
        }
        if self.coldness.one_in.load(Ordering::Relaxed) != 0 {
            guard(&self.coldness.warmed).extend(batch.writes.iter().map(|(key, _)| key.clone()));
        }
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        apply(Arc::make_mut(&mut rows), &batch.writes);
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn KvRead + '_> {
        Arc::new(self.view())
    }

    fn flush(&self) -> Result<(), KvError> {
        let mut log = guard(&self.log);
        log.usable()?;
        log.guarded(|log| {
            log.spill()?;
            log.file.sync_data()
        })?;
        let rows = self.view().rows;
        let stored: u64 =
            rows.iter().map(|(key, value)| (HEAD_BYTES * 2 + key.len() + value.len()) as u64).sum();
        if log.length > COMPACT_BYTES_MIN && log.length > 4 * stored {
            log.guarded(|log| {
                write_rows(&*self.disk, &self.path, &rows)?;
                log.file = self.disk.open(&self.path.join(LOG_NAME), OpenMode::Write)?;
                log.length = log.file.len()?;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn checkpoint(&self, path: &Path) -> Result<(), KvError> {
        if self.disk.exists(path)? {
            return Err(KvError::Failed(format!("{} exists", path.display())));
        }
        write_rows(&*self.disk, path, &self.view().rows)?;
        // As RocksDB's: whoever trims a journal by the copy relies on the store itself reaching as far.
        self.flush()
    }

    fn memory_bytes(&self) -> u64 {
        let rows = self.view().rows;
        rows.iter().map(|(key, value)| (key.len() + value.len()) as u64 + ROW_OVERHEAD_BYTES).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv_conformance::{StoreUnderTest, check};

    /// A crash is a power cut of the simulated disk.
    struct OnSimDisk {
        disk: SimDisk,
        seed: u64,
    }

    impl StoreUnderTest for OnSimDisk {
        type Store = MemoryKv;

        fn open(&mut self) -> MemoryKv {
            MemoryKv::open(Arc::new(self.disk.clone()), Path::new("/kv")).unwrap()
        }

        fn crash(&mut self, store: MemoryKv) {
            drop(store);
            self.seed += 1;
            self.disk = self.disk.crash_image(self.seed);
        }

        fn checkpoint_path(&mut self, number: u64) -> PathBuf {
            PathBuf::from(format!("/checkpoint-{number}"))
        }

        fn open_checkpoint(&mut self, path: &Path) -> MemoryKv {
            MemoryKv::open(Arc::new(self.disk.clone()), path).unwrap()
        }
    }

    #[test]
    fn the_twin_keeps_the_contract() {
        for seed in 0..100 {
            check(&mut OnSimDisk { disk: SimDisk::new(), seed: seed * 1000 }, seed, 300);
        }
    }

    fn put(key: &'static [u8], value: Vec<u8>) -> Batch {
        Batch { writes: vec![(Bytes::from_static(key), Some(value.into()))] }
    }

    #[test]
    fn a_failed_sync_fails_the_store_for_good() {
        let disk = SimDisk::new();
        let store = MemoryKv::open(Arc::new(disk.clone()), Path::new("/kv")).unwrap();
        store.write(&put(b"a", vec![1])).unwrap();
        disk.fail_sync(LOG_NAME, 1);
        assert!(store.flush().is_err());
        assert!(store.flush().is_err(), "a failed sync is never retried");
        assert!(store.write(&put(b"b", vec![1])).is_err());
    }

    #[test]
    fn cold_rows_are_refused_to_those_who_may_not_wait() {
        let store = MemoryKv::new();
        store.write(&put(b"a", vec![1])).unwrap();
        store.set_cold(1);
        assert!(matches!(store.get(b"a", Wait::Never), Err(KvError::NotInMemory)));
        assert!(matches!(store.scan(b"a", b"b", 9, Wait::Never), Err(KvError::NotInMemory)));
        assert!(store.get(b"a", Wait::ForDisk).unwrap().is_some());
        assert!(store.get(b"a", Wait::Never).unwrap().is_some());
        store.write(&put(b"b", vec![2])).unwrap();
        assert!(store.get(b"b", Wait::Never).unwrap().is_some());
    }

    #[test]
    fn a_long_log_is_rewritten_and_opens_again() {
        let disk = SimDisk::new();
        let store = MemoryKv::open(Arc::new(disk.clone()), Path::new("/kv")).unwrap();
        for round in 0..300u32 {
            store.write(&put(b"key", vec![round as u8; 10_000])).unwrap();
        }
        store.flush().unwrap();
        assert!(guard(&store.log).length < 20_000);
        store.write(&put(b"after", vec![1])).unwrap();
        store.flush().unwrap();
        let again = MemoryKv::open(Arc::new(disk.crash_image(1)), Path::new("/kv")).unwrap();
        assert_eq!(again.get(b"key", Wait::Never).unwrap().unwrap()[0], 43);
        assert!(again.get(b"after", Wait::Never).unwrap().is_some());
    }
}
