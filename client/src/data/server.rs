//! One chunk server: its lanes, dialled when first used and again after each loss.

use super::Data;
use super::health::Health;
use cairn_core::limits::{DATA_LANES, HOP_SILENCE};
use cairn_core::time::Tick;
use cairn_env::busy_poll::Demand;
use cairn_proto::data_conn::{DataConnection, Lane};
use std::sync::{Arc, Mutex, PoisonError};

/// One chunk server by its address.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) health: Health,
    lanes: Vec<LaneState>,
}

#[derive(Default)]
struct LaneState {
    /// The present connection. Kept apart from `dialling`, so that users never wait for a lock.
    present: Mutex<Option<Connected>>,
    /// Held by whoever dials; counts the generations.
    dialling: tokio::sync::Mutex<u64>,
}

/// A connection of a lane.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) connection: DataConnection,
    /// Which run of the server's process answers: another one has perhaps lost what was not synced.
    pub(super) run: u64,
    /// Whoever waits for a reply says so.
    pub(super) demand: Demand,
    /// When it last gave a sign of life.
    heard: Arc<Mutex<Tick>>,
}

impl Connected {
    /// It has just given a sign of life.
    pub(super) fn is_heard(&self, now: Tick) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Whether it gave one a moment ago. A connection may outlive the process at its other end for as long as the network loses what
    /// would tell of its end.
    pub(super) fn is_fresh(&self, now: Tick) -> bool {
        now.since(*self.heard.lock().unwrap_or_else(PoisonError::into_inner)) < HOP_SILENCE
    }
}

impl Server {
    pub(super) fn new(address: &str) -> Self {
        let lanes = (0..DATA_LANES).map(|_| LaneState::default()).collect();
        Self { address: address.to_owned(), health: Health::default(), lanes }
    }

    /// The lane's connection, dialled if need be.
    ///
    /// # Errors
    /// Why it cannot be reached, naming the address.
    pub(super) async fn connected(&self, data: &Data, lane: u64) -> Result<Connected, String> {
        let number = lane % DATA_LANES;
        let state = &self.lanes[number as usize];
        if let Some(present) = state.living() {
            return Ok(present);
        }
        let mut generation = state.dialling.lock().await;
        if let Some(present) = state.living() {
            return Ok(present);
        }
        // Counted before the attempt: a half-open predecessor that the server did see is fenced by the next one.
        *generation += 1;
        let lane = Lane { number, generation: *generation };
        let stream = data.env.net.connect(&self.address).await.map_err(|error| error.to_string())?;
        let (read, write) = stream.into_split();
        let peer = format!("chunkserver {}", self.address);
        let (connection, driver) = DataConnection::connect(read, write, &peer, &data.hello, lane, &data.pool)
            .await
            .map_err(|error| error.to_string())?;
        let (demand, driver) = data.env.busy_poll.on_demand(driver);
        drop(tokio::spawn(driver));
        // Who does not tell its run may have begun another with each connection.
        let run = Some(connection.remote().run).filter(|run| *run != 0).unwrap_or(*generation);
        let heard = Arc::new(Mutex::new(data.env.clock.now()));
        let connected = Connected { connection, run, demand, heard };
        *state.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(connected.clone());
        Ok(connected)
    }
}

impl LaneState {
    fn living(&self) -> Option<Connected> {
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.clone().filter(|connected| connected.connection.dead().is_none())
    }
}
