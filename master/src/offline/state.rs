//! The state of a stopped master as its next start would find it: what was flushed, and the committed entries of the journal
//! laid over it in memory.

use super::{Content, Event, OfflineError, Stopped, Summary, read_journal};
use crate::kv::RocksKv;
use crate::sequencer::{KvRows, Overlay, OverlayRows};
use bytes::Bytes;
use cairn_core::fsck::{self, Report, rules};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::LogId;
use cairn_core::journal::members::MEMBERS_KEY;
use cairn_core::journal::membership::Votes;
use cairn_env::Env;
use cairn_env::kv::{Kv, KvRead, Wait};
use std::collections::BTreeMap;
use std::path::Path;

/// What an examination came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Findings, and what was looked at.
    pub report: Report,
    /// The last entry that the flushed state contains.
    pub flushed: LogIndex,
    /// The last entry that was laid over it.
    pub replayed: LogIndex,
    /// The last entry of the journal; those behind `replayed` are not known to be committed.
    pub last: LogIndex,
}

/// Checks the state of a stopped master. The entries that the flushed state lacks are held in memory.
///
/// # Errors
/// See [`OfflineError`].
pub fn examine(env: &Env, stopped: &Stopped) -> Result<Examined, OfflineError> {
    let filled = stopped.path.join("filled/install");
    let pending = env.disk.exists(&filled);
    if pending.map_err(|source| OfflineError::Io { path: filled.clone(), source })? {
        return Err(OfflineError::Filled(filled));
    }
    let directory = stopped.path.join("state");
    let failed = |detail: String| OfflineError::State { directory: directory.clone(), detail };
    let kv = RocksKv::open_read_only(&directory).map_err(|error| failed(error.to_string()))?;
    let snapshot = kv.snapshot();
    let value = snapshot.get(&APPLIED_KEY, Wait::ForDisk).map_err(|error| failed(error.to_string()))?;
    let applied = value.and_then(|value| Applied::decode(&value));
    let flushed = applied.as_ref().map_or(LogId::default(), |applied| applied.last);
    let log = Log::read(env, stopped, flushed)?;
    let mut overlay = Overlay::new(usize::MAX);
    let fits = log.at_flushed == Some(flushed.term);
    let mut replayed = flushed.index;
    if let Some(applied) = applied.filter(|_| fits) {
        let journal = stopped.path.join("journal");
        replayed = replay(&log, applied, &mut overlay, &journal)?;
    }
    let mut report = check(&*snapshot, &overlay).map_err(failed)?;
    if !fits {
        let (first, last) = (log.summary.before.index.get() + 1, log.summary.last.index.get());
        let wrong = format!("the journal beside it holds {first} to {last}, and not this entry of this term");
        let LogId { index, term } = flushed;
        report.findings.add(
            rules::A2,
            format_args!("state at entry {} of term {}", index.get(), term.get()),
            wrong,
        );
    }
    Ok(Examined { report, flushed: flushed.index, replayed, last: log.summary.last.index })
}

fn check(snapshot: &dyn KvRead, overlay: &Overlay) -> Result<Report, String> {
    let rows = OverlayRows { overlay, below: KvRows::new(snapshot, Wait::ForDisk) };
    fsck::check(&rows, &|| true).map_err(|error| error.to_string())
}

/// The entries of the journal that the flushed state lacks.
struct Log {
    summary: Summary,
    entries: BTreeMap<LogIndex, (Term, Content)>,
    /// The term of the last entry that the state contains, if the journal holds that one, or ends just before it.
    at_flushed: Option<Term>,
}

impl Log {
    fn read(env: &Env, stopped: &Stopped, flushed: LogId) -> Result<Self, OfflineError> {
        let mut log = Self { summary: Summary::default(), entries: BTreeMap::new(), at_flushed: None };
        let mut damage = None;
        let mut begun = false;
        let summary = read_journal(env, stopped, &mut |event| match event {
            Event::Segment { header, .. } => {
                if !begun {
                    log.begin(header.last, flushed);
                }
                begun = true;
            }
            Event::Entry { id, content, .. } => log.entry(*id, content, flushed),
            Event::Truncate { last } => {
                log.entries.retain(|index, _| index <= last);
                log.at_flushed = log.at_flushed.filter(|_| flushed.index <= *last);
            }
            Event::Reset { last } => {
                log.entries.clear();
                log.begin(*last, flushed);
            }
            Event::Damage { segment, offset, detail } => {
                damage.get_or_insert_with(|| format!("segment {segment}, byte {offset}: {detail}"));
            }
            Event::Batch { .. } | Event::End { .. } => {}
        })?;
        match damage {
            Some(detail) => Err(OfflineError::Journal { directory: stopped.path.join("journal"), detail }),
            None => Ok(Self { summary, ..log }),
        }
    }

    fn begin(&mut self, before: LogId, flushed: LogId) {
        self.at_flushed = (before.index == flushed.index).then_some(before.term);
    }

    fn entry(&mut self, id: LogId, content: &Content, flushed: LogId) {
        if id.index == flushed.index {
            self.at_flushed = Some(id.term);
        }
        if id.index > flushed.index {
            self.entries.insert(id.index, (id.term, content.clone()));
        }
    }
}

/// Lays the committed entries over the state, as the applier writes them, but for the hash, which no rule looks at. Returns the
/// last one.
fn replay(
    log: &Log,
    mut applied: Applied,
    overlay: &mut Overlay,
    journal: &Path,
) -> Result<LogIndex, OfflineError> {
    let commit = log.summary.hard.commit.min(log.summary.last.index);
    for (&index, (term, content)) in log.entries.range(..=commit) {
        applied.last = LogId { index, term: *term };
        match content {
            Content::Empty => {}
            Content::Act(EntryData { rows, time, .. }) => {
                applied.time = applied.time.max(*time);
                overlay.propose(index, rows);
            }
            Content::Votes { change, row, .. } => {
                let Applied { voters, learners, .. } = &mut applied;
                let mut votes = Votes { voters: std::mem::take(voters), learners: std::mem::take(learners) };
                votes.apply(*change);
                (*voters, *learners) = (votes.voters, votes.learners);
                overlay.propose(index, &[(Bytes::from_static(&MEMBERS_KEY), Some(row.clone()))]);
            }
            Content::Unreadable(error) => {
                let detail = format!("entry {}: {error}", index.get());
                return Err(OfflineError::Journal { directory: journal.to_owned(), detail });
            }
        }
    }
    overlay.propose(applied.last.index, &[(Bytes::from_static(&APPLIED_KEY), Some(applied.encode()))]);
    Ok(applied.last.index)
}
