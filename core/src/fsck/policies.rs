//! P: storage policies, and what has them. There are few, so they are held; everything else passes by once.

use super::finding::{Findings, rules};
use super::keys::Table;
use super::row::{DIRECTORY, Row};
use super::state::{Interrupted, State};
use std::collections::{BTreeMap, BTreeSet};

/// A regular file, as the kind of an inode.
const REGULAR: u8 = 1;
const DEFAULT: &str = "default";

#[derive(Default)]
struct Users {
    inodes: u64,
    chunks: u64,
}

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut users: BTreeMap<u32, Users> = BTreeMap::new();
    let mut inodes = state.table(Table::Inode);
    while let Some(row) = inodes.next()? {
        let Row::Inode(row) = row else { continue };
        if row.policy > 0 {
            users.entry(row.policy).or_default().inodes += 1;
            let may_have = matches!(row.kind, REGULAR | DIRECTORY);
            let wrong = "it has a policy, and is neither a file nor a directory";
            findings.expect(may_have, rules::P1, format_args!("inode {}", row.inode), wrong);
        }
    }
    let mut chunks = state.table(Table::Chunk);
    while let Some(row) = chunks.next()? {
        if let Row::Chunk(row) = row
            && row.policy > 0
        {
            users.entry(row.policy).or_default().chunks += 1;
        }
    }
    compare(state, users, findings)
}

fn compare(
    state: &State<'_>,
    mut users: BTreeMap<u32, Users>,
    findings: &mut Findings,
) -> Result<(), Interrupted> {
    let mut names = BTreeSet::new();
    let mut policies = state.table(Table::Policy);
    while let Some(row) = policies.next()? {
        let Row::Policy { policy, inodes, chunks, name, .. } = row else { continue };
        let counted = users.remove(&policy).unwrap_or_default();
        let object = format!("policy {policy}");
        findings.equal(rules::P1, &object, "inodes", inodes, counted.inodes);
        findings.equal(rules::P1, &object, "chunks", chunks, counted.chunks);
        let fits = (policy == 0) == (name == DEFAULT) && names.insert(name);
        findings.expect(fits, rules::P2, &object, "another one has its name, or it is not its own");
    }
    for (policy, users) in users {
        let wrong =
            format!("{} inodes and {} chunks have it, and it is not there", users.inodes, users.chunks);
        findings.add(rules::P1, format_args!("policy {policy}"), wrong);
    }
    Ok(())
}
