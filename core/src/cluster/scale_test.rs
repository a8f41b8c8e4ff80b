//! A thousand servers and ten million chunks: what one round of the planner does, how long it takes and what it keeps in memory.

#![allow(
    clippy::disallowed_types,
    reason = "the time is printed for whoever reads it; nothing is decided by it"
)]

use super::labels::Labels;
use super::repair::{Busy, RepairQueue, Replicas, Urgency, Verdict, plan};
use super::{ClusterView, ServerHealth, ServerView};
use crate::ids::{ChunkId, ServerId};
use std::collections::BTreeSet;
use std::sync::Arc;

const SERVERS: u32 = 1000;
const CHUNKS: u64 = 10_000_000;
const RACKS: u32 = 40;

fn view(dead: ServerId) -> ClusterView {
    let server = |number: u32| ServerView {
        health: if ServerId(number) == dead { ServerHealth::Dead } else { ServerHealth::Alive },
        address: format!("host-{number}:1"),
        total_bytes: 100 << 40,
        free_bytes: (40 << 40) + u64::from(number % 97) * (100 << 30),
        leaving_bytes: 0,
        load: u64::from(number % 13),
        draining: false,
        labels: Arc::new(Labels::parse(&[format!("rack={}", number % RACKS)]).unwrap()),
    };
    ClusterView { servers: (1..=SERVERS).map(|number| (ServerId(number), server(number))).collect() }
}

/// Three different servers, as if drawn.
fn set(chunk: u64) -> [ServerId; 3] {
    let mut bits = chunk.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let first = bits % u64::from(SERVERS);
    let second = (first + 1 + (bits >> 20) % 499) % u64::from(SERVERS);
    let third = (first + 500 + (bits >> 40) % 499) % u64::from(SERVERS);
    [first, second, third].map(|number| ServerId(number as u32 + 1))
}

#[test]
fn the_loss_of_one_of_a_thousand_servers_is_planned_in_one_round() {
    let dead = ServerId(1);
    let (view, required) = (view(dead), Labels::none());
    let lost: Vec<u64> = (0..CHUNKS).filter(|&chunk| set(chunk).contains(&dead)).collect();
    assert!((25_000..35_000).contains(&lost.len()), "{}", lost.len());

    let begun = std::time::Instant::now();
    let mut queue = RepairQueue::default();
    for &chunk in &lost {
        let set = set(chunk);
        queue.push(
            Urgency::of(
                Replicas { set: &set, bad: &[], leaving: &[], wanted: 3, required: &required },
                &view,
            ),
            ChunkId(chunk),
        );
    }
    assert_eq!(queue.len(), lost.len(), "what is kept is what is lost");
    let (mut busy, mut repairs, mut waits) = (Busy::default(), Vec::new(), 0_u64);
    while let Some((_, chunk)) = queue.pop() {
        let set = set(chunk.get());
        let replicas = Replicas { set: &set, bad: &[], leaving: &[], wanted: 3, required: &required };
        match plan(&view, &busy, replicas, &[], chunk.get().wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            Verdict::Repair(repair) => {
                busy.begin(&repair);
                repairs.push(repair);
            }
            Verdict::Busy => waits += 1,
            other => panic!("{chunk}: {other:?}"),
        }
    }
    println!(
        "{} chunks of {CHUNKS} planned in {:?}: {} repairs begin, {waits} wait",
        lost.len(),
        begun.elapsed(),
        repairs.len()
    );
    let targets: BTreeSet<ServerId> = repairs.iter().flat_map(|repair| repair.targets.clone()).collect();
    let sources: BTreeSet<ServerId> = repairs.iter().map(|repair| repair.source).collect();
    let share = |servers: &BTreeSet<ServerId>| servers.len() * 100 / (SERVERS as usize - 1);
    assert!(share(&targets) >= 90, "only {} % of the others take part as targets", share(&targets));
    assert!(share(&sources) >= 90, "only {} % of the others take part as sources", share(&sources));
}
