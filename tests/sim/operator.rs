//! The operator of the simulated cluster: gives the place of a master whose disk is lost to a new one, and has masters leave and
//! others come, as `cairn admin masters replace`, `remove` and `add` do.

use super::hosts::{MASTERS, address, masters};
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::change_masters_request::Change;
use cairn_proto::v1::{
    ChangeMastersRequest, MastersReply, MastersRequest, PlaceOfMaster, TransferLeaderRequest,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How far a change of the masters is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// Every master votes, as far as the operator knows.
    #[default]
    Nobody,
    /// The disk of this one is lost; its place is to be given away.
    Asked(u64),
    /// This one is to leave the group.
    Leaving(u64),
    /// It is no member any more: its machine may be emptied.
    Left(u64),
    /// Its machine is empty: a place is to be made for it.
    Missed(u64),
    /// Its place is awaited: it may be started.
    Awaited(u64),
    /// Its journal is damaged, and it is down.
    Rotten(u64),
    /// It was started, and may have no vote yet.
    Joining(u64),
}

/// The leader must say so often, without a break, that all vote: it may not have noticed yet that one has gone.
const AGREED_MIN: u32 = 4;

/// What simulation and operator tell each other.
pub(crate) type Orders = Arc<Mutex<Replacing>>;

/// Works until the end.
pub(crate) async fn run_operator(env: Env, orders: Orders) {
    let mut agreed = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = *orders.lock().unwrap();
        let done = match now {
            Replacing::Nobody | Replacing::Left(_) | Replacing::Awaited(_) | Replacing::Rotten(_) => continue,
            Replacing::Asked(id) => {
                let place = PlaceOfMaster { id, address: String::new() };
                change(&env, id, Change::Replace(place), Some("awaited"))
                    .await
                    .then_some(Replacing::Awaited(id))
            }
            Replacing::Leaving(id) => {
                change(&env, id, Change::Remove(id), None).await.then_some(Replacing::Left(id))
            }
            Replacing::Missed(id) => {
                let place = PlaceOfMaster { id, address: address(id) };
                change(&env, id, Change::Add(place), Some("awaited")).await.then_some(Replacing::Awaited(id))
            }
            Replacing::Joining(_) => {
                agreed = if all_vote(&env).await { agreed + 1 } else { 0 };
                (agreed >= AGREED_MIN).then_some(Replacing::Nobody)
            }
        };
        if let Some(next) = done {
            agreed = 0;
            *orders.lock().unwrap() = next;
        }
    }
}

/// Asks every master; only the leader does it, and then says that master `id` is in state `after`, or is none.
async fn change(env: &Env, id: u64, change: Change, after: Option<&str>) -> bool {
    for address in masters() {
        let Some(mut admin) = admin(env, &address).await else { continue };
        let asked = admin.change_masters(ChangeMastersRequest { change: Some(change.clone()) });
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(6), asked).await {
            return true;
        }
        // It may have been done without the answer having arrived.
        let Some(group) = group_of_leader(&mut admin).await else { continue };
        if group.masters.iter().find(|master| master.id == id).map(|master| &*master.state) == after {
            return true;
        }
        if group.answered_by == id {
            // Who leads is not removed. Whether another one does now is seen at the next attempt.
            let asked = admin.transfer_leader(TransferLeaderRequest { to: 0 });
            drop(tokio::time::timeout(Duration::from_secs(1), asked).await);
        }
    }
    false
}

/// Whether the leader says that all follow it and vote.
async fn all_vote(env: &Env) -> bool {
    for address in masters() {
        let Some(mut admin) = admin(env, &address).await else { continue };
        let Some(group) = group_of_leader(&mut admin).await else { continue };
        let votes = |state: &str| matches!(state, "leader" | "follower" | "catching up");
        return group.masters.iter().filter(|master| votes(&master.state)).count() as u64 == MASTERS;
    }
    false
}

/// The group as this master tells it, if it leads.
async fn group_of_leader(admin: &mut Admin) -> Option<MastersReply> {
    let group = tokio::time::timeout(Duration::from_secs(1), admin.masters(MastersRequest {})).await;
    let reply = group.ok()?.ok()?.into_inner();
    let answered = reply.masters.iter().find(|master| master.id == reply.answered_by);
    answered.is_some_and(|master| master.state == "leader").then_some(reply)
}

type Admin = AdminClient<tonic::transport::Channel>;

async fn admin(env: &Env, address: &str) -> Option<Admin> {
    grpc::connect(&env.net, address).await.ok().map(AdminClient::new)
}
