//! Which inodes are in use here: opened, released, swept.

use super::Inode;
use super::lease::give_idle_leases_back;
use crate::shared::Shared;
use cairn_core::ids::InodeId;
use cairn_core::io::write_session::Urgency;
use cairn_core::limits::{IDLE_LEASES_BATCH, IDLE_LEASES_MAX, WRITE_BACK, WRITE_LINGER};
use cairn_core::namespace::answer::Map;
use cairn_core::namespace::attr::Attr;
use cairn_core::time::Tick;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

impl Inode {
    /// Opens the inode: shares the state that is here, or begins one from `attr`.
    pub(crate) fn open(shared: &Shared, attr: &Attr, map: Option<&Map>, write: bool) -> Arc<Self> {
        let inode = {
            let mut inodes = shared.inodes();
            let inode = inodes.entry(attr.inode).or_insert_with(|| Arc::new(Self::new(attr))).clone();
            let mut state = inode.state();
            // Under the lock of the table, so that opening and closing are told in the order in which they happen.
            if state.opens == 0 {
                shared.meta.declare(Some(attr.inode), None);
            }
            state.opens += 1;
            state.writers += u32::from(write);
            drop(state);
            inode
        };
        inode.absorb(attr, map);
        inode
    }

    /// Ends one use. The last one ends the state, unless an idle lease is worth keeping.
    pub(crate) fn close(self: &Arc<Self>, shared: &Arc<Shared>, write: bool) {
        let mut surplus = Vec::new();
        {
            let mut inodes = shared.inodes();
            let mut state = self.state();
            state.opens -= 1;
            state.writers -= u32::from(write);
            if state.opens > 0 {
                return;
            }
            if state.is_dirty() {
                // Dropped without close(2): written back by itself, and swept up afterwards.
                drop(state);
                drop(inodes);
                return self.flush_in_background(shared);
            }
            shared.meta.declare(None, Some(self.id));
            if state.lease.is_none() {
                drop(state);
                self.leave(&mut inodes);
            } else {
                let mut idle = shared.idle_leases();
                idle.push_back(self.id);
                if idle.len() > IDLE_LEASES_MAX {
                    let oldest = idle.drain(..IDLE_LEASES_BATCH);
                    surplus = oldest.filter_map(|oldest| inodes.get(&oldest).cloned()).collect();
                }
            }
        }
        if !surplus.is_empty() {
            let held = shared.clone();
            shared.spawn(async move {
                give_idle_leases_back(&held, &surplus).await;
                surplus.iter().for_each(|inode| inode.forget_if_unused(&held));
            });
        }
    }

    /// Removes the state of an inode that nobody has open and nothing holds.
    pub(crate) fn forget_if_unused(self: &Arc<Self>, shared: &Shared) {
        let mut inodes = shared.inodes();
        let state = self.state();
        if state.opens == 0 && !state.is_dirty() && state.lease.is_none() {
            drop(state);
            if self.leave(&mut inodes) {
                shared.meta.declare(None, Some(self.id));
            }
        }
    }

    /// Takes this state out of the table, and answers whether it was there. By now that of the same file opened anew may stand in
    /// its place. It stays while somebody still gives the lease back: a file has one state, hence one order of what it asks for.
    fn leave(self: &Arc<Self>, inodes: &mut BTreeMap<InodeId, Arc<Self>>) -> bool {
        let is_here = inodes.get(&self.id).is_some_and(|here| Arc::ptr_eq(here, self));
        let leaves = is_here && self.order.try_lock().is_ok();
        if leaves {
            inodes.remove(&self.id);
        }
        leaves
    }

    pub(crate) fn writers(&self) -> u32 {
        self.state().writers
    }

    fn sweep(self: &Arc<Self>, shared: &Arc<Shared>, now: Tick) {
        let (waiting, old, unused) = {
            let state = self.state();
            let waiting = !state.session.all_sent();
            let old = state.dirty_since.is_some_and(|since| now.since(since) > WRITE_BACK);
            (
                waiting,
                old || (state.opens == 0 && state.is_dirty()),
                state.opens == 0 && state.lease.is_none(),
            )
        };
        if old {
            self.flush_in_background(shared);
        } else if waiting {
            let since = Tick(now.0.saturating_sub(WRITE_LINGER));
            self.pump_with(shared, Urgency::Since(since));
        } else if unused {
            self.forget_if_unused(shared);
        }
    }
}

/// Sends what has waited long enough, and records what nobody asked to be recorded. Ends with the file system.
pub(crate) async fn sweep(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(WRITE_LINGER).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.meta.flush_declarations();
        let now = shared.env.clock.now();
        for inode in shared.all_inodes() {
            inode.sweep(&shared, now);
        }
    }
}
