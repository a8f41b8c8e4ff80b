//! What the leader knows of its backup, for those who ship, make images, and look.

use crate::sequencer::{JournalPin, JournalPins};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::applied::Applied;
use cairn_core::limits::{BACKUP_AGE_WARNED, BACKUP_IMAGE_AGE, BACKUP_IMAGE_BYTES, BACKUP_PIN_BYTES};
use cairn_core::time::{Tick, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

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
    /// When this leader first knew of it.
    image_known: Tick,
    /// Name of the newest image's manifest.
    manifest: Option<String>,
    /// All that was applied by then has been shipped.
    restorable: Option<Tick>,
    shipping_failed: Option<String>,
    image_failed: Option<String>,
    /// Why old images could not be removed.
    removal_failed: Option<String>,
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
    /// What is not as it should be although all can be restored.
    pub(crate) nuisance: String,
    pub(crate) gaps: u64,
}

impl Progress {
    fn set_image(&mut self, image: Option<(LogIndex, Timestamp, String)>, now: Tick) {
        self.image_known = now;
        self.image = image.as_ref().map(|(index, time, _)| (*index, *time));
        self.manifest = image.map(|(_, _, manifest)| manifest);
    }
}

impl Shown {
    /// What an operator must know, if anything.
    pub(crate) fn warning(&self) -> Option<String> {
        if self.url.is_empty() || self.unsafe_for < BACKUP_AGE_WARNED {
            return Some(self.nuisance.clone()).filter(|nuisance| !nuisance.is_empty());
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

    /// What is known, if it still is of this term: what was begun in an earlier one says nothing of this.
    fn of(&self, term: Term) -> Option<MutexGuard<'_, Progress>> {
        Some(self.lock()).filter(|progress| progress.term == Some(term))
    }

    /// Where shipping stands, when `written` bytes of journal have been written so far. No more than so many wait for it,
    /// whatever became of all attempts to ship them: this is the first thing that each attempt asks.
    pub(super) fn position(&self, term: Term, written: u64) -> Option<Position> {
        let mut progress = self.of(term)?;
        let at = progress.at.as_mut()?;
        if at.pin.is_some() && written.saturating_sub(at.pinned_at) > BACKUP_PIN_BYTES {
            at.pin = None;
            warn!("so much journal waits for the backup that it is no longer kept: a gap may come of it");
        }
        Some(at.clone())
    }

    /// What the destination holds was found: the newest image and where shipping stands.
    pub(super) fn found(
        &self,
        (term, now): (Term, Tick),
        image: Option<(LogIndex, Timestamp, String)>,
        at: Option<Position>,
    ) {
        let Some(mut progress) = self.of(term) else { return };
        progress.set_image(image, now);
        if progress.at.is_none() {
            progress.at = at;
        }
        if progress.image.is_none() {
            progress.image_needed.get_or_insert_with(|| "there is none of this history".to_owned());
        }
    }

    /// One object more is there.
    pub(super) fn shipped(&self, term: Term, at: Position, bytes: u64) {
        if let Some(mut progress) = self.of(term) {
            progress.at = Some(at);
            progress.shipped_since_image += bytes;
        }
    }

    /// All that was applied at `moment` is there.
    pub(super) fn caught_up(&self, term: Term, moment: Tick) {
        let Some(mut progress) = self.of(term) else { return };
        progress.shipping_failed = None;
        // Behind a gap nothing can be restored before an image stands there.
        if progress.image_needed.is_none() {
            progress.restorable = Some(moment);
        }
    }

    /// Whether that is news.
    pub(super) fn shipping_failed(&self, term: Term, reason: String) -> bool {
        let Some(mut progress) = self.of(term) else { return false };
        let is_news = progress.shipping_failed.as_ref() != Some(&reason);
        progress.shipping_failed = Some(reason);
        is_news
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
    pub(super) fn broken(&self, term: Term, reason: String) {
        self.lock().gaps += 1;
        self.unusable(term, reason);
    }

    /// What the destination holds cannot be gone on from: an image must take its place.
    pub(super) fn unusable(&self, term: Term, reason: String) {
        if let Some(mut progress) = self.of(term) {
            progress.at = None;
            progress.image_needed = Some(reason);
        }
    }

    /// Why an image is to be made although nobody has asked for one. Its age counts by the clock of the wall, which alone goes on
    /// from leader to leader, and by this leader's own, which nobody sets back.
    pub(super) fn image_due(&self, wall: Timestamp, now: Tick) -> Option<String> {
        let progress = self.lock();
        if let Some(reason) = &progress.image_needed {
            return Some(reason.clone());
        }
        let (index, time) = progress.image?;
        let written = progress.at.as_ref().is_some_and(|at| at.shipped.last.index > index);
        let age = Duration::from_secs(u64::try_from(wall.seconds.saturating_sub(time.seconds)).unwrap_or(0));
        let age = age.max(now.since(progress.image_known));
        if progress.shipped_since_image >= BACKUP_IMAGE_BYTES {
            Some("much journal was shipped since the last one".to_owned())
        } else if written && age >= BACKUP_IMAGE_AGE {
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
    pub(super) fn image_ended(
        &self,
        (term, now): (Term, Tick),
        made: Result<(LogIndex, Timestamp, String), String>,
    ) {
        let mut progress = self.lock();
        progress.image_runs = false;
        if progress.term != Some(term) {
            return;
        }
        match made {
            Ok(image) => {
                progress.set_image(Some(image), now);
                progress.image_failed = None;
                progress.image_needed = None;
                progress.shipped_since_image = 0;
            }
            Err(reason) => progress.image_failed = Some(reason),
        }
    }

    /// Old images were removed, or why not.
    pub(super) fn removal_ended(&self, term: Term, removed: Result<(), String>) {
        if let Some(mut progress) = self.of(term) {
            progress.removal_failed = removed.err();
        }
    }

    /// For operators.
    pub(crate) fn shown(&self, now: Tick) -> Shown {
        let progress = self.lock();
        let restorable = progress.restorable.filter(|_| progress.image.is_some());
        let failure = progress.shipping_failed.clone().or_else(|| progress.image_failed.clone());
        let since = if progress.term.is_some() { now.since(progress.since) } else { Duration::ZERO };
        let age = restorable.map(|moment| now.since(moment));
        let image = progress.image_failed.as_ref().map(|reason| {
            format!(
                "the last image of the metadata could not be made: {reason}: a restore takes longer without; `cairn admin backup \
                 create` tries again"
            )
        });
        let removal = progress.removal_failed.as_ref();
        let removal =
            removal.map(|reason| format!("old images of the metadata could not be removed: {reason}"));
        Shown {
            nuisance: image.or(removal).unwrap_or_default(),
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
        backup.found((term, at(100)), None, None);
        assert!(backup.image_due(wall, at(101)).is_some());
        assert_eq!(backup.shown(at(109)).warning(), None);
        assert!(backup.shown(at(111)).warning().is_some_and(|text| text.contains("no restorable point")));
        backup.image_begun(term, position());
        backup.caught_up(term, at(112));
        assert_eq!(backup.shown(at(112)).age, None, "the image is not complete yet");
        backup.image_ended((term, at(1)), Ok(image(5)));
        backup.caught_up(term, at(113));
        assert_eq!(backup.shown(at(114)).age, Some(Duration::from_secs(1)));
        assert_eq!(backup.image_due(wall, at(101)), None);
        // Journal is gone: the age goes on growing whatever is shipped, until an image stands behind the gap.
        backup.broken(term, "trimmed".to_owned());
        backup.image_begun(term, position());
        backup.caught_up(term, at(120));
        let shown = backup.shown(at(125));
        assert_eq!((shown.age, shown.gaps), (Some(Duration::from_secs(12)), 1));
        assert!(shown.warning().is_some());
        backup.image_ended((term, at(1)), Ok(image(9)));
        backup.caught_up(term, at(126));
        assert_eq!(backup.shown(at(126)).age, Some(Duration::ZERO));
    }

    #[test]
    fn an_image_is_due_after_a_day_and_only_if_something_was_written() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        let term = Term(1);
        backup.lead(term, at(1));
        let mut place = position();
        place.shipped.last.index = LogIndex(5);
        backup.found((term, at(1)), Some(image(5)), Some(place.clone()));
        let tomorrow = Timestamp { seconds: 100 + BACKUP_IMAGE_AGE.as_secs() as i64, nanos: 0 };
        assert_eq!(backup.image_due(tomorrow, at(2)), None);
        place.shipped.last.index = LogIndex(6);
        backup.shipped(term, place.clone(), 1);
        assert!(backup.image_due(tomorrow, at(2)).is_some());
        let today = Timestamp { seconds: 101, nanos: 0 };
        assert_eq!(backup.image_due(today, at(2)), None);
        // The clock of the wall was set back by years.
        let earlier = Timestamp { seconds: -1_000_000_000, nanos: 0 };
        assert_eq!(backup.image_due(earlier, at(2)), None);
        assert!(backup.image_due(earlier, at(1 + BACKUP_IMAGE_AGE.as_secs())).is_some());
        backup.shipped(term, place, BACKUP_IMAGE_BYTES);
        assert!(backup.image_due(today, at(2)).is_some());
    }

    #[test]
    fn what_an_earlier_term_knew_is_void() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        let (term, later) = (Term(1), Term(2));
        backup.lead(term, at(1));
        backup.found((term, at(1)), Some(image(5)), Some(position()));
        backup.caught_up(term, at(2));
        backup.lead(later, at(3));
        assert!(backup.position(later, 0).is_none() && backup.shown(at(4)).age.is_none());
        backup.image_ended((term, at(4)), Ok(image(7)));
        assert_eq!(backup.shown(at(4)).image, None, "an image of an earlier term is found by listing");
        // What was on its way when the term ended would keep the next turn from looking at what there is.
        backup.shipped(term, position(), 1);
        backup.found((term, at(4)), Some(image(5)), Some(position()));
        backup.caught_up(term, at(4));
        backup.unusable(term, "damaged".to_owned());
        assert!(!backup.shipping_failed(term, "failed".to_owned()));
        assert!(backup.position(later, 0).is_none() && !backup.awaits_image());
        assert_eq!(backup.shown(at(4)).failure, "");
        backup.follow();
        assert_eq!(backup.shown(at(99)).unsafe_for, Duration::ZERO);
    }

    #[test]
    fn a_destination_that_takes_nothing_does_not_keep_the_journal_for_ever() {
        let pins = Arc::new(JournalPins::default());
        let backup = Backup::new("file:///x".to_owned(), Arc::clone(&pins));
        let term = Term(1);
        backup.lead(term, at(1));
        let pin = Some(Arc::new(pins.pin(LogIndex(5))));
        backup.found((term, at(1)), Some(image(5)), Some(Position { pin, pinned_at: 100, ..position() }));
        // Every attempt fails after this.
        assert!(backup.position(term, 100 + BACKUP_PIN_BYTES).unwrap().pin.is_some());
        assert_eq!(pins.lowest(), Some(LogIndex(5)));
        assert!(backup.position(term, 101 + BACKUP_PIN_BYTES).unwrap().pin.is_none());
        assert_eq!(pins.lowest(), None);
    }

    #[test]
    fn damage_in_the_destination_is_answered_with_an_image() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        let (term, wall) = (Term(1), Timestamp::default());
        backup.lead(term, at(1));
        backup.unusable(term, "the newest image is damaged".to_owned());
        assert!(backup.image_due(wall, at(2)).is_some_and(|reason| reason.contains("damaged")));
        backup.image_begun(term, position());
        backup.caught_up(term, at(3));
        assert_eq!(backup.shown(at(3)).age, None);
        backup.image_ended((term, at(4)), Ok(image(9)));
        backup.caught_up(term, at(5));
        let shown = backup.shown(at(5));
        assert_eq!((shown.age, shown.gaps), (Some(Duration::ZERO), 0));
    }

    #[test]
    fn an_image_that_fails_is_told_while_shipping_goes_on() {
        let backup = Backup::new("file:///x".to_owned(), Arc::default());
        let term = Term(1);
        backup.lead(term, at(1));
        backup.found((term, at(1)), Some(image(5)), Some(position()));
        backup.caught_up(term, at(2));
        assert_eq!(backup.shown(at(2)).warning(), None);
        backup.removal_ended(term, Err("403".to_owned()));
        assert!(backup.shown(at(2)).warning().is_some_and(|text| text.contains("removed: 403")));
        backup.image_ended((term, at(3)), Err("413".to_owned()));
        backup.caught_up(term, at(4));
        let shown = backup.shown(at(4));
        assert!(shown.warning().is_some_and(|text| text.contains("413") && text.contains("create")));
        assert_eq!(shown.age, Some(Duration::ZERO), "everything can be restored");
        backup.image_ended((term, at(5)), Ok(image(7)));
        backup.removal_ended(term, Ok(()));
        backup.caught_up(term, at(5));
        assert_eq!(backup.shown(at(5)).warning(), None);
    }
}
