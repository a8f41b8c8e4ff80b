//! The client against a real cluster in the process. One binary: each one links a master with its RocksDB.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod cluster;
mod failures;
mod files;
mod model;
