//! Changing the group: one step at a time, decided on the leader against the rows as applied, done when it is applied there.

use super::apply::GroupChanged;
use super::handle::{GroupRefusal, Request};
use super::open::Fatal;
use super::owner::Sequencer;
use bytes::Bytes;
use cairn_core::ids::LogIndex;
use cairn_core::journal::entry::{EntryData, Origin};
use cairn_core::journal::members::{MEMBERS_KEY, Members};
use cairn_core::journal::membership::{MemberChange, VoteChange, Votes, decide};
use cairn_core::limits::PROMOTION_LAG_ENTRIES;
use cairn_core::namespace::machine::RecordKind;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whoever waits for a step.
pub(super) type Done = oneshot::Sender<Result<(), GroupRefusal>>;

/// The group's part of the sequencer.
pub(super) struct GroupState {
    /// Raft id of this member.
    pub(super) id: u64,
    /// Who the members are, as applied.
    pub(super) members: tokio::sync::watch::Sender<Arc<Members>>,
    /// The step that is proposed and not yet applied.
    pub(super) under_way: Option<(LogIndex, Done)>,
}

impl Sequencer {
    /// Proposes a step, or says why not.
    pub(super) fn change_group(&mut self, change: &MemberChange, done: Done) {
        match self.propose_step(change) {
            Ok(index) => self.masters.under_way = Some((index, done)),
            // Whoever asked may be gone.
            Err(refusal) => drop(done.send(Err(refusal))),
        }
    }

    fn propose_step(&mut self, change: &MemberChange) -> Result<LogIndex, GroupRefusal> {
        if self.leading.is_none() {
            return Err(GroupRefusal::NotLeader);
        }
        if self.masters.under_way.is_some() {
            return Err(GroupRefusal::Busy);
        }
        let applied = &self.applier.applied;
        let votes = Votes { voters: applied.voters.clone(), learners: applied.learners.clone() };
        let members = Arc::clone(&self.masters.members.borrow());
        let (members, change) = decide(change, &members, &votes, self.masters.id)?;
        let row = members.encode();
        let Some(change) = change else { return self.propose_row(row) };
        self.is_safe(change, &votes)?;
        // What was decided before comes before it in the log.
        self.hand_in_proposals();
        let index = self.group.propose_change(change, row).ok_or(GroupRefusal::Busy)?;
        self.last_decided = index;
        Ok(index)
    }

    /// A majority of those who vote afterwards must be there, and whoever begins to vote must have what is committed: else the
    /// step itself would stop the group.
    fn is_safe(&self, change: VoteChange, votes: &Votes) -> Result<(), GroupRefusal> {
        let followers = self.group.followers();
        if let VoteChange::Voter(id) = change {
            let needed = self.applier.applied.last.index.get().saturating_sub(PROMOTION_LAG_ENTRIES);
            let is_ready = |matched: LogIndex| matched.get() >= needed;
            let learner = followers.iter().find(|follower| follower.id == id && follower.active);
            return match learner.is_some_and(|learner| is_ready(learner.matched)) {
                true => Ok(()),
                false => Err(GroupRefusal::NotCaughtUp(id)),
            };
        }
        let mut after = votes.clone();
        after.apply(change);
        let is_there = |voter: &&u64| {
            **voter == self.masters.id
                || followers.iter().any(|follower| follower.id == **voter && follower.active)
        };
        let there = after.voters.iter().filter(is_there).count();
        match there > after.voters.len() / 2 {
            true => Ok(()),
            false => Err(GroupRefusal::NoMajority { there, of: after.voters.len() }),
        }
    }

    fn propose_row(&mut self, row: Bytes) -> Result<LogIndex, GroupRefusal> {
        let entry = EntryData {
            kind: RecordKind::ChangeMasters.number(),
            time: self.time,
            origin: Origin::Internal,
            rows: vec![(Bytes::from_static(&MEMBERS_KEY), Some(row))],
        };
        Ok(self.append(entry))
    }

    /// The rows of these changes are written.
    pub(super) fn group_changed(&mut self, last: LogIndex, changed: GroupChanged) -> Result<(), Fatal> {
        for votes in changed.votes {
            self.group.apply_change(votes)?;
        }
        if let Some(members) = changed.members {
            tracing::info!(?members, "the group of masters has changed");
            let present = members.get(self.masters.id).is_some_and(|member| member.node == self.node);
            self.masters.members.send_replace(Arc::new(members));
            if !present {
                return Err(Fatal::Removed(self.masters.id));
            }
        }
        if let Some((_, done)) = self.masters.under_way.take_if(|(index, _)| *index <= last) {
            // Whoever asked may be gone.
            drop(done.send(Ok(())));
        }
        Ok(())
    }

    /// The leader says that it no longer holds what this member lacks: it stops, to fetch a copy of the state.
    pub(super) fn fall_behind(&mut self, leader: u64, term: cairn_core::ids::Term) {
        if !self.group.leads() && self.group.leader() == leader && self.group.term() == term {
            self.give_up(format!(
                "master {leader} leads and no longer holds the journal after entry {}",
                self.applier.applied.last.index.get()
            ));
        }
    }

    /// This member cannot go on with what it has; with others in its group it stops to be filled by them. False when it is alone.
    pub(super) fn give_up(&mut self, reason: String) -> bool {
        let has_others = self.masters.members.borrow().iter().any(|member| member.id != self.masters.id);
        if has_others {
            tracing::error!(reason, "this master stops, to be filled by the others");
            self.stopping = true;
            // The first reason counts.
            let _ = self.must_be_filled.set(reason);
        }
        has_others
    }

    /// Nobody hears of requests about the group from a sequencer that stops.
    pub(super) fn refuse_group_request(request: Request) {
        if let Request::Change { done, .. } = request {
            drop(done.send(Err(GroupRefusal::NotLeader)));
        }
    }
}
