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
    is_full: AtomicBool,
    shows_full: AtomicBool,
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

    /// Nothing on it is answered until it is told to be quick again.
    pub fn hang(&self) {
        self.slow_down(Duration::from_secs(24 * 3600));
    }

    /// What takes more room fails with ENOSPC: files that are made, that grow, or that are allocated room. With `shows`, the file
    /// system says beforehand that nothing is free; without, it says what it always does, as where a quota is used up.
    pub fn fill(&self, is_full: bool, shows: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
        self.shows_full.store(is_full && shows, Ordering::SeqCst);
    }

    /// Nothing is wrong with it any more.
    pub fn heal(&self) {
        self.fail_reads(false);
        self.fail_writes(false);
        self.fill(false, false);
        self.slow_down(Duration::ZERO);
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

    /// A write that takes more room.
    fn on_growth(&self) -> Result<(), Errno> {
        self.on_write()?;
        if self.is_full.load(Ordering::SeqCst) { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    fn shows_full(&self) -> bool {
        self.shows_full.load(Ordering::SeqCst)
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
    backing: TempDir,
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
        Self { faults, mount_point: mount_point.to_owned(), session: Some(session), backing }
    }

    /// What is wrong with it.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Another disk in its place, with nothing on it. Nobody may use the old one any more.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn replace(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.backing.path())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.faults.heal();
        if let Some(session) = self.session.take() {
            // Whoever still has files open there keeps the session alive; the mount point is free at once.
            let lazily = rustix::mount::UnmountFlags::DETACH;
            if rustix::mount::unmount(&self.mount_point, lazily).is_err() {
                drop(session.umount_and_join());
            }
        }
    }
}
