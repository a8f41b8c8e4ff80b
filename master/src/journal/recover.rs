//! Reading the journal at start: every segment is walked and judged; nothing is changed.

use super::log_shape::LogShape;
use super::segment::{self, Segment};
use super::spare::SPARE_PREFIX;
use super::{JournalConfig, JournalError, LogEntry};
use bytes::Bytes;
use cairn_core::ids::LogIndex;
use cairn_core::journal::frame::{HardState, LogId, Record, SegmentError, SegmentHeader};
use cairn_core::journal::scan::{SegmentEnd, judge_last, judge_sealed, stated_bytes, walk};
use cairn_core::seeded::{Bug, is_planted};
use cairn_env::disk::{Disk, DiskFile, OpenMode};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Larger files are none of ours.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// What stands in the directory.
pub(super) struct Recovered {
    pub(super) segments: VecDeque<Segment>,
    pub(super) shape: LogShape,
    pub(super) hard: HardState,
    /// Chain value of the last batch.
    pub(super) chain: u64,
    /// Half-made files to remove.
    pub(super) leftovers: Vec<PathBuf>,
    /// Batches of the last segment that nothing states to be durable.
    pub(super) unsure: Unsure,
}

/// Bytes of a segment that were read, and are perhaps not on stable storage.
#[derive(Default)]
pub(super) struct Unsure {
    /// Where in the file they begin.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

struct Loaded {
    header: SegmentHeader,
    file: Arc<dyn DiskFile>,
}

pub(super) fn recover(disk: &dyn Disk, config: &JournalConfig) -> Result<Recovered, JournalError> {
    let (numbers, leftovers) = list(disk, config)?;
    let mut recovered = Recovered {
        segments: VecDeque::new(),
        shape: LogShape::new(LogId::default(), config.cache_bytes),
        hard: HardState::default(),
        chain: 0,
        leftovers,
        unsure: Unsure::default(),
    };
    let mut before: Option<(SegmentHeader, SegmentEnd)> = None;
    // One buffer for all: a process that starts should not look as large as its journal.
    let mut bytes = Vec::with_capacity(config.segment_bytes as usize);
    for (at, &number) in numbers.iter().enumerate() {
        let loaded = load(disk, config, number, &mut bytes)?;
        match &before {
            None => {
                recovered.shape = LogShape::new(loaded.header.last, config.cache_bytes);
            }
            Some((header, end)) => {
                if header.number + 1 != number {
                    return Err(damaged(config, header.number + 1, "the file is missing"));
                }
                judge_sealed(header, end, &loaded.header)
                    .map_err(|corruption| corrupt(config, corruption))?;
            }
        }
        let (segment, end) = walk_segment(&loaded, &bytes, &mut recovered.shape);
        if at + 1 == numbers.len() {
            judge_last(&bytes, &loaded.header, &end).map_err(|corruption| corrupt(config, corruption))?;
            let (offset, end) = (stated_bytes(&bytes), end.position - loaded.header.base);
            let tail = bytes.get(offset as usize..end as usize).unwrap_or_default();
            recovered.unsure = Unsure { offset, bytes: tail.to_vec() };
        }
        recovered.hard = end.hard;
        recovered.chain = end.chain;
        recovered.segments.push_back(segment);
        before = Some((loaded.header, end));
    }
    // A batch may have stated a commit index whose entries followed in the next one, which is the torn tail.
    if is_planted(Bug::ForgetLastBatch) {
        let all = recovered.shape.last().index.get();
        recovered.shape.truncate(LogIndex(all.saturating_sub(1)));
    }
    let last = recovered.shape.last().index;
    recovered.hard.commit = recovered.hard.commit.min(last);
    Ok(recovered)
}

fn list(disk: &dyn Disk, config: &JournalConfig) -> Result<(Vec<u64>, Vec<PathBuf>), JournalError> {
    let mut numbers = Vec::new();
    let mut leftovers = Vec::new();
    for item in disk.list(&config.directory).map_err(|source| config.io(source))? {
        if let Some(number) = segment::number(&item.name) {
            numbers.push(number);
        } else if item.name.to_string_lossy().starts_with(SPARE_PREFIX) {
            leftovers.push(config.directory.join(&item.name));
        } else {
            tracing::warn!(name = %item.name.display(), "unknown file in the journal's directory is left alone");
        }
    }
    numbers.sort_unstable();
    Ok((numbers, leftovers))
}

/// Opens segment `number` and reads it into `bytes`.
fn load(
    disk: &dyn Disk,
    config: &JournalConfig,
    number: u64,
    bytes: &mut Vec<u8>,
) -> Result<Loaded, JournalError> {
    let mut read = || {
        let file = disk.open(&segment::path(&config.directory, number), OpenMode::Write)?;
        let length = file.len()?.min(SEGMENT_BYTES_MAX);
        bytes.resize(length as usize, 0);
        let got = file.read_at(bytes, 0)?;
        bytes.truncate(got);
        Ok(file)
    };
    let file = read().map_err(|source| config.io(source))?;
    let header =
        SegmentHeader::decode(bytes).map_err(|error: SegmentError| damaged(config, number, error))?;
    if header.number != number {
        return Err(damaged(config, number, format!("the file holds segment {}", header.number)));
    }
    if header.node != config.node {
        return Err(damaged(config, number, format!("it was written by node {}", header.node)));
    }
    Ok(Loaded { header, file })
}

fn walk_segment(loaded: &Loaded, bytes: &[u8], shape: &mut LogShape) -> (Segment, SegmentEnd) {
    let capacity = bytes.len() as u64;
    let mut segment = Segment::new(loaded.header, Arc::clone(&loaded.file), 0, capacity);
    let end = walk(bytes, &loaded.header, |batch, record| match record {
        Record::Entry { id, kind, data } => {
            // The writer truncates before it overwrites; an entry that leaves a gap was never written by it.
            debug_assert_eq!(id.index.get(), shape.last().index.get() + 1);
            segment.mark(id.index, batch.position);
            shape.push(LogEntry { id, kind, data: Bytes::copy_from_slice(data) });
        }
        Record::Truncate { last } => shape.truncate(last),
        Record::Reset { last } => shape.reset(last),
    });
    segment.end = end.position;
    (segment, end)
}

fn corrupt(config: &JournalConfig, corruption: cairn_core::journal::scan::Corruption) -> JournalError {
    JournalError::Corrupt { directory: config.directory.clone(), corruption }
}

fn damaged(config: &JournalConfig, segment: u64, detail: impl ToString) -> JournalError {
    JournalError::Damaged { directory: config.directory.clone(), segment, detail: detail.to_string() }
}

impl JournalConfig {
    pub(super) fn io(&self, source: std::io::Error) -> JournalError {
        JournalError::Io { directory: self.directory.clone(), source }
    }
}

impl Recovered {
    /// The last entry of the log.
    pub(super) fn last(&self) -> LogIndex {
        self.shape.last().index
    }
}
