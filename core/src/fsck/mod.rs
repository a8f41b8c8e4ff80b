//! The check of a whole state, for operators: `cairn admin fsck`.
//!
//! It repeats the invariants of the namespace in a way of its own: with a decoder of its own ([`decode`], by the drawings in
//! docs/FORMATS.md), its own keys, and without the namespace's view of rows, so that it also finds what the namespace's code
//! has got wrong. `namespace::check` states the same for tests, with the codecs; both must agree.
//!
//! Tables are read in order and side by side; other rows are looked up. What is held beside that is bounded, but for the
//! pieces of maps that are not the default one, and garbage: see `maps`. One pass over the extents counts the references of
//! [`crate::limits::FSCK_CHUNKS_COUNTED`] chunks.

mod chunks;
mod counters;
pub mod decode;
mod every_row;
mod fields;
pub mod finding;
#[cfg(test)]
mod fsck_test;
mod holdings;
mod keys;
mod maps;
mod names;
mod parents;
mod policies;
pub mod row;
mod state;

pub use fields::Unreadable;
pub use finding::{Finding, Findings, Rule, rules};
pub use state::Interrupted;

use crate::namespace::machine::Rows;
use state::State;
use std::collections::BTreeMap;

/// How many rows of each table were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked(pub BTreeMap<&'static str, u64>);

impl Looked {
    /// Rows of one table.
    pub fn of(&self, table: &str) -> u64 {
        self.0.get(table).copied().unwrap_or(0)
    }

    /// All rows.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What does not hold.
    pub findings: Findings,
    /// What was looked at.
    pub looked: Looked,
}

/// Checks a whole state, which must not change meanwhile; asks `goes_on` every now and then whether anybody still wants to know.
///
/// # Errors
/// See [`Interrupted`].
pub fn check(rows: &dyn Rows, goes_on: &dyn Fn() -> bool) -> Result<Report, Interrupted> {
    let state = State::new(rows, goes_on);
    let mut findings = Findings::default();
    let looked = every_row::check(&state, &mut findings)?;
    counters::check(&state, &looked, &mut findings)?;
    names::check(&state, &mut findings)?;
    parents::check(&state, &mut findings)?;
    maps::check(&state, &mut findings)?;
    chunks::check(&state, &mut findings)?;
    holdings::check(&state, &mut findings)?;
    policies::check(&state, &mut findings)?;
    Ok(Report { findings, looked })
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
