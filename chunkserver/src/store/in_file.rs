//! What a replica's file should hold at a moment, and whether its checksum table is the one that was written last.

use super::replica::ReplicaState;
use cairn_core::chunk::replica_file::TableEntry;
use cairn_core::chunk::table_mend::{self, Seen};
use cairn_core::chunk::{BlockSet, table_digest};
use std::collections::BTreeMap;

/// What should be in the file.
#[derive(Clone, Debug)]
pub(super) struct InFile {
    stored: BlockSet,
    /// Journaled blocks that are not in the file yet, and whether they replace an entry of it.
    staged: BTreeMap<u32, bool>,
    digest: Option<u64>,
}

impl InFile {
    pub(super) fn of(state: &ReplicaState) -> Self {
        Self {
            stored: state.stored.clone(),
            staged: state.staged.iter().map(|(&block, staged)| (block, staged.replaces)).collect(),
            digest: state.digest,
        }
    }

    /// Whether the file holds what is read of this block.
    pub(super) fn holds(&self, block: u32) -> bool {
        self.stored.contains(block) && !self.staged.contains_key(&block)
    }

    /// One past the last block whose entry stands in the file; 0: there need not be a file.
    pub(super) fn end(&self) -> u32 {
        let counts = |block: &u32| self.counts(*block);
        self.stored
            .runs()
            .iter()
            .rev()
            .find_map(|&(first, end)| (first..end).rev().find(counts))
            .map_or(0, |last| last + 1)
    }

    fn counts(&self, block: u32) -> bool {
        self.stored.contains(block) && self.staged.get(&block).is_none_or(|&replaces| replaces)
    }

    /// Compares the table's entries, from block 0 on, with what is remembered of them.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check_table(&self, entries: &[TableEntry]) -> Result<(), &'static str> {
        let Some(expected) = self.digest else { return Ok(()) };
        let entry = |block: u32| (block, entries.get(block as usize).copied().unwrap_or_default());
        if table_digest::digest(self.counted().map(entry)) == expected {
            return Ok(());
        }
        Err(
            "not the one that was written last: the file is an older one, or another's, or its table is damaged",
        )
    }

    /// Which entries of such a table to replace with what the blocks say, if that is proven to give the one written last. `crc`:
    /// of what stands in a block now, if it can be read.
    pub(super) fn mend_table(
        &self,
        entries: &[TableEntry],
        mut crc: impl FnMut(u32) -> Option<u32>,
    ) -> Option<Vec<(u32, TableEntry)>> {
        let seen = |block: u32| {
            let entry = entries.get(block as usize).copied().unwrap_or_default();
            Seen { block, entry, crc: crc(block) }
        };
        let table: Vec<Seen> = self.counted().map(seen).collect();
        table_mend::mend(&table, self.digest?)
    }

    /// Blocks whose entries stand in the file.
    fn counted(&self) -> impl Iterator<Item = u32> + '_ {
        let runs = self.stored.runs().iter().flat_map(|&(first, end)| first..end);
        runs.filter(|&block| self.counts(block))
    }
}
