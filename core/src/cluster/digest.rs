//! Digests of the replicas that a chunk server holds, by ranges of chunk ids: what both sides compare before any list
//! is sent.
//!
//! A server cuts its sorted replicas into ranges that together cover every possible id, so that replicas which the
//! master expects and the server lacks change the digest of some range as well.

use crate::ids::{ChunkId, ChunkVersion, PartId};

/// Replicas in one range: a list of so many is one message of some 200 KiB, and a million replicas are 250 digests.
pub const DIGEST_RANGE_REPLICAS: usize = 4096;

/// Identity of a stored replica.
pub type ReplicaId = (ChunkId, ChunkVersion, PartId);

/// Digest of all replicas with `first <= chunk <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeDigest {
    /// First chunk id of the range.
    pub first: ChunkId,
    /// Last chunk id, inclusive.
    pub last: ChunkId,
    /// Replicas in it.
    pub count: u64,
    /// [`replica_hash`] of each, joined by exclusive or: independent of their order.
    pub hash: u64,
}

/// Hash of one replica: 64 well-mixed bits of (chunk, version, part), the same in every build for ever (it is compared
/// between machines).
pub const fn replica_hash(chunk: ChunkId, version: ChunkVersion, part: PartId) -> u64 {
    mix(mix(mix(chunk.0) ^ version.0) ^ part.0 as u64)
}

/// Finalizer of splitmix64, after its increment.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Count and hash of a set of replicas.
pub fn digest(replicas: impl IntoIterator<Item = ReplicaId>) -> (u64, u64) {
    replicas.into_iter().fold((0, 0), |(count, hash), (chunk, version, part)| {
        (count + 1, hash ^ replica_hash(chunk, version, part))
    })
}

/// Cuts replicas, sorted by chunk, into ranges of at most [`DIGEST_RANGE_REPLICAS`] (more only when one chunk has more
/// parts). The ranges touch each other and cover ids 0 to `u64::MAX`, also when there is no replica at all.
pub fn digest_ranges(replicas: impl IntoIterator<Item = ReplicaId>) -> Vec<RangeDigest> {
    let mut ranges = Vec::new();
    let mut open = RangeDigest { first: ChunkId(0), last: ChunkId(u64::MAX), count: 0, hash: 0 };
    let mut newest = ChunkId(0);
    for (chunk, version, part) in replicas {
        debug_assert!(chunk >= newest, "replicas must come sorted by chunk");
        if open.count as usize >= DIGEST_RANGE_REPLICAS && chunk > newest {
            ranges.push(RangeDigest { last: newest, ..open });
            open = RangeDigest { first: ChunkId(newest.0 + 1), last: ChunkId(u64::MAX), count: 0, hash: 0 };
        }
        newest = chunk;
        open.count += 1;
        open.hash ^= replica_hash(chunk, version, part);
    }
    ranges.push(open);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(chunk: u64) -> ReplicaId {
        (ChunkId(chunk), ChunkVersion(1), PartId(0))
    }

    #[test]
    fn ranges_cover_every_id_without_gaps() {
        for count in [0, 1, 4095, 4096, 4097, 20_000] {
            let ranges = digest_ranges((0..count).map(|n| replica(n * 3)));
            assert_eq!(ranges.first().unwrap().first, ChunkId(0));
            assert_eq!(ranges.last().unwrap().last, ChunkId(u64::MAX));
            assert!(ranges.windows(2).all(|pair| pair[0].last.0 + 1 == pair[1].first.0));
            assert_eq!(ranges.iter().map(|range| range.count).sum::<u64>(), count);
            assert!(ranges.iter().all(|range| range.count as usize <= DIGEST_RANGE_REPLICAS));
        }
    }

    #[test]
    fn chunk_version_and_part_each_change_the_hash() {
        let base = replica_hash(ChunkId(7), ChunkVersion(2), PartId(0));
        assert_ne!(base, replica_hash(ChunkId(2), ChunkVersion(7), PartId(0)));
        assert_ne!(base, replica_hash(ChunkId(7), ChunkVersion(3), PartId(0)));
        assert_ne!(base, replica_hash(ChunkId(7), ChunkVersion(2), PartId(1)));
        assert_eq!(base, 0x81c6_7f18_90b3_79dd, "peers of any version must agree");
    }

    #[test]
    fn order_does_not_matter_and_a_range_equals_its_replicas() {
        let ids: Vec<_> = (1..100).map(replica).collect();
        let (count, hash) = digest(ids.iter().rev().copied());
        let ranges = digest_ranges(ids);
        assert_eq!((ranges[0].count, ranges[0].hash), (count, hash));
    }
}
