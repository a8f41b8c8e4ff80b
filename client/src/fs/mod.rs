//! The inode-level file system: what a mount needs, one method per system call.

mod ahead;
mod cached;
mod files;
mod names;
mod neighbours;
mod open_file;

pub(crate) use neighbours::Neighbours;
pub(crate) use open_file::Handle;
pub use open_file::{OpenFile, OpenFlags};

use crate::data::Data;
use crate::error::ConnectError;
use crate::figures::{Counts, Figures, LeaderFigures};
use crate::inode;
use crate::meta::Meta;
use crate::options::ConnectOptions;
pub use crate::shared::Disbelieve;
use crate::shared::{EventDoor, Shared, release_pool};
use cairn_core::error::FsError;
use cairn_core::ids::NodeId;
use cairn_core::namespace::answer::DirectoryEntry;
use cairn_env::Env;
use std::sync::Arc;

/// One page of a directory.
#[derive(Clone, Debug)]
pub struct DirPage {
    /// Entries in cookie order.
    pub entries: Vec<DirectoryEntry>,
    /// Nothing follows.
    pub end: bool,
}

/// What `lseek(2)` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekFor {
    /// SEEK_DATA
    Data,
    /// SEEK_HOLE; the end of the file counts as one.
    Hole,
}

/// A connected file system. Clones share one session, one set of connections and one memory budget.
///
/// Must be used within the tokio runtime in which it was connected.
#[derive(Clone)]
pub struct FileSystem {
    shared: Arc<Shared>,
}

impl FileSystem {
    /// Connects and opens a session.
    ///
    /// # Errors
    /// See [`ConnectError`]; each names the address and the next step.
    pub async fn connect(env: Env, options: ConnectOptions) -> Result<Self, ConnectError> {
        let node = NodeId(env.random.uuid());
        let door = EventDoor::default();
        let meta = Meta::connect(env.clone(), options.clone(), node, door.events()).await?;
        let data = Data::new(env.clone(), meta.cluster(), node, meta.observations(), meta.counts().clone());
        let shared = Arc::new(Shared::new(env, options, meta, data));
        door.open(&shared);
        shared.spawn(inode::sweep(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// How it stands, for whoever operates it.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Of that, the session with the leading master.
    pub fn leader(&self) -> LeaderFigures {
        self.shared.leader()
    }

    fn counts(&self) -> &Counts {
        self.shared.meta.counts()
    }

    /// Flushes everything and ends the session. Nothing works afterwards.
    ///
    /// # Errors
    /// The first error met, after everything was tried.
    pub async fn shutdown(&self) -> Result<(), FsError> {
        let inodes = self.shared.all_inodes();
        let flushes = inodes.iter().map(|inode| inode.flush(&self.shared, None, true));
        let outcomes = futures::future::join_all(flushes).await;
        release_pool(&self.shared).await;
        self.shared.meta.detach().await;
        outcomes.into_iter().collect()
    }
}
