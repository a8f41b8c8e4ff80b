//! Chunk servers as the master sees them, where it puts new chunks, and what it repairs.

pub mod balance;
pub mod digest;
pub mod disk_health;
pub mod failure_detector;
pub mod labels;
pub mod latency;
pub mod moving_time;
pub mod pace;
pub mod placement;
pub mod policy;
pub mod repair;
pub mod salvage;
#[cfg(test)]
mod scale_test;
pub mod view;
pub mod witness;

pub use labels::Labels;
pub use policy::{Policies, Policy};
pub use view::{ClusterView, ServerHealth, ServerView};
