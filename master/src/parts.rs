//! What every service of a master shares. Built once by the server; nobody reaches another service but through here.

use crate::backup::Backup;
use crate::caching::Caching;
use crate::config::MasterConfig;
use crate::damage::Damage;
use crate::events::Events;
use crate::filling::Transfers;
use crate::inventory::Strays;
use crate::latencies::Latencies;
use crate::leases::Recalls;
use crate::metrics::Metrics;
use crate::moving::disk_drain::Departures;
use crate::moving::rebalance::Rebalancing;
use crate::peers::{Identity, Peers};
use crate::policies::Misplaced;
use crate::sequencer::{Leadership, Reader, SequencerHandle};
use crate::servers::Servers;
use crate::sessions::Sessions;
use crate::slow::SlowLog;
use crate::work::counts::Counts;
use crate::work::repair::Repairs;
use cairn_core::cluster::ClusterView;
use cairn_core::ids::{ClusterId, NodeId, Term};
use cairn_core::time::Tick;
use cairn_env::Env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The parts.
pub(crate) struct Parts {
    /// The doors.
    pub(crate) env: Env,
    /// The settings.
    pub(crate) config: MasterConfig,
    /// The cluster that this master serves.
    pub(crate) cluster: ClusterId,
    /// This master's node.
    pub(crate) node: NodeId,
    /// `host:port` of the control plane, as others reach it.
    pub(crate) address: String,
    /// Everything that changes the namespace passes here.
    pub(crate) sequencer: SequencerHandle,
    /// Where it runs, for tasks whose every step is its own next.
    pub(crate) sequencer_runtime: Handle,
    /// Copies of the state that are handed out.
    pub(crate) transfers: Transfers,
    /// What is shipped elsewhere.
    pub(crate) backup: Backup,
    /// The way to the other members.
    pub(crate) peers: Arc<Peers>,
    /// This member's part in the group, as it changes.
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// Reads of the applied state.
    pub(crate) reader: Reader,
    /// Clients.
    pub(crate) sessions: Sessions,
    /// Chunk servers.
    pub(crate) servers: Servers,
    /// Shared leases.
    pub(crate) caching: Arc<Caching>,
    /// Write leases asked back.
    pub(crate) recalls: Recalls,
    /// Replicas known to be bad.
    pub(crate) damage: Damage,
    /// Replicas that nobody counts on.
    pub(crate) strays: Strays,
    /// Chunks that get new replicas.
    pub(crate) repairs: Repairs,
    /// Chunks whose replicas stand where they should not, or are too many.
    pub(crate) misplaced: Misplaced,
    /// Replicas that must leave the disk that they stand on, and find no room on another one there.
    pub(crate) departures: Departures,
    /// Replicas that move to even the servers out.
    pub(crate) rebalancing: Rebalancing,
    /// What has happened lately.
    pub(crate) events: Events,
    /// What took long lately.
    pub(crate) slow: SlowLog,
    /// How long clients wait.
    pub(crate) latencies: Latencies,
    /// Figures that are counted in the state.
    pub(crate) counts: Counts,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Counts nudges: each periodic job looks at its work when this changes.
    pub(crate) nudges: watch::Sender<u64>,
    /// The term in which this master has taken the lead over: 0 while it has not.
    pub(crate) taken_over: AtomicU64,
    /// Set when the master is told to stop.
    pub(crate) stopping: CancellationToken,
    /// What decisions and answers are told of the chunk servers.
    pub(crate) view: watch::Sender<Arc<ClusterView>>,
}

impl Parts {
    /// The clock's present tick.
    pub(crate) fn now(&self) -> Tick {
        self.env.clock.now()
    }

    /// The term in which this master leads, if it does and has loaded what a leader must know.
    pub(crate) fn term(&self) -> Option<Term> {
        match *self.leadership.borrow() {
            Leadership::Leads { term } if self.taken_over.load(Ordering::Acquire) == term.get() => Some(term),
            Leadership::Leads { .. } | Leadership::Follows { .. } | Leadership::Stopped => None,
        }
    }

    /// Who this master is in its group.
    pub(crate) fn identity(&self) -> Identity {
        Identity { cluster: self.cluster, node: self.node, id: self.config.node_id }
    }

    /// `host:port` of the leader, as far as this member knows; empty otherwise.
    pub(crate) fn leader_address(&self) -> String {
        match *self.leadership.borrow() {
            Leadership::Leads { .. } => self.address.clone(),
            Leadership::Follows { leader } => {
                self.sequencer.members().get(leader).map_or_else(String::new, |member| member.address.clone())
            }
            Leadership::Stopped => String::new(),
        }
    }

    /// `host:port` of every master, for those who look for the leader.
    pub(crate) fn master_addresses(&self) -> Vec<String> {
        self.sequencer.members().iter().map(|member| member.address.clone()).collect()
    }

    /// There may be work: the periodic jobs look before their time.
    pub(crate) fn nudge(&self) {
        self.nudges.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells decisions and answers how the chunk servers are at present.
    pub(crate) fn publish_view(&self) {
        let fresh = self.servers.view(self.now());
        self.view.send_if_modified(|view| {
            let changed = **view != fresh;
            if changed {
                *view = Arc::new(fresh);
            }
            changed
        });
    }
}
