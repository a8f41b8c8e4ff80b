//! The digest of a replica's checksum table: what the catalogue remembers of it, so that a file which verifies by itself and is not
//! the one last written (an older state of it, put back or never overwritten) is known for what it is.
//!
//! A table's digest joins the hashes of its entries by exclusive or: it follows each change without looking at the rest, and
//! does not depend on the order of changes. Only entries count that stand in the file and whose blocks are declared to exist.

use super::replica_file::TableEntry;

/// Digest of no entries.
pub const EMPTY: u64 = 0;

/// What the entry of `block` adds to a digest, and takes from it again: 64 well-mixed bits, the same in every build for ever (it
/// stands on disks).
pub const fn entry_hash(block: u32, entry: TableEntry) -> u64 {
    mix(mix(block as u64) ^ ((entry.crc as u64) << 32 | entry.generation as u64))
}

/// Digest of entries by block.
pub fn digest(entries: impl IntoIterator<Item = (u32, TableEntry)>) -> u64 {
    entries.into_iter().fold(EMPTY, |digest, (block, entry)| digest ^ entry_hash(block, entry))
}

/// Finalizer of splitmix64, after its increment.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(crc: u32, generation: u32) -> TableEntry {
        TableEntry { crc, generation }
    }

    #[test]
    fn it_tells_apart_what_differs_in_place_sum_or_generation() {
        let one = [(0, entry(5, 1)), (7, entry(9, 1))];
        let digest_of = |entries: &[(u32, TableEntry)]| digest(entries.iter().copied());
        assert_eq!(digest_of(&one), digest_of(&[one[1], one[0]]));
        for other in [
            vec![(0, entry(9, 1)), (7, entry(5, 1))],
            vec![(0, entry(5, 1))],
            vec![(1, entry(5, 1)), (7, entry(9, 1))],
            vec![(0, entry(5, 2)), (7, entry(9, 1))],
            vec![(0, entry(1, 5)), (7, entry(9, 1))],
        ] {
            assert_ne!(digest_of(&one), digest_of(&other), "{other:?}");
        }
    }

    #[test]
    fn the_function_stays_as_it_is() {
        assert_eq!(entry_hash(3, entry(0x1234_5678, 2)), FIXED);
        assert_eq!(digest([]), EMPTY);
    }

    const FIXED: u64 = 0x5f24_b675_3b3c_a1cc;
}
