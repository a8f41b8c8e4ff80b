//! Handing a copy out: the plan, then the files' bytes in bounded parts, no faster than clients bear.

use super::transfer::Transfer;
use crate::parts::Parts;
use crate::session_open::not_leader;
use bytes::Bytes;
use cairn_core::limits::{FILL_BYTES_PER_SECOND, FILL_LINGER, FILL_PART_BYTES};
use cairn_env::disk::DiskFile;
use cairn_proto::hello::refused;
use cairn_proto::v1::fill_part::Part;
use cairn_proto::v1::{FillData, FillFile, FillPart, FillPlan, FillRequest, Refused, RefusedReason};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

/// Where parts go.
pub(crate) type Out = mpsc::Sender<Result<FillPart, Status>>;

/// Serves one request to its end.
pub(crate) async fn fill(parts: Arc<Parts>, asked: FillRequest, out: Out) {
    let id = asked.id;
    let (transfer, _place) = match begin(&parts, &asked).await {
        Ok(begun) => begun,
        Err(refused) => {
            warn!(master = id, reason = %refused.message, "a master is not filled");
            // Whoever asked may be gone.
            drop(out.send(Ok(FillPart { part: Some(Part::Refused(refused)) })).await);
            return;
        }
    };
    let transfer = Lingering { transfer, runtime: Handle::current(), stopping: parts.stopping.clone() };
    let transfer = &transfer.transfer;
    let whole: u64 = transfer.files.iter().map(|(_, bytes)| bytes).sum();
    info!(master = id, mib = whole >> 20, applied = transfer.applied.last.index.get(), "fills a master");
    let from = if asked.copy == transfer.name { asked.received.min(whole) } else { 0 };
    match send(&parts, transfer, from, &out).await {
        Ok(true) => info!(master = id, "a copy of the state has been sent"),
        Ok(false) => info!(master = id, "a master hung up while it was filled"),
        Err(error) => {
            warn!(master = id, %error, "the copy of the state cannot be read");
            drop(out.send(Err(Status::internal(format!("copy of the state: {error}")))).await);
        }
    }
}

/// Keeps a copy for a while after its stream has ended, or was cut off: the receiver may ask for the rest, and needs the journal
/// that follows.
struct Lingering {
    transfer: Arc<Transfer>,
    runtime: Handle,
    stopping: CancellationToken,
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (transfer, stopping) = (Arc::clone(&self.transfer), self.stopping.clone());
        self.runtime.spawn(async move {
            stopping.run_until_cancelled(tokio::time::sleep(FILL_LINGER)).await;
            drop(transfer);
        });
    }
}

/// Whether this member hands its state out: when it leads, or nobody does as far as it knows (`leader` is 0) and the asker keeps its
/// vote. What it has applied is committed, whoever leads; and where a majority needs the vote of the very member that must be
/// filled, nobody leads before that.
pub(crate) fn may_hand_out(leads: bool, leader: u64, keeps_vote: bool) -> bool {
    leads || (leader == 0 && keeps_vote)
}

/// What is to be sent, and the place that it takes.
async fn begin(
    parts: &Arc<Parts>,
    asked: &FillRequest,
) -> Result<(Arc<Transfer>, OwnedSemaphorePermit), Refused> {
    super::admit::member(parts, asked.hello.as_ref(), asked.id)?;
    let leader = parts.sequencer.group().borrow().leader;
    if !may_hand_out(parts.term().is_some(), leader, asked.keeps_vote) {
        return Err(not_leader(parts));
    }
    let overloaded = |message: String| refused(RefusedReason::RefusedOverloaded, message);
    let place = parts.transfers.place();
    let place = place.ok_or_else(|| overloaded("other masters are being filled: try again".to_owned()))?;
    if let Some(transfer) = parts.transfers.resume(&asked.copy) {
        return Ok((transfer, place));
    }
    let sharing = Arc::clone(parts);
    let making = parts.env.spawn.blocking(move || {
        let applied = sharing.sequencer.group().borrow().applied;
        let Parts { env, config, reader, transfers, .. } = &*sharing;
        transfers.begin(env, reader.state(), config.store, applied)
    });
    let failed = |error: String| overloaded(format!("no copy of the state could be made: {error}"));
    let made = making.await.map_err(|lost| failed(lost.to_string()))?;
    Ok((made.map_err(|error| failed(error.to_string()))?, place))
}

/// Sends plan and bytes from `from` on. False when the receiver has hung up.
async fn send(parts: &Parts, transfer: &Arc<Transfer>, from: u64, out: &Out) -> io::Result<bool> {
    let files = transfer.files.iter().map(|(name, bytes)| FillFile { name: name.clone(), bytes: *bytes });
    let plan = FillPlan {
        copy: transfer.name.clone(),
        index: transfer.applied.last.index.get(),
        term: transfer.applied.last.term.get(),
        hash: transfer.applied.hash,
        files: files.collect(),
        from,
    };
    if out.send(Ok(FillPart { part: Some(Part::Plan(plan)) })).await.is_err() {
        return Ok(false);
    }
    let (begun, mut sent, mut skip) = (parts.now(), 0_u64, from);
    for file in 0..transfer.files.len() {
        let bytes = transfer.files[file].1;
        let mut offset = skip.min(bytes);
        skip -= offset;
        let mut open = None;
        while offset < bytes {
            let length = (bytes - offset).min(FILL_PART_BYTES as u64) as usize;
            let (reading, opened) = (Arc::clone(transfer), open.take());
            let read = parts.env.spawn.blocking(move || read(&reading, opened, (file, offset), length));
            let (handle, data) = read.await.map_err(io::Error::other)??;
            open = Some(handle);
            if out.send(Ok(FillPart { part: Some(Part::Data(data)) })).await.is_err() {
                return Ok(false);
            }
            offset += length as u64;
            sent += length as u64;
            let due = Duration::from_secs_f64(sent as f64 / FILL_BYTES_PER_SECOND as f64);
            tokio::time::sleep(due.saturating_sub(parts.now().since(begun))).await;
        }
    }
    Ok(true)
}

/// Reads a part, from the file if it is open already. Blocks on the disk.
fn read(
    transfer: &Transfer,
    opened: Option<Arc<dyn DiskFile>>,
    (file, offset): (usize, u64),
    length: usize,
) -> io::Result<(Arc<dyn DiskFile>, FillData)> {
    let handle = opened.map_or_else(|| transfer.open(file), Ok)?;
    let mut bytes = vec![0; length];
    if handle.read_at(&mut bytes, offset)? < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of it is cut"));
    }
    let crc = crc32fast::hash(&bytes);
    Ok((handle, FillData { file: file as u32, offset, crc, bytes: Bytes::from(bytes) }))
}
