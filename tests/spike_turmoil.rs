//! turmoil, tonic streams, raft-rs and the doors of cairn-env stand together, and one seed means one run.
//!
//! Three hosts form a raft group whose messages travel the real Cluster service (bidirectional gRPC streams) over simulated
//! sockets. The leader is crashed, comes back, and is cut off; the group goes on. The trace of the run (who led when,
//! what was committed where and when) is the same in this process and in two others with the same seed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test binary")]

#[path = "sim/turmoil_net.rs"]
mod turmoil_net;

use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_env::clock::RuntimeClock;
use cairn_env::disk_sim::SimDisk;
use cairn_env::net::grpc;
use cairn_proto::v1::chunk_server_message::Message as Said;
use cairn_proto::v1::cluster_client::ClusterClient;
use cairn_proto::v1::cluster_server::{Cluster, ClusterServer};
use cairn_proto::v1::{ChunkServerMessage, Hello, MasterCommand, Register};
use protobuf::Message as _;
use raft::prelude::{ConfState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use turmoil_net::simulated_env_with;

const PEERS: [u64; 3] = [1, 2, 3];
const PORT: u16 = 7000;
const TICK: Duration = Duration::from_millis(20);
const ELECTION_TICKS: usize = 10;

fn simulated_env(seed: u64, disk: SimDisk) -> Env {
    let clock = RuntimeClock::starting_at(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    simulated_env_with(Arc::new(clock), seed, disk)
}

type Trace = Arc<Mutex<Vec<String>>>;

struct Inbox(mpsc::Sender<Message>);

#[tonic::async_trait]
impl Cluster for Inbox {
    type ChunkServerStream = ReceiverStream<Result<MasterCommand, Status>>;

    async fn chunk_server(
        &self,
        request: Request<Streaming<ChunkServerMessage>>,
    ) -> Result<Response<Self::ChunkServerStream>, Status> {
        assert!(request.extensions().get::<grpc::Peer>().is_some_and(|peer| peer.address.is_some()));
        let mut stream = request.into_inner();
        let inbox = self.0.clone();
        let (replies, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            let _open = replies;
            while let Some(Ok(message)) = stream.next().await {
                if let Some(message) = unwrapped(message) {
                    // Raft bears loss; a full inbox is a slow network.
                    let _ = inbox.try_send(message);
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Raft's bytes ride where a hello has its cluster: the spike has no messages of its own.
fn wrapped(message: &Message) -> ChunkServerMessage {
    let hello = Hello { cluster: message.write_to_bytes().unwrap().into(), ..Hello::default() };
    let register = Register { hello: Some(hello), ..Register::default() };
    ChunkServerMessage { message: Some(Said::Register(register)) }
}

fn unwrapped(message: ChunkServerMessage) -> Option<Message> {
    let Some(Said::Register(register)) = message.message else { return None };
    Message::parse_from_bytes(&register.hello?.cluster).ok()
}

/// Keeps a stream to a peer alive and sends what is queued; what does not fit is lost, as on a network.
fn link(env: &Env, to: u64) -> mpsc::Sender<Message> {
    let (queue, mut outgoing) = mpsc::channel::<Message>(64);
    let net = env.net.clone();
    tokio::spawn(async move {
        loop {
            let Ok(channel) = grpc::connect(&net, &format!("master-{to}:{PORT}")).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (sender, stream) = mpsc::channel(64);
            let call = ClusterClient::new(channel).chunk_server(ReceiverStream::new(stream)).await;
            let Ok(mut replies) = call.map(Response::into_inner) else { continue };
            loop {
                tokio::select! {
                    biased;
                    ended = replies.next() => {
                        assert!(!matches!(ended, Some(Ok(_))), "the peer never answers");
                        break;
                    }
                    message = outgoing.recv() => {
                        let Some(message) = message else { return };
                        if sender.send(wrapped(&message)).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    });
    queue
}

struct Member {
    id: u64,
    env: Env,
    node: RawNode<MemStorage>,
    links: BTreeMap<u64, mpsc::Sender<Message>>,
    trace: Trace,
    last: (u64, StateRole),
}

impl Member {
    fn note(&self, what: String) {
        let at = turmoil::sim_elapsed().unwrap().as_micros();
        self.trace.lock().unwrap().push(format!("{at:>8} master-{} {what}", self.id));
    }

    fn settle(&mut self) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let store = self.node.raft.raft_log.store.clone();
            let mut out = ready.take_messages();
            let mut committed = ready.take_committed_entries();
            store.wl().append(ready.entries()).unwrap();
            if let Some(hard) = ready.hs() {
                store.wl().set_hardstate(hard.clone());
            }
            out.extend(ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            out.extend(light.take_messages());
            committed.extend(light.take_committed_entries());
            if let Some(commit) = light.commit_index() {
                store.wl().mut_hard_state().set_commit(commit);
            }
            self.node.advance_apply();
            for message in out {
                let _ = self.links[&message.to].try_send(message);
            }
            for entry in committed {
                self.note(format!("applied {} {:?}", entry.index, String::from_utf8_lossy(&entry.data)));
            }
        }
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.last {
            self.last = now;
            // raft-rs has just drawn from its own thread_rng; the seed must decide instead.
            let drawn = ELECTION_TICKS + self.env.random.below(ELECTION_TICKS as u64) as usize;
            self.node.raft.set_randomized_election_timeout(drawn);
            self.note(format!("term {} {:?}", now.0, now.1));
        }
    }
}

async fn member(id: u64, seed: u64, disk: MemStorage, trace: Trace) {
    let env = simulated_env(seed * 100 + id, SimDisk::new());
    let config = Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: 2,
        pre_vote: true,
        check_quorum: true,
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let node = RawNode::new(&config, disk, &logger).unwrap();
    let links = PEERS.iter().filter(|&&peer| peer != id).map(|&peer| (peer, link(&env, peer))).collect();
    let (inbox, mut incoming) = mpsc::channel(256);
    let listener = env.net.bind(&format!("0.0.0.0:{PORT}")).await.unwrap();
    tokio::spawn(
        grpc::server()
            .add_service(ClusterServer::new(Inbox(inbox)))
            .serve_with_incoming(grpc::incoming(listener)),
    );
    let start = env.clock.now();
    let mut member = Member { id, env, node, links, trace, last: (u64::MAX, StateRole::Follower) };
    let mut ticks = tokio::time::interval(TICK);
    let mut proposed = 0;
    loop {
        tokio::select! {
            biased;
            Some(message) = incoming.recv() => {
                let _ = member.node.step(message);
            }
            _ = ticks.tick() => {
                member.node.tick();
                if member.node.raft.state == StateRole::Leader {
                    proposed += 1;
                    let age = member.env.clock.now().since(start).as_millis();
                    let _ = member.node.propose(vec![], format!("{id}/{proposed} at {age}").into());
                }
            }
        }
        member.settle();
    }
}

fn leader(trace: &Trace) -> Option<u64> {
    let lines = trace.lock().unwrap();
    let line = lines.iter().rev().find(|line| line.ends_with("Leader"))?;
    line.split("master-").nth(1)?[..1].parse().ok()
}

fn run(seed: u64) -> Vec<String> {
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(60))
        .tick_duration(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .enable_random_order()
        .rng_seed(seed)
        .build();
    let trace = Trace::default();
    for id in PEERS {
        let disk = MemStorage::new_with_conf_state(ConfState::from((PEERS.to_vec(), vec![])));
        let trace = trace.clone();
        sim.host(format!("master-{id}"), move || {
            let (disk, trace) = (disk.clone(), trace.clone());
            async move {
                member(id, seed, disk, trace).await;
                Ok(())
            }
        });
    }
    let mut first = None;
    let mut cut = None;
    for millisecond in 0..10_000 {
        sim.step().unwrap();
        match millisecond {
            2_000 => {
                first = leader(&trace);
                sim.crash(format!("master-{}", first.expect("a first leader within 2 s")));
            }
            4_000 => sim.bounce(format!("master-{}", first.expect("set at 2 s"))),
            6_000 => {
                let led = leader(&trace).expect("a second leader");
                assert_ne!(Some(led), first, "the crashed one cannot lead");
                cut = Some(led);
                for other in PEERS.into_iter().filter(|&other| other != led) {
                    sim.partition(format!("master-{led}"), format!("master-{other}"));
                }
            }
            8_000 => {
                let cut = cut.expect("set at 6 s");
                for other in PEERS.into_iter().filter(|&other| other != cut) {
                    sim.repair(format!("master-{cut}"), format!("master-{other}"));
                }
            }
            _ => {}
        }
    }
    drop(sim);
    let lines = trace.lock().unwrap();
    lines.clone()
}

/// Equal entries at equal positions, never two leaders of one term, and progress to the end on every member.
fn assert_sane(lines: &[String]) {
    let mut entries: BTreeMap<&str, &str> = BTreeMap::new();
    let mut leaders: BTreeMap<&str, &str> = BTreeMap::new();
    let mut late: BTreeMap<&str, u32> = BTreeMap::new();
    for line in lines {
        let (at, rest) = line.trim_start().split_once(' ').unwrap();
        let (host, what) = rest.split_once(' ').unwrap();
        if let Some(applied) = what.strip_prefix("applied ") {
            let (index, data) = applied.split_once(' ').unwrap();
            assert_eq!(*entries.entry(index).or_insert(data), data, "two entries at {index}");
            if at.parse::<u64>().unwrap() > 9_000_000 {
                *late.entry(host).or_default() += 1;
            }
        } else if let Some(term) = what.strip_suffix(" Leader") {
            assert_eq!(*leaders.entry(term).or_insert(host), host, "two leaders of {term}");
        }
    }
    assert!(leaders.len() >= 3, "leaders: {leaders:?}");
    assert_eq!(late.len(), 3, "who applied in the last second: {late:?}");
    assert!(entries.len() > 200, "{} entries", entries.len());
}

#[test]
fn a_group_survives_crash_and_partition_in_every_seed() {
    for seed in 1..6 {
        assert_sane(&run(seed));
    }
}

/// Serves streams that stay open and silent.
async fn silent_server() {
    let env = simulated_env(1, SimDisk::new());
    let (inbox, mut incoming) = mpsc::channel(1);
    let listener = env.net.bind(&format!("0.0.0.0:{PORT}")).await.unwrap();
    tokio::spawn(async move { while incoming.recv().await.is_some() {} });
    let server = grpc::server().add_service(ClusterServer::new(Inbox(inbox)));
    server.serve_with_incoming(grpc::incoming(listener)).await.unwrap();
}

/// A channel outlives its server: the stream breaks within the keep-alive's deadline, the next call connects anew.
async fn survive_a_restart(lazily: bool) {
    let env = simulated_env(2, SimDisk::new());
    let address = format!("server:{PORT}");
    let channel = if lazily {
        grpc::connect_lazily(&env.net, &address).unwrap()
    } else {
        grpc::connect(&env.net, &address).await.unwrap()
    };
    let mut client = ClusterClient::new(channel);
    let mut streams = 0;
    while streams < 2 {
        let (_open, stream) = mpsc::channel::<ChunkServerMessage>(1);
        match client.chunk_server(ReceiverStream::new(stream)).await {
            Ok(replies) => {
                streams += 1;
                if streams == 1 {
                    assert!(replies.into_inner().message().await.is_err(), "the server dies");
                    let at = turmoil::sim_elapsed().unwrap();
                    assert!(at < Duration::from_millis(5_000), "noticed only after {at:?}");
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    assert!(turmoil::sim_elapsed().unwrap() < Duration::from_millis(7_000));
}

#[test]
fn a_channel_outlives_a_restart_of_its_server() {
    for lazily in [true, false] {
        let mut sim =
            turmoil::Builder::new().simulation_duration(Duration::from_secs(30)).rng_seed(3).build();
        sim.host("server", || async {
            silent_server().await;
            Ok(())
        });
        sim.client("client", async move {
            survive_a_restart(lazily).await;
            Ok(())
        });
        while sim.elapsed() < Duration::from_secs(1) {
            sim.step().unwrap();
        }
        sim.crash("server");
        while sim.elapsed() < Duration::from_secs(5) {
            sim.step().unwrap();
        }
        sim.bounce("server");
        sim.run().unwrap();
    }
}

const CHILD_SEED: &str = "CAIRN_SPIKE_SEED";

/// Run by the test below in processes of their own.
#[test]
fn print_the_trace_when_asked() {
    if let Ok(seed) = std::env::var(CHILD_SEED) {
        for line in run(seed.parse().unwrap()) {
            println!("trace {line}");
        }
    }
}

fn trace_of_another_process(seed: u64) -> Vec<String> {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "print_the_trace_when_asked", "--nocapture"])
        .env(CHILD_SEED, seed.to_string())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("trace ")).map(str::to_owned).collect()
}

#[test]
fn one_seed_is_one_run_in_every_process() {
    let here = run(7);
    assert!(!here.is_empty());
    for _ in 0..2 {
        let there = trace_of_another_process(7);
        assert_eq!(there.len(), here.len());
        for (line, (a, b)) in here.iter().zip(&there).enumerate() {
            assert_eq!(a, b, "line {line}");
        }
    }
    assert_ne!(trace_of_another_process(8), here, "another seed is another run");
}
