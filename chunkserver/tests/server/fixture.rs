//! Servers, a connection to them, and frames.

use crate::leader::Leader;
use bytes::Bytes;
use cairn_chunkserver::ChunkServer;
use cairn_chunkserver::config::{ChunkServerConfig, DiskSetting};
use cairn_core::checksum::payload_crcs;
use cairn_core::ids::{ChunkId, ChunkVersion, LeaseNumber, NodeId, RequestId};
use cairn_env::Env;
use cairn_proto::data_conn::{DataConnection, Lane, PayloadPool};
use cairn_proto::frame::{Frame, Header, Op, Status, flags};
use cairn_proto::hello::hello;
use cairn_proto::v1::Role;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A leader and some servers that it has registered.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) leader: Leader,
    pub(crate) servers: Vec<ChunkServer>,
    pub(crate) root: TempDir,
}

pub(crate) fn config(masters: Vec<String>, directory: &Path) -> ChunkServerConfig {
    ChunkServerConfig {
        masters,
        listen: "127.0.0.1:0".parse().unwrap(),
        http_listen: "127.0.0.1:0".parse().unwrap(),
        disks: vec![DiskSetting { path: directory.to_owned(), capacity_mib: 0, reserve_mib: 1 }],
        ..ChunkServerConfig::default()
    }
}

impl Cluster {
    pub(crate) async fn of(servers: usize) -> Self {
        let env = Env::real();
        let leader = Leader::start(&env).await;
        let mut cluster = Self { env, leader, servers: Vec::new(), root: tempfile::tempdir().unwrap() };
        for number in 0..servers {
            let started = cluster.start(number).await;
            cluster.servers.push(started);
        }
        cluster
    }

    pub(crate) fn directory(&self, number: usize) -> PathBuf {
        self.root.path().join(format!("disk-{number}"))
    }

    /// Starts server `number` on its directory and waits until it is registered.
    pub(crate) async fn start(&self, number: usize) -> ChunkServer {
        let config = config(vec![self.leader.address.clone()], &self.directory(number));
        let server = ChunkServer::start(self.env.clone(), config).await.unwrap();
        registered(&server).await;
        server
    }

    pub(crate) fn address(&self, number: usize) -> String {
        self.servers[number].data_address().to_string()
    }

    pub(crate) fn addresses(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|&number| self.address(number)).collect()
    }

    pub(crate) async fn connect(&self, number: usize) -> DataConnection {
        self.connect_as(number, NodeId(self.env.random.uuid()), Lane::default()).await
    }

    pub(crate) async fn connect_as(&self, number: usize, node: NodeId, lane: Lane) -> DataConnection {
        let (read, write) = self.env.net.connect(&self.address(number)).await.unwrap().into_split();
        let hello = hello(self.leader.cluster, node, Role::Client);
        let name = format!("chunkserver {}", self.address(number));
        let (connection, driver) =
            DataConnection::connect(read, write, &name, &hello, lane, &PayloadPool::default()).await.unwrap();
        drop(tokio::spawn(driver));
        connection
    }
}

pub(crate) async fn registered(server: &ChunkServer) {
    for _ in 0..500 {
        if server.masters_connected() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not registered within 5 s");
}

pub(crate) fn header(op: Op, chunk: u64, version: u64) -> Header {
    let mut header = Header::request(op, RequestId(1));
    (header.chunk, header.version) = (ChunkId(chunk), ChunkVersion(version));
    header
}

/// A write that may make the replica, under lease 1.
pub(crate) fn write(chunk: u64, version: u64, offset: u64, payload: Vec<u8>, hops: Vec<String>) -> Frame {
    let mut header = header(Op::Write, chunk, version);
    (header.offset, header.lease, header.flags) = (offset, LeaseNumber(1), flags::CREATE);
    let sums = payload_crcs(ChunkId(chunk), offset, &payload);
    Frame { header, hops, sums, payload: Bytes::from(payload) }
}

pub(crate) fn sync(chunk: u64, version: u64, hops: Vec<String>) -> Frame {
    Frame { hops, ..Frame::bare(header(Op::Sync, chunk, version)) }
}

pub(crate) fn read(chunk: u64, version: u64, offset: u64, length: u32) -> Frame {
    let mut header = header(Op::Read, chunk, version);
    (header.offset, header.length) = (offset, length);
    Frame::bare(header)
}

pub(crate) async fn status(connection: &DataConnection, frame: Frame) -> Status {
    connection.call(frame).await.unwrap().header.status
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| ((i * 31 + seed * 7919) ^ (i >> 9)) as u8).collect()
}
