//! Answers.

use crate::convert::attr::{kind, kind_number};
use crate::convert::{ConvertError, all, bounded, name, optional, required};
use crate::v1::answer as wire;
use crate::v1::{self, answer::Kind};
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, ServerId};
use cairn_core::limits::{
    ADDRESS_BYTES_MAX, DIRECTORY_PAGE_BYTES_MAX, DIRECTORY_PAGE_ENTRIES_MAX, EXTENTS_PER_MESSAGE_MAX,
    LOCATE_CHUNKS_MAX, REPLICAS_MAX, XATTR_TOTAL_BYTES_MAX,
};
use cairn_core::namespace::answer::{
    Answer, ChunkLocation, DirectoryEntry, FileSystemStats, Map, ReplicaLocation,
};
use cairn_core::namespace::name_page::NamePage;

impl From<Answer> for v1::Answer {
    fn from(answer: Answer) -> Self {
        let kind = match answer {
            Answer::Done => Kind::Done(wire::Done {}),
            Answer::Attr(attr) => Kind::Attr(attr.into()),
            Answer::Entry { attr, map } => {
                Kind::Entry(wire::Entry { attr: Some(attr.into()), map: map.map(Into::into) })
            }
            Answer::Created { attr, created, lease } => Kind::Created(wire::Created {
                attr: Some(attr.into()),
                created,
                lease: lease.map(LeaseNumber::get),
            }),
            Answer::Names(page) => {
                let end = page.end;
                Kind::Names(wire::Names { packed: page.into_packed(), end })
            }
            Answer::Directory { entries, end } => Kind::Directory(wire::Directory {
                entries: entries.into_iter().map(Into::into).collect(),
                end,
            }),
            Answer::Bytes(bytes) => Kind::Bytes(bytes),
            Answer::Map(map) => Kind::Map(map.into()),
            Answer::Chunks(chunks) => {
                Kind::Chunks(wire::Chunks { chunks: chunks.into_iter().map(Into::into).collect() })
            }
            Answer::Leased { lease, attr } => {
                Kind::Leased(wire::Leased { lease: lease.get(), attr: Some(attr.into()) })
            }
            Answer::FileSystem(stats) => Kind::FileSystem(stats.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Answer> for Answer {
    type Error = ConvertError;

    fn try_from(wire: v1::Answer) -> Result<Self, ConvertError> {
        Ok(match required(wire.kind, "answer")? {
            Kind::Done(wire::Done {}) => Self::Done,
            Kind::Attr(attr) => Self::Attr(attr.try_into()?),
            Kind::Entry(m) => {
                Self::Entry { attr: required(m.attr, "attr")?.try_into()?, map: optional(m.map)? }
            }
            Kind::Created(m) => Self::Created {
                attr: required(m.attr, "attr")?.try_into()?,
                created: m.created,
                lease: m.lease.map(LeaseNumber),
            },
            Kind::Names(m) => {
                bounded(m.packed.len(), DIRECTORY_PAGE_BYTES_MAX, "names")?;
                Self::Names(NamePage::from_wire(m.packed, m.end))
            }
            Kind::Directory(m) => Self::Directory {
                entries: all(m.entries, DIRECTORY_PAGE_ENTRIES_MAX, "directory entries")?,
                end: m.end,
            },
            Kind::Bytes(bytes) => {
                bounded(bytes.len(), XATTR_TOTAL_BYTES_MAX, "bytes")?;
                Self::Bytes(bytes)
            }
            Kind::Map(map) => Self::Map(map.try_into()?),
            Kind::Chunks(m) => Self::Chunks(all(m.chunks, LOCATE_CHUNKS_MAX, "chunks")?),
            Kind::Leased(m) => {
                Self::Leased { lease: LeaseNumber(m.lease), attr: required(m.attr, "attr")?.try_into()? }
            }
            Kind::FileSystem(stats) => Self::FileSystem(stats.into()),
        })
    }
}

impl From<DirectoryEntry> for v1::DirectoryEntry {
    fn from(entry: DirectoryEntry) -> Self {
        Self {
            name: entry.name,
            inode: entry.inode.get(),
            kind: kind_number(entry.kind),
            cookie: entry.cookie,
            attr: entry.attr.map(|attr| Box::new((*attr).into())),
            map: entry.map.map(|map| Box::new((*map).into())),
        }
    }
}

impl TryFrom<v1::DirectoryEntry> for DirectoryEntry {
    type Error = ConvertError;

    /// The name is checked as every name is: a `/` or `..` from a broken master must not reach a kernel.
    fn try_from(wire: v1::DirectoryEntry) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(wire.name)?.into_bytes(),
            inode: InodeId(wire.inode),
            kind: kind(wire.kind)?,
            cookie: wire.cookie,
            attr: wire.attr.map(|attr| (*attr).try_into().map(Box::new)).transpose()?,
            map: wire.map.map(|map| (*map).try_into().map(Box::new)).transpose()?,
        })
    }
}

impl From<Map> for v1::Map {
    fn from(map: Map) -> Self {
        Self {
            extents: map.extents.into_iter().map(Into::into).collect(),
            chunks: map.chunks.into_iter().map(Into::into).collect(),
            complete_to: map.complete_to,
            attr: map.attr.map(Into::into),
        }
    }
}

impl TryFrom<v1::Map> for Map {
    type Error = ConvertError;

    fn try_from(wire: v1::Map) -> Result<Self, ConvertError> {
        Ok(Self {
            extents: all(wire.extents, EXTENTS_PER_MESSAGE_MAX, "extents")?,
            chunks: all(wire.chunks, EXTENTS_PER_MESSAGE_MAX, "chunks")?,
            complete_to: wire.complete_to,
            attr: optional(wire.attr)?,
        })
    }
}

impl From<ChunkLocation> for v1::ChunkLocation {
    fn from(location: ChunkLocation) -> Self {
        Self {
            chunk: location.chunk.get(),
            version: location.version.get(),
            minimum: location.minimum.into(),
            write_leased: location.write_leased,
            replicas: location
                .replicas
                .into_iter()
                .map(|replica| v1::ReplicaLocation { server: replica.server.get(), address: replica.address })
                .collect(),
        }
    }
}

impl TryFrom<v1::ChunkLocation> for ChunkLocation {
    type Error = ConvertError;

    fn try_from(wire: v1::ChunkLocation) -> Result<Self, ConvertError> {
        Ok(Self {
            chunk: ChunkId(wire.chunk),
            version: ChunkVersion(wire.version),
            minimum: u8::try_from(wire.minimum).map_err(|_| ConvertError::TooLarge("minimum"))?,
            write_leased: wire.write_leased,
            replicas: all(wire.replicas, REPLICAS_MAX, "replicas")?,
        })
    }
}

impl TryFrom<v1::ReplicaLocation> for ReplicaLocation {
    type Error = ConvertError;

    fn try_from(wire: v1::ReplicaLocation) -> Result<Self, ConvertError> {
        bounded(wire.address.len(), ADDRESS_BYTES_MAX, "address")?;
        Ok(Self { server: ServerId(wire.server), address: wire.address })
    }
}

impl From<FileSystemStats> for v1::FileSystemStats {
    fn from(stats: FileSystemStats) -> Self {
        Self { total_bytes: stats.total_bytes, free_bytes: stats.free_bytes, inodes: stats.inodes }
    }
}

impl From<v1::FileSystemStats> for FileSystemStats {
    fn from(wire: v1::FileSystemStats) -> Self {
        Self { total_bytes: wire.total_bytes, free_bytes: wire.free_bytes, inodes: wire.inodes }
    }
}
