//! The client against a real cluster in the process. One binary: each one links a master with its RocksDB.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::large_futures,
    reason = "a test binary has no outside, and drives the real world"
)]

mod cluster;
mod failures;
mod files;
mod model;
mod proxy;
mod syncs;
