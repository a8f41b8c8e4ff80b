//! The chunk server: replicas of chunks on disks, and the data plane in front of them.

pub mod store;
