//! Followers without a vote get one when they have caught up.

use crate::parts::Parts;
use crate::sequencer::GroupRefusal;
use cairn_core::ids::Term;
use cairn_core::journal::membership::MemberChange;
use std::sync::Arc;
use tracing::{info, warn};

/// Looks at each of them once.
pub(crate) async fn pass(parts: Arc<Parts>, _: Term) {
    let learners: Vec<u64> = {
        let group = parts.sequencer.group();
        let group = group.borrow();
        group.followers.iter().filter(|follower| follower.learner).map(|follower| follower.id).collect()
    };
    for id in learners {
        match parts.sequencer.change(MemberChange::Promote { id }).await {
            Ok(()) => info!(master = id, "a master has caught up and votes from now on"),
            // In a moment, or by the next leader.
            Err(GroupRefusal::NotCaughtUp(_) | GroupRefusal::Busy | GroupRefusal::NotLeader) => {}
            Err(error) => warn!(master = id, %error, "a master that has caught up gets no vote yet"),
        }
    }
}
