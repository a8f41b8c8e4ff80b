//! Making an image: a copy of the state by hard links, put file by file, and the manifest last.

use super::Backup;
use super::objects::{ObjectWriter, Objects, ObjectsError};
use super::retention::{self, Removed};
use super::ship::pinned;
use crate::filling::Transfer;
use crate::parts::Parts;
use cairn_core::backup::History;
use cairn_core::backup::manifest::{ImageFile, Manifest};
use cairn_core::backup::names::{self, ImageName};
use cairn_core::ids::{LogIndex, Term};
use cairn_core::limits::{
    BACKUP_BYTES_PER_SECOND, BACKUP_IMAGE_PAUSE, BACKUP_PART_BYTES, BACKUP_PERIOD, FILL_PART_BYTES,
};
use cairn_env::disk::DiskFile;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tracing::{error, info, warn};

/// Why there is no image; another one is tried.
#[derive(Debug, Error)]
enum ImageError {
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    #[error("no copy of the state could be made: {0}")]
    Copy(String),
    #[error("the copy of the state cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("this master leads no more: ask the one that does")]
    NotLeader,
}

impl Backup {
    /// Has an image made and waits for it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn create(&self) -> Result<LogIndex, String> {
        if self.url.is_empty() {
            return Err(
                "no backup is configured: set `backup` in the configuration of every master".to_owned()
            );
        }
        let mut made = self.made.subscribe();
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        match made.wait_for(|(made, _)| *made >= number).await {
            Ok(made) => made.1.clone(),
            Err(_) => Err("this master stops".to_owned()),
        }
    }
}

/// Makes images when they are asked for or due, until the master stops.
pub(crate) async fn make_in_background(parts: Arc<Parts>) {
    if parts.backup.url.is_empty() {
        return parts.stopping.cancelled().await;
    }
    let mut asked = parts.backup.asked.subscribe();
    let mut answered = 0;
    while !parts.stopping.is_cancelled() {
        let number = *asked.borrow_and_update();
        let due = parts.term().and_then(|_| parts.backup.image_due(parts.env.clock.wall(), parts.now()));
        let mut pause = BACKUP_PERIOD;
        if number > answered || due.is_some() {
            let reason = due.unwrap_or_else(|| "it was asked for".to_owned());
            let Some(made) = parts.stopping.run_until_cancelled(make(&parts, &reason)).await else { return };
            if made.is_err() {
                pause = BACKUP_IMAGE_PAUSE;
            }
            answered = number;
            let is_made = made.is_ok();
            drop(parts.backup.made.send_replace((number, made.map_err(|error| error.to_string()))));
            if is_made && parts.stopping.run_until_cancelled(remove_old(&parts)).await.is_none() {
                return;
            }
        }
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // The sender is part of what is shared.
            _ = asked.changed() => {}
        }
    }
}

/// Removes what is older than the images that are to stay. What fails is tried again after the next image.
async fn remove_old(parts: &Parts) {
    let keep = parts.config.backup_keep_images as usize;
    let Some(term) = parts.term().filter(|_| keep > 0) else { return };
    let goes_on = || parts.term() == Some(term);
    let removed = match Objects::open(&parts.backup.url) {
        Ok(objects) => {
            let of = (parts.cluster, History::of(term));
            retention::remove_old(&objects, of, keep, &goes_on).await
        }
        Err(error) => Err(error.into()),
    };
    match removed {
        Ok(Removed { images: 0, shipments: 0 }) => {}
        Ok(Removed { images, shipments }) => {
            info!(images, shipments, keep, "removed what the images that stay do not need");
        }
        Err(error) => {
            warn!(%error, "old images could not be removed, and are after the next one");
            return parts.backup.removal_ended(term, Err(error.to_string()));
        }
    }
    parts.backup.removal_ended(term, Ok(()));
}

async fn make(parts: &Arc<Parts>, reason: &str) -> Result<LogIndex, ImageError> {
    let term = parts.term().ok_or(ImageError::NotLeader)?;
    parts.backup.lead(term, parts.now());
    info!(reason, "makes an image of the metadata");
    let begun = parts.now();
    let made = image(parts, term).await;
    match &made {
        Ok((_, manifest)) => {
            let (mib, took) = (manifest.bytes() >> 20, parts.now().since(begun).as_millis() as u64);
            info!(
                applied = manifest.last.index.get(),
                mib,
                milliseconds = took,
                "an image of the metadata is complete"
            );
        }
        Err(error) => error!(%error, "no image of the metadata could be made, and another one is tried"),
    }
    let told = made.as_ref().map(|(name, manifest)| (manifest.last.index, manifest.time, name.clone()));
    parts.backup.image_ended((term, parts.now()), told.map_err(ToString::to_string));
    made.map(|(_, manifest)| manifest.last.index)
}

/// The manifest and its name.
async fn image(parts: &Arc<Parts>, term: Term) -> Result<(String, Manifest), ImageError> {
    let objects = Objects::open(&parts.backup.url)?;
    let sharing = Arc::clone(parts);
    // Journal is kept for as long as the copy is made. Then shipping keeps what it needs, however long the image takes.
    let kept = parts.backup.pins.pin(parts.sequencer.group().borrow().applied);
    let copying = parts.env.spawn.blocking(move || {
        sharing.transfers.copy(&sharing.env, sharing.reader.state(), sharing.config.store, None)
    });
    let copy = copying.await.map_err(|lost| ImageError::Copy(lost.to_string()))?;
    let copy = copy.map_err(|error| ImageError::Copy(error.to_string()))?;
    let applied = &copy.applied;
    parts.backup.image_begun(term, pinned(parts, applied.clone()));
    drop(kept);
    let (cluster, history) = (parts.cluster, History::of(term));
    let name = ImageName { index: applied.last.index, drawn: parts.env.random.next_u64() as u32 };
    let mut pace = Pace { begun: parts.now(), sent: 0 };
    let mut files = Vec::new();
    for file in 0..copy.files.len() {
        let object = names::file(cluster, history, name, &copy.files[file].0);
        files.push(put_file(parts, &objects, (&copy, file), &object, &mut pace).await?);
    }
    let members = parts.sequencer.members().encode();
    let (last, hash, time) = (applied.last, applied.hash, applied.time);
    let manifest = Manifest { cluster, history, last, hash, time, members, files };
    let name = names::manifest(cluster, history, name);
    objects.put(&name, manifest.encode()).await?;
    Ok((name, manifest))
}

/// Bytes sent since when.
struct Pace {
    begun: cairn_core::time::Tick,
    sent: u64,
}

async fn put_file(
    parts: &Parts,
    objects: &Objects,
    (copy, file): (&Arc<Transfer>, usize),
    object: &str,
    pace: &mut Pace,
) -> Result<ImageFile, ImageError> {
    let (name, bytes) = copy.files[file].clone();
    let mut writer = match bytes > BACKUP_PART_BYTES as u64 {
        true => Some(objects.write(object).await?),
        false => None,
    };
    let copied = copy_file(parts, (copy, file), &mut writer, pace).await;
    let crc = match (copied, writer) {
        (Ok((crc, _)), Some(writer)) => {
            writer.finish().await?;
            crc
        }
        (Ok((crc, whole)), None) => {
            objects.put(object, whole.into()).await?;
            crc
        }
        (Err(error), writer) => {
            if let Some(writer) = writer {
                writer.give_up().await;
            }
            return Err(error);
        }
    };
    Ok(ImageFile { name, bytes, crc })
}

/// Reads a file, for `writer` if there is one. Its CRC-32, and without a writer all of it.
async fn copy_file(
    parts: &Parts,
    (copy, file): (&Arc<Transfer>, usize),
    writer: &mut Option<ObjectWriter>,
    pace: &mut Pace,
) -> Result<(u32, Vec<u8>), ImageError> {
    let bytes = copy.files[file].1;
    let (mut hasher, mut offset, mut open) = (crc32fast::Hasher::new(), 0, None);
    let mut whole = Vec::new();
    while offset < bytes {
        let length = (bytes - offset).min(FILL_PART_BYTES as u64) as usize;
        let (reading, opened, from) = (Arc::clone(copy), open.take(), offset);
        let read = parts.env.spawn.blocking(move || read(&reading, opened, (file, from), length)).await;
        let (handle, part) = read.map_err(io::Error::other)??;
        open = Some(handle);
        hasher.update(&part);
        match writer {
            Some(large) => large.push(&part).await?,
            None => whole.extend_from_slice(&part),
        }
        offset += length as u64;
        pace.sent += length as u64;
        let due = Duration::from_secs_f64(pace.sent as f64 / BACKUP_BYTES_PER_SECOND as f64);
        tokio::time::sleep(due.saturating_sub(parts.now().since(pace.begun))).await;
    }
    Ok((hasher.finalize(), whole))
}

/// Reads a part, from the file if it is open already. Blocks on the disk.
fn read(
    copy: &Transfer,
    opened: Option<Arc<dyn DiskFile>>,
    (file, offset): (usize, u64),
    length: usize,
) -> io::Result<(Arc<dyn DiskFile>, Vec<u8>)> {
    let handle = opened.map_or_else(|| copy.open(file), Ok)?;
    let mut bytes = vec![0; length];
    if handle.read_at(&mut bytes, offset)? < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of it is cut"));
    }
    Ok((handle, bytes))
}
