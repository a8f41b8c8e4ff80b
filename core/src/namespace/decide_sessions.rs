//! Sessions begin, and end in bounded batches.
//!
//! Ending: from the first batch on the session is refused everything. Chunks that it never attached are deleted; its
//! leases end badly; its slots go; last of all its own row. Each batch stands for itself: a successor goes on from it.

use super::act::Act;
use super::machine::Stop;
use super::rows::cluster::CounterKey;
use super::rows::lease::{SessionChunkKey, SessionLeaseKey};
use super::rows::prefix_range;
use super::rows::session::{SessionKey, SessionRow, SlotKey};
use crate::ids::{NodeId, SessionId, SlotId};
use crate::limits::{DESCRIPTION_BYTES_MAX, SESSION_END_BATCH, SESSION_SLOTS};

/// `Internal::OpenSession`.
pub(super) fn open(
    act: &mut Act<'_>,
    secret: [u8; 16],
    node: NodeId,
    description: &str,
) -> Result<SessionId, Stop> {
    let session = SessionId(act.next_number(CounterKey::NextSession)?);
    let mut end = description.len().min(DESCRIPTION_BYTES_MAX);
    while !description.is_char_boundary(end) {
        end -= 1;
    }
    let description = description[..end].to_owned();
    let row = SessionRow { ending: false, secret, node, opened: act.now(), description };
    act.draft.put(&SessionKey(session), &row);
    Ok(session)
}

/// `Internal::EndSession`: one batch. Returns whether more is left.
pub(super) fn end(act: &mut Act<'_>, session: SessionId) -> Result<bool, Stop> {
    let Some(mut row) = act.draft.get(&SessionKey(session))? else { return Ok(false) };
    row.ending = true;
    act.draft.put(&SessionKey(session), &row);
    let mut budget = SESSION_END_BATCH;
    if !release_chunks(act, session, &mut budget)? || !break_leases(act, session, &mut budget)? {
        return Ok(true);
    }
    for slot in 0..SESSION_SLOTS {
        act.draft.delete(&SlotKey { session, slot: SlotId(slot) });
    }
    act.draft.delete(&SessionKey(session));
    Ok(false)
}

/// Deletes chunks that were never attached. Returns whether that is done.
fn release_chunks(act: &mut Act<'_>, session: SessionId, budget: &mut usize) -> Result<bool, Stop> {
    let range = prefix_range::<SessionChunkKey>(&session.get().to_be_bytes());
    let owned = act.draft.scan::<SessionChunkKey>(&range, *budget)?;
    for (key, _) in &owned {
        let row = act.named_chunk(key.chunk)?;
        assert_eq!(row.owner, session, "a session's chunks are its own");
        act.remove_chunk(key.chunk, &row)?;
    }
    *budget -= owned.len();
    Ok(*budget > 0)
}

/// Ends leases badly. Returns whether that is done. One lease may overrun the budget by its marks, which are bounded.
fn break_leases(act: &mut Act<'_>, session: SessionId, budget: &mut usize) -> Result<bool, Stop> {
    let range = prefix_range::<SessionLeaseKey>(&session.get().to_be_bytes());
    for (key, _) in act.draft.scan::<SessionLeaseKey>(&range, *budget)? {
        let work = act.break_lease(key.inode)? + 1;
        *budget = budget.saturating_sub(work);
        if *budget == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
