//! Removing what is older than the images that are to stay.
//!
//! Of the leader's own history only: what stands in another one belongs to a life before a restore, or to a restore that somebody
//! tries out, and no leader can tell which. No clock has a say. Two leaders may do it at the same time: each finds enough whole
//! images for itself, and what the other has removed is gone.

use super::SourceError;
use super::objects::{Objects, ObjectsError};
use super::place::read_manifest;
use cairn_core::backup::History;
use cairn_core::backup::names::{self, Catalogue, ImageName, stretch_name};
use cairn_core::backup::retention::Frontier;
use cairn_core::ids::ClusterId;
use cairn_core::limits::BACKUP_REMOVED_AT_ONCE;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tracing::warn;

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Images, whole or not.
    pub(super) images: u64,
    pub(super) shipments: u64,
}

/// Removes what stands before the `keep` newest whole images of a history, while `goes_on`. Nothing goes before all of them were
/// found whole. A crash leaves images without manifests and shipments that nobody needs: the next time takes them.
///
/// # Errors
/// The destination cannot be reached; some may have gone.
pub(super) async fn remove_old(
    objects: &Objects,
    of: (ClusterId, History),
    keep: usize,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> Result<Removed, SourceError> {
    let listed: BTreeMap<String, u64> =
        objects.list(&names::images(of.0, of.1), None).await?.into_iter().collect();
    let mut catalogue = Catalogue::of(listed.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    let histories = catalogue.clusters.get_mut(&of.0);
    let holdings = histories.and_then(|histories| histories.remove(&of.1)).unwrap_or_default();
    let mut whole = BTreeSet::new();
    for &image in holdings.images.iter().rev() {
        if whole.len() < keep && is_whole(objects, of, image, &listed).await? {
            whole.insert(image);
        }
    }
    let mut removed = Removed::default();
    let Some(frontier) = Frontier::of(&whole, keep) else { return Ok(removed) };
    let images = holdings.images.union(&holdings.unfinished);
    for &image in images.filter(|image| frontier.passes_image(**image)) {
        if !goes_on() {
            return Ok(removed);
        }
        // First what makes an image of the files: a half removed one is none.
        objects.remove(vec![names::manifest(of.0, of.1, image)]).await?;
        let below = format!("{}/", names::image(of.0, of.1, image));
        let files = listed.range(below.clone()..).map(|(name, _)| name);
        objects.remove(files.take_while(|name| name.starts_with(&below)).cloned().collect()).await?;
        removed.images += 1;
    }
    let mut before = Vec::new();
    while goes_on() {
        let old = old_shipments(objects, of, frontier).await?;
        // A listing may go on naming what is gone.
        if old.is_empty() || old == before {
            break;
        }
        objects.remove(old.clone()).await?;
        removed.shipments += old.len() as u64;
        before = old;
    }
    Ok(removed)
}

/// Whether a restore would find everything of an image, as far as a listing shows it.
async fn is_whole(
    objects: &Objects,
    of: (ClusterId, History),
    image: ImageName,
    listed: &BTreeMap<String, u64>,
) -> Result<bool, SourceError> {
    let manifest = match read_manifest(objects, of, image).await {
        Ok(manifest) => manifest,
        Err(error @ SourceError::Objects(ObjectsError::Failed { .. })) => return Err(error),
        Err(error) => {
            warn!(%error, "an image of the metadata is not whole, and does not count");
            return Ok(false);
        }
    };
    let missing = manifest.files.iter().find(|file| {
        let object = names::file(of.0, of.1, image, &file.name);
        listed.get(&object) != Some(&file.bytes)
    });
    if let Some(file) = missing {
        let image = names::image(of.0, of.1, image);
        warn!(image, file = %file.name, "an image of the metadata is not whole, and does not count");
    }
    Ok(missing.is_none())
}

/// Some of the shipments that nobody needs.
async fn old_shipments(
    objects: &Objects,
    of: (ClusterId, History),
    frontier: Frontier,
) -> Result<Vec<String>, SourceError> {
    let mut old = Vec::new();
    let journal = names::journal(of.0, of.1);
    let see = |name: &str, _| {
        let stretch = name.rsplit('/').next().and_then(stretch_name);
        if stretch.is_some_and(|stretch| frontier.passes_shipment(stretch)) {
            old.push(name.to_owned());
        }
        if old.len() < BACKUP_REMOVED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    objects.each(&journal, None, see).await?;
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_core::backup::manifest::{ImageFile, Manifest};
    use cairn_core::backup::names::Stretch;
    use cairn_core::ids::{LogIndex, Term};
    use cairn_core::journal::frame::LogId;
    use cairn_core::time::Timestamp;

    const OF: (ClusterId, History) = (ClusterId(uuid::Uuid::from_u128(3)), History(2));

    async fn put(objects: &Objects, name: &str, bytes: impl Into<Bytes>) {
        objects.put(name, bytes.into()).await.unwrap();
    }

    /// An image of two files.
    async fn image(objects: &Objects, of: (ClusterId, History), index: u64) -> ImageName {
        let name = ImageName { index: LogIndex(index), drawn: 1 };
        let file = |name: &str| ImageFile { name: name.to_owned(), bytes: 5, crc: 0 };
        let files = vec![file("CURRENT"), file("000001.sst")];
        for file in &files {
            put(objects, &names::file(of.0, of.1, name, &file.name), "bytes").await;
        }
        let last = LogId { index: LogIndex(index), term: Term(of.1.begins_in().get() + 1) };
        let (time, members) = (Timestamp::default(), Bytes::new());
        let manifest = Manifest { cluster: of.0, history: of.1, last, hash: 1, time, members, files };
        put(objects, &names::manifest(of.0, of.1, name), manifest.encode()).await;
        name
    }

    async fn shipments(objects: &Objects, of: (ClusterId, History), bounds: &[(u64, u64)]) {
        for &(first, last) in bounds {
            let stretch = Stretch { first: LogIndex(first), last: LogIndex(last) };
            put(objects, &names::shipment(of.0, of.1, stretch), "journal").await;
        }
    }

    async fn held(objects: &Objects, of: (ClusterId, History)) -> (Vec<u64>, Vec<u64>, Vec<(u64, u64)>) {
        let listing = objects.list("", None).await.unwrap();
        let catalogue = Catalogue::of(listing.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
        let holdings = &catalogue.clusters[&of.0][&of.1];
        let indexes = |images: &BTreeSet<ImageName>| images.iter().map(|image| image.index.get()).collect();
        let shipments = holdings.shipments.iter().map(|held| (held.first.get(), held.last.get()));
        (indexes(&holdings.images), indexes(&holdings.unfinished), shipments.collect())
    }

    /// Images at 10, 20, 30, an unfinished one at 15, journal throughout; the same in another history.
    async fn destination(objects: &Objects) {
        for of in [OF, (OF.0, History(1)), (OF.0, History(9))] {
            for index in [10, 20, 30] {
                image(objects, of, index).await;
            }
            let unfinished = ImageName { index: LogIndex(15), drawn: 4 };
            put(objects, &names::file(of.0, of.1, unfinished, "CURRENT"), "x").await;
            shipments(objects, of, &[(1, 9), (10, 18), (19, 25), (26, 30), (31, 40)]).await;
            put(objects, &names::origin(of.0, of.1), "claimed").await;
        }
    }

    const ALL: [(u64, u64); 5] = [(1, 9), (10, 18), (19, 25), (26, 30), (31, 40)];

    #[tokio::test]
    async fn what_only_old_images_need_goes_and_other_histories_stay() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        for objects in [Objects::in_memory(), Objects::open(&url).unwrap()] {
            destination(&objects).await;
            let removed = remove_old(&objects, OF, 2, &|| true).await.unwrap();
            assert_eq!(removed, Removed { images: 2, shipments: 2 });
            let left = (vec![20, 30], vec![], ALL[2..].to_vec());
            assert_eq!(held(&objects, OF).await, left);
            assert_eq!(remove_old(&objects, OF, 2, &|| true).await.unwrap(), Removed::default());
            for history in [1, 9] {
                let untouched = (vec![10, 20, 30], vec![15], ALL.to_vec());
                assert_eq!(held(&objects, (OF.0, History(history))).await, untouched);
            }
        }
        let images = directory.path().join(names::images(OF.0, OF.1));
        let kept = cairn_env::Env::real().disk.list(&images).unwrap();
        assert_eq!(kept.len(), 2, "directories of what is gone are gone");
    }

    #[tokio::test]
    async fn an_image_that_is_not_whole_does_not_count() {
        let newest = ImageName { index: LogIndex(30), drawn: 1 };
        let sst = names::file(OF.0, OF.1, newest, "000001.sst");
        for (name, bytes) in
            [(&sst, None), (&sst, Some("cut")), (&names::manifest(OF.0, OF.1, newest), Some("x"))]
        {
            let objects = Objects::in_memory();
            destination(&objects).await;
            match bytes {
                Some(bytes) => put(&objects, name, bytes).await,
                None => objects.remove(vec![name.clone()]).await.unwrap(),
            }
            assert_eq!(remove_old(&objects, OF, 3, &|| true).await.unwrap(), Removed::default());
            assert_eq!(held(&objects, OF).await, (vec![10, 20, 30], vec![15], ALL.to_vec()));
            remove_old(&objects, OF, 2, &|| true).await.unwrap();
            assert_eq!(held(&objects, OF).await, (vec![10, 20, 30], vec![15], ALL[1..].to_vec()));
        }
    }

    #[tokio::test]
    async fn a_leader_that_leads_no_more_removes_nothing() {
        let objects = Objects::in_memory();
        destination(&objects).await;
        assert_eq!(remove_old(&objects, OF, 1, &|| false).await.unwrap(), Removed::default());
        assert_eq!(held(&objects, OF).await, (vec![10, 20, 30], vec![15], ALL.to_vec()));
    }
}
