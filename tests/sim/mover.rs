//! Another operator of the simulated cluster, who has chunk servers emptied and lets them serve again, without asking whether the
//! time is good.

use super::hosts::{CHUNKSERVERS, masters};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::{DrainRequest, DrainVerb};
use std::time::Duration;

/// Works until the end: one server at a time is being emptied, for some seconds.
pub(crate) async fn run_mover(env: Env) {
    loop {
        let server = 1 + env.random.below(CHUNKSERVERS) as u32;
        pause(&env).await;
        ask(&env, server, DrainVerb::DrainStart).await;
        pause(&env).await;
        while !ask(&env, server, DrainVerb::DrainCancel).await {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn pause(env: &Env) {
    tokio::time::sleep(Duration::from_millis(1000 + env.random.below(5000))).await;
}

/// Asks every master; only the leader does it. True: it has said so.
async fn ask(env: &Env, server: u32, verb: DrainVerb) -> bool {
    for address in masters() {
        let Ok(channel) = grpc::connect(&env.net, &address).await else { continue };
        let mut admin = AdminClient::new(channel);
        let asked = admin.drain(DrainRequest { server, verb: verb.into(), disk: Default::default() });
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(3), asked).await {
            return true;
        }
    }
    false
}
