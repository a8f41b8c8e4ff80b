//! I15: retries are exact for as long as the session lives, and it lives on while its client is heard, whichever master leads.

use cairn_core::limits::SESSION_EXPIRY;
use std::time::Duration;

/// By how much less a master's clock may have counted.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// What clients say when their session is gone.
const GONE: [&str; 2] = ["the session with the master expired", "the write lease was taken away"];

/// What is wrong with an error that a client gets so long after its last answer.
pub(crate) fn check(client: u64, error: &str, since_answer: Duration) -> Option<String> {
    let too_early = since_answer + CLOCKS_APART < SESSION_EXPIRY;
    (too_early && GONE.iter().any(|gone| error.contains(gone)))
        .then(|| format!("I15: client {client} had an answer {since_answer:?} ago, and then: {error}"))
}
