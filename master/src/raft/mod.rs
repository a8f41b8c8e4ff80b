//! Raft over our journal: raft-rs as a synchronous, deterministic machine, driven by the sequencer.
//!
//! A group of one runs the same code as a group of three: it elects itself at once, and what it has synced is committed.

pub(crate) mod change;
mod group;
mod lease;
mod log_bridge;
mod storage;
pub(crate) mod wire;

#[cfg(test)]
mod group_sim_test;
#[cfg(test)]
mod group_test;

pub use group::{Follower, Group, GroupConfig, RaftFailure};
pub use lease::LeaseClock;
pub use storage::JournalStorage;
