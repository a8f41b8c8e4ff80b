//! Chunk servers as the master sees them.

pub mod digest;
