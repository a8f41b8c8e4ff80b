//! Crash enumeration: the power is cut before every operation of a workload, and unsynced sectors are kept, lost, torn and
//! reordered. Every acknowledged entry survives; recovery refuses no image of a crash and returns nothing that was not
//! written. Then every byte below the last stated position is damaged in turn, which must be reported and never cut.

use super::{Journal, JournalConfig, JournalError, LogEntry, remove_trimmed, segment};
use cairn_core::ids::{LogIndex, NodeId, Term};
use cairn_core::journal::frame::{EntryKind, HardState, LogId};
use cairn_env::disk::Disk;
use cairn_env::disk_sim::SimDisk;
use cairn_env::disk_sim::choice::{KeepAll, LoseAll};
use cairn_env::random::SeededRandom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> JournalConfig {
    JournalConfig {
        directory: PathBuf::from("/data/journal"),
        node: NodeId(uuid::Uuid::from_u128(1)),
        segment_bytes: 8 << 10,
        keep_bytes: 0,
        cache_bytes: 2048,
    }
}

/// A disk whose data directory is there for good.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn open(disk: &SimDisk, seed: u64) -> Result<Journal, JournalError> {
    Journal::open(Arc::new(disk.clone()), Arc::new(SeededRandom::new(seed)), config())
}

fn entry(index: u64, term: u64) -> LogEntry {
    let length = [3, 80, 700, 1600][(index * 7 % 4) as usize];
    LogEntry {
        id: LogId { index: LogIndex(index), term: Term(term) },
        kind: EntryKind::Normal,
        data: (0..length).map(|at| (at as u64 * index + term) as u8).collect::<Vec<u8>>().into(),
    }
}

fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

/// The log and the hard state as the caller of the journal knows them.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    log: Vec<LogEntry>,
    term: u64,
}

impl Model {
    fn append(&self, new: &[LogEntry], term: u64) -> Self {
        let keep = new.first().map_or(self.log.len(), |first| first.id.index.get() as usize - 1);
        Self { log: [&self.log[..keep], new].concat(), term }
    }
}

/// What must be there when the power is cut before operation `from` or later, and what may be there instead.
struct Step {
    from: u64,
    acknowledged: Model,
    under_way: Model,
    /// Entries up to here may be gone: they stand in the durable state.
    trimmed: u64,
}

/// Appends of all sizes, truncations, rotations, marks and trims.
fn run(disk: &SimDisk) -> (Vec<Step>, Journal) {
    let mut steps = Vec::new();
    let mut journal = open(disk, 1).unwrap();
    let mut model = Model::default();
    let mut trimmed = 0;
    let plan: &[(std::ops::Range<u64>, u64)] = &[
        (1..2, 1),
        (2..9, 1),
        (9..9, 2),
        (7..12, 2),
        (12..30, 2),
        (25..31, 3),
        (31..32, 3),
        (20..24, 4),
        (24..60, 4),
        (60..61, 5),
    ];
    for (number, (range, term)) in plan.iter().enumerate() {
        let new = entries(range.clone(), *term);
        let under_way = model.append(&new, *term);
        let from = disk.operations() + 1;
        steps.push(Step { from, acknowledged: model.clone(), under_way: under_way.clone(), trimmed });
        let commit = LogIndex(range.start.saturating_sub(3));
        journal.append(HardState { term: Term(*term), vote: 1, commit }, &new).unwrap();
        model = under_way;
        trimmed = [0, 15, 40][usize::from(number > 4) + usize::from(number > 8)];
        let from = disk.operations() + 1;
        steps.push(Step { from, acknowledged: model.clone(), under_way: model.clone(), trimmed });
        if number % 3 == 1 {
            journal.close_mark().unwrap();
        }
        if number % 4 == 2 {
            let job = journal.spare_wanted().unwrap();
            journal.spare_done(Some(job.run(disk).unwrap()));
        }
        remove_trimmed(disk, &journal.trim(LogIndex(trimmed))).unwrap();
    }
    (steps, journal)
}

fn read_all(journal: &Journal) -> Model {
    let (mut log, mut low) = (Vec::new(), journal.before().index.get() + 1);
    while low <= journal.last().index.get() {
        let page = journal.entries(LogIndex(low), LogIndex(u64::MAX), 4000).unwrap();
        low += page.len() as u64;
        log.extend(page);
    }
    Model { log, term: journal.hard().term.get() }
}

/// The recovered journal holds what was acknowledged, and beyond it only a prefix of what was being written.
fn check(journal: &Journal, step: &Step, context: &str) -> Model {
    let read = read_all(journal);
    let before = journal.before().index.get();
    assert!(before <= step.trimmed, "{context}: entries up to {before} are gone");
    let skip = |model: &Model| model.log[before as usize..].to_vec();
    let (old, new) = (skip(&step.acknowledged), skip(&step.under_way));
    let common = old.iter().zip(&new).take_while(|(left, right)| left == right).count();
    let is_new = read.log.len() >= common && new.starts_with(&read.log);
    assert!(read.log == old || is_new, "{context}: neither the old log nor a part of the new one");
    assert!(
        [step.acknowledged.term, step.under_way.term].contains(&read.term),
        "{context}: term {}",
        read.term
    );
    let hard = journal.hard();
    assert!(hard.commit <= journal.last().index, "{context}: commit beyond the log");
    read
}

fn images(disk: &SimDisk, seeds: std::ops::Range<u64>) -> Vec<SimDisk> {
    let random = seeds.map(|seed| disk.crash_image(seed));
    [disk.crash_image_with(&mut KeepAll), disk.crash_image_with(&mut LoseAll)]
        .into_iter()
        .chain(random)
        .collect()
}

#[test]
fn every_acknowledged_entry_survives_every_crash() {
    let disk = new_disk();
    disk.keep_crash_points();
    let (steps, journal) = run(&disk);
    drop(journal);
    let points = disk.take_crash_points();
    let start = Step { from: 0, acknowledged: Model::default(), under_way: Model::default(), trimmed: 0 };
    let mut states = 0u64;
    for point in &points {
        let step = steps.iter().rev().find(|step| step.from <= point.before.number).unwrap_or(&start);
        states += kill_then_cut(&point.disk.fork(), step, &format!("killed before {:?}", point.before));
        for (number, image) in images(&point.disk, 0..28).into_iter().enumerate() {
            let context = format!("before {:?}, image {number}", point.before);
            image.keep_crash_points();
            let journal = open(&image, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
            let read = check(&journal, step, &context);
            drop(journal);
            states += 1;
            if number > 3 {
                continue;
            }
            states += crash_the_recovery(&image, step, &read, &context);
        }
    }
    println!("{states} crash states of {} points", points.len());
    assert!(states >= 5_000, "{states}");
}

/// The process is killed, started again, and then the power is cut: what the restart read must be there for good.
fn kill_then_cut(killed: &SimDisk, step: &Step, context: &str) -> u64 {
    let journal = open(killed, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
    let read = check(&journal, step, context);
    drop(journal);
    for image in images(killed, 0..4) {
        let journal = open(&image, 3).unwrap_or_else(|error| panic!("{context}, then cut: {error}"));
        assert_eq!(check(&journal, step, context), read, "{context}: what the restart read was lost");
    }
    7
}

/// Cuts the power during the recovery as well; once `open` has returned, what it read is there for good.
fn crash_the_recovery(image: &SimDisk, step: &Step, read: &Model, context: &str) -> u64 {
    let mut states = 0;
    let points = image.take_crash_points();
    for (at, point) in points.iter().enumerate() {
        for (number, second) in images(&point.disk, 0..2).into_iter().enumerate() {
            let context = format!("{context}; then before {:?}, image {number}", point.before);
            let journal = open(&second, 3).unwrap_or_else(|error| panic!("{context}: {error}"));
            let again = check(&journal, step, &context);
            assert!(at + 1 < points.len() || again == *read, "{context}: recovered entries were lost");
            states += 1;
        }
    }
    states
}

#[test]
fn every_damaged_byte_below_the_stated_position_is_reported_and_nothing_is_cut() {
    let disk = new_disk();
    let (steps, mut journal) = run(&disk);
    journal.close_mark().unwrap();
    let model = &steps.last().unwrap().acknowledged;
    let stated: Vec<(u64, u64)> =
        journal.segments.iter().map(|s| (s.header.number, s.end - s.header.base)).collect();
    drop(journal);
    let last = stated.last().unwrap().0;
    let image = disk.crash_image_with(&mut KeepAll);
    let mut flips = 0;
    for &(number, used) in &stated {
        // The closing mark itself is stated by nobody.
        let stated = if number == last { used - 512 } else { used };
        let path = segment::path(&config().directory, number);
        for offset in 0..used {
            let damaged = image.fork();
            damaged.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
            let operations = damaged.operations();
            match open(&damaged, 2) {
                Err(JournalError::Corrupt { .. } | JournalError::Damaged { .. }) => {
                    // The sync of the parent directory, and nothing else.
                    assert_eq!(damaged.operations(), operations + 1, "something was changed");
                }
                Err(other) => panic!("segment {number}, byte {offset}: {other}"),
                Ok(journal) => {
                    assert!(offset >= stated, "segment {number}, byte {offset} went unnoticed");
                    assert_eq!(read_all(&journal).log.last(), model.log.last());
                }
            }
            flips += 1;
        }
    }
    println!("{flips} damaged bytes");
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = new_disk();
    let (_, journal) = run(&disk);
    assert!(journal.segments.len() > 2);
    let middle = journal.segments[1].header.number;
    drop(journal);
    disk.remove_file(&segment::path(&config().directory, middle)).unwrap();
    let error = open(&disk, 2).err().unwrap().to_string();
    assert!(error.contains("missing") && error.contains("/data/journal"), "{error}");
}

#[test]
fn a_failed_sync_is_final() {
    let disk = new_disk();
    let mut journal = open(&disk, 1).unwrap();
    journal.append(HardState::default(), &entries(1..3, 1)).unwrap();
    disk.fail_sync("journal", 1);
    assert!(matches!(journal.append(HardState::default(), &entries(3..5, 1)), Err(JournalError::Io { .. })));
    let syncs = disk.syncs();
    assert!(matches!(
        journal.append(HardState::default(), &entries(3..5, 1)),
        Err(JournalError::Stopped { .. })
    ));
    assert!(matches!(journal.close_mark(), Err(JournalError::Stopped { .. }) | Ok(false)));
    assert_eq!(disk.syncs(), syncs, "a failed sync is never tried again");
    drop(journal);
    let journal = open(&disk.crash_image(5), 2).unwrap();
    assert!(journal.last().index >= LogIndex(2), "what was acknowledged before is there");
}

#[test]
fn what_a_failed_sync_left_in_memory_is_not_believed_to_be_on_the_disk() {
    for starts_that_fail in 0..3 {
        let disk = new_disk();
        let mut journal = open(&disk, 1).unwrap();
        journal.append(HardState::default(), &entries(1..3, 1)).unwrap();
        disk.fail_sync("journal", 1);
        assert!(journal.append(HardState::default(), &entries(3..5, 1)).is_err());
        drop(journal);
        // The process is started again; the machine, which still has the pages, was not.
        for start in 0..starts_that_fail {
            disk.fail_sync("journal", 1);
            assert!(matches!(open(&disk, 10 + start), Err(JournalError::Io { .. })));
        }
        let mut journal = open(&disk, 2).unwrap();
        let next = journal.last().index.get() + 1;
        journal.append(HardState::default(), &entries(next..next + 2, 2)).unwrap();
        for seed in 0..20 {
            let journal = open(&disk.crash_image(seed), 3).unwrap();
            assert_eq!(
                journal.last().index.get(),
                next + 1,
                "after {starts_that_fail} failed starts, seed {seed}"
            );
        }
    }
}

#[test]
fn a_full_disk_is_known_before_anything_is_written() {
    let disk = new_disk();
    disk.set_capacity(24 << 10);
    let mut journal = open(&disk, 1).unwrap();
    let job = journal.spare_wanted().unwrap();
    journal.spare_done(Some(job.run(&disk).unwrap()));
    assert!(journal.room() > 8 << 10);
    disk.set_capacity(8 << 10);
    journal.append(HardState::default(), &entries(1..10, 1)).unwrap();
    let job = journal.spare_wanted();
    assert!(job.is_none() || job.is_some_and(|job| job.run(&disk).is_err()));
    assert_eq!(read_all(&journal).log, entries(1..10, 1));
}
