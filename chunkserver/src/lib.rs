//! The chunk server: replicas of chunks on disks, and the data plane in front of them.

mod commands;
pub mod config;
mod data_listener;
mod data_service;
pub mod error;
mod events;
mod forward;
mod heartbeat;
mod hops;
mod http;
mod identity;
mod joined;
mod lanes;
mod mend;
mod metrics;
mod read_path;
mod reconcile;
pub mod server;
pub mod store;
mod write_path;

pub use config::ChunkServerConfig;
pub use error::ChunkServerError;
pub use server::{ChunkServer, run};
