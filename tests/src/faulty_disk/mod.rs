//! A disk that fails or turns slow on command: a FUSE file system that passes everything on to a directory beside it, mounted
//! where a real chunk server keeps its data. The server, its kernel calls and its files are those of production.

mod nodes;
mod passthrough;

use fuser::{BackgroundSession, Config, Errno, MountOption, Session};
use passthrough::Passthrough;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Requests under way at a time: what one fast disk takes.
const QUEUE_DEPTH: usize = 16;

/// Longest sleep of a delayed request before it looks whether it is still delayed.
const STEP: Duration = Duration::from_millis(50);

/// What is wrong with a disk, from now on until told otherwise.
#[derive(Debug, Default)]
pub struct Faults {
    reads_fail: AtomicBool,
    writes_fail: AtomicBool,
    delay_us: AtomicU64,
    served: AtomicU64,
}

impl Faults {
    /// Every read, write and sync fails with EIO.
    pub fn fail(&self) {
        self.fail_reads(true);
        self.fail_writes(true);
    }

    /// Reads of files fail with EIO.
    pub fn fail_reads(&self, do_fail: bool) {
        self.reads_fail.store(do_fail, Ordering::SeqCst);
    }

    /// Everything that changes something, and syncs, fail with EIO.
    pub fn fail_writes(&self, do_fail: bool) {
        self.writes_fail.store(do_fail, Ordering::SeqCst);
    }

    /// Every read, write and sync takes so much longer.
    pub fn slow_down(&self, by: Duration) {
        self.delay_us.store(by.as_micros() as u64, Ordering::SeqCst);
    }

    /// Reads, writes and syncs so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    fn on_read(&self) -> Result<(), Errno> {
        self.wait();
        if self.reads_fail.load(Ordering::SeqCst) { Err(Errno::EIO) } else { Ok(()) }
    }

    fn on_write(&self) -> Result<(), Errno> {
        self.wait();
        if self.writes_fail.load(Ordering::SeqCst) { Err(Errno::EIO) } else { Ok(()) }
    }

    fn wait(&self) {
        self.served.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        loop {
            let delay = Duration::from_micros(self.delay_us.load(Ordering::SeqCst));
            let rest = delay.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                return;
            }
            // In steps: who is told to be quick again lets go at once.
            std::thread::sleep(rest.min(STEP));
        }
    }
}

/// A mounted disk. Dropping it unmounts it and removes what it holds.
pub struct FaultyDisk {
    faults: Arc<Faults>,
    mount_point: PathBuf,
    session: Option<BackgroundSession>,
    // Last: what serves the mount uses it.
    _backing: TempDir,
}

impl FaultyDisk {
    /// Mounts one at `mount_point`, which is made.
    pub fn mount(mount_point: &Path) -> Self {
        let backing = crate::cluster::test_dir();
        std::fs::create_dir_all(mount_point).expect("a mount point can be made");
        let faults = Arc::new(Faults::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cairn-faulty-disk".to_owned())];
        config.n_threads = Some(QUEUE_DEPTH);
        let fs = Passthrough::new(backing.path(), faults.clone());
        let session = Session::new(fs, mount_point, &config).and_then(Session::spawn);
        let session = session.expect("FUSE is there, as for every mount of these tests");
        Self { faults, mount_point: mount_point.to_owned(), session: Some(session), _backing: backing }
    }

    /// What is wrong with it.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.faults.slow_down(Duration::ZERO);
        if let Some(session) = self.session.take() {
            // Whoever still has files open there keeps the session alive; the mount point is free at once.
            let lazily = rustix::mount::UnmountFlags::DETACH;
            if rustix::mount::unmount(&self.mount_point, lazily).is_err() {
                drop(session.umount_and_join());
            }
        }
    }
}
