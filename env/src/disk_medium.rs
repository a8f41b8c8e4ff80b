//! What the medium has of a file, in a process: direct reads (O_DIRECT), which leave alone what the page cache keeps for others.
//! Where a file system knows none, the pages are dropped before they are read and after; it then purges the cache of what is read.

use crate::disk::MediumFile;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What every device aligns to: position, length and memory of a direct read are multiples of it.
const ALIGNMENT: usize = 4096;
/// Bytes of one direct read at most: what bounces costs so much memory.
const READ_BYTES_MAX: usize = 1 << 20;

/// An open file.
pub(crate) struct RealMedium {
    file: File,
    direct: AtomicBool,
}

fn knows_no_direct_reads(error: &io::Error) -> bool {
    let codes = [Errno::INVAL, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl RealMedium {
    /// Opens an existing file.
    ///
    /// # Errors
    /// As open(2).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => Ok(Self { file, direct: AtomicBool::new(true) }),
            Err(error) if knows_no_direct_reads(&error) => {
                Ok(Self { file: File::open(path)?, direct: AtomicBool::new(false) })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads whole aligned pieces around what is wanted, and copies.
    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let skipped = (at % ALIGNMENT as u64) as usize;
            let wanted = (buffer.len() - filled).min(READ_BYTES_MAX - skipped);
            let piece = (skipped + wanted).next_multiple_of(ALIGNMENT);
            let mut memory = vec![0; piece + ALIGNMENT];
            let start = memory.as_ptr().align_offset(ALIGNMENT);
            let aligned = &mut memory[start..start + piece];
            let read = read_once(&self.file, aligned, at - skipped as u64)?;
            let got = read.saturating_sub(skipped).min(wanted);
            buffer[filled..filled + got].copy_from_slice(&aligned[skipped..skipped + got]);
            filled += got;
            // A piece ends within a page only at the end of the file.
            if got < wanted && (got == 0 || !read.is_multiple_of(ALIGNMENT)) {
                break;
            }
        }
        Ok(filled)
    }

    fn read_dropping(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let drop_pages = || {
            // A hint: dirty pages stay, and are what the medium will have.
            let _ = fadvise(&self.file, offset, NonZeroU64::new(buffer.len() as u64), Advice::DontNeed);
        };
        drop_pages();
        let mut filled = 0;
        while filled < buffer.len() {
            match read_once(&self.file, &mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        let _ = fadvise(&self.file, offset, NonZeroU64::new(buffer.len() as u64), Advice::DontNeed);
        Ok(filled)
    }
}

fn read_once(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

impl MediumFile for RealMedium {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.direct.load(Ordering::Relaxed) {
            match self.read_direct(buffer, offset) {
                // Some file systems let such files be opened and not be read.
                Err(error) if knows_no_direct_reads(&error) => {
                    fcntl_setfl(&self.file, fcntl_getfl(&self.file)? - OFlags::DIRECT)?;
                    self.direct.store(false, Ordering::Relaxed);
                }
                read => return read,
            }
        }
        self.read_dropping(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_reads_as_it_was_written_also_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let bytes: Vec<u8> =
            (0..3 * 1024 * 1024 + 777).map(|at: u32| (at / 3) as u8 ^ (at >> 9) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let direct = RealMedium::open(&path).unwrap();
        let dropping = RealMedium { file: File::open(&path).unwrap(), direct: AtomicBool::new(false) };
        for file in [direct, dropping] {
            assert_eq!(file.len().unwrap(), bytes.len() as u64);
            for (offset, length) in
                [(0, 4096), (0, bytes.len()), (5, 10), (4090, 5000), (100_000, 2_500_000), (3_145_000, 9000)]
            {
                let mut buffer = vec![0; length];
                let read = file.read_at(&mut buffer, offset as u64).unwrap();
                let expected = &bytes[offset..(offset + length).min(bytes.len())];
                assert_eq!(read, expected.len(), "{offset} {length}");
                assert!(&buffer[..read] == expected, "{offset} {length}");
            }
            assert_eq!(file.read_at(&mut [0; 10], 4 << 20).unwrap(), 0);
        }
    }
}
