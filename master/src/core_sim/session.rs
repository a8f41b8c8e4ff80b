//! The session of a client: streams to masters, renewals, and what comes over the stream.

use super::canon::Asked;
use super::client::{Asking, Purpose};
use super::said::{Connection, ToClient, ToMaster};
use super::world::{Event, World};
use cairn_core::caching::changes::Changes;
use cairn_core::error::FsError;
use cairn_core::limits::SESSION_RENEW;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::QueryKind;
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// Says something on a stream; where the network loses it the stream breaks.
    pub(super) fn up(&mut self, number: u64, said: ToMaster) {
        let Some(conn) = self.conns.get(&number).filter(|conn| !conn.broken) else { return };
        let (from, to) = (conn.client, conn.master);
        let at = self.arrival(from, to);
        let Some(conn) = self.conns.get_mut(&number) else { return };
        match at {
            None => conn.broken = true,
            Some(at) => {
                conn.last_up = conn.last_up.max(at);
                let at = conn.last_up;
                self.queue.push(at, Event::Up { conn: number, said: Box::new(said) });
            }
        }
    }

    /// As [`World::up`], the other way.
    pub(super) fn down(&mut self, number: u64, said: ToClient) {
        let Some(conn) = self.conns.get(&number).filter(|conn| !conn.broken) else { return };
        let (from, to) = (conn.master, conn.client);
        let at = self.arrival(from, to);
        let Some(conn) = self.conns.get_mut(&number) else { return };
        match at {
            None => conn.broken = true,
            Some(at) => {
                conn.last_down = conn.last_down.max(at);
                let at = conn.last_down;
                self.queue.push(at, Event::Down { conn: number, said: Box::new(said) });
            }
        }
    }

    /// Asks all masters who leads.
    pub(super) fn look_for_leader(&mut self, id: u64) {
        let now = self.now;
        let client = self.client(id);
        let own = client.now();
        // A new stream begins with nothing.
        drop(client.cache.forget_all(own));
        client.asking.clear();
        client.hello_at = now;
        let session = client.session;
        client.hellos.clear();
        self.conns.retain(|_, conn| conn.client != id);
        for master in 1..=self.members.len() as u64 {
            self.made += 1;
            let number = self.made;
            let start = self.member(master).start;
            let (client, last_up, last_down) = (id, now, now);
            let conn = Connection { client, master, start, last_up, last_down, broken: false };
            self.conns.insert(number, conn);
            self.client(id).hellos.push(number);
            self.up(number, ToMaster::Hello { session });
        }
    }

    pub(super) fn renew(&mut self, id: u64, conn: u64) {
        let now = self.now;
        let client = self.client(id);
        if now.saturating_sub(client.renewed_at) >= SESSION_RENEW {
            client.renewed_at = now;
            let sent = client.now();
            let dropped = client.cache.take_dropped(sent);
            self.up(conn, ToMaster::Renew { sent });
            if !dropped.is_empty() {
                self.up(conn, ToMaster::Forget { inodes: dropped });
            }
        }
    }

    /// A client's word reaches a master.
    pub(super) fn hear_client(&mut self, number: u64, said: Box<ToMaster>) {
        let Some(conn) = self.conns.get(&number) else { return };
        let (master, start) = (conn.master, conn.start);
        let now = self.now;
        let member = self.member(master);
        if member.start != start {
            // Nobody is there any more who knows the stream.
            return;
        }
        if member.paused_until > now {
            let until = member.paused_until;
            return self.queue.push(until, Event::Up { conn: number, said });
        }
        let own = member.now();
        let Some(process) = member.process.as_mut() else { return };
        let mut out = Vec::new();
        process.front.receive(&process.stepped, own, number, *said, &mut out);
        out.into_iter().for_each(|(conn, said)| self.down(conn, said));
        self.trace.note(now, [4, master, number]);
        self.turn(master);
    }

    /// A master's word reaches a client.
    pub(super) fn hear_master(&mut self, number: u64, said: Box<ToClient>) {
        let Some(conn) = self.conns.get(&number) else { return };
        let (id, now) = (conn.client, self.now);
        let client = self.client(id);
        if client.paused_until > now {
            let until = client.paused_until;
            return self.queue.push(until, Event::Down { conn: number, said });
        }
        let is_current = client.conn == Some(number);
        if !is_current && !client.hellos.contains(&number) {
            return;
        }
        client.heard_at = if is_current { now } else { client.heard_at };
        let own = client.now();
        match *said {
            ToClient::Welcome { session, secret } if client.conn.is_none() => {
                client.conn = Some(number);
                client.session = Some((session, secret));
                (client.heard_at, client.renewed_at) = (now, now);
                self.tell(|| format!("client {id} is welcomed on stream {number}"));
                self.up(number, ToMaster::Renew { sent: own });
                self.send_pending(id, number, true);
            }
            ToClient::Welcome { .. } => {}
            ToClient::NotLeader => {
                client.hellos.retain(|hello| *hello != number);
                if is_current {
                    client.conn = None;
                    client.hellos.clear();
                }
            }
            ToClient::Ended => self.life_ends(id),
            ToClient::Renewed { sent, leases } => {
                if leases {
                    client.cache.renewed(sent, own);
                }
            }
            ToClient::Invalidate(invalidation) => {
                client.cache.invalidate(&invalidation, own);
                self.tell(|| format!("client {id} is told {invalidation:?}"));
                self.up(number, ToMaster::Confirm { number: invalidation.number.0 });
            }
            ToClient::Recall { inode, lease } => self.up(number, ToMaster::Returned { inode, lease }),
            ToClient::Reply { of, outcome, changes, leased } => {
                self.replied(id, of, outcome, changes, leased);
            }
            ToClient::Answered { id: question, outcome, leased } => {
                self.answered(id, question, outcome, leased);
            }
        }
    }

    /// Its session is no more: what it had is left behind, as it stands in the state.
    pub(super) fn life_ends(&mut self, id: u64) {
        self.hit("sessions that ended under their client");
        self.tell(|| format!("client {id} has lost its session"));
        let home = self.client(id).begin_anew();
        self.left_behind.push(home);
    }

    fn replied(
        &mut self,
        id: u64,
        of: Asked,
        outcome: Result<Answer, FsError>,
        changes: Option<Arc<Changes>>,
        leased: bool,
    ) {
        let now = self.now;
        let client = self.client(id);
        let slot = of.1.get() as usize;
        if client.asked_in(slot) != Some(of) {
            // An answer again.
            return;
        }
        let Some(pending) = client.slots[slot].pending.take() else { return };
        let later = match &outcome {
            Err(FsError::NotLeader | FsError::Overloaded | FsError::NoSpace) => Duration::from_millis(50),
            Err(FsError::Unavailable(_)) if pending.purpose == Purpose::Data => Duration::ZERO,
            Err(FsError::LeaseHeld | FsError::Unavailable(_) | FsError::Busy) => Duration::from_millis(200),
            Err(FsError::SessionExpired) => return self.life_ends(id),
            _ => Duration::ZERO,
        };
        if later > Duration::ZERO {
            let (not_before, sent) = (now + later, false);
            client.slots[slot].pending = Some(super::client::Pending { not_before, sent, ..pending });
            return;
        }
        client.cache.answered(pending.under_way, &changes.unwrap_or_default(), leased);
        self.tell(|| format!("client {id}: {:?} is answered {outcome:?}", pending.operation.kind));
        if let Ok(answer) = &outcome {
            self.operations += 1;
            self.invariants.acknowledged(self.seed, of, answer, now, &self.canon);
        }
        match pending.purpose {
            Purpose::Home => self.home_done(id, &pending.operation.kind, &outcome),
            Purpose::Data => self.data_done(id, &pending.operation.kind, &outcome),
            Purpose::Shared | Purpose::MakeShared => self.shared_done(id, &pending.operation.kind, &outcome),
        }
    }

    fn answered(&mut self, id: u64, question: u64, outcome: Result<Answer, FsError>, leased: bool) {
        let client = self.client(id);
        let Some(asking) = client.asking.remove(&question) else { return };
        if matches!(outcome, Err(FsError::NotLeader | FsError::Overloaded)) {
            return;
        }
        let Asking { query, ticket, asked_at, of_home, .. } = asking;
        if leased {
            match (&query.kind, &outcome) {
                (QueryKind::Lookup { parent, name }, Ok(Answer::Entry { attr, map })) => {
                    client.cache.learn(ticket, attr, map.as_ref());
                    client.cache.learn_name(ticket, *parent, &name.to_bytes(), Some(attr.inode));
                }
                (QueryKind::Lookup { parent, name }, Err(FsError::NotFound)) => {
                    client.cache.learn_name(ticket, *parent, &name.to_bytes(), None);
                }
                (QueryKind::GetAttr { .. }, Ok(Answer::Attr(attr))) => {
                    client.cache.learn(ticket, attr, None);
                }
                (QueryKind::ReadDir { inode, .. }, Ok(Answer::Directory { entries, .. })) => {
                    client.cache.learn_page(ticket, *inode, entries, false);
                }
                _ => {}
            }
        }
        self.reads += 1;
        self.tell(|| format!("client {id}: {:?} is answered {outcome:?}, leased {leased}", query.kind));
        let now = self.now;
        self.invariants.read(self.seed, (&query.kind, &outcome), (asked_at, now), &self.canon);
        if let QueryKind::Map { inode, .. } = query.kind {
            return self.map_found(id, inode, &outcome);
        }
        match of_home {
            true => self.home_listed(id, &outcome),
            false => self.shared_found(id, &query.kind, &outcome),
        }
    }
}
