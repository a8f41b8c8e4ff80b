//! I11: the same log makes the same state, byte by byte, on every master. (What each counts of itself stands in one row, which is
//! left out.)

use crate::remains::Remains;
use cairn_core::fsck::hex;
use cairn_core::journal::applied::APPLIED_KEY;

/// What is wrong with the states of masters that have applied the same entries.
pub(crate) fn check(masters: &[Remains]) -> Vec<String> {
    let mut broken = Vec::new();
    for (at, one) in masters.iter().enumerate() {
        for other in masters[at + 1..].iter().filter(|other| other.applied == one.applied) {
            let rows = one.state.keys().chain(other.state.keys()).filter(|key| key[..] != APPLIED_KEY);
            let mut differs = rows.filter(|key| one.state.get(*key) != other.state.get(*key));
            if let Some(key) = differs.next() {
                let (mine, others) = (one.id, other.id);
                broken.push(format!("I11: masters {mine} and {others} differ in row {}", hex(key)));
            }
        }
    }
    broken
}
