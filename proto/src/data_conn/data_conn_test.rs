//! Both sides of a connection over an in-memory stream.

use super::{Closer, ConnError, DataConnection, Handler, Lane, PayloadPool, Request, ServeOptions, serve};
use crate::frame::{Frame, FrameError, Header, Op, Status, flags};
use crate::hello::{hello, judge};
use crate::v1::{Hello, Refused, RefusedReason, Role};
use bytes::Bytes;
use cairn_core::ids::{ChunkId, ClusterId, NodeId, RequestId};
use cairn_core::limits::{DATA_HANDSHAKE_MAX, DATA_SILENCE_MAX, FRAMES_IN_FLIGHT_MAX};
use futures::future::BoxFuture;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Echoes payloads; chunk 1 waits for the gate, chunk 2 says NextHopSlow first, chunk 3 is a bad request, chunk 4 panics.
struct Echo {
    hello: Hello,
    gate: Semaphore,
    ended: AtomicUsize,
}

impl Handler for Echo {
    type Session = Lane;

    async fn hello(&self, theirs: Hello, lane: Lane, _: Closer) -> Result<(Hello, Lane), Refused> {
        judge(&self.hello, &theirs).map(|_| (self.hello.clone(), lane))
    }

    fn handle(self: Arc<Self>, request: Request<Lane>) -> BoxFuture<'static, Frame> {
        Box::pin(async move {
            let header = &request.frame.header;
            match header.chunk.get() {
                1 => drop(self.gate.acquire().await),
                2 => {
                    let mut notice = Frame::bare(header.reply(Status::NextHopSlow));
                    notice.hops = vec!["10.0.0.9:1".into()];
                    request.notify(&notice);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                4 => {
                    tokio::task::yield_now().await;
                    panic!("as the test wants");
                }
                3 => return Frame::bare(header.reply(Status::BadRequest)),
                _ => {}
            }
            self.ended.fetch_add(1, Ordering::SeqCst);
            let mut reply = Frame::bare(header.reply(Status::Ok));
            reply.payload = request.frame.payload.clone();
            reply.sums = request.frame.sums.clone();
            reply
        })
    }
}

fn server(cluster: u128) -> (Arc<Echo>, DuplexStream, JoinHandle<Result<(), ConnError>>) {
    let hello = hello(ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(2)), Role::Chunkserver);
    let echo = Arc::new(Echo { hello, gate: Semaphore::new(0), ended: AtomicUsize::new(0) });
    let (near, far) = tokio::io::duplex(64 * 1024);
    let handler = echo.clone();
    let served = tokio::spawn(async move {
        let (read, write) = tokio::io::split(far);
        serve(read, write, "client", &ServeOptions::default(), handler).await
    });
    (echo, near, served)
}

async fn connect(stream: DuplexStream, cluster: u128) -> Result<DataConnection, ConnError> {
    let (read, write) = tokio::io::split(stream);
    let hello = hello(ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(1)), Role::Client);
    let lane = Lane { number: 3, generation: 1 };
    let (connection, driver) =
        DataConnection::connect(read, write, "chunkserver x", &hello, lane, &PayloadPool::default()).await?;
    drop(tokio::spawn(driver));
    Ok(connection)
}

fn write_frame(chunk: u64, payload: Vec<u8>) -> Frame {
    let mut frame = Frame::bare(Header::request(Op::Write, RequestId(77)));
    frame.header.chunk = ChunkId(chunk);
    frame.header.flags = flags::SYNC;
    frame.sums = vec![payload.len() as u32; 3];
    frame.payload = Bytes::from(payload);
    frame
}

#[tokio::test]
async fn many_calls_in_flight_get_their_own_replies() {
    let (echo, stream, _served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    assert_eq!(conn.remote().role(), Role::Chunkserver);
    echo.gate.add_permits(1000);
    let calls = (0..300usize).map(|i| {
        let conn = conn.clone();
        tokio::spawn(async move {
            let payload = vec![i as u8; 1 + i * 880];
            let reply = conn.call(write_frame(i as u64 % 3, payload.clone())).await.unwrap();
            assert_eq!(reply.header.request, RequestId(77), "the caller's own id comes back");
            assert_eq!((reply.header.status, reply.sums.len()), (Status::Ok, 3));
            assert_eq!(reply.payload, payload);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(conn.in_flight(), 0);
}

#[tokio::test]
async fn notices_come_before_the_reply() {
    let (_echo, stream, _served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let mut slow = Vec::new();
    let reply =
        conn.call_with_progress(write_frame(2, vec![1]), |notice| slow.push(notice.hops[0].clone())).await;
    assert_eq!(reply.unwrap().header.status, Status::Ok);
    assert_eq!(slow, ["10.0.0.9:1"]);
}

#[tokio::test]
async fn frames_in_flight_are_bounded_and_pings_pass_by() {
    let (echo, stream, _served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let calls: Vec<_> = (0..FRAMES_IN_FLIGHT_MAX + 20)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.call(write_frame(1, vec![0; 10])).await.map(drop) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(conn.in_flight(), FRAMES_IN_FLIGHT_MAX);
    tokio::time::timeout(Duration::from_secs(1), conn.ping()).await.unwrap().unwrap();
    echo.gate.add_permits(1000);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_death_of_the_peer_fails_all_calls_at_once() {
    let (echo, stream, served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let conn = conn.clone();
            tokio::spawn(async move { conn.call(write_frame(1, vec![0; 10])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    served.abort();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnError::Closed { .. } | ConnError::Io { .. }), "{error}");
    }
    assert!(conn.dead().is_some());
    assert!(conn.call(write_frame(0, vec![])).await.is_err());
    assert_eq!(echo.ended.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn serving_ends_only_with_its_last_request() {
    let (echo, stream, served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let call = conn.clone();
    let call = tokio::spawn(async move { call.call(write_frame(1, vec![0; 10])).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    conn.close();
    assert!(matches!(call.await.unwrap(), Err(ConnError::ClosedHere { .. })));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!served.is_finished(), "a request that was begun is not left behind");
    echo.gate.add_permits(1);
    let _ = served.await.unwrap();
    assert_eq!(echo.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn another_cluster_is_refused_in_words() {
    let (_echo, stream, _served) = server(1);
    let Err(ConnError::Refused { reason, message, .. }) = connect(stream, 2).await else {
        panic!("must be refused")
    };
    assert_eq!(reason, RefusedReason::RefusedWrongCluster);
    assert!(message.contains("chunkserver"), "{message}");
}

#[tokio::test]
async fn a_bad_request_is_answered_then_the_connection_closed() {
    let (_echo, stream, served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let reply = conn.call(write_frame(3, vec![])).await.unwrap();
    assert_eq!(reply.header.status, Status::BadRequest);
    assert!(served.await.unwrap().is_err());
    conn.died().await;
}

#[tokio::test]
async fn garbage_ends_the_connection() {
    let (_echo, mut stream, served) = server(1);
    stream.write_all(&[0x47; 500]).await.unwrap();
    let error = served.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnError::Protocol { source: FrameError::Magic, .. }), "{error}");
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_hello_is_cut_off() {
    let (_echo, mut stream, served) = server(1);
    let head = Frame::bare(Header::request(Op::Hello, RequestId(0))).encode_head();
    let trickle = async {
        for byte in head.iter() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let (served, ()) = tokio::join!(served, trickle);
    let error = served.unwrap().unwrap_err();
    let ConnError::Silent { silent_ms, .. } = error else { panic!("{error}") };
    assert_eq!(silent_ms, DATA_HANDSHAKE_MAX.as_millis() as u64);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_and_a_frozen_peer_is_noticed() {
    let (_echo, stream, served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(conn.call(write_frame(0, vec![9])).await.unwrap().payload[..], [9]);
    drop(conn);
    let _ = served.await.unwrap();

    let (near, mut far) = tokio::io::duplex(1 << 20);
    let greet_and_freeze = async {
        let mut greeting = Frame::bare(Header::request(Op::Hello, RequestId(0)).reply(Status::Ok));
        let hello = hello(ClusterId::default(), NodeId::default(), Role::Chunkserver);
        greeting.payload = hello.encode_to_vec().into();
        far.write_all(&greeting.encode_head()).await.unwrap();
        far.write_all(&greeting.payload).await.unwrap();
    };
    let (conn, ()) = tokio::join!(connect(near, 1), greet_and_freeze);
    let conn = conn.unwrap();
    let started = tokio::time::Instant::now();
    let (call, error) = tokio::join!(conn.call(write_frame(0, vec![1])), conn.died());
    assert!(call.is_err());
    assert!(matches!(error, ConnError::Silent { .. }), "{error}");
    assert!(started.elapsed() < DATA_SILENCE_MAX + Duration::from_secs(2));
}

#[tokio::test]
async fn oversized_lengths_are_refused_before_allocation() {
    let (_echo, stream, served) = server(1);
    let (mut read, mut write) = tokio::io::split(stream);
    let mut frame = Frame::bare(Header::request(Op::Hello, RequestId(0)));
    frame.payload = Bytes::from(vec![0; 100_000]);
    let _ = write.write_all(&frame.encode_head()).await;
    let error = served.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnError::Protocol { .. }), "{error}");
    let mut rest = Vec::new();
    assert_eq!(read.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_that_panics_closes_its_connection() {
    let (_echo, stream, served) = server(1);
    let conn = connect(stream, 1).await.unwrap();
    let call = tokio::time::timeout(Duration::from_secs(2), conn.call(write_frame(4, vec![1])));
    assert!(call.await.unwrap().is_err());
    assert!(served.await.unwrap().is_err());
}
