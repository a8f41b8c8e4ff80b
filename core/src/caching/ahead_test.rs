//! The planner against a directory in a vector: what is fetched for how many questions.

use super::ahead::{Advice, Fetch, Walks};
use crate::ids::InodeId;
use crate::limits::{AHEAD_ENTRIES_MAX, AHEAD_MAPS_MAX, AHEAD_PATIENCE_MAX, WALKS_REMEMBERED};
use crate::namespace::name::Name;
use std::collections::BTreeSet;

const DIR: InodeId = InodeId(7);

fn name(number: u64) -> Name {
    Name::new(format!("{number:08}")).unwrap()
}

fn number(name: &Name) -> u64 {
    String::from_utf8(name.as_bytes().to_vec()).unwrap().parse().unwrap()
}

/// A client that walks, with a leader that answers `delay` questions later.
struct Client {
    walks: Walks,
    entries: u64,
    knows_size: bool,
    /// Fetched and not yet used.
    ahead: BTreeSet<u64>,
    known: BTreeSet<u64>,
    on_its_way: Option<(Fetch, u32)>,
    delay: u32,
    asked: u64,
    fetched: u64,
    largest: u32,
    fetches: u64,
}

impl Client {
    fn new(entries: u64, delay: u32) -> Self {
        let (ahead, known) = (BTreeSet::new(), BTreeSet::new());
        let walks = Walks::default();
        Self {
            walks,
            entries,
            knows_size: true,
            ahead,
            known,
            on_its_way: None,
            delay,
            asked: 0,
            fetched: 0,
            largest: 0,
            fetches: 0,
        }
    }

    fn send(&mut self, fetch: Fetch) {
        assert!(self.on_its_way.is_none(), "one fetch for a directory at a time");
        assert!(fetch.limit <= if fetch.with_maps { AHEAD_MAPS_MAX } else { AHEAD_ENTRIES_MAX });
        self.largest = self.largest.max(fetch.limit);
        self.fetches += 1;
        self.on_its_way = Some((fetch, self.delay));
    }

    fn arrive(&mut self) {
        let Some((fetch, _)) = self.on_its_way.take() else { return };
        let from = fetch.after.as_ref().map_or(0, |after| number(after) + 1);
        let to = self.entries.min(from + u64::from(fetch.limit));
        for entry in from..to {
            self.fetched += 1;
            self.known.insert(entry);
            self.ahead.insert(entry);
        }
        let last = (to < self.entries).then(|| name(to - 1));
        if let Some(next) = self.walks.fetched(DIR, Some(((to - from) as u32, last))) {
            self.send(next);
        }
    }

    fn pass_time(&mut self) {
        match &mut self.on_its_way {
            Some((_, 0)) => self.arrive(),
            Some((_, wait)) => *wait -= 1,
            None => {}
        }
    }

    fn look_up(&mut self, entry: u64) {
        self.pass_time();
        if self.use_it(entry, false) {
            return;
        }
        let size = self.knows_size.then_some(self.entries);
        match self.walks.missed(DIR, &name(entry), size) {
            Advice::Ask => {}
            Advice::AskAnd(fetch) => self.send(fetch),
            Advice::Await => {
                self.arrive();
                if self.use_it(entry, false) {
                    return;
                }
            }
        }
        self.asked += 1;
        self.known.insert(entry);
    }

    fn use_it(&mut self, entry: u64, by_open: bool) -> bool {
        if !self.known.contains(&entry) {
            return false;
        }
        if self.ahead.remove(&entry)
            && let Some(next) = self.walks.used(DIR, by_open)
        {
            self.send(next);
        }
        true
    }

    /// Opens a file that a listing has named: a map is wanted.
    fn open(&mut self, entry: u64) {
        self.pass_time();
        if self.use_it(entry, true) {
            self.walks.opened(DIR);
            return;
        }
        match self.walks.missed_map(DIR, &name(entry)) {
            Advice::AskAnd(fetch) => {
                assert!(fetch.with_maps);
                self.send(fetch);
            }
            Advice::Await => {
                self.arrive();
                if self.use_it(entry, true) {
                    return;
                }
            }
            Advice::Ask => {}
        }
        self.asked += 1;
        self.known.insert(entry);
    }
}

/// Numbers without order: a full-period generator is enough.
fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 20) % count
    })
}

#[test]
fn a_sequential_walk_asks_for_hardly_anything_itself() {
    for delay in [0, 3, 20] {
        let mut client = Client::new(5000, delay);
        (0..5000).for_each(|entry| client.look_up(entry));
        assert!(client.asked <= 4 + u64::from(delay), "delay {delay}: {} asked one by one", client.asked);
        assert_eq!(client.largest, AHEAD_ENTRIES_MAX, "delay {delay}");
        assert!(client.fetches <= 10 && client.fetched < 5100, "{} in {}", client.fetched, client.fetches);
    }
}

#[test]
fn a_walk_that_stops_has_fetched_a_few_times_what_it_used() {
    for length in [1, 2, 5, 30, 100, 700] {
        let mut client = Client::new(1_000_000, 2);
        (0..length).for_each(|entry| client.look_up(entry));
        assert!(client.fetched <= 16 * length, "{length}: {}", client.fetched);
    }
    let mut client = Client::new(1_000_000, 2);
    client.look_up(77);
    assert_eq!(client.fetches, 0, "one name alone is the step of a path");
}

#[test]
fn random_access_in_a_large_directory_is_not_amplified() {
    let mut client = Client::new(1_000_000, 2);
    shuffled(1_000_000).take(20_000).for_each(|entry| client.look_up(entry));
    assert!(client.fetched < client.asked / 20, "{} fetched for {} asked", client.fetched, client.asked);
}

#[test]
fn a_directory_asked_for_in_no_order_is_fetched_whole_if_it_is_small_for_that() {
    let mut client = Client::new(5000, 2);
    shuffled(5000).take(20_000).for_each(|entry| client.look_up(entry));
    assert!(client.asked < 1200, "{} asked one by one", client.asked);
    assert!(client.fetched < 6000, "{}", client.fetched);
    let mut client = Client::new(5000, 2);
    client.knows_size = false;
    shuffled(5000).take(5000).for_each(|entry| client.look_up(entry));
    assert!(client.fetched < 5000, "what comes by chance is used in the end: {}", client.fetched);
}

#[test]
fn a_walk_after_random_access_becomes_sequential_again() {
    let mut client = Client::new(1_000_000, 2);
    shuffled(1_000_000).take(200).for_each(|entry| client.look_up(entry));
    let before = client.asked;
    (500_000..505_000).for_each(|entry| client.look_up(entry));
    assert!(client.asked - before <= 2 * u64::from(AHEAD_PATIENCE_MAX), "{}", client.asked - before);
    assert_eq!(client.largest, AHEAD_ENTRIES_MAX);
}

#[test]
fn files_of_a_listed_directory_are_opened_with_their_maps() {
    let mut client = Client::new(3000, 2);
    (0..3000).for_each(|entry| client.open(entry));
    assert!(client.asked <= 6, "{} asked one by one", client.asked);
    assert_eq!(client.largest, AHEAD_MAPS_MAX);
}

#[test]
fn directories_in_turn_are_separate_walks_and_bounded() {
    let mut walks = Walks::default();
    for entry in 0..2 {
        for directory in 1..=40 {
            let advice = walks.missed(InodeId(directory), &name(entry), None);
            let begins = matches!(&advice, Advice::AskAnd(fetch) if fetch.parent == InodeId(directory));
            assert_eq!(begins, entry == 1, "{directory}: {advice:?}");
        }
    }
    for directory in 0..10 * WALKS_REMEMBERED as u64 {
        walks.missed(InodeId(directory), &name(1), None);
    }
    assert_eq!(walks.len(), WALKS_REMEMBERED);
}

#[test]
fn what_failed_or_came_too_late_is_not_tried_at_once_again() {
    let mut walks = Walks::default();
    let mut fetches = 0;
    for entry in 0..1000 {
        if let Advice::AskAnd(_) = walks.missed(DIR, &name(entry), None) {
            fetches += 1;
            assert_eq!(walks.fetched(DIR, None), None);
        }
    }
    assert!(fetches <= 6, "{fetches}");
    assert_eq!(walks.fetched(InodeId(99), None), None, "forgotten meanwhile");
}
