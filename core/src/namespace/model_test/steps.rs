//! What the model tests do: acts whose operands are drawn small, so that they meet each other often.

use crate::ids::InodeId;
use crate::namespace::attr::{AttrChanges, NodeKind, TimeSet};
use crate::namespace::name::Name;
use crate::namespace::request::{
    AllocateMode, Credentials, OperationKind, PermissionCheck, RenameMode, XattrMode,
};
use crate::time::Timestamp;
use bytes::Bytes;
use proptest::prelude::*;

/// One act. Inodes are drawn as indices into those known at the time.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A client's operation.
    Act { session: usize, who: Credentials, operation: OperationKind },
    /// A client writes: allocates, leases, commits the extents (offset, length).
    Write {
        session: usize,
        who: Credentials,
        file: InodeId,
        extents: Vec<(u64, u64)>,
        modified: bool,
        release: bool,
        /// What is set in the same entry.
        changes: AttrChanges,
    },
    /// A client overwrites in place what is mapped, under a lease, and may end badly.
    Overwrite { session: usize, file: InodeId },
    /// The master reclaims all orphans.
    Reclaim,
    /// The master drops one batch of garbage: the nth row.
    DropGarbage(usize),
    /// The session ends; a new one takes its place.
    EndSession(usize),
    /// The lease is taken by force.
    TakeLease(InodeId),
    /// So many hours later the master notes how full the cluster is.
    NoteCapacity(i64),
    /// The master reconciles one chunk.
    Reconcile(usize),
    /// A client replaces a chunk's replicas.
    Replace { session: usize, chunk: usize, failed: u32 },
    /// An operator, or the master, sees to storage policies.
    Policy(PolicyAct),
}

/// What becomes of storage policies. Policies are drawn as indices into those there are.
#[derive(Clone, Debug)]
pub(super) enum PolicyAct {
    Create {
        name: u8,
        replicas: u8,
    },
    Change {
        policy: usize,
        replicas: u8,
        minimum: Option<u8>,
    },
    Remove(usize),
    Give {
        inode: InodeId,
        policy: usize,
    },
    /// The master brings so many chunks in line.
    Walk(usize),
}

fn policy() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        3 => (0u8..4, 1u8..=4).prop_map(|(name, replicas)| PolicyAct::Create { name, replicas }),
        2 => (0usize..4, 1u8..=4, proptest::option::of(1u8..=4))
            .prop_map(|(policy, replicas, minimum)| PolicyAct::Change { policy, replicas, minimum }),
        2 => (0usize..4).prop_map(PolicyAct::Remove),
        5 => (inode(), 0usize..4).prop_map(|(inode, policy)| PolicyAct::Give { inode, policy }),
        4 => (1usize..5).prop_map(PolicyAct::Walk),
    ];
    act.prop_map(Step::Policy)
}

fn name() -> impl Strategy<Value = Name> {
    let names =
        prop_oneof![Just(b"a".to_vec()), Just(b"b".to_vec()), Just(vec![0xff; 255]), Just(b"d d".to_vec())];
    names.prop_map(|raw| Name::new(raw).unwrap())
}

/// An index for now: `world` replaces it by an inode that exists or existed.
fn inode() -> impl Strategy<Value = InodeId> {
    (0u64..10).prop_map(InodeId)
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0o777u32),
        Just(0o755),
        Just(0o644),
        Just(0o1777),
        Just(0o2775),
        Just(0o6755),
        0u32..=0o7777
    ]
}

fn who() -> impl Strategy<Value = Credentials> {
    let user = |uid, gid, groups: &[u32], check| Credentials { uid, gid, groups: groups.to_vec(), check };
    prop_oneof![
        4 => Just(user(0, 0, &[], PermissionCheck::Master)),
        2 => Just(user(1, 1, &[2], PermissionCheck::Master)),
        2 => Just(user(2, 2, &[], PermissionCheck::Master)),
        2 => Just(user(1, 1, &[], PermissionCheck::Kernel)),
    ]
}

fn time_set() -> impl Strategy<Value = Option<TimeSet>> {
    let at = Timestamp { seconds: -7, nanos: 5 };
    prop_oneof![2 => Just(None), 1 => Just(Some(TimeSet::Now)), 1 => Just(Some(TimeSet::At(at)))]
}

/// None of the size.
fn changes() -> impl Strategy<Value = AttrChanges> {
    let owner = || proptest::option::weighted(0.3, 0u32..3);
    let changes = (proptest::option::weighted(0.4, mode()), owner(), owner(), time_set(), time_set());
    changes.prop_map(|(mode, uid, gid, atime, mtime)| AttrChanges {
        mode,
        uid,
        gid,
        size: None,
        atime,
        mtime,
    })
}

fn set_attr() -> impl Strategy<Value = OperationKind> {
    let size = proptest::option::weighted(0.3, 0u64..70);
    (inode(), changes(), size, any::<bool>()).prop_map(|(inode, changes, size, via_handle)| {
        OperationKind::SetAttr { inode, changes: AttrChanges { size, ..changes }, via_handle }
    })
}

fn rename() -> impl Strategy<Value = OperationKind> {
    let mode = prop_oneof![3 => Just(RenameMode::Replace), 1 => Just(RenameMode::NoReplace), 2 => Just(RenameMode::Exchange)];
    (inode(), name(), inode(), name(), mode).prop_map(|(parent, name, new_parent, new_name, mode)| {
        OperationKind::Rename { parent, name, new_parent, new_name, mode }
    })
}

fn xattr() -> impl Strategy<Value = OperationKind> {
    let names = prop_oneof![Just("user.a"), Just("user.b"), Just("trusted.c"), Just("security.capability")];
    let mode = prop_oneof![Just(XattrMode::Either), Just(XattrMode::Create), Just(XattrMode::Replace)];
    (inode(), names, proptest::collection::vec(any::<u8>(), 0..4), mode, any::<bool>()).prop_map(
        |(inode, name, value, mode, remove)| {
            let name = Bytes::from(name);
            if remove {
                OperationKind::RemoveXattr { inode, name }
            } else {
                OperationKind::SetXattr { inode, name, value: value.into(), mode }
            }
        },
    )
}

fn operation_on_names() -> impl Strategy<Value = OperationKind> {
    use OperationKind as Op;
    let special = prop_oneof![Just(NodeKind::Fifo), Just(NodeKind::CharDevice), Just(NodeKind::Regular)];
    prop_oneof![
        3 => (inode(), name(), mode(), any::<bool>())
            .prop_map(|(parent, name, mode, exclusive)| Op::Create { parent, name, mode, exclusive }),
        4 => (inode(), name(), mode()).prop_map(|(parent, name, mode)| Op::Mkdir { parent, name, mode }),
        1 => (inode(), name(), special, mode())
            .prop_map(|(parent, name, kind, mode)| Op::Mknod { parent, name, kind, mode, rdev: 259 }),
        1 => (inode(), name())
            .prop_map(|(parent, name)| Op::Symlink { parent, name, target: Bytes::from_static(b"to/x") }),
        2 => (inode(), inode(), name())
            .prop_map(|(inode, new_parent, new_name)| Op::Link { inode, new_parent, new_name }),
        2 => (inode(), name()).prop_map(|(parent, name)| Op::Unlink { parent, name }),
        2 => (inode(), name()).prop_map(|(parent, name)| Op::Rmdir { parent, name }),
        6 => rename(),
        3 => set_attr(),
        3 => xattr(),
    ]
}

fn act(operation: impl Strategy<Value = OperationKind>) -> impl Strategy<Value = Step> {
    (0usize..2, who(), operation).prop_map(|(session, who, operation)| Step::Act { session, who, operation })
}

pub(super) fn on_names() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => act(operation_on_names()),
        2 => Just(Step::Reclaim),
        1 => (0usize..2).prop_map(Step::EndSession),
        4 => policy(),
    ]
}

fn operation_on_data() -> impl Strategy<Value = OperationKind> {
    use OperationKind as Op;
    let modes = prop_oneof![
        1 => Just(AllocateMode::Extend),
        1 => Just(AllocateMode::KeepSize),
        4 => Just(AllocateMode::PunchHole),
        2 => Just(AllocateMode::ZeroRange),
        1 => Just(AllocateMode::ZeroRangeKeepSize),
    ];
    let truncate = (inode(), 0u64..120).prop_map(|(inode, size)| {
        let changes = AttrChanges { size: Some(size), ..AttrChanges::default() };
        Op::SetAttr { inode, changes, via_handle: true }
    });
    let create =
        name().prop_map(|name| Op::Create { parent: InodeId(0), name, mode: 0o6777, exclusive: false });
    prop_oneof![
        2 => create,
        1 => name().prop_map(|name| Op::Unlink { parent: InodeId(0), name }),
        4 => truncate,
        1 => set_attr(),
        1 => xattr(),
        4 => (inode(), modes, 0u64..110, 0u64..60)
            .prop_map(|(inode, mode, offset, length)| Op::Allocate { inode, mode, offset, length }),
    ]
}

/// Extents, ordered and apart: often many short ones, so that cuts go beyond their budget.
fn extents() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let gaps = |count, gap: std::ops::Range<u64>| proptest::collection::vec((gap, 1u64..4), 1..count);
    let drawn = prop_oneof![gaps(4, 0..40), gaps(24, 1..4)];
    drawn.prop_map(|drawn| {
        let mut at = 0;
        let place = |(gap, length): (u64, u64)| {
            let offset = at + gap;
            at = offset + length;
            (offset, length)
        };
        drawn.into_iter().map(place).collect()
    })
}

pub(super) fn on_data() -> impl Strategy<Value = Step> {
    let flags = (any::<bool>(), prop_oneof![3 => Just(true), 1 => Just(false)]);
    let set = prop_oneof![2 => Just(AttrChanges::default()), 1 => changes()];
    let write = (0usize..2, who(), inode(), extents(), flags, set);
    prop_oneof![
        12 => act(operation_on_data()),
        14 => write.prop_map(|(session, who, file, extents, (modified, release), changes)| {
            Step::Write { session, who, file, extents, modified, release, changes }
        }),
        3 => (0usize..2, inode()).prop_map(|(session, file)| Step::Overwrite { session, file }),
        1 => Just(Step::Reclaim),
        8 => (0usize..4).prop_map(Step::DropGarbage),
        1 => (0usize..2).prop_map(Step::EndSession),
        1 => inode().prop_map(Step::TakeLease),
        1 => (0i64..40).prop_map(Step::NoteCapacity),
        2 => (0usize..3).prop_map(Step::Reconcile),
        2 => (0usize..2, 0usize..8, 0u32..5)
            .prop_map(|(session, chunk, failed)| Step::Replace { session, chunk, failed }),
        6 => policy(),
    ]
}
