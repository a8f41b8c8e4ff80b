//! Six chunk servers, three masters and three mounts suffer faults of every kind at random while programs work: no byte is
//! wrong, nothing acknowledged is lost, no program sees an error that the semantics do not name, and two minutes after the
//! last fault the cluster is as sound as before.
//!
//! `CAIRN_ORDEAL_SECONDS` says how long it may take in all (300), `CAIRN_SEED` which schedule it is.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::load::number;
use cairn_tests::ordeal::crew::{self, Crew};
use cairn_tests::ordeal::programs::bulk::BulkProgram;
use cairn_tests::ordeal::programs::published::PublishedProgram;
use cairn_tests::ordeal::programs::shared_log::SharedLogProgram;
use cairn_tests::ordeal::programs::tree::TreeProgram;
use cairn_tests::ordeal::schedule::{Planned, schedule};
use cairn_tests::ordeal::stage::{MOUNTS, Stage};
use cairn_tests::ordeal::strike::Cure;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// In all, unless told otherwise: the start, faults, healing and verification.
const SECONDS: u64 = 300;
/// Of these, what is left for everything but the faults.
const SECONDS_BESIDE_FAULTS: u64 = 75;
/// The requirement: sound so long after the last fault.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
/// A program that gets nothing done for so long hangs: no fault lasts for so long.
const STALL_MAX: Duration = Duration::from_secs(120);
/// Before a fault is tried that could not happen before, and how often it is.
const PAUSE: Duration = Duration::from_secs(2);
const MAKE_UP_TRIES: u32 = 5;
const TICK: Duration = Duration::from_millis(20);

/// What has happened so far.
#[derive(Default)]
struct Report {
    hits: BTreeMap<&'static str, u32>,
    skipped: Vec<&'static str>,
    history: Vec<String>,
}

fn begin_programs(stage: &Stage, seed: u64) -> Crew {
    let mut crew = Crew::new(stage.losses.clone());
    for number in 1..=MOUNTS.len() {
        let other = number % MOUNTS.len() + 1;
        let (mount, reader) = (stage.mount_point(number), stage.mount_point(other));
        let own = || vec![stage.life(number)];
        let seed = seed ^ (number as u64) << 32;
        for (name, seed) in [(format!("tree-{number}a"), seed), (format!("tree-{number}b"), seed + 1)] {
            crew.start(Box::new(TreeProgram::new(&mount, &name, seed).unwrap()), number, own());
        }
        let name = format!("bulk-{number}");
        crew.start(Box::new(BulkProgram::new(&mount, &name, seed + 2).unwrap()), number, own());
        let name = format!("published-{number}");
        let published = PublishedProgram::new(&mount, &reader, &name, seed + 3).unwrap();
        crew.start(Box::new(published), number, vec![stage.life(number), stage.life(other)]);
        crew.start(Box::new(SharedLogProgram::new(&mount, number as u8)), number, own());
    }
    crew
}

/// Lets things go on for a while, or until somebody has failed.
fn go_on(stage: &mut Stage, crew: &Crew, until: Instant) {
    loop {
        stage.tend();
        if let Some(name) = crew.failed() {
            panic!("{name} has failed");
        }
        let stuck = crew.stuck(STALL_MAX);
        assert!(stuck.is_empty(), "stuck: {stuck:?}");
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
    }
}

fn suffer(stage: &mut Stage, crew: &Crew, plan: &[Planned], report: &mut Report) {
    let begun = Instant::now();
    let mut under_way: Vec<(Planned, Cure)> = Vec::new();
    let mut next = plan.iter().copied().peekable();
    loop {
        let ends = under_way.iter().map(|(planned, _)| planned.until).min();
        let begins = next.peek().map(|planned| planned.at);
        let Some(at) = ends.into_iter().chain(begins).min() else { return };
        go_on(stage, crew, begun + at);
        let (over, lasting) = under_way.into_iter().partition(|(planned, _)| planned.until <= at);
        under_way = lasting;
        for (planned, cure) in over {
            stage.cure(planned.fault, cure);
        }
        while let Some(planned) = next.next_if(|planned| planned.at <= at) {
            let now = begun.elapsed().as_secs_f64();
            match stage.strike(planned.fault) {
                Some(cure) => {
                    report.history.push(format!("{now:.1} s: {planned}"));
                    *report.hits.entry(planned.fault.kind()).or_default() += 1;
                    under_way.push((planned, cure));
                }
                None => report.skipped.push(planned.fault.kind()),
            }
        }
    }
}

/// Kinds that could not happen when it was their turn have it now: a disk is replaced only when nothing has its last copy there.
fn make_up(stage: &mut Stage, crew: &Crew, plan: &[Planned], report: &mut Report) {
    for planned in plan {
        let mut tries = 0..MAKE_UP_TRIES;
        while !report.hits.contains_key(planned.fault.kind()) && tries.next().is_some() {
            suffer(
                stage,
                crew,
                &[Planned { at: PAUSE, until: PAUSE + planned.until - planned.at, ..*planned }],
                report,
            );
        }
    }
}

/// Waits until nothing is lacking. Everybody has got something done meanwhile.
fn heal(stage: &mut Stage, crew: &Crew) -> Duration {
    stage.heal_everything();
    let (begun, before) = (Instant::now(), crew.steps());
    let all_went_on = |crew: &Crew| crew.steps().iter().zip(&before).all(|(now, before)| now > before);
    while !all_went_on(crew) {
        assert!(begun.elapsed() < HEALED_WITHIN, "not everybody has gone on: {:?}", crew.stuck(TICK));
        go_on(stage, crew, Instant::now() + TICK);
    }
    println!("everybody has gone on {:.1} s after the last fault", begun.elapsed().as_secs_f64());
    crew.stop();
    loop {
        stage.tend();
        let lacking = stage.lacks();
        if lacking.is_empty() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < HEALED_WITHIN, "not sound: {lacking:?}\n{}", stage.account());
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn verify(stage: &mut Stage, crew: &mut Crew) -> u64 {
    let mut programs = crew.join().unwrap_or_else(|failed| panic!("{failed} failed"));
    let mount = stage.add_fresh_mount();
    let wrong = crew::verify(&mut programs, &mount);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let checked = stage.ask_within("admin fsck", 60);
    assert!(checked.is_some(), "`admin fsck` finds something: {}", stage.account());
    let acknowledged = crew::acknowledged(&programs);
    let sum = acknowledged.values().sum();
    println!("{sum} acknowledged operations: {acknowledged:?}");
    sum
}

fn print_report(report: &Report, crew: &Crew) {
    println!("faults: {:?}, skipped: {:?}", report.hits, report.skipped);
    println!("errors that the semantics name: {}", crew.excused());
    for stall in crew.stalls() {
        let (lasted, ended) = (stall.lasted.as_secs_f64(), stall.ended.as_secs_f64());
        println!(
            "mount {}: longest stall {lasted:.2} s, of {}, until {ended:.1} s",
            stall.mount, stall.program
        );
    }
}

#[test]
fn faults_at_random_cost_nothing_that_was_acknowledged() {
    let seconds = number("CAIRN_ORDEAL_SECONDS").unwrap_or(SECONDS);
    let seed = number("CAIRN_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let span = Duration::from_secs(seconds.saturating_sub(SECONDS_BESIDE_FAULTS).max(20));
    println!("CAIRN_SEED={seed} CAIRN_ORDEAL_SECONDS={seconds}");
    let plan = schedule(seed, span);
    let mut stage = Stage::up();
    let (mut crew, mut report) = (begin_programs(&stage, seed), Report::default());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        suffer(&mut stage, &crew, &plan, &mut report);
        make_up(&mut stage, &crew, &plan, &mut report);
        let healed = heal(&mut stage, &crew);
        println!("sound {:.1} s after the last fault", healed.as_secs_f64());
        verify(&mut stage, &mut crew)
    }));
    print_report(&report, &crew);
    if let Err(failed) = outcome {
        println!("what happened:\n{}", report.history.join("\n"));
        // Whoever waits for a mount is let go.
        crew.stop();
        println!("{}", stage.account());
        stage.take_down();
        drop(crew.join());
        resume_unwind(failed);
    }
    assert!(stage.ended.is_empty(), "{:?}", stage.ended);
    let planned: BTreeMap<_, _> = plan.iter().map(|one| (one.fault.kind(), ())).collect();
    let missing: Vec<_> = planned.keys().filter(|kind| !report.hits.contains_key(*kind)).collect();
    assert!(missing.is_empty(), "never struck: {missing:?}");
}
