//! One run of the whole cluster: faults, then none until everybody has got on, then a look at everything.

use super::cluster::Cluster;
use super::faults::Faults;
use super::hosts::{
    self, CHUNKSERVERS, CLIENTS, MASTERS, Machines, chunkserver, client, master, run_chunkserver, run_master,
};
use super::invariants::{
    i07_one_log, i11_equal_states, i12_no_journal_is_cut, i21_recorded_replicas_are_there,
    i28_everybody_gets_on, i32_fsck_finds_nothing,
};
use super::mover::run_mover;
use super::operator::{Orders, Replacing, run_operator};
use super::oracle::Oracle;
use super::remains::{Remains, replicas};
use super::scrubs::{false_damage, run_scrubs};
use super::workload::{Phase, run_client, verify};
use cairn_env::random::Random;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Simulated time with faults, then without until everybody has done enough more, then to look at everything.
const FAULTY: Duration = Duration::from_secs(60);
const HEALED_MAX: Duration = Duration::from_secs(60);
const VERIFY_MAX: Duration = Duration::from_secs(60);
/// Operations that each client must do after the faults.
const CALM_OPERATIONS: u64 = 20;
const TICK: Duration = Duration::from_millis(2);
pub(crate) const LATENCY_MAX: Duration = Duration::from_millis(4);
/// Time between two faults, at most.
const FAULT_EVERY_MS: u64 = 3000;

/// What one run has come to.
pub(crate) struct Outcome {
    pub(crate) broken: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) open: u64,
    pub(crate) hits: BTreeMap<&'static str, u64>,
    pub(crate) trace: u64,
    pub(crate) simulated: Duration,
}

fn network<'a>(seed: u64) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY_MAX)
        .tcp_capacity(8192)
        .rng_seed(seed)
        .build()
}

fn set_up(cluster: &mut Cluster<'_>, seed: u64, machines: &Machines, oracle: &Oracle, phase: &Arc<Phase>) {
    for id in 1..=MASTERS {
        let machines = machines.clone();
        cluster.add(&master(id), move |env| run_master(env, machines.clone(), id).boxed_local());
    }
    for id in 1..=CHUNKSERVERS {
        let machines = machines.clone();
        cluster.add(&chunkserver(id), move |env| run_chunkserver(env, machines.clone(), id).boxed_local());
    }
    for id in 1..=CLIENTS {
        let (oracle, phase) = (oracle.clone(), phase.clone());
        cluster.add(&client(id), move |env| {
            run_client(env, seed, id, oracle.clone(), phase.clone()).boxed_local()
        });
    }
}

/// One run, from the first start of the cluster to the last look at what it keeps.
pub(crate) fn run(seed: u64) -> Outcome {
    let machines = Machines::new(seed);
    let (oracle, phase, orders) = (Oracle::new(machines.clock().clone()), Arc::default(), Orders::default());
    let mut cluster = Cluster::new(network(seed), machines.clone(), TICK);
    set_up(&mut cluster, seed, &machines, &oracle, &phase);
    let theirs = orders.clone();
    cluster.add("operator", move |env| run_operator(env, theirs.clone()).boxed_local());
    cluster.add("mover", move |env| run_mover(env).boxed_local());
    cluster.add("scrubs", move |env| run_scrubs(env).boxed_local());
    let mut faults = Faults::new(hosts::random(seed, 8), machines.clone(), orders.clone());
    let random = hosts::random(seed, 7);
    let mut next = Duration::from_secs(3);
    while cluster.elapsed() < FAULTY {
        cluster.step();
        faults.heal(&mut cluster, false);
        faults.supervise(&mut cluster);
        if cluster.elapsed() >= next {
            next += Duration::from_millis(100 + random.below(FAULT_EVERY_MS));
            let what = faults.strike(&mut cluster);
            tracing::info!(at = ?cluster.elapsed(), what, "fault");
            oracle.trace(&what);
        }
    }
    faults.heal(&mut cluster, true);
    faults.supervise(&mut cluster);
    tracing::info!(at = ?cluster.elapsed(), "healed");
    settle(&mut cluster, &mut faults, &oracle, &phase, &orders);
    look_at_everything(&mut cluster, &oracle);
    let simulated = cluster.elapsed();
    drop(cluster);
    judge_remains(&machines, &oracle);
    oracle.judge_histories();
    let record = oracle.lock();
    Outcome {
        broken: record.broken.clone(),
        acknowledged: record.acknowledged,
        open: record.open,
        hits: faults.hits.clone(),
        trace: record.trace,
        simulated,
    }
}

fn look_at_everything(cluster: &mut Cluster<'_>, oracle: &Oracle) {
    let looks = oracle.clone();
    cluster.add("verifier", move |env| verify(env, looks.clone()).boxed_local());
    let end = cluster.elapsed() + VERIFY_MAX;
    while !cluster.has_ended("verifier") {
        cluster.step();
        if cluster.elapsed() > end {
            return oracle.break_with("I28: not everything could be looked at".to_owned());
        }
    }
}

/// All processes are gone; their disks are read.
fn judge_remains(machines: &Machines, oracle: &Oracle) {
    let masters = (1..=MASTERS).map(|id| {
        Remains::of(id, &machines.disk(&master(id))).map_err(|why| format!("I32: disk of master {id}: {why}"))
    });
    let (masters, unreadable): (Vec<_>, Vec<_>) = masters.partition(Result::is_ok);
    let masters: Vec<Remains> = masters.into_iter().flatten().collect();
    let held = (1..=CHUNKSERVERS).filter_map(|id| replicas(&machines.disk(&chunkserver(id))).ok()).collect();
    let broken = unreadable.into_iter().filter_map(Result::err);
    let broken = broken
        .chain(i07_one_log::check(&masters))
        .chain(i11_equal_states::check(&masters))
        .chain(i12_no_journal_is_cut::check(&masters))
        .chain(i21_recorded_replicas_are_there::check(&masters, &held))
        .chain(i32_fsck_finds_nothing::check(&masters))
        .chain(false_damage(machines));
    broken.for_each(|wrong| oracle.break_with(wrong));
}

/// I28: after the faults everybody goes on. What was under way may still fail; what is asked later may not.
fn settle(cluster: &mut Cluster<'_>, faults: &mut Faults, oracle: &Oracle, phase: &Phase, orders: &Orders) {
    let (healed, mut is_calm) = (cluster.elapsed(), false);
    loop {
        cluster.step();
        faults.heal(cluster, false);
        faults.supervise(cluster);
        let since = cluster.elapsed() - healed;
        if !is_calm && since > HEALED_MAX / 2 {
            is_calm = true;
            phase.calm.store(true, Ordering::Relaxed);
        }
        let enough =
            (1..=CLIENTS).all(|id| oracle.lock().calm.get(&id).is_some_and(|done| *done >= CALM_OPERATIONS));
        if enough {
            phase.over.store(true, Ordering::Relaxed);
        }
        let replacing = *orders.lock().unwrap();
        if phase.is_quiet() && replacing == Replacing::Nobody {
            return;
        }
        if since > HEALED_MAX {
            let done = oracle.lock().calm.clone();
            return oracle.break_with(i28_everybody_gets_on::at_last(&done, replacing));
        }
    }
}
