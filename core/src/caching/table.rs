//! The leader's side: who may believe what, and which changes still wait for whom. Kept in memory only.

use super::changes::Changes;
use crate::ids::{InodeId, SessionId};
use crate::limits::{INVALIDATION_PATIENCE, SESSION_SHARED_LEASES_MAX, SHARED_LEASE_TERM, SHARED_LEASES_MAX};
use crate::time::Tick;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers changes that somebody must be told of, in the order in which they were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ChangeNumber(pub u64);

/// What one session must cease to believe.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Invalidation {
    /// To be confirmed with this number.
    pub number: ChangeNumber,
    /// Attributes and maps.
    pub inodes: Vec<InodeId>,
    /// Names: directory and name.
    pub names: Vec<(InodeId, Bytes)>,
}

/// Every shared lease, and every change that is not yet believed by all.
#[derive(Debug, Default)]
pub struct SharedLeases {
    holders: BTreeSet<(InodeId, SessionId)>,
    sessions: BTreeMap<SessionId, Holder>,
    /// By change, the sessions that have not confirmed it.
    waiting: BTreeMap<ChangeNumber, Waiting>,
    /// What those changes concern.
    in_change: BTreeSet<(InodeId, ChangeNumber)>,
    last: ChangeNumber,
    /// Sessions of an earlier leader that may still believe what it granted, and until when.
    inherited: BTreeSet<SessionId>,
    inherited_until: Tick,
}

#[derive(Debug)]
struct Holder {
    held: BTreeSet<InodeId>,
    renewed: Tick,
    unconfirmed: BTreeMap<ChangeNumber, Tick>,
}

#[derive(Debug)]
struct Waiting {
    sessions: BTreeSet<SessionId>,
    inodes: Vec<InodeId>,
}

impl SharedLeases {
    /// A leader begins: `sessions` may hold leases of its predecessor, for one more term at most.
    pub fn inherit(&mut self, sessions: impl IntoIterator<Item = SessionId>, now: Tick) {
        *self = Self { last: self.last, ..Self::default() };
        self.inherited = sessions.into_iter().collect();
        self.inherited_until = now.after(SHARED_LEASE_TERM);
    }

    /// Until when no change may be acknowledged because of leases of an earlier leader.
    pub fn inherited_until(&self, now: Tick) -> Option<Tick> {
        (!self.inherited.is_empty() && now < self.inherited_until).then_some(self.inherited_until)
    }

    /// A session attaches, holding nothing; `caching`: it wants leases.
    pub fn attach(&mut self, session: SessionId, caching: bool, now: Tick) {
        self.end(session);
        if caching {
            let holder = Holder { held: BTreeSet::new(), renewed: now, unconfirmed: BTreeMap::new() };
            self.sessions.insert(session, holder);
        }
    }

    /// The session believes nothing any more.
    pub fn end(&mut self, session: SessionId) {
        self.inherited.remove(&session);
        let Some(holder) = self.sessions.remove(&session) else { return };
        self.release(session, &holder);
    }

    fn release(&mut self, session: SessionId, holder: &Holder) {
        for &inode in &holder.held {
            self.holders.remove(&(inode, session));
        }
        for &number in holder.unconfirmed.keys() {
            self.confirm_one(session, number);
        }
    }

    /// Whether the session takes part.
    pub fn caches(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The session asks for another term. False while it owes a confirmation for too long.
    pub fn renew(&mut self, session: SessionId, now: Tick) -> bool {
        let Some(holder) = self.sessions.get(&session) else { return false };
        let owes = holder.unconfirmed.values().next();
        if owes.is_some_and(|&since| now.since(since) > INVALIDATION_PATIENCE) {
            if now < holder.renewed.after(SHARED_LEASE_TERM) {
                return false;
            }
            self.forget_all(session);
        }
        if let Some(holder) = self.sessions.get_mut(&session) {
            holder.renewed = now;
        }
        true
    }

    /// From now on the session is told of changes of `inodes`. True when it holds them all.
    pub fn grant(&mut self, session: SessionId, inodes: &[InodeId]) -> bool {
        let room = SHARED_LEASES_MAX.saturating_sub(self.holders.len());
        let Some(holder) = self.sessions.get_mut(&session) else { return false };
        let room = room.min(SESSION_SHARED_LEASES_MAX.saturating_sub(holder.held.len()));
        let new: Vec<InodeId> = inodes.iter().copied().filter(|inode| !holder.held.contains(inode)).collect();
        if new.len() > room {
            return false;
        }
        holder.held.extend(new.iter().copied());
        self.holders.extend(new.into_iter().map(|inode| (inode, session)));
        true
    }

    /// The session no longer believes anything of `inodes`.
    pub fn forget(&mut self, session: SessionId, inodes: impl IntoIterator<Item = InodeId>) {
        let Some(holder) = self.sessions.get_mut(&session) else { return };
        for inode in inodes {
            holder.held.remove(&inode);
            self.holders.remove(&(inode, session));
        }
    }

    /// The session's leases have lapsed by its own clock: it begins anew.
    pub fn forget_all(&mut self, session: SessionId) {
        let Some(mut holder) = self.sessions.remove(&session) else { return };
        self.release(session, &holder);
        holder.held.clear();
        holder.unconfirmed.clear();
        self.sessions.insert(session, holder);
    }

    /// `changes` were applied, made by `origin` (none: by the master). Answers whom to tell; with somebody to tell, the
    /// change may be acknowledged only when it is [unconfirmed](Self::unconfirmed) no more.
    pub fn applied(
        &mut self,
        origin: Option<SessionId>,
        changes: &Changes,
        now: Tick,
    ) -> Vec<(SessionId, Invalidation)> {
        let mut told: BTreeMap<SessionId, Invalidation> = BTreeMap::new();
        // What the master itself removes had no name and nobody had it open: it cannot be asked for, so what is believed of it
        // does not matter. (A kernel told of an inode that it has forgotten gives up every name that it knows, and with
        // the names the pages of all files.)
        let can_be_asked_for = |attr: &Option<_>| attr.is_some() || origin.is_some();
        for (inode, _) in changes.inodes.iter().filter(|(_, attr)| can_be_asked_for(attr)) {
            for session in self.others(*inode, origin) {
                told.entry(session).or_default().inodes.push(*inode);
            }
        }
        for (parent, name, _) in &changes.names {
            for session in self.others(*parent, origin) {
                told.entry(session).or_default().names.push((*parent, name.clone()));
            }
        }
        for (inode, _) in changes.inodes.iter().filter(|(_, attr)| attr.is_none()) {
            self.let_go(*inode);
        }
        if told.is_empty() {
            return Vec::new();
        }
        self.last.0 += 1;
        let number = self.last;
        for (session, invalidation) in &mut told {
            invalidation.number = number;
            if let Some(holder) = self.sessions.get_mut(session) {
                holder.unconfirmed.insert(number, now);
            }
        }
        let concerned = changes.inodes.iter().map(|(inode, _)| *inode);
        let inodes: Vec<InodeId> =
            concerned.chain(changes.names.iter().map(|(parent, ..)| *parent)).collect();
        self.in_change.extend(inodes.iter().map(|&inode| (inode, number)));
        self.waiting.insert(number, Waiting { sessions: told.keys().copied().collect(), inodes });
        told.into_iter().collect()
    }

    /// The inode is no more, and its number is never used again.
    fn let_go(&mut self, inode: InodeId) {
        for session in self.others(inode, None) {
            self.forget(session, [inode]);
        }
    }

    fn others(&self, inode: InodeId, origin: Option<SessionId>) -> Vec<SessionId> {
        let of_inode = self.holders.range((inode, SessionId(0))..=(inode, SessionId(u64::MAX)));
        of_inode.map(|&(_, session)| session).filter(|session| Some(*session) != origin).collect()
    }

    /// The session has confirmed everything up to `number`.
    pub fn confirmed(&mut self, session: SessionId, number: ChangeNumber) {
        let Some(holder) = self.sessions.get_mut(&session) else { return };
        let later = holder.unconfirmed.split_off(&ChangeNumber(number.0.saturating_add(1)));
        let confirmed = std::mem::replace(&mut holder.unconfirmed, later);
        for number in confirmed.into_keys() {
            self.confirm_one(session, number);
        }
    }

    fn confirm_one(&mut self, session: SessionId, number: ChangeNumber) {
        let Some(waiting) = self.waiting.get_mut(&number) else { return };
        waiting.sessions.remove(&session);
        if waiting.sessions.is_empty()
            && let Some(waiting) = self.waiting.remove(&number)
        {
            for inode in waiting.inodes {
                self.in_change.remove(&(inode, number));
            }
        }
    }

    /// Changes that somebody has not confirmed yet, oldest first.
    pub fn unconfirmed(&self) -> Vec<ChangeNumber> {
        self.waiting.keys().copied().collect()
    }

    /// The newest change of one of `inodes` that somebody has not confirmed.
    pub fn in_change(&self, inodes: &[InodeId]) -> Option<ChangeNumber> {
        let newest = |&inode: &InodeId| {
            let range = (inode, ChangeNumber(0))..=(inode, ChangeNumber(u64::MAX));
            self.in_change.range(range).next_back().map(|&(_, number)| number)
        };
        inodes.iter().filter_map(newest).max()
    }

    /// When the leases of all that have not confirmed the change will have run out.
    pub fn deadline(&self, number: ChangeNumber) -> Option<Tick> {
        let sessions = &self.waiting.get(&number)?.sessions;
        let renewed =
            sessions.iter().filter_map(|session| self.sessions.get(session)).map(|holder| holder.renewed);
        renewed.max().map(|renewed| renewed.after(SHARED_LEASE_TERM))
    }

    /// Who has not confirmed changes of `inode`: since when they were told, and when their leases will have run out.
    pub fn owed(&self, inode: InodeId) -> Vec<(SessionId, Tick, Tick)> {
        let range = (inode, ChangeNumber(0))..=(inode, ChangeNumber(u64::MAX));
        let mut owed = BTreeMap::new();
        for (_, number) in self.in_change.range(range) {
            for session in self.waiting.get(number).iter().flat_map(|waiting| &waiting.sessions) {
                let Some(holder) = self.sessions.get(session) else { continue };
                let Some(&since) = holder.unconfirmed.get(number) else { continue };
                owed.entry(*session).or_insert((since, holder.renewed.after(SHARED_LEASE_TERM)));
            }
        }
        owed.into_iter().map(|(session, (since, until))| (session, since, until)).collect()
    }

    /// Takes everything from the sessions that have not confirmed the change and whose leases have run out. Answers them.
    pub fn expire(&mut self, number: ChangeNumber, now: Tick) -> Vec<SessionId> {
        let Some(waiting) = self.waiting.get(&number) else { return Vec::new() };
        let has_run_out = |session: &SessionId| {
            self.sessions.get(session).is_none_or(|holder| now >= holder.renewed.after(SHARED_LEASE_TERM))
        };
        let late: Vec<SessionId> = waiting.sessions.iter().copied().filter(has_run_out).collect();
        for &session in &late {
            self.forget_all(session);
            self.confirm_one(session, number);
        }
        late
    }

    /// Leases out at present.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nobody takes part.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
