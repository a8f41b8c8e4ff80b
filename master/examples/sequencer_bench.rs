//! Creates a second through sequencer, journal and RocksDB, without any network:
//! `cargo run --release -p cairn-master --example sequencer_bench -- DIRECTORY [SECONDS]`
//! and how memory and a restart after a kill behave: `fill FILES` creates so many files, `unflushed OPERATIONS` more of them
//! behind a checkpoint, both end as a kill does; `restart` starts on what they left and reads it all.

#![allow(clippy::print_stdout, missing_docs, reason = "a tool for people")]

use cairn_core::cluster::ClusterView;
use cairn_core::error::FsError;
use cairn_core::ids::{ClusterId, InodeId, NodeId, Sequence, SessionId, SlotId};
use cairn_core::journal::members::Members;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, Operation, OperationKind, Query, QueryKind};
use cairn_env::Env;
use cairn_env::spawn::Owner;
use cairn_master::sequencer::{Leadership, SequencerHandle, Settings, Submitted, start};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;

/// As in the `cairn` binary, for Rust and for RocksDB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Files in one directory.
const DIRECTORY_FILES: u64 = 10_000;

struct Member {
    handle: SequencerHandle,
    owner: Owner,
    _view: watch::Sender<Arc<ClusterView>>,
}

async fn open(env: &Env, directory: &Path) -> Member {
    env.disk.create_dir_all(directory).expect("the directory can be made");
    let (view, receiver) = watch::channel(Arc::new(ClusterView::default()));
    let settings = Settings::new(directory.to_owned(), 1, NodeId(uuid::Uuid::from_u128(1)));
    let (handle, owner) = start(env, settings, receiver, async { Ok(Members::default()) })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let leads = |now: &Leadership| matches!(now, Leadership::Leads { .. });
    handle.leadership().wait_for(leads).await.expect("it leads");
    Member { handle, owner, _view: view }
}

async fn session(handle: &SequencerHandle) -> SessionId {
    let cluster = ClusterId(uuid::Uuid::from_u128(9));
    let format = Internal::Format { cluster, default_replicas: 2, feature_level: 1 };
    match handle.internal(format).await {
        Ok(_) | Err(FsError::Exists) => {}
        Err(error) => panic!("{error}"),
    }
    let open =
        Internal::OpenSession { secret: [1; 16], node: NodeId::default(), description: "bench".into() };
    match handle.internal(open).await {
        Ok(Outcome::Session(session)) => session,
        other => panic!("{other:?}"),
    }
}

fn name(text: String) -> Name {
    Name::new(text.into_bytes()).expect("a plain name")
}

async fn operate(handle: &SequencerHandle, at: (SessionId, u32, u64), kind: OperationKind) -> Answer {
    let operation = Operation { credentials: Credentials::default(), kind };
    loop {
        let (session, slot, sequence) = at;
        match handle.operate(session, SlotId(slot), Sequence(sequence), operation.clone(), None).await {
            Ok(Submitted::Answered(answer)) => return answer,
            Err(FsError::Overloaded) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => panic!("{other:?}"),
        }
    }
}

async fn mkdir(handle: &SequencerHandle, at: (SessionId, u32, u64), text: String) -> InodeId {
    let kind = OperationKind::Mkdir { parent: InodeId::ROOT, name: name(text), mode: 0o755 };
    match operate(handle, at, kind).await {
        Answer::Entry { attr, .. } => attr.inode,
        other => panic!("{other:?}"),
    }
}

/// One task: creates files in directories of its own until `until`, or `files` of them.
async fn create_files(handle: SequencerHandle, label: String, until: Duration, files: u64, env: Env) -> u64 {
    let session = session(&handle).await;
    let (mut sequence, mut made) = (0, 0);
    let mut parent = InodeId::ROOT;
    while made < files && env.clock.now().0 < until {
        sequence += 1;
        if made % DIRECTORY_FILES == 0 {
            parent = mkdir(&handle, (session, 0, sequence), format!("{label}-{made}")).await;
            sequence += 1;
        }
        let name = name(format!("file-{made:07}.txt"));
        let kind = OperationKind::Mknod {
            parent,
            name,
            kind: cairn_core::namespace::attr::NodeKind::Regular,
            mode: 0o644,
            rdev: 0,
        };
        operate(&handle, (session, 0, sequence), kind).await;
        made += 1;
    }
    made
}

async fn measure(env: &Env, member: &Member, tasks: u32, seconds: u64) {
    let metrics = member.handle.metrics();
    let before = (
        metrics.fdatasyncs.load(Relaxed),
        metrics.journal_nanos.load(Relaxed),
        metrics.apply_nanos.load(Relaxed),
    );
    let bytes = metrics.journal_bytes.load(Relaxed);
    let cpu = sequencer_cpu(env);
    let loads = metrics.loads.load(Relaxed);
    let started = env.clock.now().0;
    let until = started + Duration::from_secs(seconds);
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let label = format!("t{tasks}-{task}-{}", started.as_nanos());
        running.spawn(create_files(member.handle.clone(), label, until, u64::MAX, env.clone()));
    }
    let mut made = 0;
    while let Some(done) = running.join_next().await {
        made += done.expect("no task panics");
    }
    let spent = (env.clock.now().0 - started).as_secs_f64();
    let syncs = metrics.fdatasyncs.load(Relaxed) - before.0;
    println!(
        "{tasks:3} tasks: {:8.0} creates/s  {syncs} fdatasyncs  {:.1} creates each  journal {:.1} µs/sync  apply {:.2} µs/op  {:.1} µs of CPU/op  {:.0} B/op  {} loads",
        made as f64 / spent,
        made as f64 / syncs as f64,
        (metrics.journal_nanos.load(Relaxed) - before.1) as f64 / 1000.0 / syncs as f64,
        (metrics.apply_nanos.load(Relaxed) - before.2) as f64 / 1000.0 / made as f64,
        (sequencer_cpu(env) - cpu).as_secs_f64() * 1e6 / made as f64,
        (metrics.journal_bytes.load(Relaxed) - bytes) as f64 / made as f64,
        metrics.loads.load(Relaxed) - loads,
    );
}

fn read_proc(env: &Env, path: &Path) -> String {
    let file = env.disk.open(path, cairn_env::disk::OpenMode::Read).expect("procfs");
    let mut bytes = vec![0; 8192];
    let read = file.read_at(&mut bytes, 0).expect("procfs");
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// CPU time of the sequencer's thread: on a busy machine the only figure that repeats.
fn sequencer_cpu(env: &Env) -> Duration {
    let tasks = Path::new("/proc/self/task");
    for task in env.disk.list(tasks).expect("procfs") {
        let path = tasks.join(&task.name);
        if read_proc(env, &path.join("comm")).trim() == "sequencer" {
            let nanos = read_proc(env, &path.join("schedstat"));
            let nanos = nanos.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            return Duration::from_nanos(nanos.expect("a number"));
        }
    }
    Duration::ZERO
}

fn resident_mib(env: &Env) -> u64 {
    let text = read_proc(env, Path::new("/proc/self/status"));
    let line = text.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
}

/// Reads every directory with attributes, as `find` with stat does.
async fn find(handle: &SequencerHandle, root: InodeId) -> u64 {
    let mut found = 0;
    let mut todo = vec![root];
    while let Some(directory) = todo.pop() {
        let mut after = 0;
        loop {
            let kind = QueryKind::ReadDir { inode: directory, after, limit: 1024, with_attrs: true };
            let question = Query { credentials: Credentials::default(), kind };
            let page = handle.reader().query(SessionId(0), &question).await;
            let Ok(Answer::Directory { entries, end }) = page else { panic!("{page:?}") };
            for entry in &entries {
                found += 1;
                after = entry.cookie;
                if entry.kind == cairn_core::namespace::attr::NodeKind::Directory {
                    todo.push(entry.inode);
                }
            }
            if end {
                break;
            }
        }
    }
    found
}

/// Creates `files` files by 64 tasks.
async fn create_many(env: &Env, member: &Member, files: u64) {
    let started = env.clock.now().0;
    let mut running = tokio::task::JoinSet::new();
    for task in 0..64 {
        let label = format!("f{task}-{}", started.as_nanos());
        let share = files / 64 + u64::from(task < files % 64);
        running.spawn(create_files(member.handle.clone(), label, Duration::MAX, share, env.clone()));
    }
    while let Some(done) = running.join_next().await {
        done.expect("no task panics");
    }
}

async fn fill(env: &Env, directory: &Path, files: u64) {
    let member = open(env, directory).await;
    let started = env.clock.now().0;
    create_many(env, &member, files).await;
    let spent = (env.clock.now().0 - started).as_secs_f64();
    let metrics = member.handle.metrics();
    println!(
        "{files} files in {spent:.1} s, {} loads, {} checkpoints; resident {} MiB",
        metrics.loads.load(Relaxed),
        metrics.checkpoints.load(Relaxed),
        resident_mib(env)
    );
    // As a kill does: nothing is flushed.
    std::process::exit(0);
}

/// Works until a checkpoint has flushed everything, then creates `operations` files more.
async fn unflushed(env: &Env, directory: &Path, operations: u64) {
    let member = open(env, directory).await;
    let checkpoints = || member.handle.metrics().checkpoints.load(Relaxed);
    let before = checkpoints();
    let mut files = 0;
    while checkpoints() == before {
        create_many(env, &member, 6400).await;
        files += 6400;
    }
    create_many(env, &member, operations).await;
    println!("{files} files until a checkpoint, then {operations} more");
    std::process::exit(0);
}

async fn restart(env: &Env, directory: &Path) {
    let started = env.clock.now().0;
    let member = open(env, directory).await;
    let opened = env.clock.now().0 - started;
    let replayed = member.handle.metrics().applied.load(Relaxed);
    println!(
        "leads after {:.2} s; {replayed} entries replayed; resident {} MiB",
        opened.as_secs_f64(),
        resident_mib(env)
    );
    let started = env.clock.now().0;
    let found = find(&member.handle, InodeId::ROOT).await;
    let spent = (env.clock.now().0 - started).as_secs_f64();
    println!(
        "{found} entries found in {spent:.1} s; resident {} MiB, of which the state's cache and unflushed rows {} MiB",
        resident_mib(env),
        member.handle.reader().memory_bytes() >> 20
    );
    stop(member).await;
}

async fn stop(mut member: Member) {
    member.handle.stop().await;
    member.owner.ended().await.expect("an orderly end");
}

#[tokio::main]
async fn main() {
    rustix::thread::disable_transparent_huge_pages(true).expect("as `cairn master` does");
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        println!("usage: sequencer_bench DIRECTORY [SECONDS | fill FILES | unflushed OPERATIONS | restart]");
        return;
    };
    let (env, directory) = (Env::real(), Path::new(&directory));
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("fill"), Some(files)) => fill(&env, directory, files.parse().expect("a number")).await,
        (Some("unflushed"), Some(operations)) => {
            unflushed(&env, directory, operations.parse().expect("a number")).await;
        }
        (Some("restart"), _) => restart(&env, directory).await,
        (seconds, _) => {
            let seconds = seconds.map_or(3, |seconds| seconds.parse().expect("a number"));
            let member = open(&env, directory).await;
            for tasks in [1, 1, 4, 16, 64, 256] {
                measure(&env, &member, tasks, seconds).await;
            }
            stop(member).await;
        }
    }
}
