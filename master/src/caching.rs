//! Shared leases at work: who is told of a change, and how long its acknowledgement waits for them.
//!
//! ```text
//!   sequencer: reads wait ─► about_to_change ─► applied: holders, grants ─► tell ─► sessions; rows written ─► reads go on
//!   operation: answer is there ─► believed: every holder has confirmed, or its lease has run out ─► reply
//!   question:  not in change ─► read ─► grant ─► nothing changed meanwhile ─► reply, to be cached
//! ```

use crate::parts::Parts;
use crate::sessions::Session;
use cairn_core::caching::changes::Changes;
use cairn_core::caching::table::{ChangeNumber, Invalidation, SharedLeases};
use cairn_core::error::FsError;
use cairn_core::ids::{InodeId, Sequence, SessionId, SlotId};
use cairn_core::limits::LEASED_READ_ATTEMPTS;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::request::{Query, QueryKind};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_proto::v1::master_message::Message;
use cairn_proto::v1::{ChangedName, Invalidate};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tracing::warn;

/// The leases of this leader, shared by the sequencer, which changes things, and the sessions, which read them.
#[derive(Debug, Default)]
pub struct Caching {
    state: Mutex<State>,
    /// Counts changes: moved on before holders are looked for, and after reads have begun to wait for the rows, so that a
    /// reader who registers and then finds it unmoved has read what the next change will be told against.
    changes: AtomicU64,
    /// Something was confirmed, or a session has gone.
    progress: Notify,
    /// Somebody is to be told.
    pub(crate) news: Notify,
    /// Held while telling: each session hears in the order of numbers.
    telling: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    leases: SharedLeases,
    /// By slot, what its last operation did.
    done: BTreeMap<(SessionId, SlotId), Done>,
    /// Invalidations to be sent.
    outgoing: Vec<(SessionId, Invalidation)>,
}

/// What an operation did.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    sequence: Sequence,
    /// Who must confirm it first.
    waits_for: Option<ChangeNumber>,
    /// For its own client.
    pub(crate) changes: Arc<Changes>,
    /// Its client holds all of it.
    pub(crate) leased: bool,
}

impl Caching {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of leases by sessions.
    fn leases<T>(&self, act: impl FnOnce(&mut SharedLeases) -> T) -> T {
        let outcome = act(&mut self.state().leases);
        self.progress.notify_waiters();
        outcome
    }

    /// This master begins to lead: `sessions` may hold leases of its predecessor.
    pub(crate) fn inherit(&self, sessions: impl IntoIterator<Item = SessionId>, now: Tick) {
        let mut state = self.state();
        state.leases.inherit(sessions, now);
        state.done.clear();
    }

    /// A stream of the session begins; `caching` as it wishes. What it held before it has forgotten.
    pub(crate) fn attach(&self, session: SessionId, caching: bool, now: Tick) {
        self.leases(|leases| leases.attach(session, caching, now));
    }

    /// The session is no more.
    pub(crate) fn end(&self, session: SessionId) {
        self.leases(|leases| leases.end(session));
        self.state().done.retain(|(of, _), _| *of != session);
    }

    /// Another term for the session, unless it owes a confirmation.
    pub(crate) fn renew(&self, session: SessionId, now: Tick) -> bool {
        self.state().leases.renew(session, now)
    }

    /// It has confirmed everything up to `number`.
    pub(crate) fn confirmed(&self, session: SessionId, number: u64) {
        self.leases(|leases| leases.confirmed(session, ChangeNumber(number)));
    }

    /// It has dropped these, or everything.
    pub(crate) fn forget(&self, session: SessionId, inodes: Vec<u64>, everything: bool) {
        self.leases(|leases| match everything {
            true => leases.forget_all(session),
            false => leases.forget(session, inodes.into_iter().map(InodeId)),
        });
    }

    /// Whether anybody wants to know what is applied.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.state().leases.is_empty()
    }

    /// Reads from now on wait for the rows of some entries. Called by the sequencer before it looks for holders.
    pub(crate) fn about_to_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// One of those entries: who holds what it changes is to be told.
    pub(crate) fn applied(&self, origin: Option<(SessionId, SlotId, Sequence)>, changes: Changes, now: Tick) {
        let mut state = self.state();
        let session = origin.map(|(session, ..)| session);
        let told = state.leases.applied(session, &changes, now);
        let waits_for = told.first().map(|(_, invalidation)| invalidation.number);
        if waits_for.is_some() {
            state.outgoing.extend(told);
            self.news.notify_one();
        }
        let Some((session, slot, sequence)) = origin else { return };
        let living: Vec<InodeId> =
            changes.inodes.iter().filter(|(_, attr)| attr.is_some()).map(|(inode, _)| *inode).collect();
        let leased = state.leases.grant(session, &living);
        let done = Done { sequence, waits_for, changes: Arc::new(changes), leased };
        state.done.insert((session, slot), done);
    }

    /// Until when nothing of these may be shown, as far as nobody confirms before: somebody may still believe what was before a
    /// change. Which changes of an earlier leader were confirmed is not known: as long as its leases may last, nothing is shown.
    pub(crate) fn hidden_until(&self, inodes: &[InodeId], now: Tick) -> Option<Tick> {
        let (inherited_until, in_change) = {
            let state = self.state();
            (state.leases.inherited_until(now), state.leases.in_change(inodes))
        };
        inherited_until.filter(|_| !inodes.is_empty()).or_else(|| self.unconfirmed_until(in_change?, now))
    }

    /// Until when an operation may not be acknowledged, as far as nobody confirms before; `None`: it may.
    pub(crate) fn held_until(&self, done: Option<&Done>, now: Tick) -> Option<Tick> {
        if let Some(until) = self.state().leases.inherited_until(now) {
            return Some(until);
        }
        if is_planted(Bug::AnswerBeforeInvalidation) {
            return None;
        }
        self.unconfirmed_until(done.and_then(|done| done.waits_for)?, now)
    }

    /// Until when a change is believed by nobody at the latest; `None`: by nobody now. Leases that have run out end here.
    fn unconfirmed_until(&self, number: ChangeNumber, now: Tick) -> Option<Tick> {
        loop {
            let deadline = self.state().leases.deadline(number)?;
            if now < deadline {
                return Some(deadline);
            }
            for session in self.leases(|leases| leases.expire(number, now)) {
                warn!(%session, "a client did not confirm an invalidation: its leases have run out");
            }
        }
    }

    /// Counts changes: see [`Caching::grant_unchanged`].
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// The session is answered about `told_of`, as read after there had been `before` changes. Whether it holds all of that from
    /// now on; `None` when something has changed meanwhile: then the answer may be shown, but not believed.
    pub(crate) fn grant_unchanged(
        &self,
        session: SessionId,
        told_of: &[InodeId],
        before: u64,
    ) -> Option<bool> {
        let granted = !told_of.is_empty() && self.state().leases.grant(session, told_of);
        (!granted || self.changes() == before).then_some(granted)
    }

    /// Who has not confirmed changes of `inode`: since when, and until when at most.
    pub(crate) fn owed(&self, inode: InodeId) -> Vec<(SessionId, Tick, Tick)> {
        self.state().leases.owed(inode)
    }

    /// Until when clients of the former leader may believe what it told them.
    pub(crate) fn inherited_until(&self, now: Tick) -> Option<Tick> {
        self.state().leases.inherited_until(now)
    }

    /// Invalidations that were not sent yet.
    pub(crate) fn take_outgoing(&self) -> Vec<(SessionId, Invalidation)> {
        std::mem::take(&mut self.state().outgoing)
    }

    /// What the operation in this slot did, if it did anything.
    pub(crate) fn done(&self, session: SessionId, slot: SlotId, sequence: Sequence) -> Option<Done> {
        self.state().done.get(&(session, slot)).filter(|done| done.sequence == sequence).cloned()
    }
}

/// Waits until nobody believes any more what was before the operation: then it may be acknowledged.
pub(crate) async fn believed(parts: &Parts, done: Option<&Done>) {
    wait_while(parts, |now| parts.caching.held_until(done, now)).await;
}

/// Waits until nobody believes any more what was before any of the changes made so far: an answer that changes nothing tells of them.
pub(crate) async fn all_believed(parts: &Parts) {
    let unconfirmed = parts.caching.state().leases.unconfirmed();
    for number in unconfirmed {
        confirmed(parts, number).await;
    }
}

async fn confirmed(parts: &Parts, number: ChangeNumber) {
    wait_while(parts, |now| parts.caching.unconfirmed_until(number, now)).await;
}

/// Waits while `held` names a time to look again.
async fn wait_while(parts: &Parts, held: impl Fn(Tick) -> Option<Tick>) {
    loop {
        let progress = parts.caching.progress.notified();
        let Some(until) = held(parts.now()) else { return };
        // In time or not: the next round looks at what has become of it.
        drop(tokio::time::timeout(until.since(parts.now()), progress).await);
    }
}

/// Sends what the sequencer has found to be told. A session that cannot be reached is cut off: it comes back with nothing.
pub(crate) fn tell(parts: &Parts) {
    let _order = parts.caching.telling.lock().unwrap_or_else(PoisonError::into_inner);
    for (session, invalidation) in parts.caching.take_outgoing() {
        let name =
            |(parent, name): (InodeId, bytes::Bytes)| ChangedName { parent: parent.get(), name, inode: 0 };
        let message = Message::Invalidate(Invalidate {
            number: invalidation.number.0,
            inodes: invalidation.inodes.iter().map(|inode| inode.get()).collect(),
            names: invalidation.names.into_iter().map(name).collect(),
        });
        if let Some(session) = parts.sessions.get(session)
            && !session.push(message)
        {
            session.cut();
        }
    }
}

/// Tells whom internal commands concern; those of clients tell themselves.
pub(crate) async fn tell_in_background(parts: Arc<Parts>) {
    loop {
        parts.caching.news.notified().await;
        tell(&parts);
    }
}

/// Answers a question; true when all that the answer tells of is held by the session from now on.
pub(crate) async fn read(
    parts: &Parts,
    session: &Session,
    question: &Query,
) -> (Result<Answer, FsError>, bool) {
    let caching = &parts.caching;
    let named = named(&question.kind);
    let mut attempts = 0;
    loop {
        // What is not acknowledged yet is not shown either, lest a third party learns it before the second.
        wait_while(parts, |now| caching.hidden_until(&named, now)).await;
        let before = caching.changes();
        let outcome = parts.reader.query(session.id, question).await;
        let told_of = told_of(&question.kind, &outcome);
        if caching.hidden_until(&told_of, parts.now()).is_some() {
            wait_while(parts, |now| caching.hidden_until(&told_of, now)).await;
            continue;
        }
        attempts += 1;
        match caching.grant_unchanged(session.id, &told_of, before) {
            Some(granted) => return (outcome, granted),
            None if attempts == LEASED_READ_ATTEMPTS => return (outcome, false),
            None => {}
        }
    }
}

/// The inodes that a question names.
pub(crate) fn named(kind: &QueryKind) -> Vec<InodeId> {
    match kind {
        QueryKind::Lookup { parent, .. } | QueryKind::Neighbours { parent, .. } => vec![*parent],
        QueryKind::LookupParent { inode }
        | QueryKind::GetAttr { inode }
        | QueryKind::ReadLink { inode }
        | QueryKind::Access { inode, .. }
        | QueryKind::GetXattr { inode, .. }
        | QueryKind::ListXattr { inode }
        | QueryKind::ReadDir { inode, .. }
        | QueryKind::Map { inode, .. } => vec![*inode],
        QueryKind::Locate { .. } | QueryKind::StatFs => Vec::new(),
    }
}

/// The inodes that an answer tells of, as far as a client may cache it.
pub(crate) fn told_of(kind: &QueryKind, outcome: &Result<Answer, FsError>) -> Vec<InodeId> {
    match (kind, outcome) {
        (QueryKind::Lookup { parent, .. }, Ok(Answer::Entry { attr, .. })) => vec![*parent, attr.inode],
        (QueryKind::Lookup { parent, .. }, Err(FsError::NotFound)) => vec![*parent],
        (QueryKind::GetAttr { .. }, Ok(Answer::Attr(attr))) => vec![attr.inode],
        (QueryKind::Map { .. }, Ok(Answer::Map(map))) => {
            map.attr.as_ref().map(|attr| attr.inode).into_iter().collect()
        }
        (
            QueryKind::ReadDir { inode, with_attrs: true, .. } | QueryKind::Neighbours { parent: inode, .. },
            Ok(Answer::Directory { entries, .. }),
        ) => {
            let attrs = entries.iter().filter_map(|entry| entry.attr.as_ref());
            std::iter::once(*inode).chain(attrs.map(|attr| attr.inode)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::limits::SHARED_LEASE_TERM;
    use std::time::Duration;

    #[test]
    fn a_new_leader_shows_nothing_that_sessions_of_the_former_may_not_know() {
        let (now, held) = (Tick(Duration::from_secs(100)), [InodeId(7)]);
        let caching = Caching::default();
        caching.inherit([SessionId(1), SessionId(2)], now);
        caching.attach(SessionId(1), true, now);
        let until = now.after(SHARED_LEASE_TERM);
        assert_eq!(caching.hidden_until(&held, now), Some(until), "the other one may still believe what was");
        assert_eq!(caching.hidden_until(&held, until), None);
        caching.attach(SessionId(2), true, now);
        assert_eq!(caching.hidden_until(&held, now), None, "nobody believes anything");
    }
}
