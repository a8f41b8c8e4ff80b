//! I19, I6: numbers of inodes, chunks, sessions and chunk servers are given once: what was deleted never comes back.

use cairn_core::journal::entry::EntryData;
use cairn_core::namespace::rows::{KEY_HEAD_BYTES, Table};
use std::collections::{BTreeMap, BTreeSet};

/// Tables whose keys begin with a number that is given once.
const NUMBERED: [Table; 4] = [Table::Inode, Table::Chunk, Table::Session, Table::Server];

/// The numbers seen so far.
#[derive(Default)]
pub(in crate::core_sim) struct Numbers {
    highest: BTreeMap<u8, u64>,
    living: BTreeMap<u8, BTreeSet<u64>>,
}

impl Numbers {
    pub(super) fn check(&mut self, seed: u64, data: &EntryData, index: u64) {
        for (key, value) in &data.rows {
            let table = key[0];
            if !NUMBERED.iter().any(|&numbered| numbered as u8 == table) {
                continue;
            }
            let number = key[KEY_HEAD_BYTES..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
            let living = self.living.entry(table).or_default();
            match value {
                None => drop(living.remove(&number)),
                Some(_) if living.contains(&number) => {}
                Some(_) => {
                    let highest = self.highest.entry(table).or_default();
                    assert!(
                        number > *highest,
                        "seed {seed}: I19: entry {index} gives {number} of table {table} again"
                    );
                    *highest = number;
                    living.insert(number);
                }
            }
        }
    }
}
