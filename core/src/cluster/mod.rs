//! Chunk servers as the master sees them, and where it puts new chunks.

pub mod digest;
pub mod placement;
pub mod view;

pub use view::{ClusterView, ServerHealth, ServerView};
