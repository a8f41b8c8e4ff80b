//! How the group of masters changes, one master at a time: decided by the leader, against the row of members and who votes.
//!
//! ```text
//!             Add                 Join                   Promote
//!  (nobody) ───────► awaited ──────────► learner ────────────────► voter
//!                       ▲                   │  ▲  Join               │
//!                       │ Replace           │  └─────── detached ◄───┤ Detach: it has lost its journal
//!                       └───────────────────┴────────────────────────┘
//!  Remove: from anywhere to nobody
//! ```
//! A master that has lost what it acknowledged or voted must not count for it any more (I13): so it leaves the Raft
//! configuration before it comes back, first without a vote, and the leader forgets what it believed it to have. Each step changes
//! at most one vote: majorities before and after always overlap.

use super::members::{Member, Members};
use crate::ids::NodeId;
use crate::limits::MASTERS_MAX;
use crate::seeded::{Bug, is_planted};
use thiserror::Error;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A place for a master that is to come.
    Add {
        /// Raft id.
        id: u64,
        /// `host:port` of its control plane.
        address: String,
    },
    /// A master's place is for another node: that of a lost disk, or of another machine.
    Replace {
        /// Raft id.
        id: u64,
        /// Where the new one is; `None`: where the old one was.
        address: Option<String>,
    },
    /// A master on record has lost its journal: what it said does not count any more.
    Detach {
        /// Raft id.
        id: u64,
        /// Its node.
        node: NodeId,
    },
    /// A master that was awaited or detached follows from now on, without a vote.
    Join {
        /// Raft id.
        id: u64,
        /// Its node.
        node: NodeId,
    },
    /// A master that follows and has caught up votes from now on.
    Promote {
        /// Raft id.
        id: u64,
    },
    /// A master leaves the group for good.
    Remove {
        /// Raft id.
        id: u64,
    },
}

/// What a step does to the Raft configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteChange {
    /// The member follows without a vote; whatever was believed of it before is forgotten.
    Learner(u64),
    /// The member votes.
    Voter(u64),
    /// The member is none any more.
    Gone(u64),
}

/// Who votes and who only follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// Members that vote.
    pub voters: Vec<u64>,
    /// Members that only follow.
    pub learners: Vec<u64>,
}

impl Votes {
    /// The configuration after a change.
    pub fn apply(&mut self, change: VoteChange) {
        let (VoteChange::Learner(id) | VoteChange::Voter(id) | VoteChange::Gone(id)) = change;
        self.voters.retain(|&voter| voter != id);
        self.learners.retain(|&learner| learner != id);
        let list = match change {
            VoteChange::Learner(_) => &mut self.learners,
            VoteChange::Voter(_) => &mut self.voters,
            VoteChange::Gone(_) => return,
        };
        list.push(id);
        list.sort_unstable();
    }

    fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The id is taken.
    #[error("master {0} exists already: see `cairn admin masters`")]
    Exists(u64),
    /// Nobody has the id.
    #[error(
        "there is no master {0}: see `cairn admin masters`; `cairn admin masters add {0}=HOST:PORT` makes a place for one"
    )]
    Unknown(u64),
    /// The members make no group.
    #[error(
        "{0} does not fit: ids are from 1, no two masters have one address, and there are at most {MASTERS_MAX} of them"
    )]
    Unfit(String),
    /// It leads.
    #[error("master {0} leads: let another one lead first, with `cairn admin masters transfer-leader`")]
    Leads(u64),
    /// Nobody would vote.
    #[error("master {0} is the only one that votes")]
    LastVoter(u64),
    /// Another node has the place.
    #[error(
        "master {id} is node {node} on record: if that one is lost, give its place away with `cairn admin masters replace {id}`"
    )]
    OtherNode {
        /// Raft id.
        id: u64,
        /// The node on record.
        node: NodeId,
    },
    /// The node is another member.
    #[error("node {node} is master {id} on record")]
    NodeTaken {
        /// Raft id.
        id: u64,
        /// The node.
        node: NodeId,
    },
    /// There is nothing to do.
    #[error("master {0} has taken this step already")]
    Done(u64),
}

/// The row after the step, and what it does to the votes. `leader` decides.
///
/// # Errors
/// See [`Refusal`].
pub fn decide(
    change: &MemberChange,
    members: &Members,
    votes: &Votes,
    leader: u64,
) -> Result<(Members, Option<VoteChange>), Refusal> {
    let known = |id| members.get(id).ok_or(Refusal::Unknown(id));
    let without = |id| members.iter().filter(move |member| member.id != id).cloned();
    let with = |member: Member| {
        let name = format!("{}={}", member.id, member.address);
        let taken = without(member.id).any(|other| other.address == member.address);
        let all = without(member.id).chain([member]).collect();
        Members::changed_to(all).filter(|_| !taken).ok_or(Refusal::Unfit(name))
    };
    let leave = |id| {
        if id == leader {
            return Err(Refusal::Leads(id));
        }
        if votes.voters == [id] {
            return Err(Refusal::LastVoter(id));
        }
        Ok(votes.contains(id).then_some(VoteChange::Gone(id)))
    };
    match change {
        MemberChange::Add { id, .. } if members.get(*id).is_some() => Err(Refusal::Exists(*id)),
        MemberChange::Add { id, address } => {
            let member = Member { id: *id, node: NodeId::default(), address: address.clone() };
            Ok((with(member)?, None))
        }
        MemberChange::Replace { id, address } => {
            let old = known(*id)?;
            let address = address.clone().unwrap_or_else(|| old.address.clone());
            let votes = leave(*id)?.filter(|_| !is_planted(Bug::ReplaceKeepsVote));
            Ok((with(Member { id: *id, node: NodeId::default(), address })?, votes))
        }
        MemberChange::Detach { id, node } => {
            let member = known(*id)?;
            if member.node != *node {
                return Err(Refusal::OtherNode { id: *id, node: member.node });
            }
            let votes = leave(*id)?.ok_or(Refusal::Done(*id))?;
            Ok((with(member.clone())?, Some(votes)))
        }
        MemberChange::Join { id, node } => {
            let member = known(*id)?;
            if let Some(other) = without(*id).find(|other| other.node == *node) {
                return Err(Refusal::NodeTaken { id: other.id, node: *node });
            }
            if !member.is_awaited() && member.node != *node {
                return Err(Refusal::OtherNode { id: *id, node: member.node });
            }
            if votes.contains(*id) {
                return Err(Refusal::Done(*id));
            }
            Ok((with(Member { node: *node, ..member.clone() })?, Some(VoteChange::Learner(*id))))
        }
        MemberChange::Promote { id } => {
            let member = known(*id)?;
            if !votes.learners.contains(id) {
                return Err(Refusal::Done(*id));
            }
            Ok((with(member.clone())?, Some(VoteChange::Voter(*id))))
        }
        MemberChange::Remove { id } => {
            known(*id)?;
            let votes = leave(*id)?;
            let rest = Members::changed_to(without(*id).collect());
            Ok((rest.ok_or_else(|| Refusal::Unfit(id.to_string()))?, votes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn node(number: u128) -> NodeId {
        NodeId(Uuid::from_u128(number))
    }

    fn founded() -> (Members, Votes) {
        let member = |id: u64| Member { id, node: node(id.into()), address: format!("10.0.0.{id}:9400") };
        let members = Members::new((1..=3).map(member).collect()).unwrap();
        (members, Votes { voters: vec![1, 2, 3], learners: Vec::new() })
    }

    fn step(state: &mut (Members, Votes), change: &MemberChange) -> Option<VoteChange> {
        let (members, votes) = decide(change, &state.0, &state.1, 1).unwrap();
        state.0 = members;
        votes.into_iter().for_each(|change| state.1.apply(change));
        votes
    }

    #[test]
    fn a_lost_disk_comes_back_without_a_vote_and_earns_it() {
        let mut state = founded();
        let replace = MemberChange::Replace { id: 2, address: None };
        assert_eq!(step(&mut state, &replace), Some(VoteChange::Gone(2)));
        assert!(state.0.get(2).unwrap().is_awaited() && state.0.has_changed());
        let join = MemberChange::Join { id: 2, node: node(22) };
        assert_eq!(step(&mut state, &join), Some(VoteChange::Learner(2)));
        assert_eq!(decide(&join, &state.0, &state.1, 1), Err(Refusal::Done(2)));
        let stranger = MemberChange::Join { id: 2, node: node(23) };
        let refused = Err(Refusal::OtherNode { id: 2, node: node(22) });
        assert_eq!(decide(&stranger, &state.0, &state.1, 1), refused);
        assert_eq!(step(&mut state, &MemberChange::Promote { id: 2 }), Some(VoteChange::Voter(2)));
        assert_eq!(state.1, Votes { voters: vec![1, 2, 3], learners: Vec::new() });
    }

    #[test]
    fn a_lost_journal_costs_the_vote_and_keeps_the_place() {
        let mut state = founded();
        let other = MemberChange::Detach { id: 3, node: node(9) };
        assert!(matches!(decide(&other, &state.0, &state.1, 1), Err(Refusal::OtherNode { .. })));
        let detach = MemberChange::Detach { id: 3, node: node(3) };
        assert_eq!(step(&mut state, &detach), Some(VoteChange::Gone(3)));
        assert_eq!(decide(&detach, &state.0, &state.1, 1), Err(Refusal::Done(3)));
        assert_eq!(decide(&MemberChange::Promote { id: 3 }, &state.0, &state.1, 1), Err(Refusal::Done(3)));
        let join = MemberChange::Join { id: 3, node: node(3) };
        assert_eq!(step(&mut state, &join), Some(VoteChange::Learner(3)));
    }

    #[test]
    fn members_come_and_go() {
        let mut state = founded();
        let add = MemberChange::Add { id: 4, address: "10.0.0.4:9400".into() };
        assert_eq!(step(&mut state, &add), None);
        assert_eq!(decide(&add, &state.0, &state.1, 1), Err(Refusal::Exists(4)));
        let same = MemberChange::Add { id: 5, address: "10.0.0.4:9400".into() };
        assert!(matches!(decide(&same, &state.0, &state.1, 1), Err(Refusal::Unfit(_))));
        let taken = MemberChange::Join { id: 4, node: node(2) };
        assert_eq!(decide(&taken, &state.0, &state.1, 1), Err(Refusal::NodeTaken { id: 2, node: node(2) }));
        assert_eq!(step(&mut state, &MemberChange::Remove { id: 4 }), None);
        assert_eq!(step(&mut state, &MemberChange::Remove { id: 2 }), Some(VoteChange::Gone(2)));
        assert_eq!(decide(&MemberChange::Remove { id: 2 }, &state.0, &state.1, 1), Err(Refusal::Unknown(2)));
        assert_eq!(decide(&MemberChange::Remove { id: 1 }, &state.0, &state.1, 1), Err(Refusal::Leads(1)));
        let alone = Votes { voters: vec![3], learners: vec![1] };
        let last = MemberChange::Remove { id: 3 };
        assert_eq!(decide(&last, &state.0, &alone, 1), Err(Refusal::LastVoter(3)));
    }
}
