//! What stands before a leader's sequencer: sessions, leases and answers on their way. The rules are those of the product
//! (`sessions`, `caching`, `leases`, `sequencer`); what the product awaits is looked at here after every turn.

use super::canon::Asked;
use super::said::{ToClient, ToMaster};
use super::servers::Servers;
use crate::caching::{Caching, Done, named, told_of};
use crate::leases::{Recalls, leased_file};
use crate::sequencer::Submitted;
use crate::sequencer::stepped::Stepped;
use crate::sessions::Sessions;
use crate::work::orphans::Watched;
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::ids::{ClusterId, InodeId, NodeId, SessionId, Term};
use cairn_core::limits::{
    FEATURE_LEVEL, LEASE_SILENCE_MAX, ORPHANS_PER_RECORD_MAX, READ_LEASE_PATIENCE, SESSION_EXPIRY, WORK_PAGE,
};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::{Context, Outcome, Stop, query};
use cairn_core::namespace::request::{Operation, Query};
use cairn_core::namespace::work::{LeaseRecord, cluster, garbage, lease_of, orphans, sessions};
use cairn_core::session::Raised;
use cairn_core::time::{Tick, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{oneshot, watch};

/// An operation on its way: on which connection it came, of whom, and what.
pub(super) type Operated = (u64, Asked, Operation);
/// What the sequencer has answered.
type Arrived = (Operated, Result<Submitted, FsError>);
/// What leaves: the connection, and the word.
pub(super) type Leaving = Vec<(u64, ToClient)>;

/// Something that waits.
enum Parked {
    /// A stream begins when it is known that nobody else leads.
    Hello { conn: u64, session: Option<(SessionId, [u8; 16])>, then: Tick },
    /// An acknowledgement, until nobody believes what was before.
    Reply { conn: u64, of: Asked, outcome: Result<Answer, FsError>, done: Option<Done> },
    /// A question, until what it names is not in change.
    Ask { conn: u64, id: u64, query: Query },
    /// An answer, until it is known that nobody else led when it was read.
    Read { conn: u64, id: u64, query: Query, outcome: Result<Answer, FsError>, then: Tick, before: u64 },
}

/// A command of the master's own that is under way.
pub(super) enum Command {
    Format,
    Open { conn: u64, secret: [u8; 16] },
    End(SessionId),
    Other,
}

/// One process's front.
pub(super) struct Front {
    pub(super) caching: Arc<Caching>,
    pub(super) view: watch::Sender<Arc<ClusterView>>,
    sessions: Sessions,
    recalls: Recalls,
    watched: Watched,
    /// The term that it serves in.
    pub(super) serves: Option<Term>,
    of_session: BTreeMap<SessionId, u64>,
    of_conn: BTreeMap<u64, SessionId>,
    answers: Arc<Mutex<Vec<Arrived>>>,
    parked: Vec<Parked>,
    commands: Vec<(Command, oneshot::Receiver<Result<Outcome, FsError>>)>,
    secrets: u64,
    pub(super) servers: Servers,
}

impl Front {
    pub(super) fn new(caching: Arc<Caching>, view: watch::Sender<Arc<ClusterView>>, secrets: u64) -> Self {
        Self {
            caching,
            view,
            sessions: Sessions::new(SESSION_EXPIRY),
            recalls: Recalls::default(),
            watched: Watched::default(),
            serves: None,
            of_session: BTreeMap::new(),
            of_conn: BTreeMap::new(),
            answers: Arc::default(),
            parked: Vec::new(),
            commands: Vec::new(),
            secrets,
            servers: Servers::default(),
        }
    }

    /// A client's word has come.
    pub(super) fn receive(
        &mut self,
        stepped: &Stepped,
        now: Tick,
        conn: u64,
        said: ToMaster,
        out: &mut Leaving,
    ) {
        if let ToMaster::Hello { session } = said {
            match self.serves {
                Some(_) => self.parked.push(Parked::Hello { conn, session, then: now }),
                None => out.push((conn, ToClient::NotLeader)),
            }
            return;
        }
        let Some(&session) = self.of_conn.get(&conn) else { return };
        let Some(known) = self.sessions.get(session) else { return };
        known.hear(now);
        match said {
            ToMaster::Hello { .. } => {}
            ToMaster::Operate { slot, sequence, operation } => {
                let of = (session, slot, sequence);
                if known.has_ended() {
                    let outcome = Err(FsError::SessionExpired);
                    return out.push((conn, ToClient::Reply { of, outcome, changes: None, leased: false }));
                }
                self.submit(stepped, (conn, of, operation), None);
            }
            ToMaster::Ask { id, query } => self.parked.push(Parked::Ask { conn, id, query }),
            ToMaster::Renew { sent } => {
                // What is promised here binds whoever leads: nobody else does at this moment.
                let leases = stepped.holds_lease(now) && self.caching.renew(session, now);
                out.push((conn, ToClient::Renewed { sent, leases }));
            }
            ToMaster::Confirm { number } => self.caching.confirmed(session, number),
            ToMaster::Forget { inodes } => {
                self.caching.forget(session, inodes.iter().map(|inode| inode.get()).collect(), false);
            }
            ToMaster::Returned { inode, lease } => {
                self.recalls.forget(inode, lease);
                let held = stepped.read(|rows| lease_of(rows, inode));
                let lease = LeaseRecord { session, lease };
                if held == Ok(Some(lease)) {
                    self.command(stepped, Command::Other, Internal::TakeLease { inode, lease });
                }
            }
        }
    }

    pub(super) fn submit(&self, stepped: &Stepped, operated: Operated, raised: Option<Raised>) {
        let (answers, operation) = (Arc::clone(&self.answers), operated.2.clone());
        stepped.operate(operated.1, operation, raised, move |outcome| {
            answers.lock().unwrap().push((operated, outcome));
        });
    }

    pub(super) fn command(&mut self, stepped: &Stepped, command: Command, internal: Internal) {
        self.commands.push((command, stepped.internal(internal)));
    }

    /// After a turn: lets go what waits no more. True when the sequencer has got something to do.
    pub(super) fn pump(&mut self, stepped: &Stepped, times: (Tick, Timestamp), out: &mut Leaving) -> bool {
        let now = times.0;
        let mut busy = self.follow_lead(stepped, now, out);
        let arrived = std::mem::take(&mut *self.answers.lock().unwrap());
        for arrived in arrived {
            busy |= self.arrived(stepped, now, arrived, out);
        }
        busy |= self.raises_done(stepped, now);
        busy |= self.commands_done(stepped, now, out);
        let parked = std::mem::take(&mut self.parked);
        for waiting in parked {
            busy |= self.look_at(stepped, times, waiting, out);
        }
        busy
    }

    fn follow_lead(&mut self, stepped: &Stepped, now: Tick, out: &mut Leaving) -> bool {
        let leading = stepped.leading();
        if leading == self.serves {
            return false;
        }
        if leading.is_none() || self.serves.is_some() {
            self.serves = None;
            out.extend(self.of_conn.keys().map(|&conn| (conn, ToClient::NotLeader)));
            self.of_conn.clear();
            self.of_session.clear();
            self.parked.clear();
            self.servers = Servers::default();
            return false;
        }
        if !stepped.holds_lease(now) {
            return false;
        }
        if stepped.read(|rows| cluster(rows).unwrap()).is_none() {
            let busy = !self.commands.iter().any(|(command, _)| matches!(command, Command::Format));
            if busy {
                let cluster = ClusterId(uuid::Uuid::from_u128(0xca1b));
                let format = Internal::Format { cluster, default_replicas: 3, feature_level: FEATURE_LEVEL };
                self.command(stepped, Command::Format, format);
            }
            return busy;
        }
        let all = stepped.read(|rows| sessions(rows, None, WORK_PAGE).unwrap());
        self.recalls.begin_anew();
        self.caching.inherit(all.iter().map(|record| record.session), now);
        self.sessions.load(all, now);
        self.serves = leading;
        false
    }

    /// The sequencer has answered.
    fn arrived(&mut self, stepped: &Stepped, now: Tick, arrived: Arrived, out: &mut Leaving) -> bool {
        let ((conn, of, operation), outcome) = arrived;
        let mut busy = false;
        if let (Err(FsError::LeaseHeld), Some(inode)) = (&outcome, leased_file(&operation.kind)) {
            busy = self.conflict(stepped, now, (inode, of.0), out);
        }
        let outcome = match outcome {
            Ok(Submitted::Answered(answer)) => Ok(answer),
            Ok(Submitted::Raise(order)) => {
                self.begin_raise(now, (conn, of, operation), order);
                return busy;
            }
            Err(error) => Err(error),
        };
        let done = self.caching.done(of.0, of.1, of.2);
        self.tell(out);
        self.parked.push(Parked::Reply { conn, of, outcome, done });
        busy
    }

    /// Sends what is to be told. A session that cannot be reached is cut off: it comes back with nothing.
    fn tell(&mut self, out: &mut Leaving) {
        for (session, invalidation) in self.caching.take_outgoing() {
            if let Some(&conn) = self.of_session.get(&session) {
                out.push((conn, ToClient::Invalidate(invalidation)));
            }
        }
    }

    fn conflict(
        &mut self,
        stepped: &Stepped,
        now: Tick,
        (inode, wanted_by): (InodeId, SessionId),
        out: &mut Leaving,
    ) -> bool {
        let Ok(Some(lease)) = stepped.read(|rows| lease_of(rows, inode)) else { return false };
        if lease.session == wanted_by {
            return false;
        }
        if self.sessions.is_gone(lease.session, LEASE_SILENCE_MAX, now) {
            self.command(stepped, Command::Other, Internal::TakeLease { inode, lease });
            return true;
        }
        if self.recalls.begin(inode, lease, now)
            && let Some(&conn) = self.of_session.get(&lease.session)
        {
            out.push((conn, ToClient::Recall { inode, lease: lease.lease }));
        }
        false
    }

    fn commands_done(&mut self, stepped: &Stepped, now: Tick, out: &mut Leaving) -> bool {
        let (mut busy, commands) = (false, std::mem::take(&mut self.commands));
        for (command, mut outcome) in commands {
            match (command, outcome.try_recv()) {
                (command, Err(oneshot::error::TryRecvError::Empty)) => self.commands.push((command, outcome)),
                (Command::Open { conn, secret }, Ok(Ok(Outcome::Session(session)))) => {
                    self.sessions.opened(session, secret, String::new(), now);
                    self.attach(conn, session, secret, now, out);
                }
                (Command::Open { conn, .. }, _) => out.push((conn, ToClient::NotLeader)),
                (Command::End(session), Ok(Ok(Outcome::More(true)))) => {
                    busy = true;
                    self.command(stepped, Command::End(session), Internal::EndSession { session });
                }
                (Command::End(session), Ok(Ok(_))) => {
                    self.sessions.forget(session);
                    self.caching.end(session);
                }
                (Command::End(_) | Command::Format | Command::Other, _) => {}
            }
        }
        self.tell(out);
        busy
    }

    fn attach(&mut self, conn: u64, session: SessionId, secret: [u8; 16], now: Tick, out: &mut Leaving) {
        self.caching.attach(session, true, now);
        if let Some(former) = self.of_session.insert(session, conn) {
            self.of_conn.remove(&former);
        }
        self.of_conn.insert(conn, session);
        out.push((conn, ToClient::Welcome { session, secret }));
    }

    /// Something that waited: it goes on, or waits on. True when the sequencer has got something to do.
    fn look_at(
        &mut self,
        stepped: &Stepped,
        (now, wall): (Tick, Timestamp),
        waiting: Parked,
        out: &mut Leaving,
    ) -> bool {
        match waiting {
            Parked::Hello { conn, session, then } => {
                return self.hello(stepped, now, (conn, session, then), out);
            }
            Parked::Reply { conn, of, outcome, done } => {
                if self.caching.held_until(done.as_ref(), now).is_some() {
                    self.parked.push(Parked::Reply { conn, of, outcome, done });
                    return false;
                }
                let leased = done.as_ref().is_some_and(|done| done.leased);
                let changes = done.map(|done| done.changes);
                out.push((conn, ToClient::Reply { of, outcome, changes, leased }));
            }
            Parked::Ask { conn, id, query: asked } => {
                if self.caching.hidden_until(&named(&asked.kind), now).is_some() {
                    self.parked.push(Parked::Ask { conn, id, query: asked });
                    return false;
                }
                let Some(&session) = self.of_conn.get(&conn) else { return false };
                let (before, then) = (self.caching.changes(), now);
                let view = Arc::clone(&self.view.borrow());
                let context = Context { now: wall, session, view: &view, entropy: 0, default_replicas: 3 };
                let outcome = match stepped.read(|rows| query(rows, &context, &asked)) {
                    Ok(answer) => Ok(answer),
                    Err(Stop::Refused(refusal)) => Err(refusal),
                    Err(stop) => panic!("the state cannot be read: {stop}"),
                };
                return self.look_at(
                    stepped,
                    (now, wall),
                    Parked::Read { conn, id, query: asked, outcome, then, before },
                    out,
                );
            }
            Parked::Read { conn, id, query, outcome, then, before } => {
                if !stepped.led_at(then, now) {
                    let late = now.since(then) >= READ_LEASE_PATIENCE;
                    match late {
                        true => out.push((conn, ToClient::NotLeader)),
                        false => self.parked.push(Parked::Read { conn, id, query, outcome, then, before }),
                    }
                    return false;
                }
                let told_of = told_of(&query.kind, &outcome);
                let Some(&session) = self.of_conn.get(&conn) else { return false };
                if self.caching.hidden_until(&told_of, now).is_some() {
                    self.parked.push(Parked::Ask { conn, id, query });
                    return false;
                }
                match self.caching.grant_unchanged(session, &told_of, before) {
                    Some(leased) => out.push((conn, ToClient::Answered { id, outcome, leased })),
                    None => self.parked.push(Parked::Ask { conn, id, query }),
                }
            }
        }
        false
    }

    fn hello(
        &mut self,
        stepped: &Stepped,
        now: Tick,
        (conn, session, then): (u64, Option<(SessionId, [u8; 16])>, Tick),
        out: &mut Leaving,
    ) -> bool {
        if !stepped.led_at(then, now) {
            match now.since(then) >= READ_LEASE_PATIENCE {
                true => out.push((conn, ToClient::NotLeader)),
                false => self.parked.push(Parked::Hello { conn, session, then }),
            }
            return false;
        }
        match session {
            Some((session, secret)) => match self.sessions.reattached(session, &secret, [], now) {
                Some(_) => self.attach(conn, session, secret, now, out),
                None => out.push((conn, ToClient::Ended)),
            },
            None => {
                self.secrets += 1;
                let mut secret = [0; 16];
                secret[..8].copy_from_slice(&self.secrets.to_le_bytes());
                let open =
                    Internal::OpenSession { secret, node: NodeId::default(), description: String::new() };
                self.command(stepped, Command::Open { conn, secret }, open);
                return true;
            }
        }
        false
    }

    /// What a leader looks after now and then.
    pub(super) fn upkeep(&mut self, stepped: &Stepped, now: Tick, out: &mut Leaving) {
        if self.serves.is_none() {
            return;
        }
        for session in self.sessions.overdue(now) {
            let is_ending =
                |(command, _): &(Command, _)| matches!(command, Command::End(id) if *id == session.id);
            session.end();
            if let Some(conn) = self.of_session.remove(&session.id) {
                self.of_conn.remove(&conn);
                out.push((conn, ToClient::Ended));
            }
            if !self.commands.iter().any(is_ending) {
                self.command(stepped, Command::End(session.id), Internal::EndSession { session: session.id });
            }
        }
        let gone = |session| self.sessions.is_gone(session, LEASE_SILENCE_MAX, now);
        for (inode, asked, _) in self.recalls.run_out(now, gone) {
            if matches!(stepped.read(|rows| lease_of(rows, inode)), Ok(Some(held)) if held == asked) {
                self.command(stepped, Command::Other, Internal::TakeLease { inode, lease: asked });
            }
        }
        self.publish(now);
        self.delete_replicas(stepped);
        let page = stepped.read(|rows| orphans(rows, None, WORK_PAGE).unwrap());
        let free = self.sessions.not_open(&page);
        for batch in self.watched.update(&page, &free, now).chunks(ORPHANS_PER_RECORD_MAX) {
            self.command(stepped, Command::Other, Internal::ReclaimOrphans { inodes: batch.to_vec() });
        }
        if let Some(key) = stepped.read(|rows| garbage(rows, None, 1).unwrap()).first() {
            self.command(stepped, Command::Other, Internal::DropGarbage { data: key.data, from: key.from });
        }
    }
}
