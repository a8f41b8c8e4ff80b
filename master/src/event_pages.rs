//! What `admin events` is answered.

use crate::events::{self, Noted};
use crate::parts::Parts;
use cairn_core::error::FsError;
use cairn_core::limits::EVENTS_PER_ANSWER;
use cairn_proto::v1::{EventRecord, EventsReply, EventsRequest};

/// The events that are asked for, as far as one message takes them.
///
/// # Errors
/// `NotLeader`: what this master has seen is not what happens to the cluster.
pub(crate) fn page(parts: &Parts, asked: &EventsRequest) -> Result<EventsReply, FsError> {
    events::look(parts);
    let page = parts.events.page(asked.after, asked.since_seconds, EVENTS_PER_ANSWER);
    let Some((term, since)) = page.lead else { return Err(FsError::NotLeader) };
    Ok(EventsReply {
        events: page.events.into_iter().map(|(number, noted)| record(number, &noted)).collect(),
        more: page.more,
        dropped: page.dropped,
        master: parts.config.node_id,
        term: term.get(),
        leads_since: since.seconds,
    })
}

fn record(number: u64, noted: &Noted) -> EventRecord {
    let told = noted.event.told();
    EventRecord {
        number,
        seconds: noted.time.seconds,
        nanos: noted.time.nanos,
        kind: told.kind.to_owned(),
        component: told.component,
        object: told.object,
        what: told.what,
        why: told.why,
        warning: told.is_warning,
    }
}
