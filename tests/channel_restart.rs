//! A connection between servers that stays open and silent: its channel outlives a restart of the other side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sim/turmoil_net.rs"]
mod turmoil_net;

use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_env::clock::RuntimeClock;
use cairn_env::disk_sim::SimDisk;
use cairn_env::net::grpc;
use cairn_proto::v1::cluster_client::ClusterClient;
use cairn_proto::v1::cluster_server::{Cluster, ClusterServer};
use cairn_proto::v1::{ChunkServerMessage, MasterCommand};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use turmoil_net::simulated_env_with;

const PORT: u16 = 7000;

fn simulated_env(seed: u64) -> Env {
    let clock = RuntimeClock::starting_at(Timestamp { seconds: 1_700_000_000, nanos: 0 });
    simulated_env_with(Arc::new(clock), seed, SimDisk::new())
}

/// Takes streams and says nothing on them.
struct Silent;

#[tonic::async_trait]
impl Cluster for Silent {
    type ChunkServerStream = ReceiverStream<Result<MasterCommand, Status>>;

    async fn chunk_server(
        &self,
        request: Request<Streaming<ChunkServerMessage>>,
    ) -> Result<Response<Self::ChunkServerStream>, Status> {
        assert!(request.extensions().get::<grpc::Peer>().is_some_and(|peer| peer.address.is_some()));
        let mut stream = request.into_inner();
        let (replies, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            let _open = replies;
            while let Some(Ok(_)) = stream.next().await {}
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// Serves streams that stay open and silent.
async fn silent_server() {
    let env = simulated_env(1);
    let listener = env.net.bind(&format!("0.0.0.0:{PORT}")).await.unwrap();
    let server = grpc::server().add_service(ClusterServer::new(Silent));
    server.serve_with_incoming(grpc::incoming(listener)).await.unwrap();
}

/// A channel outlives its server: the stream breaks within the keep-alive's deadline, the next call connects anew.
async fn survive_a_restart(lazily: bool) {
    let env = simulated_env(2);
    let address = format!("server:{PORT}");
    let channel = if lazily {
        grpc::connect_lazily(&env.net, &address).unwrap()
    } else {
        grpc::connect(&env.net, &address).await.unwrap()
    };
    let mut client = ClusterClient::new(channel);
    let mut streams = 0;
    while streams < 2 {
        let (_open, stream) = mpsc::channel::<ChunkServerMessage>(1);
        match client.chunk_server(ReceiverStream::new(stream)).await {
            Ok(replies) => {
                streams += 1;
                if streams == 1 {
                    assert!(replies.into_inner().message().await.is_err(), "the server dies");
                    let at = turmoil::sim_elapsed().unwrap();
                    assert!(at < Duration::from_millis(5_000), "noticed only after {at:?}");
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    assert!(turmoil::sim_elapsed().unwrap() < Duration::from_millis(7_000));
}

#[test]
fn a_channel_outlives_a_restart_of_its_server() {
    for lazily in [true, false] {
        let mut sim =
            turmoil::Builder::new().simulation_duration(Duration::from_secs(30)).rng_seed(3).build();
        sim.host("server", || async {
            silent_server().await;
            Ok(())
        });
        sim.client("client", async move {
            survive_a_restart(lazily).await;
            Ok(())
        });
        while sim.elapsed() < Duration::from_secs(1) {
            sim.step().unwrap();
        }
        sim.crash("server");
        while sim.elapsed() < Duration::from_secs(5) {
            sim.step().unwrap();
        }
        sim.bounce("server");
        sim.run().unwrap();
    }
}
