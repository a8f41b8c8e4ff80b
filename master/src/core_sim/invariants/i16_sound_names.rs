//! I16 and what else holds for every state: names, links, maps, chunks and what sessions hold, as `namespace::check` says.

use crate::core_sim::canon::Canon;
use cairn_core::namespace::check::check as findings;

/// Checks the whole state.
pub(super) fn check(seed: u64, canon: &Canon) {
    let found =
        findings(canon).unwrap_or_else(|stop| panic!("seed {seed}: I16: a row cannot be read: {stop}"));
    assert!(found.is_empty(), "seed {seed}: I16: after entry {}: {found:#?}", canon.last());
}
