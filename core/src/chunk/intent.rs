//! Records of a disk's intent journal: the data of the entries in its segments (`core/src/journal`).
//!
//! ```text
//! 0    1 kind           1 create  2 blocks  3 mark  4 synced  5 raise  6 delete  7 term  8 corrupt  9 sound
//!                       10 arrive  11 settled
//! 1    1 flags          1 (synced, raise): clears the mark; (arrive): the mark is set
//! 2    2 part
//! 4    4 count          blocks: 1 .. 8 blocks; synced, arrive: runs; else 0
//! 8    8 chunk          term: 0
//! 16   8 version        raise: the new one; term: the term
//! 24   8 lease          lowest lease accepted from here on
//! 32     blocks: count x (index u32, crc u32), then count x 4096 bytes
//!        synced: count x (first u32, end u32): block runs, end exclusive
//!        arrive: disk [16] that it comes from, digest u64 of its checksum table, then runs as in synced
//! ```

use super::blocks::{BlockSet, RUNS_MAX};
use super::catalogue::ReplicaKey;
use super::{u16_at, u32_at, u64_at};
use crate::ids::{ChunkId, ChunkVersion, DiskId, LeaseNumber, PartId, Term};
use crate::limits::INTENT_BLOCKS_MAX;
use crate::units::{BLOCK_BYTES, BLOCKS_PER_CHUNK};
use uuid::Uuid;

/// Bytes of a record before its blocks or runs.
pub const INTENT_HEADER_BYTES: usize = 32;
const FLAG_CLEARS_MARK: u8 = 1;
const FLAG_MARKED: u8 = 1;
const DISK_BYTES: usize = 16;
/// Bytes of an *arrive* record between its header and its runs.
pub const ARRIVE_HEAD_BYTES: usize = DISK_BYTES + 8;

/// One whole block on its way into a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentBlock<B> {
    /// Its index in the chunk.
    pub index: u32,
    /// `block_crc` of its bytes.
    pub crc: u32,
    /// Its 4096 bytes.
    pub data: B,
}

/// What a record does. Type `B` holds the bytes of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent<B> {
    /// There is an empty replica from now on.
    Create,
    /// These blocks are stored. At most [`INTENT_BLOCKS_MAX`].
    Blocks(Vec<IntentBlock<B>>),
    /// Acknowledged writes may follow that are not durable.
    Mark,
    /// These blocks of the file and their table entries are durable.
    Synced {
        /// Which.
        blocks: BlockSet,
        /// No acknowledged write is left that is not durable.
        clears_mark: bool,
    },
    /// The version is at least this from now on.
    Raise {
        /// The lost writes, if any, have been dealt with.
        clears_mark: bool,
    },
    /// There is no replica from now on.
    Delete,
    /// A leader of this term (the record's version field) has been obeyed.
    Term(Term),
    /// Some block does not verify.
    Corrupt,
    /// Every block verifies again.
    Sound,
    /// It has come from another disk of the server: whole, durable, and provisional until it has settled.
    Arrive {
        /// Where it comes from.
        source: DiskId,
        /// Digest of its checksum table.
        digest: u64,
        /// Its blocks.
        stored: BlockSet,
        /// Acknowledged writes were lost before it came.
        marked: bool,
    },
    /// The disk that it came from has it no more.
    Settled,
}

/// A record: whom it concerns and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentRecord<B> {
    /// The replica; zero for terms.
    pub key: ReplicaKey,
    /// Its version.
    pub version: ChunkVersion,
    /// Its lease floor.
    pub lease: LeaseNumber,
    /// What happens to it.
    pub intent: Intent<B>,
}

impl<B: AsRef<[u8]>> IntentRecord<B> {
    /// Appends the bytes to `out`.
    ///
    /// # Panics
    /// When a block is not of the block size: that is a fault of the caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, flags, count) = match &self.intent {
            Intent::Create => (1, 0, 0),
            Intent::Blocks(blocks) => (2, 0, blocks.len()),
            Intent::Mark => (3, 0, 0),
            Intent::Synced { blocks, clears_mark } => (4, u8::from(*clears_mark), blocks.runs().len()),
            Intent::Raise { clears_mark } => (5, u8::from(*clears_mark), 0),
            Intent::Delete => (6, 0, 0),
            Intent::Term(_) => (7, 0, 0),
            Intent::Corrupt => (8, 0, 0),
            Intent::Sound => (9, 0, 0),
            Intent::Arrive { stored, marked, .. } => {
                (10, if *marked { FLAG_MARKED } else { 0 }, stored.runs().len())
            }
            Intent::Settled => (11, 0, 0),
        };
        let version = match self.intent {
            Intent::Term(term) => term.get(),
            _ => self.version.get(),
        };
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&self.key.part.get().to_le_bytes());
        out.extend_from_slice(&(count as u32).to_le_bytes());
        out.extend_from_slice(&self.key.chunk.get().to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&self.lease.get().to_le_bytes());
        match &self.intent {
            Intent::Blocks(blocks) => {
                for block in blocks {
                    out.extend_from_slice(&block.index.to_le_bytes());
                    out.extend_from_slice(&block.crc.to_le_bytes());
                }
                for block in blocks {
                    assert_eq!(block.data.as_ref().len() as u64, BLOCK_BYTES, "journaled blocks are whole");
                    out.extend_from_slice(block.data.as_ref());
                }
            }
            Intent::Synced { blocks, .. } => encode_runs(blocks, out),
            Intent::Arrive { source, digest, stored, .. } => {
                out.extend_from_slice(source.0.as_bytes());
                out.extend_from_slice(&digest.to_le_bytes());
                encode_runs(stored, out);
            }
            _ => {}
        }
    }

    /// Bytes that [`IntentRecord::encode`] makes.
    pub fn encoded_bytes(&self) -> usize {
        INTENT_HEADER_BYTES
            + match &self.intent {
                Intent::Blocks(blocks) => blocks.len() * (8 + BLOCK_BYTES as usize),
                Intent::Synced { blocks, .. } => blocks.runs().len() * 8,
                Intent::Arrive { stored, .. } => ARRIVE_HEAD_BYTES + stored.runs().len() * 8,
                _ => 0,
            }
    }
}

impl<'a> IntentRecord<&'a [u8]> {
    /// Decodes one record; `None` when the bytes are none. (They come from a verified batch, so that is a later format.)
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < INTENT_HEADER_BYTES {
            return None;
        }
        let count = u32_at(bytes, 4) as usize;
        let rest = &bytes[INTENT_HEADER_BYTES..];
        let clears_mark = bytes[1] & FLAG_CLEARS_MARK != 0;
        let version = u64_at(bytes, 16);
        let intent = match bytes[0] {
            1 => Intent::Create,
            2 => Intent::Blocks(decode_blocks(rest, count)?),
            3 => Intent::Mark,
            4 => Intent::Synced { blocks: decode_runs(rest, count)?, clears_mark },
            5 => Intent::Raise { clears_mark },
            6 => Intent::Delete,
            7 => Intent::Term(Term(version)),
            8 => Intent::Corrupt,
            9 => Intent::Sound,
            10 => decode_arrive(rest, count, bytes[1] & FLAG_MARKED != 0)?,
            11 => Intent::Settled,
            _ => return None,
        };
        Some(Self {
            key: ReplicaKey { chunk: ChunkId(u64_at(bytes, 8)), part: PartId(u16_at(bytes, 2)) },
            version: ChunkVersion(version),
            lease: LeaseNumber(u64_at(bytes, 24)),
            intent,
        })
    }
}

fn encode_runs(blocks: &BlockSet, out: &mut Vec<u8>) {
    for (first, end) in blocks.runs() {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
    }
}

fn decode_arrive(bytes: &[u8], count: usize, marked: bool) -> Option<Intent<&[u8]>> {
    let (head, runs) = bytes.split_at_checked(ARRIVE_HEAD_BYTES)?;
    let source = DiskId(Uuid::from_slice(&head[..DISK_BYTES]).ok()?);
    let digest = u64_at(head, DISK_BYTES);
    Some(Intent::Arrive { source, digest, stored: decode_runs(runs, count)?, marked })
}

/// Block runs as they stand in records and catalogue entries; `None` unless `bytes` is exactly `count` valid ones.
pub(super) fn decode_runs(bytes: &[u8], count: usize) -> Option<BlockSet> {
    if count > RUNS_MAX || bytes.len() != count * 8 {
        return None;
    }
    BlockSet::from_runs(bytes.chunks_exact(8).map(|run| (u32_at(run, 0), u32_at(run, 4))))
}

fn decode_blocks(bytes: &[u8], count: usize) -> Option<Vec<IntentBlock<&[u8]>>> {
    if count > INTENT_BLOCKS_MAX || bytes.len() != count * (8 + BLOCK_BYTES as usize) {
        return None;
    }
    let (heads, bodies) = bytes.split_at(count * 8);
    heads
        .chunks_exact(8)
        .zip(bodies.chunks_exact(BLOCK_BYTES as usize))
        .map(|(head, data)| IntentBlock { index: u32_at(head, 0), crc: u32_at(head, 4), data })
        .map(|block| (u64::from(block.index) < BLOCKS_PER_CHUNK).then_some(block))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(intent: Intent<Vec<u8>>) -> IntentRecord<Vec<u8>> {
        let key = ReplicaKey { chunk: ChunkId(9), part: PartId(1) };
        let version =
            if let Intent::Term(term) = intent { ChunkVersion(term.get()) } else { ChunkVersion(4) };
        IntentRecord { key, version, lease: LeaseNumber(6), intent }
    }

    #[test]
    fn every_kind_round_trips_and_no_cut_is_taken() {
        let block =
            |index| IntentBlock { index, crc: index * 3, data: vec![index as u8; BLOCK_BYTES as usize] };
        let synced = BlockSet::from_runs([(0, 5), (7, 9)]).unwrap();
        let arrive = |marked| Intent::Arrive {
            source: DiskId(Uuid::from_u128(77)),
            digest: 5,
            stored: synced.clone(),
            marked,
        };
        let kinds = [
            arrive(false),
            arrive(true),
            Intent::Settled,
            Intent::Sound,
            Intent::Create,
            Intent::Blocks(vec![block(3), block(16383)]),
            Intent::Mark,
            Intent::Synced { blocks: synced.clone(), clears_mark: true },
            Intent::Raise { clears_mark: false },
            Intent::Delete,
            Intent::Term(Term(12)),
            Intent::Corrupt,
        ];
        for intent in kinds {
            let record = record(intent);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(bytes.len(), record.encoded_bytes());
            let back = IntentRecord::decode(&bytes).unwrap();
            let mut again = Vec::new();
            back.encode(&mut again);
            assert_eq!(bytes, again);
            assert_eq!((back.key, back.version, back.lease), (record.key, record.version, record.lease));
            for cut in 0..bytes.len() {
                let taken = IntentRecord::decode(&bytes[..cut]);
                assert!(taken.is_none() || cut >= INTENT_HEADER_BYTES, "{cut}");
            }
        }
    }

    #[test]
    fn hostile_counts_and_indices_are_refused() {
        let mut bytes = Vec::new();
        record(Intent::Synced { blocks: BlockSet::from_runs([(0, 1)]).unwrap(), clears_mark: false })
            .encode(&mut bytes);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(IntentRecord::decode(&bytes).is_none());
        let mut bytes = Vec::new();
        record(Intent::Blocks(vec![IntentBlock { index: 16384, crc: 0, data: vec![0; 4096] }]))
            .encode(&mut bytes);
        assert!(IntentRecord::decode(&bytes).is_none());
    }
}
