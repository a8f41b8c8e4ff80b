//! RocksDB as the ordered key-value door, written without its log: the journal is the durability point.
//!
//! One column family, so each flush of a memtable leaves a prefix of the batches on disk, as the door promises. Its memory
//! is bounded: index and filter blocks live in the block cache, and at most [`MEMTABLES_MAX`] memtables exist.

use super::hidden::{Hidden, compact_dense};
use bytes::Bytes;
use cairn_env::kv::{Batch, Kv, KvError, KvRead, Row, Wait};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBPinnableSlice, DBRawIterator,
    ErrorKind, FlushOptions, LogLevel, Options, ReadOptions, ReadTier, Snapshot, WriteBatch, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// Cache of a copy that is opened to look into it.
const COPY_CACHE_BYTES: usize = 4 << 20;
/// Bytes of one memtable: 115,000 creates, of which a restart replays 200,000 a second. Larger ones make fewer level-0 files,
/// smaller ones less memory.
const MEMTABLE_BYTES: usize = 80 << 20;
/// The one written to, and the one being flushed, which takes a third of a second; a writer waits beyond.
const MEMTABLES_MAX: i32 = 2;
/// Bytes of a block: what one cold read loads.
const BLOCK_BYTES: usize = 16 << 10;
/// Bytes of a piece of index or filter. Whole ones grow with their table to a megabyte and more: larger than a shard of the
/// cache likes to hold, so that every miss would read one again.
const METADATA_BLOCK_BYTES: usize = 8 << 10;
/// Bits of the bloom filter per key: one false positive in a hundred.
const BLOOM_BITS: f64 = 10.0;
/// Open table files; bounds descriptors.
const OPEN_FILES_MAX: i32 = 1024;
/// Written back while compactions write, so that their end is no storm in front of the journal's fdatasync.
const BYTES_PER_SYNC: u64 = 1 << 20;

/// The store.
pub struct RocksKv {
    db: DB,
    write_options: WriteOptions,
}

impl RocksKv {
    /// Opens the store at `path`, making it when absent. Blocks, index and filters take `cache_bytes` of memory.
    ///
    /// # Errors
    /// `Failed` with what RocksDB says.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, KvError> {
        let mut options = options(cache_bytes);
        options.create_if_missing(true);
        Self::with(DB::open_cf_with_opts(&options, path, families(&options)).map_err(failed)?)
    }

    /// Opens an existing store, such as a checkpoint, for reading only.
    ///
    /// # Errors
    /// `Failed` with what RocksDB says.
    pub fn open_read_only(path: &Path) -> Result<Self, KvError> {
        let options = options(COPY_CACHE_BYTES);
        let db = DB::open_cf_with_opts_for_read_only(&options, path, families(&options), false);
        Self::with(db.map_err(failed)?)
    }

    fn with(db: DB) -> Result<Self, KvError> {
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self { db, write_options })
    }

    /// Leaves one sorted run: the shape in which tables, and what they keep of index and filters, are largest.
    #[cfg(test)]
    pub(super) fn compact(&self) {
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }

    fn view(&self) -> View<'_> {
        View { db: &self.db, snapshot: None }
    }

    fn property(&self, name: &str) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }
}

/// The default column family by name: only then does the crate hand out the handle that batched reads need.
fn families(options: &Options) -> [(&'static str, Options); 1] {
    [(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, options.clone())]
}

fn options(cache_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(METADATA_BLOCK_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    options.set_max_background_jobs(2);
    options.set_atomic_flush(true);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    compact_dense(&mut options);
    options
}

fn failed(error: rocksdb::Error) -> KvError {
    match error.kind() {
        ErrorKind::Incomplete => KvError::NotInMemory,
        _ => KvError::Failed(error.into_string()),
    }
}

/// The store, or a frozen moment of it.
struct View<'a> {
    db: &'a DB,
    snapshot: Option<Snapshot<'a>>,
}

impl View<'_> {
    fn read_options(&self, wait: Wait) -> ReadOptions {
        let mut options = ReadOptions::default();
        if wait == Wait::Never {
            options.set_read_tier(ReadTier::BlockCache);
        }
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    fn walk(
        &self,
        (from, to): (&[u8], &[u8]),
        limit: usize,
        wait: Wait,
        start: fn(&mut DBRawIterator<'_>),
        step: fn(&mut DBRawIterator<'_>),
    ) -> Result<Vec<Row>, KvError> {
        let mut copied = Copied::default();
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let mut options = self.read_options(wait);
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let hidden = Hidden::watch();
        let mut iterator = self.db.raw_iterator_opt(options);
        start(&mut iterator);
        while let Some((key, value)) = iterator.item() {
            copied.push(key, value);
            if copied.ends.len() == limit {
                break;
            }
            step(&mut iterator);
        }
        iterator.status().map_err(failed)?;
        hidden.settle(self.db);
        Ok(copied.into_rows())
    }
}

/// Rows of one scan in one piece of memory: they are read together and dropped together.
#[derive(Default)]
struct Copied {
    bytes: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Copied {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn into_rows(self) -> Vec<Row> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let row = |(key_end, value_end)| {
            let row = (bytes.slice(start..key_end), bytes.slice(key_end..value_end));
            start = value_end;
            row
        };
        self.ends.into_iter().map(row).collect()
    }
}

impl KvRead for View<'_> {
    fn get(&self, key: &[u8], wait: Wait) -> Result<Option<Bytes>, KvError> {
        let value = self.db.get_pinned_opt(key, &self.read_options(wait)).map_err(failed)?;
        Ok(value.map(|slice| Bytes::copy_from_slice(&slice)))
    }

    fn multi_get(&self, keys: &[Bytes], wait: Wait) -> Result<Vec<Option<Bytes>>, KvError> {
        let family = self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME);
        let family = family.ok_or_else(|| KvError::Failed("no default column family".into()))?;
        let sorted = keys.is_sorted();
        let options = self.read_options(wait);
        if wait == Wait::Never {
            // RocksDB's own MultiGet does not keep to the tier: it would read the disk.
            let get = |key: &Bytes| self.db.get_pinned_opt(key, &options).map_err(failed);
            let copied =
                |value: Option<DBPinnableSlice<'_>>| value.map(|slice| Bytes::copy_from_slice(&slice));
            return keys.iter().map(|key| get(key).map(copied)).collect();
        }
        let values = self.db.batched_multi_get_cf_opt(&family, keys, sorted, &options);
        let copied = values.into_iter().map(|value| {
            let value = value.map_err(failed)?;
            Ok(value.map(|slice| Bytes::copy_from_slice(&slice)))
        });
        copied.collect()
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        self.walk((from, to), limit, wait, |iterator| iterator.seek_to_first(), |iterator| iterator.next())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize, wait: Wait) -> Result<Vec<Row>, KvError> {
        self.walk((from, to), limit, wait, |iterator| iterator.seek_to_last(), |iterator| iterator.prev())
    }
}

impl KvRead for RocksKv {
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

impl Kv for RocksKv {
    fn write(&self, batch: &Batch) -> Result<(), KvError> {
        let mut writes = WriteBatch::default();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => writes.put(key, value),
                None => writes.delete(key),
            }
        }
        self.db.write_opt(writes, &self.write_options).map_err(failed)
    }

    fn snapshot(&self) -> Arc<dyn KvRead + '_> {
        Arc::new(View { db: &self.db, snapshot: Some(self.db.snapshot()) })
    }

    fn flush(&self) -> Result<(), KvError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(failed)
    }

    fn checkpoint(&self, path: &Path) -> Result<(), KvError> {
        // RocksDB flushes only when its own log is too long, and there is none.
        self.flush()?;
        Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(path)).map_err(failed)
    }

    fn memory_bytes(&self) -> u64 {
        let parts = [
            "rocksdb.block-cache-usage",
            "rocksdb.size-all-mem-tables",
            "rocksdb.estimate-table-readers-mem",
        ];
        parts.into_iter().map(|part| self.property(part)).sum()
    }
}
