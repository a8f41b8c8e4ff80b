//! Where shipping stands in a history: found by listing what there is, so that a new leader needs nothing of its predecessor.

use super::SourceError;
use super::objects::{Objects, ObjectsError};
use cairn_core::backup::chain::{self, Chain};
use cairn_core::backup::manifest::Manifest;
use cairn_core::backup::names::{self, ImageName, Stretch};
use cairn_core::backup::shipment::{SHIPMENT_HEADER_BYTES, ShipmentHeader};
use cairn_core::backup::{BackupError, History};
use cairn_core::ids::{ClusterId, LogIndex};
use cairn_core::journal::applied::Applied;
use cairn_core::journal::frame::LogId;
use cairn_core::limits::{BACKUP_OBJECT_BYTES_MAX, SHIPMENT_ENTRIES_MAX};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

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
        let mut chain = follow(objects, (cluster, history), image, image.index.get()).await?;
        if chain.reach == image.index {
            // The image may stand within a shipment, which then begins before it.
            let before = image.index.get().saturating_sub(SHIPMENT_ENTRIES_MAX);
            chain = follow(objects, (cluster, history), image, before).await?;
        }
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

/// Follows those shipments after an image that begin behind entry `after`.
async fn follow(
    objects: &Objects,
    (cluster, history): (ClusterId, History),
    image: ImageName,
    after: u64,
) -> Result<Chain, ObjectsError> {
    let after = LogIndex(after);
    let after = names::shipment(cluster, history, Stretch { first: after, last: LogIndex(u64::MAX) });
    let mut shipments = BTreeSet::new();
    let see = |name: &str, _| {
        let stretch = name.rsplit('/').next().and_then(names::stretch_name);
        shipments.extend(stretch.filter(|stretch| stretch.last > image.index));
        ControlFlow::Continue(())
    };
    objects.each(&names::journal(cluster, history), Some(&after), see).await?;
    Ok(chain::follow(image, &shipments, None))
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_core::backup::shipment::ShipmentBuilder;
    use cairn_core::ids::Term;
    use cairn_core::journal::frame::EntryKind;
    use cairn_core::time::Timestamp;

    const OF: (ClusterId, History) = (ClusterId(uuid::Uuid::from_u128(3)), History(0));

    async fn ship(objects: &Objects, first: u64, last: u64) {
        let mut builder = ShipmentBuilder::default();
        for index in first..=last {
            builder.push(LogId { index: LogIndex(index), term: Term(1) }, EntryKind::Normal, b"");
        }
        let (header, bytes) = builder.finish(OF, (first, last), Timestamp::default()).unwrap();
        let stretch = Stretch { first: header.first, last: header.last };
        objects.put(&names::shipment(OF.0, OF.1, stretch), bytes).await.unwrap();
    }

    #[tokio::test]
    async fn a_shipment_that_spans_the_image_leads_on_from_it() {
        let objects = Objects::in_memory();
        let last = LogId { index: LogIndex(35), term: Term(1) };
        let (time, members, files) = (Timestamp::default(), Bytes::new(), Vec::new());
        let manifest = Manifest { cluster: OF.0, history: OF.1, last, hash: 1, time, members, files };
        let image = ImageName { index: last.index, drawn: 1 };
        objects.put(&names::manifest(OF.0, OF.1, image), manifest.encode()).await.unwrap();
        let reach = async || find(&objects, OF.0, OF.1).await.unwrap().unwrap().reach.last.index.get();
        assert_eq!(reach().await, 35);
        ship(&objects, 20, 29).await;
        ship(&objects, 30, 40).await;
        assert_eq!(reach().await, 40);
        ship(&objects, 41, 44).await;
        assert_eq!(reach().await, 44);
        ship(&objects, 46, 47).await;
        assert_eq!(reach().await, 44, "behind a gap");
    }
}
