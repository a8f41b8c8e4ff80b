//! How the group stands, as this member sees it: for operators, readiness and refusals.

use crate::raft::Follower;
use cairn_core::ids::{LogIndex, Term};

/// The group at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// This member's term.
    pub term: Term,
    /// Raft id of the leader; 0 while unknown.
    pub leader: u64,
    /// Committed as far as this member has heard.
    pub told_commit: LogIndex,
    /// Applied here.
    pub applied: LogIndex,
    /// The other members, when this one leads.
    pub followers: Vec<Follower>,
}

impl GroupView {
    /// Whether this member could take over at once: it has applied all that it knows to be committed, under a known leader.
    pub fn is_caught_up(&self) -> bool {
        self.leader != 0 && self.applied >= self.told_commit
    }

    /// Of a leader: whether another member votes, and could lead.
    pub fn has_other_voters(&self) -> bool {
        self.followers.iter().any(|follower| !follower.learner)
    }
}
