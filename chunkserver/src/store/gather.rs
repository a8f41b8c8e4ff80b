//! Which replica counts where several disks of a server have one of the same chunk part: what a move that was cut short leaves, or
//! one that was made anew while its disk had failed. `cairn_core::chunk::moving` judges.

use super::commands::forget_blocks;
use super::replica::Replica;
use super::write::{COMMAND_BYTES, append};
use bytes::Bytes;
use cairn_core::chunk::ReplicaKey;
use cairn_core::chunk::intent::Intent;
use cairn_core::chunk::moving::{Candidate, Fate, judge};
use cairn_core::ids::DiskId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The replicas of all disks.
#[derive(Default)]
pub(super) struct Gathered {
    alone: BTreeMap<ReplicaKey, Arc<Replica>>,
    contested: BTreeMap<ReplicaKey, Vec<Arc<Replica>>>,
}

impl Gathered {
    pub(super) fn add(&mut self, replica: Arc<Replica>) {
        let key = replica.key;
        let is_provisional = replica.state().provisional.is_some();
        if is_provisional || self.alone.contains_key(&key) || self.contested.contains_key(&key) {
            let before = self.alone.remove(&key);
            self.contested.entry(key).or_default().extend(before.into_iter().chain([replica]));
        } else {
            self.alone.insert(key, replica);
        }
    }

    /// Those that count, and those that are kept and not used. `open`: the disks that could be recovered. Blocks.
    pub(super) fn judged(self, open: &[DiskId]) -> (BTreeMap<ReplicaKey, Arc<Replica>>, Vec<Arc<Replica>>) {
        let (mut counting, mut aside) = (self.alone, Vec::new());
        for (key, replicas) in self.contested {
            let candidates: Vec<Candidate> = replicas.iter().map(candidate).collect();
            for (replica, fate) in replicas.into_iter().zip(judge(&candidates, open)) {
                tracing::info!(chunk = %key.chunk, disk = %replica.volume.disk_id, ?fate, "one of several replicas of a chunk");
                let counts = match fate {
                    Fate::Counts => true,
                    Fate::Settles => record(&replica, Intent::Settled),
                    Fate::Deleted if record(&replica, Intent::Delete) => {
                        delete(&replica);
                        continue;
                    }
                    Fate::Deleted | Fate::Aside => false,
                };
                if counts {
                    counting.insert(key, replica);
                } else {
                    replica.volume.space.replicas.fetch_sub(1, Ordering::Relaxed);
                    aside.push(replica);
                }
            }
        }
        (counting, aside)
    }
}

fn candidate(replica: &Arc<Replica>) -> Candidate {
    let state = replica.state();
    Candidate { version: state.version, provisional: state.provisional }
}

/// Journals it, if there is room: nothing that is written to the replica later can be durable without it.
fn record(replica: &Arc<Replica>, intent: Intent<Bytes>) -> bool {
    let Some(mut reservation) = replica.volume.journal.try_reserve(COMMAND_BYTES) else { return false };
    let ticket = {
        let mut state = replica.state();
        state.provisional = None;
        append(replica, &mut state, intent, &mut reservation)
    };
    replica.volume.hasten(ticket).is_ok()
}

fn delete(replica: &Arc<Replica>) {
    let volume = &replica.volume;
    {
        let mut state = replica.state();
        state.deleted = true;
        forget_blocks(replica, &mut state);
    }
    volume.space.replicas.fetch_sub(1, Ordering::Relaxed);
    // Otherwise the next start removes it, as a file of no replica.
    if let Err(error) = volume.disk().remove_file(&volume.replica_path(replica.key)) {
        tracing::warn!(chunk = %replica.key.chunk, %error, "cannot remove the file of a move that was cut short");
    }
}
