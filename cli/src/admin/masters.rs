//! `admin masters`: the group and who leads.

use super::request;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_proto::v1::MastersRequest;

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
                })
            })
            .collect();
        return output::json(&rows);
    }
    let mut table = output::Table::new(&["ID", "ADDRESS", "STATE", "TERM", "COMMITTED", "APPLIED"]);
    for master in reply.masters {
        table.row(vec![
            master.id.to_string(),
            master.address,
            master.state,
            master.term.to_string(),
            master.commit_index.to_string(),
            master.applied_index.to_string(),
        ]);
    }
    table.print();
    Ok(())
}
