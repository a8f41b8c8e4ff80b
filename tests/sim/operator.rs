//! The operator of the simulated cluster: gives the place of a master whose disk is lost to a new one, as `cairn admin masters
//! replace` does.

use super::hosts::{MASTERS, masters};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::change_masters_request::Change;
use cairn_proto::v1::{ChangeMastersRequest, MastersRequest, PlaceOfMaster};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How far the replacement of a master is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// Every master votes, as far as the operator knows.
    #[default]
    Nobody,
    /// The disk of this one is lost; its place is to be given away.
    Asked(u64),
    /// Its place is awaited: it may be started.
    Awaited(u64),
    /// It was started, and has no vote yet.
    Joining(u64),
}

/// What simulation and operator tell each other.
pub(crate) type Orders = Arc<Mutex<Replacing>>;

/// Works until the end.
pub(crate) async fn run_operator(env: Env, orders: Orders) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = *orders.lock().unwrap();
        let done = match now {
            Replacing::Nobody | Replacing::Awaited(_) => continue,
            Replacing::Asked(id) => replace(&env, id).await.then_some(Replacing::Awaited(id)),
            Replacing::Joining(_) => all_vote(&env).await.then_some(Replacing::Nobody),
        };
        if let Some(next) = done {
            *orders.lock().unwrap() = next;
        }
    }
}

/// Asks every master; only the leader does it.
async fn replace(env: &Env, id: u64) -> bool {
    for address in masters() {
        let Some(mut admin) = admin(env, &address).await else { continue };
        let change = Some(Change::Replace(PlaceOfMaster { id, address: String::new() }));
        let asked = admin.change_masters(ChangeMastersRequest { change });
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(6), asked).await {
            return true;
        }
        // It may have been done without the answer having arrived.
        let group = tokio::time::timeout(Duration::from_secs(1), admin.masters(MastersRequest {})).await;
        if let Ok(Ok(reply)) = group
            && reply.into_inner().masters.iter().any(|master| master.id == id && master.state == "awaited")
        {
            return true;
        }
    }
    false
}

/// Whether the leader says that all follow it and vote.
async fn all_vote(env: &Env) -> bool {
    for address in masters() {
        let Some(mut admin) = admin(env, &address).await else { continue };
        let group = tokio::time::timeout(Duration::from_secs(1), admin.masters(MastersRequest {})).await;
        let Ok(Ok(reply)) = group else { continue };
        let reply = reply.into_inner();
        let votes = |state: &str| matches!(state, "leader" | "follower" | "catching up");
        let answered = reply.masters.iter().find(|master| master.id == reply.answered_by);
        if answered.is_some_and(|master| master.state == "leader") {
            return reply.masters.iter().filter(|master| votes(&master.state)).count() as u64 == MASTERS;
        }
    }
    false
}

async fn admin(env: &Env, address: &str) -> Option<AdminClient<tonic::transport::Channel>> {
    grpc::connect(&env.net, address).await.ok().map(AdminClient::new)
}
