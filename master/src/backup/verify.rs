//! Reading everything that a restore would need, without restoring it.

use super::SourceError;
use super::objects::{Objects, ObjectsError};
use super::place::{fits, read_manifest};
use super::survey::Life;
use crate::checkpoint;
use crate::sequencer::StateStore;
use cairn_core::backup::manifest::Manifest;
use cairn_core::backup::names::{self, ImageName, Stretch};
use cairn_core::backup::shipment::{self, ShipmentHeader, ShippedEntry};
use cairn_core::backup::{BackupError, History, chain};
use cairn_core::ids::{ClusterId, LogIndex};
use cairn_core::journal::applied::Applied;
use cairn_core::limits::BACKUP_OBJECT_BYTES_MAX;
use cairn_env::Env;
use cairn_env::disk::OpenMode;
use std::io;
use std::path::Path;

/// What was read and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Images whose every byte was read, and which open as a state that is what the manifest says.
    pub images: u64,
    /// Shipments.
    pub shipments: u64,
    /// Their entries.
    pub entries: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Reads images and shipments of a history: all of it, or with `only_newest` what a restore to the latest moment needs. Images
/// are opened below `scratch`, which is empty and of the caller. What is wrong is listed.
///
/// # Errors
/// The destination cannot be reached.
pub async fn verify(
    env: &Env,
    objects: &Objects,
    life: &Life,
    only_newest: bool,
    scratch: &Path,
) -> Result<(Verified, Vec<String>), SourceError> {
    let of = (life.cluster, life.history);
    let (mut verified, mut wrong) = (Verified::default(), Vec::new());
    let (images, shipments): (Vec<ImageName>, Vec<Stretch>) = match chain::newest(&life.holdings) {
        Some(chain) if only_newest => (vec![chain.image], chain.shipments),
        _ => (
            life.holdings.images.iter().copied().collect(),
            life.holdings.shipments.iter().copied().collect(),
        ),
    };
    // A restore has claimed the history, and no master has started with it yet.
    let unborn = life.holdings.restored && life.holdings.shipments.is_empty();
    if images.is_empty() && !unborn {
        wrong.push(format!("history {}: there is no complete image, nothing can be restored", life.history));
    }
    if let (Some(newest), Some(last)) = (life.newest(), life.holdings.shipments.last())
        && last.last > newest.reach
    {
        let (missing, behind) = (newest.reach.get() + 1, last.last.get());
        wrong.push(format!(
            "history {}: entry {missing} is missing, and nothing behind it, up to entry {behind}, can be restored",
            life.history
        ));
    }
    // Running hashes, by the entry that they are of.
    let mut hashes = std::collections::BTreeMap::<LogIndex, u64>::new();
    for name in images {
        match image(env, objects, of, name, scratch).await {
            Ok(manifest) => {
                verified.images += 1;
                verified.bytes += manifest.bytes();
                hashes.insert(manifest.last.index, manifest.hash);
            }
            Err(_) if was_removed(objects, of, |oldest| name < oldest).await? => {}
            Err(reason) => wrong.push(reason),
        }
    }
    for stretch in shipments {
        let (header, entries) = match read_shipment(objects, of, stretch).await {
            Ok(shipment) => shipment,
            Err(SourceError::Objects(ObjectsError::Missing { .. }))
                if was_removed(objects, of, |oldest| stretch.last <= oldest.index).await? =>
            {
                continue;
            }
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        verified.shipments += 1;
        verified.entries += entries.len() as u64;
        verified.bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        if let Err(index) = follows(&mut hashes, &header, &entries) {
            let name = names::shipment(of.0, of.1, stretch);
            wrong.push(format!("{name}: entry {index} follows another history than the objects before it"));
        }
    }
    Ok((verified, wrong))
}

/// Whether something was removed, since it was listed, as older than the images that are to stay: by the oldest one there is now.
async fn was_removed(
    objects: &Objects,
    of: (ClusterId, History),
    is_older: impl Fn(ImageName) -> bool,
) -> Result<bool, SourceError> {
    let images = objects.directories(&names::images(of.0, of.1)).await?;
    Ok(images.iter().filter_map(|name| names::image_name(name)).min().is_some_and(is_older))
}

/// Whether the running hash of every entry that is known otherwise is the same here.
fn follows(
    hashes: &mut std::collections::BTreeMap<LogIndex, u64>,
    header: &ShipmentHeader,
    entries: &[ShippedEntry],
) -> Result<(), u64> {
    let mut applied = Applied { hash: header.before, ..Applied::default() };
    let before = LogIndex(header.first.get() - 1);
    if hashes.get(&before).is_some_and(|hash| *hash != header.before) {
        return Err(header.first.get());
    }
    for entry in entries {
        applied.advance(entry.id, &entry.data);
        if hashes.get(&entry.id.index).is_some_and(|hash| *hash != applied.hash) {
            return Err(entry.id.index.get());
        }
    }
    hashes.insert(header.last, applied.hash);
    if applied.hash == header.after { Ok(()) } else { Err(header.last.get()) }
}

/// Reads a whole shipment.
pub(super) async fn read_shipment(
    objects: &Objects,
    of: (ClusterId, History),
    stretch: Stretch,
) -> Result<(ShipmentHeader, Vec<ShippedEntry>), SourceError> {
    let name = names::shipment(of.0, of.1, stretch);
    let object = objects.get(&name, BACKUP_OBJECT_BYTES_MAX).await?;
    let shipment =
        shipment::decode(object).and_then(|(header, entries)| Ok((fits(header, of, stretch)?, entries)));
    shipment.map_err(|error| SourceError::Object { url: objects.url().to_owned(), name, error })
}

/// Fetches an image, opens it, and removes it again. The reason when it is not whole.
async fn image(
    env: &Env,
    objects: &Objects,
    of: (ClusterId, History),
    name: ImageName,
    scratch: &Path,
) -> Result<Manifest, String> {
    let manifest = read_manifest(objects, of, name).await.map_err(|error| error.to_string())?;
    let directory = scratch.join(format!("{:016x}-{:08x}", name.index.get(), name.drawn));
    let fetched = fetch(env, objects, of, (name, &manifest), &directory).await;
    let checking = {
        let (env, directory, manifest) = (env.clone(), directory.clone(), manifest.clone());
        move || {
            let opened = fetched.map_err(|error| error.to_string()).and_then(|()| {
                checkpoint::reaches(&env, StateStore::Rocks, &directory).map_err(|error| error.to_string())
            });
            let opened = opened.and_then(|applied| match manifest.is_of(&applied) {
                true => Ok(()),
                false => Err(format!("it has applied entry {}", applied.last.index.get())),
            });
            // Also what could not be fetched to its end: the next image needs the room.
            let removed = match env.disk.exists(&directory) {
                Ok(true) => env.disk.remove_dir_all(&directory),
                absent => absent.map(drop),
            };
            opened.and(removed.map_err(|error| error.to_string()))
        }
    };
    let checked =
        env.spawn.blocking(checking).await.map_err(|lost| lost.to_string()).and_then(|checked| checked);
    checked.map(|()| manifest).map_err(|reason| format!("{}: {reason}", names::image(of.0, of.1, name)))
}

/// Why an image could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("writing it to {0}: {1}")]
    Disk(String, io::Error),
}

/// Fetches the files of an image into `directory`, which is made, and makes them durable. Each is compared with the manifest.
pub(super) async fn fetch(
    env: &Env,
    objects: &Objects,
    of: (ClusterId, History),
    (name, manifest): (ImageName, &Manifest),
    directory: &Path,
) -> Result<(), FetchError> {
    let disk = &env.disk;
    let failed = |error: io::Error| FetchError::Disk(directory.display().to_string(), error);
    let lost = |lost| failed(io::Error::other(lost));
    let (making, path) = (disk.clone(), directory.to_owned());
    env.spawn.blocking(move || making.create_dir_all(&path)).await.map_err(lost)?.map_err(failed)?;
    for file in &manifest.files {
        let object = names::file(of.0, of.1, name, &file.name);
        let mut reader = objects.read(&object).await.map_err(SourceError::from)?;
        let (opening, path) = (disk.clone(), directory.join(&file.name));
        let open = env.spawn.blocking(move || opening.open(&path, OpenMode::CreateNew)).await;
        let open = open.map_err(lost)?.map_err(failed)?;
        let (mut hasher, mut offset) = (crc32fast::Hasher::new(), 0);
        while let Some(piece) = reader.next().await.map_err(SourceError::from)? {
            hasher.update(&piece);
            let (writing, at) = (open.clone(), offset);
            offset += piece.len() as u64;
            if offset > file.bytes {
                // However long it is, it does not fill the disk.
                break;
            }
            let written = env.spawn.blocking(move || writing.write_all_at(&piece, at)).await;
            written.map_err(lost)?.map_err(failed)?;
        }
        if (offset, hasher.finalize()) != (file.bytes, file.crc) {
            let (url, name) = (objects.url().to_owned(), object);
            return Err(SourceError::Object { url, name, error: BackupError::Damaged }.into());
        }
        env.spawn.blocking(move || open.sync_all()).await.map_err(lost)?.map_err(failed)?;
    }
    let (syncing, path) = (disk.clone(), directory.to_owned());
    env.spawn.blocking(move || syncing.sync_dir(&path)).await.map_err(lost)?.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_core::backup::manifest::ImageFile;
    use cairn_core::ids::Term;
    use cairn_core::journal::frame::LogId;
    use cairn_core::time::Timestamp;

    const OF: (ClusterId, History) = (ClusterId(uuid::Uuid::from_u128(3)), History(0));

    /// An image whose only file has `bytes` bytes where the manifest says `said`.
    async fn image_of(objects: &Objects, bytes: usize, said: u64) -> (ImageName, Manifest) {
        let name = ImageName { index: LogIndex(4), drawn: 1 };
        let files = vec![ImageFile { name: "000001.sst".to_owned(), bytes: said, crc: 0 }];
        let last = LogId { index: name.index, term: Term(1) };
        let (time, members) = (Timestamp::default(), Bytes::new());
        let manifest = Manifest { cluster: OF.0, history: OF.1, last, hash: 1, time, members, files };
        let file = names::file(OF.0, OF.1, name, "000001.sst");
        objects.put(&file, vec![7; bytes].into()).await.unwrap();
        objects.put(&names::manifest(OF.0, OF.1, name), manifest.encode()).await.unwrap();
        (name, manifest)
    }

    #[tokio::test]
    async fn a_file_that_is_longer_than_it_should_be_does_not_fill_the_disk() {
        let (env, scratch) = (Env::real(), tempfile::tempdir().unwrap());
        let source = tempfile::tempdir().unwrap();
        let objects = Objects::open(&format!("file://{}", source.path().display())).unwrap();
        let (name, manifest) = image_of(&objects, 4 << 20, 10).await;
        let directory = scratch.path().join("image");
        let fetched = fetch(&env, &objects, OF, (name, &manifest), &directory).await;
        assert!(matches!(fetched, Err(FetchError::Source(SourceError::Object { .. }))));
        let written = env.disk.open(&directory.join("000001.sst"), OpenMode::Read).unwrap().len().unwrap();
        assert!(written <= 10, "{written} bytes were written");
    }

    #[tokio::test]
    async fn what_is_removed_while_it_is_verified_is_no_fault() {
        let (env, scratch) = (Env::real(), tempfile::tempdir().unwrap());
        let objects = Objects::in_memory();
        let (old, _) = image_of(&objects, 10, 10).await;
        let shipment = |first, last| {
            names::shipment(OF.0, OF.1, Stretch { first: LogIndex(first), last: LogIndex(last) })
        };
        for name in [shipment(1, 4), shipment(5, 8)] {
            objects.put(&name, Bytes::from_static(b"x")).await.unwrap();
        }
        let survey = super::super::survey(&objects).await.unwrap();
        let faults = async || {
            let (_, wrong) = verify(&env, &objects, &survey.lives[0], false, scratch.path()).await.unwrap();
            wrong.len()
        };
        assert_eq!(faults().await, 3, "none of it is sound");
        objects.remove(vec![shipment(1, 4)]).await.unwrap();
        assert_eq!(faults().await, 2, "it ends where the oldest image stands");
        let newer = ImageName { index: LogIndex(6), drawn: 1 };
        objects.put(&names::manifest(OF.0, OF.1, newer), Bytes::from_static(b"x")).await.unwrap();
        let image = names::manifest(OF.0, OF.1, old);
        objects.remove(vec![image, names::file(OF.0, OF.1, old, "000001.sst")]).await.unwrap();
        assert_eq!(faults().await, 1, "the shipment that is needed");
        objects.remove(vec![shipment(5, 8)]).await.unwrap();
        assert_eq!(faults().await, 1, "it is needed, and gone");
    }

    #[tokio::test]
    async fn an_image_that_could_not_be_fetched_leaves_nothing_in_the_way_of_the_next() {
        let (env, scratch) = (Env::real(), tempfile::tempdir().unwrap());
        let objects = Objects::in_memory();
        let (name, _) = image_of(&objects, 10, 11).await;
        assert!(image(&env, &objects, OF, name, scratch.path()).await.is_err());
        assert!(env.disk.list(scratch.path()).unwrap().is_empty());
    }
}
