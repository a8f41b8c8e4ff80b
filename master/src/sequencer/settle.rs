//! The end of a turn: what was decided becomes durable, what is committed is answered and applied.

use super::apply::Prepared;
use super::open::Fatal;
use super::owner::Sequencer;
use crate::journal::JournalCounters;
use cairn_core::ids::LogIndex;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use std::sync::atomic::Ordering::Relaxed;

impl Sequencer {
    /// When what was decided is to be handed to Raft.
    pub(super) fn hand_in_at(&self) -> Option<Tick> {
        self.proposals.due(self.applier.applied.last.index)
    }

    pub(super) fn hand_in_proposals(&mut self) {
        if self.hand_in_at().is_some() {
            let (first_decided, data) = self.proposals.hand_in(self.last_decided, self.env.clock.now());
            if self.group.propose(data) != Some(first_decided) {
                // The lead went between decision and proposal: nothing of it is answered.
                self.lead_lost();
            }
        }
    }

    fn hand_in_if_due(&mut self) {
        if self.hand_in_at().is_some_and(|at| at <= self.env.clock.now()) {
            self.hand_in_proposals();
        }
    }

    /// Hands the proposals to Raft, makes them durable, lets the answers go, and applies what is committed. The rows of a batch are
    /// written when the next one has left: the other members work meanwhile.
    pub(super) fn settle(&mut self) -> Result<(), Fatal> {
        self.hand_in_if_due();
        if is_planted(Bug::AnswerBeforeCommit) {
            self.release(self.last_decided);
        }
        let mut answered = None;
        while self.group.wants_settling() {
            self.note_loss();
            let before = (self.env.clock.now(), self.group.journal().counters());
            let (peers, mut unreachable) = (&self.peers, Vec::new());
            let committed =
                self.group.settle(before.0, |messages| unreachable.append(&mut peers.send(messages)))?;
            unreachable.into_iter().for_each(|member| self.group.unreachable(member));
            self.note_journal(before);
            self.write(answered.take())?;
            self.backlog.add(committed);
            if self.group.leads() || self.backlog.is_full() {
                answered = self.answer()?;
            }
            self.hand_in_if_due();
        }
        self.write(answered)?;
        if let Some(member) = self.group.take_behind() {
            self.peers.tell_behind(member, self.group.term());
        }
        self.note_loss();
        self.release(self.applier.applied.last.index);
        self.note_leadership();
        if std::mem::take(&mut self.ticked) {
            self.apply()?;
            self.publish_group();
        }
        self.start_jobs();
        Ok(())
    }

    pub(super) fn apply(&mut self) -> Result<(), Fatal> {
        let answered = self.answer()?;
        self.write(answered)
    }

    /// Lets the answers of what is committed go. Its rows are still to be written: before anything else is decided.
    fn answer(&mut self) -> Result<Option<Prepared>, Fatal> {
        let committed = self.backlog.take();
        let Some(last) = committed.last() else { return Ok(None) };
        let started = self.env.clock.now();
        let mut prepared = self.applier.prepare(&committed, &mut self.overlay)?;
        self.applier.announce(&mut prepared, started);
        self.release(last.id.index);
        self.metrics.applied.fetch_add(committed.len() as u64, Relaxed);
        self.metrics.commit_index.store(last.id.index.get(), Relaxed);
        self.note_applying(started);
        if prepared.changes_group() {
            self.write(Some(prepared))?;
            return Ok(None);
        }
        Ok(Some(prepared))
    }

    fn write(&mut self, prepared: Option<Prepared>) -> Result<(), Fatal> {
        let Some(prepared) = prepared else { return Ok(()) };
        let (started, last) = (self.env.clock.now(), prepared.last);
        let changed = self.applier.write(prepared)?;
        self.group_changed(last, changed)?;
        self.group.applied(last);
        self.metrics.applied_index.store(last.get(), Relaxed);
        self.note_applying(started);
        Ok(())
    }

    fn note_applying(&self, started: Tick) {
        let spent = self.env.clock.now().since(started);
        self.metrics.apply_nanos.fetch_add(spent.as_nanos() as u64, Relaxed);
    }

    fn release(&mut self, committed: LogIndex) {
        let lease = self.group.lease();
        self.held.release(committed, |seen| lease.holds(self.env.clock.now()) || lease.confirms(seen));
    }

    fn note_journal(&mut self, (started, before): (Tick, JournalCounters)) {
        let counters = self.group.journal().counters();
        if counters != before {
            self.last_append = self.env.clock.now();
            let spent = self.last_append.since(started);
            self.metrics.journal_spans.add(spent);
            self.metrics.journal_nanos.fetch_add(spent.as_nanos() as u64, Relaxed);
        }
        self.metrics.batches.store(counters.batches, Relaxed);
        self.metrics.fdatasyncs.store(counters.fdatasyncs, Relaxed);
        self.metrics.journal_bytes.store(counters.bytes, Relaxed);
    }
}
