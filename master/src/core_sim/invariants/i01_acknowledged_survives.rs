//! I1, I5: what was acknowledged is there at the end, and nothing else, but for the one operation that was never answered: that one
//! is there as a whole, or not at all.

use crate::core_sim::canon::Canon;
use crate::core_sim::home::{Home, Made};
use bytes::Bytes;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::NodeKind;
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::rows::inode::{InodeKey, InodeRow};
use cairn_core::namespace::rows::names::{ListingKey, ListingRow};
use cairn_core::namespace::rows::{Key, Value, prefix_range};
use std::collections::BTreeMap;

/// Compares a home with what its client knows of it.
pub(in crate::core_sim) fn check(seed: u64, home: &Home, canon: &Canon) {
    let Some(inode) = home.inode else { return };
    let found = listed(inode, canon);
    let mut done = home.clone();
    done.doubt.take().iter().for_each(|kind| done.apply(kind, None));
    let is = |expected: &BTreeMap<Bytes, Made>| {
        let same = |((name, made), (expected_name, expected)): ((&Bytes, &Made), (&Bytes, &Made))| {
            // What was made by an operation that never answered has a number that its client never heard.
            let known = made.inode == expected.inode || expected.inode == InodeId(0);
            name == expected_name
                && known
                && (made.is_directory, made.size) == (expected.is_directory, expected.size)
        };
        found.len() == expected.len() && found.iter().zip(expected).all(same)
    };
    assert!(is(&home.names) || is(&done.names), "seed {seed}: I1: found {found:?}, expected {home:?}");
}

fn listed(inode: InodeId, canon: &Canon) -> BTreeMap<Bytes, Made> {
    let (from, to) = prefix_range::<ListingKey>(&inode.get().to_be_bytes());
    let rows = canon.scan(&from, &to, usize::MAX).unwrap();
    let entry = |(_, value): &(Bytes, Bytes)| {
        let row = ListingRow::decode(value).unwrap();
        let of_inode = canon.get(&InodeKey(row.inode).encode()).unwrap().unwrap();
        let is_directory = row.kind == NodeKind::Directory;
        let size = if is_directory { 0 } else { InodeRow::decode(&of_inode).unwrap().size };
        (row.name.to_bytes(), Made { inode: row.inode, is_directory, size })
    };
    rows.iter().map(entry).collect()
}
