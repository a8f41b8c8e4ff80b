//! The data-plane frame: fixed header, then hops, block checksums and payload.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    4 magic          "CRNf"
//!      4    1 version        1
//!      5    1 op             see Op; replies have the high bit set
//!      6    2 flags          see flags
//!      8    8 request        id chosen by the sender, echoed in the reply
//!     16    8 chunk
//!     24    8 chunk_version
//!     32    8 lease          lease number of the writer; 0 for reads
//!     40    8 offset         first byte within the chunk
//!     48    4 length         bytes asked for (Read), or a number in replies
//!     52    4 payload_len    bytes of payload that follow, at most FRAME_PAYLOAD_BYTES_MAX
//!     56    2 part           0 for copies
//!     58    2 hops_len       bytes of the hop list that follows (addresses, see below)
//!     60    4 sums           number of u32 block checksums that follow
//!     64    1 status         replies: see Status; requests: 0
//!     65    1 minimum        requests: fewest replicas that must hold the write; informative
//!     66    1 cipher         0: plain
//!     67    1 disk           replies to Read: 1 + number of the disk that the replica stands on; 0: not told; requests: 0
//!     68    2 auth_len       0 today: room for a capability
//!     70    2 slowest        replies: 1 + place in the chain of the server whose store took longest; 0: not told; requests: 0
//!     72    4 deadline_ms    the sender gives up after so long; 0: none; replies that tell `slowest`: how long its store took
//!     76    4 header_crc     CRC-32 of bytes 0..76
//!     80    …  auth, hops, checksums (u32 each), payload
//! ```
//!
//! Hop list: for each remaining hop u8 length + `host:port`. An empty list means that this server is the last.
//! In a reply with status `NextHopFailed` or `NextHopSlow` the hop list names the one server meant; in a reply with
//! another failure a hop list names the later hop that it comes from, and none means the answering server itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_core::cluster::pace::Haste;
use cairn_core::ids::{ChunkId, ChunkVersion, LeaseNumber, PartId, RequestId};
use cairn_core::limits::{FRAME_PAYLOAD_BYTES_MAX, REPLICAS_MAX};
use cairn_core::units::{BLOCK_BYTES, BLOCKS_PER_CHUNK};
use std::time::Duration;
use thiserror::Error;

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"CRNf";
/// Version of this layout.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 80;
const CRC_AT: usize = 76;
const REPLY_BIT: u8 = 0x80;
/// Most bytes of a hop list: `REPLICAS_MAX` addresses of at most 255 bytes.
pub const HOPS_BYTES_MAX: usize = REPLICAS_MAX * 256;
/// Most checksums of a frame: a block-sum list of a whole chunk; payload frames carry far fewer.
pub const SUMS_MAX: u32 = BLOCKS_PER_CHUNK as u32;

/// What a frame asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// First frame of a connection; the payload is an encoded `cairn.v1.Hello`. The reply carries the server's. `chunk`
    /// and `version` hold the lane and its generation (see `data_conn::Lane`).
    Hello = 1,
    /// Is anybody there? Answered by the connection's reader, never behind a disk.
    Ping = 2,
    /// Store the payload at `offset`, forwarding it along the hops at the same time.
    Write = 3,
    /// Make all acknowledged writes of the chunk durable, here and along the hops.
    Sync = 4,
    /// Read `length` bytes at `offset`. The reply's payload covers whole blocks: its `offset` is the block floor, its
    /// checksums are those of the blocks. Blocks never written come back as zeros.
    Read = 5,
    /// Block checksums and generations of the replica. The reply's `length` is the number of blocks; its checksums are
    /// those of whole blocks (0: not stored), its payload one generation (u32) per block.
    BlockSums = 6,
    /// The replica's version, stored length and durable state; used before a copy. The reply's `version`, `lease` and
    /// `length` say what it is at; its payload is stored blocks, durable blocks, and bits 1 corrupt, 2 writes lost (u32
    /// each).
    Stat = 7,
}

impl Op {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Ping,
            3 => Self::Write,
            4 => Self::Sync,
            5 => Self::Read,
            6 => Self::BlockSums,
            7 => Self::Stat,
            _ => return None,
        })
    }
}

/// Flag bits.
pub mod flags {
    /// Write: make it durable before acknowledging (write and sync in one round trip).
    pub const SYNC: u16 = 1;
    /// Write: the replica may be created (the chunk was just allocated).
    pub const CREATE: u16 = 2;
    /// Write, Sync or BlockSums from another chunk server that reconciles or copies a replica: the lease is not checked.
    pub const REPAIR: u16 = 4;
    /// Notice `NextHopSlow`: the named hop has answered a ping since; it is slow, not dead. A notice without this flag
    /// whose `length` is beyond `HOP_SILENCE + PING_SILENCE` means that pings stay unanswered too.
    pub const ANSWERS_PINGS: u16 = 8;
    /// Read: others can serve this; a server whose disk is slow at present may answer `SlowDisk` at once.
    pub const MAY_DECLINE: u16 = 16;
    /// With `REPAIR`: a copy for which nobody waits. The server lets it wait for what programs want of the disk. Two bits: 1 one
    /// replica is left, 2 replicas are lacking, 3 it only moves.
    pub const GIVES_WAY: u16 = 3 << 5;
}

/// The bits of [`flags::GIVES_WAY`].
pub const fn gives_way(haste: Option<Haste>) -> u16 {
    match haste {
        None => 0,
        Some(Haste::Last) => 1 << 5,
        Some(Haste::Short) => 2 << 5,
        Some(Haste::Move) => 3 << 5,
    }
}

/// What they say.
pub const fn haste_of(flags: u16) -> Option<Haste> {
    match (flags & flags::GIVES_WAY) >> 5 {
        0 => None,
        1 => Some(Haste::Last),
        2 => Some(Haste::Short),
        _ => Some(Haste::Move),
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done, on this server and on every remaining hop.
    Ok = 0,
    /// The frame's chunk version is below the stored one; `chunk_version` tells the stored one.
    StaleVersion = 1,
    /// The frame's lease is below one already seen for the chunk.
    StaleLease = 2,
    /// No replica of the chunk here, or below the asked version.
    NoSuchChunk = 3,
    /// A block does not verify; `offset` tells the first one. The replica has been reported.
    Corrupt = 4,
    /// No disk has room.
    DiskFull = 5,
    /// The replica's disk has failed.
    DiskFailed = 6,
    /// The payload does not match its checksums: damaged on the way.
    PayloadCorrupt = 7,
    /// Queues are full: try again after a pause.
    Overloaded = 8,
    /// The frame makes no sense; the connection is closed after this reply.
    BadRequest = 9,
    /// A later hop failed, could not be reached, or refused the frame for reasons of its own; the hop list names it. The
    /// frame may still be carried out there: it must not be sent again under the same version.
    NextHopFailed = 10,
    /// Not an end: the request waits for the named hop since `length` ms. The final reply follows.
    NextHopSlow = 11,
    /// The Hello was refused; the payload is an encoded `cairn.v1.Refused`.
    Refused = 12,
    /// The server is stopping.
    ShuttingDown = 13,
    /// Any other failure of the store.
    Io = 14,
    /// The replica's disk is slow at present, and the request said that others can serve it.
    SlowDisk = 15,
}

impl Status {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            1 => Self::StaleVersion,
            2 => Self::StaleLease,
            3 => Self::NoSuchChunk,
            4 => Self::Corrupt,
            5 => Self::DiskFull,
            6 => Self::DiskFailed,
            7 => Self::PayloadCorrupt,
            8 => Self::Overloaded,
            9 => Self::BadRequest,
            10 => Self::NextHopFailed,
            11 => Self::NextHopSlow,
            12 => Self::Refused,
            13 => Self::ShuttingDown,
            14 => Self::Io,
            15 => Self::SlowDisk,
            _ => return None,
        })
    }
}

/// A decoded header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked or answered.
    pub op: Op,
    /// A reply rather than a request.
    pub reply: bool,
    /// See [`flags`].
    pub flags: u16,
    /// Sender's id of the request.
    pub request: RequestId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Its version.
    pub version: ChunkVersion,
    /// The writer's lease.
    pub lease: LeaseNumber,
    /// First byte within the chunk.
    pub offset: u64,
    /// Bytes asked for, or a number in replies.
    pub length: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Part of the chunk.
    pub part: PartId,
    /// Bytes of the hop list.
    pub hops_len: u16,
    /// Checksums that follow.
    pub sums: u32,
    /// Replies: how it ended.
    pub status: Status,
    /// Fewest replicas wanted.
    pub minimum: u8,
    /// Replies to Read: 1 + number of the replica's disk among its server's; 0: not told.
    pub disk: u8,
    /// Deadline of the sender in ms from sending; 0: none.
    pub deadline_ms: u32,
    /// Replies: 1 + place in the chain of the server whose store took longest (0 is the one that answers), for `deadline_ms`; 0: not
    /// told.
    pub slowest: u16,
}

/// A whole frame. The payload is shared, never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header; the length fields are set by [`Frame::encode_head`].
    pub header: Header,
    /// Remaining hops, `host:port` each.
    pub hops: Vec<String>,
    /// Block checksums.
    pub sums: Vec<u32>,
    /// The bytes.
    pub payload: Bytes,
}

/// Why bytes are no frame. The connection that sent them is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not our protocol at all.
    #[error("bad magic: the peer does not speak the Cairn data protocol")]
    Magic,
    /// A later layout.
    #[error("frame version {0} is not supported")]
    Version(u8),
    /// Header damaged.
    #[error("frame header checksum mismatch")]
    HeaderCrc,
    /// A length beyond its limit.
    #[error("frame field {0} exceeds its limit")]
    TooLarge(&'static str),
    /// A field with a value of no meaning.
    #[error("frame field {0} is invalid")]
    Invalid(&'static str),
}

impl Header {
    /// A request header with everything else zero.
    pub fn request(op: Op, request: RequestId) -> Self {
        Self {
            op,
            reply: false,
            flags: 0,
            request,
            chunk: ChunkId(0),
            version: ChunkVersion(0),
            lease: LeaseNumber(0),
            offset: 0,
            length: 0,
            payload_len: 0,
            part: PartId(0),
            hops_len: 0,
            sums: 0,
            status: Status::Ok,
            minimum: 0,
            disk: 0,
            deadline_ms: 0,
            slowest: 0,
        }
    }

    /// The reply to `self` with `status` and nothing following.
    pub fn reply(&self, status: Status) -> Self {
        Self {
            reply: true,
            status,
            hops_len: 0,
            sums: 0,
            payload_len: 0,
            length: 0,
            flags: 0,
            ..self.clone()
        }
    }

    /// Says in a reply that this server's store took so long, or one further down the chain even longer.
    pub fn tell_store(&mut self, took: Duration, beyond: Option<(usize, Duration)>) {
        let (place, took) = match beyond {
            Some((place, theirs)) if theirs > took => (place + 1, theirs),
            _ => (0, took),
        };
        self.slowest = u16::try_from(place + 1).unwrap_or(u16::MAX);
        self.deadline_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
    }

    /// Place in the chain of the server whose store took longest, and how long; of the first one, none, where nothing is told.
    pub fn slowest_store(&self) -> (usize, Duration) {
        match usize::from(self.slowest).checked_sub(1) {
            Some(place) => (place, Duration::from_millis(u64::from(self.deadline_ms))),
            None => (0, Duration::ZERO),
        }
    }

    /// Bytes that follow the fixed header.
    pub fn body_len(&self) -> usize {
        self.hops_len as usize + self.sums as usize * 4 + self.payload_len as usize
    }

    fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&MAGIC);
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.op as u8 | if self.reply { REPLY_BIT } else { 0 });
        out.put_u16_le(self.flags);
        out.put_u64_le(self.request.get());
        out.put_u64_le(self.chunk.get());
        out.put_u64_le(self.version.get());
        out.put_u64_le(self.lease.get());
        out.put_u64_le(self.offset);
        out.put_u32_le(self.length);
        out.put_u32_le(self.payload_len);
        out.put_u16_le(self.part.get());
        out.put_u16_le(self.hops_len);
        out.put_u32_le(self.sums);
        out.put_u8(self.status as u8);
        out.put_u8(self.minimum);
        out.put_u8(0);
        out.put_u8(self.disk);
        out.put_u16_le(0);
        out.put_u16_le(self.slowest);
        out.put_u32_le(self.deadline_ms);
        debug_assert_eq!(out.len() - start, CRC_AT);
        let crc = crc32fast::hash(&out[start..]);
        out.put_u32_le(crc);
    }

    /// Decodes and checks a fixed header.
    ///
    /// # Errors
    /// See [`FrameError`]; lengths are checked before anybody allocates for them.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        if bytes[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        let mut at = &bytes[4..];
        let version = at.get_u8();
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        let mut stored = &bytes[CRC_AT..];
        if stored.get_u32_le() != crc32fast::hash(&bytes[..CRC_AT]) {
            return Err(FrameError::HeaderCrc);
        }
        let op = at.get_u8();
        let header = Self {
            reply: op & REPLY_BIT != 0,
            op: Op::from_number(op & !REPLY_BIT).ok_or(FrameError::Invalid("op"))?,
            flags: at.get_u16_le(),
            request: RequestId(at.get_u64_le()),
            chunk: ChunkId(at.get_u64_le()),
            version: ChunkVersion(at.get_u64_le()),
            lease: LeaseNumber(at.get_u64_le()),
            offset: at.get_u64_le(),
            length: at.get_u32_le(),
            payload_len: at.get_u32_le(),
            part: PartId(at.get_u16_le()),
            hops_len: at.get_u16_le(),
            sums: at.get_u32_le(),
            status: Status::from_number(at.get_u8()).ok_or(FrameError::Invalid("status"))?,
            minimum: at.get_u8(),
            disk: {
                if at.get_u8() != 0 {
                    return Err(FrameError::Invalid("cipher"));
                }
                at.get_u8()
            },
            slowest: {
                if at.get_u16_le() != 0 {
                    return Err(FrameError::Invalid("auth_len"));
                }
                at.get_u16_le()
            },
            deadline_ms: at.get_u32_le(),
        };
        header.check_limits()?;
        Ok(header)
    }

    fn check_limits(&self) -> Result<(), FrameError> {
        if self.payload_len as usize > FRAME_PAYLOAD_BYTES_MAX + BLOCK_BYTES as usize {
            return Err(FrameError::TooLarge("payload_len"));
        }
        if self.hops_len as usize > HOPS_BYTES_MAX {
            return Err(FrameError::TooLarge("hops_len"));
        }
        if self.sums > SUMS_MAX {
            return Err(FrameError::TooLarge("sums"));
        }
        Ok(())
    }
}

impl Frame {
    /// A frame without a body.
    pub fn bare(header: Header) -> Self {
        Self { header, hops: Vec::new(), sums: Vec::new(), payload: Bytes::new() }
    }

    /// Header, hops and checksums; write it together with `payload` (vectored).
    pub fn encode_head(&self) -> BytesMut {
        let hops_len: usize = self.hops.iter().map(|hop| hop.len() + 1).sum();
        debug_assert!(self.hops.len() <= REPLICAS_MAX && self.hops.iter().all(|hop| hop.len() <= 255));
        debug_assert!(self.payload.len() <= FRAME_PAYLOAD_BYTES_MAX + BLOCK_BYTES as usize);
        let mut header = self.header.clone();
        header.hops_len = hops_len as u16;
        header.sums = self.sums.len() as u32;
        header.payload_len = self.payload.len() as u32;
        let mut out = BytesMut::with_capacity(HEADER_BYTES + hops_len + self.sums.len() * 4);
        header.encode(&mut out);
        for hop in &self.hops {
            out.put_u8(hop.len() as u8);
            out.put_slice(hop.as_bytes());
        }
        for &sum in &self.sums {
            out.put_u32_le(sum);
        }
        out
    }

    /// Puts a frame together from its decoded header, the bytes of hops and checksums, and the payload.
    ///
    /// # Errors
    /// `Invalid` when the hop list does not parse.
    ///
    /// # Panics
    /// Never: `tail` must be `hops_len + 4 * sums` bytes, else `Invalid` is returned.
    pub fn assemble(header: Header, tail: &[u8], payload: Bytes) -> Result<Self, FrameError> {
        let hops_len = header.hops_len as usize;
        if tail.len() != hops_len + header.sums as usize * 4 || payload.len() != header.payload_len as usize {
            return Err(FrameError::Invalid("body length"));
        }
        let (mut hop_bytes, mut sum_bytes) = tail.split_at(hops_len);
        let mut hops = Vec::new();
        while !hop_bytes.is_empty() {
            let len = hop_bytes.get_u8() as usize;
            if len > hop_bytes.len() || hops.len() == REPLICAS_MAX {
                return Err(FrameError::Invalid("hops"));
            }
            let hop = std::str::from_utf8(&hop_bytes[..len]).map_err(|_| FrameError::Invalid("hops"))?;
            hops.push(hop.to_owned());
            hop_bytes.advance(len);
        }
        let mut sums = Vec::with_capacity(header.sums as usize);
        while sum_bytes.has_remaining() {
            sums.push(sum_bytes.get_u32_le());
        }
        Ok(Self { header, hops, sums, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Frame {
        let mut header = Header::request(Op::Write, RequestId(7));
        header.chunk = ChunkId(3);
        header.version = ChunkVersion(2);
        header.offset = 4096;
        header.flags = flags::SYNC;
        header.disk = 3;
        Frame {
            header,
            hops: vec!["127.0.0.1:9000".into(), "[::1]:9001".into()],
            sums: vec![1, 2],
            payload: Bytes::from_static(&[5; 8192]),
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let frame = sample();
        let head = frame.encode_head();
        let fixed: &[u8; HEADER_BYTES] = head[..HEADER_BYTES].try_into().unwrap();
        let header = Header::decode(fixed).unwrap();
        let back = Frame::assemble(header, &head[HEADER_BYTES..], frame.payload.clone()).unwrap();
        assert_eq!(back.hops, frame.hops);
        assert_eq!(back.sums, frame.sums);
        assert_eq!(back.header.offset, 4096);
        assert_eq!(back.header.disk, 3);
    }

    #[test]
    fn any_flipped_header_bit_is_refused() {
        let head = sample().encode_head();
        for bit in 0..HEADER_BYTES * 8 {
            let mut fixed: [u8; HEADER_BYTES] = head[..HEADER_BYTES].try_into().unwrap();
            fixed[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&fixed).is_err(), "bit {bit}");
        }
    }
}
