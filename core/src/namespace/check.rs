//! What holds for every state, whatever happened before: used by tests after every step, by the simulator, and by fsck.
//!
//! Every statement is numbered; a finding begins with its number. The check reads whole tables into memory.
//! - N names and inodes (`names`), M maps (`maps`), C chunks (`chunks`), H what sessions hold (`holdings`), P policies (`policies`).

mod chunks;
mod holdings;
mod maps;
mod names;
mod policies;

use super::draft::{Draft, Found};
use super::machine::{Rows, Stop};
use super::rows::{Key, prefix_range};
use std::fmt;

/// Statements that do not hold.
#[derive(Debug, Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Notes a finding unless `holds`.
    fn expect(&mut self, holds: bool, statement: impl FnOnce() -> String) {
        if !holds {
            self.0.push(statement());
        }
    }

    /// Notes a finding unless both are equal.
    fn equal<T: PartialEq + fmt::Debug>(
        &mut self,
        number: &str,
        what: impl fmt::Display,
        stored: T,
        counted: T,
    ) {
        if stored != counted {
            self.0.push(format!("{number} {what}: stored {stored:?}, counted {counted:?}"));
        }
    }
}

/// Checks a whole state. An empty list means that it is sound.
///
/// # Errors
/// See [`Stop`]: rows that cannot be read or decoded.
pub fn check(rows: &dyn Rows) -> Result<Vec<String>, Stop> {
    let draft = Draft::new(rows);
    let mut findings = Findings::default();
    names::check(&draft, &mut findings)?;
    maps::check(&draft, &mut findings)?;
    chunks::check(&draft, &mut findings)?;
    holdings::check(&draft, &mut findings)?;
    policies::check(&draft, &mut findings)?;
    Ok(findings.0)
}

/// Every row of a table.
fn all<K: Key>(draft: &Draft<'_>) -> Result<Vec<Found<K>>, Stop> {
    const PAGE: usize = 4096;
    let (mut from, to) = prefix_range::<K>(&[]);
    let mut found = Vec::new();
    loop {
        let page = draft.scan::<K>(&(from.clone(), to.clone()), PAGE)?;
        let full = page.len() == PAGE;
        found.extend(page);
        let Some((last, _)) = found.last().filter(|_| full) else { return Ok(found) };
        let mut next = last.encode().to_vec();
        next.push(0);
        from = next.into();
    }
}
