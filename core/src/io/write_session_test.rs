//! The write session against a file of bytes.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize),
    Send(Urgency),
    Settle(usize),
    Requeue(usize),
    Truncate(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let spread = FRAME * 3;
    prop_oneof![
        4 => (0..spread, 1usize..9000).prop_map(|(offset, length)| Step::Write(offset, length)),
        3 => (0..48u64, 1usize..9000).prop_map(|(block, length)| Step::Write(FRAME - 24 * 4096 + block * 4096, length)),
        1 => (0..2u64).prop_map(|frame| Step::Write(frame * FRAME, FRAME as usize)),
        3 => prop_oneof![
            Just(Urgency::WholeFrames),
            Just(Urgency::Everything),
            Just(Urgency::Since(Tick::default()))
        ]
        .prop_map(Step::Send),
        3 => any::<prop::sample::Index>().prop_map(|index| Step::Settle(index.index(1000))),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Requeue(index.index(1000))),
        1 => (0..spread).prop_map(Step::Truncate),
    ]
}

/// Stored bytes as the servers have them, and what the application wrote.
struct World {
    session: WriteSession,
    stored: Vec<u8>,
    wanted: Vec<u8>,
    /// Truncated away while in flight: what is stored there does not matter any more.
    cut: Vec<bool>,
    next: u8,
}

impl World {
    fn seen(&mut self) -> Vec<u8> {
        let mut seen = self.stored.clone();
        let mut last = 0;
        for (offset, bytes) in self.session.overlay(0, seen.len() as u64) {
            assert!(offset >= last, "overlay is in order and does not overlap");
            last = offset + bytes.len() as u64;
            seen[offset as usize..last as usize].copy_from_slice(&bytes);
        }
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_last_write_wins_everywhere(steps in proptest::collection::vec(step(), 1..80)) {
        let size = (FRAME * 4) as usize;
        let mut world = World {
            session: WriteSession::default(), stored: vec![0; size], wanted: vec![0; size], cut: vec![false; size], next: 0,
        };
        for step in steps {
            match step {
                Step::Write(offset, length) => {
                    world.next = world.next.wrapping_add(1);
                    world.session.write(Tick::default(), offset, Bytes::from(vec![world.next; length]));
                    let range = offset as usize..offset as usize + length;
                    world.wanted[range.clone()].fill(world.next);
                    world.cut[range].fill(false);
                }
                Step::Send(urgency) => {
                    let before: Vec<(u64, u64)> = world.session.in_flight.values().map(|job| (job.offset, job.end())).collect();
                    if let Some(job) = world.session.next_job(urgency, |_| true) {
                        prop_assert_eq!(job.offset / FRAME, (job.end() - 1) / FRAME);
                        for (from, to) in before {
                            prop_assert!(block_ceil(to) <= block_floor(job.offset) || block_ceil(job.end()) <= block_floor(from));
                        }
                    }
                }
                Step::Settle(index) => {
                    let offsets: Vec<u64> = world.session.in_flight.keys().copied().collect();
                    if !offsets.is_empty() {
                        let job = world.session.settle(offsets[index % offsets.len()]).unwrap();
                        world.stored[job.offset as usize..job.end() as usize].copy_from_slice(&job.payload);
                    }
                }
                Step::Requeue(index) => {
                    let offsets: Vec<u64> = world.session.in_flight.keys().copied().collect();
                    if !offsets.is_empty() {
                        world.session.requeue(offsets[index % offsets.len()]);
                    }
                }
                Step::Truncate(length) => {
                    world.session.truncate(length);
                    world.cut[length as usize..].fill(true);
                }
            }
            let seen = world.seen();
            let wrong = (0..size).find(|&at| !world.cut[at] && seen[at] != world.wanted[at]);
            prop_assert_eq!(wrong, None);
        }
        let last = world.session.last_write();
        while !world.session.is_idle() {
            while world.session.next_job(Urgency::Everything, |_| true).is_some() {}
            let offset = *world.session.in_flight.keys().next().expect("something could be sent");
            let job = world.session.settle(offset).unwrap();
            world.stored[job.offset as usize..job.end() as usize].copy_from_slice(&job.payload);
        }
        prop_assert!(!world.session.waits_for(last));
        prop_assert_eq!(world.session.bytes_in_flight(), 0);
        let wrong = (0..size).find(|&at| !world.cut[at] && world.stored[at] != world.wanted[at]);
        prop_assert_eq!(wrong, None);
    }
}

#[test]
fn small_writes_leave_as_one_frame() {
    let mut session = WriteSession::default();
    for at in 0..1000u64 {
        session.write(Tick::default(), at * 100, Bytes::from(vec![at as u8; 100]));
    }
    assert!(session.next_job(Urgency::WholeFrames, |_| true).is_none());
    let job = session.next_job(Urgency::Everything, |_| true).unwrap();
    assert_eq!((job.offset, job.payload.len()), (0, 100_000));
    assert!(session.next_job(Urgency::Everything, |_| true).is_none());
}

#[test]
fn a_slot_without_a_chunk_waits() {
    let mut session = WriteSession::default();
    session.write(Tick::default(), CHUNK_BYTES - 10, Bytes::from(vec![1; 20]));
    assert!(session.next_job(Urgency::Everything, |slot| slot == 1).is_none());
    let job = session.next_job(Urgency::Everything, |slot| slot == 0).unwrap();
    assert_eq!((job.offset, job.payload.len(), job.slot()), (CHUNK_BYTES - 10, 10, 0));
    assert!(session.next_job(Urgency::Everything, |slot| slot == 0).is_none());
    assert!(session.waits_for(1));
}
