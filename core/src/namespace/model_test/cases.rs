//! Single cases that a random walk would seldom meet.

use super::world::World;
use crate::cluster::{Labels, ServerHealth};
use crate::error::FsError;
use crate::ids::{
    ChunkId, ChunkVersion, ClusterId, DiskId, InodeId, LeaseNumber, NodeId, Sequence, ServerId, SlotId,
};
use crate::limits::{
    EXTENTS_CUT_MAX, EXTENTS_PER_MESSAGE_MAX, FILE_BYTES_MAX, MAP_PIECES_MAX, SERVER_DISKS_MAX,
    SESSION_SLOTS, SYMLINK_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};
use crate::namespace::answer::Answer;
use crate::namespace::attr::{AttrChanges, NodeKind, TimeSet};
use crate::namespace::draft::Draft;
use crate::namespace::internal::Internal;
use crate::namespace::machine::{Context, Outcome, RowError, Rows, Stop, decide_internal};
use crate::namespace::memory::MemoryRows;
use crate::namespace::name::Name;
use crate::namespace::request::{
    AllocateMode, Credentials, Extent, Operation, OperationKind, PermissionCheck, QueryKind, XattrMode,
};
use crate::namespace::rows::inode::InodeKey;
use crate::namespace::work::{self, LeaseRecord};
use crate::session::{Raised, Sequenced, decide_sequenced};
use crate::time::Timestamp;
use crate::units::CHUNK_BYTES;
use bytes::Bytes;

fn name(text: &str) -> Name {
    Name::new(text.to_owned()).unwrap()
}

fn root() -> Credentials {
    Credentials::default()
}

fn user(uid: u32) -> Credentials {
    Credentials { uid, gid: uid, groups: vec![], check: PermissionCheck::Master }
}

impl World {
    fn make_file(&mut self, text: &str) -> (InodeId, LeaseNumber) {
        let create =
            OperationKind::Create { parent: InodeId::ROOT, name: name(text), mode: 0o644, exclusive: true };
        match self.operate(0, &root(), create).unwrap() {
            Answer::Created { attr, created: true, lease: Some(lease) } => (attr.inode, lease),
            other => panic!("{other:?}"),
        }
    }

    fn allocate(&mut self, inode: InodeId, count: u32) -> Vec<ChunkId> {
        match self.operate(0, &root(), OperationKind::AllocateChunks { inode, count }).unwrap() {
            Answer::Chunks(locations) => locations.iter().map(|location| location.chunk).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn commit(
        &mut self,
        inode: InodeId,
        lease: LeaseNumber,
        extents: Vec<Extent>,
    ) -> Result<Answer, FsError> {
        let length = extents.iter().map(|extent| extent.offset + extent.length).max().unwrap_or(0);
        let changes = AttrChanges::default();
        let commit =
            OperationKind::Commit { inode, lease, extents, length, modified: true, release: false, changes };
        self.operate(0, &root(), commit)
    }

    /// `count` bytes with holes between them, so that nothing can be joined.
    fn scatter(&mut self, inode: InodeId, lease: LeaseNumber, from: u64, count: u64) {
        let chunk = self.allocate(inode, 1)[0];
        let byte = |n| Extent { offset: from + 2 * n, length: 1, chunk, chunk_offset: 2 * n };
        let extents: Vec<Extent> = (0..count).map(byte).collect();
        for batch in extents.chunks(EXTENTS_PER_MESSAGE_MAX) {
            self.commit(inode, lease, batch.to_vec()).unwrap();
        }
    }

    fn sound(&self) {
        self.verify_state();
    }

    fn pieces(&self, inode: InodeId) -> usize {
        Draft::new(&self.rows).get(&InodeKey(inode)).unwrap().unwrap().pieces.len()
    }

    fn truncate(&mut self, inode: InodeId, size: u64) -> Result<Answer, FsError> {
        let changes = AttrChanges { size: Some(size), ..AttrChanges::default() };
        self.operate(0, &root(), OperationKind::SetAttr { inode, changes, via_handle: true })
    }
}

#[test]
fn truncating_a_fragmented_file_takes_a_bounded_record() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    world.scatter(inode, lease, 0, 3000);
    for size in [4001, 0] {
        world.truncate(inode, size).unwrap();
        world.sound();
        let map = world.map_of(inode);
        assert_eq!(map.extents.len() as u64, u64::min(size.div_ceil(2), EXTENTS_PER_MESSAGE_MAX as u64));
    }
    world.scatter(inode, lease, 100, 20);
    assert_eq!(world.map_of(inode).extents.len(), 20, "nothing that was cut off comes back");
    world.drain_garbage();
    world.sound();
    assert_eq!((world.map_of(inode).extents.len(), world.pieces(inode)), (20, 1));
    assert_eq!(world.map_of(inode).attr.unwrap().mapped_bytes, 20);
}

#[test]
fn large_cuts_are_refused_when_too_many_are_unmended_and_work_again_later() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    world.scatter(inode, lease, 0, 2000);
    let mut refused = false;
    for cut in 0..40 {
        let (offset, length) = (cut * 100, 2 * EXTENTS_CUT_MAX as u64 + 10);
        let punch = OperationKind::Allocate { inode, mode: AllocateMode::PunchHole, offset, length };
        let outcome = world.operate(0, &root(), punch);
        refused |= outcome == Err(FsError::Overloaded);
        assert!(world.pieces(inode) <= MAP_PIECES_MAX);
    }
    assert!(refused, "the list of pieces is bounded");
    world.drain_garbage();
    assert_eq!(world.pieces(inode), 1);
    let (offset, length) = (3990, 100_000);
    let punch = OperationKind::Allocate { inode, mode: AllocateMode::PunchHole, offset, length };
    assert!(world.operate(0, &root(), punch).is_ok());
    world.sound();
}

#[test]
fn writes_are_never_joined_with_garbage() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    let chunks = world.allocate(inode, 2);
    let byte =
        |offset: u64, chunk: usize| Extent { offset, length: 1, chunk: chunks[chunk], chunk_offset: offset };
    let striped: Vec<Extent> = (0..40).map(|offset| byte(offset, offset as usize % 2)).collect();
    world.commit(inode, lease, striped).unwrap();
    world.truncate(inode, 20).unwrap();
    assert_eq!(world.pieces(inode), 2, "the cut was a large one");
    // Byte 20, now garbage, stands in chunk 0 right behind this one.
    world.commit(inode, lease, vec![byte(19, 0)]).unwrap();
    world.sound();
    let last = world.map_of(inode).extents.pop().unwrap();
    assert_eq!(
        (last.offset, last.length),
        (18, 2),
        "joined with what lives before it, not with what is cut off"
    );
    world.truncate(inode, 40).unwrap();
    assert_eq!(world.map_of(inode).extents.pop().unwrap().offset, 18);
    world.drain_garbage();
    world.sound();
}

#[test]
fn adjacent_writes_become_one_extent() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    let chunk = world.allocate(inode, 1)[0];
    for offset in [8192u64, 0, 4096] {
        world
            .commit(inode, lease, vec![Extent { offset, length: 4096, chunk, chunk_offset: offset }])
            .unwrap();
    }
    let whole = Extent { offset: 0, length: 12288, chunk, chunk_offset: 0 };
    assert_eq!(world.map_of(inode).extents, [whole]);
    assert_eq!(work::chunk(&world.rows, chunk).unwrap().unwrap().references, 1);
    world.commit(inode, lease, vec![Extent { offset: 100, length: 50, chunk, chunk_offset: 100 }]).unwrap();
    assert_eq!(world.map_of(inode).extents, [whole], "an overwrite in place changes no row of the map");
    world.sound();
}

#[test]
fn commits_are_refused_unless_all_of_them_is_right() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    let (other, _) = world.make_file("g");
    let chunk = world.allocate(inode, 1)[0];
    let foreign = world.allocate(other, 1)[0];
    let fine = Extent { offset: 0, length: 10, chunk, chunk_offset: 0 };
    let before = world.rows.clone();
    let bad = [
        vec![Extent { length: 0, ..fine }],
        vec![Extent { chunk_offset: CHUNK_BYTES - 9, ..fine }],
        vec![Extent { chunk_offset: u64::MAX, ..fine }],
        vec![fine, Extent { offset: 9, ..fine }],
        vec![Extent { offset: 20, ..fine }, fine],
    ];
    for extents in bad {
        assert_eq!(world.commit(inode, lease, extents.clone()), Err(FsError::InvalidArgument), "{extents:?}");
    }
    let wrap = vec![Extent { offset: u64::MAX - 5, ..fine }];
    let commit = |extents, length, lease| OperationKind::Commit {
        inode,
        lease,
        extents,
        length,
        modified: true,
        release: false,
        changes: AttrChanges::default(),
    };
    let root = root();
    assert_eq!(world.operate(0, &root, commit(wrap, 10, lease)), Err(FsError::FileTooLarge));
    assert_eq!(
        world.operate(0, &root, commit(vec![fine], FILE_BYTES_MAX + 1, lease)),
        Err(FsError::FileTooLarge)
    );
    let beyond = vec![Extent { offset: 5, ..fine }];
    assert_eq!(world.operate(0, &root, commit(beyond, 10, lease)), Err(FsError::InvalidArgument));
    let unknown = vec![Extent { chunk: ChunkId(999), ..fine }];
    assert_eq!(world.operate(0, &root, commit(unknown, 10, lease)), Err(FsError::Stale));
    assert_eq!(world.operate(0, &root, commit(vec![fine], 10, LeaseNumber(9))), Err(FsError::Stale));
    assert_eq!(world.operate(1, &root, commit(vec![fine], 10, lease)), Err(FsError::Stale));
    let with = |changes| match commit(vec![fine], 10, lease) {
        OperationKind::Commit { inode, lease, extents, length, modified, release, .. } => {
            OperationKind::Commit { inode, lease, extents, length, modified, release, changes }
        }
        other => other,
    };
    let cut = with(AttrChanges { size: Some(5), ..AttrChanges::default() });
    assert_eq!(world.operate(0, &root, cut), Err(FsError::InvalidArgument));
    let dated =
        || with(AttrChanges { mtime: Some(TimeSet::At(Timestamp::default())), ..AttrChanges::default() });
    assert_eq!(world.operate(0, &user(7), dated()), Err(FsError::NotPermitted), "as SetAttr says");
    assert_eq!(world.rows, before, "a refusal writes nothing");
    match world.operate(0, &root, dated()) {
        Ok(Answer::Attr(attr)) => assert_eq!((attr.size, attr.mtime), (10, Timestamp::default())),
        other => panic!("{other:?}"),
    }
    let (third, third_lease) = world.make_file("h");
    assert_eq!(
        world.commit(third, third_lease, vec![fine]),
        Err(FsError::InvalidArgument),
        "one chunk, one file"
    );
    let pooled = vec![Extent { chunk: foreign, ..fine }];
    world.commit(third, third_lease, pooled).unwrap();
    world.sound();
}

#[test]
fn only_the_holder_lets_a_lease_go_and_only_this_one() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    let (other, other_lease) = world.make_file("g");
    let release = |leases| OperationKind::ReleaseLeases { leases };
    let take = || OperationKind::LeaseFile { inode, chunks: Vec::new() };
    world.operate(1, &root(), release(vec![(inode, lease)])).unwrap();
    world.operate(0, &root(), release(vec![(inode, LeaseNumber(lease.get() + 1))])).unwrap();
    assert_eq!(world.operate(1, &root(), take()), Err(FsError::LeaseHeld));
    let gone = (InodeId(99_999), LeaseNumber(1));
    world.operate(0, &root(), release(vec![gone, (inode, lease), (other, other_lease)])).unwrap();
    assert!(world.operate(1, &root(), take()).is_ok());
    assert!(work::lease_of(&world.rows, other).unwrap().is_none());
    world.sound();
}

#[test]
fn a_lease_taken_by_force_stops_the_writer_and_reconciles_what_it_overwrote() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    let chunk = world.allocate(inode, 1)[0];
    let extent = Extent { offset: 0, length: 10, chunk, chunk_offset: 0 };
    world.commit(inode, lease, vec![extent]).unwrap();
    let mark = OperationKind::LeaseFile { inode, chunks: vec![chunk] };
    world.operate(0, &root(), mark.clone()).unwrap();
    assert_eq!(world.operate(1, &root(), mark.clone()), Err(FsError::LeaseHeld));
    let punch = OperationKind::Allocate { inode, mode: AllocateMode::PunchHole, offset: 0, length: 5 };
    assert_eq!(world.operate(1, &root(), punch), Err(FsError::LeaseHeld));
    let held = work::lease_of(&world.rows, inode).unwrap().unwrap();
    let of_other = LeaseRecord { session: world.sessions[1], ..held };
    let earlier = LeaseRecord { lease: LeaseNumber(held.lease.get() - 1), ..held };
    for wrong in [of_other, earlier] {
        world.command(&Internal::TakeLease { inode, lease: wrong });
        assert_eq!(work::lease_of(&world.rows, inode), Ok(Some(held)), "only the very lease is taken");
    }
    world.command(&Internal::TakeLease { inode, lease: held });
    assert_eq!(world.commit(inode, lease, vec![extent]), Err(FsError::Stale));
    assert_eq!(world.operate(1, &root(), mark.clone()), Err(FsError::LeaseHeld), "it is not reconciled yet");
    let waiting = work::reconciliations(&world.rows, None, 9).unwrap();
    assert_eq!((waiting.len(), waiting[0].0), (1, chunk));
    assert_eq!(waiting[0].1.reason, work::ReconcileReason::Writer);
    let raising = world.command(&Internal::BeginRaise { chunk, from: ChunkVersion(1) });
    let Outcome::Raising { to, servers, .. } = raising else { panic!() };
    world.command(&Internal::FinishReconcile { chunk, version: to, servers });
    match world.operate(1, &root(), mark).unwrap() {
        Answer::Leased { lease: next, .. } => assert!(next > lease, "lease numbers grow"),
        other => panic!("{other:?}"),
    }
    world.sound();
}

#[test]
fn only_the_attempt_that_began_last_replaces_the_set() {
    let mut world = World::new();
    let (inode, _) = world.make_file("f");
    let chunk = world.allocate(inode, 1)[0];
    let before = work::chunk(&world.rows, chunk).unwrap().unwrap();
    let failed = vec![before.servers[1]];
    let kind = OperationKind::ReplaceReplicas { chunk, version: before.version, failed: failed.clone() };
    let operation = Operation { credentials: root(), kind };
    let send = |world: &World, sequence, raised: Option<&Raised>| {
        let now = Default::default();
        let (session, view) = (world.sessions[0], &world.view);
        let context = Context { now, session, view, entropy: 1, default_replicas: 3 };
        decide_sequenced(&world.rows, &context, SlotId(9), Sequence(sequence), &operation, raised)
    };
    let begin = |world: &mut World| match send(world, 1, None).unwrap() {
        Sequenced::Raise { to, survivors, record, .. } => {
            world.rows.apply(&record.rows);
            world.sound();
            Raised { to, servers: survivors }
        }
        other => panic!("{other:?}"),
    };
    let first = begin(&mut world);
    let second = begin(&mut world);
    assert!(second.to > first.to && !second.servers.contains(&failed[0]));
    assert!(matches!(send(&world, 1, Some(&first)).unwrap(), Sequenced::Raise { to, .. } if to > second.to));
    let alone = Raised { servers: second.servers[..1].to_vec(), ..second };
    assert!(matches!(send(&world, 1, Some(&alone)), Err(Stop::Refused(FsError::Unavailable(_)))));
    let Sequenced::Decided(record) = send(&world, 1, Some(&second)).unwrap() else { panic!() };
    world.rows.apply(&record.rows);
    world.sound();
    let after = work::chunk(&world.rows, chunk).unwrap().unwrap();
    assert_eq!((after.version, after.servers.len()), (second.to, 2));
    let deletions = work::deletions(&world.rows, None, 9).unwrap();
    assert_eq!((deletions[0].server, deletions[0].version), (failed[0], second.to));
    assert!(work::reconciliations(&world.rows, None, 9).unwrap().is_empty());
    assert!(matches!(send(&world, 1, None).unwrap(), Sequenced::Replayed(_)));
    assert!(
        matches!(send(&world, 2, None).unwrap(), Sequenced::Decided(_)),
        "a later report gets the present set"
    );
    let stray = Internal::DeleteStray { server: after.servers[0], chunk, version: after.version };
    let context = Context {
        now: Default::default(),
        session: Default::default(),
        view: &world.view,
        entropy: 1,
        default_replicas: 3,
    };
    let refused = decide_internal(&world.rows, &context, &stray);
    assert_eq!(refused, Err(Stop::Refused(FsError::Busy)), "a replica that counts is no stray");
}

#[test]
fn a_repaired_chunk_has_as_many_replicas_as_it_is_to_have() {
    let mut world = World::new();
    let (inode, _) = world.make_file("f");
    let chunk = world.allocate(inode, 1)[0];
    let record = |world: &World| work::chunk(&world.rows, chunk).unwrap().unwrap();
    let before = record(&world);
    assert_eq!((before.wanted, work::repairs(&world.rows, None, 9).unwrap()), (3, vec![]));
    let install = |world: &mut World, servers: &[u32]| {
        let from = record(world).version;
        let raising = world.command(&Internal::BeginRaise { chunk, from });
        let Outcome::Raising { to, .. } = raising else { panic!() };
        let servers = servers.iter().map(|&server| ServerId(server)).collect();
        world.command(&Internal::FinishReconcile { chunk, version: to, servers });
        world.sound();
    };
    let old: Vec<u32> = before.servers.iter().map(|server| server.get()).collect();
    install(&mut world, &old[..1]);
    assert_eq!(work::repairs(&world.rows, None, 9).unwrap(), [(1, chunk)]);
    let deleting = |world: &World| work::deleting_at(&world.rows, chunk, &before.servers).unwrap();
    assert_eq!(deleting(&world), before.servers[1..]);

    // Who was dropped may come back; who is not registered cannot come, nor more than are wanted.
    install(&mut world, &[99, old[1], old[1], old[0], old[2], 1, 2, 3, 4, 5]);
    assert_eq!(record(&world).servers, [ServerId(old[0]), ServerId(old[1]), ServerId(old[2])]);
    assert_eq!((deleting(&world), work::repairs(&world.rows, None, 9).unwrap()), (vec![], vec![]));

    install(&mut world, &old[1..2]);
    world.operate(0, &root(), OperationKind::ReleaseChunks { chunks: vec![chunk] }).unwrap();
    assert!(work::repairs(&world.rows, None, 9).unwrap().is_empty(), "what is gone needs no repair");
    world.sound();
}

#[test]
fn placement_failures_reach_the_client_by_name() {
    let mut world = World::new();
    let (inode, _) = world.make_file("f");
    let ask = OperationKind::AllocateChunks { inode, count: 1 };
    world.view.servers.values_mut().for_each(|server| server.free_bytes = 0);
    assert_eq!(world.operate(0, &root(), ask.clone()), Err(FsError::NoSpace));
    world.view.servers.values_mut().for_each(|server| server.health = ServerHealth::Down);
    assert!(matches!(world.operate(0, &root(), ask), Err(FsError::Unavailable(_))));
    let none = OperationKind::AllocateChunks { inode, count: 0 };
    assert_eq!(world.operate(0, &root(), none), Err(FsError::InvalidArgument));
}

#[test]
fn servers_keep_their_numbers() {
    let mut world = World::new();
    let register = |n: u128| Internal::RegisterServer {
        node: NodeId(uuid::Uuid::from_u128(n)),
        data_address: format!("host:{n}"),
        http_address: String::new(),
        labels: Labels::parse([format!("rack={n}")]).unwrap(),
    };
    for n in [1, 2, 1, 5, 2] {
        assert_eq!(world.command(&register(n)), Outcome::Server(ServerId(n as u32)));
    }
    assert_eq!(work::servers(&world.rows, Some(ServerId(1)), 9).unwrap().len(), 4);
    world.sound();
}

#[test]
fn a_server_is_removed_only_when_it_is_empty_and_gone() {
    let mut world = World::new();
    let (inode, _) = world.make_file("f");
    let chunk = world.allocate(inode, 1)[0];
    let leaving = work::chunk(&world.rows, chunk).unwrap().unwrap().servers[0];
    let record = |world: &World| work::server(&world.rows, leaving).unwrap();
    let drain = |replicas| Internal::DrainServer { server: leaving, replicas };
    world.command(&drain(Some(1)));
    let since = record(&world).unwrap().draining.unwrap();
    world.command(&drain(Some(7)));
    assert_eq!((record(&world).unwrap().draining, since.replicas), (Some(since), 1), "it began once");
    let before = record(&world).unwrap();
    let register = Internal::RegisterServer {
        node: before.node,
        data_address: "elsewhere:1".into(),
        http_address: String::new(),
        labels: Labels::parse(["rack=9"]).unwrap(),
    };
    world.command(&register);
    assert_eq!(record(&world).unwrap().draining, Some(since), "also under another address");
    world.command(&drain(None));
    assert_eq!(record(&world).unwrap().draining, None);

    let remove = Internal::RemoveServer { server: leaving };
    assert_eq!(world.refused(&remove), FsError::Busy, "it is connected");
    world.view.servers.get_mut(&leaving).unwrap().health = ServerHealth::Down;
    assert_eq!(world.refused(&remove), FsError::Busy, "it holds a replica");
    let elsewhere: Vec<ServerId> = (1..=4).map(ServerId).filter(|&server| server != leaving).collect();
    let version = work::chunk(&world.rows, chunk).unwrap().unwrap().version;
    let Outcome::Raising { to, .. } = world.command(&Internal::BeginRaise { chunk, from: version }) else {
        panic!("a raise")
    };
    world.command(&Internal::FinishReconcile { chunk, version: to, servers: elsewhere });
    assert_eq!(work::deleting_at(&world.rows, chunk, &[leaving]).unwrap(), [leaving]);
    assert_eq!(world.command(&remove), Outcome::More(false));
    assert_eq!((record(&world), work::deleting_at(&world.rows, chunk, &[leaving]).unwrap()), (None, vec![]));
    assert_eq!(world.command(&remove), Outcome::More(false), "it is gone already");
    assert_eq!(world.refused(&drain(Some(0))), FsError::NotFound);
    assert_eq!(world.command(&register), Outcome::Server(ServerId(5)), "a stranger");
    world.sound();
}

#[test]
fn disks_that_are_to_be_emptied_stand_and_fall_with_their_server() {
    let mut world = World::new();
    let server = ServerId(2);
    let disk = |n: u128| DiskId(uuid::Uuid::from_u128(n));
    let drain = |server, n, replicas| Internal::DrainDisk { server, disk: disk(n), replicas };
    assert_eq!(world.refused(&drain(ServerId(77), 1, Some(1))), FsError::NotFound);
    world.command(&drain(server, 1, Some(5)));
    let first = work::drained_disks(&world.rows, None, 9).unwrap();
    world.command(&drain(server, 1, Some(9)));
    assert_eq!(work::drained_disks(&world.rows, None, 9).unwrap(), first, "it began once");
    assert_eq!((first[0].server, first[0].disk, first[0].draining.replicas), (server, disk(1), 5));
    world.command(&drain(ServerId(1), 7, Some(1)));
    world.command(&drain(ServerId(1), 7, None));
    world.command(&drain(ServerId(1), 7, None));
    assert_eq!(work::drained_disks(&world.rows, None, 9).unwrap(), first);
    (2..=SERVER_DISKS_MAX as u128).for_each(|n| drop(world.command(&drain(server, n, Some(0)))));
    assert_eq!(world.refused(&drain(server, 1000, Some(0))), FsError::Overloaded);
    let after = work::drained_disks(&world.rows, Some((server, disk(1))), 3).unwrap();
    assert_eq!(after.iter().map(|found| found.disk).collect::<Vec<_>>(), [disk(2), disk(3), disk(4)]);
    world.sound();
    world.view.servers.get_mut(&server).unwrap().health = ServerHealth::Down;
    world.command(&Internal::RemoveServer { server });
    assert_eq!(work::drained_disks(&world.rows, None, 9).unwrap(), []);
    world.sound();
}

#[test]
fn a_cluster_is_formatted_once() {
    let world = World::new();
    let context = Context {
        now: Default::default(),
        session: Default::default(),
        view: &world.view,
        entropy: 0,
        default_replicas: 1,
    };
    let format = Internal::Format { cluster: ClusterId::default(), default_replicas: 1, feature_level: 1 };
    assert_eq!(decide_internal(&world.rows, &context, &format), Err(Stop::Refused(FsError::Exists)));
    assert_eq!(work::cluster(&world.rows).unwrap().unwrap().default_replicas, 3);
    assert_eq!(work::cluster(&MemoryRows::default()).unwrap(), None);
}

#[test]
fn limits_are_refused_with_their_errors() {
    let mut world = World::new();
    let (inode, _) = world.make_file("f");
    let allocate =
        |offset, length| OperationKind::Allocate { inode, mode: AllocateMode::Extend, offset, length };
    let symlink = |target: Vec<u8>| OperationKind::Symlink {
        parent: InodeId::ROOT,
        name: name("s"),
        target: Bytes::from(target),
    };
    let xattr = |length| OperationKind::SetXattr {
        inode,
        name: Bytes::from_static(b"user.x"),
        value: vec![0; length].into(),
        mode: XattrMode::Either,
    };
    let table = [
        (allocate(0, 0), FsError::InvalidArgument),
        (allocate(u64::MAX, 2), FsError::FileTooLarge),
        (allocate(FILE_BYTES_MAX, 1), FsError::FileTooLarge),
        (symlink(vec![b'x'; SYMLINK_BYTES_MAX + 1]), FsError::NameTooLong),
        (symlink(vec![]), FsError::NotFound),
        (symlink(vec![b'a', 0]), FsError::InvalidArgument),
        (xattr(XATTR_VALUE_BYTES_MAX + 1), FsError::AttributeTooLarge),
    ];
    for (operation, error) in table {
        assert_eq!(world.operate(0, &root(), operation.clone()), Err(error), "{operation:?}");
    }
    assert_eq!(world.truncate(inode, FILE_BYTES_MAX + 1), Err(FsError::FileTooLarge));
    world.truncate(inode, FILE_BYTES_MAX).unwrap();
    for n in 0..3 {
        let name = Bytes::from(format!("user.{n}"));
        let value = vec![7; XATTR_VALUE_BYTES_MAX].into();
        world
            .operate(0, &root(), OperationKind::SetXattr { inode, name, value, mode: XattrMode::Either })
            .unwrap();
    }
    assert_eq!(world.operate(0, &root(), xattr(XATTR_VALUE_BYTES_MAX)), Err(FsError::AttributeTooLarge));
    world.sound();
}

#[test]
fn slots_are_few_and_sessions_must_be_known() {
    let world = World::new();
    let operation = Operation { credentials: root(), kind: OperationKind::ReleaseChunks { chunks: vec![] } };
    let send = |session, slot| {
        let now = Default::default();
        let context = Context { now, session, view: &world.view, entropy: 1, default_replicas: 3 };
        decide_sequenced(&world.rows, &context, SlotId(slot), Sequence(1), &operation, None)
    };
    assert_eq!(send(world.sessions[0], SESSION_SLOTS), Err(Stop::Refused(FsError::InvalidArgument)));
    assert_eq!(send(Default::default(), 0), Err(Stop::Refused(FsError::SessionExpired)));
    assert!(send(world.sessions[0], SESSION_SLOTS - 1).is_ok());
}

#[test]
fn lookups_carry_the_map_of_small_files_only() {
    let mut world = World::new();
    let (inode, lease) = world.make_file("f");
    for (count, carried) in [(0, false), (4, true), (5, false)] {
        if count > 0 {
            world.truncate(inode, 0).unwrap();
            world.scatter(inode, lease, 0, count);
        }
        let found = world.ask(QueryKind::Lookup { parent: InodeId::ROOT, name: name("f") }).unwrap();
        let Answer::Entry { map, .. } = found else { panic!() };
        assert_eq!(map.is_some(), carried, "{count} extents");
        assert_eq!(map.map_or(0, |map| map.extents.len() as u64), if carried { count } else { 0 });
    }
}

#[test]
fn permissions_of_users() {
    let mut world = World::new();
    let mkdir =
        |name_of: &str, mode| OperationKind::Mkdir { parent: InodeId::ROOT, name: name(name_of), mode };
    let Answer::Entry { attr: open, .. } = world.operate(0, &root(), mkdir("open", 0o777)).unwrap() else {
        panic!()
    };
    let chmod = AttrChanges { mode: Some(0o777), ..AttrChanges::default() };
    let opened = OperationKind::SetAttr { inode: open.inode, changes: chmod.clone(), via_handle: false };
    world.operate(0, &root(), opened.clone()).unwrap();
    assert_eq!(world.operate(0, &user(5), opened), Err(FsError::NotPermitted));
    assert_eq!(world.operate(0, &user(5), mkdir("mine", 0o755)), Err(FsError::PermissionDenied));
    let node = |kind, mode| OperationKind::Mknod { parent: open.inode, name: name("n"), kind, mode, rdev: 5 };
    assert_eq!(world.operate(0, &user(5), node(NodeKind::BlockDevice, 0o600)), Err(FsError::NotPermitted));
    assert_eq!(world.operate(0, &root(), node(NodeKind::Directory, 0o600)), Err(FsError::InvalidArgument));
    let Answer::Entry { attr: fifo, .. } = world.operate(0, &user(5), node(NodeKind::Fifo, 0o600)).unwrap()
    else {
        panic!()
    };
    assert_eq!((fifo.uid, fifo.gid, fifo.rdev), (5, 5, 0));
    let access = |uid, mask| {
        let ask = crate::namespace::request::Query {
            credentials: user(uid),
            kind: QueryKind::Access { inode: fifo.inode, mask },
        };
        let context = Context {
            now: Default::default(),
            session: Default::default(),
            view: &world.view,
            entropy: 0,
            default_replicas: 1,
        };
        crate::namespace::machine::query(&world.rows, &context, &ask)
    };
    assert_eq!(access(5, 6), Ok(Answer::Done));
    assert_eq!(access(6, 4), Err(Stop::Refused(FsError::PermissionDenied)));
    assert_eq!(access(6, 0), Ok(Answer::Done));
    assert_eq!(access(6, 8), Err(Stop::Refused(FsError::InvalidArgument)));
}

/// Rows of which some are not in memory.
struct Cold<'a>(&'a MemoryRows);

impl Rows for Cold<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowError> {
        if key[0] == 1 { Err(RowError::NotInMemory) } else { self.0.get(key) }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        self.0.scan(from, to, limit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowError> {
        self.0.scan_reverse(from, to, limit)
    }

    fn multi_get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, RowError> {
        self.0.multi_get(keys)
    }
}

#[test]
fn cold_rows_and_damaged_rows_stop_the_act() {
    let mut world = World::new();
    let operation = Operation {
        credentials: root(),
        kind: OperationKind::Unlink { parent: InodeId::ROOT, name: name("x") },
    };
    let send = |rows: &dyn Rows| {
        let now = Default::default();
        let (session, view) = (world.sessions[0], &world.view);
        let context = Context { now, session, view, entropy: 1, default_replicas: 3 };
        decide_sequenced(rows, &context, SlotId(0), Sequence(1), &operation, None)
    };
    assert_eq!(send(&Cold(&world.rows)), Err(Stop::NotInMemory));
    let mut damaged = world.rows.clone();
    let key = crate::namespace::rows::Key::encode(&InodeKey(InodeId::ROOT));
    damaged.put(key, Bytes::from_static(&[9, 9, 9]));
    assert!(matches!(send(&damaged), Err(Stop::Failed(text)) if text.contains("Inode")));
    world.reclaim();
}
