//! Masters that the network separates, from each other and from clients, whole or one way: nobody sees an error, nothing
//! acknowledged is lost or done twice, and nothing old is read.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use cairn_tests::history::History;
use cairn_tests::load::{Load, number, report};
use cairn_tests::network::Host;
use cairn_tests::spread::{MASTERS, MOUNTS, Spread, all_but};
use std::time::{Duration, Instant};

/// How long the network stays cut: many elections, and beyond every lease that may be believed.
const CUT: Duration = Duration::from_secs(3);
/// How long it is watched after it has healed.
const AFTERWARDS: Duration = Duration::from_millis(1000);

/// Whom the fault is about.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Leader,
    Standby,
}

/// What the network does not carry.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing from it nor to it.
    CutOff(Whom),
    /// Nothing between it and the other masters.
    CutFromMasters(Whom),
    /// Nothing to it.
    HearsNobody(Whom),
    /// Nothing to it from the other masters.
    HearsNoMaster(Whom),
    /// Nothing from it.
    HeardByNobody(Whom),
    /// Nothing from it to the other masters.
    HeardByNoMaster(Whom),
    /// Nothing between it and another standby on one side, everybody else on the other.
    PairCutOff(Whom),
    /// Nothing between it and the mounts.
    CutFromMounts(Whom),
}

/// What clients meet while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    NoChange,
    AnotherLeads,
    NobodyAnswers,
}

impl Fault {
    fn strike(self, cluster: &mut Spread, leader: Host) {
        let standby = MASTERS.into_iter().find(|master| *master != leader).unwrap();
        let other = MASTERS.into_iter().rfind(|master| *master != leader).unwrap();
        let one = |whom| match whom {
            Whom::Leader => leader,
            Whom::Standby => standby,
        };
        let masters_but = |one: Host| MASTERS.into_iter().filter(|master| *master != one).collect::<Vec<_>>();
        let network = &mut cluster.network;
        match self {
            Self::CutOff(whom) => network.cut_off(&[one(whom)], &all_but(&[one(whom)])),
            Self::CutFromMasters(whom) => network.cut_off(&[one(whom)], &masters_but(one(whom))),
            Self::HearsNobody(whom) => network.cut_ways(&all_but(&[one(whom)]), &[one(whom)]),
            Self::HearsNoMaster(whom) => network.cut_ways(&masters_but(one(whom)), &[one(whom)]),
            Self::HeardByNobody(whom) => network.cut_ways(&[one(whom)], &all_but(&[one(whom)])),
            Self::HeardByNoMaster(whom) => network.cut_ways(&[one(whom)], &masters_but(one(whom))),
            Self::PairCutOff(whom) => {
                let pair = [one(whom), other];
                network.cut_off(&pair, &all_but(&pair));
            }
            Self::CutFromMounts(whom) => network.cut_off(&[one(whom)], &MOUNTS),
        }
    }

    /// What clients meet while it lasts.
    fn consequence(self) -> Consequence {
        match self {
            Self::PairCutOff(_) | Self::CutFromMounts(Whom::Leader) => Consequence::NobodyAnswers,
            Self::CutFromMounts(Whom::Standby) => Consequence::NoChange,
            Self::CutOff(whom)
            | Self::CutFromMasters(whom)
            | Self::HearsNobody(whom)
            | Self::HearsNoMaster(whom)
            | Self::HeardByNobody(whom)
            | Self::HeardByNoMaster(whom) => match whom {
                Whom::Leader => Consequence::AnotherLeads,
                Whom::Standby => Consequence::NoChange,
            },
        }
    }
}

/// A cluster whose masters suffer faults while applications run, and while registers are watched.
struct Trial {
    cluster: Spread,
    load: Load,
    history: History,
    faults: Vec<(Duration, Duration)>,
}

impl Trial {
    fn begin(seed: u64) -> Self {
        let cluster = Spread::up();
        let load = Load::start(cluster.mounts(), seed);
        let history = History::start(cluster.mounts());
        Self { cluster, load, history, faults: Vec::new() }
    }

    /// Lets it happen, heals it, and waits until everybody has gone on. Notes the longest stall, and how long the fault lasted.
    fn suffer(&mut self, fault: Fault) {
        self.load.wait_for_all();
        self.history.wait_for_all();
        let leader = self.cluster.leader();
        self.load.longest();
        let begun = Instant::now();
        fault.strike(&mut self.cluster, leader);
        std::thread::sleep(CUT);
        let during = self.load.longest();
        // A network that carries everything after all would pass the rest.
        match fault.consequence() {
            Consequence::AnotherLeads => assert_ne!(self.cluster.leader(), leader, "{fault:?} does nothing"),
            Consequence::NobodyAnswers => assert!(during > CUT / 2, "{fault:?} does nothing: {during:?}"),
            Consequence::NoChange => {}
        }
        self.history.check();
        self.cluster.network.heal();
        let lasted = begun.elapsed();
        std::thread::sleep(AFTERWARDS);
        self.load.wait_for_all();
        self.history.wait_for_all();
        let stall = self.load.longest().max(during);
        println!(
            "{} {fault:?}, {leader} led, {} leads: longest stall {:.3} s, {:.3} s before it healed",
            self.faults.len(),
            self.cluster.leader(),
            stall.as_secs_f64(),
            during.as_secs_f64()
        );
        self.faults.push((stall, lasted));
    }

    /// Looks at everything that was done. What each stall is to be held against is said by `counted`.
    fn end(self, what: &str, counted: impl Fn((Duration, Duration)) -> Duration) {
        let operations = self.load.finish_and_verify(self.cluster.mounts());
        let (writes, reads) = self.history.finish();
        println!("{what}: {writes} writes and {reads} reads of registers");
        report(what, self.faults.into_iter().map(counted).collect(), operations);
    }
}

/// Each fault in turn, as many rounds as were asked for, else each once.
fn rounds(faults: &[Fault]) -> Vec<Fault> {
    let rounds = number("CAIRN_PARTITIONS").map_or(faults.len(), |rounds| rounds as usize);
    faults.iter().copied().cycle().take(rounds).collect()
}

#[test]
fn a_master_that_is_cut_off_is_noticed_by_nobody() {
    let mut trial = Trial::begin(131);
    let faults = [
        Fault::CutOff(Whom::Leader),
        Fault::CutFromMasters(Whom::Leader),
        Fault::CutOff(Whom::Standby),
        Fault::CutFromMasters(Whom::Standby),
    ];
    rounds(&faults).into_iter().for_each(|fault| trial.suffer(fault));
    trial.end("master cut off", |(stall, _)| stall);
}

#[test]
fn a_master_that_is_cut_off_one_way_is_noticed_by_nobody() {
    let mut trial = Trial::begin(149);
    let faults = [
        Fault::HearsNobody(Whom::Leader),
        Fault::HeardByNobody(Whom::Leader),
        Fault::HearsNoMaster(Whom::Leader),
        Fault::HeardByNoMaster(Whom::Leader),
        Fault::HearsNobody(Whom::Standby),
        Fault::HeardByNobody(Whom::Standby),
    ];
    rounds(&faults).into_iter().for_each(|fault| trial.suffer(fault));
    trial.end("master cut off one way", |(stall, _)| stall);
}

#[test]
fn masters_cut_off_in_pairs_answer_nothing_old_and_go_on_when_they_can() {
    let mut trial = Trial::begin(167);
    let faults = [Fault::PairCutOff(Whom::Leader), Fault::PairCutOff(Whom::Standby)];
    rounds(&faults).into_iter().for_each(|fault| trial.suffer(fault));
    // No majority can be reached: everybody waits, and what counts is how soon they go on.
    trial.end("pair of masters cut off, after it healed", |(stall, lasted)| stall.saturating_sub(lasted));
}

#[test]
fn a_leader_out_of_reach_of_its_clients_is_waited_for() {
    let mut trial = Trial::begin(181);
    let faults = [Fault::CutFromMounts(Whom::Leader), Fault::CutFromMounts(Whom::Standby)];
    rounds(&faults).into_iter().for_each(|fault| trial.suffer(fault));
    trial.end("leader cut from its clients, after it healed", |(stall, lasted)| stall.saturating_sub(lasted));
}
