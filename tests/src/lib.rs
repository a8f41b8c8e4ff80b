//! The test harness: real clusters of real processes through the public door, and what checks them.

pub mod cluster;
pub mod corpus;
pub mod fake_s3;
pub mod faulty_disk;
pub mod history;
pub mod ledger;
pub mod load;
pub mod network;
pub mod oracle;
pub mod ordeal;
pub mod pages;
pub mod promql;
pub mod shell;
pub mod spread;
pub mod stall;
pub mod tree_worker;

pub use cluster::{Cluster, ClusterOptions};
