//! What this server has learned about its place in the cluster; read by every Hello, written by registration.

use cairn_core::ids::{ClusterId, NodeId, ServerId};
use cairn_proto::hello::hello;
use cairn_proto::v1::{Hello, Role};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Node, cluster and the masters that have registered us.
pub(crate) struct Joined {
    node: NodeId,
    /// Drawn for this run of the process: who holds unsynced bytes here learns from it whether they are still there.
    run: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    cluster: Option<ClusterId>,
    server: Option<ServerId>,
    masters: BTreeMap<String, Standing>,
}

/// How we stand with one master.
enum Standing {
    Registered,
    /// Not connected, or asked to come again.
    Away,
    /// It will never take us as both are configured now: why.
    Refused(String),
}

impl Joined {
    pub(crate) fn new(node: NodeId, run: u64, cluster: Option<ClusterId>) -> Self {
        let inner = Inner { cluster, server: None, masters: BTreeMap::new() };
        Self { node, run, inner: Mutex::new(inner) }
    }

    /// Our Hello: without a cluster before the first registration.
    pub(crate) fn hello(&self) -> Hello {
        let cluster = self.cluster().unwrap_or_default();
        Hello { run: self.run, ..hello(cluster, self.node, Role::Chunkserver) }
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.lock().cluster
    }

    pub(crate) fn server(&self) -> Option<ServerId> {
        self.lock().server
    }

    /// A master has registered us.
    pub(crate) fn registered(&self, master: &str, cluster: ClusterId, server: ServerId) {
        let mut inner = self.lock();
        inner.cluster = Some(cluster);
        inner.server = Some(server);
        inner.masters.insert(master.to_owned(), Standing::Registered);
    }

    /// The stream to a master has ended; `refused` says why when it never will be otherwise by itself.
    pub(crate) fn disconnected(&self, master: &str, refused: Option<String>) {
        let standing = refused.map_or(Standing::Away, Standing::Refused);
        self.lock().masters.insert(master.to_owned(), standing);
    }

    /// Nobody counts on a master any more.
    pub(crate) fn forget(&self, master: &str) {
        self.lock().masters.remove(master);
    }

    /// The first master that refuses us for good, and why.
    pub(crate) fn refused(&self) -> Option<(String, String)> {
        self.lock().masters.iter().find_map(|(master, standing)| match standing {
            Standing::Refused(why) => Some((master.clone(), why.clone())),
            Standing::Registered | Standing::Away => None,
        })
    }

    /// Masters at which we are registered now.
    pub(crate) fn masters_connected(&self) -> usize {
        self.lock().masters.values().filter(|standing| matches!(standing, Standing::Registered)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
