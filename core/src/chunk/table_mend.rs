//! A damaged checksum table put right with what the blocks themselves say, if that can be proven: the digest remembers the table
//! that was written last. An older table, or another replica's, is never taken for a damaged one: no change of a few entries
//! gives it that digest.

use super::replica_file::TableEntry;
use super::table_digest::entry_hash;
use std::collections::BTreeMap;

/// Suspects of which every combination is tried; of more, all are taken to be damaged in the same way.
const COMBINED_MAX: usize = 8;
/// Generations that an entry may have had: the most frequent ones of the others.
const GENERATIONS_MAX: usize = 3;

/// An entry that counts, and what stands in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which block.
    pub block: u32,
    /// As the table has it.
    pub entry: TableEntry,
    /// `block_crc` of what is read there; `None`: nothing can be.
    pub crc: Option<u32>,
}

impl Seen {
    fn is_suspect(&self) -> bool {
        self.entry.generation == 0 || self.crc != Some(self.entry.crc)
    }

    /// What the digest changes by when the entry is this one.
    fn change(&self, entry: TableEntry) -> u64 {
        entry_hash(self.block, self.entry) ^ entry_hash(self.block, entry)
    }
}

/// Which entries to replace so that all together have the digest `expected`, by as few guesses as possible; `None`: none are
/// found. What is replaced then is what was written, for the digest has 64 bits.
pub fn mend(table: &[Seen], expected: u64) -> Option<Vec<(u32, TableEntry)>> {
    let lacks = table.iter().fold(expected, |lacks, seen| lacks ^ entry_hash(seen.block, seen.entry));
    if lacks == 0 {
        return Some(Vec::new());
    }
    let suspects: Vec<Seen> = table.iter().copied().filter(Seen::is_suspect).collect();
    let usual = usual_generations(table);
    if suspects.len() <= COMBINED_MAX
        && let Some(found) = combine(&suspects, &usual, lacks)
    {
        return Some(found);
    }
    alike(&suspects, &usual, lacks).or_else(|| one_generation(table, &usual, lacks))
}

/// The most frequent generations of entries that verify.
fn usual_generations(table: &[Seen]) -> Vec<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    table.iter().filter(|seen| !seen.is_suspect()).for_each(|seen| {
        *counts.entry(seen.entry.generation).or_insert(0) += 1;
    });
    let mut usual: Vec<(usize, u32)> =
        counts.into_iter().map(|(generation, count)| (count, generation)).collect();
    usual.sort_unstable_by(|one, other| other.cmp(one));
    usual.into_iter().take(GENERATIONS_MAX).map(|(_, generation)| generation).collect()
}

/// What an entry may have been, by what is read of its block.
fn candidates<'a>(seen: &'a Seen, usual: &'a [u32]) -> impl Iterator<Item = TableEntry> + 'a {
    let own = Some(seen.entry.generation).filter(|&generation| generation != 0);
    let generations = own.into_iter().chain(usual.iter().copied());
    seen.crc
        .into_iter()
        .flat_map(move |crc| generations.clone().map(move |generation| TableEntry { crc, generation }))
}

/// Each suspect may be damaged in its entry or in its block.
fn combine(suspects: &[Seen], usual: &[u32], lacks: u64) -> Option<Vec<(u32, TableEntry)>> {
    let Some((first, rest)) = suspects.split_first() else {
        return (lacks == 0).then(Vec::new);
    };
    if let Some(found) = combine(rest, usual, lacks) {
        return Some(found);
    }
    candidates(first, usual).find_map(|entry| {
        let mut found = combine(rest, usual, lacks ^ first.change(entry))?;
        found.push((first.block, entry));
        Some(found)
    })
}

/// A sector of the table is lost: all suspects have the same generation, or each its own.
fn alike(suspects: &[Seen], usual: &[u32], lacks: u64) -> Option<Vec<(u32, TableEntry)>> {
    let with = |generation: Option<u32>| -> Option<Vec<(u32, TableEntry)>> {
        let readable = suspects.iter().filter_map(|seen| Some((seen, seen.crc?)));
        let entries: Vec<_> = readable
            .map(|(seen, crc)| {
                (seen, TableEntry { crc, generation: generation.unwrap_or(seen.entry.generation) })
            })
            .collect();
        let changed = entries.iter().fold(0, |change, (seen, entry)| change ^ seen.change(*entry));
        (changed == lacks).then(|| entries.into_iter().map(|(seen, entry)| (seen.block, entry)).collect())
    };
    with(None).or_else(|| usual.iter().find_map(|&generation| with(Some(generation))))
}

/// All blocks match their checksums: one entry has another generation than it had.
fn one_generation(table: &[Seen], usual: &[u32], lacks: u64) -> Option<Vec<(u32, TableEntry)>> {
    table.iter().find_map(|seen| {
        let entry = |&generation: &u32| TableEntry { generation, ..seen.entry };
        let right = usual.iter().map(entry).find(|&entry| seen.change(entry) == lacks)?;
        Some(vec![(seen.block, right)])
    })
}

#[cfg(test)]
mod tests {
    use super::super::table_digest::digest;
    use super::*;

    /// Blocks with their entries, the last few of another generation; and the digest.
    fn written(blocks: u32) -> (Vec<Seen>, u64) {
        let seen = |block: u32| {
            let crc = block.wrapping_mul(0x9e37_79b9) ^ 0x55;
            let generation = if block + 3 < blocks { 1 } else { 4 };
            Seen { block, entry: TableEntry { crc, generation }, crc: Some(crc) }
        };
        let table: Vec<Seen> = (0..blocks).map(seen).collect();
        let digest = digest(table.iter().map(|seen| (seen.block, seen.entry)));
        (table, digest)
    }

    /// Mends, and compares with what was written.
    fn assert_mended(table: &[Seen], (written, digest): &(Vec<Seen>, u64)) {
        let mended: BTreeMap<u32, TableEntry> =
            mend(table, *digest).expect("it can be mended").into_iter().collect();
        for (seen, right) in table.iter().zip(written) {
            assert_eq!(mended.get(&seen.block).unwrap_or(&seen.entry), &right.entry);
        }
    }

    #[test]
    fn flipped_entries_lost_sectors_and_damaged_blocks_beside_them_are_put_right() {
        let right = written(300);
        assert_eq!(mend(&right.0, right.1), Some(Vec::new()));
        let damaged = |damage: &dyn Fn(&mut Vec<Seen>)| {
            let mut table = right.0.clone();
            damage(&mut table);
            assert_mended(&table, &right);
        };
        damaged(&|table| table[7].entry.crc ^= 1 << 9);
        damaged(&|table| table[7].entry.generation ^= 1 << 9);
        damaged(&|table| table[298].entry = TableEntry::default());
        damaged(&|table| table[64..128].iter_mut().for_each(|seen| seen.entry = TableEntry::default()));
        damaged(&|table| {
            table[3].entry.crc = 0;
            table[9].crc = Some(77);
            table[11].crc = None;
            table[299].entry.crc = 5;
        });
    }

    #[test]
    fn another_table_and_what_cannot_be_proven_are_left_alone() {
        let (mut table, digest) = written(300);
        // An older state of the file: blocks and entries agree, a dozen of them are not the ones written last.
        for seen in &mut table[20..32] {
            seen.entry = TableEntry { crc: seen.entry.crc ^ 0xffff, generation: 1 };
            seen.crc = Some(seen.entry.crc);
        }
        assert_eq!(mend(&table, digest), None);
        // Entry and block of the same one.
        let (mut table, digest) = written(40);
        table[5].entry.crc = 1;
        table[5].crc = Some(2);
        assert_eq!(mend(&table, digest), None);
        assert_eq!(mend(&[], 9), None);
    }
}
