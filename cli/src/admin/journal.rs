//! `admin journal dump`: what stands in the journal of a stopped master.

use crate::args::JournalDump;
use crate::error::CliError;
use crate::files::date_time;
use crate::output;
use cairn_core::fsck::decode::{row, table_name};
use cairn_core::fsck::hex;
use cairn_core::journal::entry::{EntryData, Origin};
use cairn_core::journal::frame::{BatchHeader, HardState, LogId, SegmentHeader};
use cairn_core::journal::members::Members;
use cairn_core::journal::membership::VoteChange;
use cairn_core::journal::review::Ending;
use cairn_core::namespace::machine::RecordKind;
use cairn_env::Env;
use cairn_master::offline::{Content, Event, OfflineError, Stopped, Summary, read_journal};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::path::Path;

/// Prints a journal.
pub(super) fn dump(env: &Env, json: bool, command: &JournalDump) -> Result<(), CliError> {
    let service = |error: OfflineError| CliError::Service(error.to_string());
    let stopped = Stopped::open(env, &command.data_dir).map_err(service)?;
    let mut printer = Printer {
        json,
        rows: command.rows,
        whole: command.from.is_none() && command.to.is_none(),
        wanted: command.from.unwrap_or(0)..=command.to.unwrap_or(u64::MAX),
        batch: None,
    };
    let summary = read_journal(env, &stopped, &mut |event| printer.show(event)).map_err(service)?;
    printer.summary(&summary);
    if summary.damages == 0 {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "journal in {}: {} damages: change nothing there; a master of a group is filled by its leader at its next start, one \
         that is alone is put right from a backup",
        stopped.path.join("journal").display(),
        summary.damages
    )))
}

struct Printer {
    json: bool,
    rows: bool,
    /// All is shown; else entries of the range with their batches, and damage.
    whole: bool,
    wanted: RangeInclusive<u64>,
    /// A batch that is shown as soon as one of its entries is.
    batch: Option<(u64, BatchHeader)>,
}

impl Printer {
    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Segment { file, header } => {
                self.batch = None;
                if self.whole {
                    self.put(&segment_text(file, header), segment_json(file, header));
                }
            }
            Event::Batch { offset, header } => {
                self.batch = Some((*offset, **header));
                if self.whole {
                    self.batch();
                }
            }
            Event::Entry { id, bytes, content } => {
                if self.wanted.contains(&id.index.get()) {
                    self.batch();
                    self.entry(*id, *bytes, content);
                }
            }
            Event::Truncate { last } => {
                let last = last.get();
                self.mark(
                    &format!("truncate: entries after {last} are void"),
                    json!({ "event": "truncate", "last": last }),
                );
            }
            Event::Reset { last } => {
                let (index, term) = (last.index.get(), last.term.get());
                let text = format!(
                    "reset: a copy was installed; the log goes on after entry {index} of term {term}"
                );
                self.mark(&text, json!({ "event": "reset", "last": index, "term": term }));
            }
            Event::Damage { segment, offset, detail } => self.put(
                &format!("  DAMAGE in segment {segment} at byte {offset}: {detail}"),
                json!({ "event": "damage", "segment": segment, "offset": offset, "detail": detail }),
            ),
            Event::End { segment, offset, position, ending } => {
                if self.whole || matches!(ending, Ending::Torn { .. } | Ending::Corrupt(_)) {
                    self.end(*segment, *offset, *position, ending);
                }
            }
        }
    }

    fn put(&self, text: &str, value: Value) {
        if self.json { output::json_line(&value) } else { output::line(text) }
    }

    /// What voids entries matters to whoever looks at some of them.
    fn mark(&mut self, text: &str, value: Value) {
        self.batch();
        self.put(&format!("    {text}"), value);
    }

    fn batch(&mut self) {
        let Some((offset, header)) = self.batch.take() else { return };
        let (position, durable, hard) = (header.position, header.durable, &header.hard);
        let what = match header.records {
            0 => "closing mark".to_owned(),
            records => format!("batch of {records} records, {} bytes", header.length),
        };
        self.put(
            &format!("  {what} at byte {offset}: position {position}, durable {durable}, {}", hard_text(hard)),
            json!({
                "event": "batch", "offset": offset, "position": position, "durable": durable, "records": header.records,
                "bytes": header.length, "term": hard.term.get(), "vote": hard.vote, "commit": hard.commit.get(),
            }),
        );
    }

    fn entry(&self, id: LogId, bytes: usize, content: &Content) {
        let (index, term) = (id.index.get(), id.term.get());
        let mut value = json!({ "event": "entry", "index": index, "term": term, "bytes": bytes });
        let (text, rows) = match content {
            Content::Empty => ("Empty: a leader began".to_owned(), Vec::new()),
            Content::Act(act) => (act_text(act), act.rows.clone()),
            Content::Votes { change, members, row } => {
                let key = bytes::Bytes::from_static(&cairn_core::journal::members::MEMBERS_KEY);
                (votes_text(*change, members), vec![(key, Some(row.clone()))])
            }
            Content::Unreadable(error) => (format!("UNREADABLE: {error}"), Vec::new()),
        };
        describe(content, &mut value);
        if self.rows && self.json {
            let rows: Vec<Value> = rows.iter().map(|(key, row)| row_json(key, row.as_deref())).collect();
            value["rows_written"] = rows.into();
        }
        self.put(&format!("    entry {index}  term {term}  {bytes} bytes  {text}"), value);
        if self.rows && !self.json {
            rows.iter()
                .for_each(|(key, row)| output::line(&format!("      {}", row_text(key, row.as_deref()))));
        }
    }

    fn end(&self, segment: u64, offset: u64, position: u64, ending: &Ending) {
        let (word, detail) = match ending {
            Ending::Sealed => ("sealed", "the next segment goes on from here".to_owned()),
            Ending::Unused => ("end", "the journal ends here".to_owned()),
            Ending::Torn { bytes, batches } => (
                "torn tail",
                format!(
                    "the journal ends here; of what was being written behind it {bytes} bytes with {batches} whole batches are \
                     left, which nobody was answered for: a start goes on without them"
                ),
            ),
            Ending::Unknown => {
                ("unknown", "the segment that went on from here is missing or unreadable".to_owned())
            }
            Ending::Corrupt(corruption) => ("corruption", corruption.to_string()),
        };
        self.put(
            &format!("  {word} at byte {offset} of segment {segment} (position {position}): {detail}"),
            json!({
                "event": "end", "segment": segment, "offset": offset, "position": position, "ending": word,
                "detail": detail,
            }),
        );
    }

    fn summary(&self, summary: &Summary) {
        let Summary { segments, batches, entries, before, last, hard, torn, damages } = summary;
        let (first, newest) = (before.index.get() + 1, last.index.get());
        let tail = if *torn { ", a torn tail" } else { "" };
        self.put(
            &format!(
                "{segments} segments, {batches} batches, {entries} entries written; the log holds {first} to {newest}, {}{tail}, \
                 {damages} damages",
                hard_text(hard)
            ),
            json!({
                "event": "summary", "segments": segments, "batches": batches, "entries": entries, "first": first,
                "last": newest, "term": hard.term.get(), "vote": hard.vote, "commit": hard.commit.get(), "torn": torn,
                "damages": damages,
            }),
        );
    }
}

fn hard_text(hard: &HardState) -> String {
    format!("term {}, vote {}, commit {}", hard.term.get(), hard.vote, hard.commit.get())
}

fn segment_text(file: &Path, header: &SegmentHeader) -> String {
    let SegmentHeader { number, base, hard, last, node, .. } = header;
    let (index, term) = (last.index.get(), last.term.get());
    format!(
        "segment {number}  {}  base {base}, node {node}, before it entry {index} of term {term}, {}",
        file.display(),
        hard_text(hard)
    )
}

fn segment_json(file: &Path, header: &SegmentHeader) -> Value {
    json!({
        "event": "segment", "number": header.number, "file": file.display().to_string(), "base": header.base,
        "node": header.node.to_string(), "term": header.hard.term.get(), "vote": header.hard.vote,
        "commit": header.hard.commit.get(), "last_index": header.last.index.get(), "last_term": header.last.term.get(),
    })
}

fn kind_name(kind: u8) -> String {
    RecordKind::from_number(kind).map_or_else(|| format!("kind {kind}"), |kind| format!("{kind:?}"))
}

fn act_text(act: &EntryData) -> String {
    let origin = match act.origin {
        Origin::Internal => "by the master".to_owned(),
        Origin::Client { session, slot, sequence } => {
            format!("session {} slot {} sequence {}", session.get(), slot.get(), sequence.get())
        }
    };
    let second = date_time(act.time);
    let (second, nanos) = (second.trim_end_matches('Z'), act.time.nanos);
    format!("{}  {second}.{nanos:09}Z  {origin}  {} rows", kind_name(act.kind), act.rows.len())
}

fn vote_text(change: VoteChange) -> String {
    match change {
        VoteChange::Voter(id) => format!("master {id} votes"),
        VoteChange::Learner(id) => format!("master {id} follows without a vote"),
        VoteChange::Gone(id) => format!("master {id} is out"),
    }
}

fn members_text(members: &Members) -> String {
    let member = |member: &cairn_core::journal::members::Member| {
        let awaited = if member.is_awaited() { " (awaited)" } else { "" };
        format!("{}={} {}{awaited}", member.id, member.address, member.node)
    };
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

fn votes_text(change: VoteChange, members: &Members) -> String {
    format!("ConfChange: {}; members: {}", vote_text(change), members_text(members))
}

/// What an entry says, as fields of `value`.
fn describe(content: &Content, value: &mut Value) {
    let fields = match content {
        Content::Empty => json!({ "kind": "Empty" }),
        Content::Act(act) => {
            let mut fields = json!({
                "kind": kind_name(act.kind), "seconds": act.time.seconds, "nanos": act.time.nanos, "rows": act.rows.len(),
            });
            if let Origin::Client { session, slot, sequence } = act.origin {
                fields["session"] = session.get().into();
                fields["slot"] = slot.get().into();
                fields["sequence"] = sequence.get().into();
            }
            fields
        }
        Content::Votes { change, members, .. } => {
            json!({ "kind": "ConfChange", "change": vote_text(*change), "members": members_text(members) })
        }
        Content::Unreadable(error) => json!({ "kind": "Unreadable", "error": error }),
    };
    if let (Value::Object(value), Value::Object(fields)) = (value, fields) {
        value.extend(fields);
    }
}

fn row_text(key: &[u8], value: Option<&[u8]>) -> String {
    let table = table_name(key);
    match value.map(|value| (row(key, value), value)) {
        None => format!("delete {table} {}", hex(key)),
        Some((Ok(row), _)) => format!("put {table} {} {row:?}", hex(key)),
        Some((Err(error), value)) => format!("put {table} {} {} ({error})", hex(key), hex(value)),
    }
}

/// Bytes only where they do not decode: those of a session are its secret.
fn row_json(key: &[u8], value: Option<&[u8]>) -> Value {
    let (table, text) = (table_name(key), hex(key));
    match value.map(|value| (row(key, value), value)) {
        None => json!({ "table": table, "key": text, "deleted": true }),
        Some((Ok(row), _)) => json!({ "table": table, "key": text, "row": format!("{row:?}") }),
        Some((Err(error), value)) => {
            json!({ "table": table, "key": text, "value": hex(value), "error": error.to_string() })
        }
    }
}
