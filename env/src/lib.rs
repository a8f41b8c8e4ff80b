//! The doors: everything non-deterministic enters through here, real or simulated.
//!
//! Nothing outside this crate names a raw clock, socket, file, thread or random source; clippy's bans say so and name the
//! replacement. A server takes one [`Env`] and can then run as a process or inside one seeded simulation.

pub mod clock;
pub mod disk;
pub mod kv;
pub mod random;

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
}
