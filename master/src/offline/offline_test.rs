//! Directories at rest: what is laid over the state, what is refused, and what is found to be wrong.

use super::{Event, OfflineError, Stopped, examine, read_journal};
use crate::journal::{Journal, JournalConfig, LogEntry};
use crate::kv::RocksKv;
use bytes::Bytes;
use cairn_core::ids::{ClusterId, LogIndex, NodeId, Term};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::{EntryData, Origin};
use cairn_core::journal::frame::{EntryKind, HardState, LogId};
use cairn_core::superblock::{Role, SUPERBLOCK_FILE, Superblock};
use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_env::disk::{OpenMode, replace_durably};
use cairn_env::kv::{Batch, Kv};
use std::path::Path;

fn node() -> NodeId {
    NodeId(uuid::Uuid::from_u128(7))
}

fn superblock(directory: &Path, role: Role) {
    let superblock = Superblock::new(ClusterId(uuid::Uuid::from_u128(1)), node(), role, None);
    replace_durably(&*Env::real().disk, &directory.join(SUPERBLOCK_FILE), &superblock.encode()).unwrap();
}

/// An entry of a master that writes an ORPHAN row: one that no inode belongs to.
fn entry(index: u64) -> LogEntry {
    let key = [&[12, 0, 0, 0, 1][..], &index.to_be_bytes()].concat();
    let rows = vec![(Bytes::from(key), Some(Bytes::from_static(&[1])))];
    let time = Timestamp { seconds: index as i64, nanos: 0 };
    let data = EntryData { kind: 71, time, origin: Origin::Internal, rows }.encode();
    LogEntry { id: LogId { index: LogIndex(index), term: Term(2) }, kind: EntryKind::Normal, data }
}

fn config(directory: &Path) -> JournalConfig {
    let directory = directory.join("journal");
    JournalConfig { directory, node: node(), segment_bytes: 16 << 10, keep_bytes: 0, cache_bytes: 4096 }
}

/// A state at `applied`, and a journal of `entries` of which `commit` are known to be committed.
fn master(applied: LogId, entries: u64, commit: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    superblock(directory.path(), Role::Master);
    let env = Env::real();
    let kv = RocksKv::open(&directory.path().join("state"), 8 << 20).unwrap();
    let row = Applied { last: applied, feature_level: 1, voters: vec![1], ..Applied::default() };
    kv.write(&Batch { writes: vec![(Bytes::from_static(&APPLIED_KEY), Some(row.encode()))] }).unwrap();
    kv.flush().unwrap();
    let mut journal = Journal::open(env.disk, env.random, config(directory.path())).unwrap();
    let entries: Vec<LogEntry> = (1..=entries).map(entry).collect();
    for batch in entries.chunks(10) {
        let hard =
            HardState { term: Term(2), vote: 1, commit: LogIndex(commit.min(batch[0].id.index.get())) };
        journal.append(hard, batch).unwrap();
    }
    let hard = HardState { term: Term(2), vote: 1, commit: LogIndex(commit) };
    journal.append(hard, &[]).unwrap();
    directory
}

fn at(index: u64, term: u64) -> LogId {
    LogId { index: LogIndex(index), term: Term(term) }
}

fn stopped(directory: &Path) -> Result<Stopped, OfflineError> {
    Stopped::open(&Env::real(), directory)
}

#[test]
fn committed_entries_are_laid_over_the_state_and_others_are_not() {
    let directory = master(at(3, 2), 200, 150);
    let stopped = stopped(directory.path()).unwrap();
    let examined = examine(&Env::real(), &stopped).unwrap();
    let places = (examined.flushed.get(), examined.replayed.get(), examined.last.get());
    assert_eq!(places, (3, 150, 200));
    // The state has none of them, whatever it says: each that is laid over it is an orphan without inode.
    assert_eq!(examined.report.looked.of("ORPHAN"), 147);
    assert_eq!(examined.report.findings.total(), 147);
    assert!(!Env::real().disk.exists(&directory.path().join("lock")).unwrap(), "nothing is made");
}

#[test]
fn a_state_and_a_journal_of_two_histories_are_told_apart() {
    for applied in [at(300, 2), at(3, 1)] {
        let directory = master(applied, 200, 150);
        let examined = examine(&Env::real(), &stopped(directory.path()).unwrap()).unwrap();
        let rules: Vec<&str> =
            examined.report.findings.list().iter().map(|finding| finding.rule.id).collect();
        assert_eq!((rules, examined.replayed), (vec!["A2"], applied.index));
    }
}

#[test]
fn what_is_no_masters_or_in_use_is_refused() {
    let env = Env::real();
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(stopped(directory.path()), Err(OfflineError::Io { .. })));
    superblock(directory.path(), Role::ChunkServer);
    assert!(matches!(stopped(directory.path()), Err(OfflineError::Superblock { .. })));
    let directory = master(at(0, 0), 20, 20);
    let held = env.disk.lock(&directory.path().join("lock")).unwrap();
    let refused = stopped(directory.path()).err().unwrap().to_string();
    assert!(refused.contains("lock") && refused.contains("stop that master"), "{refused}");
    drop(held);
    let open = stopped(directory.path()).unwrap();
    let taken = env.disk.lock(&directory.path().join("lock"));
    assert!(taken.is_err(), "no master starts meanwhile");
    env.disk.create_dir_all(&directory.path().join("filled")).unwrap();
    env.disk.open(&directory.path().join("filled/install"), OpenMode::Create).unwrap();
    assert!(matches!(examine(&env, &open), Err(OfflineError::Filled(_))));
}

#[test]
fn every_segment_is_judged_whatever_is_wrong_with_others() {
    let env = Env::real();
    let directory = master(at(0, 0), 800, 800);
    let segment = |number: u64| directory.path().join(format!("journal/{number:016x}.journal"));
    let damages = || {
        let mut found = Vec::new();
        let open = stopped(directory.path()).unwrap();
        let summary = read_journal(&env, &open, &mut |event| {
            if let Event::Damage { segment, offset, .. } = event {
                found.push((*segment, *offset));
            }
        });
        (summary.unwrap(), found)
    };
    let (summary, found) = damages();
    assert!(summary.segments > 4 && found.is_empty(), "{summary:?} {found:?}");
    assert_eq!((summary.entries, summary.last, summary.hard.commit), (800, at(800, 2), LogIndex(800)));
    let flip = |number: u64, offset: u64| {
        let file = env.disk.open(&segment(number), OpenMode::Write).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
    };
    flip(2, 600);
    let (_, found) = damages();
    // What it held is missing from the log as well.
    assert_eq!(found[0], (2, 512), "{found:?}");
    assert!(found[1..].iter().all(|(segment, offset)| (*segment, *offset) == (3, 512)), "{found:?}");
    flip(4, 20);
    env.disk.remove_file(&segment(1)).unwrap();
    let (_, found) = damages();
    assert!(found.contains(&(2, 512)) && found.contains(&(4, 0)), "{found:?}");
    env.disk.remove_file(&segment(3)).unwrap();
    let (_, found) = damages();
    assert!(found.contains(&(3, 0)), "{found:?}");
    // Those that are whole are not blamed for what is missing beside them.
    flip(2, 600);
    let (_, found) = damages();
    assert_eq!(found.iter().filter(|(segment, _)| *segment == 2).count(), 0, "{found:?}");
    let refused = examine(&env, &stopped(directory.path()).unwrap()).unwrap_err();
    assert!(matches!(refused, OfflineError::Journal { .. }), "{refused}");
}
