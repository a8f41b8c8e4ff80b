//! The next segment's file, made ahead of its use.
//!
//! Its blocks are allocated and written once, so that an append changes no file-system metadata and its fdatasync is one
//! device write (105 against 160–317 µs). The file has no segment's name until its header is durable, so a crash at any
//! instant leaves a file that the scan ignores and the next start removes.

use cairn_env::disk::{Disk, DiskFile, OpenMode};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Names of spare files begin so.
pub(super) const SPARE_PREFIX: &str = "spare-";
const WRITE_BYTES: u64 = 1 << 20;

/// A file ready to become a segment.
pub struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) capacity: u64,
}

/// Work for a thread that may wait for the disk: make the spare.
#[derive(Clone, Debug)]
pub struct SpareJob {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl SpareJob {
    /// Makes the file. After an error nothing is left of it.
    ///
    /// # Errors
    /// As the disk's; `StorageFull` when there is no room.
    pub fn run(&self, disk: &dyn Disk) -> io::Result<Spare> {
        let made = self.make(disk);
        if made.is_err() && disk.exists(&self.path).unwrap_or(false) {
            // The blocks of a half-made file are needed elsewhere.
            disk.remove_file(&self.path)?;
        }
        made
    }

    fn make(&self, disk: &dyn Disk) -> io::Result<Spare> {
        let file = disk.open(&self.path, OpenMode::Create)?;
        file.allocate(0, self.bytes)?;
        let zeros = vec![0; WRITE_BYTES.min(self.bytes) as usize];
        let mut at = 0;
        while at < self.bytes {
            let piece = (self.bytes - at).min(WRITE_BYTES);
            file.write_all_at(&zeros[..piece as usize], at)?;
            // Little by little: appends wait for the same device.
            file.start_writeback(at, piece)?;
            at += piece;
        }
        file.sync_all()?;
        Ok(Spare { path: self.path.clone(), file, capacity: self.bytes })
    }
}
