//! Start, stop, restart, and the messages of a start that fails.

use crate::fixture::{Cluster, config, pattern, read, status, sync, write};
use cairn_chunkserver::{ChunkServer, ChunkServerError};
use cairn_proto::frame::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_keeps_data_node_and_cluster() {
    let mut cluster = Cluster::of(1).await;
    let node = cluster.servers[0].node();
    let data = pattern(5, 100_000);
    let connection = cluster.connect(0).await;
    assert_eq!(status(&connection, write(2, 1, 0, data.clone(), Vec::new())).await, Status::Ok);
    assert_eq!(status(&connection, sync(2, 1, Vec::new())).await, Status::Ok);
    cluster.servers.pop().unwrap().stop().await;
    connection.died().await;
    let again = cluster.start(0).await;
    assert_eq!(again.node(), node);
    cluster.servers.push(again);
    let reply = cluster.connect(0).await.call(read(2, 1, 0, 100_000)).await.unwrap();
    assert_eq!(reply.header.status, Status::Ok);
    assert_eq!(reply.payload[..100_000], data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_that_cannot_be_says_why_and_what_to_do() {
    let cluster = Cluster::of(1).await;
    let masters = vec![cluster.leader.address.clone()];
    let error = |config| async {
        match ChunkServer::start(cluster.env.clone(), config).await {
            Ok(_) => panic!("must not start"),
            Err(error) => error,
        }
    };
    let mut taken = config(masters.clone(), &cluster.directory(7));
    taken.listen = cluster.servers[0].data_address();
    let refused = error(taken).await;
    assert!(matches!(refused, ChunkServerError::Listen { setting: "listen", .. }));
    assert!(refused.to_string().contains(&cluster.address(0)), "{refused}");
    let refused = error(config(masters, &cluster.directory(0))).await;
    assert!(refused.to_string().contains("in use by another chunk server"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn health_pages_tell_how_it_stands() {
    let cluster = Cluster::of(1).await;
    let get = |path: &'static str| {
        let address = cluster.servers[0].http_address().to_string();
        let net = cluster.env.net.clone();
        async move {
            let (mut input, mut output) = net.connect(&address).await.unwrap().into_split();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            output.write_all(request.as_bytes()).await.unwrap();
            let mut page = String::new();
            input.read_to_string(&mut page).await.unwrap();
            page
        }
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.contains("serves as chunkserver-1"));
    let connection = cluster.connect(0).await;
    assert_eq!(status(&connection, write(1, 1, 0, pattern(1, 4096), Vec::new())).await, Status::Ok);
    let metrics = get("/metrics").await;
    assert!(metrics.contains("cairn_chunkserver_requests_total{op=\"write\",status=\"ok\"} 1"), "{metrics}");
    assert!(metrics.contains("cairn_chunkserver_masters_connected 1"), "{metrics}");
}
