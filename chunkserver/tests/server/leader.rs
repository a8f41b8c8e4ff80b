//! A leader that registers whoever comes, sends the commands a test gives it, and keeps what it is told.

use cairn_core::ids::ClusterId;
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::chunk_server_message::Message as Up;
use cairn_proto::v1::cluster_server::{Cluster, ClusterServer};
use cairn_proto::v1::master_command::Message as Down;
use cairn_proto::v1::{
    ChunkServerMessage, CommandDone, CommandOutcome, MasterCommand, Refused, RefusedReason, Registered,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Commands = mpsc::Sender<Result<MasterCommand, Status>>;

pub(crate) struct Leader {
    pub(crate) address: String,
    pub(crate) cluster: ClusterId,
    state: Arc<State>,
}

struct State {
    cluster: ClusterId,
    leads: bool,
    /// Data address → the way down.
    servers: Mutex<BTreeMap<String, Commands>>,
    /// Everything told, with the data address it came from.
    told: Mutex<Vec<(String, Up)>>,
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl Cluster for Service {
    type ChunkServerStream = ReceiverStream<Result<MasterCommand, Status>>;

    async fn chunk_server(
        &self,
        request: Request<Streaming<ChunkServerMessage>>,
    ) -> Result<Response<Self::ChunkServerStream>, Status> {
        let (down, commands) = mpsc::channel(64);
        let (mut incoming, state) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            let mut from = String::new();
            while let Ok(Some(message)) = incoming.message().await {
                let message = message.message.unwrap();
                if let Up::Register(register) = &message {
                    from.clone_from(&register.data_address);
                    let mut servers = state.servers.lock().unwrap();
                    let answer = if state.leads {
                        servers.insert(from.clone(), down.clone());
                        Down::Registered(Registered {
                            cluster: state.cluster.0.as_bytes().to_vec().into(),
                            server: servers.len() as u32,
                            term: 1,
                            protocol: 1,
                            masters: Vec::new(),
                        })
                    } else {
                        let reason = RefusedReason::RefusedNotLeader.into();
                        Down::Refused(Refused {
                            reason,
                            message: "does not lead".into(),
                            leader: String::new(),
                        })
                    };
                    down.try_send(Ok(MasterCommand { message: Some(answer) })).unwrap();
                }
                state.told.lock().unwrap().push((from.clone(), message));
            }
        });
        Ok(Response::new(ReceiverStream::new(commands)))
    }
}

impl Leader {
    pub(crate) async fn start(env: &Env) -> Self {
        Self::start_as(env, true).await
    }

    /// A master that refuses everybody.
    pub(crate) async fn start_follower(env: &Env) -> Self {
        Self::start_as(env, false).await
    }

    async fn start_as(env: &Env, leads: bool) -> Self {
        let listener = env.net.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cluster = ClusterId(env.random.uuid());
        let state = Arc::new(State { cluster, leads, servers: Mutex::default(), told: Mutex::default() });
        let service = ClusterServer::new(Service(state.clone()));
        tokio::spawn(grpc::server().add_service(service).serve_with_incoming(grpc::incoming(listener)));
        Self { address, cluster, state }
    }

    /// Waits for the first message of `from` that `choose` takes.
    pub(crate) async fn hears<T>(&self, from: &str, choose: impl Fn(&Up) -> Option<T>) -> T {
        for _ in 0..500 {
            let heard = self
                .state
                .told
                .lock()
                .unwrap()
                .iter()
                .find_map(|(address, message)| if address == from { choose(message) } else { None });
            match heard {
                Some(heard) => return heard,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{from} did not say it within 5 s");
    }

    /// Sends a command and waits for its outcome.
    pub(crate) async fn commands(&self, to: &str, number: u64, command: Down) -> CommandDone {
        self.send(to, command).await;
        self.hears(to, |message| match message {
            Up::Done(done) if done.command == number => Some(done.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn outcome(&self, to: &str, number: u64, command: Down) -> CommandOutcome {
        self.commands(to, number, command).await.outcome()
    }

    pub(crate) async fn send(&self, to: &str, command: Down) {
        let down = self.state.servers.lock().unwrap()[to].clone();
        down.send(Ok(MasterCommand { message: Some(command) })).await.unwrap();
    }
}
