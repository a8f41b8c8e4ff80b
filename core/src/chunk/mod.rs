//! Laws of the chunk store: byte formats of replica file, intent journal and catalogue, and the rules by which they are
//! recovered. docs/FORMATS.md, "Replica file and intent journal", draws them together.

pub mod blocks;
pub mod catalogue;
pub mod catalogue_file;
pub mod intent;
pub mod moving;
pub mod replica_file;
pub mod scrub;
pub mod scrub_file;
pub mod table_digest;
pub mod table_mend;

pub use blocks::BlockSet;
pub use catalogue::{Catalogue, ReplicaKey, ReplicaRecord};

use crate::ids::ChunkVersion;

/// The table entry's generation for a block written under `version`: never 0, which means "no block".
pub const fn generation_of(version: ChunkVersion) -> u32 {
    let low = version.get() as u32;
    if low == 0 { 1 } else { low }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
