//! A connection to each other member, as the group changes.

use super::{Identity, dial};
use crate::parts::Parts;
use cairn_core::journal::members::Member;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::{AbortHandle, JoinSet};

/// Keeps connections to whoever is on record, until the master stops.
pub(crate) async fn connections(parts: Arc<Parts>, identity: Identity) {
    let mut members = parts.sequencer.watch_members();
    let mut kept = JoinSet::new();
    let mut known: BTreeMap<u64, (Member, AbortHandle)> = BTreeMap::new();
    loop {
        let now = Arc::clone(&members.borrow_and_update());
        known.retain(|id, (member, keeping)| {
            let stays = now.get(*id) == Some(member);
            if !stays {
                keeping.abort();
                parts.peers.forget(*id);
            }
            stays
        });
        for member in now.iter().filter(|member| member.id != identity.id && !member.is_awaited()) {
            known.entry(member.id).or_insert_with(|| {
                let keeping = kept.spawn(dial::keep(parts.clone(), identity.clone(), member.clone()));
                (member.clone(), keeping)
            });
        }
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            Some(_) = kept.join_next() => {}
            changed = members.changed() => {
                if changed.is_err() {
                    // The sequencer is gone; the server sees that as well and stops.
                    parts.stopping.cancelled().await;
                    return;
                }
            }
        }
    }
}
