//! The doors: everything non-deterministic enters through here, real or simulated.
//!
//! Nothing outside this crate names a raw clock, socket, file, thread or random source; clippy's bans say so and name the
//! replacement. A server takes one [`Env`] and can then run as a process or inside one seeded simulation.

pub mod busy_poll;
pub mod clock;
pub mod config;
pub mod disk;
mod disk_medium;
pub mod disk_real;
pub mod disk_sim;
pub mod errand;
pub mod kv;
pub mod kv_conformance;
pub mod kv_memory;
pub mod metrics;
pub mod net;
pub mod process;
pub mod random;
pub mod spawn;

use std::sync::Arc;

/// One node's view of the world.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn clock::Clock>,
    /// Randomness.
    pub random: Arc<dyn random::Random>,
    /// Files.
    pub disk: Arc<dyn disk::Disk>,
    /// Sockets.
    pub net: Arc<dyn net::Net>,
    /// Threads.
    pub spawn: Arc<dyn spawn::Spawn>,
    /// Connections that waiting threads read themselves.
    pub busy_poll: busy_poll::BusyPoll,
}

impl Env {
    /// The operating system.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(clock::SystemClock),
            random: Arc::new(random::SystemRandom),
            disk: Arc::new(disk_real::RealDisk),
            net: Arc::new(net::tcp::TcpNet),
            spawn: Arc::new(spawn::ThreadSpawn),
            busy_poll: busy_poll::BusyPoll::default(),
        }
    }
}
