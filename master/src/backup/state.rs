//! What the leader knows of its backup, for those who ship, make images, and look.

use crate::sequencer::{JournalPin, JournalPins};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::applied::Applied;
use cairn_core::limits::{BACKUP_AGE_WARNED, BACKUP_IMAGE_AGE, BACKUP_IMAGE_BYTES};
use cairn_core::time::{Tick, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The backup of this master.
pub(crate) struct Backup {
    /// Where to, as configured; empty: nowhere.
    pub(super) url: String,
    pub(super) pins: Arc<JournalPins>,
    progress: Mutex<Progress>,
    /// Number of the last image that was asked for.
    pub(super) asked: watch::Sender<u64>,
    /// Number of the last one that was dealt with, and what became of it.
    pub(super) made: watch::Sender<(u64, Result<LogIndex, String>)>,
}

/// How far it is. Void when the term ends.
#[derive(Default)]
struct Progress {
    term: Option<Term>,
    /// When this term's lead was first looked at.
    since: Tick,
    at: Option<Position>,
    image: Option<(LogIndex, Timestamp)>,
    /// Name of the newest image's manifest.
    manifest: Option<String>,
    /// All that was applied by then has been shipped.
    restorable: Option<Tick>,
    shipping_failed: Option<String>,
    image_failed: Option<String>,
    image_runs: bool,
    /// Shipping cannot go on without an image, and why.
    image_needed: Option<String>,
    shipped_since_image: u64,
    /// Times that journal went before it was shipped, since the start.
    gaps: u64,
}

/// Where shipping stands.
#[derive(Clone)]
pub(super) struct Position {
    /// The last entry shipped, the running hash with it, its leader time.
    pub(super) shipped: Applied,
    /// Keeps what follows; absent when the destination has not taken it for too long.
    pub(super) pin: Option<Arc<JournalPin>>,
    /// Bytes of journal that had been written when the pin was taken.
    pub(super) pinned_at: u64,
}

/// What operators are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) url: String,
    pub(crate) image: Option<(LogIndex, Timestamp)>,
    pub(crate) image_runs: bool,
    pub(crate) shipped: Option<LogIndex>,
    /// Age of the last restorable point, as far as this leader knows; `None` when there is none.
    pub(crate) age: Option<Duration>,
    /// How long there has been none, or the age.
    pub(crate) unsafe_for: Duration,
    pub(crate) failure: String,
    pub(crate) gaps: u64,
}

impl Progress {
    fn set_image(&mut self, image: Option<(LogIndex, Timestamp, String)>) {
        self.image = image.as_ref().map(|(index, time, _)| (*index, *time));
        self.manifest = image.map(|(_, _, manifest)| manifest);
    }
}

impl Shown {
    /// What an operator must know, if anything.
    pub(crate) fn warning(&self) -> Option<String> {
        if self.url.is_empty() || self.unsafe_for < BACKUP_AGE_WARNED {
            return None;
        }
        let seconds = self.unsafe_for.as_secs();
        let what = match self.age {
            Some(_) => format!("the last restorable point of the backup is {seconds} s old"),
            None => format!("the backup has had no restorable point for {seconds} s or longer"),
        };
        let why = if self.failure.is_empty() { "it makes no progress" } else { &self.failure };
        Some(format!("{what}: {why}; what is acknowledged now would be lost with the masters"))
    }
}

impl Backup {
    pub(crate) fn new(url: String, pins: Arc<JournalPins>) -> Self {
        let (asked, made) = (watch::Sender::new(0), watch::Sender::new((0, Err("none was made".to_owned()))));
        Self { url, pins, progress: Mutex::default(), asked, made }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member leads in `term`: what it knew of an earlier one is void.
    pub(super) fn lead(&self, term: Term, now: Tick) {
        let mut progress = self.lock();
        if progress.term != Some(term) {
            *progress = Progress { term: Some(term), since: now, gaps: progress.gaps, ..Progress::default() };
        }
    }

    /// This member does not lead: its journal need not wait.
    pub(super) fn follow(&self) {
        let mut progress = self.lock();
        if progress.term.is_some() {
            *progress = Progress { gaps: progress.gaps, ..Progress::default() };
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.lock().at.clone()
    }

    /// What the destination holds was found: the newest image and where shipping stands.
    pub(super) fn found(&self, image: Option<(LogIndex, Timestamp, String)>, at: Option<Position>) {
        let mut progress = self.lock();
        progress.set_image(image);
        if progress.at.is_none() {
            progress.at = at;
        }
        if progress.image.is_none() {
            progress.image_needed.get_or_insert_with(|| "there is none of this history".to_owned());
        }
    }

    /// One object more is there.
    pub(super) fn shipped(&self, at: Position, bytes: u64) {
        let mut progress = self.lock();
        progress.at = Some(at);
        progress.shipped_since_image += bytes;
    }

    /// All that was applied at `moment` is there.
    pub(super) fn caught_up(&self, moment: Tick) {
        let mut progress = self.lock();
        progress.shipping_failed = None;
        // Behind a gap nothing can be restored before an image stands there.
        if progress.image_needed.is_none() {
            progress.restorable = Some(moment);
        }
    }

    pub(super) fn shipping_failed(&self, reason: String) -> bool {
        let mut progress = self.lock();
        let is_news = progress.shipping_failed.as_ref() != Some(&reason);
        progress.shipping_failed = Some(reason);
        is_news
    }

    /// The pin goes; entries may be trimmed before they are shipped.
    pub(super) fn unpin(&self) {
        if let Some(at) = &mut self.lock().at {
            at.pin = None;
        }
    }

    /// The object without which nothing that is shipped can be restored.
    pub(super) fn manifest(&self) -> Option<String> {
        self.lock().manifest.clone()
    }

    /// Whether shipping waits for an image to go on behind.
    pub(super) fn awaits_image(&self) -> bool {
        self.lock().image_needed.is_some()
    }

    /// Shipping cannot go on from where it stands: an image must take its place.
    pub(super) fn broken(&self, reason: String) {
        let mut progress = self.lock();
        progress.at = None;
        progress.gaps += 1;
        progress.image_needed = Some(reason);
    }

    /// Why an image is to be made although nobody has asked for one.
    pub(super) fn image_due(&self, wall: Timestamp) -> Option<String> {
        let progress = self.lock();
        if let Some(reason) = &progress.image_needed {
            return Some(reason.clone());
        }
        let (index, time) = progress.image?;
        let written = progress.at.as_ref().is_some_and(|at| at.shipped.last.index > index);
        let age = wall.seconds.saturating_sub(time.seconds);
        if progress.shipped_since_image >= BACKUP_IMAGE_BYTES {
            Some("much journal was shipped since the last one".to_owned())
        } else if written && age >= BACKUP_IMAGE_AGE.as_secs() as i64 {
            Some("the last one is old".to_owned())
        } else {
            None
        }
    }

    /// A copy of the state was made in `term`, to become an image. Shipping goes on behind it if it cannot otherwise.
    pub(super) fn image_begun(&self, term: Term, at: Position) {
        let mut progress = self.lock();
        if progress.term == Some(term) {
            progress.image_runs = true;
            if progress.image_needed.is_some() {
                progress.at = Some(at);
            }
        }
    }

    /// The image is complete, or is not.
    pub(super) fn image_ended(&self, term: Term, made: Result<(LogIndex, Timestamp, String), String>) {
        let mut progress = self.lock();
        progress.image_runs = false;
        if progress.term != Some(term) {
            return;
        }
        match made {
            Ok(image) => {
                progress.set_image(Some(image));
                progress.image_failed = None;
                progress.image_needed = None;
                progress.shipped_since_image = 0;
            }
            Err(reason) => progress.image_failed = Some(reason),
        }
    }

    /// For operators.
    pub(crate) fn shown(&self, now: Tick) -> Shown {
        let progress = self.lock();
        let restorable = progress.restorable.filter(|_| progress.image.is_some());
        let failure = progress.shipping_failed.clone().or_else(|| progress.image_failed.clone());
        let since = if progress.term.is_some() { now.since(progress.since) } else { Duration::ZERO };
        let age = restorable.map(|moment| now.since(moment));
        Shown {
            url: self.url.clone(),
            image: progress.image,
            image_runs: progress.image_runs,
            shipped: progress.at.as_ref().map(|at| at.shipped.last.index),
            age,
            unsafe_for: if self.url.is_empty() { Duration::ZERO } else { age.unwrap_or(since) },
            failure: failure.unwrap_or_default(),
            gaps: progress.gaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick(Duration::from_secs(seconds))
    }

    fn position() -> Position {
        Position { shipped: Applied::default(), pin: None, pinned_at: 0 }
    }

    fn image(index: u64) -> (LogIndex, Timestamp, String) {
        (LogIndex(index), Timestamp { seconds: 100, nanos: 0 }, "manifest".to_owned())
    }

    #[test]
    fn the_age_counts_from_the_last_moment_that_can_be_restored() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        let (term, wall) = (Term(3), Timestamp { seconds: 150, nanos: 0 });
        assert_eq!(backup.shown(at(90)).warning(), None, "a follower ships nothing");
        backup.lead(term, at(100));
        backup.found(None, None);
        assert!(backup.image_due(wall).is_some());
        assert_eq!(backup.shown(at(109)).warning(), None);
        assert!(backup.shown(at(111)).warning().is_some_and(|text| text.contains("no restorable point")));
        backup.image_begun(term, position());
        backup.caught_up(at(112));
        assert_eq!(backup.shown(at(112)).age, None, "the image is not complete yet");
        backup.image_ended(term, Ok(image(5)));
        backup.caught_up(at(113));
        assert_eq!(backup.shown(at(114)).age, Some(Duration::from_secs(1)));
        assert_eq!(backup.image_due(wall), None);
        // Journal is gone: the age goes on growing whatever is shipped, until an image stands behind the gap.
        backup.broken("trimmed".to_owned());
        backup.image_begun(term, position());
        backup.caught_up(at(120));
        let shown = backup.shown(at(125));
        assert_eq!((shown.age, shown.gaps), (Some(Duration::from_secs(12)), 1));
        assert!(shown.warning().is_some());
        backup.image_ended(term, Ok(image(9)));
        backup.caught_up(at(126));
        assert_eq!(backup.shown(at(126)).age, Some(Duration::ZERO));
    }

    #[test]
    fn an_image_is_due_after_a_day_and_only_if_something_was_written() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        backup.lead(Term(1), at(1));
        let mut place = position();
        place.shipped.last.index = LogIndex(5);
        backup.found(Some(image(5)), Some(place.clone()));
        let tomorrow = Timestamp { seconds: 100 + BACKUP_IMAGE_AGE.as_secs() as i64, nanos: 0 };
        assert_eq!(backup.image_due(tomorrow), None);
        place.shipped.last.index = LogIndex(6);
        backup.shipped(place.clone(), 1);
        assert!(backup.image_due(tomorrow).is_some());
        let today = Timestamp { seconds: 101, nanos: 0 };
        assert_eq!(backup.image_due(today), None);
        backup.shipped(place, BACKUP_IMAGE_BYTES);
        assert!(backup.image_due(today).is_some());
    }

    #[test]
    fn what_an_earlier_term_knew_is_void() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        backup.lead(Term(1), at(1));
        backup.found(Some(image(5)), Some(position()));
        backup.caught_up(at(2));
        backup.lead(Term(2), at(3));
        assert!(backup.position().is_none() && backup.shown(at(4)).age.is_none());
        backup.image_ended(Term(1), Ok(image(7)));
        assert_eq!(backup.shown(at(4)).image, None, "an image of an earlier term is found by listing");
        backup.follow();
        assert_eq!(backup.shown(at(99)).unsafe_for, Duration::ZERO);
    }
}
