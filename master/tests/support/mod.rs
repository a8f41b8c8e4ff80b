//! A master in this process, and the two kinds of peers that talk to it.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it"
)]

use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, ClusterId, InodeId, LeaseNumber, NodeId, ServerId};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, Operation, OperationKind, Query, QueryKind};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_env::net::stream::WriteHalf;
use cairn_master::{Master, MasterConfig};
use cairn_proto::hello::hello;
use cairn_proto::session_conn::{self, MessageReader, SESSION};
use cairn_proto::v1::chunk_server_message::Message as Said;
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::cluster_client::ClusterClient;
use cairn_proto::v1::master_command::Message as Command;
use cairn_proto::v1::master_message::Message as Told;
use cairn_proto::v1::{
    ChunkServerMessage, ClientHello, ClientMessage, CommandDone, CommandOutcome, DiskState, DiskStatus,
    Heartbeat, HeldReplica, MasterCommand, MasterMessage, OperationRequest, QueryRequest, Register,
    ReplicaList, ReplicaState, Role, reply,
};
use prost::Message as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running master on ports of its own.
pub struct Running {
    pub address: String,
    pub http: SocketAddr,
    pub cluster: ClusterId,
    stop: CancellationToken,
    task: JoinHandle<Result<(), cairn_master::MasterError>>,
}

pub fn config(dir: &tempfile::TempDir) -> MasterConfig {
    MasterConfig {
        data_dir: dir.path().join("master"),
        listen: "127.0.0.1:0".parse().unwrap(),
        http_listen: "127.0.0.1:0".parse().unwrap(),
        default_replicas: 2,
        ..MasterConfig::default()
    }
}

impl Running {
    pub async fn start(config: MasterConfig) -> Self {
        let master = Master::start(Env::real(), config).await.expect("the master starts");
        tokio::time::timeout(PATIENCE, master.ready()).await.expect("the master leads in time");
        let (http, cluster) = (master.http_address(), master.cluster());
        let address = master.control_address().to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(master.serve(stop.clone()));
        Self { address, http, cluster, stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("stops in time")
            .unwrap()
            .expect("stops cleanly");
    }
}

/// A message as docs/FORMATS.md draws it.
fn frame(message: Asked) -> Vec<u8> {
    let message = ClientMessage { message: Some(message) }.encode_to_vec();
    let head = [(message.len() as u32).to_le_bytes(), crc32fast::hash(&message).to_le_bytes()];
    [&head.concat(), &message[..]].concat()
}

/// A client of one session.
pub struct Client {
    pub session: u64,
    pub secret: Vec<u8>,
    asks: WriteHalf,
    told: MessageReader<MasterMessage>,
    next: u64,
    sequences: BTreeMap<u32, u64>,
    kept: Vec<Told>,
}

impl Client {
    pub async fn open(master: &Running) -> Self {
        Self::hello(master, 0, Vec::new()).await.expect("a session is opened")
    }

    /// The first answer is the error when it is no welcome.
    pub async fn hello(master: &Running, session: u64, secret: Vec<u8>) -> Result<Self, Told> {
        let hello = hello(master.cluster, NodeId(Uuid::from_u128(77)), Role::Client);
        let first = ClientHello {
            hello: Some(hello),
            session,
            secret: secret.into(),
            description: "test".to_owned(),
            open_inodes: Vec::new(),
            caches: false,
        };
        Self::with_hello(&master.address, first).await
    }

    pub async fn with_hello(address: &str, first: ClientHello) -> Result<Self, Told> {
        let stream = Env::real().net.connect(address).await.expect("connects");
        let (read, mut asks) = stream.into_split();
        let mut told = session_conn::attend::<MasterMessage>(SESSION, read, tokio::io::sink(), "master").1;
        asks.write_all(&SESSION.magic).await.unwrap();
        asks.write_all(&frame(Asked::Hello(first))).await.unwrap();
        let welcome = tokio::time::timeout(PATIENCE, told.next()).await.expect("an answer in time");
        match welcome.expect("no error").expect("a message").message.expect("a known message") {
            Told::Welcome(welcome) => Ok(Self {
                session: welcome.session,
                secret: welcome.secret.to_vec(),
                asks,
                told,
                next: 0,
                sequences: BTreeMap::new(),
                kept: Vec::new(),
            }),
            other => Err(other),
        }
    }

    pub async fn send(&mut self, message: Asked) {
        assert!(self.try_send(message).await, "the connection is open");
    }

    /// False when the master closed the connection meanwhile.
    pub async fn try_send(&mut self, message: Asked) -> bool {
        self.asks.write_all(&frame(message)).await.is_ok()
    }

    /// The next message that `wanted` takes; others are kept for later.
    pub async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Told) -> Option<T>) -> Option<T> {
        if let Some(at) = self.kept.iter().position(|told| wanted(told).is_some()) {
            return wanted(&self.kept.remove(at));
        }
        loop {
            let next = tokio::time::timeout(PATIENCE, self.told.next()).await.expect("a message in time");
            let told = next.ok().flatten()?.message.expect("a known message");
            match wanted(&told) {
                Some(found) => return Some(found),
                None => self.kept.push(told),
            }
        }
    }

    async fn outcome(&mut self, id: u64) -> Result<Answer, FsError> {
        let outcome = self.wait_for(|told| match told {
            Told::Reply(reply) if reply.id == id => reply.outcome.clone(),
            _ => None,
        });
        match outcome.await.expect("a reply") {
            reply::Outcome::Answer(answer) => Ok(answer.try_into().expect("a valid answer")),
            reply::Outcome::Error(error) => Err(error.try_into().expect("a valid error")),
        }
    }

    pub async fn operate_at(
        &mut self,
        slot: u32,
        sequence: u64,
        kind: OperationKind,
    ) -> Result<Answer, FsError> {
        let id = self.start(slot, sequence, kind).await;
        self.outcome(id).await
    }

    pub async fn start(&mut self, slot: u32, sequence: u64, kind: OperationKind) -> u64 {
        self.next += 1;
        let id = self.next;
        let operation = Operation { credentials: Credentials::default(), kind };
        let request = OperationRequest { id, slot, sequence, operation: Some(operation.into()) };
        self.send(Asked::Operation(request)).await;
        id
    }

    pub async fn operate(&mut self, kind: OperationKind) -> Result<Answer, FsError> {
        let sequence = self.sequences.entry(0).or_insert(0);
        *sequence += 1;
        let sequence = *sequence;
        self.operate_at(0, sequence, kind).await
    }

    pub async fn ask(&mut self, kind: QueryKind) -> Result<Answer, FsError> {
        self.next += 1;
        let id = self.next;
        let query = Query { credentials: Credentials::default(), kind };
        self.send(Asked::Query(QueryRequest { id, query: Some(query.into()) })).await;
        self.outcome(id).await
    }

    /// Asks without taking the answer.
    pub async fn post(&mut self, kind: QueryKind) {
        self.next += 1;
        let query = Query { credentials: Credentials::default(), kind };
        self.send(Asked::Query(QueryRequest { id: self.next, query: Some(query.into()) })).await;
    }

    pub async fn create(&mut self, file: &str) -> (InodeId, LeaseNumber) {
        let kind =
            OperationKind::Create { parent: InodeId::ROOT, name: name(file), mode: 0o644, exclusive: true };
        match self.operate(kind).await.expect("a file is created") {
            Answer::Created { attr, lease: Some(lease), .. } => (attr.inode, lease),
            other => panic!("unexpected answer {other:?}"),
        }
    }

    pub async fn allocate(&mut self, inode: InodeId) -> Result<ChunkLocation, FsError> {
        match self.operate(OperationKind::AllocateChunks { inode, count: 1 }).await? {
            Answer::Chunks(mut chunks) => Ok(chunks.remove(0)),
            other => panic!("unexpected answer {other:?}"),
        }
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

/// A chunk server that stores nothing but remembers which replicas it should have.
pub struct FakeServer {
    pub server: ServerId,
    pub node: NodeId,
    pub held: Arc<Mutex<BTreeMap<ChunkId, ChunkVersion>>>,
    pub seen: Arc<Mutex<Vec<Command>>>,
    pub said: mpsc::Sender<ChunkServerMessage>,
    task: JoinHandle<()>,
}

impl FakeServer {
    pub async fn join(master: &Running, number: u128) -> Self {
        Self::hello(master, number, master.cluster).await.expect("the chunk server is registered")
    }

    pub async fn hello(master: &Running, number: u128, cluster: ClusterId) -> Result<Self, Command> {
        let channel = grpc::connect(&Env::real().net, &master.address).await.expect("connects");
        let (said, outgoing) = mpsc::channel(256);
        let node = NodeId(Uuid::from_u128(number));
        let register = Register {
            hello: Some(hello(cluster, node, Role::Chunkserver)),
            data_address: format!("127.0.0.1:{}", 1000 + number),
            http_address: String::new(),
            disks: vec![disk()],
            highest_term: 0,
            labels: Vec::new(),
        };
        said.send(ChunkServerMessage { message: Some(Said::Register(register)) }).await.unwrap();
        let mut stub = ClusterClient::new(channel);
        let mut commands =
            stub.chunk_server(ReceiverStream::new(outgoing)).await.expect("a stream").into_inner();
        let first = tokio::time::timeout(PATIENCE, commands.message()).await.expect("an answer in time");
        let server = match first.unwrap().unwrap().message.unwrap() {
            Command::Registered(registered) => ServerId(registered.server),
            other => return Err(other),
        };
        let (held, seen) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let task = tokio::spawn(obey(commands, said.clone(), held.clone(), seen.clone()));
        Ok(Self { server, node, held, seen, said, task })
    }

    pub async fn say(&self, message: Said) {
        self.said.send(ChunkServerMessage { message: Some(message) }).await.unwrap();
    }

    /// The process dies: its connection closes.
    pub async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until some command seen satisfies `wanted`.
    pub async fn saw(&self, wanted: impl Fn(&Command) -> bool) {
        eventually("a command", || self.seen.lock().unwrap().iter().any(&wanted)).await;
    }
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not come in time"));
}

pub fn disk() -> DiskStatus {
    DiskStatus {
        disk: vec![1; 16].into(),
        path: "/disk".to_owned(),
        total_bytes: 100 << 30,
        free_bytes: 90 << 30,
        used_bytes: 0,
        replicas: 0,
        state: DiskState::DiskHealthy.into(),
        detail: String::new(),
        read_us: 0,
        sync_us: 0,
        scrub: None,
        copy_share: 0,
        usual_p99_us: 0,
        copy_stream_bytes: 0,
        vacating: None,
    }
}

async fn obey(
    mut commands: Streaming<MasterCommand>,
    said: mpsc::Sender<ChunkServerMessage>,
    held: Arc<Mutex<BTreeMap<ChunkId, ChunkVersion>>>,
    seen: Arc<Mutex<Vec<Command>>>,
) {
    let mut beats = tokio::time::interval(Duration::from_millis(200));
    loop {
        let answer = tokio::select! {
            _ = beats.tick() => Some(Said::Heartbeat(Heartbeat { disks: vec![disk()], ..Heartbeat::default() })),
            command = commands.message() => {
                let Ok(Some(MasterCommand { message: Some(command) })) = command else { return };
                seen.lock().unwrap().push(command.clone());
                answer(command, &held)
            }
        };
        if let Some(answer) = answer
            && said.send(ChunkServerMessage { message: Some(answer) }).await.is_err()
        {
            return;
        }
    }
}

fn answer(command: Command, held: &Mutex<BTreeMap<ChunkId, ChunkVersion>>) -> Option<Said> {
    let mut held = held.lock().unwrap();
    let done = |command, outcome: CommandOutcome| {
        Some(Said::Done(CommandDone { command, outcome: outcome.into(), detail: String::new() }))
    };
    match command {
        Command::Delete(delete) => {
            held.remove(&ChunkId(delete.chunk));
            done(delete.command, CommandOutcome::OutcomeDone)
        }
        Command::Raise(raise) => match held.get_mut(&ChunkId(raise.chunk)) {
            Some(version) => {
                *version = ChunkVersion(raise.to);
                done(raise.command, CommandOutcome::OutcomeDone)
            }
            None => done(raise.command, CommandOutcome::OutcomeNoSuchReplica),
        },
        Command::Check(check) => done(check.command, CommandOutcome::OutcomeDone),
        Command::Mend(mend) => done(mend.command, CommandOutcome::OutcomeFailed),
        Command::Scrub(scrub) => done(scrub.command, CommandOutcome::OutcomeDone),
        Command::Fence(fence) => done(fence.command, CommandOutcome::OutcomeDone),
        Command::Reconcile(reconcile) => done(reconcile.command, CommandOutcome::OutcomeDone),
        Command::List(list) => {
            let range = ChunkId(list.first)..=ChunkId(list.last);
            let replica = |(chunk, version): (&ChunkId, &ChunkVersion)| HeldReplica {
                chunk: chunk.get(),
                version: version.get(),
                part: 0,
                disk: vec![1; 16].into(),
                state: ReplicaState::ReplicaGood.into(),
                bytes: 4096,
            };
            Some(Said::Replicas(ReplicaList {
                command: list.command,
                first: list.first,
                last: list.last,
                replicas: held.range(range).map(replica).collect(),
                last_page: true,
            }))
        }
        Command::Registered(_) | Command::Refused(_) | Command::HeartbeatSeen(_) => None,
    }
}
