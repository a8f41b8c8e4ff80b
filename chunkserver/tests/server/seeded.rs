//! The tests of the chunk server catch fish: each fault that the simulated cluster cannot reach, built into a process of its
//! own, fails the test that is there for it.

use cairn_core::seeded::{Bug, VARIABLE};
use std::process::Command;

/// A fault, and the test that finds it.
const FOUND_BY: [(Bug, &str); 2] = [
    (Bug::IgnoreVersion, "commands::a_raised_version_fences_older_frames_and_stale_terms_are_refused"),
    (Bug::IgnoreTerm, "commands::a_raised_version_fences_older_frames_and_stale_terms_are_refused"),
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
