//! The leader's side of chunk servers: who lives, sets to be raised, replicas to be deleted.

use super::chunkserver::{FromServer, SERVERS_FROM, ToServer};
use super::front::{Command, Front};
use crate::sequencer::RaiseOrder;
use crate::sequencer::stepped::Stepped;
use cairn_core::cluster::{ClusterView, Labels, ServerHealth, ServerView};
use cairn_core::ids::{NodeId, ServerId, Term};
use cairn_core::limits::{RAISE_PATIENCE, SERVER_SUSPECT, WORK_PAGE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::{deletions, server_of};
use cairn_core::session::Raised;
use cairn_core::time::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A raise that is under way for a client.
pub(super) struct Raise {
    pub(super) asked: super::front::Operated,
    pub(super) order: RaiseOrder,
    raised: BTreeSet<ServerId>,
    until: Tick,
}

/// What a leader knows of chunk servers.
#[derive(Default)]
pub(super) struct Servers {
    heard: BTreeMap<ServerId, (u64, Tick)>,
    of_node: BTreeMap<NodeId, ServerId>,
    registering: BTreeSet<NodeId>,
    pub(super) raises: BTreeMap<u64, Raise>,
    orders: u64,
    /// What is to be said: to which host, and what.
    pub(super) out: Vec<(u64, ToServer)>,
}

impl Front {
    /// A chunk server's word has come. True when the sequencer has got something to do.
    pub(super) fn hear_server(&mut self, stepped: &Stepped, now: Tick, from: u64, said: FromServer) -> bool {
        let Some(term) = self.serves else { return false };
        match said {
            FromServer::Beat { node } => self.beat(stepped, now, from, node, term),
            FromServer::Raised { order } => {
                let raised = self.servers.heard.iter().find(|(_, (host, _))| *host == from);
                let raised = raised.map(|(server, _)| *server);
                if let (Some(raise), Some(server)) = (self.servers.raises.get_mut(&order), raised) {
                    raise.raised.insert(server);
                }
                self.raises_done(stepped, now)
            }
            FromServer::Deleted { chunk, up_to } => {
                let server =
                    self.servers.heard.iter().find(|(_, (host, _))| *host == from).map(|(it, _)| *it);
                if let Some(server) = server {
                    self.command(
                        stepped,
                        Command::Other,
                        Internal::ForgetDeletions { server, chunks: vec![(chunk, up_to)] },
                    );
                }
                server.is_some()
            }
            FromServer::Done { .. } | FromServer::Blocks { .. } => false,
        }
    }

    fn beat(&mut self, stepped: &Stepped, now: Tick, from: u64, node: NodeId, term: Term) -> bool {
        let known = self
            .servers
            .of_node
            .get(&node)
            .copied()
            .or_else(|| stepped.read(|rows| server_of(rows, node)).unwrap().map(|record| record.server));
        let Some(server) = known else {
            let fresh = self.servers.registering.insert(node);
            if fresh {
                let address = format!("cs-{from}");
                let register = Internal::RegisterServer {
                    node,
                    data_address: address.clone(),
                    http_address: address,
                    labels: Labels::default(),
                };
                self.command(stepped, Command::Other, register);
            }
            return fresh;
        };
        self.servers.of_node.insert(node, server);
        let before = self.servers.heard.insert(server, (from, now));
        if before.is_none() {
            // The first word of a new leader is its term.
            self.servers.out.push((from, ToServer::Fence { term }));
        }
        if before.is_none_or(|(_, heard)| now.since(heard) > SERVER_SUSPECT) {
            self.publish(now);
        }
        false
    }

    /// Shows the servers to those who place replicas.
    pub(super) fn publish(&mut self, now: Tick) {
        let view = |(&server, &(host, heard)): (&ServerId, &(u64, Tick))| {
            let silent = now.since(heard);
            let health = match silent {
                _ if silent <= SERVER_SUSPECT => ServerHealth::Alive,
                _ if silent <= SERVER_SUSPECT * 3 => ServerHealth::Suspect,
                _ => ServerHealth::Down,
            };
            let address = if health == ServerHealth::Down { String::new() } else { format!("cs-{host}") };
            let (total_bytes, free_bytes, labels) = (1 << 40, 1 << 39, Arc::default());
            (
                server,
                ServerView {
                    health,
                    address,
                    total_bytes,
                    free_bytes,
                    leaving_bytes: 0,
                    load: 0,
                    draining: false,
                    labels,
                },
            )
        };
        let servers = self.servers.heard.iter().map(view).collect();
        self.view.send_replace(Arc::new(ClusterView { servers }));
    }

    /// Begins to raise the survivors of a set.
    pub(super) fn begin_raise(&mut self, now: Tick, asked: super::front::Operated, order: RaiseOrder) {
        let Some(term) = self.serves else { return };
        self.servers.orders += 1;
        let number = self.servers.orders;
        for server in &order.survivors {
            let Some(&(host, _)) = self.servers.heard.get(server) else { continue };
            let RaiseOrder { chunk, from, to, .. } = order;
            self.servers.out.push((host, ToServer::Raise { term, order: number, chunk, from, to }));
        }
        let (raised, until) = (BTreeSet::new(), now.after(RAISE_PATIENCE));
        self.servers.raises.insert(number, Raise { asked, order, raised, until });
    }

    /// Raises that have all answers, or wait no longer, are decided.
    pub(super) fn raises_done(&mut self, stepped: &Stepped, now: Tick) -> bool {
        let is_done = |raise: &Raise| now >= raise.until || raise.raised.len() == raise.order.survivors.len();
        let done: Vec<u64> = self
            .servers
            .raises
            .iter()
            .filter(|(_, raise)| is_done(raise))
            .map(|(number, _)| *number)
            .collect();
        for number in &done {
            let Some(Raise { asked, order, raised, .. }) = self.servers.raises.remove(number) else {
                continue;
            };
            // Their order is kept.
            let servers = order.survivors.iter().copied().filter(|server| raised.contains(server)).collect();
            self.submit(stepped, asked, Some(Raised { to: order.to, servers }));
        }
        !done.is_empty()
    }

    /// Asks for the deletion of what the state no longer counts on.
    pub(super) fn delete_replicas(&mut self, stepped: &Stepped) {
        let Some(term) = self.serves else { return };
        for deletion in stepped.read(|rows| deletions(rows, None, WORK_PAGE)).unwrap() {
            if let Some(&(host, _)) = self.servers.heard.get(&deletion.server) {
                let delete = ToServer::Delete { term, chunk: deletion.chunk, up_to: deletion.version };
                self.servers.out.push((host, delete));
            }
        }
        debug_assert!(self.servers.out.iter().all(|(host, _)| *host >= SERVERS_FROM));
    }
}
