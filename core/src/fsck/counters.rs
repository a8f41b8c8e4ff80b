//! K: numbers were given by their counters, and the totals that are made of them are right.

use super::Looked;
use super::finding::{Findings, rules};
use super::keys::Table;
use super::row::Row;
use super::state::{Interrupted, State};

pub(super) fn check(state: &State<'_>, looked: &Looked, findings: &mut Findings) -> Result<(), Interrupted> {
    let tables = [
        (1, "inode", Table::Inode),
        (2, "chunk", Table::Chunk),
        (3, "session", Table::Session),
        (4, "chunk server", Table::Server),
        (7, "policy", Table::Policy),
    ];
    for (counter, what, table) in tables {
        let highest = match state.last(table)? {
            Some(Row::Inode(row)) => row.inode,
            Some(Row::Chunk(row)) => row.chunk,
            Some(Row::Session { session, .. }) => session,
            Some(Row::Server { server, .. }) => u64::from(server),
            Some(Row::Policy { policy, .. }) if policy > 0 => u64::from(policy),
            _ => continue,
        };
        below(state, counter, what, highest, findings)?;
    }
    for (next, gone, table, what) in [(1, 5, "INODE", "inodes"), (2, 6, "CHUNK", "chunks")] {
        let stored = number(state, next)?.saturating_sub(1).saturating_sub(number(state, gone)?);
        findings.equal(rules::K2, format_args!("number of {what}"), "stored", stored, looked.of(table));
    }
    Ok(())
}

/// K1 for one number in use.
pub(super) fn below(
    state: &State<'_>,
    counter: u8,
    what: &str,
    used: u64,
    findings: &mut Findings,
) -> Result<(), Interrupted> {
    let next = number(state, counter)?;
    findings.expect(
        used < next,
        rules::K1,
        format_args!("{what} {used}"),
        format_args!("the next one given would be {next}"),
    );
    Ok(())
}

fn number(state: &State<'_>, counter: u8) -> Result<u64, Interrupted> {
    let key = [&Table::Counter.head()[..], &[counter]].concat();
    Ok(match state.get(&key)? {
        Some(Row::Counter { number, .. }) => number,
        _ => 0,
    })
}
