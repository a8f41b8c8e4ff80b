//! Drops the extents of large truncates and punches, which the operation itself only cut off.

use crate::parts::Parts;
use cairn_core::limits::WORK_PAGE;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::work::{GarbageKey, garbage};
use std::sync::Arc;
use tracing::warn;

/// Drops everything that is cut off at present.
pub(crate) async fn pass(parts: Arc<Parts>) {
    let page = match parts.reader.read(|rows| garbage(rows, None, WORK_PAGE)).await {
        Ok(page) => page,
        Err(error) => {
            warn!(%error, "garbage could not be read");
            return;
        }
    };
    for GarbageKey { data, from } in page {
        loop {
            if parts.stopping.is_cancelled() {
                return;
            }
            match parts.sequencer.internal(Internal::DropGarbage { data, from }).await {
                Ok(Outcome::More(true)) => {}
                Ok(_) => break,
                Err(error) => {
                    warn!(data, from, %error, "garbage could not be dropped yet");
                    return;
                }
            }
        }
        parts.nudge();
    }
}
