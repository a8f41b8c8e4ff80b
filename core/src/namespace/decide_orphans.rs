//! The end of an inode whose last name is gone and which nobody holds open.
//!
//! Extents beyond the budget become garbage (see `extents`), so an inode ends in one record, however large it is.

use super::act::Act;
use super::attr::NodeKind;
use super::machine::Stop;
use super::rows::cluster::CounterKey;
use super::rows::inode::{InodeKey, InodeRow, OrphanKey};
use super::rows::prefix_range;
use super::rows::xattr::{SymlinkKey, XattrKey};
use crate::ids::InodeId;
use crate::limits::{ORPHANS_PER_RECORD_MAX, XATTR_TOTAL_BYTES_MAX};

/// Attribute bytes that one record deletes, about: bounds the keys of their rows.
const XATTR_BYTES_PER_RECORD: u32 = 2 * XATTR_TOTAL_BYTES_MAX as u32;

/// `Internal::ReclaimOrphans`. Returns whether some are left.
pub(super) fn reclaim(act: &mut Act<'_>, inodes: &[InodeId]) -> Result<bool, Stop> {
    let mut xattr_bytes = 0;
    for (done, &inode) in inodes.iter().enumerate() {
        if done == ORPHANS_PER_RECORD_MAX || act.cut_budget == 0 || xattr_bytes > XATTR_BYTES_PER_RECORD {
            return Ok(true);
        }
        if act.draft.has(&OrphanKey(inode))? {
            let mut row = act.named_inode(inode)?;
            xattr_bytes += row.xattr_bytes;
            remove_inode(act, &mut row)?;
        }
    }
    Ok(false)
}

fn remove_inode(act: &mut Act<'_>, row: &mut InodeRow) -> Result<(), Stop> {
    let inode = row.inode;
    assert!(row.links == 0, "orphans have no names");
    act.end_lease(inode)?;
    act.cut_extents(row, 0, u64::MAX)?;
    if row.xattr_bytes > 0 {
        let range = prefix_range::<XattrKey>(&inode.get().to_be_bytes());
        for (key, _) in act.draft.scan::<XattrKey>(&range, XATTR_TOTAL_BYTES_MAX)? {
            act.draft.delete(&key);
        }
    }
    if row.kind == NodeKind::Symlink {
        act.draft.delete(&SymlinkKey(inode));
    }
    act.draft.delete(&OrphanKey(inode));
    act.draft.delete(&InodeKey(inode));
    act.count_in_policy(row.policy, -1, 0)?;
    act.count(CounterKey::InodesGone, 1)
}
