//! One member's Raft machine: propose, then settle: write, sync, commit.
//!
//! Traps of raft-rs 0.7 that are met here: it draws election timeouts from a global random source, so ours replace them
//! after every change of term or role; after a restart it forgets its leader, so a restarted member grants no vote for
//! one maximum election timeout (a group of one is exempt); followers must not forward proposals, so only a leader may
//! propose; its own lease counts ticks and ends with any change of term, so a promise of ours stands in front of it.

use super::change;
use super::lease::{LeaseClock, ReadLease};
use super::log_bridge::logger;
use super::storage::{JournalStorage, from_raft_entry, from_raft_hard_state};
use crate::journal::{Journal, JournalError, LogEntry};
use bytes::Bytes;
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::membership::VoteChange;
use cairn_core::limits::{
    RAFT_APPLY_BYTES_MAX, RAFT_ELECTION_TICKS_MAX, RAFT_ELECTION_TICKS_MIN, RAFT_HEARTBEAT_TICKS,
    RAFT_INFLIGHT_MESSAGES_MAX, RAFT_MESSAGE_BYTES_MAX, RAFT_PROMISE, RAFT_TICK,
};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_env::random::Random;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Whoever was heard within the shortest election timeout is there.
const ACTIVE: Duration = RAFT_TICK.saturating_mul(RAFT_ELECTION_TICKS_MIN as u32);
/// The context of a vote request that the leader has asked for (raft-rs keeps the constant to itself).
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// What a member knows of its group when it starts.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Its number, from 1.
    pub id: u64,
    /// Members that vote.
    pub voters: Vec<u64>,
    /// Members that only follow.
    pub learners: Vec<u64>,
    /// Last entry that its state has applied.
    pub applied: LogIndex,
}

/// Why the member must stop.
#[derive(Debug, Error)]
pub enum RaftFailure {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The machine refused something that it never refuses in an intact member.
    #[error("raft: {0}")]
    Machine(#[from] raft::Error),
}

/// Another member, as a leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Its Raft id.
    pub id: u64,
    /// It has everything up to here on stable storage, as far as this leader knows.
    pub matched: LogIndex,
    /// It was heard lately.
    pub active: bool,
    /// It only follows.
    pub learner: bool,
}

/// The machine and its journal.
pub struct Group {
    node: RawNode<JournalStorage>,
    random: Arc<dyn Random>,
    /// Term and role for which the election timeout was drawn.
    drawn_for: (u64, StateRole),
    /// Votes are granted from here on: not right after a start, and not while a leader that was heard counts on it.
    votes_from: Tick,
    lease: ReadLease,
    /// The term in which the lead was begun to be handed over: from then on another member may be elected at any moment, so
    /// nothing is read under a lease of that term any more.
    handed_over: Option<Term>,
    /// The commit index that the leader has told last.
    told_commit: LogIndex,
    /// When whom has answered this leader last. (raft-rs forgets it each time it has checked for its quorum.)
    heard: BTreeMap<u64, Tick>,
    now: Tick,
}

impl Group {
    /// Takes the journal up where it ends.
    ///
    /// # Errors
    /// `Machine` when the configuration makes no sense.
    pub fn open(
        config: &GroupConfig,
        journal: Journal,
        random: Arc<dyn Random>,
        now: Tick,
    ) -> Result<Self, RaftFailure> {
        let members = ConfState::from((config.voters.clone(), config.learners.clone()));
        let alone = config.voters == [config.id];
        let storage = JournalStorage { journal, members, applied: config.applied, behind: Cell::default() };
        let raft_config = Config {
            id: config.id,
            election_tick: RAFT_ELECTION_TICKS_MIN,
            min_election_tick: RAFT_ELECTION_TICKS_MIN,
            max_election_tick: RAFT_ELECTION_TICKS_MAX,
            heartbeat_tick: RAFT_HEARTBEAT_TICKS,
            applied: config.applied.get(),
            max_size_per_msg: RAFT_MESSAGE_BYTES_MAX,
            max_inflight_msgs: RAFT_INFLIGHT_MESSAGES_MAX,
            max_committed_size_per_ready: RAFT_APPLY_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            // Followers hear of it with the next append, or with the next heartbeat: their answers to a message of its own
            // would be half of all that the leader hears.
            skip_bcast_commit: true,
            ..Config::default()
        };
        let node = RawNode::new(&raft_config, storage, &logger())?;
        let wait = if alone { 0 } else { RAFT_ELECTION_TICKS_MAX as u32 };
        let mut group = Self {
            node,
            random,
            drawn_for: (u64::MAX, StateRole::Follower),
            votes_from: now.after(RAFT_TICK * wait),
            lease: ReadLease::new(),
            handed_over: None,
            told_commit: config.applied,
            heard: BTreeMap::new(),
            now,
        };
        group.note_term_and_role();
        if alone {
            group.node.campaign()?;
        }
        Ok(group)
    }

    /// One tick of [`RAFT_TICK`].
    pub fn tick(&mut self, now: Tick) {
        self.now = now;
        self.node.tick();
        self.note_term_and_role();
        if self.leads() && self.handed_over == Some(self.term()) && self.node.raft.lead_transferee.is_none() {
            // It came to nothing within an election timeout.
            self.hand_over(None);
        }
    }

    /// Has another member elected: `to`, or the one that has most of the log among those heard lately. False when there is
    /// none, or this member does not lead. It leads no more when the other has been elected; meanwhile it proposes nothing.
    pub fn hand_over(&mut self, to: Option<u64>) -> bool {
        let candidates = self.followers().into_iter().filter(|follower| !follower.learner);
        let best = match to {
            Some(to) => candidates.into_iter().find(|follower| follower.id == to),
            None => candidates.filter(|follower| follower.active).max_by_key(|follower| follower.matched),
        };
        let Some(best) = best else { return false };
        self.handed_over = Some(self.term());
        self.lease.reset();
        self.node.transfer_leader(best.id);
        true
    }

    /// Takes a message of another member, converted from our own wire form.
    ///
    /// # Errors
    /// `Machine` on messages that make no sense; the caller drops them.
    pub fn step(&mut self, message: Message, now: Tick) -> Result<(), RaftFailure> {
        let asks_vote =
            matches!(message.msg_type, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        // Whoever was asked by the leader itself to take its place need not wait for the leader's time to run out.
        let is_asked_to = message.context == CAMPAIGN_TRANSFER;
        let has_promised = now < self.votes_from && !is_planted(Bug::IgnoreVotePromise);
        if asks_vote && has_promised && !is_asked_to {
            return Ok(());
        }
        let (kind, from, term, commit) = (message.msg_type, message.from, message.term, message.commit);
        if kind == MessageType::MsgHeartbeatResponse && self.leads() && term == self.node.raft.term {
            self.note_committed(from, commit)?;
        }
        let answered =
            (kind == MessageType::MsgHeartbeatResponse).then(|| sent_at(&message.context)).flatten();
        self.node.step(message)?;
        self.note_term_and_role();
        let of_this_term = term == self.node.raft.term;
        let answers = matches!(kind, MessageType::MsgHeartbeatResponse | MessageType::MsgAppendResponse);
        if answers && of_this_term && self.leads() {
            self.heard.insert(from, now);
        }
        match kind {
            MessageType::MsgHeartbeat | MessageType::MsgAppend if of_this_term && !self.leads() => {
                self.votes_from = self.votes_from.max(now.after(RAFT_PROMISE));
                self.told_commit = self.told_commit.max(LogIndex(commit));
            }
            MessageType::MsgHeartbeatResponse if of_this_term && self.leads() => {
                if let Some(sent) = answered.filter(|_| self.handed_over != Some(Term(term))) {
                    let voters = self.voters();
                    self.lease.answered(from, sent, &voters, self.node.raft.id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A member that fetched a copy of the state has a log that this leader's messages cannot reach back to. What a member says
    /// to be committed is the same in the log of every leader, and is durable there: it is an answer as good as one to an append.
    fn note_committed(&mut self, from: u64, commit: u64) -> Result<(), RaftFailure> {
        let commit =
            if is_planted(Bug::CountUnheardEntries) { self.node.raft.raft_log.last_index() } else { commit };
        let matched = self.node.raft.prs().get(from).map(|progress| progress.matched);
        if matched.is_some_and(|matched| matched < commit && commit <= self.node.raft.raft_log.last_index()) {
            let term = self.node.raft.term;
            let msg_type = MessageType::MsgAppendResponse;
            self.node.step(Message { msg_type, from, term, index: commit, commit, ..Default::default() })?;
        }
        Ok(())
    }

    /// A message to this member could not be sent: the leader goes back to asking it one at a time.
    pub fn unreachable(&mut self, member: u64) {
        self.node.report_unreachable(member);
    }

    /// Appends entries to the log; [`Group::settle`] makes them durable. Returns the index of the first one, or `None`
    /// when this member does not lead.
    pub fn propose(&mut self, data: Vec<Bytes>) -> Option<LogIndex> {
        if !self.leads() {
            return None;
        }
        let first = self.node.raft.raft_log.last_index() + 1;
        let entries: Vec<Entry> = data.into_iter().map(|data| Entry { data, ..Default::default() }).collect();
        let mut message =
            Message { msg_type: MessageType::MsgPropose, from: self.node.raft.id, ..Default::default() };
        message.set_entries(entries.into());
        // Refused while the lead is being handed over: as good as not leading.
        self.node.step(message).ok().map(|()| LogIndex(first))
    }

    /// Appends a change of the group with its row. `None` when this member does not lead, or an earlier change is not applied
    /// yet.
    pub fn propose_change(&mut self, votes: VoteChange, row: Bytes) -> Option<LogIndex> {
        if !self.leads() || self.node.raft.has_pending_conf() {
            return None;
        }
        let first = self.node.raft.raft_log.last_index() + 1;
        // Refused while the lead is being handed over.
        self.node.propose_conf_change(Vec::new(), change::to_raft(votes, row)).ok().map(|()| LogIndex(first))
    }

    /// A change of the group is committed, and its row written.
    ///
    /// # Errors
    /// `Machine` when it makes no sense, as none that was proposed does.
    pub fn apply_change(&mut self, votes: VoteChange) -> Result<(), RaftFailure> {
        self.node.apply_conf_change(&change::to_raft(votes, Bytes::new()))?;
        // The next answers are those of a majority of the new group.
        self.begin_lease();
        Ok(())
    }

    /// A member that needs entries which this leader no longer holds, if one has shown.
    pub fn take_behind(&mut self) -> Option<u64> {
        self.node.mut_store().behind.take()
    }

    /// Whether there is anything to write, send or commit.
    pub fn wants_settling(&self) -> bool {
        self.node.has_ready()
    }

    /// Handles one ready of the machine: one write and one fdatasync for everything queued. Messages leave through `send`,
    /// those of a leader before its own sync. Returns newly committed entries, in order: apply them, then call
    /// [`Group::applied`].
    ///
    /// # Errors
    /// `Journal`: the member must stop and answer nothing.
    pub fn settle(
        &mut self,
        now: Tick,
        mut send: impl FnMut(Vec<Message>),
    ) -> Result<Vec<LogEntry>, RaftFailure> {
        let mut ready = self.node.ready();
        let mut leave = |messages: Vec<Message>| {
            if !messages.is_empty() {
                send(messages.into_iter().map(|message| stamped(message, now)).collect());
            }
        };
        leave(ready.take_messages());
        let mut committed: Vec<LogEntry> =
            ready.take_committed_entries().iter().map(from_raft_entry).collect();
        let entries: Vec<LogEntry> = ready.entries().iter().map(from_raft_entry).collect();
        if is_planted(Bug::FollowersAnswerBeforeSync) {
            leave(ready.take_persisted_messages());
        }
        let journal = &mut self.node.mut_store().journal;
        let mut hard = ready.hs().map_or(journal.hard(), from_raft_hard_state);
        if is_planted(Bug::ForgetVote) {
            hard.vote = 0;
        }
        if ready.must_sync() {
            journal.append(hard, &entries)?;
        } else {
            journal.note_commit(hard.commit);
        }
        leave(ready.take_persisted_messages());
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().journal.note_commit(LogIndex(commit));
        }
        leave(light.take_messages());
        committed.extend(light.take_committed_entries().iter().map(from_raft_entry));
        self.note_term_and_role();
        Ok(committed)
    }

    /// The state has applied everything up to `index`.
    pub fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.get());
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Its term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Raft id of the leader as far as known; 0 otherwise.
    pub fn leader(&self) -> u64 {
        self.node.raft.leader_id
    }

    /// Until when nobody else can lead, for those who read.
    pub fn lease(&self) -> &LeaseClock {
        self.lease.clock()
    }

    /// Members that vote.
    pub fn voters(&self) -> Vec<u64> {
        self.node.raft.prs().conf().to_conf_state().voters
    }

    /// The other members, as this leader knows them; empty when it does not lead.
    pub fn followers(&self) -> Vec<Follower> {
        if !self.leads() {
            return Vec::new();
        }
        let me = self.node.raft.id;
        let progress = self.node.raft.prs().iter().filter(|&(&id, _)| id != me);
        let learners = self.node.raft.prs().conf().to_conf_state().learners;
        let mut followers: Vec<Follower> = progress
            .map(|(&id, progress)| Follower {
                id,
                matched: LogIndex(progress.matched),
                active: self.heard.get(&id).is_some_and(|heard| self.now.since(*heard) < ACTIVE),
                learner: learners.contains(&id),
            })
            .collect();
        followers.sort_by_key(|follower| follower.id);
        followers
    }

    /// Everything up to here is committed, as far as this member has heard, whether or not it has it.
    pub fn told_commit(&self) -> LogIndex {
        self.told_commit.max(LogIndex(self.node.raft.raft_log.committed))
    }

    /// Index of the last entry, durable or not.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.last_index())
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.node.store().journal
    }

    /// The journal, for marks, spares and trims; entries go through [`Group::propose`].
    pub fn journal_mut(&mut self) -> &mut Journal {
        &mut self.node.mut_store().journal
    }

    /// raft-rs draws an election timeout of its own whenever term or role change: ours takes its place. It is longer than
    /// the promise of the others, so that they may vote for this member when it asks.
    fn note_term_and_role(&mut self) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.drawn_for {
            let least = RAFT_ELECTION_TICKS_MIN + RAFT_HEARTBEAT_TICKS;
            let ticks = least + self.random.below((RAFT_ELECTION_TICKS_MAX - least) as u64) as usize;
            self.node.raft.set_randomized_election_timeout(ticks);
            self.drawn_for = now;
            self.heard.clear();
            self.begin_lease();
        }
    }

    fn begin_lease(&mut self) {
        self.lease.reset();
        if self.leads() && self.handed_over != Some(self.term()) {
            match self.voters() == [self.node.raft.id] {
                true => self.lease.alone(),
                // The first answers begin the lease.
                false => self.node.ping(),
            }
        }
    }
}

/// A heartbeat carries its sender's clock; the response brings it back.
fn stamped(mut message: Message, now: Tick) -> Message {
    if message.msg_type == MessageType::MsgHeartbeat {
        let nanos = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        message.context = Bytes::copy_from_slice(&nanos.to_le_bytes());
    }
    message
}

fn sent_at(context: &[u8]) -> Option<Tick> {
    Some(Tick(Duration::from_nanos(u64::from_le_bytes(context.try_into().ok()?))))
}
