//! A group of one elects itself at once, commits what it has synced, and goes on after a restart; a leader of several knows at any
//! moment who is there.

use super::{Group, GroupConfig};
use crate::journal::{Journal, JournalConfig, LogEntry};
use bytes::Bytes;
use cairn_core::ids::{LogIndex, NodeId};
use cairn_core::limits::{RAFT_ELECTION_TICKS_MAX, RAFT_TICK};
use cairn_core::time::Tick;
use cairn_env::disk_sim::SimDisk;
use cairn_env::random::SeededRandom;
use std::sync::Arc;

fn open(disk: &SimDisk, applied: u64, voters: &[u64]) -> Group {
    open_as(1, disk, applied, voters)
}

fn open_as(id: u64, disk: &SimDisk, applied: u64, voters: &[u64]) -> Group {
    let random = Arc::new(SeededRandom::new(applied + 6 + id));
    let config = JournalConfig {
        directory: "/journal".into(),
        node: NodeId::default(),
        segment_bytes: 64 << 10,
        keep_bytes: 0,
        cache_bytes: 1 << 10,
    };
    let journal = Journal::open(Arc::new(disk.clone()), random.clone(), config).unwrap();
    let voters = voters.to_vec();
    let config = GroupConfig { id, voters, learners: Vec::new(), applied: LogIndex(applied) };
    Group::open(&config, journal, random, Tick::default()).unwrap()
}

fn settle(group: &mut Group) -> Vec<LogEntry> {
    let mut committed = Vec::new();
    while group.wants_settling() {
        let settled =
            group.settle(Tick::default(), |_| panic!("a group of one has nobody to talk to")).unwrap();
        if let Some(last) = settled.last() {
            group.applied(last.id.index);
        }
        committed.extend(settled);
    }
    committed
}

fn data(committed: &[LogEntry]) -> Vec<Bytes> {
    committed.iter().map(|entry| entry.data.clone()).filter(|data| !data.is_empty()).collect()
}

#[test]
fn a_group_of_one_leads_at_once_and_commits_with_one_fdatasync() {
    let disk = SimDisk::new();
    let mut group = open(&disk, 0, &[1]);
    assert!(group.leads());
    settle(&mut group);
    let proposals: Vec<Bytes> = (0..100u8).map(|number| Bytes::from(vec![number; 20])).collect();
    let syncs = disk.syncs();
    let first = group.propose(proposals.clone()).unwrap();
    assert_eq!(first, LogIndex(2), "the first entry of a term is the leader's own");
    assert_eq!(data(&settle(&mut group)), proposals);
    assert_eq!(disk.syncs(), syncs + 1, "one fdatasync for everything queued");
}

#[test]
fn a_restart_replays_what_the_state_lacks_in_a_new_term() {
    let disk = SimDisk::new();
    let mut group = open(&disk, 0, &[1]);
    settle(&mut group);
    let term = group.term();
    for number in 0..200u8 {
        group.propose(vec![Bytes::from(vec![number; 300])]).unwrap();
        settle(&mut group);
    }
    drop(group);
    let mut group = open(&disk.crash_image(3), 51, &[1]);
    assert!(group.leads() && group.term() > term);
    let replayed = data(&settle(&mut group));
    assert_eq!(replayed.len(), 150);
    assert_eq!(replayed[0], Bytes::from(vec![50u8; 300]));
}

#[test]
fn a_member_of_three_neither_leads_nor_proposes_alone() {
    let disk = SimDisk::new();
    let mut group = open(&disk, 0, &[1, 2, 3]);
    assert!(!group.leads());
    assert!(group.propose(vec![Bytes::from_static(b"x")]).is_none());
    for _ in 0..100 {
        group.tick(Tick::default());
        while group.wants_settling() {
            assert!(group.settle(Tick::default(), drop).unwrap().is_empty());
        }
    }
    assert!(!group.leads());
}

/// Lets everybody say what there is to say.
fn talk(groups: &mut [Group], now: Tick) {
    loop {
        let mut said = Vec::new();
        for group in groups.iter_mut() {
            while group.wants_settling() {
                let committed = group.settle(now, |messages| said.extend(messages)).unwrap();
                if let Some(last) = committed.last() {
                    group.applied(last.id.index);
                }
            }
        }
        if said.is_empty() {
            return;
        }
        for message in said {
            groups[message.to as usize - 1].step(message, now).unwrap();
        }
    }
}

/// Also right after raft-rs has looked for its quorum, when it takes everybody for silent until the next answer.
#[test]
fn a_leader_knows_at_any_moment_who_is_there() {
    let mut groups: Vec<Group> = (1..=3).map(|id| open_as(id, &SimDisk::new(), 0, &[1, 2, 3])).collect();
    let (mut now, mut led_for) = (Tick::default(), 0);
    for _ in 0..8 * RAFT_ELECTION_TICKS_MAX {
        now = now.after(RAFT_TICK);
        groups.iter_mut().for_each(|group| group.tick(now));
        if let Some(leader) = groups.iter().find(|group| group.leads()) {
            led_for += 1;
            let followers = leader.followers();
            assert!(
                led_for < 5 || followers.iter().all(|follower| follower.active),
                "{led_for}: {followers:?}"
            );
        }
        talk(&mut groups, now);
    }
    assert!(led_for > 3 * RAFT_ELECTION_TICKS_MAX);
    let leader = groups.iter_mut().find(|group| group.leads()).unwrap();
    let silent = now.after(RAFT_TICK * RAFT_ELECTION_TICKS_MAX as u32);
    leader.tick(silent);
    assert!(leader.followers().iter().all(|follower| !follower.active));
}
