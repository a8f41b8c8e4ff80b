//! Write and Sync: here and along the chain at the same time, one answer when all have it.
//!
//! Frames of one connection are carried out concurrently. Two writes in flight never overlap (the client sees to it), and
//! a Sync covers the writes that were acknowledged before it was sent.

use crate::data_service::{DataService, Session};
use crate::forward::forward;
use crate::store::{StoreError, WriteRequest};
use cairn_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::time::Tick;
use cairn_core::units::{CHUNK_BYTES, blocks_touched};
use cairn_proto::data_conn::Request;
use cairn_proto::frame::{Frame, Header, Status, flags, haste_of};
use cairn_proto::v1::Role;
use std::time::Duration;

/// Stores the payload. The frame goes to the next hop before the store begins, so both work at once; the payload is
/// shared, not copied. The store verifies the checksums; a damaged payload is refused by every hop for itself.
pub(crate) async fn write(service: &DataService, request: &Request<Session>, started: Tick) -> Frame {
    let header = &request.frame.header;
    if let Err(reason) = check_write(request) {
        tracing::warn!(node = %request.session.node, chunk = %header.chunk, reason, "write frame makes no sense");
        return Frame::bare(header.reply(Status::BadRequest));
    }
    let repair = header.flags & flags::REPAIR != 0;
    let order = WriteRequest {
        chunk: header.chunk,
        part: header.part,
        version: header.version,
        lease: header.lease,
        offset: header.offset,
        payload: request.frame.payload.clone(),
        sums: request.frame.sums.clone(),
        create: header.flags & flags::CREATE != 0,
        sync: header.flags & flags::SYNC != 0 || (repair && is_sync_due(service, request)),
        repair,
    };
    service.metrics().written(request.frame.payload.len());
    if repair {
        let (at, haste) = ((header.chunk, header.part), haste_of(header.flags));
        let bytes = request.frame.payload.len();
        let stored = timed(service, service.store().write(order));
        return settle(header, service.store().portion(at, haste, bytes, stored).await, Ok(None));
    }
    if request.frame.hops.is_empty() || is_planted(Bug::AnswerBeforeForward) {
        return settle(header, timed(service, service.store().write(order)).await, Ok(None));
    }
    let stored = timed(service, service.store().write(order));
    let (forwarded, stored) = futures::future::join(forward(service, request, started), stored).await;
    settle(header, stored, forwarded)
}

/// Makes acknowledged writes durable. Forwarded before the local sync, so that the disks of the chain sync at once.
pub(crate) async fn sync(service: &DataService, request: &Request<Session>, started: Tick) -> Frame {
    let header = &request.frame.header;
    let local = timed(service, service.store().sync(header.chunk, header.part, header.version));
    if header.flags & flags::REPAIR != 0 {
        let (at, haste) = ((header.chunk, header.part), haste_of(header.flags));
        return settle(header, service.store().portion(at, haste, 0, local).await, Ok(None));
    }
    if request.frame.hops.is_empty() {
        return settle(header, local.await, Ok(None));
    }
    let (forwarded, synced) = futures::future::join(forward(service, request, started), local).await;
    settle(header, synced, forwarded)
}

/// With how long the store took.
async fn timed(
    service: &DataService,
    work: impl Future<Output = Result<(), StoreError>>,
) -> Result<Duration, StoreError> {
    let begun = service.clock().now();
    work.await.map(|()| service.clock().now().since(begun))
}

fn is_sync_due(service: &DataService, request: &Request<Session>) -> bool {
    let header = &request.frame.header;
    haste_of(header.flags).is_some()
        && service.store().is_sync_due(header.chunk, header.part, request.frame.payload.len())
}

fn check_write(request: &Request<Session>) -> Result<(), &'static str> {
    let header = &request.frame.header;
    let length = request.frame.payload.len() as u64;
    if length == 0 || length > FRAME_PAYLOAD_BYTES_MAX as u64 {
        return Err("payload length");
    }
    if header.offset.checked_add(length).is_none_or(|end| end > CHUNK_BYTES) {
        return Err("beyond the chunk's end");
    }
    if request.frame.sums.len() as u64 != blocks_touched(header.offset, length) {
        return Err("number of checksums");
    }
    if header.flags & flags::REPAIR != 0 && request.session.role != Role::Chunkserver {
        return Err("repair is for chunk servers");
    }
    Ok(())
}

/// One answer for both: a failure here speaks first, since the sender can do something about this server at once.
fn settle(
    header: &Header,
    here: Result<Duration, StoreError>,
    onward: Result<Option<(usize, Duration)>, Box<Frame>>,
) -> Frame {
    match (here, onward) {
        (Ok(took), Ok(beyond)) => {
            let mut reply = header.reply(Status::Ok);
            reply.tell_store(took, beyond);
            Frame::bare(reply)
        }
        (Err(error), _) => refusal(header, &error),
        (Ok(_), Err(reply)) => *reply,
    }
}

/// The reply for a failure of the store.
pub(crate) fn refusal(header: &Header, error: &StoreError) -> Frame {
    let mut reply = header.reply(error.status());
    match *error {
        StoreError::StaleVersion { stored } => reply.version = stored,
        StoreError::StaleLease { floor } => reply.lease = floor,
        StoreError::Corrupt { offset } => reply.offset = offset,
        _ => {}
    }
    Frame::bare(reply)
}
