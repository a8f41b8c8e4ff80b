//! Operations and what they share with queries: credentials and extents.

use crate::convert::attr::{kind, kind_number};
use crate::convert::{ConvertError, all, bounded, chunk_ids, chunk_numbers, name, required};
use crate::v1::operation as wire;
use crate::v1::{self, operation::Kind};
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, ServerId};
use cairn_core::limits::{
    CHUNKS_PER_ALLOCATION_MAX, CHUNKS_PER_REQUEST_MAX, EXTENTS_PER_MESSAGE_MAX, FILE_BYTES_MAX, GROUPS_MAX,
    LEASES_PER_REQUEST_MAX, REPLICAS_MAX, SYMLINK_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::{
    AllocateMode, Credentials, Extent, Operation, OperationKind, PermissionCheck, RenameMode, XattrMode,
};
use cairn_core::units::CHUNK_BYTES;

/// A core enum without data and its wire enum, variant by variant; numbers outside are refused.
macro_rules! plain_enum {
    ($core:ident, $field:literal, $($variant:ident = $wire:ident),+ $(,)?) => {
        impl From<$core> for v1::$core {
            fn from(value: $core) -> Self {
                match value { $($core::$variant => Self::$wire),+ }
            }
        }

        impl TryFrom<v1::$core> for $core {
            type Error = ConvertError;

            #[allow(unreachable_patterns, reason = "not every wire enum has an unspecified value")]
            fn try_from(value: v1::$core) -> Result<Self, ConvertError> {
                match value {
                    $(v1::$core::$wire => Ok(Self::$variant),)+
                    _ => Err(ConvertError::Missing($field)),
                }
            }
        }
    };
}

plain_enum!(PermissionCheck, "check", Master = CheckMaster, Kernel = CheckKernel);
plain_enum!(
    RenameMode,
    "rename mode",
    Replace = RenameReplace,
    NoReplace = RenameNoReplace,
    Exchange = RenameExchange
);
plain_enum!(XattrMode, "xattr mode", Either = XattrEither, Create = XattrCreate, Replace = XattrReplace);
plain_enum!(
    AllocateMode,
    "allocate mode",
    Extend = AllocateExtend,
    KeepSize = AllocateKeepSize,
    PunchHole = AllocatePunchHole,
    ZeroRange = AllocateZeroRange,
    ZeroRangeKeepSize = AllocateZeroRangeKeepSize,
);

/// The core value of a received enum number.
fn enumerated<W, C>(number: i32, field: &'static str) -> Result<C, ConvertError>
where
    W: TryFrom<i32>,
    C: TryFrom<W, Error = ConvertError>,
{
    W::try_from(number).map_err(|_| ConvertError::Invalid(field)).and_then(C::try_from)
}

pub(super) fn xattr_name(raw: Bytes) -> Result<Bytes, ConvertError> {
    bounded(raw.len(), XATTR_NAME_BYTES_MAX, "xattr name")?;
    // listxattr answers names ended by NUL, so a name must not hold one.
    if raw.is_empty() || raw.contains(&0) {
        return Err(ConvertError::Refused(FsError::InvalidArgument));
    }
    Ok(raw)
}

fn symlink_target(raw: Bytes) -> Result<Bytes, ConvertError> {
    if raw.len() > SYMLINK_BYTES_MAX {
        return Err(ConvertError::Refused(FsError::NameTooLong));
    }
    // As symlink(2): the empty target does not exist.
    if raw.is_empty() {
        return Err(ConvertError::Refused(FsError::NotFound));
    }
    if raw.contains(&0) {
        return Err(ConvertError::Refused(FsError::InvalidArgument));
    }
    Ok(raw)
}

fn xattr_value(raw: Bytes) -> Result<Bytes, ConvertError> {
    if raw.len() > XATTR_VALUE_BYTES_MAX {
        return Err(ConvertError::Refused(FsError::AttributeTooLarge));
    }
    Ok(raw)
}

impl From<Credentials> for v1::Credentials {
    fn from(who: Credentials) -> Self {
        Self {
            uid: who.uid,
            gid: who.gid,
            groups: who.groups,
            check: v1::PermissionCheck::from(who.check).into(),
        }
    }
}

impl TryFrom<v1::Credentials> for Credentials {
    type Error = ConvertError;

    fn try_from(wire: v1::Credentials) -> Result<Self, ConvertError> {
        bounded(wire.groups.len(), GROUPS_MAX, "groups")?;
        let check = enumerated::<v1::PermissionCheck, _>(wire.check, "check")?;
        Ok(Self { uid: wire.uid, gid: wire.gid, groups: wire.groups, check })
    }
}

impl From<Extent> for v1::Extent {
    fn from(extent: Extent) -> Self {
        Self {
            offset: extent.offset,
            length: extent.length,
            chunk: extent.chunk.get(),
            chunk_offset: extent.chunk_offset,
        }
    }
}

impl TryFrom<v1::Extent> for Extent {
    type Error = ConvertError;

    /// Ends are checked here, so that sums of offset and length never overflow further on.
    fn try_from(wire: v1::Extent) -> Result<Self, ConvertError> {
        let end = wire.offset.checked_add(wire.length);
        let end_in_chunk = wire.chunk_offset.checked_add(wire.length);
        if wire.length == 0 || end_in_chunk.is_none_or(|end| end > CHUNK_BYTES) {
            return Err(ConvertError::Invalid("extent"));
        }
        if end.is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(ConvertError::Refused(FsError::FileTooLarge));
        }
        Ok(Self {
            offset: wire.offset,
            length: wire.length,
            chunk: ChunkId(wire.chunk),
            chunk_offset: wire.chunk_offset,
        })
    }
}

impl From<Operation> for v1::Operation {
    fn from(operation: Operation) -> Self {
        Self { credentials: Some(operation.credentials.into()), kind: Some(operation.kind.into()) }
    }
}

impl TryFrom<v1::Operation> for Operation {
    type Error = ConvertError;

    fn try_from(wire: v1::Operation) -> Result<Self, ConvertError> {
        Ok(Self {
            credentials: required(wire.credentials, "credentials")?.try_into()?,
            kind: required(wire.kind, "operation")?.try_into()?,
        })
    }
}

impl From<OperationKind> for Kind {
    fn from(kind: OperationKind) -> Self {
        use OperationKind as Core;
        match kind {
            Core::Create { parent, name, mode, exclusive } => {
                Self::Create(wire::Create { parent: parent.get(), name: name.to_bytes(), mode, exclusive })
            }
            Core::Mkdir { parent, name, mode } => {
                Self::Mkdir(wire::Mkdir { parent: parent.get(), name: name.to_bytes(), mode })
            }
            Core::Mknod { parent, name, kind, mode, rdev } => Self::Mknod(wire::Mknod {
                parent: parent.get(),
                name: name.to_bytes(),
                kind: kind_number(kind),
                mode,
                rdev,
            }),
            Core::Symlink { parent, name, target } => {
                Self::Symlink(wire::Symlink { parent: parent.get(), name: name.to_bytes(), target })
            }
            Core::Link { inode, new_parent, new_name } => Self::Link(wire::Link {
                inode: inode.get(),
                new_parent: new_parent.get(),
                new_name: new_name.to_bytes(),
            }),
            Core::Unlink { parent, name } => {
                Self::Unlink(wire::Unlink { parent: parent.get(), name: name.to_bytes() })
            }
            Core::Rmdir { parent, name } => {
                Self::Rmdir(wire::Rmdir { parent: parent.get(), name: name.to_bytes() })
            }
            Core::Rename { parent, name, new_parent, new_name, mode } => Self::Rename(wire::Rename {
                parent: parent.get(),
                name: name.to_bytes(),
                new_parent: new_parent.get(),
                new_name: new_name.to_bytes(),
                mode: v1::RenameMode::from(mode).into(),
            }),
            on_an_inode => inode_kind(on_an_inode),
        }
    }
}

/// The operations that name no directory entry.
fn inode_kind(kind: OperationKind) -> Kind {
    use OperationKind as Core;
    match kind {
        Core::SetAttr { inode, changes, via_handle } => {
            Kind::SetAttr(wire::SetAttr { inode: inode.get(), changes: Some(changes.into()), via_handle })
        }
        Core::Allocate { inode, mode, offset, length } => Kind::Allocate(wire::Allocate {
            inode: inode.get(),
            mode: v1::AllocateMode::from(mode).into(),
            offset,
            length,
        }),
        Core::SetXattr { inode, name, value, mode } => Kind::SetXattr(wire::SetXattr {
            inode: inode.get(),
            name,
            value,
            mode: v1::XattrMode::from(mode).into(),
        }),
        Core::RemoveXattr { inode, name } => {
            Kind::RemoveXattr(wire::RemoveXattr { inode: inode.get(), name })
        }
        Core::AllocateChunks { inode, count } => {
            Kind::AllocateChunks(wire::AllocateChunks { inode: inode.get(), count })
        }
        Core::LeaseFile { inode, chunks } => {
            Kind::LeaseFile(wire::LeaseFile { inode: inode.get(), chunks: chunk_numbers(chunks) })
        }
        Core::Commit { inode, lease, extents, length, modified, release, changes } => {
            Kind::Commit(wire::Commit {
                inode: inode.get(),
                lease: lease.get(),
                extents: extents.into_iter().map(Into::into).collect(),
                length,
                modified,
                release,
                changes: (changes != AttrChanges::default()).then(|| changes.into()),
            })
        }
        Core::ReplaceReplicas { chunk, version, failed } => Kind::ReplaceReplicas(wire::ReplaceReplicas {
            chunk: chunk.get(),
            version: version.get(),
            failed: failed.into_iter().map(ServerId::get).collect(),
        }),
        Core::ReleaseChunks { chunks } => {
            Kind::ReleaseChunks(wire::ReleaseChunks { chunks: chunk_numbers(chunks) })
        }
        Core::ReleaseLeases { leases } => {
            let (inodes, leases) =
                leases.into_iter().map(|(inode, lease)| (inode.get(), lease.get())).unzip();
            Kind::ReleaseLeases(wire::ReleaseLeases { inodes, leases })
        }
        Core::Create { .. }
        | Core::Mkdir { .. }
        | Core::Mknod { .. }
        | Core::Symlink { .. }
        | Core::Link { .. }
        | Core::Unlink { .. }
        | Core::Rmdir { .. }
        | Core::Rename { .. } => unreachable!("converted by the caller"),
    }
}

impl TryFrom<Kind> for OperationKind {
    type Error = ConvertError;

    fn try_from(kind_: Kind) -> Result<Self, ConvertError> {
        Ok(match kind_ {
            Kind::Create(m) => Self::Create {
                parent: InodeId(m.parent),
                name: name(m.name)?,
                mode: m.mode,
                exclusive: m.exclusive,
            },
            Kind::Mkdir(m) => Self::Mkdir { parent: InodeId(m.parent), name: name(m.name)?, mode: m.mode },
            Kind::Mknod(m) => Self::Mknod {
                parent: InodeId(m.parent),
                name: name(m.name)?,
                kind: kind(m.kind)?,
                mode: m.mode,
                rdev: m.rdev,
            },
            Kind::Symlink(m) => Self::Symlink {
                parent: InodeId(m.parent),
                name: name(m.name)?,
                target: symlink_target(m.target)?,
            },
            Kind::Link(m) => Self::Link {
                inode: InodeId(m.inode),
                new_parent: InodeId(m.new_parent),
                new_name: name(m.new_name)?,
            },
            Kind::Unlink(m) => Self::Unlink { parent: InodeId(m.parent), name: name(m.name)? },
            Kind::Rmdir(m) => Self::Rmdir { parent: InodeId(m.parent), name: name(m.name)? },
            Kind::Rename(m) => Self::Rename {
                parent: InodeId(m.parent),
                name: name(m.name)?,
                new_parent: InodeId(m.new_parent),
                new_name: name(m.new_name)?,
                mode: enumerated::<v1::RenameMode, _>(m.mode, "rename mode")?,
            },
            Kind::SetAttr(m) => Self::SetAttr {
                inode: InodeId(m.inode),
                changes: required(m.changes, "changes")?.try_into()?,
                via_handle: m.via_handle,
            },
            Kind::Allocate(m) => allocate(m)?,
            Kind::SetXattr(m) => Self::SetXattr {
                inode: InodeId(m.inode),
                name: xattr_name(m.name)?,
                value: xattr_value(m.value)?,
                mode: enumerated::<v1::XattrMode, _>(m.mode, "xattr mode")?,
            },
            Kind::RemoveXattr(m) => Self::RemoveXattr { inode: InodeId(m.inode), name: xattr_name(m.name)? },
            on_chunks => return chunk_kind(on_chunks),
        })
    }
}

fn allocate(m: wire::Allocate) -> Result<OperationKind, ConvertError> {
    if m.offset.checked_add(m.length).is_none() {
        return Err(ConvertError::Refused(FsError::FileTooLarge));
    }
    Ok(OperationKind::Allocate {
        inode: InodeId(m.inode),
        mode: enumerated::<v1::AllocateMode, _>(m.mode, "allocate mode")?,
        offset: m.offset,
        length: m.length,
    })
}

/// The operations of the write path.
fn chunk_kind(kind: Kind) -> Result<OperationKind, ConvertError> {
    use OperationKind as Core;
    Ok(match kind {
        Kind::AllocateChunks(m) => {
            if m.count > CHUNKS_PER_ALLOCATION_MAX {
                return Err(ConvertError::TooLarge("count"));
            }
            Core::AllocateChunks { inode: InodeId(m.inode), count: m.count }
        }
        Kind::LeaseFile(m) => Core::LeaseFile {
            inode: InodeId(m.inode),
            chunks: chunk_ids(m.chunks, CHUNKS_PER_REQUEST_MAX, "chunks")?,
        },
        Kind::Commit(m) => {
            if m.length > FILE_BYTES_MAX {
                return Err(ConvertError::Refused(FsError::FileTooLarge));
            }
            Core::Commit {
                inode: InodeId(m.inode),
                lease: LeaseNumber(m.lease),
                extents: all(m.extents, EXTENTS_PER_MESSAGE_MAX, "extents")?,
                length: m.length,
                modified: m.modified,
                release: m.release,
                changes: m.changes.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            }
        }
        Kind::ReplaceReplicas(m) => {
            bounded(m.failed.len(), REPLICAS_MAX, "failed")?;
            Core::ReplaceReplicas {
                chunk: ChunkId(m.chunk),
                version: ChunkVersion(m.version),
                failed: m.failed.into_iter().map(ServerId).collect(),
            }
        }
        Kind::ReleaseChunks(m) => {
            Core::ReleaseChunks { chunks: chunk_ids(m.chunks, CHUNKS_PER_REQUEST_MAX, "chunks")? }
        }
        Kind::ReleaseLeases(m) => {
            bounded(m.inodes.len(), LEASES_PER_REQUEST_MAX, "inodes")?;
            if m.inodes.len() != m.leases.len() {
                return Err(ConvertError::Invalid("leases"));
            }
            let pairs = m.inodes.into_iter().map(InodeId).zip(m.leases.into_iter().map(LeaseNumber));
            Core::ReleaseLeases { leases: pairs.collect() }
        }
        _ => return Err(ConvertError::Missing("operation")),
    })
}
