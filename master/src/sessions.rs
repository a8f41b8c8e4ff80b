//! The client sessions as this leader hears them: liveness, open inodes, and the way to push a message to each.
//!
//! The state holds sessions, leases and slots; this table holds what is not journaled. A leader that starts takes every
//! session of the state over as heard now, so that each has the whole expiry time to re-attach and declare again.

use cairn_core::ids::{InodeId, SessionId};
use cairn_core::limits::{SESSION_OPEN_INODES_MAX, SESSION_PUSHES_MAX, SESSION_REQUESTS_MAX};
use cairn_core::namespace::work::SessionRecord;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_proto::connection::{ConnError, Link, Outgoing};
use cairn_proto::hello::refused;
use cairn_proto::session_conn::framed;
use cairn_proto::v1::master_message::Message;
use cairn_proto::v1::{MasterMessage, RefusedReason, SessionEnded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Every live session.
pub(crate) struct Sessions {
    expiry: Duration,
    table: Mutex<BTreeMap<SessionId, Arc<Session>>>,
    /// When overdue sessions were last looked for.
    looked: Mutex<Tick>,
    /// Sessions of the state that did not yet re-attach: while there are any, what they hold open is not known. Changed under the
    /// lock of the table.
    unattached: Mutex<BTreeSet<SessionId>>,
}

/// One session.
pub(crate) struct Session {
    /// Its number.
    pub(crate) id: SessionId,
    /// Shown to operators.
    pub(crate) description: String,
    secret: [u8; 16],
    heard_nanos: AtomicU64,
    ended: AtomicBool,
    reach: Mutex<Reach>,
}

#[derive(Default)]
struct Reach {
    connection: Option<Arc<Link>>,
    open: BTreeSet<InodeId>,
    /// Another value stands for the session.
    superseded: bool,
}

impl Sessions {
    /// No sessions yet; each will live for `expiry` after its last message.
    pub(crate) fn new(expiry: Duration) -> Self {
        Self { expiry, table: Mutex::default(), looked: Mutex::default(), unattached: Mutex::default() }
    }

    /// Takes over what the state knows, as heard at `now`, in the place of what was known before: whoever is still connected to
    /// that, or about to be, must come again.
    pub(crate) fn load(&self, records: impl IntoIterator<Item = SessionRecord>, now: Tick) {
        let records = records.into_iter().filter(|_| !is_planted(Bug::ForgetSessions));
        let known: BTreeMap<SessionId, Arc<Session>> = records
            .map(|record| {
                let session = Session::new(record.session, record.secret, record.description, now);
                session.ended.store(record.ending, Ordering::Release);
                (record.session, Arc::new(session))
            })
            .collect();
        // At once: nobody finds a session unknown meanwhile, or takes one for attached that is to come again.
        let mut table = locked(&self.table);
        *locked(&self.unattached) = known.keys().copied().collect();
        let former = std::mem::replace(&mut *table, known);
        drop(table);
        former.values().for_each(|session| session.supersede());
    }

    /// A new session.
    pub(crate) fn opened(
        &self,
        id: SessionId,
        secret: [u8; 16],
        description: String,
        now: Tick,
    ) -> Arc<Session> {
        let session = Arc::new(Session::new(id, secret, description, now));
        let mut table = locked(&self.table);
        locked(&self.unattached).remove(&id);
        table.insert(id, session.clone());
        session
    }

    /// The session that `secret` opens, if it lives.
    pub(crate) fn reattached(
        &self,
        id: SessionId,
        secret: &[u8],
        open: impl IntoIterator<Item = InodeId>,
        now: Tick,
    ) -> Option<Arc<Session>> {
        let table = locked(&self.table);
        let session = table.get(&id)?.clone();
        if session.has_ended() || !equal_in_constant_time(&session.secret, secret) {
            return None;
        }
        session.hear(now);
        session.redeclare(open);
        locked(&self.unattached).remove(&id);
        Some(session)
    }

    /// A live session.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        locked(&self.table).get(&id).cloned()
    }

    /// Whether a session has ended, or was not heard for longer than `patience`. Never right after a pause of this master
    /// itself, see [`Self::overdue`].
    pub(crate) fn is_gone(&self, id: SessionId, patience: Duration, now: Tick) -> bool {
        let Some(session) = self.get(id) else { return true };
        let attends = now.since(*locked(&self.looked)) <= self.expiry / 5;
        session.has_ended() || (attends && session.silent(now) > patience)
    }

    /// The session is gone from the state.
    pub(crate) fn forget(&self, id: SessionId) {
        let mut table = locked(&self.table);
        table.remove(&id);
        locked(&self.unattached).remove(&id);
    }

    /// Sessions to end at `now`: silent beyond their expiry, or ending already. To be called often: after a pause of its
    /// own (a frozen process, a suspended machine) this master has not heard what may wait in its sockets, so every
    /// session then gets its whole time again.
    pub(crate) fn overdue(&self, now: Tick) -> Vec<Arc<Session>> {
        let table = locked(&self.table);
        let before = std::mem::replace(&mut *locked(&self.looked), now);
        if before != Tick::default() && now.since(before) > self.expiry / 4 {
            table.values().for_each(|session| session.hear(now));
        }
        let is_overdue = |session: &&Arc<Session>| session.has_ended() || session.silent(now) > self.expiry;
        table.values().filter(is_overdue).cloned().collect()
    }

    /// Which of `inodes` no session holds open, as far as known. None while a session has yet to re-attach.
    pub(crate) fn not_open(&self, inodes: &[InodeId]) -> Vec<InodeId> {
        let sessions: Vec<_> = {
            let table = locked(&self.table);
            if !locked(&self.unattached).is_empty() {
                return Vec::new();
            }
            table.values().cloned().collect()
        };
        let mut free = inodes.to_vec();
        for session in sessions {
            let reach = locked(&session.reach);
            if !reach.open.is_empty() {
                free.retain(|inode| !reach.open.contains(inode));
            }
        }
        free
    }

    /// At most `limit` sessions that have declared `inode` open.
    pub(crate) fn with_open(&self, inode: InodeId, limit: usize) -> Vec<Arc<Session>> {
        let sessions: Vec<_> = locked(&self.table).values().cloned().collect();
        let has_open = |session: &Arc<Session>| locked(&session.reach).open.contains(&inode);
        sessions.into_iter().filter(has_open).take(limit).collect()
    }

    /// Number of live sessions.
    pub(crate) fn len(&self) -> usize {
        locked(&self.table).len()
    }

    /// Closes every connection: this master no longer leads. The sessions live on and may re-attach to another.
    pub(crate) fn disconnect_all(&self) {
        let sessions: Vec<_> = locked(&self.table).values().cloned().collect();
        for session in sessions {
            session.dismiss(no_longer_leads());
        }
    }
}

impl Session {
    fn new(id: SessionId, secret: [u8; 16], description: String, now: Tick) -> Self {
        let heard_nanos = AtomicU64::new(nanos(now));
        Self { id, description, secret, heard_nanos, ended: AtomicBool::new(false), reach: Mutex::default() }
    }

    /// A message of the session has come.
    pub(crate) fn hear(&self, now: Tick) {
        self.heard_nanos.fetch_max(nanos(now), Ordering::Relaxed);
    }

    /// The proof by which a successor re-attaches.
    pub(crate) fn secret(&self) -> [u8; 16] {
        self.secret
    }

    /// Gives the session a new connection; the former one is closed.
    pub(crate) fn attach(&self, link: Arc<Link>) {
        let mut reach = locked(&self.reach);
        let closed = if reach.superseded { Some(link) } else { reach.connection.replace(link) };
        drop(reach);
        close(closed);
    }

    /// Another value stands for this session from now on: nobody is to be heard, or told anything, by way of this one.
    fn supersede(&self) {
        locked(&self.reach).superseded = true;
        self.dismiss(no_longer_leads());
    }

    /// Sends a message to the session's connection. False when it has none, or does not read.
    pub(crate) fn push(&self, message: Message) -> bool {
        let Some(link) = locked(&self.reach).connection.clone() else { return false };
        let queued = link.queue(sent(message, Vec::new()), SESSION_PUSHES_MAX + SESSION_REQUESTS_MAX);
        link.flush();
        queued
    }

    /// Ends its connection, if any: it will come back over another one.
    pub(crate) fn cut(&self) {
        let former = self.leave();
        close(former);
    }

    /// Takes its connection away, open as it is.
    pub(crate) fn leave(&self) -> Option<Arc<Link>> {
        locked(&self.reach).connection.take()
    }

    /// Inodes that it has begun and ceased to hold open. False when it declares more than any client may.
    pub(crate) fn declare(
        &self,
        opened: impl IntoIterator<Item = InodeId>,
        closed: impl IntoIterator<Item = InodeId>,
    ) -> bool {
        let mut reach = locked(&self.reach);
        for inode in closed {
            reach.open.remove(&inode);
        }
        for inode in opened {
            if reach.open.len() >= SESSION_OPEN_INODES_MAX {
                return false;
            }
            reach.open.insert(inode);
        }
        true
    }

    /// All that it holds open, as a session says that comes back: what it closed while it was away is not among it.
    fn redeclare(&self, open: impl IntoIterator<Item = InodeId>) {
        locked(&self.reach).open = open.into_iter().take(SESSION_OPEN_INODES_MAX).collect();
    }

    /// From now on nothing is accepted from it; its connection, if any, ends.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        locked(&self.reach).open.clear();
        let reason = "the session was silent beyond its expiry and has been ended".to_owned();
        self.dismiss(Message::SessionEnded(SessionEnded { reason }));
    }

    /// Ends its connection, if any, with a last message.
    fn dismiss(&self, message: Message) {
        if let Some(link) = self.leave() {
            // A connection that has died already needs no farewell.
            drop(link.send_last(sent(message, Vec::new())));
        }
    }

    /// Whether it is ending.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Since it was heard.
    pub(crate) fn silent(&self, now: Tick) -> Duration {
        Duration::from_nanos(nanos(now).saturating_sub(self.heard_nanos.load(Ordering::Relaxed)))
    }
}

/// A message on its way to a client; `places` are given back when it has left.
pub(crate) fn sent(message: Message, places: Vec<OwnedSemaphorePermit>) -> Outgoing {
    framed(&MasterMessage { message: Some(message) }, places)
}

fn no_longer_leads() -> Message {
    Message::Refused(refused(RefusedReason::RefusedNotLeader, "the master no longer leads".to_owned()))
}

fn close(link: Option<Arc<Link>>) {
    if let Some(link) = link {
        link.die(ConnError::ClosedHere { peer: link.peer().clone() });
    }
}

fn nanos(tick: Tick) -> u64 {
    u64::try_from(tick.0.as_nanos()).unwrap_or(u64::MAX)
}

fn equal_in_constant_time(ours: &[u8; 16], theirs: &[u8]) -> bool {
    theirs.len() == ours.len() && ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::ids::NodeId;
    use cairn_proto::session_conn::{MessageReader, SESSION, attend};
    use cairn_proto::v1::{ClientMessage, Renewed};

    const EXPIRY: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    fn record(number: u64, ending: bool) -> SessionRecord {
        SessionRecord {
            session: SessionId(number),
            secret: [number as u8; 16],
            node: NodeId::default(),
            description: String::new(),
            ending,
        }
    }

    #[test]
    fn a_silent_session_is_overdue_and_a_heard_one_is_not() {
        let sessions = Sessions::new(EXPIRY);
        let session = sessions.opened(SessionId(1), [1; 16], String::new(), at(1));
        let overdue = |from, to| (from..=to).map(|second| sessions.overdue(at(second)).len()).sum::<usize>();
        assert_eq!(overdue(1, 16), 0);
        assert_eq!(overdue(17, 17), 1);
        session.hear(at(17));
        assert_eq!(overdue(18, 32), 0);
        assert_eq!(overdue(33, 33), 1);
    }

    #[test]
    fn silence_counts_only_while_the_master_attends() {
        let (sessions, patience) = (Sessions::new(EXPIRY), Duration::from_secs(4));
        sessions.opened(SessionId(1), [1; 16], String::new(), at(1));
        (1..=5).for_each(|second| drop(sessions.overdue(at(second))));
        assert!(!sessions.is_gone(SessionId(1), patience, at(5)));
        assert!(sessions.is_gone(SessionId(1), patience, at(6)));
        assert!(!sessions.is_gone(SessionId(1), patience, at(9)), "the master was away itself");
        sessions.overdue(at(9));
        assert!(!sessions.is_gone(SessionId(1), patience, at(10)), "and gives everybody time again");
        assert!(sessions.is_gone(SessionId(2), patience, at(10)), "unknown");
    }

    #[test]
    fn a_pause_of_the_master_itself_ends_no_session() {
        let sessions = Sessions::new(EXPIRY);
        sessions.opened(SessionId(1), [1; 16], String::new(), at(1));
        assert!(sessions.overdue(at(2)).is_empty());
        assert!(sessions.overdue(at(60)).is_empty(), "nobody was looked at for a minute");
        assert!(sessions.overdue(at(63)).is_empty());
    }

    #[test]
    fn only_the_secret_reattaches() {
        let sessions = Sessions::new(EXPIRY);
        sessions.load([record(1, false), record(2, true)], at(0));
        let open = || std::iter::empty();
        assert!(sessions.reattached(SessionId(1), &[9; 16], open(), at(1)).is_none());
        assert!(sessions.reattached(SessionId(1), &[1; 15], open(), at(1)).is_none());
        assert!(sessions.reattached(SessionId(1), &[1; 16], open(), at(1)).is_some());
        assert!(sessions.reattached(SessionId(2), &[2; 16], open(), at(1)).is_none(), "it was ending");
        assert!(sessions.reattached(SessionId(3), &[3; 16], open(), at(1)).is_none());
    }

    #[test]
    fn nothing_is_known_to_be_closed_before_every_session_has_come_back() {
        let sessions = Sessions::new(EXPIRY);
        sessions.load([record(1, false), record(2, false)], at(0));
        let all = [InodeId(5), InodeId(6)];
        sessions.reattached(SessionId(1), &[1; 16], [InodeId(5)], at(1));
        assert!(sessions.not_open(&all).is_empty());
        sessions.forget(SessionId(2));
        assert_eq!(sessions.not_open(&all), vec![InodeId(6)]);
    }

    fn connection() -> (Arc<Link>, (Arc<Link>, MessageReader<MasterMessage>)) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let ((read, write), (far_read, far_write)) = (tokio::io::split(near), tokio::io::split(far));
        let link = attend::<ClientMessage>(SESSION, read, write, "client").0;
        (link, attend::<MasterMessage>(SESSION, far_read, far_write, "master"))
    }

    #[tokio::test]
    async fn who_is_connected_when_the_lead_is_taken_over_anew_must_come_again() {
        let sessions = Sessions::new(EXPIRY);
        sessions.load([record(1, false), record(2, false)], at(0));
        let reattach = |id: u64| sessions.reattached(SessionId(id), &[id as u8; 16], [], at(1)).unwrap();
        let (connected, about_to_be) = (reattach(1), reattach(2));
        let (link, (_link, mut heard)) = connection();
        connected.attach(link);
        sessions.load([record(1, false), record(2, false)], at(2));
        assert!(matches!(heard.next().await.unwrap().unwrap().message, Some(Message::Refused(_))));
        let (link, _far) = connection();
        about_to_be.attach(link.clone());
        assert!(link.dead().is_some(), "what it says would be heard by a session that nobody looks at");
        assert!(sessions.not_open(&[InodeId(5)]).is_empty());
    }

    #[tokio::test]
    async fn a_second_connection_takes_the_place_of_the_first() {
        let sessions = Sessions::new(EXPIRY);
        let session = sessions.opened(SessionId(1), [1; 16], String::new(), at(0));
        let renewed = || Message::Renewed(Renewed { sent_at_ns: 1, leases: true });
        assert!(!session.push(renewed()), "there is no connection");
        let (first, _first_far) = connection();
        let (second, (_link, mut heard)) = connection();
        session.attach(first.clone());
        session.attach(second);
        assert!(first.dead().is_some());
        assert!(session.push(renewed()));
        assert_eq!(heard.next().await.unwrap().unwrap().message, Some(renewed()));
        session.end();
        assert!(!session.push(renewed()));
        assert!(matches!(heard.next().await.unwrap().unwrap().message, Some(Message::SessionEnded(_))));
    }
}
