//! The metadata master: one leader, hot standbys that replay its journal.
//!
//! [`server`] builds everything and alone starts tasks; [`sequencer`] owns the namespace; the rest are services around
//! them that keep no truth of their own.

mod admin_service;
pub mod backup;
pub mod caching;
mod capacity_page;
pub mod checkpoint;
mod chunkserver_stream;
mod cluster_metrics;
pub mod config;
mod control_port;
#[cfg(test)]
mod core_sim;
mod damage;
mod data_dir;
mod driven;
mod event_pages;
mod events;
mod filling;
mod fsck_pages;
mod group_service;
mod hello;
mod http;
mod inventory;
pub mod journal;
pub mod kv;
mod latencies;
mod leader;
mod leases;
mod link;
mod metrics;
mod moving;
mod observations;
pub mod offline;
mod operations;
mod parts;
mod peers;
mod placement_pages;
mod policies;
mod policy_pages;
pub mod raft;
mod redundancy;
mod replace;
mod scrubbing;
#[cfg(test)]
mod seeded_test;
pub mod sequencer;
pub mod server;
mod servers;
mod session_conn;
mod session_open;
mod sessions;
mod slow;
mod why;
mod work;

pub use config::MasterConfig;
pub use data_dir::DataDirError;
pub use sequencer::StateStore;
pub use server::{Master, MasterError, run};
