//! The answer that a slot keeps for a retry.
//!
//! ```text
//! +0 kind u8
//!   1 Done
//!   2 Attr      attributes
//!   3 Entry     attributes (the map is a courtesy and not kept)
//!   4 Created   created u8 | lease u64 (0: none) | attributes
//!   5 Chunks    ids u64*: locations are looked up again, at their present state
//!   6 Leased    lease u64 | attributes
//! attributes: inode u64 | kind u8 | mode u16 | uid u32 | gid u32 | links u32 | size u64 | mapped u64 | rdev u64
//!             | atime | mtime | ctime | btime (i64, u32 each) | change u64 | data change u64 | policy u32
//! ```

use crate::ids::{ChunkId, InodeId, LeaseNumber, PolicyId};
use crate::limits::{CHUNKS_PER_ALLOCATION_MAX, SLOT_ANSWER_BYTES_MAX};
use crate::namespace::answer::Answer;
use crate::namespace::attr::{Attr, NodeKind};
use crate::namespace::rows::Damaged;
use crate::namespace::rows::codec::{Reader, Writer};
use bytes::Bytes;

const _: () = assert!(8 * (CHUNKS_PER_ALLOCATION_MAX as usize) < SLOT_ANSWER_BYTES_MAX);

/// An answer as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAnswer {
    /// Complete.
    Whole(Box<Answer>),
    /// `Answer::Chunks` of these chunks, to be located again.
    Chunks(Vec<ChunkId>),
}

/// Encodes the answer of an operation; `None` for kinds that no operation answers.
pub fn encode(answer: &Answer) -> Option<Bytes> {
    let mut out = Writer::default();
    match answer {
        Answer::Done => out.u8(1),
        Answer::Attr(attr) => {
            out.u8(2);
            write_attr(&mut out, attr);
        }
        Answer::Entry { attr, map: _ } => {
            out.u8(3);
            write_attr(&mut out, attr);
        }
        Answer::Created { attr, created, lease } => {
            out.u8(4);
            out.u8(u8::from(*created));
            out.u64(lease.map_or(0, LeaseNumber::get));
            write_attr(&mut out, attr);
        }
        Answer::Chunks(locations) => {
            out.u8(5);
            locations.iter().for_each(|location| out.u64(location.chunk.get()));
        }
        Answer::Leased { lease, attr } => {
            out.u8(6);
            out.u64(lease.get());
            write_attr(&mut out, attr);
        }
        Answer::Names(_)
        | Answer::Directory { .. }
        | Answer::Bytes(_)
        | Answer::Map(_)
        | Answer::FileSystem(_) => return None,
    }
    let encoded = out.finish();
    assert!(encoded.len() <= SLOT_ANSWER_BYTES_MAX, "operations answer little");
    Some(encoded)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// [`Damaged`].
pub fn decode(bytes: &[u8]) -> Result<StoredAnswer, Damaged> {
    let mut input = Reader::new(bytes);
    let answer = match input.u8()? {
        1 => Answer::Done,
        2 => Answer::Attr(read_attr(&mut input)?),
        3 => Answer::Entry { attr: read_attr(&mut input)?, map: None },
        4 => {
            let created = match input.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Damaged),
            };
            let lease = Some(LeaseNumber(input.u64()?)).filter(|lease| lease.get() != 0);
            Answer::Created { attr: read_attr(&mut input)?, created, lease }
        }
        5 => {
            let mut chunks = Vec::new();
            while !input.is_empty() {
                chunks.push(ChunkId(input.u64()?));
            }
            return Ok(StoredAnswer::Chunks(chunks));
        }
        6 => {
            let lease = LeaseNumber(input.u64()?);
            Answer::Leased { lease, attr: read_attr(&mut input)? }
        }
        _ => return Err(Damaged),
    };
    input.end()?;
    Ok(StoredAnswer::Whole(Box::new(answer)))
}

fn write_attr(out: &mut Writer, attr: &Attr) {
    out.u64(attr.inode.get());
    out.u8(attr.kind as u8);
    out.u16(attr.mode as u16);
    for number in [attr.uid, attr.gid, attr.links] {
        out.u32(number);
    }
    for number in [attr.size, attr.mapped_bytes, attr.rdev] {
        out.u64(number);
    }
    for time in [attr.atime, attr.mtime, attr.ctime, attr.btime] {
        out.time(time);
    }
    out.u64(attr.change);
    out.u64(attr.data_change);
    out.u32(attr.policy.get());
}

fn read_attr(input: &mut Reader<'_>) -> Result<Attr, Damaged> {
    Ok(Attr {
        inode: InodeId(input.u64()?),
        kind: NodeKind::from_number(input.u8()?).ok_or(Damaged)?,
        mode: u32::from(input.u16()?),
        uid: input.u32()?,
        gid: input.u32()?,
        links: input.u32()?,
        size: input.u64()?,
        mapped_bytes: input.u64()?,
        rdev: input.u64()?,
        atime: input.time()?,
        mtime: input.time()?,
        ctime: input.time()?,
        btime: input.time()?,
        change: input.u64()?,
        data_change: input.u64()?,
        policy: PolicyId(input.u32()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn attr() -> Attr {
        let time = Timestamp { seconds: -5, nanos: 999_999_999 };
        Attr {
            inode: InodeId(7),
            kind: NodeKind::Fifo,
            mode: 0o7777,
            uid: 1,
            gid: 2,
            links: 3,
            size: 4,
            mapped_bytes: 5,
            rdev: 6,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            change: 8,
            data_change: 9,
            policy: PolicyId(10),
        }
    }

    #[test]
    fn answers_come_back_as_they_were() {
        let lease = LeaseNumber(3);
        let answers = [
            Answer::Done,
            Answer::Attr(attr()),
            Answer::Entry { attr: attr(), map: None },
            Answer::Created { attr: attr(), created: true, lease: Some(lease) },
            Answer::Created { attr: attr(), created: false, lease: None },
            Answer::Leased { lease, attr: attr() },
        ];
        for answer in answers {
            assert_eq!(decode(&encode(&answer).unwrap()), Ok(StoredAnswer::Whole(Box::new(answer))));
        }
        assert_eq!(encode(&Answer::Bytes(Bytes::new())), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
