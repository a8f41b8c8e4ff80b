//! Applying committed entries: their rows and the row that counts them, in one batch. It reads nothing and refuses nothing.

use super::open::Fatal;
use super::overlay::Overlay;
use crate::journal::LogEntry;
use bytes::Bytes;
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::EntryKind;
use cairn_env::kv::{Batch, Kv};
use std::sync::Arc;

/// The state, and how far it is.
pub(super) struct Applier {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) applied: Applied,
}

impl Applier {
    /// Writes the rows of `entries`, which follow the last one applied.
    pub(super) fn apply(&mut self, entries: &[LogEntry], overlay: &mut Overlay) -> Result<(), Fatal> {
        let mut batch = Batch::default();
        for entry in entries {
            if entry.id.index.get() != self.applied.last.index.get() + 1 {
                return Err(Fatal::Order { applied: self.applied.last.index, next: entry.id.index });
            }
            if entry.kind != EntryKind::Normal {
                return Err(Fatal::UnknownEntry(entry.id.index, "it changes the group".into()));
            }
            self.applied.advance(entry.id, &entry.data);
            if entry.data.is_empty() {
                continue;
            }
            let data = EntryData::decode(entry.data.clone());
            let data = data.map_err(|error| Fatal::UnknownEntry(entry.id.index, error.to_string()))?;
            self.applied.time = self.applied.time.max(data.time);
            overlay.applied(entry.id.index, data.rows.iter().map(|(key, _)| key));
            batch.writes.extend(data.rows);
        }
        batch.writes.push((Bytes::from_static(&APPLIED_KEY), Some(self.applied.encode())));
        self.kv.write(&batch).map_err(|error| Fatal::State(error.to_string()))
    }
}
