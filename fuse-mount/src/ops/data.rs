//! Bytes of files, and the holes between them.

use super::Ops;
use bytes::Bytes;
use cairn_client::fs::SeekFor;
use cairn_core::error::FsError;
use cairn_core::namespace::request::{AllocateMode, Credentials};

/// `fallocate(2)`.
const FALLOC_FL_KEEP_SIZE: i32 = 0x01;
const FALLOC_FL_PUNCH_HOLE: i32 = 0x02;
const FALLOC_FL_ZERO_RANGE: i32 = 0x10;
/// `lseek(2)`; the kernel answers the other kinds itself.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A write(2), or pages of a shared mapping.
pub(crate) struct WriteRequest {
    /// The file.
    pub(crate) handle: u64,
    /// Where the kernel thinks that the bytes belong.
    pub(crate) offset: u64,
    /// They.
    pub(crate) data: Bytes,
    /// They belong at the end of the file, wherever that is.
    pub(crate) append: bool,
    /// The writer is not privileged: setuid and setgid go.
    pub(crate) drops_privilege: bool,
}

impl Ops {
    pub(crate) async fn read(&self, handle: u64, offset: u64, length: u32) -> Result<Bytes, FsError> {
        let handle = self.files.get(handle)?;
        let bytes = self.client.read(&handle.file, offset, length).await?;
        self.metrics.read(bytes.len());
        Ok(bytes)
    }

    pub(crate) async fn write(&self, request: WriteRequest) -> Result<u32, FsError> {
        let handle = self.files.get(request.handle)?;
        if request.drops_privilege {
            self.drop_privileges(&handle).await?;
        }
        let file = handle.writer(&self.client, request.append).await?;
        let written = self.client.write(file, request.offset, request.data).await?;
        self.metrics.written(written);
        Ok(written)
    }

    pub(crate) async fn fallocate(
        &self,
        who: Credentials,
        handle: u64,
        (offset, length): (u64, u64),
        mode: i32,
    ) -> Result<(), FsError> {
        let mode = allocate_mode(mode)?;
        let handle = self.files.get(handle)?;
        self.client.allocate(&who, &handle.file, mode, offset, length).await
    }

    pub(crate) async fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<u64, FsError> {
        let what = match whence {
            SEEK_DATA => SeekFor::Data,
            SEEK_HOLE => SeekFor::Hole,
            _ => return Err(FsError::InvalidArgument),
        };
        let offset = u64::try_from(offset).map_err(|_| FsError::NoSuchOffset)?;
        let handle = self.files.get(handle)?;
        self.client.seek(&handle.file, what, offset).await
    }
}

fn allocate_mode(mode: i32) -> Result<AllocateMode, FsError> {
    const PUNCH: i32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(AllocateMode::Extend),
        FALLOC_FL_KEEP_SIZE => Ok(AllocateMode::KeepSize),
        PUNCH => Ok(AllocateMode::PunchHole),
        FALLOC_FL_ZERO_RANGE => Ok(AllocateMode::ZeroRange),
        ZERO_KEEP => Ok(AllocateMode::ZeroRangeKeepSize),
        _ => Err(FsError::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_fallocate() {
        assert_eq!(allocate_mode(0), Ok(AllocateMode::Extend));
        assert_eq!(allocate_mode(1), Ok(AllocateMode::KeepSize));
        assert_eq!(allocate_mode(3), Ok(AllocateMode::PunchHole));
        assert_eq!(allocate_mode(0x10), Ok(AllocateMode::ZeroRange));
        assert_eq!(allocate_mode(0x11), Ok(AllocateMode::ZeroRangeKeepSize));
        // PUNCH_HOLE alone, COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE.
        for mode in [2, 0x08, 0x20, 0x40] {
            assert_eq!(allocate_mode(mode), Err(FsError::Unsupported), "{mode:#x}");
        }
    }
}
