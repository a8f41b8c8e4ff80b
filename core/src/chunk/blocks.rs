//! A set of block indices, kept as runs: almost every replica is one run, written from its beginning.

use crate::units::BLOCKS_PER_CHUNK;

/// Most runs that a chunk can have: every second block.
pub const RUNS_MAX: usize = BLOCKS_PER_CHUNK as usize / 2;

/// Blocks of one chunk. Runs are sorted, never empty, and never touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSet {
    runs: Vec<(u32, u32)>,
}

impl BlockSet {
    /// A set of the runs (first, end exclusive), in any order; runs beyond a chunk or empty ones are refused.
    pub fn from_runs(runs: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let mut set = Self::default();
        for (first, end) in runs {
            if first >= end || u64::from(end) > BLOCKS_PER_CHUNK {
                return None;
            }
            set.insert(first, end);
        }
        Some(set)
    }

    /// The runs, ascending.
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Number of blocks.
    pub fn count(&self) -> u32 {
        self.runs.iter().map(|(first, end)| end - first).sum()
    }

    /// One past the last block; 0 when empty.
    pub fn end(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.1)
    }

    /// Whether `block` is in the set.
    pub fn contains(&self, block: u32) -> bool {
        let next = self.runs.partition_point(|run| run.1 <= block);
        self.runs.get(next).is_some_and(|run| run.0 <= block)
    }

    /// Number of blocks of `first .. end` that are in the set.
    pub fn count_within(&self, first: u32, end: u32) -> u32 {
        let from = self.runs.partition_point(|run| run.1 <= first);
        let within = self.runs[from..].iter().take_while(|run| run.0 < end);
        within.map(|run| run.1.min(end) - run.0.max(first)).sum()
    }

    /// Adds `first .. end`.
    pub fn insert(&mut self, first: u32, end: u32) {
        if first >= end {
            return;
        }
        // Runs that overlap or touch: they become one.
        let from = self.runs.partition_point(|run| run.1 < first);
        let to = self.runs.partition_point(|run| run.0 <= end);
        let mut joined = (first, end);
        if let (Some(low), true) = (self.runs.get(from), from < to) {
            joined = (first.min(low.0), end.max(self.runs[to - 1].1));
        }
        self.runs.splice(from..to, [joined]);
    }

    /// Takes `first .. end` out.
    pub fn remove(&mut self, first: u32, end: u32) {
        if first >= end {
            return;
        }
        let from = self.runs.partition_point(|run| run.1 <= first);
        let to = self.runs.partition_point(|run| run.0 < end);
        if from >= to {
            return;
        }
        let left = (self.runs[from].0, first);
        let right = (end, self.runs[to - 1].1);
        self.runs.splice(from..to, [left, right].into_iter().filter(|run| run.0 < run.1));
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for &(first, end) in &other.runs {
            self.insert(first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_set_of_numbers() {
        let mut seed = 1u64;
        let mut draw = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        let (mut set, mut model) = (BlockSet::default(), std::collections::BTreeSet::new());
        for _ in 0..4000 {
            let first = draw(60) as u32;
            let end = first + draw(9) as u32;
            if draw(2) == 0 {
                set.insert(first, end);
                model.extend(first..end);
            } else {
                set.remove(first, end);
                model.retain(|block| !(first..end).contains(block));
            }
            let listed: Vec<u32> = set.runs().iter().flat_map(|run| run.0..run.1).collect();
            assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
            assert!(set.runs().windows(2).all(|pair| pair[0].1 < pair[1].0), "{set:?}");
            assert_eq!(set.count() as usize, model.len());
            assert_eq!(set.end(), model.last().map_or(0, |last| last + 1));
            let (a, b) = (draw(70) as u32, draw(70) as u32);
            assert_eq!(set.contains(a), model.contains(&a));
            assert_eq!(
                set.count_within(a.min(b), b.max(a)) as usize,
                model.range(a.min(b)..b.max(a)).count()
            );
        }
    }

    #[test]
    fn runs_of_no_chunk_are_refused() {
        assert_eq!(BlockSet::from_runs([(3, 3)]), None);
        assert_eq!(BlockSet::from_runs([(0, BLOCKS_PER_CHUNK as u32 + 1)]), None);
        assert_eq!(BlockSet::from_runs([(4, 8), (0, 4)]).unwrap().runs(), &[(0, 8)]);
    }
}
