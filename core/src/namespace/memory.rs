//! Rows in a map: for tests, for the simulator, and for checks of a whole state.

use super::machine::{RowError, Rows};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The whole state in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRows(BTreeMap<Bytes, Bytes>);

impl MemoryRows {
    /// Writes one row.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.0.insert(key, value);
    }

    /// Applies a record's rows.
    pub fn apply(&mut self, rows: &[(Bytes, Option<Bytes>)]) {
        for (key, value) in rows {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
    }

    /// Every row in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter()
    }
}

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let rows = if from < to { Some(self.0.range::<[u8], _>(bounds)) } else { None };
        Ok(rows.into_iter().flatten().take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let rows = if from < to { Some(self.0.range::<[u8], _>(bounds)) } else { None };
        Ok(rows.into_iter().flatten().rev().take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        Ok(keys.iter().map(|key| self.0.get(key).cloned()).collect())
    }
}
