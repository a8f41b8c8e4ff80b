//! One member's Raft machine: propose, then settle: write, sync, commit.
//!
//! Traps of raft-rs 0.7 that are met here: it draws election timeouts from a global random source, so ours replace them
//! after every change of term or role; after a restart it forgets its leader, so a restarted member grants no vote for
//! one maximum election timeout (a group of one is exempt); followers must not forward proposals, so only a leader may
//! propose; its own lease counts ticks, so it is not used.

use super::log_bridge::logger;
use super::storage::{JournalStorage, from_raft_entry, from_raft_hard_state};
use crate::journal::{Journal, JournalError, LogEntry};
use bytes::Bytes;
use cairn_core::ids::{LogIndex, Term};
use cairn_core::limits::{
    RAFT_APPLY_BYTES_MAX, RAFT_ELECTION_TICKS_MAX, RAFT_ELECTION_TICKS_MIN, RAFT_HEARTBEAT_TICKS,
    RAFT_INFLIGHT_MESSAGES_MAX, RAFT_MESSAGE_BYTES_MAX, RAFT_TICK,
};
use cairn_core::time::Tick;
use cairn_env::random::Random;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use std::sync::Arc;
use thiserror::Error;

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

/// What came of settling.
#[derive(Debug, Default)]
pub struct Settled {
    /// Newly committed entries, in order: apply them, then call [`Group::applied`].
    pub committed: Vec<LogEntry>,
    /// Messages for other members.
    pub outbox: Vec<Message>,
}

/// The machine and its journal.
pub struct Group {
    node: RawNode<JournalStorage>,
    random: Arc<dyn Random>,
    /// Term and role for which the election timeout was drawn.
    drawn_for: (u64, StateRole),
    /// Votes are granted from here on.
    votes_from: Tick,
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
        let storage = JournalStorage { journal, members, applied: config.applied };
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
            ..Config::default()
        };
        let node = RawNode::new(&raft_config, storage, &logger())?;
        let wait = if alone { 0 } else { RAFT_ELECTION_TICKS_MAX as u32 };
        let mut group = Self {
            node,
            random,
            drawn_for: (u64::MAX, StateRole::Follower),
            votes_from: now.after(RAFT_TICK * wait),
        };
        group.draw_election_timeout();
        if alone {
            group.node.campaign()?;
        }
        Ok(group)
    }

    /// One tick of [`RAFT_TICK`].
    pub fn tick(&mut self) {
        self.node.tick();
        self.draw_election_timeout();
    }

    /// Takes a message of another member, converted from our own wire form.
    ///
    /// # Errors
    /// `Machine` on messages that make no sense; the caller drops them.
    pub fn step(&mut self, message: Message, now: Tick) -> Result<(), RaftFailure> {
        let asks_vote =
            matches!(message.msg_type, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        if asks_vote && now < self.votes_from {
            return Ok(());
        }
        self.node.step(message)?;
        self.draw_election_timeout();
        Ok(())
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

    /// Whether there is anything to write, send or commit.
    pub fn wants_settling(&self) -> bool {
        self.node.has_ready()
    }

    /// Handles one ready of the machine: one write and one fdatasync for everything queued.
    ///
    /// # Errors
    /// `Journal`: the member must stop and answer nothing.
    pub fn settle(&mut self) -> Result<Settled, RaftFailure> {
        let mut settled = Settled::default();
        let mut ready = self.node.ready();
        // A leader's messages may leave before its own sync; here they wait for the caller, who sends them.
        settled.outbox.append(&mut ready.take_messages());
        settled.committed.extend(ready.take_committed_entries().iter().map(from_raft_entry));
        let entries: Vec<LogEntry> = ready.entries().iter().map(from_raft_entry).collect();
        let journal = &mut self.node.mut_store().journal;
        let hard = ready.hs().map_or(journal.hard(), from_raft_hard_state);
        if ready.must_sync() {
            journal.append(hard, &entries)?;
        } else {
            journal.note_commit(hard.commit);
        }
        settled.outbox.append(&mut ready.take_persisted_messages());
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().journal.note_commit(LogIndex(commit));
        }
        settled.outbox.append(&mut light.take_messages());
        settled.committed.extend(light.take_committed_entries().iter().map(from_raft_entry));
        self.draw_election_timeout();
        Ok(settled)
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

    /// raft-rs draws a timeout of its own whenever term or role change: ours takes its place.
    fn draw_election_timeout(&mut self) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.drawn_for {
            let span = (RAFT_ELECTION_TICKS_MAX - RAFT_ELECTION_TICKS_MIN) as u64;
            let ticks = RAFT_ELECTION_TICKS_MIN + self.random.below(span) as usize;
            self.node.raft.set_randomized_election_timeout(ticks);
            self.drawn_for = now;
        }
    }
}
