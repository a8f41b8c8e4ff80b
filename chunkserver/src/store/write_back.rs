//! Write-back: journaled blocks go into their files, the catalogue learns what changed, the segments are free again.
//!
//! Only then is anything journaled written in place: its record is durable, so a crash in the middle is repaired by reading the journal.

use super::error::StoreError;
use super::files::OpenFile;
use super::journal::{ClosedSegment, Touched};
use super::portions::{in_file, thin, write_back_failed, write_blocks};
use super::read::open_to_read;
use super::replica::{Lane, Replica};
use super::sync::{sync_or_fail, write_header};
use super::volume::{Queue, Volume, is_full};
use cairn_core::chunk::catalogue::StagedBlock;
use cairn_core::chunk::catalogue_file::FrameBuilder;
use cairn_core::chunk::replica_file::{TABLE_AT, TABLE_BYTES, file_name};
use cairn_core::chunk::{BlockSet, ReplicaKey, ReplicaRecord, table_digest};
use cairn_core::ids::{PartId, Term};
use cairn_core::limits::{WRITE_BACK_CONCURRENCY, WRITE_BACK_GROUP, WRITE_BACK_JOB};
use cairn_env::disk::{Disk, DiskFile, OpenMode, of_sync, replace_durably};
use futures::stream::StreamExt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Appended bytes beyond twice the size of a fresh catalogue, and this, make it worth writing anew.
const COMPACT_SLACK_BYTES: u64 = 1 << 20;

/// The catalogue file, open at its end.
pub(super) struct CatalogueWriter {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) end: u64,
    pub(super) chain: u32,
    /// Bytes when it was last written anew.
    pub(super) fresh_bytes: u64,
}

/// What one write-back adds to the catalogue.
pub(super) type Changes = BTreeMap<ReplicaKey, Option<ReplicaRecord>>;

impl CatalogueWriter {
    /// Writes the catalogue anew, atomically, and opens it at its end. Blocks.
    ///
    /// # Errors
    /// As [`replace_durably`]'s: without room nothing has changed.
    pub(super) fn anew(
        disk: &dyn Disk,
        path: &Path,
        entries: &Changes,
        covers: u64,
        term: Term,
    ) -> io::Result<Self> {
        let (bytes, chain) = frame(entries).seal(true, covers, term, 0);
        replace_durably(disk, path, &bytes)?;
        let file = disk.open(path, OpenMode::Write).map_err(of_sync)?;
        let end = bytes.len() as u64;
        Ok(Self { path: path.to_owned(), file, end, chain, fresh_bytes: end })
    }

    /// Appends a frame durably. Blocks.
    ///
    /// # Errors
    /// Without room part of a frame may stand behind the end, which does not verify; the next append overwrites it.
    fn append(&mut self, entries: &Changes, covers: u64, term: Term) -> io::Result<()> {
        let (bytes, chain) = frame(entries).seal(false, covers, term, self.chain);
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data().map_err(of_sync)?;
        self.end += bytes.len() as u64;
        self.chain = chain;
        Ok(())
    }

    fn wants_anew(&self) -> bool {
        self.end > 2 * self.fresh_bytes + COMPACT_SLACK_BYTES
    }
}

fn frame(entries: &Changes) -> FrameBuilder {
    let mut frame = FrameBuilder::default();
    for (key, record) in entries {
        frame.push(*key, record.as_ref());
    }
    frame
}

/// Writes everything back that closed segments hold; with `all`, the active one too. `held` lists the disk's replicas.
///
/// # Errors
/// `DiskFull`: tried again later, the records stay; `DiskFailed`.
pub(super) async fn write_back(
    volume: &Arc<Volume>,
    all: bool,
    held: &(dyn Fn() -> Vec<Arc<Replica>> + Send + Sync),
) -> Result<(), StoreError> {
    // One at a time; the catalogue's lock says so.
    let mut catalogue = volume.catalogue.lock().await;
    volume.check_alive()?;
    if all && let Some((closed, start)) = volume.journal.register_rotation() {
        if start {
            volume.start_commit();
        }
        closed.await.map_err(|_| StoreError::DiskFailed)?;
    }
    let Some((segments, covers)) = volume.journal.take_closed() else { return Ok(()) };
    let mut guard = TakenSegments { volume, segments: Some(segments), full: false };
    let changes = write_files(volume, guard.touched()).await;
    guard.full = matches!(changes, Err(StoreError::DiskFull));
    let changes = changes?;
    let anew = if catalogue.wants_anew() { Some(everything(volume, held()).await?) } else { None };
    let term = Term(volume.term.load(Ordering::Relaxed));
    // A future that is dropped must not leave the catalogue between two states: the writer is moved out and put back.
    let job_volume = Arc::clone(volume);
    let mut writer = CatalogueWriter {
        path: catalogue.path.clone(),
        file: Arc::clone(&catalogue.file),
        end: catalogue.end,
        chain: catalogue.chain,
        fresh_bytes: catalogue.fresh_bytes,
    };
    let written = volume.call(Queue::Write, move || -> io::Result<CatalogueWriter> {
        if let Some(entries) = anew {
            let fresh = CatalogueWriter::anew(job_volume.disk(), &writer.path, &entries, covers, term);
            // For an append there may be room.
            if !fresh.as_ref().is_err_and(is_full) {
                return fresh;
            }
        }
        writer.append(&changes, covers, term).map(|()| writer)
    });
    match written.await? {
        Ok(writer) => *catalogue = writer,
        Err(error) => {
            let error = volume.write_failed("catalogue", &error);
            guard.full = error == StoreError::DiskFull;
            return Err(error);
        }
    }
    guard.written_back();
    Ok(())
}

/// Segments taken for write-back: given back as they were unless it succeeds.
struct TakenSegments<'a> {
    volume: &'a Arc<Volume>,
    segments: Option<Vec<ClosedSegment>>,
    /// There was no room.
    full: bool,
}

impl TakenSegments<'_> {
    fn touched(&self) -> Touched {
        let segments = self.segments.iter().flatten();
        segments
            .flat_map(|segment| segment.touched.iter().map(|(key, replica)| (*key, replica.clone())))
            .collect()
    }

    fn written_back(mut self) {
        if let Some(segments) = self.segments.take() {
            self.volume.journal.give_back(segments, true, false);
        }
    }
}

impl Drop for TakenSegments<'_> {
    fn drop(&mut self) {
        if let Some(segments) = self.segments.take() {
            self.volume.journal.give_back(segments, false, self.full);
        }
    }
}

/// A replica whose journaled blocks are in its file, which is not synced yet.
struct Written {
    replica: Arc<Replica>,
    file: Option<Arc<OpenFile>>,
    /// Its name is not durable yet.
    new: bool,
    /// Which of its files it is.
    files: u32,
}

/// Group by group: first every file is written, then every file is synced, so that the syncs share the file system's commits.
async fn write_files(volume: &Arc<Volume>, touched: Touched) -> Result<Changes, StoreError> {
    let mut changes = Changes::new();
    let mut rest: VecDeque<(ReplicaKey, Weak<Replica>)> = touched.into_iter().collect();
    while !rest.is_empty() {
        let group: Vec<_> = rest.drain(..rest.len().min(WRITE_BACK_GROUP)).collect();
        let mut held = Vec::new();
        for (key, replica) in group {
            match replica.upgrade() {
                Some(replica) => held.push(replica),
                None => drop(changes.insert(key, None)),
            }
        }
        let jobs: Vec<Vec<Arc<Replica>>> = held.chunks(WRITE_BACK_JOB).map(<[_]>::to_vec).collect();
        let written =
            futures::stream::iter(jobs).map(write_replicas).buffer_unordered(WRITE_BACK_CONCURRENCY);
        let written: Vec<Vec<Result<Written, StoreError>>> = written.collect().await;
        let written = written.into_iter().flatten();
        // Those that could be written are synced even if others could not; a job that failed as a whole leaves its own for the next time.
        let (written, failed): (Vec<_>, Vec<_>) = written.partition(Result::is_ok);
        let written: Vec<Written> = written.into_iter().flatten().collect();
        sync_group(volume, &written).await?;
        if let Some(Err(error)) = failed.into_iter().next() {
            return Err(error);
        }
        for written in written {
            let record = durable_record(&written.replica).await?;
            changes.insert(written.replica.key, record);
        }
    }
    Ok(changes)
}

/// Writes some replicas' journaled blocks into their files; the last portion of each by one job: hand-overs cost more than the writes.
async fn write_replicas(replicas: Vec<Arc<Replica>>) -> Vec<Result<Written, StoreError>> {
    let Some(volume) = replicas.first().map(|replica| Arc::clone(&replica.volume)) else { return Vec::new() };
    let mut begun = Vec::new();
    for replica in &replicas {
        match thin(replica).await {
            Ok(file) => begun.extend(file),
            Err(error) => return vec![Err(error)],
        }
    }
    let mut last = 0;
    let mut held = Vec::with_capacity(replicas.len());
    for replica in replicas {
        // Whoever has a lane waits for no other.
        let lane = replica.lane().await;
        last = last.max(replica.state().last);
        held.push((replica, lane));
    }
    if let Err(error) = volume.durable(last).await {
        return vec![Err(error)];
    }
    let job = move || {
        let written: Vec<_> = held.into_iter().map(|(replica, lane)| write_staged(replica, &lane)).collect();
        // A hint, of which the syncs that follow tell the errors. Table and header too: once all files of the group have their
        // blocks, one commit of the file system does for all the syncs.
        for file in written.iter().flatten().filter_map(|written| written.file.as_ref()) {
            let _ = file.file.start_writeback(0, TABLE_AT + TABLE_BYTES);
        }
        // Held by what was written by now.
        drop(begun);
        written
    };
    volume.call(Queue::Write, job).await.unwrap_or_else(|error| vec![Err(error)])
}

/// Blocks, table entries, header. Blocks. The caller saw to it that the records are durable; the file is synced later, before
/// the segments are used again.
fn write_staged(replica: Arc<Replica>, _lane: &Lane) -> Result<Written, StoreError> {
    let volume = Arc::clone(&replica.volume);
    let (staged, new, needs_file, files) = {
        let state = replica.state();
        let needs_file = !state.deleted && (!state.staged.is_empty() || state.written_back);
        (state.staged.clone(), !state.name_durable, needs_file, state.files)
    };
    if !needs_file {
        learn_digest(&replica);
        return Ok(Written { replica, file: None, new: false, files });
    }
    let file = volume.open_to_write(replica.key)?;
    let blocks: Vec<(&u32, &StagedBlock)> = staged.iter().collect();
    let change = write_blocks(&replica, &file, &blocks)?;
    if new {
        write_header(&replica, &file).map_err(|error| {
            replica.state().digest = None;
            write_back_failed(&volume, &error)
        })?;
    }
    let mut state = replica.state();
    // Under the lane nothing was staged meanwhile. From here on the file is read, the records in the journal stay until it is synced.
    state.staged.clear();
    state.written_back = true;
    state.digest = state.digest.map(|digest| digest ^ change);
    drop(state);
    learn_digest(&replica);
    in_file(&volume, staged.len());
    Ok(Written { replica, file: Some(file), new, files })
}

/// After a crash, or a write that failed, the file is taken as it is. Nothing is staged, and the caller has the lane. Blocks.
fn learn_digest(replica: &Arc<Replica>) {
    let stored = {
        let state = replica.state();
        if state.digest.is_some() || state.deleted || !state.staged.is_empty() {
            return;
        }
        state.stored.clone()
    };
    let digest = if stored.is_empty() { Ok(table_digest::EMPTY) } else { digest_of_file(replica, &stored) };
    match digest {
        Ok(digest) => replica.state().digest = Some(digest),
        // Whoever reads it finds out; until then nothing is claimed.
        Err(error) => tracing::warn!(chunk = %replica.key.chunk, %error, "checksum table cannot be read"),
    }
}

fn digest_of_file(replica: &Arc<Replica>, stored: &BlockSet) -> io::Result<u64> {
    let file = open_to_read(replica)?;
    stored.runs().iter().try_fold(table_digest::EMPTY, |digest, &(first, end)| {
        Ok(digest ^ table_digest::digest((first..end).zip(file.entries(first, end)?)))
    })
}

async fn sync_group(volume: &Arc<Volume>, written: &[Written]) -> Result<(), StoreError> {
    let mut files = Vec::new();
    for one in written {
        if let Some(file) = &one.file {
            files.push((Arc::clone(&one.replica), Arc::clone(file)));
        }
    }
    let jobs: Vec<_> = files.chunks(WRITE_BACK_JOB).map(|job| (Arc::clone(volume), job.to_vec())).collect();
    let syncs = futures::stream::iter(jobs).map(sync_some);
    let syncs: Vec<Result<(), StoreError>> = syncs.buffer_unordered(WRITE_BACK_CONCURRENCY).collect().await;
    syncs.into_iter().collect::<Result<(), StoreError>>()?;
    let new = written.iter().filter(|written| written.new && written.file.is_some());
    let folders: BTreeSet<String> =
        new.map(|written| file_name(written.replica.key.chunk, PartId(0)).0).collect();
    let job = Arc::clone(volume);
    let synced = volume.call(Queue::Write, move || {
        folders.iter().try_for_each(|folder| job.disk().sync_dir(&job.folder(folder)))
    });
    if let Err(error) = synced.await? {
        volume.fail(&format!("sync of a folder of replicas: {error}"));
        return Err(StoreError::DiskFailed);
    }
    for written in written.iter().filter(|written| written.file.is_some()) {
        let mut state = written.replica.state();
        // One that was made anew meanwhile has another file.
        if state.files == written.files {
            state.written_back = false;
            state.name_durable = true;
        }
    }
    Ok(())
}

/// A file to sync, and whose it is.
type ToSync = (Arc<Replica>, Arc<OpenFile>);

async fn sync_some((volume, files): (Arc<Volume>, Vec<ToSync>)) -> Result<(), StoreError> {
    let sync = move || files.iter().try_for_each(|(replica, file)| sync_or_fail(replica, file, false));
    volume.call(Queue::Write, sync).await?
}

/// What the catalogue should remember of a replica; every word of it is durable.
async fn durable_record(replica: &Arc<Replica>) -> Result<Option<ReplicaRecord>, StoreError> {
    let (record, last) = {
        let state = replica.state();
        ((!state.deleted).then(|| state.record()), state.last)
    };
    replica.volume.durable(last).await?;
    Ok(record)
}

/// The whole catalogue, once all it says is durable.
async fn everything(volume: &Arc<Volume>, held: Vec<Arc<Replica>>) -> Result<Changes, StoreError> {
    let record = |replica: &Arc<Replica>| {
        let state = replica.state();
        (!state.deleted).then(|| (replica.key, Some(state.record())))
    };
    let entries: Changes = held.iter().filter_map(record).collect();
    volume.durable(volume.journal.last_ticket()).await?;
    Ok(entries)
}
