//! The superblock: which cluster, node and format a data directory belongs to. Every data directory has one.
//!
//! ```text
//! offset size field          all integers little-endian
//!      0    8 magic          "CairnSB1"
//!      8    4 format         version of everything in the directory, FORMAT today
//!     12    1 role           1 master, 2 chunk server
//!     13    1 has_disk       1 when the disk id is set
//!     14    2 reserved       0
//!     16   16 cluster        uuid; nil while the directory has joined no cluster
//!     32   16 node           uuid
//!     48   16 disk           uuid, or nil
//!     64   12 reserved       0
//!     76    4 crc            CRC-32 of bytes 0..76
//! ```
//!
//! It stands in the file [`SUPERBLOCK_FILE`] and is replaced atomically; nothing else in the directory is read before it.

use crate::ids::{ClusterId, DiskId, NodeId};
use thiserror::Error;
use uuid::Uuid;

/// Name of the file within its data directory.
pub const SUPERBLOCK_FILE: &str = "superblock";
/// Bytes of an encoded superblock.
pub const SUPERBLOCK_BYTES: usize = CRC_AT + 4;
/// The format that this binary writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"CairnSB1";
const FORMAT_AT: usize = 8;
const ROLE_AT: usize = 12;
const HAS_DISK_AT: usize = 13;
const CLUSTER_AT: usize = 16;
const NODE_AT: usize = 32;
const DISK_AT: usize = 48;
const CRC_AT: usize = 76;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A metadata master.
    Master = 1,
    /// A chunk server.
    ChunkServer = 2,
}

impl Role {
    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::ChunkServer => "chunkserver",
        }
    }
}

/// A decoded superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster; nil while none was joined.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Whose it is.
    pub role: Role,
    /// The disk, for chunk servers.
    pub disk: Option<DiskId>,
    /// Version of everything in the directory.
    pub format: u32,
}

/// Why a directory cannot be used. The caller puts the directory's path in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SuperblockError {
    /// Not a superblock.
    #[error(
        "is not a Cairn data directory (bad superblock magic): point the configuration at another directory"
    )]
    Magic,
    /// Cut, or bits have changed.
    #[error(
        "has a damaged superblock: restore the directory from a copy, or move it away and let the node join as a new one"
    )]
    Damaged,
    /// Written by a later release.
    #[error(
        "has format {found}, newer than {FORMAT}, the newest this binary reads: start a newer cairn binary on it"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// Another service's directory.
    #[error("belongs to a {}, not to a {}: point the configuration at another directory", found.name(), expected.name())]
    OtherRole {
        /// What it says.
        found: Role,
        /// What we are.
        expected: Role,
    },
    /// Another cluster's directory.
    #[error(
        "belongs to cluster {found}, not to {expected}: give the addresses of its own cluster's masters, \
         or point the configuration at an empty directory"
    )]
    OtherCluster {
        /// What it says.
        found: ClusterId,
        /// Ours.
        expected: ClusterId,
    },
}

impl Superblock {
    /// A superblock of the present format.
    pub const fn new(cluster: ClusterId, node: NodeId, role: Role, disk: Option<DiskId>) -> Self {
        Self { cluster, node, role, disk, format: FORMAT }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut out = [0; SUPERBLOCK_BYTES];
        out[..FORMAT_AT].copy_from_slice(&MAGIC);
        out[FORMAT_AT..ROLE_AT].copy_from_slice(&self.format.to_le_bytes());
        out[ROLE_AT] = self.role as u8;
        out[HAS_DISK_AT] = u8::from(self.disk.is_some());
        out[CLUSTER_AT..NODE_AT].copy_from_slice(self.cluster.0.as_bytes());
        out[NODE_AT..DISK_AT].copy_from_slice(self.node.0.as_bytes());
        out[DISK_AT..DISK_AT + 16].copy_from_slice(self.disk.unwrap_or_default().0.as_bytes());
        let crc = crc32fast::hash(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes the file. The format is looked at before the checksum, because a later format may be longer.
    ///
    /// # Errors
    /// `Magic`, `NewerFormat` and `Damaged`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuperblockError> {
        if bytes.len() < ROLE_AT {
            return Err(SuperblockError::Damaged);
        }
        if bytes[..FORMAT_AT] != MAGIC {
            return Err(SuperblockError::Magic);
        }
        let format = u32_at(bytes, FORMAT_AT);
        if bytes.len() < SUPERBLOCK_BYTES {
            return Err(SuperblockError::Damaged);
        }
        if u32_at(bytes, CRC_AT) != crc32fast::hash(&bytes[..CRC_AT]) {
            // A later release may have moved the checksum; with ours intact the number is certain.
            return Err(if format > FORMAT && bytes.len() > SUPERBLOCK_BYTES {
                SuperblockError::NewerFormat { found: format }
            } else {
                SuperblockError::Damaged
            });
        }
        if format > FORMAT {
            return Err(SuperblockError::NewerFormat { found: format });
        }
        let role = match bytes[ROLE_AT] {
            1 => Role::Master,
            2 => Role::ChunkServer,
            _ => return Err(SuperblockError::Damaged),
        };
        let disk = (bytes[HAS_DISK_AT] == 1).then(|| DiskId(uuid_at(bytes, DISK_AT)));
        Ok(Self {
            cluster: ClusterId(uuid_at(bytes, CLUSTER_AT)),
            node: NodeId(uuid_at(bytes, NODE_AT)),
            role,
            disk,
            format,
        })
    }

    /// Checks that the directory is `role`'s, and of `cluster` where both sides know theirs (neither is nil).
    ///
    /// # Errors
    /// `OtherRole` and `OtherCluster`.
    pub fn check(&self, role: Role, cluster: Option<ClusterId>) -> Result<(), SuperblockError> {
        if self.role != role {
            return Err(SuperblockError::OtherRole { found: self.role, expected: role });
        }
        match cluster {
            Some(expected)
                if !expected.0.is_nil() && !self.cluster.0.is_nil() && expected != self.cluster =>
            {
                Err(SuperblockError::OtherCluster { found: self.cluster, expected })
            }
            _ => Ok(()),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock::new(
            ClusterId(Uuid::from_u128(7)),
            NodeId(Uuid::from_u128(8)),
            Role::ChunkServer,
            Some(DiskId(Uuid::from_u128(9))),
        )
    }

    #[test]
    fn round_trips() {
        assert_eq!(Superblock::decode(&sample().encode()), Ok(sample()));
        let master = Superblock { role: Role::Master, disk: None, ..sample() };
        assert_eq!(Superblock::decode(&master.encode()), Ok(master));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Superblock::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn errors_name_the_way_out() {
        let newer = Superblock { format: FORMAT + 1, ..sample() }.encode();
        let error = Superblock::decode(&newer).unwrap_err();
        assert_eq!(error, SuperblockError::NewerFormat { found: 2 });
        assert!(error.to_string().contains("newer cairn binary"));
        let other = ClusterId(Uuid::from_u128(70));
        let error = sample().check(Role::ChunkServer, Some(other)).unwrap_err();
        assert!(error.to_string().contains(&other.to_string()) && error.to_string().contains("masters"));
        assert!(sample().check(Role::Master, None).unwrap_err().to_string().contains("chunkserver"));
        assert_eq!(sample().check(Role::ChunkServer, Some(sample().cluster)), Ok(()));
        assert_eq!(sample().check(Role::ChunkServer, Some(ClusterId::default())), Ok(()));
    }
}
