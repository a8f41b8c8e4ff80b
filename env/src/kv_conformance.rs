//! One test for every implementation of the key-value door: random operations against a model.
//!
//! Called from the tests of the in-memory twin and of RocksDB's implementation. It panics at the first difference,
//! naming seed and step; equal seeds take equal steps.

use crate::kv::{Batch, Kv, KvError, KvRead, Row, Wait};
use crate::random::{Random, SeededRandom};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Model = BTreeMap<Bytes, Bytes>;

/// How the test gets at a store, kills it, and finds it again.
pub trait StoreUnderTest {
    /// The implementation.
    type Store: Kv;

    /// Opens the store in its one place; makes it, empty, at the first call.
    fn open(&mut self) -> Self::Store;

    /// The process or the machine dies: the store is closed without a flush. What was not flushed may be there or not.
    fn crash(&mut self, store: Self::Store);

    /// Where checkpoint `number` goes; absent when called.
    fn checkpoint_path(&mut self, number: u64) -> PathBuf;

    /// Opens a checkpoint as a store of its own.
    fn open_checkpoint(&mut self, path: &Path) -> Self::Store;
}

/// Runs `steps` random operations and panics where the store differs from the model.
///
/// # Panics
/// The store breaks the contract of [`crate::kv`].
pub fn check<T: StoreUnderTest>(under_test: &mut T, seed: u64, steps: u32) {
    let mut run = Run {
        random: SeededRandom::new(seed),
        states: vec![Model::new()],
        checkpoints: 0,
        place: format!("seed {seed}"),
    };
    let mut store = under_test.open();
    for step in 0..steps {
        run.place = format!("seed {seed}, step {step}");
        match run.random.below(100) {
            0..30 => run.write(&store),
            30..45 => run.compare_gets(&store),
            45..70 => run.compare_scans(&store),
            70..80 => run.hold_a_snapshot(&store),
            80..88 => {
                store.flush().expect("flush");
                run.states.drain(..run.states.len() - 1);
            }
            88..92 => run.take_a_checkpoint(under_test, &store),
            _ => {
                under_test.crash(store);
                store = under_test.open();
                run.recognise_a_prefix(&store);
            }
        }
        // A number without a promise, but asking for it must work at any time.
        let _ = store.memory_bytes();
    }
    run.compare_all(&store, run.now());
}

struct Run {
    random: SeededRandom,
    /// The state at the last flush, and after every batch since.
    states: Vec<Model>,
    checkpoints: u64,
    place: String,
}

impl Run {
    fn now(&self) -> &Model {
        self.states.last().expect("the state at the last flush is always there")
    }

    /// Short keys of few distinct bytes, so that keys collide, prefix one another and hit the ends of the order.
    fn key(&self) -> Bytes {
        let length = 1 + self.random.below(4);
        (0..length).map(|_| [0, 1, b'a', 0x7f, 0xff][self.random.below(5) as usize]).collect()
    }

    fn value(&self) -> Bytes {
        let length = if self.random.below(20) == 0 { 3000 } else { self.random.below(30) };
        let mut bytes = vec![0; length as usize];
        self.random.fill(&mut bytes);
        bytes.into()
    }

    fn write(&mut self, store: &impl Kv) {
        let mut batch = Batch::default();
        let mut model = self.now().clone();
        for _ in 0..self.random.below(6) {
            let key = self.key();
            let value = (self.random.below(3) > 0).then(|| self.value());
            match &value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(&key),
            };
            batch.writes.push((key, value));
        }
        store.write(&batch).expect("write");
        self.states.push(model);
    }

    fn compare_gets(&self, store: &impl Kv) {
        let keys: Vec<Bytes> = (0..self.random.below(10)).map(|_| self.key()).collect();
        let expected: Vec<Option<Bytes>> = keys.iter().map(|key| self.now().get(key).cloned()).collect();
        for (key, expected) in keys.iter().zip(&expected) {
            assert_eq!(store.get(key, Wait::ForDisk).expect("get"), *expected, "{}: get {key:?}", self.place);
            if let Some(found) = self.unless_cold(store.get(key, Wait::Never)) {
                assert_eq!(found, *expected, "{}: get {key:?} without waiting", self.place);
            }
        }
        let found = store.multi_get(&keys, Wait::ForDisk).expect("multi_get");
        assert_eq!(found, expected, "{}: multi_get {keys:?}", self.place);
        if let Some(found) = self.unless_cold(store.multi_get(&keys, Wait::Never)) {
            assert_eq!(found, expected, "{}: multi_get {keys:?} without waiting", self.place);
        }
    }

    fn unless_cold<V>(&self, result: Result<V, KvError>) -> Option<V> {
        match result {
            Ok(value) => Some(value),
            Err(KvError::NotInMemory) => None,
            Err(error) => panic!("{}: {error}", self.place),
        }
    }

    fn compare_scans(&self, store: &impl Kv) {
        let (from, to) = (self.key(), self.key());
        let limit = [0, 1, 3, usize::MAX][self.random.below(4) as usize];
        self.compare_scan(store, &from, &to, limit);
    }

    /// Ranges may end before they begin; they are empty then.
    fn compare_scan(&self, store: &impl Kv, from: &[u8], to: &[u8], limit: usize) {
        let mut all: Vec<Row> = rows_of(self.now());
        all.retain(|(key, _)| from <= &key[..] && &key[..] < to);
        let forward: Vec<Row> = all.iter().take(limit).cloned().collect();
        let backward: Vec<Row> = all.into_iter().rev().take(limit).collect();
        let what = format!("{}: scan {from:?} .. {to:?}, limit {limit}", self.place);
        assert_eq!(store.scan(from, to, limit, Wait::ForDisk).expect("scan"), forward, "{what}");
        assert_eq!(
            store.scan_reverse(from, to, limit, Wait::ForDisk).expect("scan"),
            backward,
            "{what}, backwards"
        );
        if let Some(found) = self.unless_cold(store.scan(from, to, limit, Wait::Never)) {
            assert_eq!(found, forward, "{what}, without waiting");
        }
        if let Some(found) = self.unless_cold(store.scan_reverse(from, to, limit, Wait::Never)) {
            assert_eq!(found, backward, "{what}, backwards without waiting");
        }
    }

    fn hold_a_snapshot(&mut self, store: &impl Kv) {
        let snapshot = store.snapshot();
        let frozen = self.now().clone();
        for _ in 0..3 {
            self.write(store);
        }
        self.compare_all(&*snapshot, &frozen);
        for key in frozen.keys() {
            let found = snapshot.get(key, Wait::ForDisk).expect("get");
            assert_eq!(found.as_ref(), frozen.get(key), "{}: snapshot", self.place);
        }
    }

    fn take_a_checkpoint<T: StoreUnderTest>(&mut self, under_test: &mut T, store: &T::Store) {
        self.checkpoints += 1;
        let path = under_test.checkpoint_path(self.checkpoints);
        store.checkpoint(&path).expect("checkpoint");
        assert!(store.checkpoint(&path).is_err(), "{}: a checkpoint overwrote another", self.place);
        let copy = under_test.open_checkpoint(&path);
        self.compare_all(&copy, self.now());
        // The copy goes its own way.
        let key = Bytes::from_static(b"only in the copy");
        copy.write(&Batch { writes: vec![(key.clone(), Some(Bytes::new()))] }).expect("write to the copy");
        copy.flush().expect("flush the copy");
        drop(copy);
        self.compare_all(store, self.now());
    }

    /// After a crash the store must hold the state after one of the batches since the last flush.
    fn recognise_a_prefix(&mut self, store: &impl Kv) {
        let found = all_rows(store);
        let state = self.states.iter().find(|state| rows_of(state) == found);
        let Some(state) = state.cloned() else {
            panic!("{}: after a crash the rows are those of no prefix: {found:?}", self.place);
        };
        self.states = vec![state];
    }

    fn compare_all(&self, store: &(impl KvRead + ?Sized), expected: &Model) {
        assert_eq!(all_rows(store), rows_of(expected), "{}: all rows", self.place);
    }
}

fn rows_of(model: &Model) -> Vec<Row> {
    model.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn all_rows(store: &(impl KvRead + ?Sized)) -> Vec<Row> {
    store.scan(&[], &[0xff; 64], usize::MAX, Wait::ForDisk).expect("scan of everything")
}
