//! The tests of masters catch fish: a fault, built into a process of its own, fails the test that is there for it.

use cairn_core::seeded::{Bug, VARIABLE};
use std::process::Command;

/// A fault, and the test that finds it.
const FOUND_BY: [(Bug, &str); 3] = [
    (Bug::ForgetVote, "raft::group_sim_test::whatever_fails_there_is_one_log_and_one_reader_of_it"),
    (
        Bug::TruncateAtBadChecksum,
        "journal::crash_test::every_damaged_byte_below_the_stated_position_is_reported_and_nothing_is_cut",
    ),
    (Bug::SkipJournalSync, "journal::crash_test::every_acknowledged_entry_survives_every_crash"),
];

#[test]
fn seeded_bugs_are_found() {
    for (bug, test) in FOUND_BY {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", test]).env(VARIABLE, bug.name()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("running 1 test"), "{test} is not there: {said}");
        assert!(said.contains("0 passed; 1 failed"), "{test} does not find {}: {said}", bug.name());
    }
}
