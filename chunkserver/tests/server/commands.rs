//! Registration, reports and commands.

use crate::fixture::{Cluster, config, pattern, read, registered, status, sync, write};
use crate::leader::Leader;
use cairn_chunkserver::ChunkServer;
use cairn_core::ids::{ChunkId, PartId};
use cairn_env::Env;
use cairn_proto::frame::Status;
use cairn_proto::v1::chunk_server_message::Message as Up;
use cairn_proto::v1::master_command::Message as Down;
use cairn_proto::v1::{CommandOutcome, DeleteReplica, ListReplicas, RaiseVersion, Reconcile};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_registers_reports_and_beats() {
    let cluster = Cluster::of(1).await;
    let address = cluster.address(0);
    let register = cluster
        .leader
        .hears(&address, |message| match message {
            Up::Register(register) => Some(register.clone()),
            _ => None,
        })
        .await;
    assert_eq!(register.disks.len(), 1);
    assert_eq!(register.hello.unwrap().node[..], cluster.servers[0].node().0.as_bytes()[..]);
    let beat = cluster.leader.hears(&address, |message| match message {
        Up::Heartbeat(beat) => Some(beat.clone()),
        _ => None,
    });
    assert!(beat.await.disks[0].free_bytes > 0);
    let inventory = cluster.leader.hears(&address, |message| match message {
        Up::Inventory(inventory) => Some(inventory.clone()),
        _ => None,
    });
    let ranges = inventory.await.ranges;
    assert_eq!((ranges[0].first, ranges[0].last, ranges[0].count), (0, u64::MAX, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_master_that_does_not_lead_is_passed_by() {
    let env = Env::real();
    let (follower, leader) = (Leader::start_follower(&env).await, Leader::start(&env).await);
    let root = tempfile::tempdir().unwrap();
    let masters = vec![follower.address.clone(), "127.0.0.1:1".to_owned(), leader.address.clone()];
    let server = ChunkServer::start(env, config(masters, root.path())).await.unwrap();
    registered(&server).await;
    assert_eq!(server.masters_connected(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_raised_version_fences_older_frames_and_stale_terms_are_refused() {
    let cluster = Cluster::of(1).await;
    let (address, connection) = (cluster.address(0), cluster.connect(0).await);
    assert_eq!(status(&connection, write(1, 1, 0, pattern(1, 4096), Vec::new())).await, Status::Ok);
    let raise = |command, term, to| {
        Down::Raise(RaiseVersion { command, term, chunk: 1, from: 1, to, part: 0, whole: false })
    };
    assert_eq!(cluster.leader.outcome(&address, 1, raise(1, 5, 2)).await, CommandOutcome::OutcomeDone);
    assert_eq!(
        cluster.leader.outcome(&address, 2, raise(2, 5, 2)).await,
        CommandOutcome::OutcomeDone,
        "again"
    );
    assert_eq!(status(&connection, write(1, 1, 0, pattern(2, 4096), Vec::new())).await, Status::StaleVersion);
    assert_eq!(status(&connection, write(1, 2, 0, pattern(2, 4096), Vec::new())).await, Status::Ok);
    assert_eq!(cluster.leader.outcome(&address, 3, raise(3, 4, 9)).await, CommandOutcome::OutcomeStaleTerm);
    let missing =
        Down::Raise(RaiseVersion { command: 4, term: 5, chunk: 77, from: 1, to: 2, part: 0, whole: false });
    assert_eq!(cluster.leader.outcome(&address, 4, missing).await, CommandOutcome::OutcomeNoSuchReplica);
    let delete =
        |command, version| Down::Delete(DeleteReplica { command, term: 5, chunk: 1, version, part: 0 });
    assert_eq!(
        cluster.leader.outcome(&address, 5, delete(5, 1)).await,
        CommandOutcome::OutcomeFailed,
        "is newer"
    );
    assert_eq!(cluster.leader.outcome(&address, 6, delete(6, 2)).await, CommandOutcome::OutcomeDone);
    assert_eq!(cluster.leader.outcome(&address, 7, delete(7, 2)).await, CommandOutcome::OutcomeDone, "again");
    assert_eq!(status(&connection, read(1, 2, 0, 4096)).await, Status::NoSuchChunk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_name_what_is_held() {
    let cluster = Cluster::of(1).await;
    let (address, connection) = (cluster.address(0), cluster.connect(0).await);
    for chunk in [3, 5, 8] {
        assert_eq!(
            status(&connection, write(chunk, 1, 0, pattern(chunk, 5000), Vec::new())).await,
            Status::Ok
        );
    }
    cluster
        .leader
        .send(
            &address,
            Down::List(ListReplicas { command: 1, term: 1, first: 4, last: 9, ..ListReplicas::default() }),
        )
        .await;
    let list = cluster.leader.hears(&address, |message| match message {
        Up::Replicas(list) => Some(list.clone()),
        _ => None,
    });
    let list = list.await;
    assert!(list.last_page && list.command == 1);
    let held: Vec<_> = list.replicas.iter().map(|held| (held.chunk, held.version, held.bytes)).collect();
    assert_eq!(held, [(5, 1, 8192), (8, 1, 8192)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reconciliation_makes_replicas_equal() {
    let cluster = Cluster::of(3).await;
    let mut connections = Vec::new();
    for server in 0..3 {
        connections.push(cluster.connect(server).await);
    }
    // The same acknowledged bytes everywhere, then a writer that died: each replica got something else of it.
    let common = pattern(1, 300_000);
    for connection in &connections {
        for (at, piece) in [(0u64, &common[..200_000]), (200_000, &common[200_000..])] {
            assert_eq!(status(connection, write(6, 1, at, piece.to_vec(), Vec::new())).await, Status::Ok);
        }
        assert_eq!(status(connection, sync(6, 1, Vec::new())).await, Status::Ok);
    }
    assert_eq!(status(&connections[0], write(6, 1, 8192, pattern(7, 4096), Vec::new())).await, Status::Ok);
    assert_eq!(status(&connections[1], write(6, 1, 400_000, pattern(8, 9000), Vec::new())).await, Status::Ok);
    for (server, number) in [(0, 1), (1, 1)] {
        let raise = Down::Raise(RaiseVersion {
            command: number,
            term: 2,
            chunk: 6,
            from: 1,
            to: 2,
            part: 0,
            whole: false,
        });
        let outcome = cluster.leader.outcome(&cluster.address(server), number, raise).await;
        assert_eq!(outcome, CommandOutcome::OutcomeDone);
    }
    // The third was down then: it keeps version 1 and is replaced whole.
    let reconcile = Reconcile {
        command: 9,
        term: 2,
        chunk: 6,
        version: 2,
        peers: cluster.addresses(&[1, 2]),
        ahead: false,
        verify: false,
        haste: 0,
    };
    let done = cluster.leader.commands(&cluster.address(0), 9, Down::Reconcile(reconcile.clone())).await;
    assert_eq!(done.outcome(), CommandOutcome::OutcomeDone, "{}", done.detail);
    let mut expected = common;
    expected[8192..8192 + 4096].copy_from_slice(&pattern(7, 4096));
    expected.resize(409_600, 0);
    for (server, connection) in connections.iter().enumerate() {
        for at in [0usize, 204_800] {
            let reply = connection.call(read(6, 2, at as u64, 204_800)).await.unwrap();
            assert_eq!(reply.header.status, Status::Ok, "server {server}");
            assert!(reply.payload[..] == expected[at..at + 204_800], "server {server} differs at {at}");
        }
        let stat = cluster.servers[server].store().stat(ChunkId(6), PartId(0)).unwrap();
        assert_eq!(stat.durable_blocks, stat.blocks);
    }
    let again = Reconcile { command: 10, ..reconcile };
    assert_eq!(
        cluster.leader.outcome(&cluster.address(0), 10, Down::Reconcile(again)).await,
        CommandOutcome::OutcomeDone
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reconciliation_with_an_unreachable_peer_says_so() {
    let cluster = Cluster::of(1).await;
    let connection = cluster.connect(0).await;
    assert_eq!(status(&connection, write(6, 1, 0, pattern(1, 4096), Vec::new())).await, Status::Ok);
    let peers = vec!["127.0.0.1:1".to_owned()];
    let reconcile = Down::Reconcile(Reconcile {
        command: 1,
        term: 1,
        chunk: 6,
        version: 1,
        peers,
        ahead: false,
        verify: false,
        haste: 0,
    });
    let done = cluster.leader.commands(&cluster.address(0), 1, reconcile).await;
    assert_eq!(done.outcome(), CommandOutcome::OutcomeFailed);
    assert!(done.detail.contains("127.0.0.1:1"), "{}", done.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_ahead_makes_a_replica_where_none_was() {
    let cluster = Cluster::of(2).await;
    let (source, target) = (cluster.connect(0).await, cluster.connect(1).await);
    // The second is all zeros: without a replica it would read the same.
    for (chunk, bytes) in [(6, pattern(1, 200_000)), (7, vec![0; 20_000])] {
        assert_eq!(status(&source, write(chunk, 1, 0, bytes, Vec::new())).await, Status::Ok);
    }
    for (command, chunk) in [(1, 6), (2, 7)] {
        let peers = cluster.addresses(&[1]);
        let copy = Down::Reconcile(Reconcile {
            command,
            term: 1,
            chunk,
            version: 1,
            peers,
            ahead: true,
            verify: true,
            haste: 0,
        });
        let done = cluster.leader.commands(&cluster.address(0), command, copy).await;
        assert_eq!(done.outcome(), CommandOutcome::OutcomeDone, "{}", done.detail);
        let stat = cluster.servers[1].store().stat(ChunkId(chunk), PartId(0)).unwrap();
        assert!(stat.blocks > 0 && stat.durable_blocks == stat.blocks, "{stat:?}");
    }
    let reply = target.call(read(6, 1, 0, 65_536)).await.unwrap();
    assert!(reply.payload[..] == pattern(1, 200_000)[..65_536]);
}
