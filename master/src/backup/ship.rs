//! Shipping the journal: what was applied since the last shipment, each second, as one object.

use super::objects::{Objects, ObjectsError};
use super::place;
use super::state::Position;
use super::{Backup, SourceError};
use crate::parts::Parts;
use crate::sequencer::JournalReadError;
use cairn_core::backup::History;
use cairn_core::backup::names::{self, Stretch};
use cairn_core::backup::shipment::ShipmentBuilder;
use cairn_core::ids::Term;
use cairn_core::journal::applied::Applied;
use cairn_core::journal::entry::EntryData;
use cairn_core::journal::frame::EntryKind;
use cairn_core::limits::{BACKUP_PERIOD, SHIPMENT_BYTES};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thiserror::Error;
use tracing::{error, info, warn};

/// Why a turn came to nothing; the next one tries again.
#[derive(Debug, Error)]
enum ShipError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Journal(#[from] JournalReadError),
    #[error(
        "its newest image is gone: mount again what is to be there, or have an image made by `cairn admin backup create`"
    )]
    ImageGone,
    #[error("there is no image yet behind which the journal could be shipped")]
    NoImage,
    #[error(
        "what was shipped up to entry {0} is not what this master has applied: the objects below {1} are of another life of this \
         cluster; move them away, or set `backup` to another place"
    )]
    Forked(u64, String),
}

impl From<ObjectsError> for ShipError {
    fn from(error: ObjectsError) -> Self {
        Self::Source(error.into())
    }
}

/// Ships while this member leads, until the master stops.
pub(crate) async fn ship_in_background(parts: Arc<Parts>) {
    if parts.backup.url.is_empty() {
        return parts.stopping.cancelled().await;
    }
    let mut objects = None;
    while !parts.stopping.is_cancelled() {
        match parts.term() {
            Some(term) => {
                parts.backup.lead(term, parts.now());
                let turn = turn(&parts, term, &mut objects);
                match parts.stopping.run_until_cancelled(turn).await {
                    Some(Ok(())) | None => {}
                    Some(Err(error)) => note(&parts.backup, term, &error),
                }
            }
            None => parts.backup.follow(),
        }
        let pause = tokio::time::sleep(BACKUP_PERIOD);
        if parts.stopping.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

fn note(backup: &Backup, term: Term, error: &ShipError) {
    if let ShipError::Journal(JournalReadError::Trimmed(after)) = error {
        let reason = format!("the journal after entry {after} went before it was shipped");
        error!(%reason, "backup has a gap: a fresh image is made, moments within the gap cannot be restored");
        backup.broken(term, reason);
    }
    if backup.shipping_failed(term, error.to_string()) && !matches!(error, ShipError::NoImage) {
        warn!(%error, "the journal is not shipped, and tried again each second");
    }
}

/// Ships all that is applied at present.
async fn turn(parts: &Parts, term: Term, open: &mut Option<Objects>) -> Result<(), ShipError> {
    let written = parts.sequencer.metrics().journal_bytes.load(Ordering::Relaxed);
    let known = parts.backup.position(term, written);
    let objects = match open {
        Some(objects) => objects.clone(),
        None => open.insert(Objects::open(&parts.backup.url)?).clone(),
    };
    let of = (parts.cluster, History::of(term));
    let position = match known {
        Some(position) => position,
        None if parts.backup.awaits_image() => return Err(ShipError::NoImage),
        None => find(parts, term, &objects, of).await?,
    };
    if let Some(manifest) = parts.backup.manifest() {
        // A directory whose disk is no longer mounted takes everything and keeps nothing.
        match objects.beginning(&manifest, 1).await {
            Err(ObjectsError::Missing { .. }) => return Err(ShipError::ImageGone),
            found => drop(found?),
        }
    }
    let mut at = position;
    loop {
        let moment = parts.now();
        let (shipped, applied) = collect(parts, &at.shipped).await?;
        if let Some((builder, after)) = shipped {
            let bytes = put(&objects, of, builder, &at.shipped, &after).await?;
            at = pinned(parts, after);
            parts.backup.shipped(term, at.clone(), bytes);
        }
        if at.shipped.last.index >= applied.last.index {
            if at.shipped.last.index == applied.last.index && at.shipped.hash != applied.hash {
                let below = names::of_history(of.0, of.1);
                return Err(ShipError::Forked(applied.last.index.get(), below));
            }
            parts.backup.caught_up(term, moment);
            return Ok(());
        }
    }
}

/// Where shipping stands: behind what the destination holds, or behind the image that is being made.
async fn find(
    parts: &Parts,
    term: Term,
    objects: &Objects,
    of: (cairn_core::ids::ClusterId, History),
) -> Result<Position, ShipError> {
    let found = match place::find(objects, of.0, of.1).await {
        Err(SourceError::Object { name, error, .. }) => {
            let reason = format!("{name} {error}");
            error!(%reason, "backup cannot go on from what the destination holds: a fresh image is made");
            parts.backup.unusable(term, reason);
            return Err(ShipError::NoImage);
        }
        found => found?,
    };
    let image = found.as_ref().map(|place| (place.image.last.index, place.image.time, place.name.clone()));
    let at = found.map(|place| pinned(parts, place.reach));
    if let (Some((image, ..)), Some(at)) = (&image, &at) {
        info!(image = image.get(), shipped = at.shipped.last.index.get(), "goes on with the backup");
    }
    parts.backup.found((term, parts.now()), image, at);
    parts.backup.position(term, 0).ok_or(ShipError::NoImage)
}

/// The position behind `shipped`, whose successors stay in the journal.
pub(super) fn pinned(parts: &Parts, shipped: Applied) -> Position {
    let pin = Some(Arc::new(parts.backup.pins.pin(shipped.last.index)));
    let pinned_at = parts.sequencer.metrics().journal_bytes.load(Ordering::Relaxed);
    Position { shipped, pin, pinned_at }
}

type Collected = Option<(ShipmentBuilder, Applied)>;

/// Entries after `shipped`, as many as one shipment takes; and how far the state is.
async fn collect(parts: &Parts, shipped: &Applied) -> Result<(Collected, Applied), ShipError> {
    let (mut builder, mut after) = (ShipmentBuilder::default(), shipped.clone());
    loop {
        let read = parts.sequencer.read_journal(after.last.index).await?;
        for entry in &read.entries {
            builder.push(entry.id, entry.kind, &entry.data);
            after.advance(entry.id, &entry.data);
            if entry.kind == EntryKind::Normal
                && let Some(time) = EntryData::time_of(&entry.data)
            {
                after.time = after.time.max(time);
            }
        }
        if read.entries.is_empty()
            || after.last.index >= read.applied.last.index
            || builder.len() >= SHIPMENT_BYTES
        {
            let collected = (!builder.is_empty()).then_some((builder, after));
            return Ok((collected, read.applied));
        }
    }
}

async fn put(
    objects: &Objects,
    of: (cairn_core::ids::ClusterId, History),
    builder: ShipmentBuilder,
    before: &Applied,
    after: &Applied,
) -> Result<u64, ShipError> {
    let Some((header, object)) = builder.finish(of, (before.hash, after.hash), after.time) else {
        return Ok(0);
    };
    let stretch = Stretch { first: header.first, last: header.last };
    let bytes = object.len() as u64;
    objects.put(&names::shipment(of.0, of.1, stretch), object).await?;
    Ok(bytes)
}
