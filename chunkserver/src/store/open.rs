//! Opening a disk: making a new one, or recovering what a stop at any instant left. docs/FORMATS.md states the rules.
//!
//! Nothing is written before recovery has succeeded, so that a crash within it changes nothing.

use super::files::OpenFiles;
use super::journal::{ActiveSegment, ClosedSegment, Journal, JournalStart, Touched};
use super::replica::{Replica, ReplicaState};
use super::scrub::Desk;
use super::settings::Settings;
use super::types::{DiskConfig, StoreEvent};
use super::volume::{Volume, VolumeParts};
use super::write_back::CatalogueWriter;
use cairn_core::chunk::catalogue_file::{self, CatalogueFile};
use cairn_core::chunk::intent::IntentRecord;
use cairn_core::chunk::replica_file::parse_file_name;
use cairn_core::chunk::{Catalogue, ReplicaKey};
use cairn_core::ids::{ClusterId, DiskId, LogIndex, NodeId, Term};
use cairn_core::journal::frame::{HardState, LogId, Record, SEGMENT_HEADER_BYTES, SegmentHeader};
use cairn_core::journal::scan::{SegmentEnd, judge_last, judge_sealed, stated_bytes, walk};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::superblock::{Role, SUPERBLOCK_BYTES, SUPERBLOCK_FILE, Superblock};
use cairn_env::Env;
use cairn_env::disk::{Disk, DiskFile, OpenMode, read_small, replace_durably};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tokio::sync::mpsc;

/// Bytes written at once when a journal segment is made.
const FILL_BYTES: usize = 1 << 20;

/// What opening needs to know of the store.
pub(super) struct Opening<'a> {
    pub(super) env: &'a Env,
    pub(super) cluster: Option<ClusterId>,
    pub(super) node: NodeId,
    pub(super) settings: Settings,
    pub(super) files: &'a Arc<OpenFiles>,
    pub(super) events: &'a mpsc::Sender<StoreEvent>,
}

/// A disk that opened, with its replicas.
pub(super) struct Opened {
    pub(super) volume: Arc<Volume>,
    pub(super) replicas: Vec<Arc<Replica>>,
    pub(super) superblock: Superblock,
}

struct Recovered {
    catalogue: Catalogue,
    file: CatalogueFile,
    torn_catalogue: bool,
    /// The catalogue's last frame, and the last batch of the active segment with where it begins in the file: nothing states these
    /// to be durable.
    last_frame: Vec<u8>,
    last_batch: (u64, Vec<u8>),
    closed: Vec<(usize, BTreeSet<ReplicaKey>)>,
    active: (usize, SegmentHeader, SegmentEnd, BTreeSet<ReplicaKey>),
    free: VecDeque<usize>,
    next_index: u64,
}

/// A segment file as found.
struct Found {
    slot: usize,
    header: SegmentHeader,
    bytes: Vec<u8>,
}

impl Found {
    /// Where the batch begins that nothing states to be durable, and its bytes.
    fn last_batch(&self, end: &SegmentEnd) -> (u64, Vec<u8>) {
        let stated = stated_bytes(&self.bytes);
        // Of a segment that holds no second batch the header itself is not sure.
        let from = if stated <= SEGMENT_HEADER_BYTES as u64 { 0 } else { stated };
        let bytes = self.bytes.get(from as usize..(end.position - self.header.base) as usize);
        (from, bytes.unwrap_or_default().to_vec())
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn journal_path(root: &Path, slot: usize) -> PathBuf {
    root.join("journal").join(slot.to_string())
}

/// Opens one disk. Blocks.
///
/// # Errors
/// Text for the operator: the disk is not used, and not changed.
pub(super) fn open(opening: &Opening<'_>, index: usize, config: &DiskConfig) -> io::Result<Opened> {
    let disk = &*opening.env.disk;
    let root = &config.path;
    disk.create_dir_all(root)?;
    let lock = disk.lock(&root.join("lock")).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            invalid(format!("{} is in use by another process: stop it first", root.display()))
        } else {
            error
        }
    })?;
    let superblock = read_or_make(opening, root)?;
    let found = recover(opening, root)?;
    let files = open_segments(disk, root, opening.settings.segments as usize)?;
    // What was read may have been in the page cache only; from here on it is believed. What nothing states to be durable is written
    // again: where a sync failed in a process before this one, the system takes the pages for clean, and the next sync would claim
    // what never reached the disk.
    files[found.active.0].write_all_at(&found.last_batch.1, found.last_batch.0)?;
    for (slot, _) in &found.closed {
        files[*slot].sync_data()?;
    }
    files[found.active.0].sync_data()?;
    let opened = put_together(opening, (index, config, lock), superblock, found, files)?;
    sweep(&opened, disk, root);
    Ok(opened)
}

fn read_or_make(opening: &Opening<'_>, root: &Path) -> io::Result<Superblock> {
    let disk = &*opening.env.disk;
    let path = root.join(SUPERBLOCK_FILE);
    if !disk.exists(&path)? {
        make(opening, root)?;
    }
    let bytes = read_small(disk, &path, SUPERBLOCK_BYTES as u64 + 1)?;
    let named = |error| invalid(format!("{} {error}", root.display()));
    let superblock = Superblock::decode(&bytes).map_err(named)?;
    superblock.check(Role::ChunkServer, opening.cluster).map_err(named)?;
    if superblock.node != opening.node {
        return Err(invalid(format!(
            "{} belongs to chunk server {}, not to {}: give each chunk server its own directories",
            root.display(),
            superblock.node,
            opening.node
        )));
    }
    Ok(superblock)
}

/// Makes a new disk; the superblock comes last, so that a crash before it begins anew.
fn make(opening: &Opening<'_>, root: &Path) -> io::Result<()> {
    let (disk, settings) = (&*opening.env.disk, &opening.settings);
    let chunks = root.join("chunks");
    if disk.exists(&chunks)? && !disk.list(&chunks)?.is_empty() {
        return Err(invalid(format!(
            "{} holds replicas but no superblock: restore the file \"{SUPERBLOCK_FILE}\", or give an empty directory",
            root.display()
        )));
    }
    disk.create_dir_all(&chunks)?;
    disk.create_dir_all(&root.join("journal"))?;
    let zeros = vec![0; FILL_BYTES.min(settings.segment_bytes as usize)];
    for slot in 0..settings.segments as usize {
        let file = disk.open(&journal_path(root, slot), OpenMode::Create)?;
        file.set_len(0)?;
        // Written and not only allocated: overwriting written blocks needs no change of the file system's own records.
        let mut at = 0;
        while at < settings.segment_bytes {
            let part = (settings.segment_bytes - at).min(zeros.len() as u64) as usize;
            file.write_all_at(&zeros[..part], at)?;
            at += part as u64;
        }
        if slot == 0 {
            let header = first_header(opening);
            file.write_all_at(&header.encode(), 0)?;
        }
        file.sync_all()?;
    }
    disk.sync_dir(&root.join("journal"))?;
    CatalogueWriter::anew(disk, &root.join("catalogue"), &std::collections::BTreeMap::new(), 0, Term(0))?;
    disk.sync_dir(root)?;
    let cluster = opening.cluster.unwrap_or_default();
    let id = DiskId(opening.env.random.uuid());
    let superblock = Superblock::new(cluster, opening.node, Role::ChunkServer, Some(id));
    replace_durably(disk, &root.join(SUPERBLOCK_FILE), &superblock.encode())?;
    if let Some(parent) = root.parent() {
        // The directory itself may be new; above it is the operator's.
        disk.sync_dir(parent)?;
    }
    Ok(())
}

fn first_header(opening: &Opening<'_>) -> SegmentHeader {
    SegmentHeader {
        number: 1,
        base: 0,
        salt: opening.env.random.next_u64(),
        chain: 0,
        hard: HardState::default(),
        last: LogId { index: LogIndex(0), term: Term(0) },
        node: opening.node,
    }
}

fn open_segments(disk: &dyn Disk, root: &Path, segments: usize) -> io::Result<Vec<Arc<dyn DiskFile>>> {
    (0..segments).map(|slot| disk.open(&journal_path(root, slot), OpenMode::Write)).collect()
}

fn recover(opening: &Opening<'_>, root: &Path) -> io::Result<Recovered> {
    let disk = &*opening.env.disk;
    let bytes = read_small(disk, &root.join("catalogue"), u64::MAX)?;
    let damaged = || {
        invalid(format!(
            "{}: the catalogue is damaged; the disk's replicas must be restored from others",
            root.display()
        ))
    };
    let file = catalogue_file::read(&bytes).ok_or_else(damaged)?;
    let (mut segments, free) = read_segments(opening, root)?;
    // The last segment that begins at or below what is covered; all that follow are needed.
    let needed =
        segments.iter().rposition(|segment| segment.header.base <= file.covers).ok_or_else(damaged)?;
    let mut free: VecDeque<usize> = free.into();
    free.extend(segments.drain(..needed).map(|segment| segment.slot));
    // Those before are free, and were perhaps used again in another order than theirs.
    if segments.windows(2).any(|pair| pair[0].header.number + 1 != pair[1].header.number) {
        return Err(invalid(format!("{}: intent journal segments are missing", root.display())));
    }
    let mut catalogue = file.catalogue.clone();
    let mut closed = Vec::new();
    let (mut active, mut last_batch) = (None, (0, Vec::new()));
    let mut next_index = 1;
    for (at, segment) in segments.iter().enumerate() {
        let mut touched = BTreeSet::new();
        let mut unknown = false;
        let end = walk(&segment.bytes, &segment.header, |batch, record| {
            let Record::Entry { id, data, .. } = record else { return };
            next_index = id.index.get() + 1;
            match IntentRecord::decode(data) {
                Some(record) if batch.position >= file.covers && !is_planted(Bug::SkipIntentReplay) => {
                    catalogue.apply(&record);
                    touched.insert(record.key);
                }
                Some(_) => {}
                None => unknown = true,
            }
        });
        if unknown {
            return Err(invalid(format!(
                "{}: the intent journal holds records of a later format: start a newer cairn binary",
                root.display()
            )));
        }
        let judged = match segments.get(at + 1) {
            Some(next) => judge_sealed(&segment.header, &end, &next.header),
            None => judge_last(&segment.bytes, &segment.header, &end),
        };
        judged.map_err(|corruption| invalid(format!("{}: intent {corruption}", root.display())))?;
        if at + 1 == segments.len() {
            if end.position < file.covers {
                return Err(damaged());
            }
            last_batch = segment.last_batch(&end);
            active = Some((segment.slot, segment.header, end, touched));
        } else {
            closed.push((segment.slot, touched));
        }
    }
    let active = active.ok_or_else(damaged)?;
    let last_frame = bytes[file.last_frame_at as usize..file.valid_bytes as usize].to_vec();
    Ok(Recovered {
        catalogue,
        torn_catalogue: file.valid_bytes < bytes.len() as u64,
        file,
        last_frame,
        last_batch,
        closed,
        active,
        free,
        next_index,
    })
}

/// Segments in use or used before, by number, and the slots never used.
fn read_segments(opening: &Opening<'_>, root: &Path) -> io::Result<(Vec<Found>, Vec<usize>)> {
    let (disk, settings) = (&*opening.env.disk, &opening.settings);
    let (mut found, mut unused) = (Vec::new(), Vec::new());
    for slot in 0..settings.segments as usize {
        let bytes = read_small(disk, &journal_path(root, slot), u64::MAX)?;
        let head = bytes.get(..SEGMENT_HEADER_BYTES).unwrap_or_default();
        if !head.is_empty() && head.iter().all(|byte| *byte == 0) {
            unused.push(slot);
            continue;
        }
        // A header is one sector, written whole or not at all: a bad one is damage.
        let header = SegmentHeader::decode(head)
            .map_err(|error| invalid(format!("{}: {error}", journal_path(root, slot).display())))?;
        found.push(Found { slot, header, bytes });
    }
    found.sort_by_key(|segment| segment.header.number);
    Ok((found, unused))
}

fn put_together(
    opening: &Opening<'_>,
    (index, config, lock): (usize, &DiskConfig, Box<dyn Send + Sync>),
    superblock: Superblock,
    found: Recovered,
    files: Vec<Arc<dyn DiskFile>>,
) -> io::Result<Opened> {
    let disk = &*opening.env.disk;
    let path = config.path.join("catalogue");
    let writer = if found.torn_catalogue {
        let entries = found.file.catalogue.replicas.iter();
        let entries = entries.map(|(key, replica)| (*key, Some(replica.record.clone()))).collect();
        CatalogueWriter::anew(disk, &path, &entries, found.file.covers, found.file.catalogue.term)?
    } else {
        let end = found.file.valid_bytes;
        let file = disk.open(&path, OpenMode::Write)?;
        file.write_all_at(&found.last_frame, found.file.last_frame_at)?;
        file.sync_data()?;
        CatalogueWriter { path, file, end, chain: found.file.chain, fresh_bytes: end }
    };
    let (slot, header, end, _) = &found.active;
    let (closed, active) = empty_segments(&found, *slot, header, end);
    let start = JournalStart {
        files,
        active,
        closed,
        free: found.free.clone(),
        next_index: found.next_index,
        incarnation: opening.env.random.next_u64(),
        salt_seed: opening.env.random.next_u64(),
        node: opening.node,
    };
    let volume = Volume::new(VolumeParts {
        index,
        config: config.clone(),
        disk_id: superblock.disk.unwrap_or_default(),
        env: opening.env.clone(),
        journal: Journal::new(start, opening.settings),
        files: Arc::clone(opening.files),
        catalogue: writer,
        term: found.catalogue.term,
        known_folders: known_folders(disk, &config.path)?,
        events: opening.events.clone(),
        portion_blocks: opening.settings.portion_blocks,
        scrub: Arc::new(Desk::open(opening.env, &config.path)),
        lock,
    });
    volume.look_at_space();
    let replicas = make_replicas(&volume, found.catalogue);
    let find = |keys: &BTreeSet<ReplicaKey>| -> Touched {
        let find = |key: &ReplicaKey| replicas.binary_search_by_key(key, |replica| replica.key).ok();
        keys.iter()
            .map(|key| (*key, find(key).map_or_else(Weak::new, |at| Arc::downgrade(&replicas[at]))))
            .collect()
    };
    let closed = found.closed.iter().map(|(_, keys)| find(keys)).collect();
    volume.journal.set_touched(closed, find(&found.active.3));
    Ok(Opened { volume, replicas, superblock })
}

/// Segments without the replicas that they touch, which need the journal to exist first.
fn empty_segments(
    found: &Recovered,
    slot: usize,
    header: &SegmentHeader,
    end: &SegmentEnd,
) -> (VecDeque<ClosedSegment>, ActiveSegment) {
    let closed =
        found.closed.iter().map(|(slot, _)| ClosedSegment { slot: *slot, touched: Touched::new() }).collect();
    let active = ActiveSegment {
        header: *header,
        slot,
        position: end.position,
        chain: end.chain,
        touched: Touched::new(),
        marked: false,
    };
    (closed, active)
}

fn make_replicas(volume: &Arc<Volume>, catalogue: Catalogue) -> Vec<Arc<Replica>> {
    use std::sync::atomic::Ordering;
    let (mut blocks, mut staged) = (0, 0);
    let replicas: Vec<_> = catalogue
        .replicas
        .into_iter()
        .map(|(key, found)| {
            blocks += i64::from(found.record.stored.count());
            staged += found.staged.len() as i64;
            Replica::new(key, Arc::clone(volume), ReplicaState::recovered(found))
        })
        .collect();
    volume.space.stored_blocks.store(blocks, Ordering::Relaxed);
    volume.space.staged_blocks.store(staged, Ordering::Relaxed);
    volume.space.replicas.store(replicas.len() as i64, Ordering::Relaxed);
    replicas
}

/// Folders whose names are durable: all there are, once their parent is synced.
fn known_folders(disk: &dyn Disk, root: &Path) -> io::Result<BTreeSet<String>> {
    let chunks = root.join("chunks");
    disk.sync_dir(&chunks)?;
    let folders = disk.list(&chunks)?.into_iter().filter(|item| item.is_dir);
    Ok(folders.filter_map(|item| item.name.into_string().ok()).collect())
}

/// Removes replica files that the catalogue does not know: left by a creation or deletion that a crash interrupted. A
/// failure leaves them for the next start.
fn sweep(opened: &Opened, disk: &dyn Disk, root: &Path) {
    let folders: Vec<String> = opened
        .volume
        .known_folders
        .lock()
        .expect("no holder of the folder list panics")
        .iter()
        .cloned()
        .collect();
    for folder in folders {
        let folder = root.join("chunks").join(folder);
        let Ok(items) = disk.list(&folder) else { continue };
        for item in items {
            let key = item.name.to_str().and_then(parse_file_name);
            let Some(key) = key.map(|(chunk, part)| ReplicaKey { chunk, part }) else { continue };
            if opened.replicas.binary_search_by_key(&key, |replica| replica.key).is_err() {
                tracing::info!(chunk = %key.chunk, disk = %opened.volume.disk_id, "removing a file of no replica");
                if let Err(error) = disk.remove_file(&folder.join(&item.name)) {
                    tracing::warn!(%error, "cannot remove it");
                }
            }
        }
    }
}
