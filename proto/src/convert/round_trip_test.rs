//! Every core value survives the wire; no bytes make the decoder panic.

use crate::convert::ConvertError;
use crate::v1;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, PolicyId, ServerId};
use cairn_core::limits::*;
use cairn_core::namespace::answer::*;
use cairn_core::namespace::attr::*;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::name_page::NamePage;
use cairn_core::namespace::request::*;
use cairn_core::time::Timestamp;
use cairn_core::units::CHUNK_BYTES;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

fn inode() -> impl Strategy<Value = InodeId> {
    any::<u64>().prop_map(InodeId)
}

fn chunks() -> impl Strategy<Value = Vec<ChunkId>> {
    vec(any::<u64>().prop_map(ChunkId), 0..5)
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>().prop_filter("name byte", |b| *b != 0 && *b != b'/'), 1..=NAME_BYTES_MAX)
        .prop_filter_map("reserved", |raw| Name::new(raw).ok())
}

fn xattr_name() -> impl Strategy<Value = Bytes> {
    vec(1u8.., 1..=XATTR_NAME_BYTES_MAX).prop_map(Bytes::from)
}

fn raw(most: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=most).prop_map(Bytes::from)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn kind() -> impl Strategy<Value = NodeKind> {
    (1..=7u8).prop_map(|number| NodeKind::from_number(number).unwrap())
}

fn time_set() -> impl Strategy<Value = TimeSet> {
    prop_oneof![Just(TimeSet::Now), timestamp().prop_map(TimeSet::At)]
}

fn extent() -> impl Strategy<Value = Extent> {
    (1..=CHUNK_BYTES, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(length, at, chunk, in_chunk)| {
        Extent {
            offset: at % (FILE_BYTES_MAX - length + 1),
            length,
            chunk: ChunkId(chunk),
            chunk_offset: in_chunk % (CHUNK_BYTES - length + 1),
        }
    })
}

prop_compose! {
    fn changes()(
        mode in option::of(0..=0o7777u32), uid in any::<Option<u32>>(), gid in any::<Option<u32>>(),
        size in any::<Option<u64>>(), atime in option::of(time_set()), mtime in option::of(time_set()),
    ) -> AttrChanges {
        AttrChanges { mode, uid, gid, size, atime, mtime }
    }
}

prop_compose! {
    fn attr()(
        (inode, kind, mode, uid, gid, links) in (inode(), kind(), 0..=0o7777u32, any::<u32>(), any::<u32>(), any::<u32>()),
        (size, mapped_bytes, rdev, change, data_change) in any::<(u64, u64, u64, u64, u64)>(),
        (atime, mtime, ctime, btime) in (timestamp(), timestamp(), timestamp(), timestamp()),
        policy in any::<u32>().prop_map(PolicyId),
    ) -> Attr {
        Attr {
            inode, kind, mode, uid, gid, links, size, mapped_bytes, rdev, atime, mtime, ctime, btime, change, data_change,
            policy,
        }
    }
}

prop_compose! {
    fn credentials()(
        (uid, gid) in any::<(u32, u32)>(), groups in vec(any::<u32>(), 0..20), kernel in any::<bool>(),
    ) -> Credentials {
        let check = if kernel { PermissionCheck::Kernel } else { PermissionCheck::Master };
        Credentials { uid, gid, groups, check }
    }
}

prop_compose! {
    fn location()(
        (chunk, version, minimum, write_leased) in any::<(u64, u64, u8, bool)>(),
        replicas in vec((any::<u32>(), "[a-z0-9.:]{0,60}"), 0..=REPLICAS_MAX),
    ) -> ChunkLocation {
        let replicas = replicas
            .into_iter()
            .map(|(server, address)| ReplicaLocation { server: ServerId(server), address })
            .collect();
        ChunkLocation { chunk: ChunkId(chunk), version: ChunkVersion(version), minimum, write_leased, replicas }
    }
}

prop_compose! {
    fn map()(
        extents in vec(extent(), 0..5), chunks in vec(location(), 0..3), complete_to in any::<u64>(),
        attr in option::of(attr()),
    ) -> Map {
        Map { extents, chunks, complete_to, attr }
    }
}

prop_compose! {
    fn directory_entry()(
        name in name(), inode in inode(), kind in kind(), cookie in any::<u64>(), attr in option::of(attr()),
        map in option::of(map()),
    ) -> DirectoryEntry {
        let (attr, map) = (attr.map(Box::new), map.map(Box::new));
        DirectoryEntry { name: name.to_bytes(), inode, kind, cookie, attr, map }
    }
}

fn rename_mode() -> impl Strategy<Value = RenameMode> {
    prop_oneof![Just(RenameMode::Replace), Just(RenameMode::NoReplace), Just(RenameMode::Exchange)]
}

fn xattr_mode() -> impl Strategy<Value = XattrMode> {
    prop_oneof![Just(XattrMode::Either), Just(XattrMode::Create), Just(XattrMode::Replace)]
}

fn allocate_mode() -> impl Strategy<Value = AllocateMode> {
    prop_oneof![
        Just(AllocateMode::Extend),
        Just(AllocateMode::KeepSize),
        Just(AllocateMode::PunchHole),
        Just(AllocateMode::ZeroRange),
        Just(AllocateMode::ZeroRangeKeepSize),
    ]
}

fn naming_operation() -> impl Strategy<Value = OperationKind> {
    use OperationKind::*;
    prop_oneof![
        (inode(), name(), any::<u32>(), any::<bool>()).prop_map(|(parent, name, mode, exclusive)| Create {
            parent,
            name,
            mode,
            exclusive
        }),
        (inode(), name(), any::<u32>()).prop_map(|(parent, name, mode)| Mkdir { parent, name, mode }),
        (inode(), name(), kind(), any::<u32>(), any::<u64>())
            .prop_map(|(parent, name, kind, mode, rdev)| Mknod { parent, name, kind, mode, rdev }),
        (inode(), name(), vec(1u8.., 1..=SYMLINK_BYTES_MAX)).prop_map(|(parent, name, target)| Symlink {
            parent,
            name,
            target: target.into()
        }),
        (inode(), inode(), name()).prop_map(|(inode, new_parent, new_name)| Link {
            inode,
            new_parent,
            new_name
        }),
        (inode(), name()).prop_map(|(parent, name)| Unlink { parent, name }),
        (inode(), name()).prop_map(|(parent, name)| Rmdir { parent, name }),
        (inode(), name(), inode(), name(), rename_mode()).prop_map(
            |(parent, name, new_parent, new_name, mode)| Rename { parent, name, new_parent, new_name, mode }
        ),
    ]
}

fn inode_operation() -> impl Strategy<Value = OperationKind> {
    use OperationKind::*;
    let half = 0..=u64::MAX / 2;
    prop_oneof![
        (inode(), changes(), any::<bool>()).prop_map(|(inode, changes, via_handle)| SetAttr {
            inode,
            changes,
            via_handle
        }),
        (inode(), allocate_mode(), half.clone(), half).prop_map(|(inode, mode, offset, length)| Allocate {
            inode,
            mode,
            offset,
            length
        }),
        (inode(), xattr_name(), raw(1000), xattr_mode()).prop_map(|(inode, name, value, mode)| SetXattr {
            inode,
            name,
            value,
            mode
        }),
        (inode(), xattr_name()).prop_map(|(inode, name)| RemoveXattr { inode, name }),
        (inode(), 0..=CHUNKS_PER_ALLOCATION_MAX).prop_map(|(inode, count)| AllocateChunks { inode, count }),
        (inode(), chunks()).prop_map(|(inode, chunks)| LeaseFile { inode, chunks }),
        (inode(), any::<u64>(), vec(extent(), 0..5), 0..=FILE_BYTES_MAX, any::<(bool, bool)>(), changes())
            .prop_map(|(inode, lease, extents, length, (modified, release), changes)| Commit {
                inode,
                lease: LeaseNumber(lease),
                extents,
                length,
                modified,
                release,
                changes
            }),
        (any::<(u64, u64)>(), vec(any::<u32>().prop_map(ServerId), 0..=REPLICAS_MAX)).prop_map(
            |((chunk, version), failed)| ReplaceReplicas {
                chunk: ChunkId(chunk),
                version: ChunkVersion(version),
                failed
            }
        ),
        chunks().prop_map(|chunks| ReleaseChunks { chunks }),
        vec((inode(), any::<u64>().prop_map(LeaseNumber)), 0..9).prop_map(|leases| ReleaseLeases { leases }),
    ]
}

fn query_kind() -> impl Strategy<Value = QueryKind> {
    use QueryKind::*;
    prop_oneof![
        (inode(), name()).prop_map(|(parent, name)| Lookup { parent, name }),
        inode().prop_map(|inode| LookupParent { inode }),
        inode().prop_map(|inode| GetAttr { inode }),
        (inode(), any::<(u64, u32, bool)>()).prop_map(|(inode, (after, limit, with_attrs))| ReadDir {
            inode,
            after,
            limit,
            with_attrs
        }),
        (inode(), option::of(name()), any::<(u32, bool)>())
            .prop_map(|(parent, after, (limit, with_maps))| Neighbours { parent, after, limit, with_maps }),
        inode().prop_map(|inode| ReadLink { inode }),
        (inode(), xattr_name()).prop_map(|(inode, name)| GetXattr { inode, name }),
        inode().prop_map(|inode| ListXattr { inode }),
        (inode(), any::<(u64, u64)>()).prop_map(|(inode, (offset, length))| QueryKind::Map {
            inode,
            offset,
            length
        }),
        (inode(), any::<u32>()).prop_map(|(inode, mask)| Access { inode, mask }),
        Just(StatFs),
        chunks().prop_map(|chunks| Locate { chunks }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Done),
        attr().prop_map(Answer::Attr),
        (attr(), option::of(map())).prop_map(|(attr, map)| Answer::Entry { attr, map }),
        (attr(), any::<bool>(), option::of(any::<u64>().prop_map(LeaseNumber)))
            .prop_map(|(attr, created, lease)| Answer::Created { attr, created, lease }),
        (raw(5000), any::<bool>()).prop_map(|(packed, end)| Answer::Names(NamePage::from_wire(packed, end))),
        (vec(directory_entry(), 0..5), any::<bool>())
            .prop_map(|(entries, end)| Answer::Directory { entries, end }),
        raw(5000).prop_map(Answer::Bytes),
        map().prop_map(Answer::Map),
        vec(location(), 0..4).prop_map(Answer::Chunks),
        (any::<u64>(), attr()).prop_map(|(lease, attr)| Answer::Leased { lease: LeaseNumber(lease), attr }),
        any::<(u64, u64, u64)>().prop_map(|(total_bytes, free_bytes, inodes)| Answer::FileSystem(
            FileSystemStats { total_bytes, free_bytes, inodes }
        )),
    ]
}

fn fs_error() -> impl Strategy<Value = FsError> {
    (0..27usize, ".{0,40}").prop_map(|(index, detail)| {
        [
            FsError::NotFound,
            FsError::Exists,
            FsError::NotDirectory,
            FsError::IsDirectory,
            FsError::NotEmpty,
            FsError::PermissionDenied,
            FsError::NotPermitted,
            FsError::NameTooLong,
            FsError::InvalidArgument,
            FsError::CrossDevice,
            FsError::TooManyLinks,
            FsError::NoSpace,
            FsError::FileTooLarge,
            FsError::NoAttribute,
            FsError::AttributeTooLarge,
            FsError::SymlinkLoop,
            FsError::Unsupported,
            FsError::NoSuchOffset,
            FsError::Busy,
            FsError::Stale,
            FsError::Io(detail.clone()),
            FsError::TimedOut(detail.clone()),
            FsError::LeaseHeld,
            FsError::Overloaded,
            FsError::NotLeader,
            FsError::SessionExpired,
            FsError::Unavailable(detail),
        ][index]
            .clone()
    })
}

/// Through bytes, as a peer would get it.
fn wired<C, W>(value: &C) -> Result<C, ConvertError>
where
    C: Clone + TryFrom<W, Error = ConvertError>,
    W: Message + Default + From<C>,
{
    let bytes = W::from(value.clone()).encode_to_vec();
    C::try_from(W::decode(&bytes[..]).unwrap())
}

proptest! {
    #[test]
    fn operations_survive(credentials in credentials(), kind in prop_oneof![naming_operation(), inode_operation()]) {
        let operation = Operation { credentials, kind };
        prop_assert_eq!(wired::<_, v1::Operation>(&operation), Ok(operation));
    }

    #[test]
    fn queries_survive(credentials in credentials(), kind in query_kind()) {
        let query = Query { credentials, kind };
        prop_assert_eq!(wired::<_, v1::Query>(&query), Ok(query));
    }

    #[test]
    fn answers_survive(answer in answer()) {
        prop_assert_eq!(wired::<_, v1::Answer>(&answer), Ok(answer));
    }

    #[test]
    fn errors_survive(error in fs_error()) {
        prop_assert_eq!(wired::<_, v1::Error>(&error), Ok(error));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = v1::Operation::decode(&bytes[..]).map(Operation::try_from);
        let _ = v1::Query::decode(&bytes[..]).map(Query::try_from);
        let _ = v1::Answer::decode(&bytes[..]).map(Answer::try_from);
        let _ = v1::Error::decode(&bytes[..]).map(FsError::try_from);
    }

    /// Random bytes seldom parse; damaged messages do, and reach the checks behind the parser.
    #[test]
    fn damaged_messages_never_panic(
        kind in prop_oneof![naming_operation(), inode_operation()], answer in answer(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let operation = Operation { credentials: Credentials::default(), kind };
        let mut asked = v1::Operation::from(operation).encode_to_vec();
        let mut answered = v1::Answer::from(answer).encode_to_vec();
        for (at, value) in damage {
            *at.get_mut(&mut asked[..]) = value;
            *at.get_mut(&mut answered[..]) = value;
        }
        let _ = v1::Operation::decode(&asked[..]).map(Operation::try_from);
        let _ = v1::Answer::decode(&answered[..]).map(Answer::try_from);
    }
}

fn converted(kind: v1::operation::Kind) -> Result<Operation, ConvertError> {
    v1::Operation { credentials: Some(v1::Credentials::default()), kind: Some(kind) }.try_into()
}

#[test]
fn what_is_missing_is_refused() {
    assert_eq!(Operation::try_from(v1::Operation::default()), Err(ConvertError::Missing("credentials")));
    let without_kind = v1::Query { credentials: Some(v1::Credentials::default()), kind: None };
    assert_eq!(Query::try_from(without_kind), Err(ConvertError::Missing("query")));
    assert_eq!(Answer::try_from(v1::Answer::default()), Err(ConvertError::Missing("answer")));
    assert_eq!(FsError::try_from(v1::Error::default()), Err(ConvertError::Missing("error.code")));
}

#[test]
fn bad_names_get_their_posix_answer() {
    let unlink = |name: Vec<u8>| {
        let name = name.into();
        converted(v1::operation::Kind::Unlink(v1::operation::Unlink { parent: 1, name }))
            .unwrap_err()
            .to_fs_error()
    };
    assert_eq!(unlink(vec![b'a'; 256]), FsError::NameTooLong);
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(unlink(name.to_vec()), FsError::InvalidArgument);
    }
}

#[test]
fn counts_and_ends_beyond_the_limits_are_refused() {
    use v1::operation::Kind;
    let commit = |extents, length| {
        converted(Kind::Commit(v1::operation::Commit { extents, length, ..Default::default() }))
    };
    let extent = v1::Extent { offset: 0, length: 1, chunk: 1, chunk_offset: 0 };
    assert_eq!(commit(vec![extent; EXTENTS_PER_MESSAGE_MAX + 1], 0), Err(ConvertError::TooLarge("extents")));
    let beyond_chunk = v1::Extent { chunk_offset: CHUNK_BYTES, ..extent };
    assert_eq!(commit(vec![beyond_chunk], 0), Err(ConvertError::Invalid("extent")));
    let empty = v1::Extent { length: 0, ..extent };
    assert_eq!(commit(vec![empty], 0), Err(ConvertError::Invalid("extent")));
    let beyond_file = v1::Extent { offset: u64::MAX, ..extent };
    assert_eq!(commit(vec![beyond_file], 0), Err(ConvertError::Refused(FsError::FileTooLarge)));
    assert_eq!(commit(vec![], u64::MAX), Err(ConvertError::Refused(FsError::FileTooLarge)));
    let many = v1::operation::AllocateChunks { inode: 1, count: CHUNKS_PER_ALLOCATION_MAX + 1 };
    assert_eq!(converted(Kind::AllocateChunks(many)), Err(ConvertError::TooLarge("count")));
    let failed = v1::operation::ReplaceReplicas { failed: vec![1; REPLICAS_MAX + 1], ..Default::default() };
    assert_eq!(converted(Kind::ReplaceReplicas(failed)), Err(ConvertError::TooLarge("failed")));
}
