//! The journal on a real disk: what is appended is read back, now and after a restart.

use super::{Journal, JournalConfig, LogEntry, remove_trimmed};
use bytes::Bytes;
use cairn_core::ids::{LogIndex, NodeId, Term};
use cairn_core::journal::frame::{EntryKind, HardState, LogId};
use cairn_env::Env;
use cairn_env::disk::OpenMode;
use std::path::Path;

fn config(directory: &Path) -> JournalConfig {
    JournalConfig {
        directory: directory.join("journal"),
        node: NodeId(uuid::Uuid::from_u128(1)),
        segment_bytes: 16 << 10,
        keep_bytes: 0,
        cache_bytes: 4096,
    }
}

fn open(directory: &Path) -> Journal {
    let env = Env::real();
    Journal::open(env.disk, env.random, config(directory)).unwrap()
}

fn entry(index: u64, term: u64) -> LogEntry {
    let data = vec![(index * 7 + term) as u8; (index * 37 % 900) as usize];
    LogEntry {
        id: LogId { index: LogIndex(index), term: Term(term) },
        kind: EntryKind::Normal,
        data: data.into(),
    }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

fn hard(term: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: 1, commit: LogIndex(commit) }
}

fn all(journal: &Journal) -> Vec<LogEntry> {
    let (mut read, mut low) = (Vec::new(), journal.before().index.get() + 1);
    while low <= journal.last().index.get() {
        let page = journal.entries(LogIndex(low), LogIndex(u64::MAX), 5000).unwrap();
        low += page.len() as u64;
        read.extend(page);
    }
    read
}

#[test]
fn entries_survive_rotation_and_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    let expected = entries(1..=200, 3);
    for batch in expected.chunks(7) {
        journal.append(hard(3, batch[0].id.index.get() - 1), batch).unwrap();
    }
    assert!(journal.counters().segments > 3);
    assert_eq!(all(&journal), expected);
    let written = journal.hard();
    drop(journal);
    let journal = open(directory.path());
    assert_eq!(all(&journal), expected);
    assert_eq!(journal.hard(), written);
    assert_eq!(journal.term(LogIndex(100)), Some(Term(3)));
}

#[test]
fn one_fdatasync_for_everything_queued() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.append(hard(1, 0), &entries(1..=20, 1)).unwrap();
    assert_eq!(journal.counters().fdatasyncs, 1);
    assert!(journal.close_mark().unwrap());
    assert!(!journal.close_mark().unwrap(), "one mark is enough");
    assert_eq!(journal.counters().fdatasyncs, 2);
}

#[test]
fn overwritten_entries_are_void_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.append(hard(1, 10), &entries(1..=60, 1)).unwrap();
    journal.append(hard(2, 10), &entries(41..=50, 2)).unwrap();
    journal.append(hard(3, 10), &entries(46..=120, 3)).unwrap();
    let expected = [entries(1..=40, 1), entries(41..=45, 2), entries(46..=120, 3)].concat();
    assert_eq!(all(&journal), expected);
    drop(journal);
    assert_eq!(all(&open(directory.path())), expected);
}

#[test]
fn trim_keeps_what_the_state_needs_and_a_restart_finds_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    for batch in entries(1..=200, 3).chunks(5) {
        journal.append(hard(3, 0), batch).unwrap();
    }
    let paths = journal.trim(LogIndex(100));
    assert!(!paths.is_empty());
    remove_trimmed(&*Env::real().disk, &paths).unwrap();
    let before = journal.before().index.get();
    assert!(before > 50 && before <= 100, "{before}");
    assert!(journal.entries(LogIndex(before), LogIndex(201), 1 << 20).is_err());
    let expected = entries(before + 1..=200, 3);
    assert_eq!(all(&journal), expected);
    drop(journal);
    let journal = open(directory.path());
    assert_eq!(all(&journal), expected);
    assert_eq!(journal.term(LogIndex(before)), Some(Term(3)));
    assert_eq!(journal.term(LogIndex(before - 1)), None);
}

#[test]
fn a_reset_log_goes_on_behind_the_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.append(hard(1, 3), &entries(1..=30, 1)).unwrap();
    let snapshot = LogId { index: LogIndex(500), term: Term(4) };
    journal.reset(hard(4, 500), snapshot).unwrap();
    journal.append(hard(4, 500), &entries(501..=510, 4)).unwrap();
    drop(journal);
    let journal = open(directory.path());
    assert_eq!((journal.before(), all(&journal)), (snapshot, entries(501..=510, 4)));
}

#[test]
fn a_made_spare_is_used_and_a_stray_one_removed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Env::real().disk;
    let mut journal = open(directory.path());
    let job = journal.spare_wanted().unwrap();
    assert!(journal.spare_wanted().is_none(), "one at a time");
    let room = journal.room();
    journal.spare_done(Some(job.run(&*disk).unwrap()));
    assert_eq!(journal.room(), room + (16 << 10));
    drop(journal);
    let journal = open(directory.path());
    let names = disk.list(&config(directory.path()).directory).unwrap();
    assert!(names.iter().all(|item| super::segment::number(&item.name).is_some()), "{names:?}");
    drop(journal);
}

#[test]
fn an_entry_larger_than_a_segment_stops_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    let huge = LogEntry { data: Bytes::from(vec![0; 20 << 10]), ..entry(1, 1) };
    assert!(journal.append(hard(1, 0), &[huge]).is_err());
    let error = journal.append(hard(1, 0), &[entry(1, 1)]).unwrap_err();
    assert!(error.to_string().contains("restart this master"), "{error}");
}

#[test]
fn another_nodes_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let env = Env::real();
    let other = JournalConfig { node: NodeId(uuid::Uuid::from_u128(2)), ..config(directory.path()) };
    assert!(Journal::open(env.disk, env.random, other).is_err());
}

#[test]
fn an_idle_journal_says_where_it_ends_also_when_the_segment_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    let full = LogEntry { data: vec![7; (16 << 10) - 512 - 72 - 24].into(), ..entry(1, 1) };
    journal.append(hard(1, 0), std::slice::from_ref(&full)).unwrap();
    assert!(journal.close_mark().unwrap());
    assert!(!journal.wants_mark());
    drop(journal);
    let path = directory.path().join("journal").join("0000000000000001.journal");
    let env = Env::real();
    env.disk.open(&path, OpenMode::Write).unwrap().write_all_at(&[8], 5000).unwrap();
    let opened = Journal::open(env.disk, env.random, config(directory.path()));
    assert!(matches!(opened, Err(super::JournalError::Corrupt { .. })), "the entry was acknowledged");
}
