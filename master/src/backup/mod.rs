//! Backup of the metadata: the leader ships its journal as it grows, makes images of its state, and everything is restored from
//! them.
//!
//! ```text
//!   ship       each second: what was applied since → one object; the moment up to which a restore reaches
//!   image      checkpoint → its files → manifest; when asked, after so much journal, and where shipping cannot go on
//!   place      where shipping stands, found by a listing: for a new leader, and for operators
//!   retention  what is older than the images that are to stay goes
//!   survey     everything that a destination holds; verify reads all of it
//!   restore    image → journal after it → the directory of a master that is alone
//! ```
//! What is shipped is committed, hence true for every leader: two of them may ship the same, and nothing needs a lock.

mod image;
mod objects;
mod place;
mod replay;
mod restore;
mod retention;
mod ship;
mod state;
mod survey;
mod verify;

pub(crate) use image::make_in_background;
pub use objects::{ObjectReader, ObjectWriter, Objects, ObjectsError};
pub use restore::{RestoreError, Restored, Target, To, restore};
pub(crate) use ship::ship_in_background;
pub(crate) use state::{Backup, Shown};
pub use survey::{Image, Life, Survey, survey};
pub use verify::{Verified, verify};

use cairn_core::backup::BackupError;
use thiserror::Error;

/// Why something in a destination cannot be used; shown to the user as it is.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be reached.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// An object is not what it should be.
    #[error(
        "backup destination {url}: {name} {error}: restore another moment or image, `cairn admin backup list` shows them"
    )]
    Object {
        /// The destination.
        url: String,
        /// The object.
        name: String,
        /// What is wrong with it.
        error: BackupError,
    },
}
