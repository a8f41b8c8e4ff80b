//! N5: the parents of every named directory lead to the root.

use super::finding::{Findings, rules};
use super::keys::Table;
use super::row::Row;
use super::state::{Interrupted, State};
use std::collections::BTreeSet;

const ROOT: u64 = 1;
/// Directories remembered to lead to the root; beyond, what is forgotten is walked again.
const REMEMBERED: usize = 1 << 20;

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rooted = BTreeSet::from([ROOT]);
    let mut inodes = state.table(Table::Inode);
    while let Some(row) = inodes.next()? {
        let Row::Inode(row) = row else { continue };
        if !row.is_directory() || row.links == 0 {
            continue;
        }
        let mut walked = BTreeSet::new();
        let mut at = row.inode;
        // A walk ends: at a directory known to be rooted, at one without a parent, or where a loop closes.
        while !rooted.contains(&at) && walked.insert(at) {
            at = match state.get(&Table::Inode.key(at))? {
                Some(Row::Inode(parent)) => parent.directory.map_or(at, |(parent, _)| parent),
                _ => at,
            };
        }
        if !rooted.contains(&at) {
            let wrong = format!("its parents lead to inode {at}, not to the root");
            findings.add(rules::N5, format_args!("inode {}", row.inode), wrong);
            continue;
        }
        if rooted.len() + walked.len() > REMEMBERED {
            rooted = BTreeSet::from([ROOT]);
        }
        rooted.append(&mut walked);
    }
    Ok(())
}
