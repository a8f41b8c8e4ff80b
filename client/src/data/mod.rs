//! Connections to chunk servers, shared by everything that reads and writes.

mod fetch;
mod health;
mod pulse;
mod server;
mod watched;

pub(crate) use fetch::{FetchError, Runs};
pub(crate) use watched::{CallFailure, Watch};

use crate::figures::{Counts, DataFigures, ServerFigures};
use crate::observations::Observations;
use cairn_core::ids::{ClusterId, NodeId};
use cairn_core::io::retry_budget::RetryBudget;
use cairn_env::Env;
use cairn_proto::data_conn::PayloadPool;
use cairn_proto::hello;
use cairn_proto::v1::{Hello, Role};
use pulse::Pulse;
use server::Server;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The data plane as this client sees it.
pub(crate) struct Data {
    env: Env,
    pulse: Arc<Pulse>,
    hello: Hello,
    pool: PayloadPool,
    /// By `host:port`. Grows with the servers ever met, never with time.
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
    budget: Mutex<RetryBudget>,
    observations: Arc<Observations>,
    counts: Arc<Counts>,
}

impl Data {
    pub(crate) fn new(
        env: Env,
        cluster: ClusterId,
        node: NodeId,
        observations: Arc<Observations>,
        counts: Arc<Counts>,
    ) -> Arc<Self> {
        let hello = hello::hello(cluster, node, Role::Client);
        let pulse = Pulse::new(Arc::clone(&env.clock));
        let (pool, servers) = (PayloadPool::default(), Mutex::new(BTreeMap::new()));
        Arc::new(Self { env, pulse, hello, pool, servers, budget: Mutex::default(), observations, counts })
    }

    /// What operators are shown.
    pub(crate) fn figures(&self) -> DataFigures {
        let now = self.env.clock.now();
        let servers: Vec<Arc<Server>> = self.servers().values().cloned().collect();
        let shown = |server: &Arc<Server>| {
            let (breaker, disks) = server.health.breakers(now);
            ServerFigures { address: server.address.clone(), breaker, disks }
        };
        let (budget_taken, budget_refused) = self.budget().counts();
        DataFigures {
            servers: servers.iter().map(shown).collect(),
            hedged_reads: self.counts.hedged_reads.get(),
            budget_taken,
            budget_refused,
            mismatches: self.counts.mismatches.get(),
            damaged: self.counts.damaged.get(),
        }
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self, address: &str) -> Arc<Server> {
        let mut servers = self.servers();
        if let Some(server) = servers.get(address) {
            return server.clone();
        }
        let server = Arc::new(Server::new(address));
        servers.insert(address.to_owned(), server.clone());
        server
    }
}
