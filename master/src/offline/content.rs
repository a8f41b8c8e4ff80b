//! What an entry of the journal says.

use crate::raft::change;
use bytes::Bytes;
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::EntryKind;
use cairn_core::journal::members::Members;
use cairn_core::journal::membership::VoteChange;

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the first entry of a new leader.
    Empty,
    /// A decided act.
    Act(EntryData),
    /// A change of the group.
    Votes {
        /// Who votes from now on, or no more.
        change: VoteChange,
        /// The row of members after it.
        row: Bytes,
        /// The same decoded.
        members: Members,
    },
    /// It cannot be read, though its checksum holds.
    Unreadable(String),
}

/// Decodes the data of an entry.
pub fn content(kind: EntryKind, data: &[u8]) -> Content {
    if data.is_empty() {
        return Content::Empty;
    }
    let data = Bytes::copy_from_slice(data);
    match kind {
        EntryKind::Normal => match EntryData::decode(data) {
            Ok(act) => Content::Act(act),
            Err(error) => Content::Unreadable(error.to_string()),
        },
        EntryKind::ConfChange => Content::Unreadable("it is of a kind that no master writes".into()),
        EntryKind::ConfChangeV2 => match change::from_entry(data) {
            Ok((change, row)) => match Members::decode(&row) {
                Some(members) => Content::Votes { change, row, members },
                None => Content::Unreadable("its row of members does not decode".into()),
            },
            Err(error) => Content::Unreadable(error),
        },
    }
}
