//! Where the objects of a backup stand below its destination.
//!
//! ```text
//! <cluster uuid>/<history, 11 hex>/origin                          a restore has begun this history; text for people
//! <cluster uuid>/<history, 11 hex>/images/<image>/manifest         written last
//! <cluster uuid>/<history, 11 hex>/images/<image>/state/<file>
//! <cluster uuid>/<history, 11 hex>/journal/<first, 16 hex>-<last, 16 hex>
//! image: <index, 16 hex>-<8 hex>, the latter drawn for each, so that two leaders never write into one image
//! ```
//! Objects are written whole and never changed. Names in bytewise order are in the order of their numbers.

use super::History;
use crate::ids::{ClusterId, LogIndex};
use std::collections::{BTreeMap, BTreeSet};

/// Name of an image within its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Last entry that it has applied.
    pub index: LogIndex,
    /// Tells images of one index apart.
    pub drawn: u32,
}

/// First and last entry of a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// First entry.
    pub first: LogIndex,
    /// Last entry.
    pub last: LogIndex,
}

/// Everything of a cluster.
pub fn of_cluster(cluster: ClusterId) -> String {
    cluster.to_string()
}

/// Everything of a history.
pub fn of_history(cluster: ClusterId, history: History) -> String {
    format!("{cluster}/{:011x}", history.0)
}

/// The object that claims a history for a restore.
pub fn origin(cluster: ClusterId, history: History) -> String {
    format!("{}/origin", of_history(cluster, history))
}

/// Below it are the images of a history.
pub fn images(cluster: ClusterId, history: History) -> String {
    format!("{}/images", of_history(cluster, history))
}

/// Below it are the shipments of a history.
pub fn journal(cluster: ClusterId, history: History) -> String {
    format!("{}/journal", of_history(cluster, history))
}

/// A shipment.
pub fn shipment(cluster: ClusterId, history: History, stretch: Stretch) -> String {
    let (first, last) = (stretch.first.get(), stretch.last.get());
    format!("{}/{first:016x}-{last:016x}", journal(cluster, history))
}

/// Everything of an image.
pub fn image(cluster: ClusterId, history: History, image: ImageName) -> String {
    format!("{}/{:016x}-{:08x}", images(cluster, history), image.index.get(), image.drawn)
}

/// The manifest of an image.
pub fn manifest(cluster: ClusterId, history: History, name: ImageName) -> String {
    format!("{}/manifest", image(cluster, history, name))
}

/// A file of an image.
pub fn file(cluster: ClusterId, history: History, name: ImageName, file: &str) -> String {
    format!("{}/state/{file}", image(cluster, history, name))
}

/// What there is of one history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// It was begun by a restore.
    pub restored: bool,
    /// Images with a manifest.
    pub images: BTreeSet<ImageName>,
    /// Images without one: being made, or cut off.
    pub unfinished: BTreeSet<ImageName>,
    /// Shipments.
    pub shipments: BTreeSet<Stretch>,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// All that a listing shows, by cluster and history. Names that are none of ours are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Clusters, their histories.
    pub clusters: BTreeMap<ClusterId, BTreeMap<History, Holdings>>,
}

impl Catalogue {
    /// Reads a listing of names with the sizes of their objects.
    pub fn of<'a>(listing: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut catalogue = Self::default();
        listing.into_iter().for_each(|(name, bytes)| catalogue.add(name, bytes));
        catalogue
    }

    /// Adds one object, by its name and size, in any order.
    pub fn add(&mut self, name: &str, bytes: u64) {
        let Some((cluster, history, object)) = parse(name) else { return };
        let holdings = self.clusters.entry(cluster).or_default().entry(history).or_default();
        holdings.bytes = holdings.bytes.saturating_add(bytes);
        match object {
            Object::Origin => holdings.restored = true,
            Object::Manifest(image) => {
                holdings.unfinished.remove(&image);
                holdings.images.insert(image);
            }
            Object::File(image) if holdings.images.contains(&image) => {}
            Object::File(image) => drop(holdings.unfinished.insert(image)),
            Object::Shipment(stretch) => drop(holdings.shipments.insert(stretch)),
        }
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Origin,
    Manifest(ImageName),
    File(ImageName),
    Shipment(Stretch),
}

fn parse(name: &str) -> Option<(ClusterId, History, Object)> {
    let parts: Vec<&str> = name.split('/').collect();
    let (&cluster, &history) = (parts.first()?, parts.get(1)?);
    let object = match parts.get(2..)? {
        ["origin"] => Object::Origin,
        ["images", image, "manifest"] => Object::Manifest(image_name(image)?),
        ["images", image, "state", _] => Object::File(image_name(image)?),
        ["journal", stretch] => Object::Shipment(stretch_name(stretch)?),
        _ => return None,
    };
    Some((ClusterId(uuid::Uuid::parse_str(cluster).ok()?), History(hex(history, 11)?), object))
}

/// The image of this name, which is the last part of [`image`].
pub fn image_name(text: &str) -> Option<ImageName> {
    let (index, drawn) = text.split_once('-')?;
    Some(ImageName { index: LogIndex(hex(index, 16)?), drawn: hex(drawn, 8)? as u32 })
}

/// The stretch of a shipment of this name, which is the last part of [`shipment`].
pub fn stretch_name(text: &str) -> Option<Stretch> {
    let (first, last) = text.split_once('-')?;
    let stretch = Stretch { first: LogIndex(hex(first, 16)?), last: LogIndex(hex(last, 16)?) };
    (stretch.first <= stretch.last).then_some(stretch)
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let is_ours = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    (text.len() == digits && text.bytes().all(is_ours)).then(|| u64::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn names_are_read_back_in_order_and_others_passed_over() {
        let (cluster, history) = (ClusterId(Uuid::from_u128(9)), History(1 << 43));
        let stretch = |first, last| Stretch { first: LogIndex(first), last: LogIndex(last) };
        let (whole, cut) =
            (ImageName { index: LogIndex(255), drawn: 7 }, ImageName { index: LogIndex(256), drawn: 1 });
        let names = [
            origin(cluster, history),
            manifest(cluster, history, whole),
            file(cluster, history, whole, "CURRENT"),
            file(cluster, history, cut, "CURRENT"),
            shipment(cluster, history, stretch(16, 255)),
            shipment(cluster, history, stretch(5, 15)),
            format!("{}/0000000000000009-0000000000000008", journal(cluster, history)),
            "lost+found/x".to_owned(),
            format!("{cluster}/readme"),
        ];
        let catalogue = Catalogue::of(names.iter().map(|name| (name.as_str(), 10)));
        let holdings = &catalogue.clusters[&cluster][&history];
        assert!(holdings.restored);
        assert_eq!(holdings.images, BTreeSet::from([whole]));
        assert_eq!(holdings.unfinished, BTreeSet::from([cut]));
        assert!(holdings.shipments.iter().copied().eq([stretch(5, 15), stretch(16, 255)]));
        assert_eq!((holdings.bytes, catalogue.clusters.len()), (60, 1));
        let (low, high) =
            (shipment(cluster, history, stretch(9, 9)), shipment(cluster, history, stretch(10, 10)));
        assert!(low < high);
    }
}
