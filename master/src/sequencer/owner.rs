//! The owner of the namespace: one loop of select, step, settle on a thread of its own, which may wait for the journal.
//!
//! Positions, in this order after every settling: answered = applied ≤ committed ≤ durable ≤ proposed. Within it answers
//! leave first (see [`super::progress`]). A leader has applied all that is committed.

use super::apply::Applier;
use super::backlog::Backlog;
use super::group_change::GroupState;
use super::group_view::GroupView;
use super::handle::{GroupRefusal, Leadership, Request};
use super::jobs::{Finished, Jobs};
use super::metrics::SequencerMetrics;
use super::open::{Fatal, Settings};
use super::overlay::{Overlay, OverlayRows};
use super::pins::JournalPins;
use super::proposals::Proposals;
use super::rows::KvRows;
use super::wait::Event;
use super::work::{Held, Loaded, Verdict, Work, World};
use crate::peers::ToPeers;
use crate::raft::Group;
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::ids::{LogIndex, NodeId, Term};
use cairn_core::journal::entry::EntryData;
use cairn_core::limits::{
    CHECKPOINT_REPLAY_ENTRIES, DISK_LOW_HAND_OVER_PAUSE, HOT_ROWS_MAX, JOURNAL_ENTRY_BYTES_MAX,
    JOURNAL_MARK_AFTER, RAFT_TICK, SEQUENCER_BATCH_BYTES_MAX, SEQUENCER_BATCH_REQUESTS_MAX,
    SEQUENCER_LOAD_ROUNDS_MAX, SEQUENCER_LOADS_MAX, SHUTDOWN_DRAIN,
};
use cairn_core::namespace::machine::{Record, Stop};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::{Tick, Timestamp};
use cairn_env::Env;
use cairn_env::kv::Wait;
use cairn_env::random::{Random, SeededRandom};
use raft::eraftpb::Message;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Everything that the owner is made of.
pub(super) struct Sequencer {
    pub(super) env: Env,
    default_replicas: u8,
    /// This member's node.
    pub(super) node: NodeId,
    pub(super) group: Group,
    pub(super) masters: GroupState,
    pub(super) applier: Applier,
    pub(super) backlog: Backlog,
    pub(super) overlay: Overlay,
    pub(super) held: Held,
    pub(super) proposals: Proposals,
    /// Index of the last entry decided.
    pub(super) last_decided: LogIndex,
    /// The term that this member leads and in which it has applied an entry; nothing is decided before.
    pub(super) leading: Option<Term>,
    /// Leader time of the last decision.
    pub(super) time: Timestamp,
    placement: SeededRandom,
    view: watch::Receiver<Arc<ClusterView>>,
    pub(super) inbox: mpsc::Receiver<Request>,
    /// What other members say.
    pub(super) heard: mpsc::Receiver<Message>,
    /// The way to the other members.
    pub(super) peers: Arc<dyn ToPeers>,
    group_view: watch::Sender<Arc<GroupView>>,
    pub(super) loaded: mpsc::Receiver<Loaded>,
    loaded_sender: mpsc::Sender<Loaded>,
    loads: Arc<Semaphore>,
    pub(super) jobs: Jobs,
    pub(super) next_tick: Tick,
    /// It has ticked in this turn.
    pub(super) ticked: bool,
    pub(super) last_append: Tick,
    leadership: watch::Sender<Leadership>,
    pub(super) metrics: Arc<SequencerMetrics>,
    disk_low: bool,
    /// The lead is not handed over for want of disk space before.
    next_relief: Tick,
    /// Waits for the lead to be gone.
    handing_over: Option<oneshot::Sender<bool>>,
    pub(super) stopping: bool,
    /// Set when it stops because it must be filled first: why.
    pub(super) must_be_filled: Arc<OnceLock<String>>,
    /// Keeps journal that a member being filled will need.
    pins: Arc<JournalPins>,
    /// How long it looks out for the next request before it sleeps.
    pub(super) patience: Duration,
    /// The last request came within that time.
    pub(super) brisk: bool,
    /// When those who read what other members say last had the thread, which is theirs as well.
    pub(super) rested: Tick,
}

impl Sequencer {
    #[allow(clippy::too_many_arguments, reason = "called once, by the function that makes the parts")]
    pub(super) fn new(
        env: Env,
        settings: &Settings,
        group: Group,
        applier: Applier,
        view: watch::Receiver<Arc<ClusterView>>,
        (inbox, heard): (mpsc::Receiver<Request>, mpsc::Receiver<Message>),
        (leadership, group_view): (watch::Sender<Leadership>, watch::Sender<Arc<GroupView>>),
        (masters, must_be_filled): (GroupState, Arc<OnceLock<String>>),
        metrics: Arc<SequencerMetrics>,
        runtime: Option<Handle>,
    ) -> Self {
        let (loaded_sender, loaded) = mpsc::channel(SEQUENCER_LOADS_MAX);
        let now = env.clock.now();
        Self {
            default_replicas: settings.default_replicas,
            node: settings.node,
            masters,
            backlog: Backlog::default(),
            overlay: Overlay::new(HOT_ROWS_MAX),
            held: Held::new(runtime),
            proposals: Proposals::default(),
            last_decided: group.last_index(),
            leading: None,
            time: applier.applied.time,
            placement: SeededRandom::new(env.random.next_u64()),
            view,
            inbox,
            heard,
            peers: settings.peers.clone(),
            group_view,
            loaded,
            loaded_sender,
            loads: Arc::new(Semaphore::new(SEQUENCER_LOADS_MAX)),
            jobs: Jobs::new(&env, settings, group.journal().held_from()),
            next_tick: now,
            ticked: false,
            last_append: now,
            leadership,
            metrics,
            disk_low: false,
            next_relief: now,
            handing_over: None,
            stopping: false,
            must_be_filled,
            pins: Arc::clone(&settings.pins),
            patience: env.spawn.look_out(),
            brisk: false,
            rested: now,
            env,
            group,
            applier,
        }
    }

    /// Runs until it is told to stop or must.
    pub(super) async fn run(mut self) {
        let ended = self.turns().await;
        match ended.and_then(|()| self.close()) {
            Ok(()) => {
                tracing::info!(applied = self.applier.applied.last.index.get(), "sequencer has stopped")
            }
            Err(Fatal::State(detail)) if self.give_up(format!("metadata state failed: {detail}")) => {}
            Err(error) => tracing::error!(%error, "this master stops: it answers nothing any more"),
        }
    }

    async fn turns(&mut self) -> Result<(), Fatal> {
        // A group of one has elected itself: its first entry and the replay come before any request.
        let flushed = self.applier.applied.last.index;
        self.settle()?;
        if self.applier.applied.last.index.get() - flushed.get() >= CHECKPOINT_REPLAY_ENTRIES {
            self.jobs.hasten_checkpoint();
            self.start_jobs();
        }
        while !self.stopping {
            let event = self.select().await;
            self.step(event)?;
            self.drain()?;
            self.settle()?;
        }
        self.apply()?;
        // The store is free for a successor only when nobody holds it any more.
        while self.jobs.is_busy() {
            match tokio::time::timeout(SHUTDOWN_DRAIN, self.jobs.finished.recv()).await {
                Ok(Some(finished)) => self.finished(finished),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// One turn with what is there, without waiting: for whoever drives it by hand.
    #[cfg(test)]
    pub(super) fn turn(&mut self) -> Result<(), Fatal> {
        let event = self.jobs.finished.try_recv().map_or(Event::Tick, Event::Finished);
        self.step(event)?;
        self.drain()?;
        self.settle()
    }

    fn step(&mut self, event: Event) -> Result<(), Fatal> {
        match event {
            Event::Request(request) => self.take(request)?,
            Event::Heard(message) => self.hear(message),
            Event::Loaded(loaded) => self.decide(loaded.work, loaded.rounds)?,
            Event::Finished(finished) => self.finished(finished),
            Event::Deserted => self.stopping = true,
            Event::Tick => {}
        }
        let now = self.env.clock.now();
        if now >= self.next_tick {
            self.next_tick = now.after(RAFT_TICK);
            self.tick(now)?;
        }
        Ok(())
    }

    /// Decides what else is queued, so that one batch of the journal carries it all.
    fn drain(&mut self) -> Result<(), Fatal> {
        for _ in 0..SEQUENCER_BATCH_REQUESTS_MAX {
            if self.proposals.is_full() || self.stopping {
                break;
            }
            if let Ok(message) = self.heard.try_recv() {
                self.hear(message);
            } else if let Ok(loaded) = self.loaded.try_recv() {
                self.decide(loaded.work, loaded.rounds)?;
            } else if let Ok(request) = self.inbox.try_recv() {
                self.take(request)?;
            } else {
                break;
            }
        }
        self.metrics.queue_length.store(self.inbox.len() as u64, Relaxed);
        Ok(())
    }

    /// Takes a message of another member; one that makes no sense is dropped, as if the network had lost it.
    fn hear(&mut self, message: Message) {
        if let Err(error) = self.group.step(message, self.env.clock.now()) {
            tracing::debug!(%error, "a raft message is dropped");
        }
    }

    fn take(&mut self, request: Request) -> Result<(), Fatal> {
        match request {
            Request::Operation(operation) => self.decide(Work::Operation(operation), 0),
            Request::Internal { command, reply } => self.decide(Work::Internal { command, reply }, 0),
            Request::HandOver { to, done } => {
                // Nothing is proposed any more until it is known who leads.
                self.hand_in_proposals();
                if self.group.hand_over(to) {
                    self.handing_over = Some(done);
                } else {
                    // Whoever asked may be gone.
                    let _ = done.send(false);
                }
                Ok(())
            }
            Request::Change { change, done } => {
                self.change_group(&change, done);
                Ok(())
            }
            Request::ReadJournal { after, done } => {
                // Whoever asked may be gone.
                drop(done.send(self.read_journal(after)));
                Ok(())
            }
            Request::FellBehind { leader, term } => {
                self.fall_behind(leader, term);
                Ok(())
            }
            Request::StateFailed(detail) => {
                self.give_up(format!("metadata state failed: {detail}"));
                Ok(())
            }
            Request::Stop => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    /// Decides one request. Its answer is held until all that it saw is committed.
    fn decide(&mut self, work: Work, rounds: u32) -> Result<(), Fatal> {
        if self.leading.is_none() {
            work.answer(Err(FsError::NotLeader));
            return Ok(());
        }
        let no_room =
            self.jobs.spare_failed() && self.group.journal().room() < 2 * SEQUENCER_BATCH_BYTES_MAX as u64;
        if no_room || (self.disk_low && work.grows()) {
            self.metrics.refusals.fetch_add(1, Relaxed);
            work.answer(Err(FsError::NoSpace));
            return Ok(());
        }
        self.time = self.time.max(self.env.clock.wall());
        let world = World {
            now: self.time,
            view: Arc::clone(&self.view.borrow()),
            entropy: self.placement.next_u64(),
            default_replicas: self.default_replicas,
        };
        let wait = if rounds < SEQUENCER_LOAD_ROUNDS_MAX { Wait::Never } else { Wait::ForDisk };
        let rows = OverlayRows { overlay: &self.overlay, below: KvRows::new(&*self.applier.kv, wait) };
        match work.decide(&rows, &world) {
            Ok(Verdict::Propose(record, success)) => {
                let entry = EntryData {
                    kind: record.kind.number(),
                    time: self.time,
                    origin: work.origin(),
                    rows: Vec::new(),
                };
                match self.propose(record, entry) {
                    Ok(index) => self.held.hold(index, None, work, Ok(success)),
                    Err(refusal) => work.answer(Err(refusal)),
                }
            }
            Ok(Verdict::Answer(success)) => {
                self.metrics.replays.fetch_add(1, Relaxed);
                self.held.hold(self.last_decided, self.seen_now(), work, Ok(success));
            }
            Err(Stop::Refused(refusal)) if is_planted(Bug::AnswerRefusalsEarly) => work.answer(Err(refusal)),
            Err(Stop::Refused(refusal)) => {
                self.metrics.refusals.fetch_add(1, Relaxed);
                self.held.hold(self.last_decided, self.seen_now(), work, Err(refusal));
            }
            Err(Stop::NotInMemory) if wait == Wait::Never => self.load(work, world, rounds),
            Err(Stop::NotInMemory) => return Err(Fatal::State("rows are not in memory after a load".into())),
            Err(Stop::Failed(detail)) => return Err(Fatal::State(detail)),
        }
        Ok(())
    }

    /// When an answer that writes nothing was decided, if nothing that it saw is yet to be committed: it leaves only if nobody
    /// else led then (I8). Otherwise that commit is the proof.
    fn seen_now(&self) -> Option<Tick> {
        (self.last_decided <= self.applier.applied.last.index).then(|| self.env.clock.now())
    }

    /// Queues the record as the next entry of the log.
    fn propose(&mut self, record: Record, mut entry: EntryData) -> Result<LogIndex, FsError> {
        entry.rows = record.rows;
        if entry.encoded_len() > JOURNAL_ENTRY_BYTES_MAX {
            tracing::error!(kind = ?record.kind, bytes = entry.encoded_len(), "a record is too large for the journal");
            return Err(FsError::Io("the operation is too large for one journal entry".into()));
        }
        Ok(self.append(entry))
    }

    /// Queues an entry for the log.
    pub(super) fn append(&mut self, entry: EntryData) -> LogIndex {
        let index = LogIndex(self.last_decided.get() + 1);
        self.overlay.propose(index, &entry.rows);
        let data = entry.encode();
        self.proposals.push(data);
        self.last_decided = index;
        self.metrics.proposals.fetch_add(1, Relaxed);
        index
    }

    /// Has the rows of a request brought into memory by a thread that may wait, then decides it again.
    fn load(&mut self, work: Work, world: World, rounds: u32) {
        let Ok(permit) = Arc::clone(&self.loads).try_acquire_owned() else {
            self.metrics.overloads.fetch_add(1, Relaxed);
            work.answer(Err(FsError::Overloaded));
            return;
        };
        self.metrics.loads.fetch_add(1, Relaxed);
        let (kv, sender) = (Arc::clone(&self.applier.kv), self.loaded_sender.clone());
        self.env.spawn.start_blocking(Box::new(move || {
            // What it decides does not matter: it has not seen the proposed rows.
            drop(work.decide(&KvRows::new(&*kv.snapshot(), Wait::ForDisk), &world));
            // There is a place for every permit; the channel is closed when the sequencer has ended.
            drop(sender.try_send(Loaded { work, rounds: rounds + 1, _permit: permit }));
        }));
    }

    /// Before anything is said in another role or term: readers and clients must not be told any more that this member leads,
    /// since its own vote may now make another one lead.
    pub(super) fn note_loss(&mut self) {
        if self.leading.is_some_and(|term| !self.group.leads() || self.group.term() != term) {
            self.lead_lost();
            self.publish_leadership();
        }
    }

    /// Leads as soon as an entry of its own term is applied: everything committed before is applied then as well. So must be what
    /// else is in its log, of which the overlay tells nothing, when it goes on after a hand-over that came to nothing.
    pub(super) fn note_leadership(&mut self) {
        let term = self.group.term();
        let knows_all =
            self.leading == Some(term) || self.applier.applied.last.index == self.group.last_index();
        let leads = self.group.leads() && self.applier.applied.last.term == term && knows_all;
        let leading = leads.then_some(term);
        if leading != self.leading {
            if self.leading.is_some() {
                self.lead_lost();
            }
            self.leading = leading;
            self.last_decided = self.group.last_index();
            self.time = self.time.max(self.applier.applied.time);
        }
        self.publish_leadership();
    }

    fn publish_leadership(&mut self) {
        if !self.group.leads()
            && let Some(done) = self.handing_over.take()
        {
            // Whoever asked may be gone.
            let _ = done.send(true);
        }
        let now = match self.leading {
            Some(term) => Leadership::Leads { term },
            None => Leadership::Follows { leader: self.group.leader() },
        };
        self.leadership.send_if_modified(|leadership| std::mem::replace(leadership, now) != now);
    }

    /// What was proposed may never come true; what was answered is committed.
    pub(super) fn lead_lost(&mut self) {
        self.leading = None;
        if !is_planted(Bug::KeepOverlay) {
            self.overlay.clear();
        }
        self.proposals.clear();
        match is_planted(Bug::AnswerWhatWasLost) {
            true => self.held.release(LogIndex(u64::MAX), |_| true),
            false => self.held.disown(),
        }
        if let Some((_, done)) = self.masters.under_way.take() {
            // Whoever asked may be gone.
            drop(done.send(Err(GroupRefusal::NotLeader)));
        }
        self.last_decided = self.group.last_index();
    }

    fn tick(&mut self, now: Tick) -> Result<(), Fatal> {
        self.group.tick(now);
        self.ticked = true;
        if now.since(self.last_append) >= JOURNAL_MARK_AFTER && self.group.journal().wants_mark() {
            self.group.journal_mut().close_mark()?;
        }
        self.disk_low = self.jobs.disk_is_low(now);
        self.metrics.disk_low.store(u64::from(self.disk_low), Relaxed);
        if self.disk_low && self.leading.is_some() && now >= self.next_relief {
            self.next_relief = now.after(DISK_LOW_HAND_OVER_PAUSE);
            self.hand_in_proposals();
            // Another may have room: a full disk costs this member the lead, not the cluster its life.
            if self.group.hand_over(None) {
                tracing::warn!("the disk is nearly full: another master is asked to lead");
            }
        }
        Ok(())
    }

    /// How the group stands, for operators and readiness.
    pub(super) fn publish_group(&mut self) {
        let view = GroupView {
            term: self.group.term(),
            leader: self.group.leader(),
            told_commit: self.group.told_commit(),
            applied: self.applier.applied.last.index,
            followers: self.group.followers(),
        };
        self.group_view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }

    pub(super) fn start_jobs(&mut self) {
        let now = self.env.clock.now();
        if self.jobs.may_make_spare(now)
            && let Some(job) = self.group.journal_mut().spare_wanted()
        {
            self.jobs.make_spare(job);
        }
        self.jobs.checkpoint_if_due(&self.applier.kv, self.group.journal().position(), now);
    }

    fn finished(&mut self, finished: Finished) {
        let now = self.env.clock.now();
        match finished {
            Finished::Spare(spare) => {
                self.jobs.spare_made(spare.is_some(), now);
                self.group.journal_mut().spare_done(spare);
            }
            Finished::Removed(left) => self.jobs.removed(left),
            Finished::Checkpoint(reaches) => {
                self.jobs.checkpoint_made(reaches.is_some(), now);
                if let Some(index) = reaches {
                    self.metrics.checkpoints.fetch_add(1, Relaxed);
                    let needed = if self.disk_low { None } else { self.pins.lowest() };
                    let reach = needed.map_or(index, |needed| needed.min(index));
                    let paths = self.group.journal_mut().trim(reach);
                    self.jobs.remove(paths);
                }
            }
        }
    }

    /// An orderly end: nobody is answered any more, the journal says where it ends, the state needs no replay.
    fn close(&mut self) -> Result<(), Fatal> {
        self.inbox.close();
        while let Ok(request) = self.inbox.try_recv() {
            let work = match request {
                Request::Operation(operation) => Work::Operation(operation),
                Request::Internal { command, reply } => Work::Internal { command, reply },
                other => {
                    Self::refuse_group_request(other);
                    continue;
                }
            };
            work.answer(Err(FsError::NotLeader));
        }
        self.group.journal_mut().close_mark()?;
        self.applier.kv.flush().map_err(|error| Fatal::State(error.to_string()))
    }
}

impl Drop for Sequencer {
    /// Also when raft-rs panics: readers must not go on as if this member led.
    fn drop(&mut self) {
        self.leadership.send_replace(Leadership::Stopped);
    }
}
