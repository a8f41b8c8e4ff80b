//! Bytes from strangers: each costs bounded memory and time, and the server goes on serving others.

use crate::fixture::{Cluster, header, pattern, read, status, write};
use cairn_core::ids::{ClusterId, NodeId, RequestId};
use cairn_core::limits::{FRAME_PAYLOAD_BYTES_MAX, HTTP_CONNECTION_MAX, HTTP_CONNECTIONS_MAX};
use cairn_proto::data_conn::{ConnError, DataConnection, Lane, PayloadPool};
use cairn_proto::frame::{Frame, Header, Op, Status, flags};
use cairn_proto::hello::hello;
use cairn_proto::v1::{RefusedReason, Role};
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_and_oversized_frames_leave_others_served() {
    let cluster = Cluster::of(1).await;
    let connection = cluster.connect(0).await;
    assert_eq!(status(&connection, write(1, 1, 0, pattern(1, 4096), Vec::new())).await, Status::Ok);
    let greeting = {
        let mut frame = Frame::bare(Header::request(Op::Hello, RequestId(0)));
        frame.payload = hello(cluster.leader.cluster, NodeId::default(), Role::Client).encode_to_vec().into();
        [frame.encode_head().to_vec(), frame.payload.to_vec()].concat()
    };
    for round in 0..64u64 {
        let mut bytes = if round % 2 == 0 { greeting.clone() } else { Vec::new() };
        match round % 3 {
            0 => bytes.extend(pattern(round, 5000)),
            1 => {
                // A header whose lengths claim more than is allowed, with a valid checksum.
                let mut head = Frame::bare(header(Op::Write, 1, 1)).encode_head().to_vec();
                head[52..56].copy_from_slice(&u32::MAX.to_le_bytes());
                let crc = crc32fast::hash(&head[..76]);
                head[76..80].copy_from_slice(&crc.to_le_bytes());
                bytes.extend(head);
            }
            _ => bytes.extend(&greeting[..round as usize % greeting.len()]),
        }
        let stream = cluster.env.net.connect(&cluster.address(0)).await.unwrap();
        let (mut input, mut output) = stream.into_split();
        let _ = output.write_all(&bytes).await;
        drop(output);
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), input.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() < 2000);
    }
    assert_eq!(status(&connection, read(1, 1, 0, 4096)).await, Status::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_that_make_no_sense_end_their_connection_only() {
    let cluster = Cluster::of(1).await;
    let good = cluster.connect(0).await;
    let beyond = write(1, 1, (64 << 20) - 100, pattern(1, 4096), Vec::new());
    let mut few_sums = write(1, 1, 0, pattern(1, 9000), Vec::new());
    few_sums.sums.pop();
    let empty = write(1, 1, 0, Vec::new(), Vec::new());
    let mut repair = write(1, 1, 0, pattern(1, 10), Vec::new());
    repair.header.flags |= flags::REPAIR;
    let long_read = read(1, 1, 0, FRAME_PAYLOAD_BYTES_MAX as u32 + 1);
    for frame in [beyond, few_sums, empty, repair, long_read, read(1, 1, u64::MAX - 5, 10)] {
        let connection = cluster.connect(0).await;
        assert_eq!(status(&connection, frame).await, Status::BadRequest);
        connection.died().await;
    }
    assert_eq!(status(&good, write(1, 1, 0, pattern(1, 4096), Vec::new())).await, Status::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_cluster_is_refused_by_name() {
    let cluster = Cluster::of(1).await;
    let (input, output) = cluster.env.net.connect(&cluster.address(0)).await.unwrap().into_split();
    let stranger = hello(ClusterId(cluster.env.random.uuid()), NodeId::default(), Role::Client);
    let refused =
        DataConnection::connect(input, output, "c", &stranger, Lane::default(), &PayloadPool::default())
            .await;
    let Err(ConnError::Refused { reason, message, .. }) = refused else { panic!("must be refused") };
    assert_eq!(reason, RefusedReason::RefusedWrongCluster);
    assert!(message.contains(&cluster.leader.cluster.to_string()), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_connection_of_a_lane_ends_the_old_one_first() {
    let cluster = Cluster::of(1).await;
    let node = NodeId(cluster.env.random.uuid());
    let first = cluster.connect_as(0, node, Lane { number: 1, generation: 1 }).await;
    let other_lane = cluster.connect_as(0, node, Lane { number: 2, generation: 1 }).await;
    let second = cluster.connect_as(0, node, Lane { number: 1, generation: 2 }).await;
    first.died().await;
    assert!(first.call(write(1, 1, 0, pattern(1, 4096), Vec::new())).await.is_err());
    for connection in [&other_lane, &second] {
        assert_eq!(status(connection, write(1, 1, 0, pattern(2, 4096), Vec::new())).await, Status::Ok);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn idle_connections_to_the_health_pages_keep_nobody_out_for_long() {
    let cluster = Cluster::of(1).await;
    let address = cluster.servers[0].http_address().to_string();
    let mut idle = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX {
        idle.push(cluster.env.net.connect(&address).await.unwrap());
    }
    let (mut input, mut output) = cluster.env.net.connect(&address).await.unwrap().into_split();
    output.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    let patience = HTTP_CONNECTION_MAX + Duration::from_secs(10);
    tokio::time::timeout(patience, input.read_to_string(&mut page)).await.unwrap().unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}
