//! Recall of write leases: asked back once from their holder, taken by force when it does not answer or is gone.

use crate::parts::Parts;
use crate::sessions::Session;
use cairn_core::explain::event::Event;
use cairn_core::ids::{InodeId, LeaseNumber, SessionId};
use cairn_core::limits::{LEASE_RECALL, LEASE_SILENCE_MAX, RECALL_WANTED_MAX, RECALLS_MAX};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::request::OperationKind;
use cairn_core::namespace::work::{LeaseRecord, lease_of};
use cairn_core::time::Tick;
use cairn_proto::v1::Recall;
use cairn_proto::v1::master_message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// Leases that were asked back and have not come.
#[derive(Default)]
pub(crate) struct Recalls {
    asked: Mutex<BTreeMap<InodeId, Asked>>,
}

struct Asked {
    lease: LeaseRecord,
    since: Tick,
    wanted_by: BTreeSet<SessionId>,
}

/// A recall under way, for operators.
pub(crate) struct Recalled {
    pub(crate) lease: LeaseRecord,
    pub(crate) since: Tick,
    /// Who met the lease; some of them, when there are many.
    pub(crate) wanted_by: Vec<SessionId>,
}

impl Recalls {
    /// Notes that `lease` on `inode` is to be asked back. False when that was done before.
    pub(crate) fn begin(&self, inode: InodeId, lease: LeaseRecord, now: Tick) -> bool {
        let mut asked = self.locked();
        match asked.get(&inode) {
            Some(before) if before.lease == lease => false,
            _ if asked.len() >= RECALLS_MAX => false,
            _ => {
                asked.insert(inode, Asked { lease, since: now, wanted_by: BTreeSet::new() });
                true
            }
        }
    }

    /// Leases whose time has run out, or whose holder is gone, and how long they were waited for; they are forgotten here.
    pub(crate) fn run_out(
        &self,
        now: Tick,
        is_gone: impl Fn(SessionId) -> bool,
    ) -> Vec<(InodeId, LeaseRecord, Duration)> {
        let mut asked = self.locked();
        let late: Vec<_> = asked
            .iter()
            .filter(|(_, recall)| now.since(recall.since) >= LEASE_RECALL || is_gone(recall.lease.session))
            .map(|(&inode, recall)| (inode, recall.lease, now.since(recall.since)))
            .collect();
        for (inode, ..) in &late {
            asked.remove(inode);
        }
        late
    }

    /// `session` waits for the lease on `inode`.
    fn want(&self, inode: InodeId, session: SessionId) {
        if let Some(recall) = self.locked().get_mut(&inode)
            && recall.wanted_by.len() < RECALL_WANTED_MAX
        {
            recall.wanted_by.insert(session);
        }
    }

    /// The recall of the lease on `inode`, if one is under way.
    pub(crate) fn of(&self, inode: InodeId) -> Option<Recalled> {
        let asked = self.locked();
        let recall = asked.get(&inode)?;
        let wanted_by = recall.wanted_by.iter().copied().collect();
        Some(Recalled { lease: recall.lease, since: recall.since, wanted_by })
    }

    /// Another lead begins: nothing has been asked by it yet.
    pub(crate) fn begin_anew(&self) {
        self.locked().clear();
    }

    /// Leases of a session that were asked back.
    fn asked_of(&self, session: SessionId) -> Vec<(InodeId, LeaseNumber)> {
        let asked = self.locked();
        let of_session = asked.iter().filter(|(_, recall)| recall.lease.session == session);
        of_session.map(|(&inode, recall)| (inode, recall.lease.lease)).collect()
    }

    pub(crate) fn forget(&self, inode: InodeId, lease: LeaseNumber) {
        let mut asked = self.locked();
        if asked.get(&inode).is_some_and(|recall| recall.lease.lease == lease) {
            asked.remove(&inode);
        }
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<InodeId, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file whose write lease an operation needs free, or its own.
pub(crate) fn leased_file(kind: &OperationKind) -> Option<InodeId> {
    match kind {
        OperationKind::SetAttr { inode, .. }
        | OperationKind::Allocate { inode, .. }
        | OperationKind::AllocateChunks { inode, .. }
        | OperationKind::LeaseFile { inode, .. }
        | OperationKind::Commit { inode, .. } => Some(*inode),
        _ => None,
    }
}

/// An operation met a lease of another session: asks for it, or takes it when its holder is no more. The client that met
/// it tries again in a moment.
pub(crate) async fn conflict(parts: &Parts, inode: InodeId, wanted_by: SessionId) {
    let found = parts.reader.read(move |rows| lease_of(rows, inode)).await;
    let Ok(Some(lease)) = found else { return };
    // Its own lease is not in its way: it waits for a chunk to be reconciled.
    if lease.session == wanted_by {
        return;
    }
    let holder = parts.sessions.get(lease.session).filter(|_| !is_gone(parts, lease.session));
    let Some(holder) = holder else {
        let asked = parts.recalls.of(inode).filter(|recall| recall.lease == lease);
        let waited = asked.map_or(Duration::ZERO, |recall| parts.now().since(recall.since));
        parts.recalls.forget(inode, lease.lease);
        take_by_force(parts, inode, lease, waited).await;
        return;
    };
    if parts.recalls.begin(inode, lease, parts.now()) {
        parts.metrics.recalls.inc();
        holder.push(recall(inode, lease.lease));
    }
    parts.recalls.want(inode, wanted_by);
}

/// Asks a session that has come back for what was asked of it while it was away.
pub(crate) fn ask_again(parts: &Parts, session: &Session) {
    for (inode, lease) in parts.recalls.asked_of(session.id) {
        session.push(recall(inode, lease));
    }
}

fn recall(inode: InodeId, lease: LeaseNumber) -> Message {
    Message::Recall(Recall { inode: inode.get(), lease: lease.get() })
}

/// The holder has flushed and committed what it had, or does not know the lease.
pub(crate) async fn returned(parts: &Parts, session: SessionId, inode: InodeId, lease: LeaseNumber) {
    let found = parts.reader.read(move |rows| lease_of(rows, inode)).await;
    parts.recalls.forget(inode, lease);
    if let Ok(Some(held)) = found
        && held == (LeaseRecord { session, lease })
    {
        take(parts, inode, held).await;
    }
}

/// Takes every lease whose holder has not answered in time.
pub(crate) async fn enforce(parts: &Parts) {
    for (inode, asked, waited) in parts.recalls.run_out(parts.now(), |session| is_gone(parts, session)) {
        let found = parts.reader.read(move |rows| lease_of(rows, inode)).await;
        if matches!(found, Ok(Some(held)) if held == asked) {
            take_by_force(parts, inode, asked, waited).await;
        }
    }
}

/// Whether the session has ended, or was not heard for longer than any stumble takes.
fn is_gone(parts: &Parts, session: SessionId) -> bool {
    parts.sessions.is_gone(session, LEASE_SILENCE_MAX, parts.now())
}

async fn take_by_force(parts: &Parts, inode: InodeId, lease: LeaseRecord, waited: Duration) {
    let session = lease.session;
    warn!(%inode, %session, ?waited, "write lease is taken: its holder did not return it in time");
    parts.events.note(&parts.env, Event::LeaseTaken { inode, session, waited });
    take(parts, inode, lease).await;
}

async fn take(parts: &Parts, inode: InodeId, lease: LeaseRecord) {
    let session = lease.session;
    match parts.sequencer.internal(Internal::TakeLease { inode, lease }).await {
        Ok(_) => parts.nudge(),
        Err(error) => info!(%inode, %session, %error, "write lease could not be taken yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(number: u64) -> LeaseRecord {
        LeaseRecord { session: SessionId(1), lease: LeaseNumber(number) }
    }

    #[test]
    fn a_lease_is_asked_for_once_and_runs_out_once() {
        let recalls = Recalls::default();
        let start = Tick(Duration::from_secs(1));
        assert!(recalls.begin(InodeId(5), lease(1), start));
        assert!(!recalls.begin(InodeId(5), lease(1), start));
        assert!(recalls.run_out(start.after(LEASE_RECALL / 2), |_| false).is_empty());
        assert!(
            recalls.begin(InodeId(5), lease(2), start.after(LEASE_RECALL / 2)),
            "a later lease is asked anew"
        );
        assert!(recalls.run_out(start.after(LEASE_RECALL), |_| false).is_empty());
        let late = start.after(LEASE_RECALL * 2);
        assert_eq!(recalls.run_out(late, |_| false), vec![(InodeId(5), lease(2), LEASE_RECALL * 3 / 2)]);
        assert!(recalls.run_out(late, |_| false).is_empty());
    }

    #[test]
    fn what_was_returned_does_not_run_out() {
        let recalls = Recalls::default();
        recalls.begin(InodeId(5), lease(1), Tick::default());
        recalls.forget(InodeId(5), LeaseNumber(9));
        recalls.forget(InodeId(5), LeaseNumber(1));
        assert!(recalls.run_out(Tick::default().after(LEASE_RECALL * 2), |_| false).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_holder_that_is_gone() {
        let recalls = Recalls::default();
        let start = Tick(Duration::from_secs(1));
        recalls.begin(InodeId(5), lease(1), start);
        assert!(recalls.run_out(start, |_| false).is_empty());
        assert_eq!(
            recalls.run_out(start, |session| session == SessionId(1)),
            vec![(InodeId(5), lease(1), Duration::ZERO)]
        );
        assert!(recalls.run_out(start, |_| true).is_empty());
    }
}
