//! The journal of a stopped master, event by event. Every segment is read, verified and judged, whatever is wrong with others.

use super::{Content, OfflineError, Stopped, content};
use crate::journal::segment;
use cairn_core::ids::{LogIndex, NodeId};
use cairn_core::journal::frame::{
    BatchHeader, HardState, LogId, Record, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use cairn_core::journal::review::{Ending, Next, Seen, judge, review};
use cairn_env::Env;
use cairn_env::disk::{Disk, OpenMode};
use std::path::{Path, PathBuf};

/// Larger files are none of ours.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Something in a journal, in the order in which it stands there.
#[derive(Debug)]
pub enum Event<'a> {
    /// A segment begins.
    Segment {
        /// Its file.
        file: &'a Path,
        /// Its first sector.
        header: &'a SegmentHeader,
    },
    /// A batch that verifies and follows the one before; without records it is a closing mark.
    Batch {
        /// Where it stands in its file.
        offset: u64,
        /// Its header.
        header: &'a BatchHeader,
    },
    /// An entry of the batch seen last.
    Entry {
        /// Its place in the log.
        id: LogId,
        /// Bytes of its data.
        bytes: usize,
        /// What it says.
        content: &'a Content,
    },
    /// Entries after `last` are void.
    Truncate {
        /// The last one that stays.
        last: LogIndex,
    },
    /// All entries are void; the log goes on after `last`.
    Reset {
        /// The last entry of the copy that was installed.
        last: LogId,
    },
    /// The valid batches of a segment end.
    End {
        /// Number of the segment.
        segment: u64,
        /// Where, in its file.
        offset: u64,
        /// The same as a position.
        position: u64,
        /// What that means.
        ending: Ending,
    },
    /// Something is wrong.
    Damage {
        /// Number of the segment.
        segment: u64,
        /// Where, in its file.
        offset: u64,
        /// What.
        detail: &'a str,
    },
}

/// What stands in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments.
    pub segments: u64,
    /// Batches, closing marks included.
    pub batches: u64,
    /// Entries, void ones included.
    pub entries: u64,
    /// The log's last entry before the journal begins.
    pub before: LogId,
    /// The last entry.
    pub last: LogId,
    /// The hard state at the end.
    pub hard: HardState,
    /// Whether a torn tail was found: no damage.
    pub torn: bool,
    /// Damages.
    pub damages: u64,
}

/// A segment's file, and its header if that verifies.
struct File {
    number: u64,
    path: PathBuf,
    header: Result<SegmentHeader, String>,
}

/// Reads the whole journal, and shows everything in it to `visit`.
///
/// # Errors
/// `Io` only: damage is shown and counted.
pub fn read_journal(
    env: &Env,
    stopped: &Stopped,
    visit: &mut dyn FnMut(&Event<'_>),
) -> Result<Summary, OfflineError> {
    let directory = stopped.path.join("journal");
    let files = files(&*env.disk, &directory, stopped.node)?;
    let mut reading = Reading { visit, summary: Summary::default() };
    let mut before: Option<u64> = None;
    for (at, file) in files.iter().enumerate() {
        if let Some(missing) = before.map(|number| number + 1).filter(|next| *next != file.number) {
            reading.damage(missing, 0, "the file is missing");
        }
        before = Some(file.number);
        match &file.header {
            Ok(header) => {
                let bytes = read(&*env.disk, &file.path)?;
                let next = match files.get(at + 1) {
                    None => Next::Nothing,
                    Some(File { number, header: Ok(next), .. }) if *number == file.number + 1 => {
                        Next::Segment(next)
                    }
                    Some(_) => Next::Unknown,
                };
                reading.segment(file, header, &bytes, next);
            }
            Err(detail) => reading.damage(file.number, 0, detail),
        }
    }
    Ok(reading.summary)
}

fn files(disk: &dyn Disk, directory: &Path, node: NodeId) -> Result<Vec<File>, OfflineError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| OfflineError::Io { path, source }
    };
    let items = disk.list(directory).map_err(failed(directory))?;
    let mut numbers: Vec<u64> = items.iter().filter_map(|item| segment::number(&item.name)).collect();
    numbers.sort_unstable();
    let file = |number| {
        let path = segment::path(directory, number);
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        let opened = disk.open(&path, OpenMode::Read).map_err(failed(&path))?;
        let got = opened.read_at(&mut bytes, 0).map_err(failed(&path))?;
        let header = SegmentHeader::decode(&bytes[..got]).map_err(|error| error.to_string());
        let header = header.and_then(|header| match () {
            () if header.number != number => Err(format!("the file holds segment {}", header.number)),
            () if header.node != node => Err(format!("it was written by node {}", header.node)),
            () => Ok(header),
        });
        Ok(File { number, path, header })
    };
    numbers.into_iter().map(file).collect()
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OfflineError> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; file.len()?.min(SEGMENT_BYTES_MAX) as usize];
        let got = file.read_at(&mut bytes, 0)?;
        bytes.truncate(got);
        Ok(bytes)
    };
    read().map_err(|source| OfflineError::Io { path: path.to_owned(), source })
}

struct Reading<'v> {
    visit: &'v mut dyn FnMut(&Event<'_>),
    summary: Summary,
}

impl Reading<'_> {
    fn damage(&mut self, segment: u64, offset: u64, detail: &str) {
        self.summary.damages += 1;
        (self.visit)(&Event::Damage { segment, offset, detail });
    }

    fn segment(&mut self, file: &File, header: &SegmentHeader, bytes: &[u8], next: Next<'_>) {
        if self.summary.segments == 0 {
            (self.summary.before, self.summary.last) = (header.last, header.last);
        }
        self.summary.segments += 1;
        (self.visit)(&Event::Segment { file: &file.path, header });
        let mut offset = 0;
        let end = review(bytes, header, |seen| match seen {
            Seen::Batch(batch) => {
                offset = batch.position - header.base;
                self.summary.batches += 1;
                (self.visit)(&Event::Batch { offset, header: &batch });
            }
            Seen::Record(record) => self.record(file.number, offset, &record),
            Seen::Malformed => {
                self.damage(file.number, offset, "the batch verifies, but its records make no sense")
            }
        });
        self.summary.hard = end.hard;
        let ending = judge(bytes, header, &end, next);
        let offset = end.position - header.base;
        self.summary.torn |= matches!(ending, Ending::Torn { .. });
        if let Ending::Corrupt(corruption) = ending {
            self.damage(file.number, offset, &corruption.to_string());
        }
        (self.visit)(&Event::End { segment: file.number, offset, position: end.position, ending });
    }

    fn record(&mut self, segment: u64, offset: u64, record: &Record<'_>) {
        match *record {
            Record::Entry { id, kind, data } => {
                let content = content(kind, data);
                self.summary.entries += 1;
                (self.visit)(&Event::Entry { id, bytes: data.len(), content: &content });
                if id.index.get() != self.summary.last.index.get() + 1 {
                    let detail =
                        format!("entry {} follows entry {}", id.index.get(), self.summary.last.index.get());
                    self.damage(segment, offset, &detail);
                }
                if let Content::Unreadable(error) = content {
                    self.damage(segment, offset, &format!("entry {}: {error}", id.index.get()));
                }
                self.summary.last = id;
            }
            Record::Truncate { last } => {
                self.summary.last.index = last;
                (self.visit)(&Event::Truncate { last });
            }
            Record::Reset { last } => {
                self.summary.last = last;
                (self.visit)(&Event::Reset { last });
            }
        }
    }
}
