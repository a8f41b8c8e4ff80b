//! A copy that is handed out: a checkpoint of its own, its files in order, and the journal that follows it.

use crate::checkpoint::{self, CheckpointError};
use crate::sequencer::{JournalPin, JournalPins, StateStore};
use cairn_core::ids::LogIndex;
use cairn_core::journal::applied::Applied;
use cairn_core::limits::FILLS_MAX;
use cairn_env::Env;
use cairn_env::disk::{Disk, DiskFile, OpenMode};
use cairn_env::kv::Kv;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Where copies that are handed out stand; emptied at each start.
const DIRECTORY: &str = "transfers";

/// The copies that are handed out at present.
pub(crate) struct Transfers {
    directory: PathBuf,
    pins: Arc<JournalPins>,
    places: Arc<Semaphore>,
    /// The newest one, for whoever asks for the rest of it.
    newest: Mutex<Weak<Transfer>>,
}

/// One copy. It goes with its last user.
pub(crate) struct Transfer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Its name, which nobody else has.
    pub(super) name: String,
    /// How far it reaches.
    pub(crate) applied: Applied,
    /// Names and sizes, in the order in which they are sent.
    pub(crate) files: Vec<(String, u64)>,
    /// Of one that is handed out: whoever installs it needs the journal behind it.
    _pin: Option<JournalPin>,
}

impl Transfers {
    /// Nothing is handed out yet; what an earlier run left is removed. Blocks on the disk.
    pub(crate) fn open(disk: &dyn Disk, data_dir: &Path, pins: Arc<JournalPins>) -> io::Result<Self> {
        let directory = data_dir.join(DIRECTORY);
        super::install::remove_dir(disk, &directory)?;
        let (places, newest) = (Arc::new(Semaphore::new(FILLS_MAX)), Mutex::default());
        Ok(Self { directory, pins, places, newest })
    }

    /// A place for one that is filled, if one is free.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The copy of this name, if it is still there.
    pub(super) fn resume(&self, name: &str) -> Option<Arc<Transfer>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        newest.filter(|transfer| transfer.name == name)
    }

    /// Makes a copy of the state, which has applied at least `applied`, to be handed out. Blocks on the disk.
    pub(super) fn begin(
        &self,
        env: &Env,
        kv: &dyn Kv,
        store: StateStore,
        applied: LogIndex,
    ) -> Result<Arc<Transfer>, CheckpointError> {
        let transfer = self.copy(env, kv, store, Some(self.pins.pin(applied)))?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&transfer);
        Ok(transfer)
    }

    /// Makes a copy of the state, and keeps what is pinned for as long as the copy lives. Blocks on the disk.
    pub(crate) fn copy(
        &self,
        env: &Env,
        kv: &dyn Kv,
        store: StateStore,
        pin: Option<JournalPin>,
    ) -> Result<Arc<Transfer>, CheckpointError> {
        let name = env.random.uuid().to_string();
        let path = self.directory.join(&name);
        env.disk.create_dir_all(&self.directory)?;
        let made = checkpoint::copy(env, kv, store, &path).and_then(|applied| {
            let mut files = Vec::new();
            for item in env.disk.list(&path)?.into_iter().filter(|item| !item.is_dir) {
                let bytes = env.disk.open(&path.join(&item.name), OpenMode::Read)?.len()?;
                let name = item.name.into_string().map_err(|_| CheckpointError::Unreadable)?;
                files.push((name, bytes));
            }
            Ok((applied, files))
        });
        let (applied, files) = made.inspect_err(|_| {
            // The next start removes what cannot be removed now.
            drop(env.disk.remove_dir_all(&path));
        })?;
        let disk = Arc::clone(&env.disk);
        Ok(Arc::new(Transfer { disk, path, name, applied, files, _pin: pin }))
    }
}

impl Transfer {
    /// Opens one of its files. Blocks on the disk.
    pub(crate) fn open(&self, file: usize) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.path.join(&self.files[file].0), OpenMode::Read)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // The next start removes what cannot be removed now. A few links: no thread is kept waiting.
        drop(self.disk.remove_dir_all(&self.path));
    }
}
