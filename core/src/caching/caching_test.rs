//! Both sides together.

use super::cache::{Cache, Known};
use super::changes::Changes;
use super::table::{ChangeNumber, Invalidation, SharedLeases};
use crate::ids::{InodeId, LeaseNumber, PolicyId, SessionId};
use crate::limits::{CACHED_ITEMS_MAX, SHARED_LEASE_BELIEF, SHARED_LEASE_TERM};
use crate::namespace::answer::DirectoryEntry;
use crate::namespace::attr::{Attr, AttrChanges, NodeKind, TimeSet};
use crate::namespace::name::Name;
use crate::namespace::request::OperationKind;
use crate::time::{Tick, Timestamp};
use bytes::Bytes;
use std::time::Duration;

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
const DIR: InodeId = InodeId(10);
const FILE: InodeId = InodeId(11);

fn at(millis: u64) -> Tick {
    Tick(Duration::from_millis(millis))
}

fn attr(inode: InodeId, change: u64) -> Attr {
    let time = Timestamp::default();
    Attr {
        inode,
        kind: NodeKind::Regular,
        mode: 0o644,
        uid: 0,
        gid: 0,
        links: 1,
        size: 0,
        mapped_bytes: 0,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        change,
        data_change: 1,
        policy: PolicyId::DEFAULT,
    }
}

fn name() -> Bytes {
    Bytes::from_static(b"n")
}

/// What removing the name does.
fn unlinked() -> Changes {
    Changes {
        inodes: vec![(DIR, Some(attr(DIR, 2))), (FILE, Some(attr(FILE, 2)))],
        names: vec![(DIR, name(), None)],
    }
}

fn table() -> SharedLeases {
    let mut table = SharedLeases::default();
    table.attach(A, true, at(0));
    table.attach(B, true, at(0));
    table
}

fn cache() -> Cache {
    let mut cache = Cache::default();
    cache.renewed(at(1), at(2));
    cache
}

#[test]
fn a_change_waits_for_every_other_holder() {
    let mut table = table();
    assert!(table.grant(A, &[DIR, FILE]) && table.grant(B, &[DIR]));
    let told = table.applied(Some(A), &unlinked(), at(10));
    assert_eq!(told.len(), 1, "not whoever made it");
    let (session, invalidation) = &told[0];
    assert_eq!((*session, &invalidation.inodes, &invalidation.names), (B, &vec![DIR], &vec![(DIR, name())]));
    let number = invalidation.number;
    assert_eq!(table.unconfirmed(), [number]);
    assert_eq!(
        table.in_change(&[FILE, InodeId(99)]),
        Some(number),
        "all that changed, also what B does not hold"
    );
    table.confirmed(B, number);
    assert!(table.unconfirmed().is_empty());
    assert_eq!(table.in_change(&[DIR, FILE]), None);
    assert_eq!(table.applied(Some(A), &unlinked(), at(11)).len(), 1, "B still holds the directory");
}

#[test]
fn nobody_is_told_of_what_it_does_not_hold() {
    let mut table = table();
    table.grant(B, &[DIR, FILE]);
    table.forget(B, [DIR]);
    let told = table.applied(None, &unlinked(), at(1));
    assert_eq!((told.len(), &told[0].1.inodes), (1, &vec![FILE]));
    table.end(B);
    assert!(!table.unconfirmed().contains(&told[0].1.number), "an ended session is waited for no more");
    assert!(table.applied(None, &unlinked(), at(2)).is_empty());
    assert_eq!(table.len(), 0);
}

#[test]
fn an_inode_that_the_master_reclaims_concerns_nobody() {
    let mut table = table();
    table.grant(A, &[DIR, FILE]);
    let reclaimed = Changes { inodes: vec![(FILE, None)], names: Vec::new() };
    assert!(table.applied(None, &reclaimed, at(1)).is_empty());
    assert_eq!(table.len(), 1, "the leases on it are gone all the same");
    table.grant(A, &[FILE]);
    let removed = table.applied(Some(B), &reclaimed, at(2));
    assert_eq!(removed.len(), 1, "a client that removes the last name may still have it open");
}

#[test]
fn a_silent_holder_is_waited_for_until_its_lease_has_run_out() {
    let mut table = table();
    table.grant(B, &[DIR]);
    assert!(table.renew(B, at(100)));
    let number = table.applied(Some(A), &unlinked(), at(200))[0].1.number;
    assert!(table.renew(B, at(300)), "it may not have heard yet");
    assert!(!table.renew(B, at(700)), "no further term before it confirms");
    let deadline = table.deadline(number).unwrap();
    assert_eq!(deadline, at(300).after(SHARED_LEASE_TERM));
    assert!(table.expire(number, Tick(deadline.0 - Duration::from_millis(1))).is_empty());
    assert_eq!(table.expire(number, deadline), vec![B]);
    assert!(!table.unconfirmed().contains(&number));
    assert!(table.applied(Some(A), &unlinked(), at(3000)).is_empty(), "it holds nothing any more");
    assert!(table.renew(B, at(3000)), "and may begin anew");
}

#[test]
fn leases_of_an_earlier_leader_are_respected_for_one_term() {
    let mut table = SharedLeases::default();
    table.inherit([A, B], at(0));
    assert_eq!(table.inherited_until(at(5)), Some(at(0).after(SHARED_LEASE_TERM)));
    table.attach(A, true, at(6));
    assert!(table.inherited_until(at(7)).is_some());
    table.end(B);
    assert_eq!(table.inherited_until(at(7)), None, "all have come back with nothing, or are gone");
    table.inherit([A], at(10));
    assert_eq!(table.inherited_until(at(10).after(SHARED_LEASE_TERM)), None);
}

#[test]
fn what_was_taken_back_on_the_way_is_not_learned() {
    let (mut table, mut cache) = (table(), cache());
    let ticket = cache.ticket();
    table.grant(B, &[DIR, FILE]);
    // The answer was made before the change, and comes after it.
    let told = table.applied(Some(A), &unlinked(), at(10)).remove(0).1;
    assert_eq!(cache.invalidate(&told, at(15)), (vec![], false), "the kernel was told nothing");
    assert!(!cache.learn(ticket, &attr(FILE, 1), None));
    cache.learn_name(ticket, DIR, &name(), Some(FILE));
    assert_eq!(cache.lookup(DIR, &name(), at(20)), None);
    let ticket = cache.ticket();
    assert!(cache.learn(ticket, &attr(FILE, 2), None));
    assert_eq!(cache.attr(FILE, at(20)).unwrap().0.change, 2);
}

#[test]
fn own_changes_are_known_without_asking() {
    let mut cache = cache();
    let ticket = cache.ticket();
    let made = Changes {
        inodes: vec![(DIR, Some(attr(DIR, 1))), (FILE, Some(attr(FILE, 1)))],
        names: vec![(DIR, name(), Some(FILE))],
    };
    cache.own_changes(ticket, &made, true);
    assert_eq!(cache.lookup(DIR, &name(), at(5)), Some(Known::Inode(attr(FILE, 1), None)));
    assert!(cache.believe(&attr(FILE, 1), at(5)) > Duration::ZERO);
    assert_eq!(cache.believe(&attr(FILE, 0), at(5)), Duration::ZERO, "an answer that came late");
    assert!(cache.believe_name(DIR, &name(), Some(FILE), at(5)) > Duration::ZERO);
    assert_eq!(cache.parent(FILE, at(5)), Some(DIR));
    let theirs = Invalidation {
        inodes: vec![FILE, DIR],
        names: vec![(DIR, "other".into())],
        ..Invalidation::default()
    };
    let told = cache.clone().invalidate(&theirs, at(6));
    assert_eq!(told, (vec![FILE], true), "the kernel believes a file, and a name in the directory");
    assert_eq!(cache.clone().invalidate(&theirs, at(5000)), (vec![], false), "and nothing after its time");
    let elsewhere = Invalidation { names: vec![(InodeId(77), "other".into())], ..Invalidation::default() };
    assert_eq!(cache.clone().invalidate(&elsewhere, at(6)), (vec![], false), "of that directory no name");
    let stale = cache.ticket();
    cache.own_changes(cache.ticket(), &unlinked(), true);
    assert_eq!(cache.lookup(DIR, &name(), at(6)), Some(Known::Nothing));
    assert!(!cache.learn(stale, &attr(FILE, 1), None), "asked before, answered after");
    let gone = Changes { inodes: vec![(FILE, None)], names: Vec::new() };
    cache.own_changes(cache.ticket(), &gone, true);
    assert_eq!(cache.attr(FILE, at(7)), None);
}

#[test]
fn two_own_operations_at_once_leave_nothing_uncertain() {
    let mut cache = cache();
    let (first, second) = (cache.ticket(), cache.ticket());
    cache.own_changes(second, &unlinked(), true);
    let made = Changes { inodes: vec![(DIR, Some(attr(DIR, 1)))], names: vec![(DIR, name(), Some(FILE))] };
    cache.own_changes(first, &made, true);
    assert_eq!(cache.lookup(DIR, &name(), at(5)), None, "which came last is not known here");
    assert_eq!(cache.attr(DIR, at(5)), None);
}

#[test]
fn a_directory_made_here_is_known_to_be_empty() {
    let mut cache = cache();
    let ticket = cache.ticket();
    let directory = Attr { kind: NodeKind::Directory, ..attr(DIR, 1) };
    let made = Changes { inodes: vec![(DIR, Some(directory.clone()))], names: Vec::new() };
    cache.own_changes(ticket, &made, true);
    assert_eq!(cache.lookup(DIR, b"any", at(5)), Some(Known::Nothing));
    let created = Changes {
        inodes: vec![(DIR, Some(Attr { size: 1, change: 2, ..directory })), (FILE, Some(attr(FILE, 1)))],
        names: vec![(DIR, name(), Some(FILE))],
    };
    cache.own_changes(cache.ticket(), &created, true);
    assert!(matches!(cache.lookup(DIR, &name(), at(5)), Some(Known::Inode(..))));
    assert_eq!(cache.lookup(DIR, b"other", at(5)), Some(Known::Nothing), "it is still known completely");
    let mut theirs = super::table::Invalidation { number: ChangeNumber(1), ..Default::default() };
    theirs.names.push((DIR, Bytes::from_static(b"theirs")));
    cache.invalidate(&theirs, at(5));
    assert_eq!(cache.lookup(DIR, b"other", at(5)), None, "somebody else adds names");
}

#[test]
fn belief_ends_with_the_term_and_a_lapse_forgets() {
    let mut cache = cache();
    cache.learn(cache.ticket(), &attr(FILE, 1), None);
    let end = at(1).after(SHARED_LEASE_BELIEF);
    assert!(cache.attr(FILE, Tick(end.0 - Duration::from_millis(1))).is_some());
    assert!(cache.attr(FILE, end).is_none());
    let ticket = cache.ticket();
    assert!(cache.renewed(at(5000), at(5001)), "the leader must hear of it");
    assert!(cache.attr(FILE, at(5002)).is_none());
    assert!(!cache.learn(ticket, &attr(FILE, 1), None), "granted under the lapsed lease");
    assert!(!cache.renewed(at(5500), at(5501)));
    assert!(SHARED_LEASE_BELIEF < SHARED_LEASE_TERM);
}

#[test]
fn memory_is_bounded_and_the_leader_hears_what_was_dropped() {
    let mut cache = cache();
    let ticket = cache.ticket();
    for inode in 0..CACHED_ITEMS_MAX as u64 + 1000 {
        cache.learn(ticket, &attr(InodeId(inode + 1), 1), None);
    }
    assert!(cache.len() <= CACHED_ITEMS_MAX);
    let ticket = cache.ticket();
    let dropped = cache.take_dropped(at(5));
    assert_eq!(dropped.len() + cache.len(), CACHED_ITEMS_MAX + 1000);
    assert!(
        !cache.learn(ticket, &attr(dropped[0], 1), None),
        "granted before the leader heard that it was dropped"
    );
    assert!(cache.take_dropped(at(5)).contains(&dropped[0]));
}

fn entry(inode: InodeId, name: &'static str) -> DirectoryEntry {
    let attr = Some(Box::new(attr(inode, 1)));
    DirectoryEntry { name: Bytes::from(name), inode, kind: NodeKind::Regular, cookie: 3, attr, map: None }
}

#[test]
fn a_page_is_believed_but_for_what_was_taken_back_meanwhile() {
    let (one, two) = (InodeId(21), InodeId(22));
    let page = [entry(one, "one"), entry(two, "two")];
    let mut cache = cache();
    let ticket = cache.ticket();
    let taken = Invalidation { number: ChangeNumber(1), inodes: vec![two], names: vec![] };
    cache.invalidate(&taken, at(3));
    assert_eq!(cache.learn_page(ticket, DIR, &page, true), 1);
    assert_eq!(cache.lookup(DIR, b"one", at(4)), Some(Known::Inode(attr(one, 1), None)));
    assert_eq!(cache.lookup(DIR, b"two", at(4)), None, "it changed while the page was on its way");
    assert!(cache.take_ahead(one) && !cache.take_ahead(one), "used for the first time once");
    assert_eq!(cache.place(one), Some((DIR, Bytes::from("one"))));

    let ticket = cache.ticket();
    let renamed =
        Invalidation { number: ChangeNumber(2), inodes: vec![DIR], names: vec![(DIR, "one".into())] };
    cache.invalidate(&renamed, at(5));
    assert_eq!(cache.learn_page(ticket, DIR, &page, true), 0, "names of a directory that changed");
    assert_eq!(cache.lookup(DIR, b"one", at(6)), None);
    assert_eq!(cache.learn_page(cache.ticket(), DIR, &page, false), 2);
    assert!(!cache.take_ahead(two), "somebody has asked for it");
}

#[test]
fn an_overtaken_page_leaves_alone_what_was_heard_later() {
    let mut cache = cache();
    let ticket = cache.ticket();
    let made = Changes {
        inodes: vec![(DIR, Some(attr(DIR, 2))), (FILE, Some(attr(FILE, 1)))],
        names: vec![(DIR, name(), Some(FILE))],
    };
    let own = cache.ticket();
    cache.own_changes(own, &made, true);
    assert_eq!(cache.learn_page(ticket, DIR, &[entry(InodeId(30), "n")], true), 0);
    assert_eq!(cache.lookup(DIR, b"n", at(4)), Some(Known::Inode(attr(FILE, 1), None)));
}

#[test]
fn what_an_own_operation_may_change_is_not_believed_before_its_answer() {
    let mut cache = cache();
    let ticket = cache.ticket();
    cache.learn(ticket, &attr(DIR, 1), None);
    cache.learn(ticket, &attr(FILE, 1), None);
    cache.learn_name(ticket, DIR, &name(), Some(FILE));
    let other = Bytes::from_static(b"other");
    cache.learn_name(ticket, DIR, &other, None);
    let unlink = OperationKind::Unlink { parent: DIR, name: Name::new(name()).unwrap() };
    let operation = cache.begin(&unlink);
    assert_eq!(cache.lookup(DIR, &name(), at(3)), None, "others may have seen that it is gone");
    assert_eq!(cache.attr(FILE, at(3)), None, "its links are counted");
    assert_eq!(cache.lookup(DIR, &other, at(3)), Some(Known::Nothing));
    cache.answered(operation, &Changes::default(), false);
    assert!(cache.lookup(DIR, &name(), at(3)).is_some());
}

#[test]
fn times_set_with_a_commit_are_doubted_as_those_of_setattr() {
    let mut cache = cache();
    cache.learn(cache.ticket(), &attr(FILE, 1), None);
    let commit = |changes| OperationKind::Commit {
        inode: FILE,
        lease: LeaseNumber(1),
        extents: Vec::new(),
        length: 1,
        modified: true,
        release: false,
        changes,
    };
    let bare = cache.begin(&commit(AttrChanges::default()));
    assert!(cache.attr(FILE, at(3)).is_some(), "the author knows more of its bytes than the leader");
    cache.answered(bare, &Changes::default(), false);
    let dated = cache.begin(&commit(AttrChanges { mtime: Some(TimeSet::Now), ..AttrChanges::default() }));
    assert_eq!(cache.attr(FILE, at(3)), None, "others may have seen the time");
    cache.answered(dated, &Changes::default(), false);
    assert!(cache.attr(FILE, at(3)).is_some());
}

#[test]
fn what_an_own_operation_reaches_unseen_is_not_believed_either() {
    let mut cache = cache();
    let ticket = cache.ticket();
    let other = Bytes::from_static(b"other");
    let linked = Attr { links: 2, ..attr(FILE, 1) };
    let single = InodeId(12);
    let teach = |cache: &mut Cache| {
        cache.learn(ticket, &attr(DIR, 1), None);
        cache.learn(ticket, &linked, None);
        cache.learn(ticket, &attr(single, 1), None);
        cache.learn_name(ticket, DIR, &other, Some(FILE));
        cache.learn_name(ticket, DIR, &Bytes::from_static(b"single"), Some(single));
    };
    teach(&mut cache);
    let unlink = OperationKind::Unlink { parent: DIR, name: Name::new(name()).unwrap() };
    let operation = cache.begin(&unlink);
    assert_eq!(cache.lookup(DIR, &other, at(3)), None, "the other name may be one of the same file");
    assert!(cache.lookup(DIR, b"single", at(3)).is_some(), "this file has no other name");
    cache.answered(operation, &Changes::default(), false);
    assert!(cache.lookup(DIR, &other, at(3)).is_some());

    cache.learn_name(ticket, DIR, &name(), None);
    let operation = cache.begin(&unlink);
    assert!(cache.lookup(DIR, &other, at(3)).is_some(), "the name leads to nothing");
    let moved = Invalidation { number: ChangeNumber(1), inodes: vec![], names: vec![(DIR, name())] };
    cache.invalidate(&moved, at(3));
    assert_eq!(cache.lookup(DIR, &other, at(3)), None, "somebody has changed what it leads to");
    cache.answered(operation, &Changes::default(), false);
}
