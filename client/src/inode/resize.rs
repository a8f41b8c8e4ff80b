//! Changes of length and shape, ordered with the writes of this client: truncate, fallocate, times.

use super::{Inode, nonsense};
use crate::shared::Shared;
use cairn_core::error::FsError;
use cairn_core::limits::FILE_BYTES_MAX;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::{Attr, AttrChanges};
use cairn_core::namespace::request::{AllocateMode, Credentials, OperationKind};
use cairn_env::errand::begin;
use std::sync::Arc;

impl Inode {
    /// setattr of a file in use here. Size and times wait for what was written before, or are set along with it: a later Commit
    /// must not move them.
    pub(crate) async fn set_attr(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        who: Credentials,
        changes: AttrChanges,
        via_handle: bool,
    ) -> Result<Attr, FsError> {
        let (inode, shared) = (self.clone(), shared.clone());
        let work = begin(async move {
            let orders_data = changes.size.is_some() || changes.mtime.is_some() || changes.atime.is_some();
            let _order = if orders_data { Some(inode.order.lock().await) } else { None };
            let _rest = orders_data.then(|| inode.rest());
            // Only a handle's truncation is sure to be allowed.
            if let Some(size) = changes.size
                && via_handle
                && size <= FILE_BYTES_MAX
            {
                let dropped = inode.state().session.truncate(size);
                inode.give_room(&shared, dropped);
            }
            if orders_data {
                let set = changes.size.is_none().then(|| (who.clone(), changes.clone()));
                if let Some(attr) = inode.record_all_and_set(&shared, false, set).await? {
                    shared.lookups.forget(inode.id);
                    return Ok(inode.state().overlay(attr));
                }
            }
            let size = changes.size;
            let kind = OperationKind::SetAttr { inode: inode.id, changes, via_handle };
            let attr = inode.reshape(&shared, who, kind, |inode, attr| {
                if size.is_some() {
                    inode.cut(attr.size, u64::MAX);
                }
            });
            attr.await
        });
        work.outcome().await.unwrap_or_else(|_| Err(FsError::Io(String::from("setattr was cut short"))))
    }

    /// fallocate(2).
    pub(crate) async fn allocate(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        who: Credentials,
        mode: AllocateMode,
        offset: u64,
        length: u64,
    ) -> Result<(), FsError> {
        let (inode, shared) = (self.clone(), shared.clone());
        let work = begin(async move {
            let _order = inode.order.lock().await;
            let _rest = inode.rest();
            inode.record_all(&shared, false).await?;
            let kind = OperationKind::Allocate { inode: inode.id, mode, offset, length };
            let cuts = match mode {
                AllocateMode::Extend | AllocateMode::KeepSize => false,
                AllocateMode::PunchHole | AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize => true,
            };
            let attr = inode.reshape(&shared, who, kind, |inode, _| {
                if cuts {
                    inode.cut(offset, offset.saturating_add(length));
                }
            });
            attr.await.map(drop)
        });
        work.outcome().await.unwrap_or_else(|_| Err(FsError::Io(String::from("fallocate was cut short"))))
    }

    async fn reshape(
        &self,
        shared: &Shared,
        who: Credentials,
        kind: OperationKind,
        apply: impl FnOnce(&mut super::state::State, &Attr),
    ) -> Result<Attr, FsError> {
        match shared.meta.operation(&who, kind).await? {
            Answer::Attr(attr) => {
                let mut state = self.state();
                let leased = state.lease.is_some();
                state.absorb_own(shared, &attr);
                if leased {
                    apply(&mut state, &attr);
                    // What was accepted meanwhile (attributes that do not order data) lies beyond the master's length.
                    state.size = if state.is_dirty() { state.size } else { attr.size };
                }
                shared.lookups.forget(self.id);
                Ok(state.overlay(attr))
            }
            answer => Err(nonsense(&answer)),
        }
    }
}

impl super::state::State {
    /// Bytes were unmapped.
    fn cut(&mut self, from: u64, to: u64) {
        self.map.cut(from, to);
        self.epoch += 1;
        self.retain_targets();
    }
}
