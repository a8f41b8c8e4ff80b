//! Reaching masters for administrative calls.

use crate::args::Global;
use crate::error::CliError;
use cairn_core::limits::RUNTIME_THREADS_MAX;
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use cairn_proto::v1::{MastersReply, MastersRequest};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tonic::transport::Channel;

/// A unary administrative call ends within this.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A master that does not say within this who leads is passed over.
const PROBE_LIMIT: Duration = Duration::from_millis(1500);
/// Pause between two looks for a leader.
const LEADER_POLL: Duration = Duration::from_millis(50);

/// The masters named by `--masters` or `CAIRN_MASTERS`.
pub(crate) fn masters(global: &Global) -> Result<Vec<String>, CliError> {
    let text = global.masters.as_deref().unwrap_or_default();
    let masters: Vec<String> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if masters.is_empty() {
        return Err(CliError::Usage(
            "which masters? give --masters host:port,… or set CAIRN_MASTERS; `cairn dev ps` lists those of a \
             development cluster"
                .into(),
        ));
    }
    Ok(masters)
}

/// A connected administrative client and the address it talks to.
pub(crate) struct Admin {
    pub(crate) client: AdminClient<Channel>,
    pub(crate) address: String,
}

impl Admin {
    /// Connects to the master that leads; while others are there, one is waited for within [`CALL_LIMIT`].
    pub(crate) async fn leader(env: &Env, global: &Global) -> Result<Self, CliError> {
        let addresses = masters(global)?;
        let begun = env.clock.now();
        loop {
            match look_for_leader(env, &addresses).await? {
                (admin, true) => return Ok(admin),
                (admin, false) if env.clock.now().since(begun) >= CALL_LIMIT => {
                    return Err(CliError::Connect(format!(
                        "master {} answers, but nobody leads: a majority of the masters must be there; see: cairn admin \
                         masters",
                        admin.address
                    )));
                }
                (_, false) => tokio::time::sleep(LEADER_POLL).await,
            }
        }
    }

    /// Connects to the master that leads, or else to any.
    pub(crate) async fn leader_or_any(env: &Env, global: &Global) -> Result<Self, CliError> {
        Ok(look_for_leader(env, &masters(global)?).await?.0)
    }

    async fn connect(env: &Env, address: &str) -> Result<Self, String> {
        let channel = grpc::connect(&env.net, address).await.map_err(|error| error.to_string())?;
        Ok(Self { client: AdminClient::new(channel), address: address.to_owned() })
    }

    async fn group(&mut self) -> Result<MastersReply, String> {
        let mut request = tonic::Request::new(MastersRequest {});
        request.set_timeout(PROBE_LIMIT);
        match tokio::time::timeout(PROBE_LIMIT, self.client.masters(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {} ms", PROBE_LIMIT.as_millis())),
        }
    }

    /// Turns a failed call into an error that names the master.
    pub(crate) fn failed(&self, status: &tonic::Status) -> CliError {
        CliError::Admin { address: self.address.clone(), message: status.message().to_owned() }
    }
}

/// The master that leads (true), or the first one that answers.
async fn look_for_leader(env: &Env, addresses: &[String]) -> Result<(Admin, bool), CliError> {
    let (mut failures, mut any) = (Vec::new(), None);
    let mut to_ask: VecDeque<String> = addresses.iter().cloned().collect();
    let mut asked = BTreeSet::new();
    while let Some(address) = to_ask.pop_front() {
        if !asked.insert(address.clone()) {
            continue;
        }
        let answer = match Admin::connect(env, &address).await {
            Ok(mut admin) => admin.group().await.map(|group| (admin, group)),
            Err(error) => Err(error),
        };
        match answer {
            Ok((admin, group)) => {
                let leader = group.masters.iter().find(|master| master.leader);
                match leader {
                    Some(leader) if leader.id == group.answered_by => return Ok((admin, true)),
                    Some(leader) => to_ask.push_front(leader.address.clone()),
                    None => {}
                }
                any.get_or_insert(admin);
            }
            Err(error) => failures.push(format!("master {address}: {error}")),
        }
    }
    any.map(|admin| (admin, false)).ok_or_else(|| {
        CliError::Connect(format!(
            "no master answers:\n  {}\nis it running, and is the address right? (`cairn dev ps` lists a development \
             cluster's)",
            failures.join("\n  ")
        ))
    })
}

/// What a process mostly does, which says how many threads its runtime has. Threads that wake each other cost more than
/// they carry: with one for each core, a metadata operation woke a dozen of them on its way through a cluster.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Small messages, one after the other.
    Messages,
    /// Bytes of files.
    Bytes,
}

/// A runtime for one kind of work.
pub(crate) fn runtime(work: Work) -> Result<tokio::runtime::Runtime, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match work {
        Work::Messages => cores / 4,
        Work::Bytes => cores / 2,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.clamp(1, RUNTIME_THREADS_MAX))
        .enable_all()
        .build()
        .map_err(CliError::host("starting the runtime"))
}

/// Runs a command's future on a runtime of its own.
pub(crate) fn block_on<T>(
    work: Work,
    future: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    runtime(work)?.block_on(future)
}
