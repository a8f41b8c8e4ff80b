//! P: storage policies.

use super::{Findings, all};
use crate::ids::PolicyId;
use crate::namespace::draft::Draft;
use crate::namespace::machine::Stop;
use crate::namespace::rows::chunk::ChunkKey;
use crate::namespace::rows::inode::InodeKey;
use crate::namespace::rows::policy::PolicyKey;
use std::collections::BTreeMap;

/// P1: each policy but the default one counts the inodes and chunks that have it, and is there while any has.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    let mut counted: BTreeMap<PolicyId, (u64, u64)> = BTreeMap::new();
    for (_, row) in all::<InodeKey>(draft)? {
        counted.entry(row.policy).or_default().0 += 1;
    }
    for (_, row) in all::<ChunkKey>(draft)? {
        counted.entry(row.policy).or_default().1 += 1;
    }
    counted.remove(&PolicyId::DEFAULT);
    let stored = all::<PolicyKey>(draft)?;
    for (key, row) in stored {
        let counted = counted.remove(&key.0).unwrap_or_default();
        findings.equal("P1", format!("users of {}", key.0), (row.inodes, row.chunks), counted);
    }
    findings.expect(counted.is_empty(), || format!("P1 policies that are not there have users: {counted:?}"));
    Ok(())
}
