//! The pages of a mount over HTTP, where the option `metrics` says.

use super::page;
use crate::look_out::LookOut;
use crate::mount_error::MountError;
use crate::ops::Ops;
use cairn_client::fs::FileSystem;
use cairn_env::Env;
use cairn_env::net::Listener;
use cairn_env::net::pages::{self, Readiness};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The pages are served as long as this lives.
pub(crate) struct Pages {
    _stop: oneshot::Sender<()>,
}

/// Listens at `address`, in the runtime that will serve.
///
/// # Errors
/// Somebody else listens there, or there is no such address here.
pub(crate) async fn listen(env: &Env, runtime: &Handle, address: &str) -> Result<Listener, MountError> {
    let (net, at) = (env.net.clone(), address.to_owned());
    let bound = runtime.spawn(async move { net.bind(&at).await }).await;
    let bound = bound.unwrap_or_else(|gone| Err(std::io::Error::other(gone)));
    bound.map_err(|source| MountError::Metrics { source })
}

impl Pages {
    /// Serves, in a runtime of bytes: nobody waits for a page as for a message.
    pub(crate) fn serve(
        listener: Listener,
        runtime: &Handle,
        ops: &Arc<Ops>,
        look_out: &Arc<LookOut>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let client = ops.client().clone();
        let (ops, look_out) = (ops.clone(), look_out.clone());
        let metrics = move || page::metrics(&ops, &look_out);
        drop(runtime.spawn(async move {
            // It ends by being dropped.
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = pages::serve(listener, move || readiness(&client), metrics, stopped).await {
                tracing::error!(%error, "metrics have ended; the mount goes on without");
            }
        }));
        Self { _stop: stop }
    }
}

fn readiness(client: &FileSystem) -> Readiness {
    let leader = client.leader();
    if leader.is_connected {
        return Readiness::Ready(format!("serves; master {} leads", leader.address));
    }
    Readiness::NotYet(format!(
        "no master that leads is connected; the last was {}, heard {} ms ago. Try: cairn admin masters",
        leader.address,
        leader.silent.as_millis()
    ))
}
