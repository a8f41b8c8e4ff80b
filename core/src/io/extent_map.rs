//! The map of a file: which bytes stand in which chunk. Bytes in no extent are a hole.

use crate::namespace::request::Extent;
use std::collections::BTreeMap;

/// Extents by offset, never overlapping; neighbours that continue each other in one chunk are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentMap {
    by_offset: BTreeMap<u64, Extent>,
}

/// A stretch of a file, mapped or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Bytes of a chunk.
    Mapped(Extent),
    /// Zeros.
    Hole {
        /// First byte in the file.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

fn end(extent: &Extent) -> u64 {
    extent.offset + extent.length
}

/// The part of `extent` within `from .. to`; `None` when they do not meet.
fn clip(extent: &Extent, from: u64, to: u64) -> Option<Extent> {
    let start = extent.offset.max(from);
    let stop = end(extent).min(to);
    (start < stop).then(|| Extent {
        offset: start,
        length: stop - start,
        chunk: extent.chunk,
        chunk_offset: extent.chunk_offset + (start - extent.offset),
    })
}

fn continues(left: &Extent, right: &Extent) -> bool {
    left.chunk == right.chunk
        && end(left) == right.offset
        && left.chunk_offset + left.length == right.chunk_offset
}

impl ExtentMap {
    /// Maps `extent`, replacing what was mapped there.
    pub fn insert(&mut self, extent: Extent) {
        if extent.length == 0 {
            return;
        }
        self.cut(extent.offset, end(&extent));
        let mut extent = extent;
        if let Some((_, left)) = self.by_offset.range(..extent.offset).next_back()
            && continues(left, &extent)
        {
            extent = Extent { length: left.length + extent.length, ..*left };
        }
        if let Some(right) = self.by_offset.get(&end(&extent)).copied()
            && continues(&extent, &right)
        {
            self.by_offset.remove(&right.offset);
            extent.length += right.length;
        }
        self.by_offset.insert(extent.offset, extent);
    }

    /// Makes `from .. to` a hole.
    pub fn cut(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let before = self.by_offset.range(..from).next_back().map(|(_, extent)| *extent);
        if let Some(extent) = before
            && end(&extent) > from
        {
            self.by_offset.get_mut(&extent.offset).expect("just found").length = from - extent.offset;
            if let Some(rest) = clip(&extent, to, u64::MAX) {
                self.by_offset.insert(rest.offset, rest);
            }
        }
        while let Some(extent) = self.by_offset.range(from..to).next().map(|(_, extent)| *extent) {
            self.by_offset.remove(&extent.offset);
            if let Some(rest) = clip(&extent, to, u64::MAX) {
                self.by_offset.insert(rest.offset, rest);
            }
        }
    }

    /// The extents that meet `from .. to`, clipped to it, in order.
    pub fn within(&self, from: u64, to: u64) -> impl Iterator<Item = Extent> + '_ {
        let first = self.by_offset.range(..=from).next_back().map_or(from, |(&offset, _)| offset);
        self.by_offset.range(first..to.max(first)).filter_map(move |(_, extent)| clip(extent, from, to))
    }

    /// `from .. to` as mapped stretches and holes, in order, without gaps.
    pub fn stretches(&self, from: u64, to: u64) -> Vec<Stretch> {
        let mut out = Vec::new();
        let mut at = from;
        for extent in self.within(from, to) {
            if extent.offset > at {
                out.push(Stretch::Hole { offset: at, length: extent.offset - at });
            }
            at = end(&extent);
            out.push(Stretch::Mapped(extent));
        }
        if at < to {
            out.push(Stretch::Hole { offset: at, length: to - at });
        }
        out
    }

    /// Whether exactly these bytes are mapped to exactly this place already.
    pub fn holds(&self, extent: &Extent) -> bool {
        let mut parts = self.within(extent.offset, end(extent));
        parts.next() == Some(*extent)
    }

    /// All extents in order.
    pub fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.by_offset.values()
    }

    /// Number of extents.
    pub fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    /// Bytes mapped.
    pub fn bytes(&self) -> u64 {
        self.by_offset.values().map(|extent| extent.length).sum()
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.by_offset.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChunkId;
    use proptest::prelude::*;

    const SPACE: u64 = 96;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64, u64, u64),
        Cut(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..SPACE, 1u64..40, 0u64..3, 0u64..2).prop_map(|(offset, length, chunk, shift)| Step::Insert(
                offset,
                length,
                chunk,
                shift * 7
            )),
            (0..SPACE, 0u64..SPACE).prop_map(|(from, to)| Step::Cut(from, to)),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_bytes(steps in proptest::collection::vec(step(), 1..40)) {
            let mut map = ExtentMap::default();
            let mut model: Vec<Option<(u64, u64)>> = vec![None; 2 * SPACE as usize];
            for step in steps {
                match step {
                    Step::Insert(offset, length, chunk, shift) => {
                        let extent = Extent { offset, length, chunk: ChunkId(chunk), chunk_offset: offset + shift };
                        map.insert(extent);
                        for at in offset..offset + length {
                            model[at as usize] = Some((chunk, at + shift));
                        }
                        prop_assert!(map.holds(&extent));
                    }
                    Step::Cut(from, to) => {
                        map.cut(from, to);
                        for at in from..to {
                            model[at as usize] = None;
                        }
                    }
                }
                let mut seen = vec![None; 2 * SPACE as usize];
                let mut last: Option<Extent> = None;
                for extent in map.iter() {
                    if let Some(last) = last {
                        prop_assert!(end(&last) <= extent.offset && !continues(&last, extent));
                    }
                    last = Some(*extent);
                    for at in 0..extent.length {
                        seen[(extent.offset + at) as usize] = Some((extent.chunk.get(), extent.chunk_offset + at));
                    }
                }
                prop_assert_eq!(&seen, &model);
                let covered: u64 = map.stretches(5, 90).iter().map(|one| match one {
                    Stretch::Mapped(extent) => extent.length,
                    Stretch::Hole { length, .. } => *length,
                }).sum();
                prop_assert_eq!(covered, 85);
            }
        }
    }
}
