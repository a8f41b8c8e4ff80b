//! Read, BlockSums and Stat: what leaves was verified by the store, and carries its checksums for the reader.

use crate::data_service::{DataService, Session};
use crate::store::{BlockSum, ReadTerms, ReplicaStat, StoreError};
use crate::write_path::refusal;
use bytes::{BufMut, BytesMut};
use cairn_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use cairn_core::time::Tick;
use cairn_core::units::CHUNK_BYTES;
use cairn_proto::data_conn::Request;
use cairn_proto::frame::{Frame, Status, flags};
use std::time::Duration;

/// Whole blocks with their checksums.
pub(crate) async fn read(service: &DataService, request: &Request<Session>, started: Tick) -> Frame {
    let header = &request.frame.header;
    let length = header.length;
    let fits = header.offset.checked_add(u64::from(length)).is_some_and(|end| end <= CHUNK_BYTES);
    if length == 0 || length as usize > FRAME_PAYLOAD_BYTES_MAX || !fits {
        return Frame::bare(header.reply(Status::BadRequest));
    }
    let deadline = Duration::from_millis(u64::from(header.deadline_ms));
    let terms = ReadTerms {
        deadline: (!deadline.is_zero()).then(|| started.after(deadline)),
        may_decline: header.flags & flags::MAY_DECLINE != 0,
    };
    let (store, range) = (service.store(), (header.offset, length));
    let begun = service.clock().now();
    match store.read_on_terms(header.chunk, header.part, header.version, range, terms).await {
        Ok(blocks) => {
            service.metrics().read(blocks.payload.len());
            let mut reply = Frame::bare(header.reply(Status::Ok));
            reply.header.tell_store(service.clock().now().since(begun), None);
            reply.header.offset = blocks.offset;
            reply.header.disk = disk_number(Some(blocks.disk));
            reply.sums = blocks.sums;
            reply.payload = blocks.payload;
            reply
        }
        Err(error) => {
            if error == StoreError::Expired {
                service.metrics().expired();
            }
            let mut reply = refusal(header, &error);
            reply.header.disk = disk_number(store.disk_of(header.chunk, header.part));
            reply
        }
    }
}

/// As a reply carries it; not told beyond what a byte counts.
fn disk_number(index: Option<usize>) -> u8 {
    index.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or(0)
}

/// Checksums and generations of all blocks.
pub(crate) async fn block_sums(service: &DataService, request: &Request<Session>) -> Frame {
    let header = &request.frame.header;
    match service.store().block_sums(header.chunk, header.part, header.version).await {
        Ok(sums) => {
            let mut reply = Frame::bare(header.reply(Status::Ok));
            reply.header.length = sums.len() as u32;
            reply.sums = sums.iter().map(|sum| sum.crc).collect();
            let mut generations = BytesMut::with_capacity(sums.len() * 4);
            sums.iter().for_each(|sum| generations.put_u32_le(sum.generation));
            reply.payload = generations.freeze();
            reply
        }
        Err(error) => refusal(header, &error),
    }
}

/// The sums of a reply made by [`block_sums`]; `None` when it makes no sense.
pub(crate) fn parse_block_sums(reply: &Frame) -> Option<Vec<BlockSum>> {
    if reply.payload.len() != reply.sums.len() * 4 {
        return None;
    }
    let generations = reply
        .payload
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes(four.try_into().expect("chunks of exactly four bytes")));
    Some(reply.sums.iter().zip(generations).map(|(&crc, generation)| BlockSum { crc, generation }).collect())
}

/// What is known of the replica, whatever its version.
pub(crate) fn stat(service: &DataService, request: &Request<Session>) -> Frame {
    let header = &request.frame.header;
    match service.store().stat(header.chunk, header.part) {
        Some(stat) => stat_reply(request, &stat),
        None => Frame::bare(header.reply(Status::NoSuchChunk)),
    }
}

fn stat_reply(request: &Request<Session>, stat: &ReplicaStat) -> Frame {
    let mut reply = Frame::bare(request.frame.header.reply(Status::Ok));
    reply.header.version = stat.version;
    reply.header.lease = stat.lease_floor;
    reply.header.length = stat.length as u32;
    let mut body = BytesMut::with_capacity(12);
    body.put_u32_le(stat.blocks);
    body.put_u32_le(stat.durable_blocks);
    body.put_u32_le(u32::from(stat.corrupt) | u32::from(stat.writes_lost) << 1);
    reply.payload = body.freeze();
    reply
}
