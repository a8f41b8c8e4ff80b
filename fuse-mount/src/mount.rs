//! A mount from beginning to end: checks, connection, mounting; then unmounting, with everything saved first.

use crate::fs::KernelFs;
use crate::kernel::Session;
use crate::kernel_cache::KernelCache;
use crate::look_out::LookOut;
use crate::metrics::{self, Metrics, Pages};
use crate::mount_error::MountError;
use crate::mount_table::{mounts, unmount_at};
use crate::ops::Ops;
use crate::options::MountOptions;
use crate::{place, session};
use cairn_client::fs::FileSystem;
use cairn_env::Env;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Longest wait for something that is mounted to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for the last data at an unmount; programs that stop services give about 90 s.
const SAVE_LIMIT: Duration = Duration::from_secs(45);
/// Receiving threads end within this time of each other.
const ENDING_LIMIT: Duration = Duration::from_secs(1);
/// The kernel's read-ahead: enough 1 MiB requests under way to keep several chunk servers busy.
const READ_AHEAD_KIB: u32 = 4096;

/// A mount that answers.
pub struct Mounted {
    path: PathBuf,
    client: FileSystem,
    /// The kernel has let go of the session (an unmount, by whomever), or a receiving thread has died.
    ended: Arc<Notify>,
    /// Names our mount among others at the same path.
    device: Option<String>,
    session: Session,
    /// Of metrics.
    _pages: Option<Pages>,
}

/// Mounts and serves until `shutdown` or until somebody unmounts. To know when it is mounted, use [`mount`] and
/// [`Mounted::serve`]. Reads and writes run on `bytes`, everything else on the present runtime: large copies there hold
/// up no message here.
///
/// # Errors
/// Why mounting failed, or what was not saved.
pub async fn serve(
    env: Env,
    options: MountOptions,
    bytes: Handle,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), MountError> {
    mount(env, options, bytes).await?.serve(shutdown).await
}

/// Mounts. When this returns, the mount answers.
///
/// # Errors
/// What is in the way, and what to do about it.
pub async fn mount(env: Env, mut options: MountOptions, bytes: Handle) -> Result<Mounted, MountError> {
    let asked = options.mount_point.clone();
    options.mount_point = within(ANSWER_LIMIT, &asked, place::prepare).await??;
    let path = options.mount_point.clone();
    let counted = Arc::new(Metrics::default());
    let look_out = LookOut::new(&env, counted.clone());
    // Before anything else is begun that a port in use would undo.
    let listener = match &options.flags.metrics {
        Some(address) => Some(metrics::listen(&env, &bytes, address).await?),
        None => None,
    };
    let client =
        FileSystem::connect(env, options.flags.connect_options(options.masters.clone(), &path)).await?;
    let ended = Arc::new(Notify::new());
    let kernel = Arc::new(KernelCache::default());
    let told = kernel.clone();
    client.set_cache_above(Box::new(move |inodes, names| told.disbelieve(inodes, names)));
    let ops = Arc::new(Ops::new(client.clone(), kernel.clone(), counted));
    let pages = listener.map(|listener| Pages::serve(listener, &bytes, &ops, &look_out));
    let fs = KernelFs::new(ops, (Handle::current(), bytes), look_out);
    let read_ahead = options.flags.read_ahead_kib.unwrap_or(READ_AHEAD_KIB);
    let told = ended.clone();
    let session = within(ANSWER_LIMIT, &path, move |_| session::begin(&options, fs, &kernel, told)).await??;
    let device = device_at(&path);
    let mounted = Mounted { path, client, ended, device, session, _pages: pages };
    match mounted.first_answer(read_ahead).await {
        Ok(()) => Ok(mounted),
        Err(error) => {
            // Nothing was written yet; only the kernel's side must not stay behind.
            let _ = unmount_at(&mounted.path, true);
            Err(error)
        }
    }
}

impl Mounted {
    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `shutdown` or until somebody unmounts; then saves everything and ends the session. A mount that is in
    /// use at `shutdown` is detached: programs keep their files until this process ends.
    ///
    /// # Errors
    /// What could not be unmounted or saved.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), MountError> {
        let unmounted = tokio::select! {
            () = self.ended.notified() => self.after_end().await,
            () = shutdown => self.unmount().await,
        };
        tracing::info!(mount_point = %self.path.display(), "saving what is left");
        match timeout(SAVE_LIMIT, self.client.shutdown()).await {
            Ok(saved) => saved.map_err(MountError::NotSaved)?,
            Err(_) => return Err(MountError::SaveTimedOut { seconds: SAVE_LIMIT.as_secs() }),
        }
        unmounted
    }

    async fn first_answer(&self, read_ahead: u32) -> Result<(), MountError> {
        let failed = |source| MountError::MountPoint { path: self.path.clone(), source };
        set_read_ahead(self.device.as_deref(), read_ahead);
        within(ANSWER_LIMIT, &self.path, answers).await?.map_err(failed)?;
        tracing::info!(mount_point = %self.path.display(), "mounted");
        Ok(())
    }

    /// After the session or one of its threads has ended. A thread that died has taken a request with it, and the kernel
    /// would wait for the answer for ever: so the mount goes, and the rest when this process ends.
    async fn after_end(&self) -> Result<(), MountError> {
        if self.device.is_none() || device_at(&self.path) != self.device {
            return Ok(());
        }
        tokio::time::sleep(ENDING_LIMIT).await;
        if self.session.has_ended() {
            // All threads have ended, and somebody has mounted there since.
            return Ok(());
        }
        if let Err(error) = within(ANSWER_LIMIT, &self.path, |path| unmount_at(path, true)).await? {
            // This process ends now, which ends the mount as well.
            tracing::warn!(mount_point = %self.path.display(), %error, "could not be unmounted");
        }
        Err(MountError::ReceiverLost(self.path.clone()))
    }

    async fn unmount(&self) -> Result<(), MountError> {
        within(SAVE_LIMIT, &self.path, |path| {
            let Err(busy) = unmount_at(path, false) else { return Ok(()) };
            tracing::warn!(mount_point = %path.display(), error = %busy, "still in use; detaching it");
            write_back(path);
            unmount_at(path, true).map_err(|source| MountError::Unmount { path: path.to_owned(), source })
        })
        .await?
    }
}

/// Asks for the root and for its first names: whoever comes first then finds the code of most requests in memory.
fn answers(path: &Path) -> std::io::Result<()> {
    std::fs::metadata(path)?;
    // Not to be read by everybody, perhaps.
    if let Ok(mut names) = std::fs::read_dir(path) {
        names.next();
    }
    Ok(())
}

/// Pages of shared mappings that the kernel still keeps. By a process of its own: were this one killed while one of its
/// threads waits for an answer of its own file system, neither would ever end, since the kernel gives up the requests only
/// when the last thread is gone.
fn write_back(path: &Path) {
    let synced = std::process::Command::new("sync").arg("--file-system").arg(path).output();
    match synced {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            tracing::warn!(mount_point = %path.display(), said, "syncing before the unmount failed");
        }
        Err(error) => {
            tracing::warn!(mount_point = %path.display(), %error, "`sync` cannot be run before the unmount")
        }
    }
}

/// The super block mounted at `path`.
fn device_at(path: &Path) -> Option<String> {
    mounts().ok()?.into_iter().rfind(|entry| entry.mount_point == path).map(|entry| entry.device)
}

/// Only root may; without it the kernel's 128 KiB stay.
fn set_read_ahead(device: Option<&str>, kib: u32) {
    let Some(device) = device else { return };
    if let Err(error) = std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string()) {
        tracing::debug!(%error, device, "the kernel's read-ahead stays as it is");
    }
}

/// Runs what may block, on a file system whose daemon may be stopped, and gives up after `limit`.
async fn within<T: Send + 'static>(
    limit: Duration,
    path: &Path,
    act: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, MountError> {
    let on = path.to_owned();
    let late = || MountError::NotAnswering { path: path.to_owned(), seconds: limit.as_secs() };
    timeout(limit, tokio::task::spawn_blocking(move || act(&on)))
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or_else(late)
}
