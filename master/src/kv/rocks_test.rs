//! RocksDB behind the door: what its own settings promise.

use super::RocksKv;
use super::hidden::{HIDDEN_ROWS_MAX, Hidden};
use bytes::Bytes;
use cairn_env::kv::{Batch, Kv, KvError, KvRead, Wait};
use cairn_env::kv_conformance::{StoreUnderTest, check};
use std::path::{Path, PathBuf};

const CACHE_BYTES: usize = 8 << 20;

fn batch(range: std::ops::Range<u32>) -> Batch {
    let row = |number: u32| {
        (Bytes::from(number.to_be_bytes().to_vec()), Some(Bytes::from(vec![number as u8; 100])))
    };
    Batch { writes: range.map(row).collect() }
}

#[test]
fn a_row_that_is_only_on_disk_is_not_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let kv = RocksKv::open(&path, CACHE_BYTES).unwrap();
    kv.write(&batch(0..1000)).unwrap();
    assert!(kv.get(&7u32.to_be_bytes(), Wait::Never).unwrap().is_some(), "memtable");
    kv.flush().unwrap();
    drop(kv);
    let kv = RocksKv::open(&path, CACHE_BYTES).unwrap();
    let from = 0u32.to_be_bytes();
    let to = 1000u32.to_be_bytes();
    assert!(matches!(kv.get(&7u32.to_be_bytes(), Wait::Never), Err(KvError::NotInMemory)));
    assert!(matches!(kv.scan(&from, &to, 5, Wait::Never), Err(KvError::NotInMemory)));
    let many: Vec<Bytes> = [7u32, 8].iter().map(|key| Bytes::from(key.to_be_bytes().to_vec())).collect();
    assert!(matches!(kv.multi_get(&many, Wait::Never), Err(KvError::NotInMemory)));
    assert_eq!(kv.scan(&from, &to, 2000, Wait::ForDisk).unwrap().len(), 1000);
    assert!(kv.get(&7u32.to_be_bytes(), Wait::Never).unwrap().is_some(), "block cache");
    assert!(kv.multi_get(&many, Wait::Never).unwrap().iter().all(Option::is_some), "block cache");
    assert_eq!(
        kv.scan_reverse(&from, &to, 3, Wait::Never).unwrap()[0].0,
        Bytes::from(999u32.to_be_bytes().to_vec())
    );
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(&directory.path().join("state"), CACHE_BYTES).unwrap();
    kv.write(&batch(0..10)).unwrap();
    kv.checkpoint(&directory.path().join("copy")).unwrap();
    kv.write(&batch(10..20)).unwrap();
    let copy = RocksKv::open_read_only(&directory.path().join("copy")).unwrap();
    assert_eq!(copy.scan(&[0], &[1], 100, Wait::ForDisk).unwrap().len(), 10);
    assert!(kv.memory_bytes() > 0);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(&directory.path().join("state"), CACHE_BYTES).unwrap();
    kv.write(&batch(0..10)).unwrap();
    let snapshot = kv.snapshot();
    kv.write(&batch(10..20)).unwrap();
    assert_eq!(snapshot.scan(&[0], &[1], 100, Wait::Never).unwrap().len(), 10);
    let keys: Vec<Bytes> = [9u32, 10].iter().map(|key| Bytes::from(key.to_be_bytes().to_vec())).collect();
    let found: Vec<bool> =
        snapshot.multi_get(&keys, Wait::Never).unwrap().iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false]);
}

/// RocksDB in a temporary directory. Closing it flushes, which a crash may do as well; what a crash can leave beside that
/// is what RocksDB's own tests are for.
struct Rocks(tempfile::TempDir);

impl StoreUnderTest for Rocks {
    type Store = RocksKv;

    fn open(&mut self) -> RocksKv {
        RocksKv::open(&self.0.path().join("state"), CACHE_BYTES).unwrap()
    }

    fn crash(&mut self, store: RocksKv) {
        drop(store);
    }

    fn checkpoint_path(&mut self, number: u64) -> PathBuf {
        self.0.path().join(format!("checkpoint-{number}"))
    }

    fn open_checkpoint(&mut self, path: &Path) -> RocksKv {
        RocksKv::open(path, CACHE_BYTES).unwrap()
    }
}

#[test]
fn it_conforms() {
    for seed in 0..4 {
        check(&mut Rocks(tempfile::tempdir().unwrap()), seed, 400);
    }
}

#[test]
fn a_small_cache_keeps_index_and_filters_however_large_the_tables_are() {
    let directory = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(&directory.path().join("state"), CACHE_BYTES / 4).unwrap();
    let rows = 500_000;
    // Twice, so that the runs overlap and become one table.
    for from in (0..rows).step_by(10_000).chain((0..rows).step_by(10_000)) {
        kv.write(&batch(from..from + 10_000)).unwrap();
    }
    kv.flush().unwrap();
    kv.compact();
    // A name that is not there, as most creates ask for: only index and filter are read.
    let absent = |number: u32| [&number.to_be_bytes()[..], b"x"].concat();
    let asked: Vec<u32> = (0..rows).step_by(10_007).collect();
    for &number in &asked {
        assert!(kv.get(&absent(number), Wait::ForDisk).unwrap().is_none());
    }
    let loads = asked.iter().filter(|&&number| kv.get(&absent(number), Wait::Never).is_err()).count();
    assert!(loads <= asked.len() / 5, "{loads} of {} lookups must go to the disk again", asked.len());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "waits for RocksDB's own threads")]
fn scans_do_not_step_over_deleted_rows_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let kv = RocksKv::open(&directory.path().join("state"), CACHE_BYTES).unwrap();
    let rows = 50 * HIDDEN_ROWS_MAX as u32;
    // What is there already: without it the table of deletions would be moved down as it is, not rewritten.
    kv.write(&batch(0..1)).unwrap();
    kv.write(&batch(rows..rows + 1)).unwrap();
    kv.flush().unwrap();
    // Each row comes and goes, as extents do when a file is written at random offsets; only the first one stays.
    for number in 1..rows {
        let came = batch(number..number + 1);
        let gone = Batch { writes: came.writes.iter().map(|(key, _)| (key.clone(), None)).collect() };
        kv.write(&came).unwrap();
        kv.write(&gone).unwrap();
    }
    let stepped_over = || {
        let hidden = Hidden::watch();
        let found = kv.scan_reverse(&[0], &rows.to_be_bytes(), 1, Wait::ForDisk).unwrap();
        assert_eq!(found.len(), 1);
        hidden.rows()
    };
    let first = stepped_over();
    assert!(first > HIDDEN_ROWS_MAX, "only {first} rows were stepped over: the test is no test");
    // Flush and compaction are RocksDB's own threads.
    for _ in 0..200 {
        if stepped_over() <= HIDDEN_ROWS_MAX {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} deleted rows are still stepped over", stepped_over());
}
