//! The sequencer with the real rules, on a simulated disk and on RocksDB.

use super::handle::Request;
use super::{GroupView, Leadership, Reader, Settings, StartError, StateStore, Submitted, Tuning, start};
use crate::raft::Follower;
use crate::sequencer::SequencerHandle;
use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::fsck::Interrupted;
use cairn_core::ids::{ClusterId, InodeId, LogIndex, NodeId, Sequence, SessionId, SlotId};
use cairn_core::journal::members::Members;
use cairn_core::limits::CHECKPOINT_REPLAY_ENTRIES;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::{Outcome, RowError, Rows};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, Operation, OperationKind, Query, QueryKind};
use cairn_env::Env;
use cairn_env::disk::Disk;
use cairn_env::disk_sim::SimDisk;
use cairn_env::spawn::Owner;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const TUNING: Tuning = Tuning { segment_bytes: 1 << 20, keep_bytes: 0, checkpoint_bytes: 1 << 20 };

struct Member {
    handle: SequencerHandle,
    owner: Owner,
    session: SessionId,
    _view: watch::Sender<Arc<ClusterView>>,
}

fn settings(data_dir: PathBuf, store: StateStore) -> Settings {
    Settings { store, tuning: TUNING, ..Settings::new(data_dir, 1, NodeId(uuid::Uuid::from_u128(4))) }
}

fn simulated(disk: &SimDisk) -> (Env, Settings) {
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let env = Env { disk: Arc::new(disk.clone()), ..Env::real() };
    (env, settings("/data".into(), StateStore::Memory))
}

async fn try_open((env, settings): (Env, Settings)) -> Result<Member, StartError> {
    let (view, receiver) = watch::channel(Arc::new(ClusterView::default()));
    let (handle, owner) = start(&env, settings, receiver, async { Ok(Members::default()) }).await?;
    let leads = |now: &Leadership| matches!(now, Leadership::Leads { .. });
    handle.leadership().wait_for(leads).await.unwrap();
    Ok(Member { handle, owner, session: SessionId(0), _view: view })
}

async fn open(parts: (Env, Settings)) -> Member {
    try_open(parts).await.unwrap()
}

/// A new cluster with one session.
async fn found(parts: (Env, Settings)) -> Member {
    let mut member = open(parts).await;
    let cluster = ClusterId(uuid::Uuid::from_u128(9));
    let format = Internal::Format { cluster, default_replicas: 1, feature_level: 1 };
    assert_eq!(member.handle.internal(format.clone()).await, Ok(Outcome::Nothing));
    assert_eq!(member.handle.internal(format).await, Err(FsError::Exists));
    let session =
        Internal::OpenSession { secret: [1; 16], node: NodeId::default(), description: "test".into() };
    let Ok(Outcome::Session(session)) = member.handle.internal(session).await else { panic!("no session") };
    member.session = session;
    member
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

fn mkdir(text: &str) -> OperationKind {
    OperationKind::Mkdir { parent: InodeId::ROOT, name: name(text), mode: 0o755 }
}

impl Member {
    async fn operate(&self, slot: u32, sequence: u64, kind: OperationKind) -> Result<Answer, FsError> {
        let operation = Operation { credentials: Credentials::default(), kind };
        let submitted =
            self.handle.operate(self.session, SlotId(slot), Sequence(sequence), operation, None).await?;
        match submitted {
            Submitted::Answered(answer) => Ok(answer),
            Submitted::Raise(order) => panic!("{order:?}"),
        }
    }

    async fn exists(&self, text: &str) -> bool {
        let kind = QueryKind::Lookup { parent: InodeId::ROOT, name: name(text) };
        let question = Query { credentials: Credentials::default(), kind };
        match self.handle.reader().query(self.session, &question).await {
            Ok(Answer::Entry { .. }) => true,
            Err(FsError::NotFound) => false,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(mut self) {
        self.handle.stop().await;
        self.owner.ended().await.unwrap();
        assert_eq!(*self.handle.leadership().borrow(), Leadership::Stopped);
        assert_eq!(self.operate(0, 1 << 40, mkdir("late")).await, Err(FsError::NotLeader));
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_every_crash_and_a_retry_gets_the_first_answer() {
    let disk = SimDisk::new();
    let member = found(simulated(&disk)).await;
    for round in 1..=30u64 {
        let first = member.operate(3, round, mkdir(&format!("d{round}"))).await.unwrap();
        for seed in [round, round + 1000] {
            let image = disk.crash_image(seed);
            let mut again = open(simulated(&image)).await;
            again.session = member.session;
            for earlier in 1..=round {
                assert!(again.exists(&format!("d{earlier}")).await, "round {round}: d{earlier} is lost");
            }
            let retry = again.operate(3, round, mkdir(&format!("d{round}"))).await;
            assert_eq!(retry, Ok(first.clone()), "the first answer");
            assert_eq!(again.operate(4, 1, mkdir(&format!("d{round}"))).await, Err(FsError::Exists));
            assert_eq!(again.handle.metrics().proposals.load(Relaxed), 0, "a retry writes nothing");
        }
    }
}

#[tokio::test]
async fn one_fdatasync_carries_what_is_queued() {
    let disk = SimDisk::new();
    let member = Arc::new(found(simulated(&disk)).await);
    let before = member.handle.metrics().fdatasyncs.load(Relaxed);
    let mut tasks = tokio::task::JoinSet::new();
    for slot in 0..64u32 {
        let member = Arc::clone(&member);
        tasks.spawn(async move { member.operate(slot, 1, mkdir(&format!("d{slot}"))).await });
    }
    while let Some(done) = tasks.join_next().await {
        assert!(matches!(done.unwrap(), Ok(Answer::Entry { .. })));
    }
    let metrics = member.handle.metrics();
    assert!(metrics.proposals.load(Relaxed) >= 64);
    // On this runtime all 64 are queued before the owner's thread has decided the first few.
    let syncs = metrics.fdatasyncs.load(Relaxed) - before;
    assert!(syncs <= 40, "{syncs} syncs for 64 operations");
    assert_eq!(metrics.fdatasyncs.load(Relaxed), metrics.batches.load(Relaxed), "one each");
}

#[tokio::test]
async fn a_duplicate_in_flight_gets_the_same_answer() {
    let disk = SimDisk::new();
    let member = found(simulated(&disk)).await;
    let (first, second) =
        tokio::join!(member.operate(0, 1, mkdir("twice")), member.operate(0, 1, mkdir("twice")));
    assert_eq!(first, second);
    assert!(first.is_ok());
    assert_eq!(member.operate(1, 1, mkdir("twice")).await, Err(FsError::Exists));
    assert_eq!(member.operate(0, 2, mkdir("other")).await.map(drop), Ok(()));
    assert_eq!(member.operate(0, 1, mkdir("twice")).await, Err(FsError::Stale), "an older sequence");
}

#[tokio::test]
async fn a_failed_sync_stops_the_member_before_it_answers() {
    let disk = SimDisk::new();
    let mut member = found(simulated(&disk)).await;
    // The segment of the journal is known by the name under which it was made; the next one is being made just now.
    disk.fail_sync("spare-1", 1);
    assert_eq!(member.operate(0, 1, mkdir("lost")).await, Err(FsError::NotLeader));
    member.owner.ended().await.unwrap();
    assert_eq!(*member.handle.leadership().borrow(), Leadership::Stopped);
    let kind = QueryKind::GetAttr { inode: InodeId::ROOT };
    let question = Query { credentials: Credentials::default(), kind };
    assert_eq!(member.handle.reader().query(member.session, &question).await, Err(FsError::NotLeader));
}

#[tokio::test]
async fn checkpoints_trim_the_journal_and_a_restart_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let parts = || (Env::real(), settings(directory.path().into(), StateStore::Rocks));
    let mut member = found(parts()).await;
    let target = bytes::Bytes::from(vec![b'x'; 4000]);
    let mut sequence = 0;
    while member.handle.metrics().checkpoints.load(Relaxed) < 2 {
        sequence += 1;
        let link = OperationKind::Symlink {
            parent: InodeId::ROOT,
            name: name(&format!("link{sequence}")),
            target: target.clone(),
        };
        member.operate(0, sequence, link).await.unwrap();
        assert!(sequence < 20_000, "no checkpoint");
    }
    let session = member.session;
    member.stop().await;
    let names: Vec<_> = Env::real().disk.list(&directory.path().join("checkpoints")).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    let journal = Env::real().disk.list(&directory.path().join("journal")).unwrap();
    let first = journal.first().unwrap().name.to_string_lossy().into_owned();
    assert_ne!(first, "0000000000000001.journal", "the journal was not trimmed");

    member = open(parts()).await;
    member.session = session;
    let unlink =
        |number: u64| OperationKind::Unlink { parent: InodeId::ROOT, name: name(&format!("link{number}")) };
    for number in 1..=sequence {
        member.operate(0, sequence + number, unlink(number)).await.unwrap();
    }
    assert!(member.handle.metrics().loads.load(Relaxed) > 0, "cold rows are loaded by other threads");
    assert!(!member.exists("link1").await);
    member.stop().await;
}

#[tokio::test]
async fn state_and_journal_of_different_histories_are_refused() {
    let disk = SimDisk::new();
    let member = found(simulated(&disk)).await;
    member.operate(0, 1, mkdir("a")).await.unwrap();
    member.stop().await;
    disk.remove_dir_all(Path::new("/data/journal")).unwrap();
    let error = try_open(simulated(&disk)).await.err().unwrap().to_string();
    assert!(error.contains("/data") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_growth_and_lets_deletes_go_on() {
    let disk = SimDisk::new();
    let member = found(simulated(&disk)).await;
    member.operate(0, 1, mkdir("a")).await.unwrap();
    disk.set_capacity(200 << 20);
    let metrics = member.handle.metrics();
    while metrics.disk_low.load(Relaxed) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(member.operate(1, 1, mkdir("b")).await, Err(FsError::NoSpace));
    let rmdir = OperationKind::Rmdir { parent: InodeId::ROOT, name: name("a") };
    assert_eq!(member.operate(2, 1, rmdir).await, Ok(Answer::Done));
    disk.set_capacity(u64::MAX);
    while metrics.disk_low.load(Relaxed) == 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(member.operate(3, 1, mkdir("b")).await.is_ok());
}

/// Waits until a checkpoint is made, which must come without anything more being written.
async fn checkpoint_comes(member: &Member) {
    let metrics = member.handle.metrics();
    for _ in 0..500 {
        if metrics.checkpoints.load(Relaxed) > 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no checkpoint within 10 s");
}

#[tokio::test]
async fn a_long_replay_is_followed_by_a_checkpoint() {
    let disk = SimDisk::new();
    let parts = |disk: &SimDisk| {
        let (env, settings) = simulated(disk);
        let tuning = Tuning { segment_bytes: 16 << 20, ..Tuning::default() };
        (env, Settings { tuning, ..settings })
    };
    let member = found(parts(&disk)).await;
    for sequence in 1..=CHECKPOINT_REPLAY_ENTRIES {
        member.operate(0, sequence, mkdir(&format!("d{sequence}"))).await.unwrap();
    }
    assert_eq!(member.handle.metrics().checkpoints.load(Relaxed), 0);
    let mut again = open(parts(&disk.crash_image(7))).await;
    again.session = member.session;
    assert!(again.handle.metrics().applied.load(Relaxed) >= CHECKPOINT_REPLAY_ENTRIES, "replayed");
    checkpoint_comes(&again).await;
    assert!(again.exists(&format!("d{CHECKPOINT_REPLAY_ENTRIES}")).await);
}

#[tokio::test]
async fn journal_of_runs_that_were_killed_counts_for_the_next_checkpoint() {
    let mut disk = SimDisk::new();
    let session = found(simulated(&disk)).await.session;
    let target = bytes::Bytes::from(vec![b'x'; 4000]);
    let mut sequence = 0;
    for run in 1..=4 {
        disk = disk.crash_image(run);
        let mut member = open(simulated(&disk)).await;
        member.session = session;
        // Half of what makes a checkpoint due within one run.
        for _ in 0..TUNING.checkpoint_bytes / 8192 {
            sequence += 1;
            let (parent, name) = (InodeId::ROOT, name(&format!("link{sequence}")));
            let link = OperationKind::Symlink { parent, name, target: target.clone() };
            member.operate(0, sequence, link).await.unwrap();
        }
        if run == 4 {
            checkpoint_comes(&member).await;
        }
    }
}

#[tokio::test]
async fn a_check_that_meets_damage_gives_the_lead_up_where_another_can_take_it() {
    let member = found(simulated(&SimDisk::new())).await;
    let damaged = |_: &dyn Rows| Err::<(), _>(Interrupted::Store(RowError::Failed("bad block".to_owned())));
    let alone = member.handle.reader();
    assert!(matches!(alone.examine(damaged).await, Err(FsError::Io(detail)) if detail.contains("bad block")));
    let (failures, mut told) = mpsc::channel(1);
    // The group grows after the start: first by one that only follows.
    let view = |learner| {
        let (id, matched) = (2, LogIndex(0));
        let followers = vec![Follower { id, matched, active: true, learner }];
        Arc::new(GroupView { followers, ..GroupView::default() })
    };
    let (shows, group) = watch::channel(view(true));
    let of_group = Reader { group, failures, ..alone };
    assert!(matches!(of_group.examine(damaged).await, Err(FsError::Io(_))));
    shows.send_replace(view(false));
    assert_eq!(of_group.examine(damaged).await, Err(FsError::NotLeader));
    assert!(matches!(told.recv().await, Some(Request::StateFailed(detail)) if detail == "bad block"));
    assert_eq!(of_group.examine(|_| Err::<(), _>(Interrupted::Abandoned)).await, Err(FsError::Stale));
    member.stop().await;
}

/// What other members say is read on the sequencer's thread: requests without end must not keep that from happening.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn those_beside_a_busy_sequencer_get_on() {
    let member = found(simulated(&SimDisk::new())).await;
    let going = Arc::new(AtomicBool::new(true));
    let flood = |slot: u32| {
        let (going, handle, session) = (going.clone(), member.handle.clone(), member.session);
        let requests = move || {
            let operation = Operation { credentials: Credentials::default(), kind: mkdir("there") };
            for sequence in 1.. {
                handle.submit((session, SlotId(slot), Sequence(sequence)), operation.clone(), drop);
                if !going.load(Relaxed) {
                    break;
                }
            }
        };
        tokio::spawn(async { Env::real().spawn.blocking(requests).await.unwrap() })
    };
    let floods = [flood(1), flood(2)];
    let mut steps = 0;
    while steps < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let step = member.owner.runtime().spawn(async {});
        if tokio::time::timeout(Duration::from_secs(5), step).await.is_err() {
            break;
        }
        steps += 1;
    }
    going.store(false, Relaxed);
    for flood in floods {
        flood.await.unwrap();
    }
    assert_eq!(steps, 50, "kept from its thread by requests");
    member.stop().await;
}
