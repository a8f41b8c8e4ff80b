//! Runs steps on the machine and on the toy, and compares them.

use super::steps::Step;
use super::toy::{Node, ROOT, Toy};
use crate::cluster::{ClusterView, Labels, ServerHealth, ServerView};
use crate::error::FsError;
use crate::explain::capacity::hour_of;
use crate::fsck;
use crate::ids::{ChunkId, ClusterId, InodeId, NodeId, Sequence, ServerId, SessionId, SlotId};
use crate::journal::applied::{APPLIED_KEY, Applied};
use crate::limits::CAPACITY_DAYS;
use crate::namespace::answer::{Answer, Map};
use crate::namespace::attr::{AttrChanges, NodeKind};
use crate::namespace::check::check;
use crate::namespace::draft::Draft;
use crate::namespace::internal::Internal;
use crate::namespace::machine::{Context, Outcome, Stop, decide_internal, query};
use crate::namespace::memory::MemoryRows;
use crate::namespace::name::Name;
use crate::namespace::request::{Credentials, Extent, Operation, OperationKind, Query, QueryKind};
use crate::namespace::rows::inode::InodeKey;
use crate::namespace::work;
use crate::session::{Raised, Sequenced, decide_sequenced};
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What a client writes at a time.
struct Written<'a> {
    /// Offsets and lengths.
    extents: &'a [(u64, u64)],
    modified: bool,
    release: bool,
    changes: &'a AttrChanges,
}

pub(super) struct World {
    pub(super) rows: MemoryRows,
    pub(super) toy: Toy,
    pub(super) sessions: [SessionId; 2],
    pub(super) view: ClusterView,
    pub(super) known: Vec<InodeId>,
    sequence: u64,
    clock: i64,
}

pub(super) fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.verify();
    }
    world.wind_up();
}

impl World {
    pub(super) fn new() -> Self {
        let server = |free: u64| ServerView {
            health: ServerHealth::Alive,
            address: format!("server-{free}:1"),
            total_bytes: 100 << 30,
            free_bytes: free << 30,
            leaving_bytes: 0,
            load: 0,
            draining: false,
            labels: Default::default(),
        };
        let view =
            ClusterView { servers: (1u32..=4).map(|n| (ServerId(n), server(u64::from(n) * 9))).collect() };
        let (known, sessions) = (vec![InodeId::ROOT], [SessionId(0); 2]);
        let toy = Toy::new(Timestamp { seconds: 1, nanos: 0 });
        let mut world =
            Self { rows: MemoryRows::default(), toy, sessions, view, known, sequence: 0, clock: 1 };
        world.command(&Internal::Format {
            cluster: ClusterId::default(),
            default_replicas: 3,
            feature_level: 1,
        });
        // The member's books, which the shell keeps, and the servers of the view.
        let books = Applied { voters: vec![1], feature_level: 1, ..Applied::default() };
        world.rows.put(Bytes::from_static(&APPLIED_KEY), books.encode());
        for server in 1..=4 {
            let (data_address, http_address) = (format!("server-{server}:1"), String::new());
            let node = NodeId(uuid::Uuid::from_u128(server));
            let labels = Labels::default();
            world.command(&Internal::RegisterServer { node, data_address, http_address, labels });
        }
        for index in 0..2 {
            world.sessions[index] = world.open_session();
        }
        world
    }

    fn context(&self, session: SessionId) -> Context<'_> {
        let now = Timestamp { seconds: self.clock, nanos: 0 };
        Context {
            now,
            session,
            view: &self.view,
            entropy: self.sequence.wrapping_mul(77),
            default_replicas: 3,
        }
    }

    pub(super) fn command(&mut self, command: &Internal) -> Outcome {
        let record = decide_internal(&self.rows, &self.context(SessionId(0)), command).unwrap();
        assert!(record.rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "rows are ordered, each key once");
        self.rows.apply(&record.rows);
        record.outcome
    }

    pub(super) fn refused(&self, command: &Internal) -> FsError {
        match decide_internal(&self.rows, &self.context(SessionId(0)), command) {
            Err(Stop::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn open_session(&mut self) -> SessionId {
        let (secret, node, description) = ([1; 16], NodeId::default(), "test".into());
        match self.command(&Internal::OpenSession { secret, node, description }) {
            Outcome::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ask(&self, kind: QueryKind) -> Result<Answer, Stop> {
        let query_by_root = Query { credentials: Credentials::default(), kind };
        query(&self.rows, &self.context(self.sessions[0]), &query_by_root)
    }

    /// One sequenced operation: decided, applied, and sent again.
    pub(super) fn operate(
        &mut self,
        session: usize,
        who: &Credentials,
        kind: OperationKind,
    ) -> Result<Answer, FsError> {
        self.sequence += 1;
        let operation = Operation { credentials: who.clone(), kind };
        let mut raised = None;
        for _ in 0..3 {
            match self.send(session, &operation, raised.as_ref()) {
                Ok(Sequenced::Decided(record)) => {
                    assert!(record.rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
                    self.rows.apply(&record.rows);
                    return Ok(self.retried(session, &operation, record.answer));
                }
                Ok(Sequenced::Raise { record, to, survivors, .. }) => {
                    self.rows.apply(&record.rows);
                    raised = Some(Raised { to, servers: survivors });
                }
                Ok(Sequenced::Replayed(answer)) => panic!("a new sequence was answered with {answer:?}"),
                Err(Stop::Refused(error)) => return Err(error),
                Err(other) => panic!("{operation:?}: {other}"),
            }
        }
        panic!("{operation:?} asks for raises for ever");
    }

    fn send(
        &self,
        session: usize,
        operation: &Operation,
        raised: Option<&Raised>,
    ) -> Result<Sequenced, Stop> {
        let session = self.sessions[session];
        let context = self.context(session);
        decide_sequenced(&self.rows, &context, SlotId(3), Sequence(self.sequence), operation, raised)
    }

    /// The same request again gets the same answer, and a smaller sequence none.
    fn retried(&mut self, session: usize, operation: &Operation, first: Answer) -> Answer {
        self.clock += 1;
        match self.send(session, operation, None) {
            Ok(Sequenced::Replayed(again)) => assert_eq!(again, first, "a retry gets the first answer"),
            other => panic!("a retry is replayed, not {other:?}"),
        }
        self.clock -= 1;
        self.sequence -= 1;
        assert_eq!(self.send(session, operation, None), Err(Stop::Refused(FsError::Stale)));
        self.sequence += 1;
        first
    }

    pub(super) fn resolve(&self, index: InodeId) -> InodeId {
        self.known[index.get() as usize % self.known.len()]
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.clock += 1;
        self.toy.now = Timestamp { seconds: self.clock, nanos: 0 };
        match step {
            Step::Act { session, who, operation } => self.act(*session, who, operation),
            Step::Write { session, who, file, extents, modified, release, changes } => {
                let written = Written { extents, modified: *modified, release: *release, changes };
                self.write(*session, who, self.resolve(*file), &written);
            }
            Step::Overwrite { session, file } => self.overwrite(*session, self.resolve(*file)),
            Step::Reclaim => self.reclaim(),
            Step::DropGarbage(nth) => {
                let garbage = work::garbage(&self.rows, None, 100).unwrap();
                if let Some(key) = garbage.get(nth % garbage.len().max(1)) {
                    self.command(&Internal::DropGarbage { data: key.data, from: key.from });
                }
            }
            Step::NoteCapacity(hours) => self.note_capacity(*hours),
            Step::EndSession(index) => self.end_session(*index),
            Step::TakeLease(file) => {
                let inode = self.resolve(*file);
                if let Some(lease) = work::lease_of(&self.rows, inode).unwrap() {
                    self.command(&Internal::TakeLease { inode, lease });
                    self.toy.leases.remove(&inode.get());
                }
            }
            Step::Reconcile(nth) => self.reconcile(*nth),
            Step::Policy(act) => self.see_to_policies(act),
            Step::Replace { session, chunk, failed } => self.replace(*session, *chunk, ServerId(*failed)),
        }
    }

    fn act(&mut self, session: usize, who: &Credentials, operation: &OperationKind) {
        let operation = with_inodes(operation, |index| self.resolve(index));
        let outcome = self.operate(session, who, operation.clone());
        let fresh = match &outcome {
            Ok(Answer::Created { attr, created: true, .. } | Answer::Entry { attr, .. }) => attr.inode,
            _ => InodeId(u64::MAX),
        };
        if outcome == Err(FsError::Overloaded) {
            return;
        }
        let before = self.toy.clone();
        let expected = self.toy.apply(self.sessions[session].get(), who, &operation, fresh.get());
        assert_eq!(outcome.as_ref().err(), expected.as_ref().err(), "{operation:?} by {who:?}");
        if expected.is_err() {
            self.toy = before;
        } else if self.toy.nodes.contains_key(&fresh.get()) && !self.known.contains(&fresh) {
            self.known.push(fresh);
        }
    }

    /// What the toy says of writing to a file.
    fn writable(&self, session: usize, file: InodeId) -> Result<(), FsError> {
        match self.toy.nodes.get(&file.get()).ok_or(FsError::Stale)?.kind {
            NodeKind::Regular => {}
            NodeKind::Directory => return Err(FsError::IsDirectory),
            _ => return Err(FsError::InvalidArgument),
        }
        let holder = self.toy.leases.get(&file.get());
        if holder.is_some_and(|&holder| holder != self.sessions[session].get()) {
            return Err(FsError::LeaseHeld);
        }
        Ok(())
    }

    fn write(&mut self, session: usize, who: &Credentials, file: InodeId, written: &Written<'_>) {
        let Written { extents, modified, release, changes } = *written;
        let leased = self.operate(session, who, OperationKind::LeaseFile { inode: file, chunks: vec![] });
        assert_eq!(leased.as_ref().err(), self.writable(session, file).as_ref().err());
        let Ok(Answer::Leased { lease, .. }) = leased else { return };
        self.toy.leases.insert(file.get(), self.sessions[session].get());
        let allocated =
            self.operate(session, who, OperationKind::AllocateChunks { inode: file, count: 2 }).unwrap();
        let Answer::Chunks(chunks) = allocated else { panic!("{allocated:?}") };
        let reused = self.map_of(file).extents.first().map(|extent| extent.chunk);
        let target =
            |n: usize| if n % 3 == 2 { reused.unwrap_or(chunks[0].chunk) } else { chunks[n % 2].chunk };
        let placed = extents.iter().enumerate().map(|(n, &(offset, length))| Extent {
            offset,
            length,
            chunk: target(n / 4),
            chunk_offset: offset,
        });
        let placed: Vec<Extent> = placed.collect();
        let length = placed.last().map_or(0, |last| last.offset + last.length);
        let commit = OperationKind::Commit {
            inode: file,
            lease,
            extents: placed.clone(),
            length,
            modified,
            release,
            changes: changes.clone(),
        };
        let outcome = self.operate(session, who, commit);
        if outcome != Err(FsError::Overloaded) {
            let before = self.toy.clone();
            self.record_write(who, file, &placed, modified, release);
            let set = self.set_with_it(session, who, file, changes);
            assert_eq!(outcome.as_ref().err(), set.as_ref().err(), "{changes:?} by {who:?}");
            if set.is_err() {
                self.toy = before;
            }
        }
        let all = chunks.iter().map(|location| location.chunk).collect();
        self.operate(session, who, OperationKind::ReleaseChunks { chunks: all }).unwrap();
    }

    /// What a commit sets besides.
    fn set_with_it(
        &mut self,
        session: usize,
        who: &Credentials,
        inode: InodeId,
        changes: &AttrChanges,
    ) -> Result<(), FsError> {
        if *changes == AttrChanges::default() {
            return Ok(());
        }
        let set = OperationKind::SetAttr { inode, changes: changes.clone(), via_handle: true };
        self.toy.apply(self.sessions[session].get(), who, &set, u64::MAX).map(drop)
    }

    fn record_write(
        &mut self,
        who: &Credentials,
        file: InodeId,
        extents: &[Extent],
        modified: bool,
        release: bool,
    ) {
        let now = self.toy.now;
        let node = self.toy.nodes.get_mut(&file.get()).unwrap();
        for extent in extents {
            for byte in 0..extent.length {
                node.bytes.insert(extent.offset + byte, (extent.chunk.get(), extent.chunk_offset + byte));
            }
            node.size = node.size.max(extent.offset + extent.length);
        }
        node.ctime = now;
        if modified {
            node.mtime = now;
            node.written_by(who);
        }
        if release {
            self.toy.leases.remove(&file.get());
        }
    }

    fn overwrite(&mut self, session: usize, file: InodeId) {
        let allowed = self.writable(session, file);
        let chunks: Vec<ChunkId> = match allowed {
            Ok(()) => self.map_of(file).chunks.iter().map(|location| location.chunk).collect(),
            Err(_) => vec![],
        };
        let reconciling = |chunk: &ChunkId| work::chunk(&self.rows, *chunk).unwrap().unwrap().reconciling;
        let blocked = chunks.iter().any(reconciling);
        let lease = OperationKind::LeaseFile { inode: file, chunks };
        let outcome = self.operate(session, &Credentials::default(), lease);
        let expected = allowed.and(if blocked { Err(FsError::LeaseHeld) } else { Ok(()) });
        assert_eq!(outcome.as_ref().err(), expected.as_ref().err());
        if outcome.is_ok() {
            self.toy.leases.insert(file.get(), self.sessions[session].get());
            assert!(self.map_of(file).chunks.iter().all(|location| location.write_leased));
        }
    }

    pub(super) fn reclaim(&mut self) {
        let orphans = work::orphans(&self.rows, None, 1000).unwrap();
        for _ in 0..1000 {
            if self.command(&Internal::ReclaimOrphans { inodes: orphans.clone() }) == Outcome::More(false) {
                break;
            }
        }
        for orphan in orphans {
            assert_eq!(self.toy.links(orphan.get()), 0);
            self.toy.nodes.remove(&orphan.get());
            self.toy.leases.remove(&orphan.get());
        }
        assert!(work::orphans(&self.rows, None, 1).unwrap().is_empty());
    }

    fn note_capacity(&mut self, hours: i64) {
        self.clock += hours * 3600;
        let hour = hour_of(self.clock);
        let before = work::capacity(&self.rows).unwrap();
        self.command(&Internal::NoteCapacity { total_bytes: 90, used_bytes: hour.into() });
        let after = work::capacity(&self.rows).unwrap();
        let known = before.last().filter(|sample| sample.hour == hour);
        assert_eq!(after.last().map(|sample| sample.hour), Some(hour));
        assert!(known.is_none_or(|known| after.last() == Some(known)), "the first of an hour stays");
        let is_bounded = after.iter().all(|sample| hour - sample.hour < (CAPACITY_DAYS + 1) * 24);
        assert!(is_bounded && after.len() <= before.len() + 1);
    }

    fn end_session(&mut self, index: usize) {
        let session = self.sessions[index];
        while self.command(&Internal::EndSession { session }) == Outcome::More(true) {
            self.verify_state();
        }
        self.toy.leases.retain(|_, holder| *holder != session.get());
        let refused =
            self.operate(index, &Credentials::default(), OperationKind::ReleaseChunks { chunks: vec![] });
        assert_eq!(refused, Err(FsError::SessionExpired));
        self.sessions[index] = self.open_session();
    }

    fn reconcile(&mut self, nth: usize) {
        let waiting = work::reconciliations(&self.rows, None, 100).unwrap();
        let Some(&(chunk, _)) = waiting.get(nth) else { return };
        let before = work::chunk(&self.rows, chunk).unwrap().unwrap();
        let raising = self.command(&Internal::BeginRaise { chunk, from: before.version });
        let Outcome::Raising { to, servers, .. } = raising else { panic!("{raising:?}") };
        assert!(to > before.raising && servers == before.servers);
        self.verify_state();
        let kept = servers[..servers.len().div_ceil(2)].to_vec();
        self.command(&Internal::FinishReconcile { chunk, version: to, servers: kept.clone() });
        let after = work::chunk(&self.rows, chunk).unwrap().unwrap();
        assert!(after.version == to && after.servers == kept && !after.reconciling);
        self.verify_state();
        if nth.is_multiple_of(2) {
            self.repair(chunk);
        }
    }

    /// New replicas, as many as are wanted. Those there are stay, also when there are more: to trim them is another step.
    fn repair(&mut self, chunk: ChunkId) {
        let before = work::chunk(&self.rows, chunk).unwrap().unwrap();
        let raising = self.command(&Internal::BeginRaise { chunk, from: before.version });
        let Outcome::Raising { to, .. } = raising else { panic!("{raising:?}") };
        let servers: Vec<ServerId> = before.servers.iter().copied().chain((1..=5).map(ServerId)).collect();
        self.command(&Internal::FinishReconcile { chunk, version: to, servers });
        let after = work::chunk(&self.rows, chunk).unwrap().unwrap();
        assert!(after.servers.starts_with(&before.servers));
        assert_eq!(after.servers.len(), before.servers.len().max(usize::from(after.wanted)));
    }

    fn replace(&mut self, session: usize, nth: usize, failed: ServerId) {
        let chunks = work::chunks(&self.rows, None, 100).unwrap();
        let Some(before) = chunks.get(nth) else { return };
        let request = OperationKind::ReplaceReplicas {
            chunk: before.chunk,
            version: before.version,
            failed: vec![failed],
        };
        if failed == ServerId(0) {
            return self.begin_and_die(session, request);
        }
        match self.operate(session, &Credentials::default(), request) {
            Ok(Answer::Chunks(locations)) => {
                assert!(locations[0].version > before.version);
                assert!(locations[0].replicas.iter().all(|replica| replica.server != failed));
                assert!(locations[0].replicas.len() >= usize::from(before.minimum));
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(matches!(error, FsError::Stale | FsError::Unavailable(_)), "{error}"),
        }
    }

    /// The leader ends between the two phases of a replacement: the version stays begun.
    fn begin_and_die(&mut self, session: usize, request: OperationKind) {
        self.sequence += 1;
        let operation = Operation { credentials: Credentials::default(), kind: request };
        if let Ok(Sequenced::Raise { record, .. }) = self.send(session, &operation, None) {
            self.rows.apply(&record.rows);
        }
    }

    pub(super) fn map_of(&self, file: InodeId) -> Map {
        match self.ask(QueryKind::Map { inode: file, offset: 0, length: u64::MAX }).unwrap() {
            Answer::Map(map) => map,
            other => panic!("{other:?}"),
        }
    }

    /// Both checks find nothing: the one through the namespace's codecs, and the one with a decoder of its own (I32).
    pub(super) fn verify_state(&self) {
        let findings = check(&self.rows).unwrap();
        assert!(findings.is_empty(), "{findings:#?}");
        let findings = fsck::check(&self.rows, &|| true).unwrap().findings;
        assert_eq!(findings.list(), []);
    }

    fn verify(&self) {
        self.verify_state();
        for (&id, node) in &self.toy.nodes {
            self.verify_attributes(InodeId(id), node);
            match node.kind {
                NodeKind::Directory => self.verify_listing(InodeId(id), node),
                NodeKind::Regular => self.verify_map(InodeId(id), node),
                NodeKind::Symlink => {
                    assert_eq!(
                        self.ask(QueryKind::ReadLink { inode: InodeId(id) }),
                        bytes_answer(&node.target)
                    );
                }
                _ => {}
            }
        }
        let leased = self.known.iter().filter_map(|&inode| Some((inode.get(), self.holder(inode)?)));
        assert_eq!(leased.collect::<BTreeMap<_, _>>(), self.toy.leases);
        let gone = self.known.iter().filter(|inode| !self.toy.nodes.contains_key(&inode.get()));
        for &inode in gone {
            assert_eq!(self.ask(QueryKind::GetAttr { inode }), Err(Stop::Refused(FsError::Stale)));
        }
    }

    fn holder(&self, inode: InodeId) -> Option<u64> {
        work::lease_of(&self.rows, inode).unwrap().map(|lease| lease.session.get())
    }

    fn verify_attributes(&self, inode: InodeId, node: &Node) {
        let Answer::Attr(attr) = self.ask(QueryKind::GetAttr { inode }).unwrap() else { panic!() };
        let size = if node.kind == NodeKind::Directory { node.names.len() as u64 } else { node.size };
        let seen = (attr.kind, attr.mode, attr.uid, attr.gid, attr.size, attr.rdev, attr.links);
        let links = self.toy.links(inode.get());
        assert_eq!(seen, (node.kind, node.mode, node.uid, node.gid, size, node.rdev, links), "{inode}");
        assert_eq!(
            (attr.atime, attr.mtime, attr.ctime),
            (node.atime, node.mtime, node.ctime),
            "times of {inode}"
        );
        assert_eq!(attr.policy, node.policy, "policy of {inode}");
        let names: Vec<u8> = node.xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect();
        assert_eq!(self.ask(QueryKind::ListXattr { inode }), bytes_answer(&names));
        for (name, value) in &node.xattrs {
            let value_kept = self.ask(QueryKind::GetXattr { inode, name: name.clone().into() });
            assert_eq!(value_kept, bytes_answer(value));
        }
    }

    fn verify_listing(&self, inode: InodeId, node: &Node) {
        let mut listed = BTreeMap::new();
        let (mut after, mut end) = (0, false);
        while !end {
            let page = self.ask(QueryKind::ReadDir { inode, after, limit: 2, with_attrs: true }).unwrap();
            let Answer::Directory { entries, end: last } = page else { panic!("{page:?}") };
            for entry in entries {
                assert!(entry.cookie > after);
                after = entry.cookie;
                assert_eq!(entry.attr.map(|attr| attr.inode), Some(entry.inode));
                assert!(listed.insert(entry.name.to_vec(), entry.inode.get()).is_none());
            }
            end = last;
        }
        assert_eq!(listed, node.names);
        self.verify_names(inode, node);
        self.verify_neighbours(inode, node);
    }

    fn verify_names(&self, inode: InodeId, node: &Node) {
        let mut listed = BTreeMap::new();
        let (mut after, mut end) = (0, false);
        while !end {
            let page = self.ask(QueryKind::ReadDir { inode, after, limit: 2, with_attrs: false }).unwrap();
            let Answer::Names(page) = page else { panic!("{page:?}") };
            for entry in page.entries().unwrap() {
                assert!(entry.cookie > after);
                after = entry.cookie;
                assert!(listed.insert(entry.name.to_vec(), entry.inode.get()).is_none());
            }
            end = page.end;
        }
        assert_eq!(listed, node.names);
    }

    /// What comes ahead is what would be answered if it were asked for.
    fn verify_neighbours(&self, parent: InodeId, node: &Node) {
        let mut listed = BTreeMap::new();
        let (mut after, mut end) = (None, false);
        while !end {
            let kind = QueryKind::Neighbours { parent, after: after.clone(), limit: 2, with_maps: true };
            let page = self.ask(kind).unwrap();
            let Answer::Directory { entries, end: last } = page else { panic!("{page:?}") };
            for entry in entries {
                let name = Name::new(entry.name.clone()).unwrap();
                let alone = self.ask(QueryKind::Lookup { parent, name: name.clone() }).unwrap();
                let (attr, map) = (*entry.attr.unwrap(), entry.map.map(|map| *map));
                assert_eq!(Answer::Entry { attr, map }, alone);
                listed.insert(entry.name.to_vec(), entry.inode.get());
                after = Some(name);
            }
            end = last;
        }
        assert_eq!(listed, node.names);
        let after = Some(Name::new("a name that is not there").unwrap());
        let stranger = QueryKind::Neighbours { parent, after, limit: 2, with_maps: false };
        assert_eq!(self.ask(stranger), Err(Stop::Refused(FsError::NotFound)));
    }

    fn verify_map(&self, inode: InodeId, node: &Node) {
        let mut bytes = BTreeMap::new();
        for extent in self.map_of(inode).extents {
            for byte in 0..extent.length {
                bytes.insert(extent.offset + byte, (extent.chunk.get(), extent.chunk_offset + byte));
            }
        }
        assert_eq!(bytes, node.bytes, "map of {inode}");
    }

    /// Whatever happened, all of it can be cleaned away: maps mend, and nothing is left of what is removed.
    fn wind_up(&mut self) {
        self.end_session(0);
        self.end_session(1);
        self.drain_garbage();
        self.walk_through();
        for &id in self.toy.nodes.keys() {
            let row = Draft::new(&self.rows).get(&InodeKey(InodeId(id))).unwrap().unwrap();
            if row.links > 0 {
                assert_eq!(row.pieces.len(), 1, "the map of {id} mends");
            }
            assert_eq!(row.mapped_bytes, self.toy.nodes[&id].bytes.len() as u64);
        }
        self.verify();
        self.remove_below(InodeId(ROOT));
        self.reclaim();
        self.drain_garbage();
        self.verify();
        assert_eq!(work::totals(&self.rows).unwrap(), work::Totals { inodes: 1, chunks: 0 });
        self.give_back_and_remove_policies();
    }

    pub(super) fn drain_garbage(&mut self) {
        for _ in 0..10_000 {
            let Some(key) = work::garbage(&self.rows, None, 1).unwrap().pop() else { return };
            self.command(&Internal::DropGarbage { data: key.data, from: key.from });
            self.verify_state();
        }
        panic!("garbage never ends");
    }

    fn remove_below(&mut self, parent: InodeId) {
        for (raw, child) in self.toy.nodes[&parent.get()].names.clone() {
            let name = crate::namespace::name::Name::new(raw).unwrap();
            let operation = if self.toy.nodes[&child].kind == NodeKind::Directory {
                self.remove_below(InodeId(child));
                OperationKind::Rmdir { parent, name }
            } else {
                OperationKind::Unlink { parent, name }
            };
            self.act_resolved(operation);
        }
    }

    fn act_resolved(&mut self, operation: OperationKind) {
        let root = Credentials::default();
        self.toy.now = Timestamp { seconds: self.clock, nanos: 0 };
        self.operate(0, &root, operation.clone()).unwrap();
        self.toy.apply(self.sessions[0].get(), &root, &operation, 0).unwrap();
    }
}

fn bytes_answer(bytes: &[u8]) -> Result<Answer, Stop> {
    Ok(Answer::Bytes(bytes.to_vec().into()))
}

/// The operation with its inodes replaced.
fn with_inodes(operation: &OperationKind, of: impl Fn(InodeId) -> InodeId) -> OperationKind {
    use OperationKind as Op;
    let mut operation = operation.clone();
    match &mut operation {
        Op::Create { parent, .. }
        | Op::Mkdir { parent, .. }
        | Op::Mknod { parent, .. }
        | Op::Symlink { parent, .. }
        | Op::Unlink { parent, .. }
        | Op::Rmdir { parent, .. } => *parent = of(*parent),
        Op::Link { inode, new_parent, .. } => (*inode, *new_parent) = (of(*inode), of(*new_parent)),
        Op::Rename { parent, new_parent, .. } => (*parent, *new_parent) = (of(*parent), of(*new_parent)),
        Op::SetAttr { inode, .. }
        | Op::Allocate { inode, .. }
        | Op::SetXattr { inode, .. }
        | Op::RemoveXattr { inode, .. } => *inode = of(*inode),
        other => panic!("{other:?} is not drawn"),
    }
    operation
}
