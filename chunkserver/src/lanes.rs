//! Lanes: at most one live connection for each lane of each node.
//!
//! A caller that lost a connection and makes a new one for the same lane must be sure that nothing it sent on the old
//! one is still to be applied. So the newcomer's Hello is answered only when its predecessor is closed and the last of
//! the predecessor's requests has ended. Arrival decides who is the newcomer: a connection whose Hello was never answered
//! has sent no frames, so whichever Hello comes later is of a caller that has given the earlier up.

use cairn_core::ids::NodeId;
use cairn_core::limits::DATA_CONNECTIONS_MAX;
use cairn_proto::data_conn::{Closer, Lane};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lanes of all nodes.
#[derive(Default)]
pub(crate) struct Lanes {
    known: Mutex<BTreeMap<(NodeId, u64), Weak<LaneState>>>,
}

struct LaneState {
    /// One permit: held from the Hello's acceptance until the last request of the connection has ended.
    turn: Arc<Semaphore>,
    holder: Mutex<Option<Closer>>,
}

/// Held by a connection as long as any of its requests is under way.
pub(crate) struct LaneTurn {
    _state: Arc<LaneState>,
    _turn: OwnedSemaphorePermit,
}

impl Lanes {
    /// Closes the lane's present connection, waits for the end of its work, and takes the lane. `None` when the caller
    /// does not fence (generation 0). Dropping the future gives the attempt up.
    pub(crate) async fn take(&self, node: NodeId, lane: Lane, closer: Closer) -> Option<LaneTurn> {
        if lane.generation == 0 {
            return None;
        }
        let state = self.state(node, lane.number);
        let predecessor = state.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(predecessor) = predecessor {
            predecessor.close();
        }
        let turn = state.turn.clone().acquire_owned().await.ok()?;
        *state.holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(closer);
        Some(LaneTurn { _state: state, _turn: turn })
    }

    fn state(&self, node: NodeId, number: u64) -> Arc<LaneState> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = known.get(&(node, number)).and_then(Weak::upgrade) {
            return state;
        }
        if known.len() > 2 * DATA_CONNECTIONS_MAX {
            known.retain(|_, state| state.strong_count() > 0);
        }
        let state = Arc::new(LaneState { turn: Arc::new(Semaphore::new(1)), holder: Mutex::new(None) });
        known.insert((node, number), Arc::downgrade(&state));
        state
    }
}
