//! Raft over our journal: raft-rs as a synchronous, deterministic machine, driven by the sequencer.
//!
//! A group of one runs the same code as a group of three: it elects itself at once, and what it has synced is committed.

mod group;
mod log_bridge;
mod storage;

#[cfg(test)]
mod group_test;

pub use group::{Group, GroupConfig, RaftFailure, Settled};
pub use storage::JournalStorage;
