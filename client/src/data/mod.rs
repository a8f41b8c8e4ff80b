//! Connections to chunk servers, shared by everything that reads and writes.

mod fetch;
mod health;
mod pulse;
mod server;
mod watched;

pub(crate) use fetch::FetchError;
pub(crate) use watched::{CallFailure, Watch};

use cairn_core::ids::{ClusterId, NodeId};
use cairn_env::Env;
use cairn_proto::data_conn::PayloadPool;
use cairn_proto::hello;
use cairn_proto::v1::{Hello, Role};
use pulse::Pulse;
use server::Server;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The data plane as this client sees it.
pub(crate) struct Data {
    env: Env,
    pulse: Arc<Pulse>,
    hello: Hello,
    pool: PayloadPool,
    /// By `host:port`. Grows with the servers ever met, never with time.
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
}

impl Data {
    pub(crate) fn new(env: Env, cluster: ClusterId, node: NodeId) -> Self {
        let hello = hello::hello(cluster, node, Role::Client);
        let pulse = Pulse::new(Arc::clone(&env.clock));
        Self { env, pulse, hello, pool: PayloadPool::default(), servers: Mutex::new(BTreeMap::new()) }
    }

    fn server(&self, address: &str) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(address) {
            return server.clone();
        }
        let server = Arc::new(Server::new(address));
        servers.insert(address.to_owned(), server.clone());
        server
    }
}
