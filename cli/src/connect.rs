//! Reaching masters for administrative calls.

use crate::args::Global;
use crate::error::CliError;
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

/// Cores per thread of the runtime. Threads that wake each other cost more than they carry: with one for each core, a
/// metadata operation woke a dozen of them on its way through a cluster.
const CORES_PER_THREAD: usize = 4;
/// Bounds of their number.
const THREADS_MIN: usize = 2;
const THREADS_MAX: usize = 16;

/// Runs a command's future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / CORES_PER_THREAD).clamp(THREADS_MIN, THREADS_MAX))
        .enable_all()
        .build()
        .map_err(CliError::host("starting the runtime"))?
        .block_on(future)
}
