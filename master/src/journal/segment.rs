//! One segment file: its name, and what is remembered of it.

use cairn_core::ids::LogIndex;
use cairn_core::journal::frame::SegmentHeader;
use cairn_env::disk::DiskFile;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".journal";
/// Bytes between two marks: how much a read of one old entry has to walk.
const MARK_BYTES: u64 = 64 << 10;

/// Path of segment `number`.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}{SUFFIX}"))
}

/// The number in a segment's file name.
pub(crate) fn number(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The batch at `position` has `index` as its first entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) index: LogIndex,
    pub(super) position: u64,
}

/// An open segment.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    /// Behind the last batch.
    pub(super) end: u64,
    /// Bytes of the file that may be used.
    pub(super) capacity: u64,
    marks: Vec<Mark>,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, file: Arc<dyn DiskFile>, end: u64, capacity: u64) -> Self {
        Self { header, file, end, capacity, marks: Vec::new() }
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> u64 {
        (self.header.base + self.capacity).saturating_sub(self.end)
    }

    /// Notes that entry `index` stands in the batch at `position`; remembered when far enough from the last mark.
    pub(super) fn mark(&mut self, index: LogIndex, position: u64) {
        // An index not above the last one's was truncated and written again: older marks lead to void entries.
        while self.marks.last().is_some_and(|mark| mark.index >= index) {
            self.marks.pop();
        }
        if self.marks.last().is_none_or(|mark| position - mark.position >= MARK_BYTES) {
            self.marks.push(Mark { index, position });
        }
    }

    /// The last mark at or before `index`.
    pub(super) fn mark_before(&self, index: LogIndex) -> Option<Mark> {
        self.marks.partition_point(|mark| mark.index <= index).checked_sub(1).map(|at| self.marks[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_none() {
        let name = path(Path::new("/j"), 0x1f);
        assert_eq!(number(name.file_name().unwrap()), Some(0x1f));
        for stranger in ["spare", "1.journal", "000000000000001f.journal.new", "00000000000000zz.journal"] {
            assert_eq!(number(OsStr::new(stranger)), None, "{stranger}");
        }
    }
}
