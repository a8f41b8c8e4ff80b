//! Making an image: a copy of the state by hard links, put file by file, and the manifest last.

use super::Backup;
use super::objects::{Objects, ObjectsError};
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
use tracing::{error, info};

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
        let due = parts.term().and_then(|_| parts.backup.image_due(parts.env.clock.wall()));
        let mut pause = BACKUP_PERIOD;
        if number > answered || due.is_some() {
            let reason = due.unwrap_or_else(|| "it was asked for".to_owned());
            let Some(made) = parts.stopping.run_until_cancelled(make(&parts, &reason)).await else { return };
            if made.is_err() {
                pause = BACKUP_IMAGE_PAUSE;
            }
            answered = number;
            drop(parts.backup.made.send_replace((number, made.map_err(|error| error.to_string()))));
        }
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            // The sender is part of what is shared.
            _ = asked.changed() => {}
        }
    }
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
    parts.backup.image_ended(term, told.map_err(ToString::to_string));
    made.map(|(_, manifest)| manifest.last.index)
}

/// The manifest and its name.
async fn image(parts: &Arc<Parts>, term: Term) -> Result<(String, Manifest), ImageError> {
    let objects = Objects::open(&parts.backup.url)?;
    let sharing = Arc::clone(parts);
    let copying = parts.env.spawn.blocking(move || {
        let applied = sharing.sequencer.group().borrow().applied;
        sharing.transfers.copy(&sharing.env, sharing.reader.state(), sharing.config.store, applied)
    });
    let copy = copying.await.map_err(|lost| ImageError::Copy(lost.to_string()))?;
    let copy = copy.map_err(|error| ImageError::Copy(error.to_string()))?;
    let applied = &copy.applied;
    parts.backup.image_begun(term, pinned(parts, applied.clone()));
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
    let (mut hasher, mut offset, mut open) = (crc32fast::Hasher::new(), 0, None);
    let mut whole = Vec::new();
    let mut writer = match bytes > BACKUP_PART_BYTES as u64 {
        true => Some(objects.write(object).await?),
        false => None,
    };
    while offset < bytes {
        let length = (bytes - offset).min(FILL_PART_BYTES as u64) as usize;
        let (reading, opened, from) = (Arc::clone(copy), open.take(), offset);
        let read = parts.env.spawn.blocking(move || read(&reading, opened, (file, from), length)).await;
        let (handle, part) = read.map_err(io::Error::other)??;
        open = Some(handle);
        hasher.update(&part);
        match &mut writer {
            Some(large) => {
                if let Err(error) = large.push(&part).await {
                    if let Some(writer) = writer {
                        writer.give_up().await;
                    }
                    return Err(error.into());
                }
            }
            None => whole.extend_from_slice(&part),
        }
        offset += length as u64;
        pace.sent += length as u64;
        let due = Duration::from_secs_f64(pace.sent as f64 / BACKUP_BYTES_PER_SECOND as f64);
        tokio::time::sleep(due.saturating_sub(parts.now().since(pace.begun))).await;
    }
    match writer {
        Some(writer) => writer.finish().await?,
        None => objects.put(object, whole.into()).await?,
    }
    Ok(ImageFile { name, bytes, crc: hasher.finalize() })
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
