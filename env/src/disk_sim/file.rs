//! One simulated file: the live bytes, the synced bytes, and the changes between them.

use crate::disk::Space;
use crate::disk_sim::choice::CrashChoice;
use crate::disk_sim::content::{Content, PAGE_BYTES};
use crate::disk_sim::{eio, lock};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Pages in use on one disk, and how many there may be.
#[derive(Debug)]
pub(super) struct Usage {
    pages: AtomicU64,
    capacity_pages: AtomicU64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { pages: AtomicU64::new(0), capacity_pages: AtomicU64::new(1 << 40) }
    }
}

impl Usage {
    pub(super) fn of_same_capacity(&self) -> Self {
        let capacity = self.capacity_pages.load(Ordering::SeqCst);
        Self { pages: AtomicU64::new(0), capacity_pages: AtomicU64::new(capacity) }
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.capacity_pages.store(bytes / PAGE_BYTES, Ordering::SeqCst);
    }

    pub(super) fn space(&self) -> Space {
        let total = self.capacity_pages.load(Ordering::SeqCst);
        let free = total.saturating_sub(self.pages.load(Ordering::SeqCst));
        Space { total: total * PAGE_BYTES, free: free * PAGE_BYTES }
    }

    fn admit(&self, more: u64) -> io::Result<()> {
        let limit = self.capacity_pages.load(Ordering::SeqCst);
        if more > 0 && self.pages.load(Ordering::SeqCst) + more > limit {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        Ok(())
    }
}

#[derive(Clone)]
enum Change {
    Write { bytes: Bytes, offset: u64 },
    SetLength { length: u64, shortens: bool },
    Allocate { offset: u64, length: u64 },
}

#[derive(Clone, Default)]
struct State {
    live: Content,
    durable: Content,
    /// What was done since `durable`, in order.
    unsynced: Vec<Change>,
    /// A sync failed, or the medium has rotted: `live` shows what the disk will never have.
    diverged: bool,
    unreadable: Vec<Range<u64>>,
}

pub(super) struct FileNode {
    state: Mutex<State>,
    usage: Arc<Usage>,
}

impl Drop for FileNode {
    fn drop(&mut self) {
        let pages = lock(&self.state).live.pages();
        self.usage.pages.fetch_sub(pages, Ordering::SeqCst);
    }
}

impl FileNode {
    pub(super) fn new(usage: Arc<Usage>) -> Self {
        Self::with_state(State::default(), usage)
    }

    fn with_state(state: State, usage: Arc<Usage>) -> Self {
        usage.pages.fetch_add(state.live.pages(), Ordering::SeqCst);
        Self { state: Mutex::new(state), usage }
    }

    pub(super) fn fork(&self, usage: &Arc<Usage>) -> Self {
        Self::with_state(lock(&self.state).clone(), usage.clone())
    }

    /// The file after a power cut, synced throughout.
    pub(super) fn crash_image(&self, choice: &mut dyn CrashChoice, usage: &Arc<Usage>) -> Self {
        let state = lock(&self.state);
        let content = left_on_disk(&state.durable, &state.unsynced, choice);
        let unreadable = state.unreadable.clone();
        Self::with_state(
            State { live: content.clone(), durable: content, unreadable, ..State::default() },
            usage.clone(),
        )
    }

    /// Runs a change of the live bytes, accounting for the pages it adds or drops.
    fn change(&self, state: &mut State, change: impl FnOnce(&mut Content)) {
        let before = state.live.pages();
        change(&mut state.live);
        let after = state.live.pages();
        self.usage.pages.fetch_add(after.saturating_sub(before), Ordering::SeqCst);
        self.usage.pages.fetch_sub(before.saturating_sub(after), Ordering::SeqCst);
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = lock(&self.state);
        let end = offset.saturating_add(buffer.len() as u64);
        if state.unreadable.iter().any(|bad| bad.start < end && offset < bad.end) {
            return Err(eio());
        }
        Ok(state.live.read(buffer, offset))
    }

    /// As a direct read, which writes out first what is dirty: what a sync would leave, and shows nothing but the medium.
    pub(super) fn read_medium(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = lock(&self.state);
        let end = offset.saturating_add(buffer.len() as u64);
        if state.unreadable.iter().any(|bad| bad.start < end && offset < bad.end) {
            return Err(eio());
        }
        if state.unsynced.is_empty() {
            return Ok(state.durable.read(buffer, offset));
        }
        let all = &mut crate::disk_sim::choice::KeepAll;
        Ok(left_on_disk(&state.durable, &state.unsynced, all).read(buffer, offset))
    }

    /// On a full disk, as in a file system: what there is room for is written, and the error comes after it.
    pub(super) fn write(&self, bytes: Bytes, offset: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let admitted = self.usage.admit(state.live.missing_pages(offset, bytes.len() as u64));
        let fits = if admitted.is_ok() { bytes.len() } else { self.fitting(&state, bytes.len(), offset) };
        if fits > 0 {
            self.write_whole(&mut state, bytes.slice(..fits), offset);
        }
        admitted
    }

    /// Bytes of a write, up to the end of a page, for which there is room.
    fn fitting(&self, state: &State, length: usize, offset: u64) -> usize {
        let page_ends = (offset / PAGE_BYTES + 1..).map(|page| (page * PAGE_BYTES - offset) as usize);
        let fits = |end: &usize| {
            *end < length && self.usage.admit(state.live.missing_pages(offset, *end as u64)).is_ok()
        };
        page_ends.take_while(fits).last().unwrap_or(0)
    }

    fn write_whole(&self, state: &mut State, bytes: Bytes, offset: u64) {
        let end = offset + bytes.len() as u64;
        self.change(state, |live| {
            live.write(&bytes, offset);
            if end > live.length() {
                live.set_length(end);
            }
        });
        state.unreadable = without(&state.unreadable, offset..end);
        state.unsynced.push(Change::Write { bytes, offset });
    }

    pub(super) fn set_length(&self, length: u64) {
        let mut state = lock(&self.state);
        let shortens = length < state.live.length();
        self.change(&mut state, |live| live.set_length(length));
        state.unsynced.push(Change::SetLength { length, shortens });
    }

    pub(super) fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        let end = offset.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
        self.usage.admit(state.live.missing_pages(offset, length))?;
        self.change(&mut state, |live| {
            live.allocate(offset, length);
            if end > live.length() {
                live.set_length(end);
            }
        });
        state.unsynced.push(Change::Allocate { offset, length });
        Ok(())
    }

    pub(super) fn sync(&self) {
        let state = &mut *lock(&self.state);
        state.durable = if state.diverged {
            left_on_disk(&state.durable, &state.unsynced, &mut crate::disk_sim::choice::KeepAll)
        } else {
            state.live.clone()
        };
        state.unsynced.clear();
    }

    pub(super) fn fail_sync(&self, choice: &mut dyn CrashChoice) {
        let state = &mut *lock(&self.state);
        state.durable = left_on_disk(&state.durable, &state.unsynced, choice);
        state.unsynced.clear();
        state.diverged = true;
    }

    pub(super) fn length(&self) -> u64 {
        lock(&self.state).live.length()
    }

    pub(super) fn allocated(&self) -> u64 {
        lock(&self.state).live.pages() * PAGE_BYTES
    }

    pub(super) fn fail_reads(&self, range: Range<u64>) {
        lock(&self.state).unreadable.push(range);
    }

    pub(super) fn rot_bit(&self, offset: u64, bit: u8) {
        let state = &mut *lock(&self.state);
        state.durable.flip_bit(offset, bit);
        state.diverged = true;
    }

    pub(super) fn flip_bit(&self, offset: u64, bit: u8) {
        let mut state = lock(&self.state);
        self.change(&mut state, |live| live.flip_bit(offset, bit));
        state.durable.flip_bit(offset, bit);
    }
}

/// The ranges less `cut`.
fn without(ranges: &[Range<u64>], cut: Range<u64>) -> Vec<Range<u64>> {
    let pieces = ranges.iter().flat_map(|range| {
        let (before, after) = (range.start..range.end.min(cut.start), range.start.max(cut.end)..range.end);
        [before, after]
    });
    pieces.filter(|range| range.start < range.end).collect()
}

/// Sectors that a write touches, with the bytes of it that lie in each.
fn sectors(offset: u64, length: u64) -> impl Iterator<Item = (u64, Range<u64>)> {
    let end = offset + length;
    (offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).map(move |sector| {
        (sector, (sector * SECTOR_BYTES).max(offset)..((sector + 1) * SECTOR_BYTES).min(end))
    })
}

/// Applies to `durable` what the choice lets reach the disk; see the rules at the head of `disk_sim`.
fn left_on_disk(durable: &Content, unsynced: &[Change], choice: &mut dyn CrashChoice) -> Content {
    let mut content = durable.clone();
    if unsynced.is_empty() {
        return content;
    }
    choice.begin_part();
    // Lengths (and allocations) reach the disk in order: those of the first `lengths` changes have.
    let lengths = choice.state(unsynced.len() as u64) as usize;
    let mut writes_of: HashMap<u64, u64> = HashMap::new();
    for change in unsynced {
        if let Change::Write { bytes, offset } = change {
            for (sector, _) in sectors(*offset, bytes.len() as u64) {
                *writes_of.entry(sector).or_default() += 1;
            }
        }
    }
    // Sector → how many of its writes, from the first, still reach the disk.
    let mut reaching: HashMap<u64, u64> = HashMap::with_capacity(writes_of.len());
    let mut length = durable.length();
    // A shortening that did not reach the disk keeps later writes behind its cut away: their blocks belong to no file yet.
    let mut cut_off_from = u64::MAX;
    for (index, change) in unsynced.iter().enumerate() {
        match change {
            Change::Write { bytes, offset } => {
                let end = offset + bytes.len() as u64;
                if index < lengths {
                    length = length.max(end);
                }
                let mut run = *offset..*offset;
                for (sector, piece) in sectors(*offset, bytes.len() as u64) {
                    let left = reaching.entry(sector).or_insert_with(|| choice.state(writes_of[&sector]));
                    let reaches = *left > 0 && piece.start < cut_off_from;
                    *left = left.saturating_sub(1);
                    if reaches && run.end == piece.start {
                        run.end = piece.end;
                    } else if reaches {
                        write_run(&mut content, bytes, *offset, &run);
                        run = piece;
                    }
                }
                write_run(&mut content, bytes, *offset, &run);
            }
            Change::SetLength { length: set, .. } if index < lengths => {
                content.set_length(*set);
                length = *set;
            }
            Change::SetLength { length: set, shortens: true } => cut_off_from = cut_off_from.min(*set),
            Change::Allocate { offset, length: more } if index < lengths => {
                content.allocate(*offset, *more);
                length = length.max(offset + more);
            }
            Change::SetLength { .. } | Change::Allocate { .. } => {}
        }
    }
    content.set_length(length);
    content
}

fn write_run(content: &mut Content, bytes: &[u8], offset: u64, run: &Range<u64>) {
    content.write(&bytes[(run.start - offset) as usize..(run.end - offset) as usize], run.start);
}
