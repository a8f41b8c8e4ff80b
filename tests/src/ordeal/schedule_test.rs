//! Schedules: the same from the same seed, complete, and never more at a time than is borne.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::{Fault, schedule};
use std::collections::BTreeSet;
use std::time::Duration;

const ORDINARY: Duration = Duration::from_secs(225);

fn is_at_servers(fault: Fault) -> bool {
    let kind = fault.kind();
    kind.contains("server") || kind.contains("disk")
}

#[test]
fn a_seed_means_one_schedule() {
    assert_eq!(schedule(7, ORDINARY), schedule(7, ORDINARY));
    assert_ne!(schedule(7, ORDINARY), schedule(8, ORDINARY));
}

#[test]
fn an_ordinary_run_has_every_kind_of_fault() {
    let kinds = |seed| schedule(seed, ORDINARY).iter().map(|one| one.fault.kind()).collect::<BTreeSet<_>>();
    let all: BTreeSet<_> = (0..1000).flat_map(kinds).collect();
    assert_eq!(all.len(), 23);
    for seed in 0..1000 {
        let missing: Vec<_> = all.difference(&kinds(seed)).copied().collect();
        assert!(missing.is_empty(), "seed {seed}: without {missing:?}");
    }
}

#[test]
fn servers_suffer_one_fault_at_a_time() {
    for seed in 0..100 {
        let all = schedule(seed, ORDINARY);
        let at_servers: Vec<_> = all.iter().filter(|one| is_at_servers(one.fault)).collect();
        assert!(at_servers.windows(2).all(|pair| pair[1].at >= pair[0].until + Duration::from_secs(2)));
    }
}
