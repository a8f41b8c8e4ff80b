//! What the health pages of a master say.

use crate::metrics;
use crate::parts::Parts;
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
    match parts.term() {
        Some(term) => Readiness::Ready(format!("leads in {term}")),
        None => Readiness::NotYet("does not lead".to_owned()),
    }
}
