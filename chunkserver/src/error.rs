//! Why a chunk server cannot start or go on; shown to the user as it is.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Component, address or directory, and the next step.
#[derive(Debug, Error)]
pub enum ChunkServerError {
    /// A listening address is not to be had.
    #[error(
        "chunkserver: cannot listen for {what} at {address}: {source}\n\
         next: stop what uses that address, or set `{setting}` in the configuration to another one (port 0: any)"
    )]
    Listen {
        /// "data" or "http".
        what: &'static str,
        /// As configured.
        address: String,
        /// The setting to change.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A data directory cannot be used.
    #[error("chunkserver: data directory {path} {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What it is, and the way out.
        reason: String,
    },
    /// The store could not be opened.
    #[error("chunkserver: the chunk store cannot be opened: {0}\nnext: check `disks` in the configuration")]
    Store(String),
}
