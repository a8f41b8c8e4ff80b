//! Queries.

use crate::convert::operation::xattr_name;
use crate::convert::{ConvertError, chunk_ids, chunk_numbers, name, required};
use crate::v1::query as wire;
use crate::v1::{self, query::Kind};
use cairn_core::ids::InodeId;
use cairn_core::limits::LOCATE_CHUNKS_MAX;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Query, QueryKind};

impl From<Query> for v1::Query {
    fn from(query: Query) -> Self {
        Self { credentials: Some(query.credentials.into()), kind: Some(query.kind.into()) }
    }
}

impl TryFrom<v1::Query> for Query {
    type Error = ConvertError;

    fn try_from(wire: v1::Query) -> Result<Self, ConvertError> {
        Ok(Self {
            credentials: required(wire.credentials, "credentials")?.try_into()?,
            kind: required(wire.kind, "query")?.try_into()?,
        })
    }
}

impl From<QueryKind> for Kind {
    fn from(kind: QueryKind) -> Self {
        use QueryKind as Core;
        match kind {
            Core::Lookup { parent, name } => {
                Self::Lookup(wire::Lookup { parent: parent.get(), name: name.to_bytes() })
            }
            Core::LookupParent { inode } => Self::LookupParent(wire::LookupParent { inode: inode.get() }),
            Core::GetAttr { inode } => Self::GetAttr(wire::GetAttr { inode: inode.get() }),
            Core::ReadDir { inode, after, limit, with_attrs } => {
                Self::ReadDir(wire::ReadDir { inode: inode.get(), after, limit, with_attrs })
            }
            Core::Neighbours { parent, after, limit, with_maps } => {
                let after = after.map(Name::into_bytes).unwrap_or_default();
                Self::Neighbours(wire::Neighbours { parent: parent.get(), after, limit, with_maps })
            }
            Core::ReadLink { inode } => Self::ReadLink(wire::ReadLink { inode: inode.get() }),
            Core::GetXattr { inode, name } => Self::GetXattr(wire::GetXattr { inode: inode.get(), name }),
            Core::ListXattr { inode } => Self::ListXattr(wire::ListXattr { inode: inode.get() }),
            Core::Map { inode, offset, length } => {
                Self::Map(wire::MapRange { inode: inode.get(), offset, length })
            }
            Core::Access { inode, mask } => Self::Access(wire::Access { inode: inode.get(), mask }),
            Core::StatFs => Self::StatFs(wire::StatFs {}),
            Core::Locate { chunks } => Self::Locate(wire::Locate { chunks: chunk_numbers(chunks) }),
        }
    }
}

impl TryFrom<Kind> for QueryKind {
    type Error = ConvertError;

    fn try_from(kind: Kind) -> Result<Self, ConvertError> {
        Ok(match kind {
            Kind::Lookup(m) => Self::Lookup { parent: InodeId(m.parent), name: name(m.name)? },
            Kind::LookupParent(m) => Self::LookupParent { inode: InodeId(m.inode) },
            Kind::GetAttr(m) => Self::GetAttr { inode: InodeId(m.inode) },
            Kind::ReadDir(m) => Self::ReadDir {
                inode: InodeId(m.inode),
                after: m.after,
                limit: m.limit,
                with_attrs: m.with_attrs,
            },
            Kind::Neighbours(m) => Self::Neighbours {
                parent: InodeId(m.parent),
                after: if m.after.is_empty() { None } else { Some(name(m.after)?) },
                limit: m.limit,
                with_maps: m.with_maps,
            },
            Kind::ReadLink(m) => Self::ReadLink { inode: InodeId(m.inode) },
            Kind::GetXattr(m) => Self::GetXattr { inode: InodeId(m.inode), name: xattr_name(m.name)? },
            Kind::ListXattr(m) => Self::ListXattr { inode: InodeId(m.inode) },
            Kind::Map(m) => Self::Map { inode: InodeId(m.inode), offset: m.offset, length: m.length },
            Kind::Access(m) => Self::Access { inode: InodeId(m.inode), mask: m.mask },
            Kind::StatFs(wire::StatFs {}) => Self::StatFs,
            Kind::Locate(m) => Self::Locate { chunks: chunk_ids(m.chunks, LOCATE_CHUNKS_MAX, "chunks")? },
        })
    }
}
