//! H: what sessions hold.

use super::finding::{Findings, rules};
use super::keys::Table;
use super::row::Row;
use super::state::{Interrupted, State};
use crate::limits::SESSION_SLOTS;

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    leases(state, findings)?;
    session_leases(state, findings)?;
    chunks(state, findings)?;
    slots(state, findings)
}

/// H1 from the side of the leases, with the marks that stand beside them in the order of keys.
fn leases(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut marks = state.table(Table::LeasedChunk);
    let mut rows = state.table(Table::Lease);
    loop {
        let row = rows.next()?;
        let leased = match row {
            Some(Row::Lease { inode, .. }) => inode,
            Some(_) => continue,
            None => u64::MAX,
        };
        let mut counted = 0_u64;
        while let Some(mark) =
            marks.next_if(|row| matches!(row, Row::LeasedChunk { inode, .. } if *inode <= leased))?
        {
            let Row::LeasedChunk { inode, chunk } = mark else { continue };
            counted += u64::from(inode == leased);
            let object = format!("inode {inode}");
            findings.expect(inode == leased && row.is_some(), rules::H1, &object, "marks without a lease");
            let own = matches!(
                state.get(&Table::Chunk.key(chunk))?,
                Some(Row::Chunk(row)) if row.inode == inode && row.owner == 0
            );
            findings.expect(
                own,
                rules::H1,
                &object,
                format_args!("it marks chunk {chunk}, which is not its own"),
            );
        }
        let Some(Row::Lease { inode, session, lease, marks: stored }) = row else { return Ok(()) };
        let object = format!("inode {inode}");
        findings.equal(rules::H1, &object, "marks", stored, counted);
        let lives = state.has(&Table::Session.key(session))?;
        findings.expect(
            lives,
            rules::H1,
            &object,
            format_args!("it is leased to session {session}, which is not there"),
        );
        let indexed = state.has(&Table::SessionLease.key_of_two(session, inode))?;
        findings.expect(
            indexed,
            rules::H1,
            &object,
            format_args!("its lease is not among those of session {session}"),
        );
        match state.get(&Table::Inode.key(inode))? {
            Some(Row::Inode(row)) => {
                findings.equal(rules::H1, &object, "number of its lease", lease, row.lease)
            }
            _ => findings.add(rules::H1, &object, "it is leased, and is not there"),
        }
    }
}

/// H1 from the side of the sessions.
fn session_leases(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::SessionLease);
    while let Some(row) = rows.next()? {
        let Row::SessionLease { session, inode } = row else { continue };
        let agrees = matches!(
            state.get(&Table::Lease.key(inode))?,
            Some(Row::Lease { session: holder, .. }) if holder == session
        );
        let wrong = format!("it is said to have a lease on inode {inode}, and has none");
        findings.expect(agrees, rules::H1, format_args!("session {session}"), wrong);
    }
    Ok(())
}

/// H2, both ways.
fn chunks(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::SessionChunk);
    while let Some(row) = rows.next()? {
        let Row::SessionChunk { session, chunk } = row else { continue };
        let owned =
            matches!(state.get(&Table::Chunk.key(chunk))?, Some(Row::Chunk(row)) if row.owner == session);
        let wrong = format!("it is said to own chunk {chunk}, and does not");
        findings.expect(owned, rules::H2, format_args!("session {session}"), wrong);
    }
    let mut rows = state.table(Table::Chunk);
    while let Some(row) = rows.next()? {
        let Row::Chunk(row) = row else { continue };
        if row.owner == 0 {
            continue;
        }
        let object = format!("chunk {}", row.chunk);
        let lives = state.has(&Table::Session.key(row.owner))?;
        findings.expect(
            lives,
            rules::H2,
            &object,
            format_args!("its owner, session {}, is not there", row.owner),
        );
        let indexed = state.has(&Table::SessionChunk.key_of_two(row.owner, row.chunk))?;
        findings.expect(
            indexed,
            rules::H2,
            &object,
            format_args!("it is not among those of session {}", row.owner),
        );
    }
    Ok(())
}

fn slots(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::Slot);
    while let Some(row) = rows.next()? {
        let Row::Slot { session, slot, answer, .. } = row else { continue };
        let object = format!("slot {slot} of session {session}");
        let lives = state.has(&Table::Session.key(session))?;
        findings.expect(lives, rules::H3, &object, "the session is not there");
        findings.expect(slot < SESSION_SLOTS, rules::H3, &object, "a session has no such slot");
        if let Err(error) = answer {
            findings.add(rules::H3, &object, format_args!("its answer cannot be given again: {error}"));
        }
    }
    Ok(())
}
