//! Applying shipped entries to a state that nobody uses: as a follower does, and compared with what was shipped.

use crate::sequencer::Committed;
use bytes::Bytes;
use cairn_core::backup::BackupError;
use cairn_core::backup::shipment::{ShipmentHeader, ShippedEntry};
use cairn_core::ids::LogIndex;
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::EntryKind;
use cairn_core::journal::members::MEMBERS_KEY;
use cairn_core::time::Timestamp;
use cairn_env::kv::{Batch, Kv, KvError};
use thiserror::Error;

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    End,
    Index(LogIndex),
    /// The last entry whose leader time is not after it.
    Moment(Timestamp),
}

/// Why entries could not be applied.
#[derive(Debug, Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Object(#[from] BackupError),
    #[error("says that entry {0} follows another history than the state has")]
    OtherHistory(u64),
    #[error("has entry {0}, which cannot be applied: {1}")]
    Entry(u64, String),
    #[error(transparent)]
    State(#[from] KvError),
}

/// Applies what of a shipment is not yet applied, up to the moment. Whether that has been reached.
pub(super) fn replay(
    kv: &dyn Kv,
    applied: &mut Applied,
    (header, entries): &(ShipmentHeader, Vec<ShippedEntry>),
    until: Until,
) -> Result<bool, ReplayError> {
    let mut batch = Batch::default();
    let other = |applied: &Applied| ReplayError::OtherHistory(applied.last.index.get() + 1);
    let mut ended = false;
    for entry in entries {
        if entry.id.index <= applied.last.index {
            continue;
        }
        let next = applied.last.index.get() + 1;
        if entry.id.index.get() != next || (header.first.get() == next && header.before != applied.hash) {
            return Err(other(applied));
        }
        if ends_before(entry, until) {
            ended = true;
            break;
        }
        let wrong = |error: String| ReplayError::Entry(entry.id.index.get(), error);
        applied.advance(entry.id, &entry.data);
        match Committed::read(entry.kind, &entry.data).map_err(wrong)? {
            Committed::Nothing => {}
            Committed::Votes(_, row) => batch.writes.push((Bytes::from_static(&MEMBERS_KEY), Some(row))),
            Committed::Masters(data) => batch.writes.extend(data.rows),
            Committed::Rows(data) => {
                applied.time = applied.time.max(data.time);
                batch.writes.extend(data.rows);
            }
        }
    }
    if !ended && applied.last.index == header.last && applied.hash != header.after {
        return Err(other(applied));
    }
    batch.writes.push((Bytes::from_static(&APPLIED_KEY), Some(applied.encode())));
    kv.write(&batch)?;
    Ok(ended)
}

fn ends_before(entry: &ShippedEntry, until: Until) -> bool {
    match until {
        Until::End => false,
        Until::Index(last) => entry.id.index > last,
        Until::Moment(moment) => {
            let time = if entry.kind == EntryKind::Normal { EntryData::time_of(&entry.data) } else { None };
            time.is_some_and(|time| time > moment)
        }
    }
}
