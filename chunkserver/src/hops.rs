//! Connections to the servers next in a chain, and to the peers of a reconciliation.
//!
//! All frames of one chunk towards one address travel the same lane, so that a new connection of the lane fences what the
//! old one left on its way. Lanes are kept apart by how many hops lie beyond the next one: a full connection then waits
//! only for connections with fewer hops to go, and servers that forward to each other cannot block each other in a ring.

use crate::joined::Joined;
use cairn_core::ids::ChunkId;
use cairn_core::limits::{HOP_CONNECTIONS_MAX, HOP_LANES};
use cairn_env::Env;
use cairn_proto::data_conn::{ConnError, DataConnection, Lane, PayloadPool};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the connection is for: lanes of different purposes never share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Frames of a chain with so many hops beyond the next one.
    Chain { beyond: usize },
    /// Comparing and copying replicas.
    Repair,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: String,
    lane: u64,
}

/// The connection of one lane and what is known of the last attempts to make it.
struct Slot {
    connection: Mutex<Option<DataConnection>>,
    /// Attempts begun; whoever waited while one failed shares its failure instead of trying again in turn.
    attempts: AtomicU64,
    making: tokio::sync::Mutex<Option<(u64, ConnError)>>,
}

/// All lanes, made on demand.
pub(crate) struct Hops {
    env: Env,
    joined: Arc<Joined>,
    pool: PayloadPool,
    slots: Mutex<BTreeMap<Key, Arc<Slot>>>,
    generations: AtomicU64,
}

impl Hops {
    pub(crate) fn new(env: Env, joined: Arc<Joined>, pool: PayloadPool) -> Self {
        Self { env, joined, pool, slots: Mutex::default(), generations: AtomicU64::new(1) }
    }

    /// A living connection for frames of `chunk` to `address`.
    ///
    /// # Errors
    /// How the attempt ended that was made for this call, or that this call waited for.
    pub(crate) async fn get(
        &self,
        address: &str,
        purpose: Purpose,
        chunk: ChunkId,
    ) -> Result<DataConnection, ConnError> {
        let class = match purpose {
            Purpose::Repair => 0,
            Purpose::Chain { beyond } => 1 + beyond as u64,
        };
        let lane = class * HOP_LANES + chunk.get() % HOP_LANES;
        let slot = self.slot(address, lane)?;
        if let Some(connection) = slot.living() {
            return Ok(connection);
        }
        let seen = slot.attempts.load(Ordering::Acquire);
        let mut last_failure = slot.making.lock().await;
        if let Some(connection) = slot.living() {
            return Ok(connection);
        }
        if let Some((attempt, error)) = last_failure.as_ref()
            && *attempt > seen
        {
            return Err(error.clone());
        }
        let attempt = slot.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        match self.connect(address, lane).await {
            Ok(connection) => {
                *slot.lock() = Some(connection.clone());
                *last_failure = None;
                Ok(connection)
            }
            Err(error) => {
                *last_failure = Some((attempt, error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self, address: &str, lane: u64) -> Result<DataConnection, ConnError> {
        let peer = format!("chunkserver {address}");
        let stream = self.env.net.connect(address).await.map_err(|source| failed(&peer, source))?;
        let (read, write) = stream.into_split();
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let lane = Lane { number: lane, generation };
        let hello = self.joined.hello();
        let (connection, driver) =
            DataConnection::connect(read, write, &peer, &hello, lane, &self.pool).await?;
        drop(tokio::spawn(driver));
        Ok(connection)
    }

    fn slot(&self, address: &str, lane: u64) -> Result<Arc<Slot>, ConnError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key { address: address.to_owned(), lane };
        if let Some(slot) = slots.get(&key) {
            return Ok(slot.clone());
        }
        if slots.len() >= HOP_CONNECTIONS_MAX {
            // Only slots that nobody is using: dropping another would give a lane two connections.
            slots.retain(|_, slot| {
                Arc::strong_count(slot) > 1 || slot.living().is_some_and(|c| c.in_flight() > 0)
            });
        }
        if slots.len() >= HOP_CONNECTIONS_MAX {
            let source = io::Error::other("too many connections to other chunk servers");
            return Err(failed(&format!("chunkserver {address}"), source));
        }
        let slot = Arc::new(Slot {
            connection: Mutex::new(None),
            attempts: AtomicU64::new(0),
            making: tokio::sync::Mutex::new(None),
        });
        slots.insert(key, slot.clone());
        Ok(slot)
    }
}

impl Slot {
    fn living(&self) -> Option<DataConnection> {
        self.lock().as_ref().filter(|connection| connection.dead().is_none()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Option<DataConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(peer: &str, source: io::Error) -> ConnError {
    ConnError::Io { peer: peer.into(), source: Arc::new(source) }
}
