//! The rows of one decision in the making: typed reads that see the decision's own writes.

use super::machine::{Rows, Stop};
use super::rows::{Damaged, Key, Value, damaged};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Rows beneath, writes above. Nothing reaches the state until the writes are committed as a record.
pub struct Draft<'a> {
    rows: &'a dyn Rows,
    writes: BTreeMap<Bytes, Option<Bytes>>,
}

/// One decoded row.
pub type Found<K> = (K, <K as Key>::Value);

impl<'a> Draft<'a> {
    /// Nothing written yet.
    pub fn new(rows: &'a dyn Rows) -> Self {
        Self { rows, writes: BTreeMap::new() }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// As [`Rows::get`]; `Failed` when the row is damaged.
    pub fn get<K: Key>(&self, key: &K) -> Result<Option<K::Value>, Stop> {
        let raw = key.encode();
        let value = match self.writes.get(&raw) {
            Some(written) => written.clone(),
            None => self.rows.get(&raw)?,
        };
        value.map(|value| decode_value(key, &raw, &value)).transpose()
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn has<K: Key>(&self, key: &K) -> Result<bool, Stop> {
        Ok(self.get(key)?.is_some())
    }

    /// Values of many keys in their order, written ones included.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn multi_get<K: Key>(&self, keys: &[K]) -> Result<Vec<Option<K::Value>>, Stop> {
        let raw: Vec<Bytes> = keys.iter().map(Key::encode).collect();
        let values = self.rows.multi_get(&raw)?;
        if values.len() != raw.len() {
            return Err(Stop::Failed(
                "multi_get answered another number of rows than it was asked for".into(),
            ));
        }
        let decode = |((key, raw), beneath): ((&K, &Bytes), Option<Bytes>)| {
            let value = self.writes.get(raw).cloned().unwrap_or(beneath);
            value.map(|value| decode_value(key, raw, &value)).transpose()
        };
        keys.iter().zip(&raw).zip(values).map(decode).collect()
    }

    /// Writes `value` at `key`.
    pub fn put<K: Key>(&mut self, key: &K, value: &K::Value) {
        self.writes.insert(key.encode(), Some(value.encode()));
    }

    /// Deletes `key`, whether it is there or not.
    pub fn delete<K: Key>(&mut self, key: &K) {
        self.writes.insert(key.encode(), None);
    }

    /// At most `limit` rows of `from <= key < to`, in order, written ones included.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn scan<K: Key>(&self, range: &(Bytes, Bytes), limit: usize) -> Result<Vec<Found<K>>, Stop> {
        let rows = self.merged(range, limit, false)?;
        rows.iter().map(|(key, value)| decode_row(key, value)).collect()
    }

    /// Shows at most `limit` keys and values of the range as they stand, until `act` says that it has enough. Whether it
    /// saw all there are.
    ///
    /// # Errors
    /// As [`Draft::get`]; what `act` finds damaged.
    pub fn visit<K: Key>(
        &self,
        range: &(Bytes, Bytes),
        limit: usize,
        mut act: impl FnMut(&K, &[u8]) -> Result<bool, Damaged>,
    ) -> Result<bool, Stop> {
        let rows = self.merged(range, limit.saturating_add(1), false)?;
        for (raw, value) in rows.iter().take(limit) {
            let goes_on = K::decode(raw).and_then(|key| act(&key, value));
            if !goes_on.map_err(|_| damaged(K::TABLE, raw))? {
                return Ok(false);
            }
        }
        Ok(rows.len() <= limit)
    }

    /// As [`Draft::scan`], from the last backwards.
    ///
    /// # Errors
    /// As [`Draft::get`].
    pub fn scan_reverse<K: Key>(&self, range: &(Bytes, Bytes), limit: usize) -> Result<Vec<Found<K>>, Stop> {
        let rows = self.merged(range, limit, true)?;
        rows.iter().map(|(key, value)| decode_row(key, value)).collect()
    }

    /// At most `limit` rows of the range, the writes laid over those beneath. With `w` writes in the range, `limit + w`
    /// rows beneath hold at least `limit` that are not overwritten, or all there are: so the first `limit` of the merge
    /// are right.
    fn merged(
        &self,
        range: &(Bytes, Bytes),
        limit: usize,
        backwards: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, Stop> {
        let (from, to) = range;
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let own = self.writes.range::<Bytes, _>(from..to);
        let fetch = limit.saturating_add(own.clone().count());
        let beneath = if backwards {
            self.rows.scan_reverse(from, to, fetch)?
        } else {
            self.rows.scan(from, to, fetch)?
        };
        if fetch == limit {
            return Ok(beneath);
        }
        let mut merged: BTreeMap<Bytes, Bytes> = beneath.into_iter().collect();
        for (key, value) in own {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        let ordered = merged.into_iter();
        Ok(if backwards { ordered.rev().take(limit).collect() } else { ordered.take(limit).collect() })
    }

    /// The writes, ordered by key, each key once.
    pub fn into_rows(self) -> Vec<(Bytes, Option<Bytes>)> {
        self.writes.into_iter().collect()
    }
}

fn decode_value<K: Key>(key: &K, raw: &[u8], value: &[u8]) -> Result<K::Value, Stop> {
    let mut decoded = K::Value::decode(value).map_err(|_| damaged(K::TABLE, raw))?;
    key.complete(&mut decoded);
    Ok(decoded)
}

fn decode_row<K: Key>(raw: &[u8], value: &[u8]) -> Result<Found<K>, Stop> {
    let key = K::decode(raw).map_err(|_| damaged(K::TABLE, raw))?;
    let value = decode_value(&key, raw, value)?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InodeId;
    use crate::namespace::memory::MemoryRows;
    use crate::namespace::rows::extent::{ExtentKey, ExtentRow};
    use crate::namespace::rows::{inode::OrphanKey, prefix_range};
    use proptest::prelude::*;

    fn row(n: u64) -> ExtentRow {
        ExtentRow { chunk: crate::ids::ChunkId(n), chunk_offset: 0, length: 1 }
    }

    #[test]
    fn reads_see_own_writes() {
        let rows = MemoryRows::default();
        let mut draft = Draft::new(&rows);
        draft.put(&OrphanKey(InodeId(1)), &super::super::rows::Present);
        assert!(draft.has(&OrphanKey(InodeId(1))).unwrap());
        draft.delete(&OrphanKey(InodeId(1)));
        assert!(!draft.has(&OrphanKey(InodeId(1))).unwrap());
    }

    proptest! {
        #[test]
        fn scans_equal_those_of_a_store_with_the_writes_applied(
            beneath in proptest::collection::btree_set(0u64..40, 0..30),
            writes in proptest::collection::vec((0u64..40, any::<bool>()), 0..20),
            limit in 0usize..12, from in 0u64..40, to in 0u64..40,
        ) {
            let mut rows = MemoryRows::default();
            for &offset in &beneath {
                rows.put(ExtentKey { data: 1, offset }.encode(), row(1).encode());
            }
            let mut applied = rows.clone();
            let mut draft = Draft::new(&rows);
            for &(offset, keep) in &writes {
                let key = ExtentKey { data: 1, offset };
                if keep { draft.put(&key, &row(2)) } else { draft.delete(&key) }
            }
            let range = (ExtentKey { data: 1, offset: from }.encode(), ExtentKey { data: 1, offset: to }.encode());
            let (seen, seen_back) = (draft.scan::<ExtentKey>(&range, limit)?, draft.scan_reverse::<ExtentKey>(&range, limit)?);
            applied.apply(&Draft { rows: &rows, writes: draft.writes.clone() }.into_rows());
            let plain = Draft::new(&applied);
            prop_assert_eq!(seen, plain.scan::<ExtentKey>(&range, limit)?);
            prop_assert_eq!(seen_back, plain.scan_reverse::<ExtentKey>(&range, limit)?);
            let all = prefix_range::<ExtentKey>(&[]);
            prop_assert_eq!(draft.scan::<ExtentKey>(&all, 100)?, plain.scan::<ExtentKey>(&all, 100)?);
        }
    }
}
