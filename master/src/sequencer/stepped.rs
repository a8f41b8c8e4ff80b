//! A sequencer that is driven by hand: no runtime, no thread, no waiting. Simulations bring what it would wait for.

use super::handle::{GroupRefusal, OperationRequest, Request, Submitted};
use super::open::{self, Fatal};
use super::owner::Sequencer;
use super::{KvRows, SequencerHandle, Settings, StartError, open_parts};
use crate::peers::ToPeers;
use crate::raft::Group;
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::ids::{Sequence, SessionId, SlotId, Term};
use cairn_core::journal::applied::Applied;
use cairn_core::journal::members::Members;
use cairn_core::journal::membership::MemberChange;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::{Outcome, Rows};
use cairn_core::namespace::request::Operation;
use cairn_core::time::Tick;
use cairn_env::Env;
use cairn_env::kv::{Kv, Wait};
use raft::eraftpb::Message;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// The sequencer and its door.
pub(crate) struct Stepped {
    sequencer: Sequencer,
    handle: SequencerHandle,
}

/// Why it goes on no more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Its own state or journal is of no use, or it lacks too much: the others fill it.
    MustBeFilled(String),
    /// Its disk failed, or its place is another's.
    Failed(String),
}

impl Stepped {
    /// Opens a data directory as a process that starts does.
    pub(crate) fn open(
        env: &Env,
        settings: &Settings,
        founding: &Members,
        view: watch::Receiver<Arc<ClusterView>>,
        peers: Arc<dyn ToPeers>,
    ) -> Result<Self, StartError> {
        let state = open::open_state(env, settings)?;
        let founding = (!state.is_founded()).then(|| founding.clone());
        let (handle, mut sequencer) = open_parts(env.clone(), settings, state, founding, view, None)?;
        sequencer.peers = peers;
        Ok(Self { sequencer, handle })
    }

    /// Takes a message of another member.
    pub(crate) fn hear(&self, message: Message) {
        // A queue that is full loses it, as a network may.
        drop(self.handle.heard.try_send(message));
    }

    /// Queues a sequenced request.
    pub(crate) fn operate(
        &self,
        (session, slot, sequence): (SessionId, SlotId, Sequence),
        operation: Operation,
        raised: Option<cairn_core::session::Raised>,
        reply: impl FnOnce(Result<Submitted, FsError>) + Send + 'static,
    ) {
        let request = OperationRequest { session, slot, sequence, operation, raised, reply: Box::new(reply) };
        drop(self.handle.requests.try_send(Request::Operation(Box::new(request))));
    }

    /// Queues a command of the master itself.
    pub(crate) fn internal(&self, command: Internal) -> oneshot::Receiver<Result<Outcome, FsError>> {
        let (reply, outcome) = oneshot::channel();
        drop(self.handle.requests.try_send(Request::Internal { command, reply }));
        outcome
    }

    /// Queues a step that changes the group.
    pub(crate) fn change(&self, change: MemberChange) -> oneshot::Receiver<Result<(), GroupRefusal>> {
        let (done, outcome) = oneshot::channel();
        drop(self.handle.requests.try_send(Request::Change { change, done }));
        outcome
    }

    /// Queues a wish to let another member lead.
    pub(crate) fn hand_over(&self) {
        let (done, _) = oneshot::channel();
        drop(self.handle.requests.try_send(Request::HandOver { to: None, done }));
    }

    /// A leader says that it no longer holds what this member lacks.
    pub(crate) fn fall_behind(&self, leader: u64, term: Term) {
        drop(self.handle.requests.try_send(Request::FellBehind { leader, term }));
    }

    /// Does what there is to do.
    pub(crate) fn turn(&mut self) -> Result<(), Ended> {
        let ended = match self.sequencer.turn() {
            Ok(()) => None,
            Err(Fatal::State(detail)) if self.sequencer.give_up(detail.clone()) => None,
            Err(error) => Some(Ended::Failed(error.to_string())),
        };
        match (ended, self.handle.must_be_filled()) {
            (Some(ended), _) => Err(ended),
            (None, Some(reason)) => Err(Ended::MustBeFilled(reason)),
            (None, None) => Ok(()),
        }
    }

    /// When it wants its next turn at the latest, by its own clock.
    pub(crate) fn next_tick(&self) -> Tick {
        self.sequencer.next_tick
    }

    /// How far its state is.
    pub(crate) fn applied(&self) -> &Applied {
        &self.sequencer.applier.applied
    }

    /// The term in which it leads and decides.
    pub(crate) fn leading(&self) -> Option<Term> {
        self.sequencer.leading
    }

    /// Its Raft machine, with the journal.
    pub(crate) fn group(&self) -> &Group {
        &self.sequencer.group
    }

    /// Its state.
    pub(crate) fn kv(&self) -> &dyn Kv {
        &*self.sequencer.applier.kv
    }

    /// Reads the applied state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&dyn Rows) -> T) -> T {
        read(&KvRows::new(&*self.sequencer.applier.kv.snapshot(), Wait::ForDisk))
    }

    /// Whether it is known at `now` that nobody else led at `then`.
    pub(crate) fn led_at(&self, then: Tick, now: Tick) -> bool {
        let lease = self.sequencer.group.lease();
        lease.holds(now) || lease.confirms(then)
    }

    /// Whether nobody else can lead at `now`.
    pub(crate) fn holds_lease(&self, now: Tick) -> bool {
        self.sequencer.group.lease().holds(now)
    }
}
