//! The Cairn client: a file system over masters and chunk servers.
//!
//! Two layers: [`fs::FileSystem`] works with inode numbers and callers' credentials (a mount builds on it), and the
//! path-based interface on top of it is for programs.

mod creations;
mod data;
pub mod error;
pub mod figures;
pub mod fs;
mod inode;
mod meta;
mod observations;
pub mod options;
mod path;
mod remembered;
mod shared;
mod slow;
mod write;

pub use error::ConnectError;
pub use options::{ConnectOptions, Unavailable};
pub use path::{Client, DirEntry, Error, File, Metadata, OpenOptions, ReadDir, Result};
