//! What the health pages of a master say.

use crate::metrics;
use crate::parts::Parts;
use crate::sequencer::Leadership;
use cairn_env::net::Listener;
use cairn_env::net::pages::{self, Readiness};
use std::io;
use std::sync::Arc;

/// Serves until the master stops.
///
/// # Errors
/// As [`pages::serve`].
pub(crate) async fn serve(parts: Arc<Parts>, listener: Listener) -> io::Result<()> {
    let stopped = parts.stopping.clone().cancelled_owned();
    let shown = parts.clone();
    pages::serve(listener, move || readiness(&parts), move || metrics::page(&shown), stopped).await
}

fn readiness(parts: &Parts) -> Readiness {
    if parts.stopping.is_cancelled() {
        return Readiness::NotYet("stopping".to_owned());
    }
    if let Some(term) = parts.term() {
        return Readiness::Ready(format!("leads in {term}"));
    }
    let group = parts.sequencer.group();
    let group = group.borrow();
    match *parts.leadership.borrow() {
        Leadership::Follows { leader } if group.is_caught_up() => {
            Readiness::Ready(format!("follows master {leader} in {}", group.term))
        }
        Leadership::Follows { leader: 0 } => Readiness::NotYet("knows no leader".to_owned()),
        Leadership::Follows { leader } => Readiness::NotYet(format!(
            "follows master {leader}, and has applied entry {} of {}",
            group.applied.get(),
            group.told_commit.get()
        )),
        Leadership::Leads { .. } => Readiness::NotYet("takes the lead over".to_owned()),
        Leadership::Stopped => Readiness::NotYet("stopped".to_owned()),
    }
}
