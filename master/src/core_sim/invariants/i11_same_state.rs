//! I11, I14: equal logs make equal states, to the byte, by whatever way a member came to its state: applied as it came, replayed
//! after a crash, or copied and replayed from there.

use crate::core_sim::canon::Canon;
use crate::sequencer::stepped::Stepped;
use bytes::Bytes;
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::limits::WORK_PAGE;

/// Compares every row, if the member is as far as the log is known.
pub(super) fn check(seed: u64, id: u64, stepped: &Stepped, canon: &Canon) {
    if stepped.applied().last.index.get() != canon.last() {
        return;
    }
    let mut expected = canon.rows().iter();
    let mut from: Vec<u8> = Vec::new();
    stepped.read(|rows| {
        loop {
            let page = rows.scan(&from, &[0xff; 8], WORK_PAGE).unwrap();
            for (key, value) in &page {
                let row = expected.next();
                assert!(
                    row.is_some_and(|row| row == (key, value)),
                    "seed {seed}: I11: after entry {} master {id} has the row {} and should have {}",
                    canon.last(),
                    told((key, value)),
                    row.map_or_else(|| "no more".into(), told)
                );
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == WORK_PAGE) else { break };
            from = [&last[..], &[0]].concat();
        }
    });
    assert!(
        expected.next().is_none(),
        "seed {seed}: I11: after entry {} master {id} lacks rows",
        canon.last()
    );
}

fn told((key, value): (&Bytes, &Bytes)) -> String {
    match Applied::decode(value).filter(|_| **key == APPLIED_KEY) {
        Some(applied) => format!("{applied:?}"),
        None => format!("{} = {}", key.escape_ascii(), value.escape_ascii()),
    }
}
