//! Open replica files and their checksum tables in memory.
//!
//! There is at most one `OpenFile` per replica in the cache, and its table is newer than the file's for blocks not yet
//! synced: such a file is *pinned* and never closed before its sync. Everything else is closed oldest first. So the cache
//! exceeds its size only by what is being written back; new pins are refused at the limit ([`OpenFiles::may_pin`]).

use cairn_core::chunk::ReplicaKey;
use cairn_core::chunk::replica_file::{ENTRY_BYTES, TableEntry, entry_at};
use cairn_core::limits::START_WRITE_OUT_BYTES;
use cairn_core::units::CHUNK_BYTES;
use cairn_env::disk::DiskFile;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Entries of one page of the table.
pub(super) const PAGE_ENTRIES: u32 = 512;
type Page = Box<[TableEntry; PAGE_ENTRIES as usize]>;

/// An open replica file.
pub(super) struct OpenFile {
    pub(super) file: Arc<dyn DiskFile>,
    table: Mutex<BTreeMap<u32, Page>>,
    pinned: AtomicBool,
    all_pinned: Arc<AtomicUsize>,
    /// Bytes written in place since the system was last asked to write them out.
    lingering: AtomicU64,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.pin(false);
    }
}

impl OpenFile {
    fn new(file: Arc<dyn DiskFile>, all_pinned: Arc<AtomicUsize>) -> Self {
        Self {
            file,
            table: Mutex::new(BTreeMap::new()),
            pinned: AtomicBool::new(false),
            all_pinned,
            lingering: AtomicU64::new(0),
        }
    }

    /// The table's newest entries of `first .. end`.
    pub(super) fn entries(&self, first: u32, end: u32) -> io::Result<Vec<TableEntry>> {
        let mut table = self.lock();
        (first..end).map(|block| Ok(self.page(&mut table, block)?[(block % PAGE_ENTRIES) as usize])).collect()
    }

    /// The same if they are in memory.
    pub(super) fn known_entries(&self, first: u32, end: u32) -> Option<Vec<TableEntry>> {
        let table = self.table.try_lock().ok()?;
        let entry = |block: u32| Some(table.get(&(block / PAGE_ENTRIES))?[(block % PAGE_ENTRIES) as usize]);
        (first..end).map(entry).collect()
    }

    /// Changes an entry in memory only, and answers what it was.
    pub(super) fn set(&self, block: u32, entry: TableEntry) -> io::Result<TableEntry> {
        let mut table = self.lock();
        let place = &mut self.page(&mut table, block)?[(block % PAGE_ENTRIES) as usize];
        Ok(std::mem::replace(place, entry))
    }

    /// Writes entries from `first` on into the file, whatever memory has.
    pub(super) fn put_entries(&self, first: u32, entries: &[TableEntry]) -> io::Result<()> {
        let bytes: Vec<u8> = entries.iter().copied().flat_map(TableEntry::encode).collect();
        self.file.write_all_at(&bytes, entry_at(first))
    }

    /// Writes the entries of `first .. end` into the file, and answers them; no other byte is touched.
    pub(super) fn write_entries(&self, first: u32, end: u32) -> io::Result<Vec<TableEntry>> {
        let entries = self.entries(first, end)?;
        let bytes: Vec<u8> = entries.iter().copied().flat_map(TableEntry::encode).collect();
        self.file.write_all_at(&bytes, entry_at(first))?;
        Ok(entries)
    }

    /// Starts writing out what was written in place, every few MiB: so a sync at the end of a chunk finds little to do.
    pub(super) fn written_in_place(&self, bytes: u64) {
        if self.lingering.fetch_add(bytes, Ordering::Relaxed) + bytes >= START_WRITE_OUT_BYTES {
            self.lingering.store(0, Ordering::Relaxed);
            // A hint; the sync tells of errors.
            let _ = self.file.start_writeback(0, CHUNK_BYTES);
        }
    }

    /// Forbids (or allows again) to close the file.
    pub(super) fn pin(&self, pinned: bool) {
        match (self.pinned.swap(pinned, Ordering::AcqRel), pinned) {
            (false, true) => _ = self.all_pinned.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.all_pinned.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    fn page<'a>(&self, table: &'a mut BTreeMap<u32, Page>, block: u32) -> io::Result<&'a mut Page> {
        use std::collections::btree_map::Entry;
        match table.entry(block / PAGE_ENTRIES) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(absent) => {
                let mut bytes = [0; PAGE_ENTRIES as usize * ENTRY_BYTES];
                // Short at the end of the file: no entries there.
                self.file.read_at(&mut bytes, entry_at(block / PAGE_ENTRIES * PAGE_ENTRIES))?;
                let mut page: Page = Box::new([TableEntry::default(); PAGE_ENTRIES as usize]);
                for (entry, bytes) in page.iter_mut().zip(bytes.chunks_exact(ENTRY_BYTES)) {
                    *entry = TableEntry::decode(bytes);
                }
                Ok(absent.insert(page))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Page>> {
        self.table.lock().expect("no holder of a table's lock panics")
    }
}

type FileKey = (usize, ReplicaKey);

#[derive(Default)]
struct Cache {
    files: BTreeMap<FileKey, (Arc<OpenFile>, u64)>,
    uses: u64,
}

/// The open files of a store.
pub(super) struct OpenFiles {
    cache: Mutex<Cache>,
    most: usize,
    pinned: Arc<AtomicUsize>,
}

impl OpenFiles {
    pub(super) fn new(most: usize) -> Self {
        Self { cache: Mutex::new(Cache::default()), most, pinned: Arc::default() }
    }

    /// Whether one more file may be pinned.
    pub(super) fn may_pin(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) < self.most
    }

    /// Whether so many are pinned that some should be synced.
    pub(super) fn many_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) > self.most / 2
    }

    /// The file, when it is open.
    pub(super) fn get(&self, volume: usize, key: ReplicaKey) -> Option<Arc<OpenFile>> {
        let mut cache = self.lock();
        cache.uses += 1;
        let uses = cache.uses;
        let (file, used) = cache.files.get_mut(&(volume, key))?;
        *used = uses;
        Some(Arc::clone(file))
    }

    /// The file, opened by `open` when it is not yet. Only a reader's may be another one than the cache's (when that is
    /// full): it may then be out of date, which the reader notices.
    pub(super) fn get_or_open(
        &self,
        volume: usize,
        key: ReplicaKey,
        kept: bool,
        open: impl FnOnce() -> io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<OpenFile>> {
        if let Some(file) = self.get(volume, key) {
            return Ok(file);
        }
        let opened = Arc::new(OpenFile::new(open()?, Arc::clone(&self.pinned)));
        let mut cache = self.lock();
        if cache.files.len() >= self.most {
            cache.close_oldest(self.most / 8 + 1);
        }
        let full = cache.files.len() >= self.most;
        cache.uses += 1;
        let uses = cache.uses;
        match cache.files.get(&(volume, key)) {
            // Somebody else was quicker; there must be one table only.
            Some((file, _)) => Ok(Arc::clone(file)),
            None if full && !kept => Ok(opened),
            None => {
                cache.files.insert((volume, key), (Arc::clone(&opened), uses));
                Ok(opened)
            }
        }
    }

    /// Closes the file of a replica that is gone.
    pub(super) fn forget(&self, volume: usize, key: ReplicaKey) {
        self.lock().files.remove(&(volume, key));
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no holder of the file cache's lock panics")
    }
}

impl Cache {
    /// Closes up to `count` files that nobody uses at this moment and that are not pinned.
    fn close_oldest(&mut self, count: usize) {
        let idle =
            |file: &Arc<OpenFile>| Arc::strong_count(file) == 1 && !file.pinned.load(Ordering::Acquire);
        let mut oldest: Vec<(u64, FileKey)> = self
            .files
            .iter()
            .filter(|(_, (file, _))| idle(file))
            .map(|(key, (_, used))| (*used, *key))
            .collect();
        oldest.sort_unstable();
        for (_, key) in oldest.into_iter().take(count) {
            self.files.remove(&key);
        }
    }
}
