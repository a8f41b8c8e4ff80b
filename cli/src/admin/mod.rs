//! `cairn admin`: look at the cluster and operate it.

mod backup;
mod capacity;
mod chunks;
pub(crate) mod drain;
mod events;
mod fsck;
mod journal;
mod masters;
pub(crate) mod rebalance;
mod scrub;
mod servers;
mod status;
mod watch;
pub(crate) mod whatif;
mod why;

use crate::args::{
    AdminCommand, FsckCommand, Global, JournalCommand, MastersAction, MastersCommand, ServersAction,
    ServersCommand, WatchOption,
};
use crate::connect::{Admin, Work, block_on};
use crate::error::CliError;
use cairn_env::Env;
use cairn_proto::v1::PlaceOfMaster;
use cairn_proto::v1::change_masters_request::Change;

/// Runs one `admin` command.
pub(crate) fn run(global: &Global, command: AdminCommand) -> Result<(), CliError> {
    let env = Env::real();
    match &command {
        AdminCommand::Fsck(FsckCommand { data_dir: Some(data_dir) }) => {
            return fsck::offline(&env, global.json, data_dir);
        }
        AdminCommand::Journal(JournalCommand::Dump(dump)) => return journal::dump(&env, global.json, dump),
        _ => {}
    }
    block_on(Work::Messages, async {
        let command = match command {
            AdminCommand::Backup(command) => return backup::run(&env, global, command).await,
            AdminCommand::Events(command) => return events::run(&env, global, command).await,
            AdminCommand::Status(WatchOption { watch: Some(seconds) }) => {
                return watch::repeat(&env, global, seconds, async |admin| {
                    status::status(admin, global.json).await
                })
                .await;
            }
            AdminCommand::Servers(ServersCommand {
                action: None,
                watch: WatchOption { watch: Some(seconds) },
            }) => {
                return watch::repeat(&env, global, seconds, async |admin| {
                    servers::servers(admin, global.json).await
                })
                .await;
            }
            command => command,
        };
        let mut admin = match command {
            // The group is most looked at when nobody leads it.
            AdminCommand::Masters(MastersCommand { action: None }) => {
                Admin::leader_or_any(&env, global).await?
            }
            _ => Admin::leader(&env, global).await?,
        };
        match command {
            AdminCommand::Status(_) => status::status(&mut admin, global.json).await,
            AdminCommand::Masters(MastersCommand { action: None }) => {
                masters::masters(&mut admin, global.json).await
            }
            AdminCommand::Masters(MastersCommand { action: Some(action) }) => match action {
                MastersAction::TransferLeader { id } => {
                    masters::transfer_leader(&env, global, &mut admin, id).await
                }
                MastersAction::Add { master: (id, address) } => {
                    let done = format!("master {id} is awaited at {address}: start it");
                    let change = Change::Add(PlaceOfMaster { id, address });
                    masters::change(&mut admin, global.json, change, &done).await
                }
                MastersAction::Replace { id, address } => {
                    let done = format!("master {id} is awaited: start it with an empty data directory");
                    let change = Change::Replace(PlaceOfMaster { id, address: address.unwrap_or_default() });
                    masters::change(&mut admin, global.json, change, &done).await
                }
                MastersAction::Remove { id } => {
                    let done = format!("master {id} is out of the group");
                    masters::change(&mut admin, global.json, Change::Remove(id), &done).await
                }
            },
            // It finds its master itself, if it needs one.
            AdminCommand::Backup(_) | AdminCommand::Events(_) => Ok(()),
            AdminCommand::Servers(ServersCommand { action: None, .. }) => {
                servers::servers(&mut admin, global.json).await
            }
            AdminCommand::Servers(ServersCommand {
                action: Some(ServersAction::Remove(argument)), ..
            }) => drain::remove(&mut admin, global.json, &argument.server).await,
            AdminCommand::Drain(command) => {
                let action = command.verb.unwrap_or(drain::DrainAction::Start);
                drain::drain(&mut admin, global.json, &command.server, action).await
            }
            AdminCommand::Rebalance(command) => rebalance::rebalance(&mut admin, global.json, &command).await,
            AdminCommand::Whatif(command) => whatif::whatif(&mut admin, global.json, command).await,
            AdminCommand::Undrain(argument) => {
                drain::drain(&mut admin, global.json, &argument.server, drain::DrainAction::Cancel).await
            }
            AdminCommand::Chunks(argument) => chunks::chunks(&mut admin, global.json, &argument.path).await,
            AdminCommand::Scrub(command) => scrub::run(&mut admin, global.json, &command).await,
            AdminCommand::Capacity => capacity::capacity(&mut admin, global.json).await,
            AdminCommand::Why(argument) => why::why(&mut admin, global.json, &argument.path).await,
            AdminCommand::Fsck(_) => fsck::live(&mut admin, global.json).await,
            // Done above: nobody is asked.
            AdminCommand::Journal(_) => Ok(()),
        }
    })
}

/// A request with the deadline of administrative calls.
fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(crate::connect::CALL_LIMIT);
    request
}

/// A 16-byte id as text; empty when unknown.
fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map(|uuid| uuid.to_string()).unwrap_or_default()
}
