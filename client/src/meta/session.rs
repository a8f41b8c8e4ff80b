//! The task of the session: attaches, receives, renews, attaches again.

use super::Shared;
use super::dial::{Attached, DialError, dial_any};
use super::doubt::Doubts;
use super::table::{Table, Told};
use crate::error::ConnectError;
use cairn_core::address::host_port;
use cairn_core::caching::changes::Changes;
use cairn_core::caching::table::{ChangeNumber, Invalidation};
use cairn_core::error::FsError;
use cairn_core::ids::{ClusterId, InodeId, LeaseNumber};
use cairn_core::limits::{
    ELECTION_PAUSE_MAX, FORGOTTEN_PER_MESSAGE_MAX, LEADER_SILENCE_MAX, MASTERS_MAX, RECONNECT_PAUSE_MAX,
    RECONNECT_PAUSE_MIN, SESSION_RENEW,
};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::Attr;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_proto::v1::client_message::Message;
use cairn_proto::v1::{
    self, Detach, Forget, MasterMessage, Renew, Renewed, Reply, Welcome, master_message, reply,
};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// What the session tells the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Give this lease back.
    Recall {
        /// Of this inode.
        inode: InodeId,
        /// Its number.
        lease: LeaseNumber,
    },
    /// The session is gone with its leases and unattached chunks; a new one has begun.
    SessionLost,
    /// Whoever above us keeps attributes of these inodes, or any name, must not any more.
    Disbelieve {
        /// Whose attributes.
        inodes: Vec<InodeId>,
        /// Names as well.
        names: bool,
    },
}

/// Hears the events. Must not block.
pub(crate) type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// Why a stream is no longer of use.
enum Broken {
    /// Find the leader again. The address of the new one when it is known.
    Reconnect(String),
    /// The file system is being shut down.
    Ended,
}

/// Attaches for the first time, within the operation deadline, and leaves the session to a task.
pub(super) async fn start(shared: Arc<Shared>) -> Result<(), ConnectError> {
    for address in &shared.options.masters {
        if host_port(address).is_none() {
            return Err(ConnectError::BadAddress(address.clone()));
        }
    }
    if shared.options.masters.is_empty() {
        return Err(ConnectError::NoMasters);
    }
    let mut search = Search::new(String::new());
    let begun = shared.env.clock.now();
    loop {
        match search.next(&shared).await {
            Ok(attached) => {
                adopt(&shared, &attached);
                let session = Session { shared: shared.clone() };
                let (demand, task) = shared.env.busy_poll.on_demand(session.run(attached));
                // There is one task, from here to the end.
                let _ = shared.demand.set(demand);
                drop(tokio::spawn(task));
                return Ok(());
            }
            Err((address, DialError::Refused(message))) => {
                return Err(ConnectError::Refused { address, message });
            }
            Err((address, error)) => {
                let waited = shared.env.clock.now().since(begun);
                if waited >= shared.options.connect_deadline {
                    let reason = match error {
                        DialError::Unreachable(reason) => reason,
                        _ => String::from("it does not lead, and knows no leader"),
                    };
                    let waited_ms = waited.as_millis();
                    return Err(ConnectError::Unreachable { address, reason, waited_ms });
                }
                search.pause(&shared).await;
            }
        }
    }
}

/// Rounds of asking the masters, and the pauses between.
struct Search {
    /// A master that is not configured, but was named as the leader.
    hint: String,
    pause: Duration,
}

impl Search {
    fn new(hint: String) -> Self {
        Self { hint, pause: RECONNECT_PAUSE_MIN }
    }

    async fn next(&mut self, shared: &Shared) -> Result<Attached, (String, DialError)> {
        let hint = Some(self.hint.clone()).filter(|hint| !hint.is_empty());
        let told = shared.told().clone();
        let known = shared.options.masters.iter().cloned().chain(told).chain(hint);
        let outcome = dial_any(shared, known).await;
        if let Err((_, DialError::NotLeader(leader))) = &outcome {
            self.hint.clone_from(leader);
            // Masters are there and will soon have elected one.
            self.pause = self.pause.min(ELECTION_PAUSE_MAX);
        }
        outcome
    }

    async fn pause(&mut self, shared: &Shared) {
        let jitter = shared.env.random.below(self.pause.as_micros() as u64 + 1);
        tokio::time::sleep(self.pause / 2 + Duration::from_micros(jitter)).await;
        self.pause = (self.pause * 2).min(RECONNECT_PAUSE_MAX);
    }
}

/// Takes over what a Welcome says. True when it is a new session in place of a lost one.
fn adopt(shared: &Shared, attached: &Attached) -> bool {
    let Welcome { cluster, session, secret, masters, .. } = &attached.welcome;
    *shared.told() = masters.iter().take(MASTERS_MAX).cloned().collect();
    let mut table = shared.table();
    if let Ok(cluster) = uuid::Uuid::from_slice(cluster) {
        table.cluster = ClusterId(cluster);
    }
    shared.counts.heard(shared.env.clock.now());
    if !table.leader.is_empty() {
        shared.counts.reconnects.one_more();
        if table.leader != attached.address {
            shared.counts.leader_changes.one_more();
        }
    }
    table.leader.clone_from(&attached.address);
    let lost = table.session != 0 && table.session != *session;
    if table.session != *session {
        table.renew_session(*session, secret.clone());
    }
    lost
}

struct Session {
    shared: Arc<Shared>,
}

impl Session {
    async fn run(self, first: Attached) {
        let mut attached = first;
        loop {
            self.shared.tell(|table| table.attach(attached.outbox.clone()));
            let broken = self.serve(&mut attached).await;
            self.shared.table().detach_stream();
            match broken {
                Broken::Ended => break,
                Broken::Reconnect(leader) => match self.reattach(leader).await {
                    Some(next) => attached = next,
                    None => break,
                },
            }
        }
        self.shared.stopped.notify_waiters();
    }

    /// Finds the leader, as long as it takes: each operation has a deadline of its own.
    async fn reattach(&self, hint: String) -> Option<Attached> {
        let mut search = Search::new(hint);
        loop {
            if self.shared.table().has_ended() {
                return None;
            }
            match search.next(&self.shared).await {
                Ok(attached) => {
                    info!(leader = %attached.address, session = attached.welcome.session, "attached to master");
                    if adopt(&self.shared, &attached) {
                        warn!("session expired: leases and uncommitted data of this client are gone");
                        (self.shared.events)(Event::SessionLost);
                    }
                    return Some(attached);
                }
                Err((_, DialError::SessionUnknown)) => {
                    self.shared.table().secret = bytes::Bytes::new();
                    self.forget_session();
                    continue;
                }
                Err((master, DialError::Unreachable(reason) | DialError::Refused(reason))) => {
                    warn!(%master, %reason, "cannot attach");
                }
                Err((_, DialError::NotLeader(_))) => {}
            }
            search.pause(&self.shared).await;
        }
    }

    /// The master does not know our session: its number must not be offered again, but the loss is still to be told.
    fn forget_session(&self) {
        if self.shared.table().session != 0 {
            // What was asked in it may have been done.
            self.shared.believe_nothing();
            self.shared.table().renew_session(0, bytes::Bytes::new());
            warn!("the master no longer knows this session: leases and uncommitted data are gone");
            (self.shared.events)(Event::SessionLost);
        }
    }

    /// Receives until the stream is of no more use.
    async fn serve(&self, attached: &mut Attached) -> Broken {
        let mut renew = tokio::time::interval(SESSION_RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = self.now();
        let mut doubts = Doubts::new(&self.shared, attached.address.clone());
        loop {
            tokio::select! {
                biased;
                message = attached.inbox.next() => {
                    heard = self.now();
                    self.shared.counts.heard(heard);
                    doubts.dispel();
                    match message {
                        Ok(Some(message)) => if let Some(broken) = self.on_message(message) { return broken },
                        Ok(None) => return Broken::Reconnect(String::new()),
                        Err(error) => {
                            info!(master = %attached.address, %error, "connection to master broke");
                            return Broken::Reconnect(String::new());
                        }
                    }
                }
                () = self.shared.kick.notified() => {
                    if self.shared.table().has_ended() {
                        self.shared.tell(|table| table.send_once(Message::Detach(Detach {})));
                        // The connection ends when the master has read it.
                        let goodbye = async { while let Ok(Some(_)) = attached.inbox.next().await {} };
                        let _ = tokio::time::timeout(SESSION_RENEW, goodbye).await;
                        return Broken::Ended;
                    }
                }
                _ = renew.tick() => {
                    if self.now().since(heard) > LEADER_SILENCE_MAX {
                        warn!(master = %attached.address, "master is silent");
                        return Broken::Reconnect(String::new());
                    }
                    self.renew();
                }
                leader = doubts.confirmed(heard) => {
                    info!(master = %attached.address, %leader, "another master leads");
                    return Broken::Reconnect(leader);
                }
            }
        }
    }

    fn now(&self) -> Tick {
        self.shared.env.clock.now()
    }

    fn renew(&self) {
        let now = self.now();
        self.shared.tell(|table| self.renew_in(table, now));
    }

    fn renew_in(&self, table: &mut Table, now: Tick) {
        let seen = self.shared.observations.take();
        let slow = self.shared.slow.take(now);
        table.send_once(Message::Renew(Renew { sent_at_ns: now.0.as_nanos() as u64, seen, slow }));
        // Under the table's lock: a question asked after it is read by the leader after it.
        let dropped = self.shared.cache().take_dropped(now);
        for inodes in dropped.chunks(FORGOTTEN_PER_MESSAGE_MAX) {
            let numbers = inodes.iter().map(|inode| inode.get()).collect();
            if !table.send_once(Message::Forget(Forget { inodes: numbers, everything: false })) {
                self.shared.cache().put_back(inodes.to_vec());
            }
        }
        table.send_unsent();
    }

    /// The leader has heard a renewal.
    fn on_renewed(&self, renewed: Renewed) -> Option<Broken> {
        if !renewed.leases {
            return None;
        }
        let sent = Tick(Duration::from_nanos(renewed.sent_at_ns));
        let forgotten = self.shared.tell(|table| {
            let lapsed = self.shared.cache().renewed(sent, self.now());
            !lapsed || table.send_once(Message::Forget(Forget { inodes: Vec::new(), everything: true }))
        });
        // A new stream begins with nothing as well.
        (!forgotten).then(|| Broken::Reconnect(String::new()))
    }

    /// The leader takes back what it granted. The confirmation waits for nothing but memory.
    fn on_invalidate(&self, told: v1::Invalidate) {
        let invalidation = Invalidation {
            number: ChangeNumber(told.number),
            inodes: told.inodes.into_iter().map(InodeId).collect(),
            names: told.names.into_iter().map(|name| (InodeId(name.parent), name.name)).collect(),
        };
        if is_planted(Bug::IgnoreInvalidation) {
            return self.shared.tell(|table| table.confirm(told.number));
        }
        let (inodes, names) = self.shared.cache().invalidate(&invalidation, self.now());
        (self.shared.events)(Event::Disbelieve { inodes, names });
        self.shared.tell(|table| table.confirm(told.number));
    }

    fn on_message(&self, message: MasterMessage) -> Option<Broken> {
        match message.message? {
            master_message::Message::Reply(reply) => self.on_reply(reply),
            master_message::Message::Recall(recall) => {
                let (inode, lease) = (InodeId(recall.inode), LeaseNumber(recall.lease));
                (self.shared.events)(Event::Recall { inode, lease });
                None
            }
            master_message::Message::SessionEnded(ended) => {
                warn!(reason = %ended.reason, "the master ended the session");
                self.forget_session();
                Some(Broken::Reconnect(String::new()))
            }
            master_message::Message::Refused(refused) => Some(Broken::Reconnect(refused.leader)),
            master_message::Message::Renewed(renewed) => self.on_renewed(renewed),
            master_message::Message::Invalidate(told) => {
                self.on_invalidate(told);
                None
            }
            master_message::Message::Welcome(_) => None,
        }
    }

    fn on_reply(&self, reply: Reply) -> Option<Broken> {
        let changes = changes(&reply);
        let outcome = match reply.outcome {
            Some(reply::Outcome::Answer(answer)) => {
                Answer::try_from(answer).map_err(|error| FsError::Io(format!("the master's answer: {error}")))
            }
            Some(reply::Outcome::Error(error)) => Err(FsError::try_from(error)
                .unwrap_or_else(|error| FsError::Io(format!("the master's answer: {error}")))),
            None => Err(FsError::Io(String::from("the master's answer is empty"))),
        };
        match outcome {
            // It stays in flight, for the next leader or session.
            Err(FsError::NotLeader) => Some(Broken::Reconnect(String::new())),
            Err(FsError::SessionExpired) => {
                self.forget_session();
                Some(Broken::Reconnect(String::new()))
            }
            outcome => {
                self.shared.table().settle(reply.id, Told { outcome, leased: reply.leased }, &changes);
                None
            }
        }
    }
}

/// What our operation changed, as its answer says. An attribute that makes no sense is as good as none.
fn changes(reply: &Reply) -> Changes {
    let changed = reply.changed.iter().map(|attr| (InodeId(attr.inode), Attr::try_from(*attr).ok()));
    let vanished = reply.vanished.iter().map(|&inode| (InodeId(inode), None));
    let leads_to = |inode| (inode != 0).then_some(InodeId(inode));
    let names =
        reply.names.iter().map(|name| (InodeId(name.parent), name.name.clone(), leads_to(name.inode)));
    Changes { inodes: changed.chain(vanished).collect(), names: names.collect() }
}
