//! A real cluster inside the test's process: one master and chunk servers, each chunk server on a runtime of its own so
//! that it can be killed (its sockets vanish) or frozen (its sockets stay, and nobody serves them).

#![allow(dead_code, reason = "each test file uses its own part")]

use cairn_chunkserver::ChunkServer;
use cairn_chunkserver::config::{ChunkServerConfig, DiskSetting};
use cairn_chunkserver::store::DiskState;
use cairn_client::fs::{FileSystem, OpenFile, OpenFlags};
use cairn_client::{ConnectOptions, Unavailable};
use cairn_core::ids::InodeId;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use cairn_env::Env;
use cairn_master::{Master, MasterConfig};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const ANY_PORT: &str = "127.0.0.1:0";

pub const READ_WRITE: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, exclusive: false, direct: false };
pub const READ_ONLY: OpenFlags =
    OpenFlags { read: true, write: false, append: false, truncate: false, exclusive: false, direct: false };

/// One chunk server and the runtime that carries it.
pub struct Server {
    runtime: Option<Runtime>,
    pub data: SocketAddr,
    /// Where others are told that it is, if that is elsewhere.
    advertised: Option<SocketAddr>,
    http: SocketAddr,
    disk: PathBuf,
}

/// A running cluster. Everything ends with it.
pub struct Cluster {
    pub masters: String,
    pub servers: Vec<Server>,
    master: Option<MasterThread>,
    _dir: TempDir,
}

impl Cluster {
    /// Starts a master and `count` chunk servers, and waits until all are registered.
    pub async fn start(count: usize, replicas: u8) -> Self {
        let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "off".into());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let base = if PathBuf::from("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let dir = tempfile::Builder::new().prefix("cairn-client-test-").tempdir_in(base).unwrap();
        let config = MasterConfig {
            data_dir: dir.path().join("master"),
            listen: ANY_PORT.parse().unwrap(),
            http_listen: ANY_PORT.parse().unwrap(),
            default_replicas: replicas,
            cache_mib: 32,
            ..MasterConfig::default()
        };
        let (master, masters) = MasterThread::start(config).await;
        let mut servers = Vec::new();
        for number in 0..count {
            let disk = dir.path().join(format!("disk-{number}"));
            let anywhere = (ANY_PORT.parse().unwrap(), None);
            servers.push(Server::start(&masters, disk, anywhere, true).await);
        }
        Self { masters, servers, master: Some(master), _dir: dir }
    }

    pub async fn client(&self) -> FileSystem {
        let options = ConnectOptions {
            description: "a test".into(),
            unavailable: Unavailable::Fail { after: Duration::from_secs(20) },
            ..ConnectOptions::new(&self.masters)
        };
        FileSystem::connect(Env::real(), options).await.unwrap()
    }

    /// Sockets vanish at once, as with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        if let Some(runtime) = self.servers[index].runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Kills a server and starts it again on its disk and at its address.
    pub async fn restart(&mut self, index: usize) {
        self.kill(index);
        let Server { disk, data, advertised, .. } = &self.servers[index];
        let (disk, at) = (disk.clone(), (*data, *advertised));
        let with_master = self.master.is_some();
        self.servers[index] = Server::start(&self.masters, disk, at, with_master).await;
    }

    /// From now on clients and masters are told that the server is at this address, which leads to it.
    pub async fn restart_behind(&mut self, index: usize, advertised: SocketAddr) {
        self.kill(index);
        let Server { disk, data, .. } = &self.servers[index];
        let (disk, data) = (disk.clone(), *data);
        self.servers[index] = Server::start(&self.masters, disk, (data, Some(advertised)), true).await;
    }

    /// From now on there is no master.
    pub fn stop_master(&mut self) {
        self.master = None;
    }

    /// How many requests of one kind the living servers have answered.
    pub async fn requests(&self, op: &str) -> u64 {
        let mut sum = 0;
        for server in self.servers.iter().filter(|server| server.runtime.is_some()) {
            let page = metrics(server.http).await;
            let counter = format!("cairn_chunkserver_requests_total{{op=\"{op}\"");
            let lines = page.lines().filter(|line| line.starts_with(&counter));
            sum += lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
        sum
    }

    /// Nobody serves the sockets any more, as with SIGSTOP, for `span`.
    pub fn freeze(&self, index: usize, span: Duration) {
        if let Some(runtime) = &self.servers[index].runtime {
            runtime.spawn(async move { std::thread::sleep(span) });
        }
    }
}

/// The master on a thread of its own. The end of a test waits for it: a store that is still open when the process exits
/// loses the statics of RocksDB under its feet and aborts the process.
struct MasterThread {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl MasterThread {
    /// The running master and where it listens.
    async fn start(config: MasterConfig) -> (Self, String) {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async move {
                let master = Master::start(Env::real(), config).await.unwrap();
                master.ready().await;
                tell.send(master.control_address().to_string()).unwrap();
                master.serve(stopped).await.unwrap();
            });
        });
        (Self { stop, thread: Some(thread) }, told.await.unwrap())
    }
}

impl Drop for MasterThread {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()),
            "the master stops cleanly"
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            self.kill(index);
        }
    }
}

impl Server {
    async fn start(
        masters: &str,
        disk: PathBuf,
        (listen, advertised): (SocketAddr, Option<SocketAddr>),
        with_master: bool,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = ChunkServerConfig {
            masters: vec![masters.to_owned()],
            listen,
            advertise: advertised.map(|address| address.to_string()).unwrap_or_default(),
            http_listen: ANY_PORT.parse().unwrap(),
            disks: vec![DiskSetting { path: disk.clone(), capacity_mib: 0, reserve_mib: 16 }],
            ..ChunkServerConfig::default()
        };
        let started = runtime.spawn(async move {
            let server = loop {
                // After a restart: the predecessor's threads may still hold the disk or the address.
                match ChunkServer::start(Env::real(), config.clone()).await {
                    Ok(server)
                        if server.store().disks().iter().all(|disk| disk.state != DiskState::Failed) =>
                    {
                        break server;
                    }
                    Ok(server) => server.stop().await,
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            while with_master && server.masters_connected() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let addresses = (server.data_address(), server.http_address());
            tokio::spawn(server.serve(CancellationToken::new()));
            addresses
        });
        let (data, http) = started.await.unwrap();
        Self { runtime: Some(runtime), data, advertised, http, disk }
    }
}

async fn metrics(address: SocketAddr) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

pub fn root() -> Credentials {
    Credentials::default()
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

pub async fn create(fs: &FileSystem, text: &str) -> OpenFile {
    fs.create(&root(), InodeId::ROOT, &name(text), 0o644, READ_WRITE).await.unwrap().1
}

/// Bytes that tell where they belong.
pub fn pattern(offset: u64, length: usize, salt: u8) -> Vec<u8> {
    (offset..offset + length as u64).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8 ^ salt).collect()
}
