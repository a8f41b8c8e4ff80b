//! I13: a vote is given once a term, whatever crashes in between, and nobody forgets a term that he has named to others.

use crate::core_sim::member::Member;
use crate::sequencer::stepped::Stepped;
use cairn_core::ids::NodeId;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeMap;

/// Who voted for whom, by node and term.
#[derive(Default)]
pub(in crate::core_sim) struct Votes {
    given: BTreeMap<(NodeId, u64), u64>,
}

impl Votes {
    pub(super) fn check(&mut self, seed: u64, member: &mut Member, message: &Message) {
        let vote = match message.msg_type {
            // Questions and promises for a term that may never come.
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => return,
            MessageType::MsgRequestVote => Some(member.id),
            MessageType::MsgRequestVoteResponse if !message.reject => Some(message.to),
            _ => None,
        };
        member.said_term = member.said_term.max(message.term);
        let Some(vote) = vote else { return };
        let given = *self.given.entry((member.node, message.term)).or_insert(vote);
        assert_eq!(
            given, vote,
            "seed {seed}: I13: master {} votes for {vote} in term {} and has voted for {given}",
            member.id, message.term
        );
    }
}

/// A member that comes back on its own disk knows at least the term that it has named.
pub(super) fn check_start(seed: u64, member: &Member, stepped: &Stepped) {
    let term = stepped.group().term().get();
    assert!(
        term >= member.said_term,
        "seed {seed}: I13: master {} comes back in term {term} and has spoken in {}",
        member.id,
        member.said_term
    );
}
