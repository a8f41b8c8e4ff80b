//! Reaching masters for administrative calls.

use crate::args::Global;
use crate::error::CliError;
use cairn_core::limits::RUNTIME_THREADS_MAX;
use cairn_env::Env;
use cairn_env::net::grpc;
use cairn_proto::v1::admin_client::AdminClient;
use std::time::Duration;
use tonic::transport::Channel;

/// A unary administrative call ends within this.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(10);

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
    /// Connects to the first master that answers.
    pub(crate) async fn connect(env: &Env, global: &Global) -> Result<Self, CliError> {
        let mut failures = Vec::new();
        for address in masters(global)? {
            match grpc::connect(&env.net, &address).await {
                Ok(channel) => return Ok(Self { client: AdminClient::new(channel), address }),
                Err(error) => failures.push(format!("master {address}: {error}")),
            }
        }
        Err(CliError::Connect(format!(
            "no master answers:\n  {}\nis it running, and is the address right? (`cairn dev ps` lists a development \
             cluster's)",
            failures.join("\n  ")
        )))
    }

    /// Turns a failed call into an error that names the master.
    pub(crate) fn failed(&self, status: &tonic::Status) -> CliError {
        CliError::Admin { address: self.address.clone(), message: status.message().to_owned() }
    }
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
