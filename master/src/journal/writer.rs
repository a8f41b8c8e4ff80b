//! Appending: one batch, one write and one fdatasync for everything that a Raft ready holds.

use super::log_shape::LogShape;
use super::recover::{Recovered, Unsure, recover};
use super::segment::{self, Segment};
use super::spare::{SPARE_PREFIX, Spare, SpareJob};
use super::{JournalConfig, JournalError, LogEntry};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::frame::{
    BatchBuilder, HardState, LogId, Record, SECTOR_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use cairn_core::seeded::{Bug, is_planted};
use cairn_env::disk::Disk;
use cairn_env::random::Random;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the batch buffer that stay allocated between batches.
const BUFFER_KEEP_BYTES: usize = 1 << 20;

/// Counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCounters {
    /// Batches written, closing marks included.
    pub batches: u64,
    /// Calls of fdatasync for batches.
    pub fdatasyncs: u64,
    /// Bytes of batches, padding included.
    pub bytes: u64,
    /// Segments begun.
    pub segments: u64,
}

/// The journal of one member. Calls block on the disk; its owner has a thread of its own.
pub struct Journal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: JournalConfig,
    random: Arc<dyn Random>,
    /// Oldest first; the last one is written to. Never empty.
    pub(super) segments: VecDeque<Segment>,
    pub(super) shape: LogShape,
    hard: HardState,
    chain: u64,
    /// Everything below is on stable storage.
    durable: u64,
    builder: BatchBuilder,
    spare: Option<Spare>,
    spare_asked: bool,
    spare_number: u64,
    /// The last batch is not yet stated to be durable by anything behind it.
    unmarked: bool,
    failed: bool,
    counters: JournalCounters,
}

impl Journal {
    /// Reads what is there, makes it durable, and begins a new segment behind it. An empty directory is a new journal.
    ///
    /// # Errors
    /// `Corrupt` and `Damaged`, with nothing changed; `Io`.
    pub fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        config: JournalConfig,
    ) -> Result<Self, JournalError> {
        make_directory(&*disk, &config.directory).map_err(|source| config.io(source))?;
        let recovered = recover(&*disk, &config)?;
        let torn = recovered.segments.back().map_or(0, |last| last.header.base + last.capacity - last.end);
        tracing::info!(
            segments = recovered.segments.len(),
            last = recovered.last().get(),
            unused_bytes = torn,
            "journal read"
        );
        let Recovered { segments, shape, hard, chain, leftovers, unsure } = recovered;
        let mut journal = Self {
            disk,
            config,
            random,
            segments,
            shape,
            hard,
            chain,
            durable: 0,
            builder: BatchBuilder::default(),
            spare: None,
            spare_asked: false,
            spare_number: 0,
            unmarked: false,
            failed: false,
            counters: JournalCounters::default(),
        };
        journal.start(leftovers, &unsure).map_err(|source| journal.config.io(source))?;
        Ok(journal)
    }

    /// Makes durable what was read (a killed process leaves it in the page cache only) and begins a new segment, so that
    /// the remains of a torn tail can never be taken for a successor of what is written next.
    fn start(&mut self, leftovers: Vec<PathBuf>, unsure: &Unsure) -> io::Result<()> {
        for path in leftovers {
            self.disk.remove_file(&path)?;
        }
        if let Some(last) = self.segments.back() {
            // Written again: where a sync failed in a process before this one, the system takes the pages for clean, and the
            // next sync would claim what never reached the disk.
            last.file.write_all_at(&unsure.bytes, unsure.offset)?;
            last.file.sync_data()?;
        }
        self.durable = self.end();
        self.begin_segment()?;
        if let Some(sealed) = self.segments.len().checked_sub(2).map(|at| &mut self.segments[at]) {
            // Gives the unused blocks back. The next segment states the end, so the rest means nothing any more.
            sealed.capacity = sealed.end - sealed.header.base;
            sealed.file.set_len(sealed.capacity)?;
        }
        Ok(())
    }

    /// Position behind the last batch.
    fn end(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.end)
    }

    fn current(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("open begins a segment, and trim keeps the last")
    }

    /// Appends entries with the hard state and waits until both are durable. Entries at or below the last one replace it
    /// and everything after. One fdatasync, unless the batch crosses into the next segment.
    ///
    /// # Errors
    /// `Io` once, `Stopped` ever after: nothing may be answered any more.
    ///
    /// # Panics
    /// When the entries do not follow each other or leave a gap: Raft never asks for that.
    pub fn append(&mut self, hard: HardState, entries: &[LogEntry]) -> Result<(), JournalError> {
        if let Some(first) = entries.first() {
            assert!(first.id.index.get() <= self.shape.last().index.get() + 1, "entries leave a gap");
            assert!(first.id.index > self.shape.before().index, "entries lie before the log");
            let consecutive =
                entries.windows(2).all(|pair| pair[0].id.index.get() + 1 == pair[1].id.index.get());
            assert!(consecutive, "entries follow each other");
        }
        self.writing(|journal| journal.append_pieces(hard, entries))
    }

    /// Voids the whole log; it goes on after `last` (a snapshot was installed).
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn reset(&mut self, hard: HardState, last: LogId) -> Result<(), JournalError> {
        self.writing(|journal| {
            journal.hard = hard;
            if journal.current().room() < SECTOR_BYTES as u64 {
                journal.begin_segment()?;
            }
            journal.builder.push(&Record::Reset { last });
            journal.write_batch()?;
            journal.shape.reset(last);
            Ok(())
        })
    }

    /// Writes a closing mark when the last batch is not yet stated to be durable: an idle journal does so within 100 ms,
    /// so that later damage to its end is known for what it is. Where the segment has no room for it the next one is begun, whose
    /// header says the same. Returns whether anything was written.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn close_mark(&mut self) -> Result<bool, JournalError> {
        if !self.unmarked {
            return Ok(false);
        }
        match self.current().room() < SECTOR_BYTES as u64 {
            true => self.writing(Self::begin_segment)?,
            false => self.writing(Self::write_batch)?,
        }
        self.unmarked = false;
        Ok(true)
    }

    /// Whether [`Journal::close_mark`] has something to do.
    pub const fn wants_mark(&self) -> bool {
        self.unmarked
    }

    /// Raises the commit index that the next batch carries. It need not be durable: it is found out again.
    pub fn note_commit(&mut self, commit: LogIndex) {
        self.hard.commit = self.hard.commit.max(commit);
    }

    fn writing(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Stopped { directory: self.config.directory.clone() });
        }
        act(self).map_err(|source| {
            // What is on the disk is unknown from here on; nothing is retried (I3).
            self.failed = true;
            self.config.io(source)
        })
    }

    fn append_pieces(&mut self, hard: HardState, entries: &[LogEntry]) -> io::Result<()> {
        self.hard = hard;
        let mut truncate = entries
            .first()
            .map(|first| LogIndex(first.id.index.get() - 1))
            .filter(|&last| last < self.shape.last().index);
        let mut rest = entries;
        loop {
            let room = self.current().room() as usize;
            if let Some(last) = truncate.filter(|_| room >= SECTOR_BYTES) {
                if !is_planted(Bug::ForgetTruncation) {
                    self.builder.push(&Record::Truncate { last });
                }
                self.shape.truncate(last);
                truncate = None;
            }
            let taken = if truncate.is_none() { self.fill(rest, room) } else { 0 };
            let done = truncate.is_none() && taken == rest.len();
            if self.builder.open_records() > 0 || (done && room >= SECTOR_BYTES) {
                self.write_entries(&rest[..taken])?;
                rest = &rest[taken..];
                if done {
                    return Ok(());
                }
            }
            let fresh = self.config.segment_bytes as usize - SEGMENT_HEADER_BYTES;
            if taken == 0 && room >= fresh {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "an entry is larger than a segment"));
            }
            self.begin_segment()?;
        }
    }

    /// Adds to the open batch as many entries as fit into `room`.
    fn fill(&mut self, entries: &[LogEntry], room: usize) -> usize {
        let fitting = entries.iter().take_while(|entry| {
            let fits = self.builder.open_bytes_with(entry.data.len()) <= room;
            if fits {
                self.builder.push(&Record::Entry { id: entry.id, kind: entry.kind, data: &entry.data });
            }
            fits
        });
        fitting.count()
    }

    fn write_entries(&mut self, entries: &[LogEntry]) -> io::Result<()> {
        let position = self.end();
        self.write_batch()?;
        if let Some(first) = entries.first() {
            self.current().mark(first.id.index, position);
        }
        for entry in entries {
            self.shape.push(entry.clone());
        }
        Ok(())
    }

    /// Seals the open batch, writes it and waits until it is durable.
    fn write_batch(&mut self) -> io::Result<()> {
        let (position, durable, chain, hard) = (self.end(), self.durable, self.chain, self.hard);
        let segment = self.segments.back_mut().expect("open begins a segment, and trim keeps the last");
        let batch = self.builder.seal(segment.header.salt, position, durable, chain, hard);
        let bytes = self.builder.sealed();
        debug_assert!(bytes.len() as u64 <= segment.room());
        segment.file.write_all_at(bytes, position - segment.header.base)?;
        if !is_planted(Bug::SkipJournalSync) {
            segment.file.sync_data()?;
        }
        segment.end += bytes.len() as u64;
        self.counters.batches += 1;
        self.counters.fdatasyncs += 1;
        self.counters.bytes += bytes.len() as u64;
        self.chain = batch.next_chain();
        self.durable = self.end();
        self.unmarked = true;
        self.builder.clear(BUFFER_KEEP_BYTES);
        Ok(())
    }

    /// Begins the next segment. All before it is durable, which its header states.
    fn begin_segment(&mut self) -> io::Result<()> {
        debug_assert_eq!(self.durable, self.end(), "a segment begins behind durable bytes");
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => self.new_spare_job().run(&*self.disk)?,
        };
        let header = SegmentHeader {
            number: self.segments.back().map_or(1, |last| last.header.number + 1),
            base: self.end(),
            salt: self.random.next_u64(),
            chain: self.chain,
            hard: self.hard,
            last: self.shape.last(),
            node: self.config.node,
        };
        spare.file.write_all_at(&header.encode(), 0)?;
        spare.file.sync_data()?;
        self.disk.rename(&spare.path, &segment::path(&self.config.directory, header.number))?;
        if !is_planted(Bug::SkipSegmentNameSync) {
            self.disk.sync_dir(&self.config.directory)?;
        }
        let end = header.base + SEGMENT_HEADER_BYTES as u64;
        self.segments.push_back(Segment::new(header, spare.file, end, spare.capacity));
        self.durable = end;
        self.unmarked = false;
        self.counters.segments += 1;
        Ok(())
    }

    fn new_spare_job(&mut self) -> SpareJob {
        self.spare_number += 1;
        let name = format!("{SPARE_PREFIX}{}", self.spare_number);
        SpareJob { path: self.config.directory.join(name), bytes: self.config.segment_bytes }
    }

    /// Work for another thread, when the next segment's file is missing and nobody makes it yet.
    pub fn spare_wanted(&mut self) -> Option<SpareJob> {
        if self.spare.is_some() || self.spare_asked || self.failed {
            return None;
        }
        self.spare_asked = true;
        Some(self.new_spare_job())
    }

    /// Takes the outcome of a job of [`Journal::spare_wanted`]; after `None` it will be asked for again.
    pub fn spare_done(&mut self, spare: Option<Spare>) {
        self.spare_asked = false;
        if let Some(spare) = spare {
            match self.spare {
                None => self.spare = Some(spare),
                // One was made in a hurry meanwhile.
                Some(_) => drop(self.disk.remove_file(&spare.path)),
            }
        }
    }

    /// Bytes that can be appended before a new file is needed.
    pub fn room(&self) -> u64 {
        let current = self.segments.back().map_or(0, Segment::room);
        current + self.spare.as_ref().map_or(0, |spare| spare.capacity)
    }

    /// Forgets old segments whose entries all stand in the durable state (up to `applied`), as long as `keep_bytes` of
    /// journal remain. The files are to be removed with [`super::remove_trimmed`], on a thread that may wait.
    pub fn trim(&mut self, applied: LogIndex) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while self.segments.len() > 1 {
            let next = self.segments[1].header;
            if next.last.index > applied || self.end() - next.base < self.config.keep_bytes {
                break;
            }
            self.shape.trim(next.last);
            if let Some(old) = self.segments.pop_front() {
                paths.push(segment::path(&self.config.directory, old.header.number));
            }
        }
        paths
    }

    /// Hard state as last appended.
    pub const fn hard(&self) -> HardState {
        self.hard
    }

    /// The last entry; before the first one ever, index 0 of term 0.
    pub fn last(&self) -> LogId {
        self.shape.last()
    }

    /// The entry before the first one held.
    pub fn before(&self) -> LogId {
        self.shape.before()
    }

    /// Term of an entry held, or of the one before the first.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        self.shape.term(index)
    }

    /// Position behind the last batch: grows with every byte appended.
    pub fn position(&self) -> u64 {
        self.end()
    }

    /// Position where the oldest segment held begins.
    pub fn held_from(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.header.base)
    }

    /// Counters since the start.
    pub const fn counters(&self) -> JournalCounters {
        self.counters
    }
}

/// Makes the directory, and its own name durable.
fn make_directory(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    disk.create_dir_all(directory)?;
    match directory.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// Removes trimmed segments, oldest first, each durably before the next: a crash never leaves a gap between them. Those
/// already gone are passed over.
///
/// # Errors
/// As the disk's; the rest stays, and must go before anything trimmed later.
pub fn remove_trimmed(disk: &dyn Disk, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        if disk.exists(path)? {
            disk.remove_file(path)?;
        }
        if let Some(directory) = path.parent() {
            disk.sync_dir(directory)?;
        }
    }
    Ok(())
}
