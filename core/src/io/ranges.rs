//! A set of byte ranges: which part of a file's map is known.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `from .. to`.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        if let Some((&start, &end)) = self.by_start.range(..=from).next_back()
            && end >= from
        {
            from = start;
            to = to.max(end);
        }
        while let Some((&start, &end)) = self.by_start.range(from..=to).next() {
            to = to.max(end);
            self.by_start.remove(&start);
        }
        self.by_start.insert(from, to);
    }

    /// Takes `from .. to` out.
    pub fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let before = self.by_start.range(..from).next_back().map(|(&start, &end)| (start, end));
        if let Some((start, end)) = before
            && end > from
        {
            self.by_start.insert(start, from);
            if end > to {
                self.by_start.insert(to, end);
            }
        }
        while let Some((&start, &end)) = self.by_start.range(from..to).next() {
            self.by_start.remove(&start);
            if end > to {
                self.by_start.insert(to, end);
            }
        }
    }

    /// The first stretch of `from .. to` that is not in the set.
    pub fn first_gap(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let mut at = from;
        if let Some((_, &end)) = self.by_start.range(..=from).next_back() {
            at = at.max(end);
        }
        if at >= to {
            return None;
        }
        let end = self.by_start.range(at..).next().map_or(to, |(&start, _)| start.min(to));
        Some((at, end))
    }

    /// Nothing is in the set any more.
    pub fn clear(&mut self) {
        self.by_start.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_bytes(steps in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 1..40)) {
            let mut ranges = Ranges::default();
            let mut model = [false; 64];
            for (add, a, b) in steps {
                let (from, to) = (a.min(b), a.max(b));
                if add { ranges.insert(from, to) } else { ranges.remove(from, to) }
                model[from as usize..to as usize].fill(add);
                for from in 0..64usize {
                    let gap = (from..64).find(|&at| !model[at]);
                    let end = gap.map(|gap| (gap..64).find(|&at| model[at]).unwrap_or(64));
                    let expected = gap.map(|gap| (gap as u64, end.unwrap() as u64));
                    prop_assert_eq!(ranges.first_gap(from as u64, 64), expected);
                }
            }
        }
    }
}
