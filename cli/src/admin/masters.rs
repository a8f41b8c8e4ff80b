//! `admin masters`: the group and who leads.

use super::request;
use crate::args::{Global, MastersAction};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_env::Env;
use cairn_proto::v1::change_masters_request::Change;
use cairn_proto::v1::{ChangeMastersRequest, MastersRequest, PlaceOfMaster, TransferLeaderRequest};

pub(super) async fn masters(admin: &mut Admin, json: bool) -> Result<(), CliError> {
    let reply = match admin.client.masters(request(MastersRequest {})).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Err(admin.failed(&status)),
    };
    if json {
        let rows: Vec<_> = reply
            .masters
            .iter()
            .map(|master| {
                serde_json::json!({
                    "id": master.id, "address": master.address, "leader": master.leader, "state": master.state,
                    "term": master.term, "commit_index": master.commit_index, "applied_index": master.applied_index,
                    "durable_index": master.durable_index,
                })
            })
            .collect();
        return output::json(&rows);
    }
    let mut table = output::Table::new(&["ID", "ADDRESS", "STATE", "TERM", "DURABLE", "APPLIED"]);
    for master in reply.masters {
        table.row(vec![
            master.id.to_string(),
            master.address,
            master.state,
            known(master.term),
            known(master.durable_index),
            known(master.applied_index),
        ]);
    }
    table.print();
    Ok(())
}

/// Lets another master lead, and says which one does.
/// Changes the group, or who leads it.
pub(super) async fn act(
    env: &Env,
    global: &Global,
    admin: &mut Admin,
    action: MastersAction,
) -> Result<(), CliError> {
    let (asked, done) = match action {
        MastersAction::TransferLeader { id } => return transfer_leader(env, global, admin, id).await,
        MastersAction::Add { master: (id, address) } => {
            let done = format!("master {id} is awaited at {address}: start it");
            (Change::Add(PlaceOfMaster { id, address }), done)
        }
        MastersAction::Replace { id, address } => {
            let done = format!("master {id} is awaited: start it with an empty data directory");
            (Change::Replace(PlaceOfMaster { id, address: address.unwrap_or_default() }), done)
        }
        MastersAction::Remove { id } => (Change::Remove(id), format!("master {id} is out of the group")),
    };
    change(admin, global.json, asked, &done).await
}

async fn transfer_leader(
    env: &Env,
    global: &Global,
    admin: &mut Admin,
    to: Option<u64>,
) -> Result<(), CliError> {
    let asked =
        admin.client.transfer_leader(request(TransferLeaderRequest { to: to.unwrap_or_default() })).await;
    asked.map_err(|status| admin.failed(&status))?;
    let leader = Admin::leader(env, global).await?;
    if global.json {
        return output::json(&serde_json::json!({ "leader": leader.address }));
    }
    output::line(&format!("master {} leads", leader.address));
    Ok(())
}

/// Changes the group, and says what is to be done next.
async fn change(admin: &mut Admin, json: bool, change: Change, done: &str) -> Result<(), CliError> {
    let asked = admin.client.change_masters(request(ChangeMastersRequest { change: Some(change) })).await;
    asked.map_err(|status| admin.failed(&status))?;
    if json {
        return masters(admin, true).await;
    }
    output::line(done);
    Ok(())
}

/// A figure that the answering master knows; 0 stands for one that it does not.
fn known(figure: u64) -> String {
    if figure == 0 { "-".to_owned() } else { figure.to_string() }
}
