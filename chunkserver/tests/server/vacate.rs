//! A leader's word about disks that are to be emptied: obeyed, told back, and what has nowhere to go is listed.

use crate::fixture::{Cluster, config, pattern, read, registered, status, sync, write};
use cairn_chunkserver::ChunkServer;
use cairn_chunkserver::config::DiskSetting;
use cairn_proto::frame::Status;
use cairn_proto::v1::chunk_server_message::Message as Up;
use cairn_proto::v1::master_command::Message as Down;
use cairn_proto::v1::{CommandOutcome, FenceTerm, HeartbeatSeen, ListReplicas};
use std::time::Duration;

/// A server with two disks; the second has so much room.
async fn with_two_disks(capacity_mib: u64) -> Cluster {
    let mut cluster = Cluster::of(0).await;
    let mut config = config(vec![cluster.leader.address.clone()], &cluster.directory(0));
    config.disks.push(DiskSetting { path: cluster.directory(1), capacity_mib, reserve_mib: 1 });
    let server = ChunkServer::start(cluster.env.clone(), config).await.unwrap();
    registered(&server).await;
    cluster.servers.push(server);
    cluster
}

fn disk(cluster: &Cluster, number: usize) -> Vec<u8> {
    cluster.servers[0].store().disks()[number].disk.0.as_bytes().to_vec()
}

async fn say(cluster: &Cluster, term: u64, disks: &[usize]) {
    let vacate = disks.iter().map(|&number| disk(cluster, number).into()).collect();
    let seen = HeartbeatSeen { term, vacate, ..HeartbeatSeen::default() };
    cluster.leader.send(&cluster.address(0), Down::HeartbeatSeen(seen)).await;
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 10 s");
}

async fn listed(cluster: &Cluster, command: u64, number: usize, nowhere: bool) -> Vec<u64> {
    let disk = disk(cluster, number).into();
    let list = ListReplicas { command, term: 1, first: 0, last: u64::MAX, disk, nowhere, limit: 0 };
    cluster.leader.send(&cluster.address(0), Down::List(list)).await;
    let address = cluster.address(0);
    let replicas = cluster.leader.hears(&address, |message| match message {
        Up::Replicas(list) if list.command == command => Some(list.replicas.clone()),
        _ => None,
    });
    replicas.await.iter().map(|held| held.chunk).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_is_emptied_on_a_leaders_word_only() {
    let cluster = with_two_disks(1).await;
    let connection = cluster.connect(0).await;
    for chunk in [3, 5, 8] {
        assert_eq!(
            status(&connection, write(chunk, 1, 0, pattern(chunk, 5000), Vec::new())).await,
            Status::Ok
        );
        assert_eq!(status(&connection, sync(chunk, 1, Vec::new())).await, Status::Ok);
    }
    let vacating = || cluster.servers[0].store().disks()[0].vacating;
    say(&cluster, 0, &[0]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(vacating(), None, "whoever does not lead has no word");
    say(&cluster, 1, &[0]).await;
    wait_until("it has looked", || vacating().is_some_and(|vacating| vacating.nowhere == 3)).await;
    let address = cluster.address(0);
    let told = cluster.leader.hears(&address, |message| match message {
        Up::Heartbeat(beat) => beat.disks[0].vacating.filter(|vacating| vacating.nowhere == 3),
        _ => None,
    });
    assert_eq!(told.await.damaged, 0);
    assert_eq!(listed(&cluster, 1, 0, true).await, [3, 5, 8]);
    assert_eq!(listed(&cluster, 2, 1, false).await, [0; 0]);

    let fence = Down::Fence(FenceTerm { command: 3, term: 5 });
    assert_eq!(cluster.leader.outcome(&cluster.address(0), 3, fence).await, CommandOutcome::OutcomeDone);
    say(&cluster, 4, &[]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(vacating().is_some(), "a leader of before has no word any more");
    say(&cluster, 5, &[]).await;
    wait_until("it is called off", || vacating().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_stands_on_it_is_served_all_the_time() {
    let cluster = with_two_disks(0).await;
    let connection = cluster.connect(0).await;
    let disks = || cluster.servers[0].store().disks();
    let payload = |chunk: u64| pattern(chunk, 200_000);
    for chunk in 1..=20 {
        assert_eq!(status(&connection, write(chunk, 1, 0, payload(chunk), Vec::new())).await, Status::Ok);
    }
    for (from, to) in [(0, 1), (1, 0)] {
        say(&cluster, 1, &[from]).await;
        while disks()[from].replicas > 0 {
            for chunk in 1..=20 {
                let reply = connection.call(read(chunk, 1, 0, 200_000)).await.unwrap();
                assert_eq!(reply.header.status, Status::Ok);
                assert!(reply.payload[..200_000] == payload(chunk), "chunk {chunk}");
                assert_eq!(status(&connection, sync(chunk, 1, Vec::new())).await, Status::Ok);
            }
        }
        assert_eq!(disks()[to].replicas, 20);
    }
}
