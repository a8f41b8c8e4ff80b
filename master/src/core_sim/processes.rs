//! Runs in processes of their own: a seed is one run, and faults that are built in on purpose are found.

use cairn_core::seeded::{Bug, VARIABLE};
use std::process::{Command, Output};

const TEST: &str = "core_sim::seeds::whatever_fails_nothing_acknowledged_is_lost";

/// Seeds that a fault is given to be found in.
const SEEDS_FOR_A_BUG: &str = "24";

/// Faults of the masters that these invariants find. The others are of chunk servers, whose store is a model here, or need
/// what this world does not have.
const FOUND_HERE: [Bug; 18] = [
    Bug::SkipJournalSync,
    Bug::ForgetLastBatch,
    Bug::AnswerBeforeCommit,
    Bug::AnswerWhatWasLost,
    Bug::FollowersAnswerBeforeSync,
    Bug::KeepOverlay,
    Bug::DropARow,
    Bug::ForgetSlotAnswers,
    Bug::ReuseNumbers,
    Bug::ExclusiveCreateOpens,
    Bug::RenameKeepsOldName,
    Bug::FillForgetsJournal,
    Bug::SkipSegmentNameSync,
    Bug::ForgetTruncation,
    Bug::CountUnheardEntries,
    Bug::IgnoreVotePromise,
    Bug::KeepStaleReplica,
    Bug::IgnoreVersion,
];

fn run(seeds: &str, variable: (&str, &str)) -> Output {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args([TEST, "--exact", "--nocapture"]).env("CAIRN_CORE_SEEDS", seeds).env(variable.0, variable.1);
    command.env("RUST_BACKTRACE", "0").env_remove("CAIRN_CORE_SEED").output().unwrap()
}

#[test]
fn a_seed_leaves_the_same_trace_in_every_process() {
    let traces = || {
        let output = String::from_utf8(run("20", ("CAIRN_CORE_TRACES", "1")).stdout).unwrap();
        let mut traces: Vec<String> =
            output.lines().filter(|line| line.starts_with("trace ")).map(str::to_owned).collect();
        traces.sort();
        traces
    };
    let first = traces();
    assert_eq!(first.len(), 20);
    assert_eq!(first, traces());
}

#[test]
fn every_fault_that_is_built_in_is_found() {
    for bug in FOUND_HERE {
        let output = run(SEEDS_FOR_A_BUG, (VARIABLE, &bug.name()));
        let said = String::from_utf8_lossy(&output.stderr);
        let by = said.lines().find_map(|line| line.split_once(": I")).map(|(_, rest)| rest.to_owned());
        println!(
            "{bug:?}: {}",
            by.as_deref().map_or_else(|| "not by an invariant".into(), |by| format!("I{by}"))
        );
        assert!(!output.status.success(), "{bug:?} is not found by {SEEDS_FOR_A_BUG} seeds");
    }
}
