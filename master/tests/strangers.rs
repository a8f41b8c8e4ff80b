//! Bad input: what is not ours is refused with a reason, and harms nobody else.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use cairn_core::ids::{ClusterId, InodeId, NodeId};
use cairn_core::namespace::request::QueryKind;
use cairn_env::Env;
use cairn_master::{Master, MasterConfig};
use cairn_proto::hello::hello;
use cairn_proto::session_conn::{self, PEERS, framed};
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::master_message::Message as Told;
use cairn_proto::v1::{
    ClientHello, Declare, Hello, PeerAnswer, PeerHello, PeerMessage, PeerPing, RefusedReason, Role,
    peer_answer, peer_message,
};
use std::time::Duration;
use support::{Client, Running, config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn failure(config: MasterConfig) -> String {
    match Master::start(Env::real(), config).await {
        Ok(_) => panic!("the master must not start"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_waits_for_the_others_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let members = vec!["1=127.0.0.1:1".to_owned(), "2=127.0.0.1:2".to_owned()];
    let config = MasterConfig { members, cluster: Uuid::from_u128(7).to_string(), ..config(&dir) };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(cairn_master::run(Env::real(), config, shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!running.is_finished(), "the other is not there");
    shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await;
    assert!(ended.expect("it stops").unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_poses_as_a_master_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let ping = PeerMessage { message: Some(peer_message::Message::Ping(PeerPing {})) };
    let mut hello = hello(master.cluster, NodeId(Uuid::from_u128(3)), Role::Master);
    for said in [ping, of_master(hello.clone()), {
        hello.cluster = Uuid::from_u128(5).as_bytes().to_vec().into();
        of_master(hello)
    }] {
        let (read, write) = Env::real().net.connect(&master.address).await.unwrap().into_split();
        let (link, mut answers) = session_conn::begin::<PeerAnswer>(PEERS, read, write, "master").unwrap();
        link.send(framed(&said, Vec::new())).unwrap();
        let conversation = async {
            while let Ok(Some(answer)) = answers.next().await {
                assert!(matches!(answer.message, Some(peer_answer::Message::Refused(_))), "{answer:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(5), conversation).await.expect("it is hung up on");
    }
    master.stop().await;
}

fn of_master(hello: Hello) -> PeerMessage {
    let said = PeerHello { hello: Some(hello), from: 2, to: 1, founded: true };
    PeerMessage { message: Some(peer_message::Message::Hello(said)) }
}

fn client_hello(cluster: u128, role: Role) -> ClientHello {
    let hello = hello(ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(3)), role);
    ClientHello { hello: Some(hello), ..ClientHello::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_other_clusters_and_roles_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let Err(Told::Refused(refused)) =
        Client::with_hello(&master.address, client_hello(5, Role::Client)).await
    else {
        panic!("refused")
    };
    assert_eq!(refused.reason(), RefusedReason::RefusedWrongCluster);
    let Err(Told::Refused(refused)) =
        Client::with_hello(&master.address, client_hello(0, Role::Chunkserver)).await
    else {
        panic!("refused")
    };
    assert_eq!(refused.reason(), RefusedReason::RefusedBadRequest);
    let first_contact = Client::with_hello(&master.address, client_hello(0, Role::Client)).await;
    assert!(first_contact.is_ok());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_and_oversized_messages_harm_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    for seed in 0..50u8 {
        let mut socket = Env::real().net.connect(&master.address).await.unwrap();
        let garbage: Vec<u8> =
            (0..4096u32).map(|n| (n.wrapping_mul(2654435761) >> 24) as u8 ^ seed).collect();
        let _ = socket.write_all(&garbage).await;
    }
    let mut huge = Client::open(&master).await;
    let opened = (0..2_000_000u64).map(|n| n | 1 << 62).collect();
    // The master may close before it has read all of it.
    huge.try_send(Asked::Declare(Declare { opened, closed: Vec::new() })).await;
    assert!(
        huge.wait_for(|_| None::<()>).await.is_none(),
        "a connection with an oversized message is closed"
    );
    assert!(client.ask(QueryKind::GetAttr { inode: InodeId::ROOT }).await.is_ok());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_not_served_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut reader = Client::open(&master).await;
    let deaf = Client::open(&master).await;
    // Each question is small, each answer a reply that nobody takes: at some point the master must stop reading.
    let flood = tokio::spawn(async move {
        let mut deaf = deaf;
        for _ in 0..2_000_000u64 {
            let question = QueryKind::GetAttr { inode: InodeId::ROOT };
            let sent = tokio::time::timeout(Duration::from_secs(2), deaf.post(question)).await;
            if sent.is_err() {
                return true;
            }
        }
        false
    });
    let held_back = tokio::time::timeout(Duration::from_secs(60), flood).await.unwrap().unwrap();
    assert!(held_back, "backpressure reaches the sender");
    assert!(reader.ask(QueryKind::GetAttr { inode: InodeId::ROOT }).await.is_ok());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_errors_name_the_cause_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let message = failure(config(&dir)).await;
    assert!(message.contains("in use by another process") && message.contains("data_dir"), "{message}");
    let elsewhere = tempfile::tempdir().unwrap();
    let listen = master.address.parse().unwrap();
    let message = failure(MasterConfig { listen, ..config(&elsewhere) }).await;
    assert!(message.contains(&master.address) && message.contains("listen"), "{message}");
    master.stop().await;

    let cluster = Uuid::from_u128(0xabc).to_string();
    let message = failure(MasterConfig { cluster, ..config(&dir) }).await;
    assert!(message.contains("belongs to cluster"), "{message}");
    let file = dir.path().join("master/superblock");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 200;
    let crc = crc32fast::hash(&bytes[..76]).to_le_bytes();
    bytes[76..80].copy_from_slice(&crc);
    std::fs::write(&file, &bytes).unwrap();
    let message = failure(config(&dir)).await;
    assert!(message.contains("newer") && message.contains("200"), "{message}");
    std::fs::remove_file(&file).unwrap();
    let message = failure(config(&dir)).await;
    assert!(message.contains("not empty"), "{message}");
}

async fn get(master: &Running, path: &str) -> String {
    let mut socket = Env::real().net.connect(&master.http.to_string()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    client.create("f").await;
    assert!(get(&master, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&master, "/readyz").await.contains("leads in term-"));
    let page = get(&master, "/metrics").await;
    for line in ["cairn_master_operations_total 1", "cairn_master_sessions 1", "cairn_master_leads 1"] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert!(get(&master, "/nothing").await.starts_with("HTTP/1.1 404"));
    master.stop().await;
}
