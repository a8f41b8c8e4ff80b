//! Chunk servers at the master: registration, replacement of replicas, deletion, inventories, reconciliation.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use cairn_core::cluster::digest::digest_ranges;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, LeaseNumber, PartId, ServerId};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::{Extent, OperationKind, QueryKind};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_master::MasterConfig;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::chunk_server_message::Message as Said;
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::master_command::Message as Command;
use cairn_proto::v1::{
    ChunkPlacement, ChunksRequest, Detach, Inventory, Observation, ObservationKind, RangeDigest,
    RefusedReason, Renew, ReplicaEvent, ReplicaState, ServersRequest, StatusReply, StatusRequest,
};
use std::time::Duration;
use support::{Client, FakeServer, Running, config, eventually, name};
use uuid::Uuid;

async fn admin(master: &Running) -> AdminClient<tonic::transport::Channel> {
    AdminClient::new(grpc::connect(&Env::real().net, &master.address).await.unwrap())
}

async fn placements(master: &Running, path: &str) -> Vec<ChunkPlacement> {
    let request = ChunksRequest { path: path.as_bytes().to_vec().into() };
    let mut pages = admin(master).await.chunks(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        all.extend(page.chunks);
    }
    all
}

fn states(placement: &ChunkPlacement) -> Vec<&str> {
    placement.replicas.iter().map(|replica| replica.state.as_str()).collect()
}

/// Stores the chunk's replicas at the servers of its location.
fn store(servers: &[FakeServer], location: &ChunkLocation) {
    for server in servers {
        if location.replicas.iter().any(|replica| replica.server == server.server) {
            server.held.lock().unwrap().insert(location.chunk, location.version);
        }
    }
}

async fn written_file(
    client: &mut Client,
    servers: &[FakeServer],
    file: &str,
    release: bool,
) -> (InodeId, LeaseNumber, ChunkLocation) {
    let (inode, lease) = client.create(file).await;
    let location = client.allocate(inode).await.unwrap();
    store(servers, &location);
    let extents = vec![Extent { offset: 0, length: 4096, chunk: location.chunk, chunk_offset: 0 }];
    let changes = AttrChanges::default();
    let commit =
        OperationKind::Commit { inode, lease, extents, length: 4096, modified: true, release, changes };
    client.operate(commit).await.unwrap();
    (inode, lease, location)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_keeps_its_number_and_strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let first = FakeServer::join(&master, 1).await;
    let second = FakeServer::join(&master, 2).await;
    assert_ne!(first.server, second.server);
    let number = first.server;
    first.die().await;
    assert_eq!(FakeServer::join(&master, 1).await.server, number);
    let stranger = cairn_core::ids::ClusterId(Uuid::from_u128(0xbad));
    let Err(Command::Refused(refused)) = FakeServer::hello(&master, 9, stranger).await else {
        panic!("refused")
    };
    assert_eq!(refused.reason(), RefusedReason::RefusedWrongCluster);
    assert!(refused.message.contains(&stranger.to_string()), "{}", refused.message);
    master.stop().await;

    let master = Running::start(config(&dir)).await;
    let known = admin(&master).await.servers(ServersRequest {}).await.unwrap().into_inner().servers;
    assert_eq!(known.len(), 2);
    assert!(known.iter().all(|server| server.state == "down"));
    assert_eq!(FakeServer::join(&master, 1).await.server, number);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_replica_is_replaced_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut servers = vec![FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let (inode, _) = client.create("f").await;
    let location = client.allocate(inode).await.unwrap();
    store(&servers, &location);
    let dead = location.replicas[0].server;
    let at = servers.iter().position(|server| server.server == dead).unwrap();
    servers.remove(at).die().await;
    let version = location.version;
    let replace = OperationKind::ReplaceReplicas { chunk: location.chunk, version, failed: vec![dead] };
    let asked = tokio::time::Instant::now();
    let Answer::Chunks(now) = client.operate(replace).await.unwrap() else { panic!("a location") };
    assert!(asked.elapsed() < Duration::from_millis(250), "{:?}", asked.elapsed());
    assert!(now[0].version > version);
    assert_eq!(now[0].replicas.len(), 1);
    assert_eq!(
        servers[0].held.lock().unwrap()[&location.chunk],
        now[0].version,
        "the survivor was raised first"
    );
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_chunks_fail_over_together() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut servers = vec![FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let mut locations = Vec::new();
    for number in 0..200 {
        let (inode, _) = client.create(&format!("f{number}")).await;
        let location = client.allocate(inode).await.unwrap();
        store(&servers, &location);
        locations.push(location);
    }
    let dead = servers.remove(0);
    let failed = dead.server;
    dead.die().await;
    let asked = tokio::time::Instant::now();
    let mut ids = Vec::new();
    for (number, location) in locations.iter().enumerate() {
        let (chunk, version) = (location.chunk, location.version);
        let kind = OperationKind::ReplaceReplicas { chunk, version, failed: vec![failed] };
        let (slot, sequence) = (1 + number as u32 % 60, 1 + number as u64 / 60);
        // A slot is used again only after its answer.
        if number >= 60 {
            let id: u64 = ids[number - 60];
            wait_reply(&mut client, id).await;
        }
        ids.push(client.start(slot, sequence, kind).await);
    }
    for &id in &ids[140..] {
        wait_reply(&mut client, id).await;
    }
    assert!(asked.elapsed() < Duration::from_millis(1000), "{:?}", asked.elapsed());
    master.stop().await;
}

async fn wait_reply(client: &mut Client, id: u64) {
    let reply = client.wait_for(|told| match told {
        cairn_proto::v1::master_message::Message::Reply(reply) if reply.id == id => Some(reply.clone()),
        _ => None,
    });
    let reply = reply.await.unwrap();
    assert!(matches!(reply.outcome, Some(cairn_proto::v1::reply::Outcome::Answer(_))), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_who_leads_before_anything_is_asked_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let server = FakeServer::join(&master, 1).await;
    server.saw(|command| matches!(command, Command::Fence(fence) if fence.term > 0)).await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_wait_for_a_server_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut servers = vec![FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let (inode, _, location) = written_file(&mut client, &servers, "f", true).await;
    let away = servers.remove(0);
    away.die().await;
    client.operate(OperationKind::Unlink { parent: InodeId::ROOT, name: name("f") }).await.unwrap();
    eventually("the deletion", || servers[0].held.lock().unwrap().is_empty()).await;
    // The row of the one that is done goes when the master has heard of it; that of the other stays.
    wait_pending_deletions(&master, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    wait_pending_deletions(&master, 1).await;
    let back = FakeServer::join(&master, 1).await;
    let chunk = location.chunk.get();
    back.saw(
        |command| matches!(command, Command::Delete(delete) if delete.chunk == chunk && delete.term > 0),
    )
    .await;
    let mut client = Client::open(&master).await;
    assert!(client.ask(QueryKind::GetAttr { inode }).await.is_err());
    let status = wait_pending_deletions(&master, 0).await;
    assert_eq!(status.chunks, 0);
    master.stop().await;
}

async fn wait_pending_deletions(master: &Running, wanted: u64) -> StatusReply {
    for _ in 0..200 {
        let status = admin(master).await.status(StatusRequest {}).await.unwrap().into_inner();
        if status.pending_deletions == wanted {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {wanted} pending deletions");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_shows_what_is_missing_and_asks_for_a_list_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let servers = [FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let (_, _, location) = written_file(&mut client, &servers, "f", true).await;
    let inventory = |held: &[(ChunkId, ChunkVersion)]| {
        let ids = held.iter().map(|&(chunk, version)| (chunk, version, PartId(0)));
        let wire = |range: cairn_core::cluster::digest::RangeDigest| RangeDigest {
            first: range.first.get(),
            last: range.last.get(),
            count: range.count,
            hash: range.hash,
        };
        Said::Inventory(Inventory { ranges: digest_ranges(ids).into_iter().map(wire).collect() })
    };
    servers[0].say(inventory(&[(location.chunk, location.version)])).await;
    servers[0].say(Said::Heartbeat(Default::default())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let listed = |server: &FakeServer| {
        server.seen.lock().unwrap().iter().filter(|command| matches!(command, Command::List(_))).count()
    };
    assert_eq!(listed(&servers[0]), 0, "equal digests need no list");
    assert_eq!(states(&placements(&master, "/f").await[0]), ["current", "current"]);

    servers[0].held.lock().unwrap().clear();
    servers[0].held.lock().unwrap().insert(ChunkId(9999), ChunkVersion(1));
    servers[0].say(inventory(&[(ChunkId(9999), ChunkVersion(1))])).await;
    eventually("the list", || listed(&servers[0]) > 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lost = servers[0].server;
    let placement = placements(&master, "/").await.remove(0);
    for replica in &placement.replicas {
        let expected = if ServerId(replica.server) == lost { "missing" } else { "current" };
        assert_eq!(replica.state, expected);
    }
    let deleted = servers[0].seen.lock().unwrap().iter().any(|command| matches!(command, Command::Delete(_)));
    assert!(!deleted, "a stray replica has its grace");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_ends_badly_leaves_equal_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let servers = [FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let (inode, _, location) = written_file(&mut client, &servers, "f", false).await;
    client.operate(OperationKind::LeaseFile { inode, chunks: vec![location.chunk] }).await.unwrap();
    client.send(Asked::Detach(Detach {})).await;
    eventually("the reconciliation", || {
        servers.iter().any(|server| {
            server.seen.lock().unwrap().iter().any(|command| {
                matches!(command, Command::Reconcile(reconcile)
                    if reconcile.chunk == location.chunk.get() && reconcile.peers.len() == 1)
            })
        })
    })
    .await;
    let mut client = Client::open(&master).await;
    let mut now = location.clone();
    for _ in 0..200 {
        let Answer::Chunks(chunks) =
            client.ask(QueryKind::Locate { chunks: vec![location.chunk] }).await.unwrap()
        else {
            panic!("a location")
        };
        now = chunks[0].clone();
        if now.version > location.version && !now.write_leased {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(now.version > location.version);
    assert_eq!(now.replicas.len(), 2);
    for server in &servers {
        assert_eq!(server.held.lock().unwrap()[&location.chunk], now.version);
    }
    let status = admin(&master).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.pending_reconciliations, 0);
    master.stop().await;
}

/// Copied ahead, fenced, compared, recorded. While the file is leased nobody who lost writes may be what others are made equal to.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_server_held_is_made_anew_in_four_steps() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(MasterConfig { server_dead_ms: 2000, ..config(&dir) }).await;
    let mut servers = vec![FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut client = Client::open(&master).await;
    let (_, _, leased) = written_file(&mut client, &servers, "leased", false).await;
    let (_, _, closed) = written_file(&mut client, &servers, "closed", true).await;
    let third = FakeServer::join(&master, 3).await;
    for location in [&leased, &closed] {
        third.held.lock().unwrap().insert(location.chunk, location.version);
    }
    servers.pop().unwrap().die().await;
    let source = servers.pop().unwrap();
    for (location, is_leased) in [(leased, true), (closed, false)] {
        let mut now = location.clone();
        let begun = std::time::Instant::now();
        while now.version == location.version {
            assert!(begun.elapsed() < support::PATIENCE, "{now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let kind = QueryKind::Locate { chunks: vec![location.chunk] };
            let Answer::Chunks(chunks) = client.ask(kind).await.unwrap() else { panic!("a location") };
            now = chunks[0].clone();
        }
        let servers: Vec<ServerId> = now.replicas.iter().map(|replica| replica.server).collect();
        assert_eq!(servers, [source.server, third.server]);
        let step = |command: &Command| match command {
            Command::Reconcile(copy) if copy.chunk == location.chunk.get() => {
                Some((copy.version, copy.ahead, false))
            }
            Command::Raise(raise) if raise.chunk == location.chunk.get() => {
                Some((raise.to, false, raise.whole))
            }
            _ => None,
        };
        let seen: Vec<_> = source.seen.lock().unwrap().iter().filter_map(step).collect();
        let (old, new) = (location.version.get(), now.version.get());
        assert_eq!(seen, [(old, true, false), (new, false, is_leased), (new, false, false)]);
    }
    let status = admin(&master).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.short_chunks, status.replicas_on_dead), (0, 0));
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corruption_is_counted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let server = FakeServer::join(&master, 1).await;
    let event = ReplicaEvent {
        chunk: 7,
        version: 1,
        disk: vec![1; 16].into(),
        state: ReplicaState::ReplicaCorrupt.into(),
        detail: "block 3 does not verify".to_owned(),
    };
    server.say(Said::Event(event)).await;
    let beat = cairn_proto::v1::Heartbeat { corrupt_blocks_found: 3, ..Default::default() };
    server.say(Said::Heartbeat(beat)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = admin(&master).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.corrupt_replicas, status.corrupt_blocks_found), (1, 3));
    assert_eq!(status.recent_corruption[0].detail, "block 3 does not verify");
    assert!(status.warnings.iter().any(|warning| warning.contains("cairn admin")), "{:?}", status.warnings);
    assert_eq!(status.servers_alive, 1);
    assert!(!status.leader.is_empty());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_on_the_word_of_one_client() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut servers = Vec::new();
    for number in 1..=4 {
        servers.push(FakeServer::join(&master, number).await);
    }
    let (mut one, mut two) = (Client::open(&master).await, Client::open(&master).await);
    let seen = |kind: ObservationKind, chunk| {
        let seen = Observation { address: "127.0.0.1:1001".to_owned(), kind: kind.into(), chunk };
        Asked::Renew(Renew { sent_at_ns: 1, seen: vec![seen], slow: Vec::new() })
    };
    let suspects = async || {
        let servers = admin(&master).await.servers(ServersRequest {}).await.unwrap().into_inner().servers;
        servers
            .iter()
            .filter(|server| server.state == "suspect")
            .map(|server| server.server)
            .collect::<Vec<_>>()
    };
    for _ in 0..3 {
        one.send(seen(ObservationKind::ObservedUnreachable, 0)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(suspects().await, Vec::<u32>::new(), "one client");
    two.send(seen(ObservationKind::ObservedSlow, 0)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(suspects().await, [servers[0].server.get()], "heartbeats do not speak against two clients");

    // Damage is looked at by whoever has it, once; what it finds counts, and it finds nothing here.
    one.send(seen(ObservationKind::ObservedCorrupt, 7)).await;
    two.send(seen(ObservationKind::ObservedCorrupt, 7)).await;
    servers[0].saw(|command| matches!(command, Command::Check(check) if check.chunk == 7)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked =
        servers[0].seen.lock().unwrap().iter().filter(|seen| matches!(seen, Command::Check(_))).count();
    assert_eq!(asked, 1);
    let status = admin(&master).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.corrupt_replicas, 0);
    master.stop().await;
}
