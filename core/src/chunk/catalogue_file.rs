//! The catalogue file: frames of entries, appended when journal segments are recycled, and written anew when it has grown.
//!
//! ```text
//! frame      0    4 magic          "CRNc"
//!            4    4 flags          1: starts anew, all before is void
//!            8    8 covers         journal position: records below it need not be read
//!           16    8 term           highest term obeyed
//!           24    4 entries
//!           28    4 length         bytes of entries
//!           32    4 chain          header_crc of the frame before; 0 in the first
//!           36    4 body_crc       CRC-32 of the entries
//!           40    4 header_crc     CRC-32 of bytes 0..40
//!           44      entries
//! entry      0    1 kind           1 present, 2 gone
//!            1    1 flags          1: mark set, 2: corrupt, 4: digest follows, 8: provisional, disk follows
//!            2    2 part
//!            4    4 runs
//!            8    8 chunk
//!           16    8 version
//!           24    8 lease
//!           32      runs x (first u32, end u32): stored blocks
//!            +    8 digest         of the file's checksum table; only with flag 4
//!            +   16 disk           that it comes from; only with flag 8
//! ```
//!
//! A torn append is no damage: the journal segments that it would have freed are still there. Whether the valid frames
//! reach far enough is therefore the journal's to say (`covers` against the oldest segment).

use super::blocks::BlockSet;
use super::catalogue::{Catalogue, RecoveredReplica, ReplicaKey, ReplicaRecord};
use super::intent::decode_runs;
use super::{u16_at, u32_at, u64_at};
use crate::ids::{ChunkId, ChunkVersion, DiskId, LeaseNumber, PartId, Term};
use uuid::Uuid;

const MAGIC: [u8; 4] = *b"CRNc";
const FRAME_HEADER_BYTES: usize = 44;
const HEADER_CRC_AT: usize = 40;
const ENTRY_HEADER_BYTES: usize = 32;
const FLAG_ANEW: u32 = 1;
const ENTRY_MARKED: u8 = 1;
const ENTRY_CORRUPT: u8 = 2;
const ENTRY_DIGEST: u8 = 4;
const ENTRY_PROVISIONAL: u8 = 8;
const DIGEST_BYTES: usize = 8;
const DISK_BYTES: usize = 16;

/// Builds one frame.
#[derive(Clone, Debug, Default)]
pub struct FrameBuilder {
    entries: Vec<u8>,
    count: u32,
}

impl FrameBuilder {
    /// Adds an entry: the replica as it is, or `None` when there is none any more.
    pub fn push(&mut self, key: ReplicaKey, record: Option<&ReplicaRecord>) {
        let gone = ReplicaRecord::default();
        let (kind, record) = record.map_or((2, &gone), |record| (1, record));
        let marked = if record.marked { ENTRY_MARKED } else { 0 };
        let corrupt = if record.corrupt { ENTRY_CORRUPT } else { 0 };
        let known = if record.digest.is_some() { ENTRY_DIGEST } else { 0 };
        let provisional = if record.provisional.is_some() { ENTRY_PROVISIONAL } else { 0 };
        let out = &mut self.entries;
        out.extend_from_slice(&[kind, marked | corrupt | known | provisional]);
        out.extend_from_slice(&key.part.get().to_le_bytes());
        out.extend_from_slice(&(record.stored.runs().len() as u32).to_le_bytes());
        out.extend_from_slice(&key.chunk.get().to_le_bytes());
        out.extend_from_slice(&record.version.get().to_le_bytes());
        out.extend_from_slice(&record.lease.get().to_le_bytes());
        for (first, end) in record.stored.runs() {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        if let Some(digest) = record.digest {
            out.extend_from_slice(&digest.to_le_bytes());
        }
        if let Some(source) = record.provisional {
            out.extend_from_slice(source.0.as_bytes());
        }
        self.count += 1;
    }

    /// The frame's bytes and the chain value for the next one.
    pub fn seal(self, anew: bool, covers: u64, term: Term, chain: u32) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + self.entries.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(if anew { FLAG_ANEW } else { 0 }).to_le_bytes());
        out.extend_from_slice(&covers.to_le_bytes());
        out.extend_from_slice(&term.get().to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        out.extend_from_slice(&chain.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&self.entries).to_le_bytes());
        let header_crc = crc32fast::hash(&out);
        out.extend_from_slice(&header_crc.to_le_bytes());
        out.extend_from_slice(&self.entries);
        (out, header_crc)
    }
}

/// What a catalogue file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueFile {
    /// The replicas (nothing staged) and the term.
    pub catalogue: Catalogue,
    /// Journal records below this position are contained.
    pub covers: u64,
    /// Chain value for the next frame.
    pub chain: u32,
    /// Bytes of valid frames; what follows them in the file is a torn append.
    pub valid_bytes: u64,
    /// Where the last of them begins: all before it were synced before it was written.
    pub last_frame_at: u64,
}

/// Reads a catalogue file as far as it verifies. `None` when not even the first frame does.
pub fn read(bytes: &[u8]) -> Option<CatalogueFile> {
    let mut file = CatalogueFile::default();
    let mut rest = bytes;
    while let Some(taken) = read_frame(rest, &mut file) {
        rest = &rest[taken..];
        file.last_frame_at = file.valid_bytes;
        file.valid_bytes += taken as u64;
    }
    (file.valid_bytes > 0).then_some(file)
}

fn read_frame(bytes: &[u8], file: &mut CatalogueFile) -> Option<usize> {
    if bytes.len() < FRAME_HEADER_BYTES || bytes[..4] != MAGIC {
        return None;
    }
    let header_crc = u32_at(bytes, HEADER_CRC_AT);
    if header_crc != crc32fast::hash(&bytes[..HEADER_CRC_AT]) || u32_at(bytes, 32) != file.chain {
        return None;
    }
    let end = FRAME_HEADER_BYTES.checked_add(u32_at(bytes, 28) as usize)?;
    let body = bytes.get(FRAME_HEADER_BYTES..end)?;
    if crc32fast::hash(body) != u32_at(bytes, 36) {
        return None;
    }
    let entries = read_entries(body, u32_at(bytes, 24))?;
    if u32_at(bytes, 4) & FLAG_ANEW != 0 {
        file.catalogue.replicas.clear();
    }
    for (key, record) in entries {
        match record {
            Some(record) => {
                let replica = RecoveredReplica { record, ..RecoveredReplica::default() };
                file.catalogue.replicas.insert(key, replica);
            }
            None => drop(file.catalogue.replicas.remove(&key)),
        }
    }
    file.covers = u64_at(bytes, 8);
    file.catalogue.term = file.catalogue.term.max(Term(u64_at(bytes, 16)));
    file.chain = header_crc;
    Some(end)
}

fn read_entries(mut body: &[u8], count: u32) -> Option<Vec<(ReplicaKey, Option<ReplicaRecord>)>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        if body.len() < ENTRY_HEADER_BYTES {
            return None;
        }
        let runs = u32_at(body, 4) as usize;
        let end = ENTRY_HEADER_BYTES.checked_add(runs.checked_mul(8)?)?;
        let stored: BlockSet = decode_runs(body.get(ENTRY_HEADER_BYTES..end)?, runs)?;
        let key = ReplicaKey { chunk: ChunkId(u64_at(body, 8)), part: PartId(u16_at(body, 2)) };
        let has_digest = body[1] & ENTRY_DIGEST != 0;
        let behind = if has_digest { end.checked_add(DIGEST_BYTES)? } else { end };
        let digest = if has_digest { Some(u64_at(body.get(end..behind)?, 0)) } else { None };
        let is_provisional = body[1] & ENTRY_PROVISIONAL != 0;
        let next = if is_provisional { behind.checked_add(DISK_BYTES)? } else { behind };
        let source = Uuid::from_slice(body.get(behind..next)?);
        let provisional = if is_provisional { Some(DiskId(source.ok()?)) } else { None };
        let record = ReplicaRecord {
            version: ChunkVersion(u64_at(body, 16)),
            lease: LeaseNumber(u64_at(body, 24)),
            stored,
            marked: body[1] & ENTRY_MARKED != 0,
            corrupt: body[1] & ENTRY_CORRUPT != 0,
            digest,
            provisional,
        };
        match body[0] {
            1 => entries.push((key, Some(record))),
            2 => entries.push((key, None)),
            _ => return None,
        }
        body = &body[next..];
    }
    body.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(chunk: u64) -> ReplicaKey {
        ReplicaKey { chunk: ChunkId(chunk), part: PartId(0) }
    }

    fn sample() -> (Vec<u8>, usize) {
        let stored = BlockSet::from_runs([(0, 4), (9, 16384)]).unwrap();
        let record = ReplicaRecord {
            version: ChunkVersion(3),
            lease: LeaseNumber(2),
            stored,
            marked: true,
            corrupt: false,
            digest: Some(0x0102_0304_0506_0708),
            provisional: None,
        };
        let come = DiskId(Uuid::from_u128(6));
        let provisional = ReplicaRecord { provisional: Some(come), ..record.clone() };
        let mut first = FrameBuilder::default();
        first.push(key(1), Some(&record));
        first.push(key(2), Some(&ReplicaRecord::default()));
        let (mut bytes, chain) = first.seal(true, 512, Term(4), 0);
        let cut = bytes.len();
        let mut second = FrameBuilder::default();
        second.push(key(2), None);
        second.push(key(3), Some(&provisional));
        bytes.extend(second.seal(false, 1024, Term(5), chain).0);
        (bytes, cut)
    }

    #[test]
    fn frames_add_up() {
        let (bytes, _) = sample();
        let file = read(&bytes).unwrap();
        assert_eq!(file.catalogue.replicas.keys().copied().collect::<Vec<_>>(), vec![key(1), key(3)]);
        assert_eq!((file.covers, file.catalogue.term, file.valid_bytes), (1024, Term(5), bytes.len() as u64));
        assert_eq!(file.catalogue.replicas[&key(1)].record.stored.runs(), &[(0, 4), (9, 16384)]);
        assert!(file.catalogue.replicas[&key(1)].record.marked);
        assert_eq!(file.catalogue.replicas[&key(3)].record.digest, Some(0x0102_0304_0506_0708));
        let provisional = |chunk| file.catalogue.replicas[&key(chunk)].record.provisional;
        assert_eq!((provisional(1), provisional(3)), (None, Some(DiskId(Uuid::from_u128(6)))));
    }

    #[test]
    fn any_cut_or_flip_leaves_whole_frames_only() {
        let (bytes, first) = sample();
        for cut in 0..bytes.len() {
            assert_eq!(
                read(&bytes[..cut]).map(|file| file.valid_bytes),
                (cut >= first).then_some(first as u64)
            );
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let valid = read(&bad).map_or(0, |file| file.valid_bytes);
            assert_eq!(valid, if bit / 8 < first { 0 } else { first as u64 }, "bit {bit}");
        }
    }
}
