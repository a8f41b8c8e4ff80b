//! Rows that are proposed and not yet applied, laid over the applied ones: what the next decision sees. Some stay after
//! they were applied, because the next operations read them again: a parent, a counter, a slot.

use super::rows::KvRows;
use bytes::Bytes;
use cairn_core::ids::LogIndex;
use cairn_core::namespace::machine::{RowError, Rows};
use std::collections::BTreeMap;
use std::ops::Bound;

type Row = (Bytes, Bytes);

/// The proposed rows, and the latest applied ones; each with the entry that wrote it last.
#[derive(Debug)]
pub(crate) struct Overlay {
    rows: BTreeMap<Bytes, (LogIndex, Option<Bytes>)>,
    /// With more rows than that, those that are applied go.
    room: usize,
}

impl Overlay {
    /// Empty, with `room` for applied rows.
    pub(crate) fn new(room: usize) -> Self {
        Self { rows: BTreeMap::new(), room }
    }

    /// The rows of entry `index`, which is being proposed.
    pub(crate) fn propose(&mut self, index: LogIndex, rows: &[(Bytes, Option<Bytes>)]) {
        for (key, value) in rows {
            self.rows.insert(key.clone(), (index, value.clone()));
        }
    }

    /// Everything up to entry `index` stands in the state as well.
    pub(super) fn applied(&mut self, index: LogIndex) {
        if self.rows.len() > self.room {
            self.rows.retain(|_, (last, _)| *last > index);
        }
    }

    /// Forgets all: the lead is lost, and what was proposed may never come true.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn range<'a>(&'a self, from: &'a [u8], to: &'a [u8]) -> impl DoubleEndedIterator<Item = Proposed<'a>> {
        // A map refuses a range whose start lies behind its end.
        let to = to.max(from);
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let bounds = if from == to { (Bound::Excluded(from), Bound::Included(from)) } else { bounds };
        self.rows.range::<[u8], _>(bounds).map(|(key, (_, value))| (key, value.as_ref()))
    }
}

type Proposed<'a> = (&'a Bytes, Option<&'a Bytes>);

/// Proposed rows over applied ones.
pub(crate) struct OverlayRows<'a> {
    pub(crate) overlay: &'a Overlay,
    pub(crate) below: KvRows<'a>,
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn comes_first(self, left: &[u8], right: &[u8]) -> bool {
        match self {
            Self::Up => left < right,
            Self::Down => left > right,
        }
    }
}

impl OverlayRows<'_> {
    /// Merges pages from below with the proposed rows of the range, both in the order of `way`.
    fn merge<'a>(
        &self,
        range: (&[u8], &[u8]),
        limit: usize,
        way: Way,
        proposed: impl Iterator<Item = Proposed<'a>>,
    ) -> Result<Vec<Row>, RowError> {
        let mut proposed = proposed.peekable();
        let (mut from, mut to) = (range.0.to_vec(), range.1.to_vec());
        let mut merged: Vec<Row> = Vec::new();
        loop {
            let page = match way {
                Way::Up => self.below.scan(&from, &to, limit)?,
                Way::Down => self.below.scan_reverse(&from, &to, limit)?,
            };
            let more = page.len() == limit;
            if let Some((last, _)) = page.last().filter(|_| more) {
                match way {
                    Way::Up => from = [&last[..], &[0]].concat(),
                    Way::Down => to = last.to_vec(),
                }
            }
            for row in page {
                while let Some((key, value)) = proposed.next_if(|(key, _)| way.comes_first(key, &row.0)) {
                    merged.extend(value.map(|value| (key.clone(), value.clone())));
                }
                match proposed.next_if(|(key, _)| **key == row.0) {
                    Some((key, value)) => merged.extend(value.map(|value| (key.clone(), value.clone()))),
                    None => merged.push(row),
                }
                if merged.len() >= limit {
                    merged.truncate(limit);
                    return Ok(merged);
                }
            }
            if !more {
                let rest = proposed.filter_map(|(key, value)| Some((key.clone(), value?.clone())));
                let room = limit - merged.len();
                merged.extend(rest.take(room));
                return Ok(merged);
            }
        }
    }
}

impl Rows for OverlayRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        match self.overlay.rows.get(key) {
            Some((_, value)) => Ok(value.clone()),
            None => self.below.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, RowError> {
        if self.overlay.is_empty() || limit == 0 {
            return self.below.scan(from, to, limit);
        }
        self.merge((from, to), limit, Way::Up, self.overlay.range(from, to))
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, RowError> {
        if self.overlay.is_empty() || limit == 0 {
            return self.below.scan_reverse(from, to, limit);
        }
        self.merge((from, to), limit, Way::Down, self.overlay.range(from, to).rev())
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        if self.overlay.is_empty() {
            return self.below.multi_get(keys);
        }
        let known = |key: &Bytes| self.overlay.rows.get(key).map(|(_, value)| value.clone());
        let mut found: Vec<_> = keys.iter().map(known).collect();
        let unknown = || keys.iter().zip(&found).filter(|(_, found)| found.is_none());
        let below: Vec<Bytes> = unknown().map(|(key, _)| key.clone()).collect();
        let mut below = self.below.multi_get(&below)?.into_iter();
        for value in found.iter_mut().filter(|found| found.is_none()) {
            *value = below.next();
        }
        Ok(found.into_iter().map(Option::flatten).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_env::kv::{Batch, Kv, Wait};
    use cairn_env::kv_memory::MemoryKv;
    use cairn_env::random::{Random, SeededRandom};

    fn key(number: u64) -> Bytes {
        Bytes::from(vec![1, number as u8])
    }

    #[test]
    fn it_reads_like_one_map_with_everything_written() {
        for seed in 0..300 {
            let random = SeededRandom::new(seed);
            let (kv, mut overlay) = (MemoryKv::new(), Overlay::new(random.below(30) as usize));
            let mut model = BTreeMap::new();
            for index in 1..60u64 {
                let value = (random.below(3) > 0).then(|| Bytes::from(vec![index as u8]));
                let rows = vec![(key(random.below(24)), value)];
                rows.iter().for_each(|(key, value)| match value {
                    Some(value) => drop(model.insert(key.clone(), value.clone())),
                    None => drop(model.remove(key)),
                });
                overlay.propose(LogIndex(index), &rows);
                // Two thirds are applied already, always the oldest.
                if index <= 40 {
                    kv.write(&Batch { writes: rows.clone() }).unwrap();
                    overlay.applied(LogIndex(index));
                }
            }
            let rows = OverlayRows { overlay: &overlay, below: KvRows::new(&kv, Wait::ForDisk) };
            for number in 0..24 {
                assert_eq!(rows.get(&key(number)).unwrap(), model.get(&key(number)).cloned());
            }
            let keys: Vec<Bytes> = (0..24).map(key).collect();
            let values: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
            assert_eq!(rows.multi_get(&keys).unwrap(), values, "seed {seed}");
            for _ in 0..20 {
                let (from, to) = (key(random.below(26)), key(random.below(26)));
                let limit = random.below(9) as usize;
                let inside: Vec<Row> = model
                    .iter()
                    .filter(|(key, _)| **key >= from && **key < to)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let up: Vec<Row> = inside.iter().take(limit).cloned().collect();
                let down: Vec<Row> = inside.iter().rev().take(limit).cloned().collect();
                assert_eq!(rows.scan(&from, &to, limit).unwrap(), up, "seed {seed}");
                assert_eq!(rows.scan_reverse(&from, &to, limit).unwrap(), down, "seed {seed}");
            }
        }
    }

    #[test]
    fn what_is_not_applied_stays_however_little_room_there_is() {
        let mut overlay = Overlay::new(0);
        overlay.propose(LogIndex(1), &[(key(1), Some(Bytes::from_static(b"a")))]);
        overlay.propose(LogIndex(2), &[(key(1), None)]);
        overlay.applied(LogIndex(1));
        assert!(!overlay.is_empty());
        overlay.applied(LogIndex(2));
        assert!(overlay.is_empty());
    }
}
