//! The metadata master: one leader, hot standbys that replay its journal.

pub mod checkpoint;
pub mod journal;
pub mod kv;
pub mod raft;
pub mod sequencer;
