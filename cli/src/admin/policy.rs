//! `admin policy`: how many copies of files there are to be, and on which chunk servers.

use super::request;
use crate::args::Global;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output;
use cairn_env::Env;
use cairn_proto::v1::policy_request::Ask;
use cairn_proto::v1::{
    PolicyChange, PolicyCreate, PolicyInfo, PolicyLabels, PolicyList, PolicyReply, PolicyRequest, PolicySet,
    PolicyWalk,
};
use clap::{Args, Subcommand};

/// A walk below a directory is asked for again after so many failures in a row: another master takes over meanwhile.
const ATTEMPTS: u32 = 5;
/// Widest column of names and of labels.
const NAME_WIDTH: usize = 16;
const LABELS_WIDTH: usize = 18;

/// Storage policies.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show all, what has them, and whether chunks are still being brought in line
    List,
    /// Make one
    Create(NewPolicy),
    /// Let one say something else; what has it follows in the background
    Change(ChangedPolicy),
    /// Remove one that nothing has
    Remove {
        /// Its name
        name: String,
    },
    /// Give a file or directory another one: what is made in the directory from now on gets it as well
    Set {
        /// Absolute path in the file system
        path: String,
        /// The policy; `default` for what holds without any
        name: String,
        /// Everything that is below the directory as well
        #[arg(short, long)]
        recursive: bool,
    },
    /// Show the one that a file or directory has
    Show {
        /// Absolute path in the file system
        path: String,
    },
}

/// A new policy.
#[derive(Clone, Debug, Args)]
pub struct NewPolicy {
    /// Its name
    pub name: String,
    /// Copies of each chunk
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub replicas: u32,
    /// Fewest copies that a write must reach [default: most of them; 1 of 2]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub minimum: Option<u32>,
    /// A label that chunk servers must have, such as media=ssd; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub require: Vec<String>,
}

/// What changes of a policy.
#[derive(Clone, Debug, Args)]
pub struct ChangedPolicy {
    /// Its name
    pub name: String,
    /// Copies of each chunk; the minimum becomes the usual one, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub replicas: Option<u32>,
    /// Fewest copies that a write must reach
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub minimum: Option<u32>,
    /// A label that chunk servers must have, instead of those so far; may be given several times
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "require_none")]
    pub require: Vec<String>,
    /// Any chunk server will do
    #[arg(long)]
    pub require_none: bool,
}

pub(super) async fn run(env: &Env, global: &Global, command: PolicyCommand) -> Result<(), CliError> {
    let (question, done) = match command {
        PolicyCommand::List => (Ask::List(PolicyList {}), None),
        PolicyCommand::Create(new) => {
            let done =
                format!("policy {} is made: give it to something with `cairn admin policy set`", new.name);
            let NewPolicy { name, replicas, minimum, require: required } = new;
            (Ask::Create(PolicyCreate { name, replicas, minimum, required }), Some(done))
        }
        PolicyCommand::Change(changed) => {
            let done = format!("policy {} is changed: what has it follows", changed.name);
            let labels = (changed.require_none || !changed.require.is_empty()).then_some(changed.require);
            let required = labels.map(|labels| PolicyLabels { labels });
            let ChangedPolicy { name, replicas, minimum, .. } = changed;
            if replicas.is_none() && minimum.is_none() && required.is_none() {
                let text = "what is to change? give --replicas, --minimum, --require or --require-none";
                return Err(CliError::Usage(text.to_owned()));
            }
            (Ask::Change(PolicyChange { name, replicas, minimum, required }), Some(done))
        }
        PolicyCommand::Remove { name } => {
            let done = format!("policy {name} is removed");
            (Ask::Remove(name), Some(done))
        }
        PolicyCommand::Set { path, name, recursive } => return set(env, global, path, name, recursive).await,
        PolicyCommand::Show { path } => (Ask::Show(path.into_bytes().into()), None),
    };
    let reply = ask(&mut Admin::leader(env, global).await?, question).await?;
    match done {
        _ if global.json => output::json(&as_json(&reply)),
        Some(done) => {
            output::line(&done);
            Ok(())
        }
        None => {
            print(&reply);
            Ok(())
        }
    }
}

async fn ask(admin: &mut Admin, question: Ask) -> Result<PolicyReply, CliError> {
    let answered = admin.client.policy(request(PolicyRequest { ask: Some(question) })).await;
    Ok(answered.map_err(|status| admin.failed(&status))?.into_inner())
}

/// Goes on where it was when another master takes over.
async fn set(
    env: &Env,
    global: &Global,
    path: String,
    name: String,
    recursive: bool,
) -> Result<(), CliError> {
    let mut admin = Admin::leader(env, global).await?;
    let bytes = bytes::Bytes::from(path.clone().into_bytes());
    let mut asked = PolicySet { path: bytes, name: name.clone(), recursive, resume: Vec::new() };
    let (mut looked_at, mut failures) = (0, 0);
    loop {
        match admin.client.policy(request(PolicyRequest { ask: Some(Ask::Set(asked.clone())) })).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                (asked.resume, failures) = (reply.resume, 0);
                looked_at += reply.looked_at;
                if asked.resume.is_empty() {
                    break;
                }
            }
            Err(status) => {
                use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable, Unknown};
                failures += 1;
                let may_pass = matches!(status.code(), Unavailable | Unknown | Cancelled | DeadlineExceeded);
                if !may_pass || failures == ATTEMPTS {
                    return Err(admin.failed(&status));
                }
                admin = Admin::leader(env, global).await?;
            }
        }
    }
    if global.json {
        return output::json(&serde_json::json!({ "path": path, "policy": name, "looked_at": looked_at }));
    }
    let what = if looked_at == 1 { "has" } else { "and what is below it have" };
    output::line(&format!("{path} {what} the policy {name} ({looked_at} files and directories)"));
    Ok(())
}

fn print(reply: &PolicyReply) {
    let head = ["POLICY", "COPIES", "MIN", "REQUIRES", "SERVERS", "FILES", "CHUNKS"];
    let mut table = output::Table::new(&head);
    for policy in &reply.policies {
        let required = match policy.required.is_empty() {
            true => "-".to_owned(),
            false => policy.required.join(","),
        };
        table.row(vec![
            output::tail(&policy.name, NAME_WIDTH),
            policy.replicas.to_string(),
            policy.minimum.to_string(),
            output::tail(&required, LABELS_WIDTH),
            policy.servers.to_string(),
            policy.inodes.to_string(),
            policy.chunks.to_string(),
        ]);
    }
    table.print();
    if let Some(walk) = &reply.walk {
        let again = if walk.again { ", then once more from the beginning" } else { "" };
        let text = format!(
            "up to chunk {} of {}, {} changed{again}; copies move or go behind it",
            walk.next,
            walk.chunks_given.saturating_sub(1),
            walk.changed
        );
        output::line(&output::wrapped("chunks are brought in line: ", &text));
    }
}

/// As `admin policy list` and `admin capacity` show one.
pub(super) fn policy_json(policy: &PolicyInfo) -> serde_json::Value {
    serde_json::json!({
        "policy": policy.policy, "name": policy.name, "replicas": policy.replicas, "minimum": policy.minimum,
        "required": policy.required, "inodes": policy.inodes, "chunks": policy.chunks,
        "servers": policy.servers, "racks": policy.racks,
    })
}

fn as_json(reply: &PolicyReply) -> serde_json::Value {
    let walk = |walk: &PolicyWalk| {
        serde_json::json!({
            "next": walk.next, "chunks_given": walk.chunks_given, "changed": walk.changed, "again": walk.again,
        })
    };
    serde_json::json!({
        "policies": reply.policies.iter().map(policy_json).collect::<Vec<_>>(),
        "walk": reply.walk.as_ref().map(walk),
    })
}
