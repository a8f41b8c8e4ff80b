//! A mount from beginning to end: checks, connection, mounting; then unmounting, with everything saved first.

use crate::fs::KernelFs;
use crate::mount_error::MountError;
use crate::mount_table::{mounts, unmount_at};
use crate::ops::Ops;
use crate::options::MountOptions;
use crate::{place, session};
use cairn_client::fs::FileSystem;
use cairn_env::Env;
use fuser::BackgroundSession;
use rustix::fs::{Mode, OFlags};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest wait for something that is mounted to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for the last data at an unmount; programs that stop services give about 90 s.
const SAVE_LIMIT: Duration = Duration::from_secs(45);
/// The kernel's read-ahead: enough 1 MiB requests under way to keep several chunk servers busy.
const READ_AHEAD_KIB: u32 = 4096;

/// A mount that answers.
pub struct Mounted {
    path: PathBuf,
    client: FileSystem,
    /// Ends when the kernel lets go of the session: an unmount, by whomever.
    ended: oneshot::Receiver<()>,
    /// Never dropped: fuser 0.18 would unmount the path again, and hit whoever has mounted there since.
    _session: ManuallyDrop<BackgroundSession>,
}

/// Mounts and serves until `shutdown` or until somebody unmounts. To know when it is mounted, use [`mount`] and
/// [`Mounted::serve`].
///
/// # Errors
/// Why mounting failed, or what was not saved.
pub async fn serve(
    env: Env,
    options: MountOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), MountError> {
    mount(env, options).await?.serve(shutdown).await
}

/// Mounts. When this returns, the mount answers.
///
/// # Errors
/// What is in the way, and what to do about it.
pub async fn mount(env: Env, mut options: MountOptions) -> Result<Mounted, MountError> {
    let asked = options.mount_point.clone();
    options.mount_point = within(ANSWER_LIMIT, &asked, place::prepare).await??;
    let path = options.mount_point.clone();
    let clock = env.clock.clone();
    let client =
        FileSystem::connect(env, options.flags.connect_options(options.masters.clone(), &path)).await?;
    let (running, ended) = oneshot::channel();
    let fs = KernelFs::new(Arc::new(Ops::new(client.clone(), clock)), Handle::current(), running);
    let read_ahead = options.flags.read_ahead_kib.unwrap_or(READ_AHEAD_KIB);
    let session = within(ANSWER_LIMIT, &path, move |_| session::begin(&options, fs)).await??;
    let mounted = Mounted { path, client, ended, _session: ManuallyDrop::new(session) };
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
    pub async fn serve(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), MountError> {
        let unmounted = tokio::select! {
            _ = &mut self.ended => Ok(()),
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
        within(ANSWER_LIMIT, &self.path, move |path| set_read_ahead(path, read_ahead)).await?;
        within(ANSWER_LIMIT, &self.path, |path| std::fs::metadata(path)).await?.map_err(failed)?;
        tracing::info!(mount_point = %self.path.display(), "mounted");
        Ok(())
    }

    async fn unmount(&mut self) -> Result<(), MountError> {
        within(SAVE_LIMIT, &self.path, |path| {
            let Err(busy) = unmount_at(path, false) else { return Ok(()) };
            tracing::warn!(mount_point = %path.display(), error = %busy, "still in use; detaching it");
            write_back(path);
            unmount_at(path, true).map_err(|source| MountError::Unmount { path: path.to_owned(), source })
        })
        .await?
    }
}

/// Pages of shared mappings that the kernel still keeps.
fn write_back(path: &Path) {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if let Err(error) = opened.and_then(rustix::fs::syncfs) {
        tracing::warn!(mount_point = %path.display(), %error, "syncing before the unmount failed");
    }
}

/// Only root may; without it the kernel's 128 KiB stay.
fn set_read_ahead(path: &Path, kib: u32) {
    let device = mounts().ok().and_then(|mounts| mounts.into_iter().rfind(|entry| entry.mount_point == path));
    let Some(device) = device.map(|entry| entry.device) else { return };
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
