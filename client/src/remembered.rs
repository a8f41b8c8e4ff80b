//! Two bounded memories: recent lookups, which serve the open that follows, and what was last seen of closed files.

use cairn_core::ids::InodeId;
use cairn_core::limits::{LOOKUP_SERVES_OPEN, LOOKUPS_REMEMBERED, VIEWS_REMEMBERED};
use cairn_core::namespace::answer::Map;
use cairn_core::namespace::attr::Attr;
use cairn_core::time::Tick;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Attributes and maps of the lookups of the last milliseconds: the kernel looks up as part of open(2).
#[derive(Default)]
pub(crate) struct Lookups {
    recent: Mutex<VecDeque<Lookup>>,
}

struct Lookup {
    at: Tick,
    attr: Attr,
    map: Option<Map>,
}

impl Lookups {
    pub(crate) fn remember(&self, now: Tick, attr: &Attr, map: Option<Map>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = |lookup: &Lookup| now.since(lookup.at) > LOOKUP_SERVES_OPEN;
        while recent.len() >= LOOKUPS_REMEMBERED || recent.front().is_some_and(stale) {
            recent.pop_front();
        }
        recent.push_back(Lookup { at: now, attr: attr.clone(), map });
    }

    /// Takes what the last lookup of `inode` said, if that was just now.
    pub(crate) fn take(&self, now: Tick, inode: InodeId) -> Option<(Attr, Option<Map>)> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let index = recent.iter().rposition(|lookup| lookup.attr.inode == inode)?;
        let lookup = recent.remove(index)?;
        (now.since(lookup.at) <= LOOKUP_SERVES_OPEN).then_some((lookup.attr, lookup.map))
    }

    /// Something changed here: what was looked up before is no longer true.
    pub(crate) fn forget(&self, inode: InodeId) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|lookup| lookup.attr.inode != inode);
    }
}

/// By inode, the `data_change` up to which the kernel's pages are right.
#[derive(Default)]
pub(crate) struct Views {
    state: Mutex<ViewState>,
}

#[derive(Default)]
struct ViewState {
    seen: BTreeMap<InodeId, u64>,
    order: VecDeque<InodeId>,
}

impl Views {
    /// Whether nothing has changed since the last view; either way, this is now the last.
    pub(crate) fn renew(&self, inode: InodeId, data_change: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = state.seen.get_mut(&inode) {
            let same = *seen == data_change;
            *seen = data_change;
            return same;
        }
        if state.order.len() >= VIEWS_REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.seen.remove(&oldest);
        }
        state.order.push_back(inode);
        state.seen.insert(inode, data_change);
        false
    }

    /// The data went from `from` to `to` by our own hand: a view of the one is as good as one of the other.
    pub(crate) fn advance(&self, inode: InodeId, from: u64, to: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = state.seen.get_mut(&inode)
            && *seen == from
        {
            *seen = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_survives_own_changes_only() {
        let views = Views::default();
        let inode = InodeId(7);
        assert!(!views.renew(inode, 1));
        assert!(views.renew(inode, 1));
        views.advance(inode, 1, 3);
        assert!(views.renew(inode, 3), "our own commit");
        views.advance(inode, 4, 5);
        assert!(!views.renew(inode, 5), "somebody else's change 4 lies between");
    }

    #[test]
    fn views_are_bounded() {
        let views = Views::default();
        for inode in 0..VIEWS_REMEMBERED as u64 + 10 {
            views.renew(InodeId(inode), 1);
        }
        let state = views.state.lock().unwrap();
        assert_eq!((state.seen.len(), state.order.len()), (VIEWS_REMEMBERED, VIEWS_REMEMBERED));
    }
}
