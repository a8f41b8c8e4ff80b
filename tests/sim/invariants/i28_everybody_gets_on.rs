//! I28: when the faults have ended every operation succeeds in bounded time, and every master votes again.

use crate::operator::Replacing;
use cairn_core::error::FsError;
use std::collections::BTreeMap;

/// What is wrong with an error. Some leave open whether the operation was done; when `calm`, nothing may fail any more, and what no
/// exact model comes to is wrong at any time.
pub(crate) fn error(client: u64, what: &str, error: &FsError, calm: bool) -> Option<String> {
    let open = matches!(
        error,
        FsError::TimedOut(_)
            | FsError::Io(_)
            | FsError::Unavailable(_)
            | FsError::Stale
            | FsError::NoSpace
            | FsError::NotLeader
    );
    (!open || calm).then(|| format!("I28: client {client}: {what}: {error}"))
}

/// What is wrong when the time to get on is over; `done`: operations by client.
pub(crate) fn at_last(done: &BTreeMap<u64, u64>, replacing: Replacing) -> String {
    format!(
        "I28: after the faults the clients have only done {done:?}; replacement of masters: {replacing:?}"
    )
}
