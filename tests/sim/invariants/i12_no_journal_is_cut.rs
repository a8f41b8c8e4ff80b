//! I12: nothing that was synced to a journal is missing from it or damaged; what the disks have done to it was mended.

use crate::remains::Remains;

/// What is wrong with the journals that the masters leave.
pub(crate) fn check(masters: &[Remains]) -> Vec<String> {
    let all = masters.iter().flat_map(|master| master.damages.iter().map(move |damage| (master.id, damage)));
    all.map(|(id, damage)| format!("I12: journal of master {id}: {damage}")).collect()
}
