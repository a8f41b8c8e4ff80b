//! I16: each act on names does what it says, whole, in its one entry.

use crate::core_sim::canon::Canon;
use cairn_core::ids::InodeId;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{OperationKind, RenameMode};
use cairn_core::namespace::rows::inode::{InodeKey, InodeRow};
use cairn_core::namespace::rows::names::{DentryKey, DentryRow};
use cairn_core::namespace::rows::{Key, Value};

/// Compares what stood before the last entry and what stands after it with what was asked for.
pub(super) fn check(seed: u64, kind: &OperationKind, canon: &Canon) {
    let index = canon.last();
    let leads_to = |parent: InodeId, name: &Name, at: u64| {
        let row = canon.value_at(&DentryKey { parent, name: name.clone() }.encode(), at)?;
        Some(DentryRow::decode(&row).unwrap().inode)
    };
    let before = |parent, name| leads_to(parent, name, index - 1);
    let after = |parent, name| leads_to(parent, name, index);
    let holds = match kind {
        OperationKind::Create { parent, name, exclusive, .. } => {
            let (was, is) = (before(*parent, name), after(*parent, name));
            is.is_some() && if *exclusive { was.is_none() } else { was.is_none() || was == is }
        }
        OperationKind::Mkdir { parent, name, .. } => {
            before(*parent, name).is_none() && after(*parent, name).is_some()
        }
        OperationKind::Unlink { parent, name } | OperationKind::Rmdir { parent, name } => {
            before(*parent, name).is_some() && after(*parent, name).is_none()
        }
        OperationKind::Link { inode, new_parent, new_name } => {
            before(*new_parent, new_name).is_none() && after(*new_parent, new_name) == Some(*inode)
        }
        OperationKind::Rename { parent, name, new_parent, new_name, mode } => {
            let (from, to) = (before(*parent, name), before(*new_parent, new_name));
            let (left, right) = (after(*parent, name), after(*new_parent, new_name));
            let same = from == to && left == from && right == to;
            let moved = from.is_some() && left.is_none() && right == from;
            match mode {
                RenameMode::Replace => same || moved,
                RenameMode::NoReplace => moved && to.is_none(),
                RenameMode::Exchange => from.is_some() && to.is_some() && left == to && right == from,
            }
        }
        OperationKind::SetAttr { inode, changes, .. } => {
            let row = canon.value_at(&InodeKey(*inode).encode(), index);
            let row = row.map(|row| InodeRow::decode(&row).unwrap());
            row.is_some_and(|row| {
                changes.mode.is_none_or(|mode| row.mode == mode)
                    && changes.size.is_none_or(|size| row.size == size)
            })
        }
        _ => true,
    };
    assert!(holds, "seed {seed}: I16: entry {index} does not do what was asked: {kind:?}");
}
