//! `admin masters`: the group and who leads.

use super::request;
use crate::args::Global;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_env::Env;
use cairn_proto::v1::change_masters_request::Change;
use cairn_proto::v1::{ChangeMastersRequest, MastersRequest, TransferLeaderRequest};

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
pub(super) async fn transfer_leader(
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
pub(super) async fn change(
    admin: &mut Admin,
    json: bool,
    change: Change,
    done: &str,
) -> Result<(), CliError> {
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
