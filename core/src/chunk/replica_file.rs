//! The replica file: data at its own offset, a header block, the checksum table.
//!
//! ```text
//!        0  64 MiB  data; the last block is filled up with zeros
//! 67108864   4096   header
//! 67112960   131072 checksum table: entry i is of block i
//!
//! header     0    8 magic          "CairnCH1"
//!            8    4 format         1
//!           12    4 entry_bytes    8: bytes of a table entry
//!           16    8 chunk
//!           24    8 version        when the header was last written; the catalogue decides
//!           32    2 part
//!           34    2 reserved       0
//!           36    4 block_bytes    4096
//!           40   16 disk           uuid
//!           56 4036 reserved       0
//!         4092    4 crc            CRC-32 of bytes 0..4092
//! entry      0    4 crc            block_crc(chunk, index, whole block)
//!            4    4 generation     0: no block
//! ```

use super::{u16_at, u32_at, u64_at};
use crate::ids::{ChunkId, ChunkVersion, DiskId, PartId};
use crate::units::{BLOCK_BYTES, BLOCKS_PER_CHUNK, CHUNK_BYTES};

/// Offset of the header in the file.
pub const HEADER_AT: u64 = CHUNK_BYTES;
/// Bytes of the header: one block.
pub const HEADER_BYTES: usize = BLOCK_BYTES as usize;
/// Offset of the checksum table in the file.
pub const TABLE_AT: u64 = HEADER_AT + HEADER_BYTES as u64;
/// Bytes of a table entry.
pub const ENTRY_BYTES: usize = 8;
/// Bytes of the whole table.
pub const TABLE_BYTES: u64 = BLOCKS_PER_CHUNK * ENTRY_BYTES as u64;
/// Version of this layout.
pub const REPLICA_FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"CairnCH1";
const CRC_AT: usize = HEADER_BYTES - 4;

/// One entry of the checksum table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableEntry {
    /// Checksum of the whole block.
    pub crc: u32,
    /// See [`generation_of`](super::generation_of).
    pub generation: u32,
}

impl TableEntry {
    /// Its bytes.
    pub fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        out[..4].copy_from_slice(&self.crc.to_le_bytes());
        out[4..].copy_from_slice(&self.generation.to_le_bytes());
        out
    }

    /// From exactly [`ENTRY_BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        Self { crc: u32_at(bytes, 0), generation: u32_at(bytes, 4) }
    }
}

/// Where the table entry of `block` stands in the file.
pub const fn entry_at(block: u32) -> u64 {
    TABLE_AT + block as u64 * ENTRY_BYTES as u64
}

/// What the file says about itself, for people and tools; the catalogue decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its version when the header was last written.
    pub version: ChunkVersion,
    /// Its part.
    pub part: PartId,
    /// The disk it was written to.
    pub disk: DiskId,
}

impl FileHeader {
    /// Its block.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&REPLICA_FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        out[16..24].copy_from_slice(&self.chunk.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.version.get().to_le_bytes());
        out[32..34].copy_from_slice(&self.part.get().to_le_bytes());
        out[36..40].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        out[40..56].copy_from_slice(self.disk.0.as_bytes());
        let crc = crc32fast::hash(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes a header block; `None` when it is none of this format, or damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let sound = bytes.len() == HEADER_BYTES
            && bytes[..8] == MAGIC
            && u32_at(bytes, CRC_AT) == crc32fast::hash(&bytes[..CRC_AT])
            && u32_at(bytes, 8) == REPLICA_FORMAT;
        sound.then(|| Self {
            chunk: ChunkId(u64_at(bytes, 16)),
            version: ChunkVersion(u64_at(bytes, 24)),
            part: PartId(u16_at(bytes, 32)),
            disk: DiskId(uuid::Uuid::from_bytes(bytes[40..56].try_into().expect("sixteen bytes"))),
        })
    }
}

/// Folder and file name of a replica below `chunks/`. The folder is the id's low byte: ids are counters, so folders fill evenly.
pub fn file_name(chunk: ChunkId, part: PartId) -> (String, String) {
    (format!("{:02x}", chunk.get() as u8), format!("{:016x}.{}", chunk.get(), part.get()))
}

/// The replica that a file name stands for; `None` for names that [`file_name`] does not make.
pub fn parse_file_name(name: &str) -> Option<(ChunkId, PartId)> {
    let (chunk, part) = name.split_once('.')?;
    let key = (ChunkId(u64::from_str_radix(chunk, 16).ok()?), PartId(part.parse().ok()?));
    (file_name(key.0, key.1).1 == name).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_every_flipped_bit_is_refused() {
        let header = FileHeader {
            chunk: ChunkId(7),
            version: ChunkVersion(3),
            part: PartId(0),
            disk: DiskId(uuid::Uuid::from_u128(5)),
        };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn names_round_trip() {
        let (folder, name) = file_name(ChunkId(0x1234), PartId(2));
        assert_eq!((folder.as_str(), name.as_str()), ("34", "0000000000001234.2"));
        assert_eq!(parse_file_name(&name), Some((ChunkId(0x1234), PartId(2))));
        for other in [
            "",
            "x",
            "0000000000001234",
            "0000000000001234.02",
            "+000000000001234.2",
            "1234.2",
            "0000000000001234.2.new",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
