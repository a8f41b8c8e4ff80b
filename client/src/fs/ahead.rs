//! Read-ahead of one handle: segments on their way or here, within the memory budget.

use crate::inode::Inode;
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use cairn_core::error::FsError;
use cairn_core::io::read_ahead::ReadAhead;
use cairn_core::limits::READ_AHEAD_BYTES_MIN;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Segments end at multiples of this.
const SEGMENT: u64 = READ_AHEAD_BYTES_MIN;

type Fetched = SharedFuture<BoxFuture<'static, Result<Bytes, FsError>>>;

/// What one handle has asked for ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    judge: ReadAhead,
    segments: BTreeMap<u64, Segment>,
}

#[derive(Clone)]
struct Segment {
    end: u64,
    /// The inode's epoch when it was asked for: in another, the bytes may be old.
    epoch: u64,
    bytes: Fetched,
    _memory: Arc<OwnedSemaphorePermit>,
}

/// Segments that cover a read.
pub(crate) struct Served(Vec<(u64, Segment)>);

impl Ahead {
    /// The segments that cover `from .. to`, if they do.
    pub(crate) fn serve(&mut self, from: u64, to: u64, epoch: u64) -> Option<Served> {
        self.segments.retain(|_, segment| segment.epoch == epoch);
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            let (&start, segment) = self.segments.range(..=at).next_back()?;
            if segment.end <= at {
                return None;
            }
            found.push((start, segment.clone()));
            at = segment.end;
        }
        Some(Served(found))
    }

    /// Notes a read and asks for what will probably follow.
    pub(crate) fn plan(
        &mut self,
        inode: &Arc<Inode>,
        shared: &Arc<Shared>,
        read: (u64, u64),
        size: u64,
        epoch: u64,
    ) {
        // A little behind the reader is kept: parallel reads arrive out of order.
        self.segments.retain(|_, segment| segment.end + 2 * SEGMENT > read.0);
        let Some((from, to)) = self.judge.on_read(read.0, read.1, size) else { return };
        let mut start = from;
        while start < to {
            let end = ((start / SEGMENT + 1) * SEGMENT).min(to);
            let memory = shared.read_memory.clone().try_acquire_many_owned((end - start) as u32);
            let Ok(memory) = memory else { return };
            let (inode, shared) = (inode.clone(), shared.clone());
            let work = tokio::spawn(async move { inode.read_range(&shared, start, end).await });
            let bytes = work
                .map(|done| done.unwrap_or_else(|_| Err(FsError::Io(String::from("the read was cut short")))))
                .boxed()
                .shared();
            self.segments.insert(start, Segment { end, epoch, bytes, _memory: Arc::new(memory) });
            start = end;
        }
    }
}

impl Served {
    /// The bytes of `from .. to`; `None` when one segment failed (the reader tries itself).
    pub(crate) async fn gather(self, from: u64, to: u64) -> Option<Bytes> {
        let single = self.0.len() == 1;
        let mut out = BytesMut::new();
        if !single {
            out.reserve((to - from) as usize);
        }
        for (start, segment) in self.0 {
            let bytes = segment.bytes.await.ok()?;
            let (first, last) = (from.max(start), to.min(segment.end));
            let part = bytes.slice((first - start) as usize..(last - start) as usize);
            if single {
                return Some(part);
            }
            out.extend_from_slice(&part);
        }
        Some(out.freeze())
    }
}
