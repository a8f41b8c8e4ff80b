//! H: what sessions hold.

use super::{Findings, all};
use crate::ids::{InodeId, SessionId};
use crate::limits::{SESSION_SLOTS, SLOT_ANSWER_BYTES_MAX};
use crate::namespace::draft::Draft;
use crate::namespace::machine::Stop;
use crate::namespace::rows::chunk::ChunkKey;
use crate::namespace::rows::inode::InodeKey;
use crate::namespace::rows::lease::{LeaseKey, LeasedChunkKey, SessionChunkKey, SessionLeaseKey};
use crate::namespace::rows::session::{SessionKey, SlotKey};
use crate::session::stored_answer;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    let sessions: BTreeSet<SessionId> = all::<SessionKey>(draft)?.into_iter().map(|(key, _)| key.0).collect();
    check_leases(draft, &sessions, findings)?;
    check_chunks(draft, &sessions, findings)?;
    check_slots(draft, &sessions, findings)
}

/// H1: a lease is a session's, has its index row, the number that the inode gave last, and counts its marks. Marks stand
/// only under leases, on chunks of that file.
fn check_leases(
    draft: &Draft<'_>,
    sessions: &BTreeSet<SessionId>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let mut marks: BTreeMap<InodeId, u32> = BTreeMap::new();
    for (key, _) in all::<LeasedChunkKey>(draft)? {
        *marks.entry(key.inode).or_insert(0) += 1;
        let chunk = draft.get(&ChunkKey(key.chunk))?;
        let own = chunk.is_some_and(|chunk| chunk.inode == key.inode && chunk.owner.get() == 0);
        findings.expect(own, || format!("H1 {key:?} marks a chunk that is not the file's"));
    }
    let leases = all::<LeaseKey>(draft)?;
    for (LeaseKey(inode), lease) in &leases {
        findings.expect(sessions.contains(&lease.session), || {
            format!("H1 {inode} is leased to {}", lease.session)
        });
        let indexed = draft.has(&SessionLeaseKey { session: lease.session, inode: *inode })?;
        findings.expect(indexed, || format!("H1 the lease on {inode} is not among its session's"));
        let given = draft.get(&InodeKey(*inode))?.map(|row| row.lease);
        findings.equal("H1", format!("lease number of {inode}"), Some(lease.lease), given);
        findings.equal("H1", format!("marks of {inode}"), lease.marks, marks.remove(inode).unwrap_or(0));
    }
    findings.expect(marks.is_empty(), || format!("H1 marks without leases: {marks:?}"));
    findings.equal("H1", "SESSION_LEASE rows", all::<SessionLeaseKey>(draft)?.len(), leases.len());
    Ok(())
}

/// H2: chunks that are not attached are exactly those of living sessions.
fn check_chunks(
    draft: &Draft<'_>,
    sessions: &BTreeSet<SessionId>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let held: BTreeSet<_> =
        all::<SessionChunkKey>(draft)?.into_iter().map(|(key, _)| (key.session, key.chunk)).collect();
    let owned = all::<ChunkKey>(draft)?.into_iter().map(|(key, row)| (row.owner, key.0));
    let owned: BTreeSet<_> = owned.filter(|(owner, _)| owner.get() != 0).collect();
    let strangers = owned.iter().find(|(owner, _)| !sessions.contains(owner));
    findings.expect(strangers.is_none(), || format!("H2 {strangers:?} belongs to no session"));
    findings.equal("H2", "chunks of sessions", held, owned);
    Ok(())
}

/// H3: slots belong to sessions, are few, and their answers can be given again.
fn check_slots(
    draft: &Draft<'_>,
    sessions: &BTreeSet<SessionId>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    for (key, slot) in all::<SlotKey>(draft)? {
        let belongs = sessions.contains(&key.session) && key.slot.get() < SESSION_SLOTS;
        findings.expect(belongs, || format!("H3 {key:?} belongs to no session"));
        let readable =
            slot.answer.len() <= SLOT_ANSWER_BYTES_MAX && stored_answer::decode(&slot.answer).is_ok();
        findings.expect(readable, || format!("H3 the answer in {key:?} cannot be given again"));
    }
    Ok(())
}
