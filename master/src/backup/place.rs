//! Where shipping stands in a history: found by listing what there is, so that a new leader needs nothing of its predecessor.

use super::SourceError;
use super::objects::{Objects, ObjectsError};
use cairn_core::backup::manifest::Manifest;
use cairn_core::backup::names::{self, ImageName, Stretch};
use cairn_core::backup::shipment::{SHIPMENT_HEADER_BYTES, ShipmentHeader};
use cairn_core::backup::{BackupError, History, chain};
use cairn_core::ids::ClusterId;
use cairn_core::journal::applied::Applied;
use cairn_core::journal::frame::LogId;
use cairn_core::limits::BACKUP_OBJECT_BYTES_MAX;
use std::collections::BTreeSet;

/// The newest image, and the last entry that can be reached from it: index, running hash and time count.
pub(super) struct Place {
    pub(super) image: Manifest,
    /// The object that says so.
    pub(super) name: String,
    pub(super) reach: Applied,
}

/// Finds it; `None` when the history has no image.
pub(super) async fn find(
    objects: &Objects,
    cluster: ClusterId,
    history: History,
) -> Result<Option<Place>, SourceError> {
    let below = names::images(cluster, history);
    let images = objects.directories(&below).await?;
    for image in images.iter().rev().filter_map(|name| names::image_name(name)) {
        let manifest = match read_manifest(objects, (cluster, history), image).await {
            // It is being made, or was cut off.
            Err(SourceError::Objects(ObjectsError::Missing { .. })) => continue,
            manifest => manifest?,
        };
        // Shipments begin behind the one before, so one that spans the image may be passed over: its entries are shipped again.
        let nothing = Stretch { first: image.index, last: image.index };
        let after = names::shipment(cluster, history, nothing);
        let listed = objects.list(&names::journal(cluster, history), Some(&after)).await?;
        let stretch = |(name, _): &(String, u64)| names::stretch_name(name.rsplit('/').next()?);
        let shipments: BTreeSet<Stretch> = listed.iter().filter_map(stretch).collect();
        let chain = chain::follow(image, &shipments, None);
        let mut reach =
            Applied { last: manifest.last, hash: manifest.hash, time: manifest.time, ..Applied::default() };
        if let Some(&last) = chain.shipments.last() {
            let header = read_header(objects, (cluster, history), last).await?;
            reach.last = LogId { index: header.last, term: reach.last.term };
            (reach.hash, reach.time) = (header.after, header.time);
        }
        let name = names::manifest(cluster, history, image);
        return Ok(Some(Place { image: manifest, name, reach }));
    }
    Ok(None)
}

/// Reads the manifest of an image.
pub(super) async fn read_manifest(
    objects: &Objects,
    (cluster, history): (ClusterId, History),
    image: ImageName,
) -> Result<Manifest, SourceError> {
    let name = names::manifest(cluster, history, image);
    let object = objects.get(&name, BACKUP_OBJECT_BYTES_MAX).await?;
    let manifest = Manifest::decode(&object).and_then(|manifest| {
        let fits =
            (manifest.cluster, manifest.history, manifest.last.index) == (cluster, history, image.index);
        if fits { Ok(manifest) } else { Err(BackupError::Misplaced) }
    });
    manifest.map_err(|error| SourceError::Object { url: objects.url().to_owned(), name, error })
}

/// Reads what a shipment says of itself.
pub(super) async fn read_header(
    objects: &Objects,
    (cluster, history): (ClusterId, History),
    stretch: Stretch,
) -> Result<ShipmentHeader, SourceError> {
    let name = names::shipment(cluster, history, stretch);
    let beginning = objects.beginning(&name, SHIPMENT_HEADER_BYTES).await?;
    let header = ShipmentHeader::decode(&beginning);
    let header = header.and_then(|header| fits(header, (cluster, history), stretch));
    header.map_err(|error| SourceError::Object { url: objects.url().to_owned(), name, error })
}

/// A shipment that stands where it belongs.
pub(super) fn fits(
    header: ShipmentHeader,
    of: (ClusterId, History),
    stretch: Stretch,
) -> Result<ShipmentHeader, BackupError> {
    let is_of = (header.cluster, header.history) == of
        && (header.first, header.last) == (stretch.first, stretch.last);
    if is_of { Ok(header) } else { Err(BackupError::Misplaced) }
}
