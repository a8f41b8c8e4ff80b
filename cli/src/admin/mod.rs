//! `cairn admin`: look at the cluster and operate it.

mod backup;
mod capacity;
mod chunks;
pub(crate) mod drain;
mod drain_disk;
mod events;
mod fsck;
mod journal;
mod masters;
pub(crate) mod policy;
pub(crate) mod rebalance;
mod scrub;
mod servers;
mod slow;
mod status;
mod watch;
pub(crate) mod whatif;
mod why;

use crate::args::{
    AdminCommand, FsckCommand, Global, JournalCommand, MastersCommand, ServersAction, ServersCommand,
    WatchOption,
};
use crate::connect::{Admin, Work, block_on};
use crate::error::CliError;
use cairn_env::Env;

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
    block_on(Work::Messages, online(&env, global, command))
}

/// Those that find their master themselves, as often as it takes; the others are told whom to ask.
async fn online(env: &Env, global: &Global, command: AdminCommand) -> Result<(), CliError> {
    let json = global.json;
    match command {
        AdminCommand::Backup(command) => backup::run(env, global, command).await,
        AdminCommand::Policy(command) => policy::run(env, global, command).await,
        AdminCommand::Events(command) => events::run(env, global, command).await,
        AdminCommand::Status(WatchOption { watch: Some(seconds) }) => {
            watch::repeat(env, global, seconds, async |admin| status::status(admin, json).await).await
        }
        AdminCommand::Servers(ServersCommand {
            action: None,
            watch: WatchOption { watch: Some(seconds) },
        }) => watch::repeat(env, global, seconds, async |admin| servers::servers(admin, json).await).await,
        // The group is most looked at when nobody leads it.
        AdminCommand::Masters(MastersCommand { action: None }) => {
            masters::masters(&mut Admin::leader_or_any(env, global).await?, json).await
        }
        AdminCommand::Masters(MastersCommand { action: Some(action) }) => {
            let mut admin = Admin::leader(env, global).await?;
            masters::act(env, global, &mut admin, action).await
        }
        command => ask(env, json, &mut Admin::leader(env, global).await?, command).await,
    }
}

/// One question to the leader.
async fn ask(env: &Env, json: bool, admin: &mut Admin, command: AdminCommand) -> Result<(), CliError> {
    match command {
        AdminCommand::Status(_) => status::status(admin, json).await,
        AdminCommand::Servers(ServersCommand { action: None, .. }) => servers::servers(admin, json).await,
        AdminCommand::Servers(ServersCommand { action: Some(ServersAction::Remove(argument)), .. }) => {
            drain::remove(admin, json, &argument.server).await
        }
        AdminCommand::Drain(command) => {
            let action = command.verb.unwrap_or(drain::DrainAction::Start);
            drain::drain(admin, json, &command.server, action).await
        }
        AdminCommand::Undrain(argument) => {
            drain::drain(admin, json, &argument.server, drain::DrainAction::Cancel).await
        }
        AdminCommand::Rebalance(command) => rebalance::rebalance(admin, json, &command).await,
        AdminCommand::Whatif(command) => whatif::whatif(admin, json, command).await,
        AdminCommand::Chunks(argument) => chunks::chunks(admin, json, &argument.path).await,
        AdminCommand::Scrub(command) => scrub::run(admin, json, &command).await,
        AdminCommand::Slow(command) => {
            let since = command.since.map_or(0, |since| since.seconds(env.clock.wall()));
            slow::slow(admin, json, since).await
        }
        AdminCommand::Capacity => capacity::capacity(admin, json).await,
        AdminCommand::Why(argument) => why::why(admin, json, &argument.path).await,
        AdminCommand::Fsck(_) => fsck::live(admin, json).await,
        // Done before the leader was looked for.
        AdminCommand::Backup(_)
        | AdminCommand::Events(_)
        | AdminCommand::Masters(_)
        | AdminCommand::Policy(_)
        | AdminCommand::Journal(_) => Ok(()),
    }
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
