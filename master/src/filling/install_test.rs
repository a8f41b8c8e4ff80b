//! Installing a copy on a simulated disk that is cut at any point: the next start finishes it, and votes are never forgotten.

use super::install::{FILLED, InstallError, RECORD, STATE, finish};
use crate::journal::{Journal, JournalConfig, LogEntry};
use crate::sequencer::StateStore;
use bytes::Bytes;
use cairn_core::ids::{LogIndex, NodeId, Term};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::frame::{EntryKind, HardState, LogId};
use cairn_core::journal::install::Install;
use cairn_env::Env;
use cairn_env::disk::{Disk, OpenMode};
use cairn_env::disk_sim::SimDisk;
use cairn_env::kv::{Batch, Wait};
use std::path::Path;
use std::sync::Arc;

const VOTE: HardState = HardState { term: Term(5), vote: 3, commit: LogIndex(4) };

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), ..Env::real() }
}

fn root() -> &'static Path {
    Path::new("/data")
}

fn config() -> JournalConfig {
    JournalConfig {
        directory: root().join("journal"),
        node: NodeId::default(),
        segment_bytes: 64 << 10,
        keep_bytes: 1 << 30,
        cache_bytes: 4096,
    }
}

fn id(index: u64, term: u64) -> LogId {
    LogId { index: LogIndex(index), term: Term(term) }
}

fn journal(disk: &SimDisk) -> Journal {
    let env = env(disk);
    Journal::open(env.disk, env.random, config()).unwrap()
}

fn state_at(disk: &SimDisk, path: &Path, last: LogId) {
    let kv = StateStore::Memory.open(&env(disk), path, 0).unwrap();
    let applied = Applied { last, ..Applied::default() };
    let row = (Bytes::from_static(&APPLIED_KEY), Some(applied.encode()));
    kv.write(&Batch { writes: vec![row] }).unwrap();
    kv.flush().unwrap();
}

/// A member whose journal holds entries 1 to 9 of term 2, and a complete copy that is to take the place of its state.
fn member(install: Install) -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(root()).unwrap();
    let entry =
        |index| LogEntry { id: id(index, 2), kind: EntryKind::Normal, data: Bytes::from_static(b"x") };
    let entries: Vec<LogEntry> = (1..=9).map(entry).collect();
    journal(&disk).append(VOTE, &entries).unwrap();
    state_at(&disk, &root().join(STATE), id(3, 2));
    let filled = root().join(FILLED);
    disk.create_dir_all(&filled).unwrap();
    state_at(&disk, &filled.join(STATE), install.last);
    let record = disk.open(&filled.join(RECORD), OpenMode::CreateNew).unwrap();
    record.write_all_at(&install.encode(), 0).unwrap();
    record.sync_all().unwrap();
    for directory in [&filled, root(), Path::new("/")] {
        disk.sync_dir(directory).unwrap();
    }
    disk
}

fn applied(disk: &SimDisk) -> LogId {
    let kv = StateStore::Memory.open(&env(disk), &root().join(STATE), 0).unwrap();
    Applied::decode(&kv.get(&APPLIED_KEY, Wait::ForDisk).unwrap().unwrap()).unwrap().last
}

/// Runs `finish` once on each disk that a crash during it may leave, and once more to the end.
fn at_every_crash(install: Install, check: impl Fn(&SimDisk)) {
    let whole = member(install);
    let before = whole.operations();
    finish(&env(&whole), root(), &config()).unwrap();
    check(&whole);
    let steps = whole.operations() - before;
    assert!(steps > 10, "{steps} steps");
    for step in 0..steps {
        for seed in 0..4 {
            let disk = member(install);
            disk.crash_after(disk.operations() + 1 + step);
            let _ = finish(&env(&disk), root(), &config());
            let disk = disk.crash_image(seed);
            finish(&env(&disk), root(), &config())
                .unwrap_or_else(|error| panic!("step {step}, seed {seed}: {error}"));
            check(&disk);
            finish(&env(&disk), root(), &config()).unwrap();
            check(&disk);
        }
    }
}

#[test]
fn a_journal_that_is_behind_goes_on_behind_the_copy_and_keeps_its_vote() {
    let install = Install { last: id(20, 4), lost_vote: None };
    at_every_crash(install, |disk| {
        let journal = journal(disk);
        assert_eq!((applied(disk), journal.last(), journal.before()), (id(20, 4), id(20, 4), id(20, 4)));
        assert_eq!((journal.hard().term, journal.hard().vote), (VOTE.term, VOTE.vote));
    });
}

#[test]
fn entries_that_follow_the_copy_stay() {
    let install = Install { last: id(6, 2), lost_vote: None };
    at_every_crash(install, |disk| {
        let journal = journal(disk);
        assert_eq!((applied(disk), journal.last()), (id(6, 2), id(9, 2)));
        assert_eq!((journal.hard().term, journal.hard().vote), (VOTE.term, VOTE.vote));
    });
}

#[test]
fn a_lost_vote_begins_where_the_leader_was() {
    let install = Install { last: id(20, 4), lost_vote: Some((Term(7), 1)) };
    at_every_crash(install, |disk| {
        let journal = journal(disk);
        assert_eq!((applied(disk), journal.last()), (id(20, 4), id(20, 4)));
        assert_eq!((journal.hard().term, journal.hard().vote), (Term(7), 1));
    });
}

#[test]
fn a_vote_is_not_forgotten_with_the_journal() {
    let disk = member(Install { last: id(20, 4), lost_vote: None });
    disk.remove_dir_all(&root().join("journal")).unwrap();
    assert!(matches!(finish(&env(&disk), root(), &config()), Err(InstallError::NoJournal(_))));
    assert_eq!(applied(&disk), id(3, 2));
}

#[test]
fn a_damaged_record_changes_nothing() {
    let disk = member(Install { last: id(20, 4), lost_vote: None });
    let record = root().join(FILLED).join(RECORD);
    disk.open(&record, OpenMode::Write).unwrap().write_all_at(&[0xff], 9).unwrap();
    assert!(matches!(finish(&env(&disk), root(), &config()), Err(InstallError::Record(_))));
    assert_eq!((applied(&disk), journal(&disk).last()), (id(3, 2), id(9, 2)));
}
