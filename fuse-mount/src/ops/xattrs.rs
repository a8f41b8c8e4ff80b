//! Extended attributes. The caller names the size of its buffer; 0 asks how large it must be.

use super::Ops;
use super::privileges::CAPABILITY;
use crate::mount_table;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::request::{Credentials, XattrMode};

/// `setxattr(2)`.
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;

/// What getxattr(2) and listxattr(2) end in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum XattrAnswer {
    /// The buffer must be so large.
    Size(u32),
    /// It fits.
    Data(Bytes),
    /// ERANGE
    BufferTooSmall,
}

impl XattrAnswer {
    fn new(value: Bytes, buffer: u32) -> Self {
        match (buffer as usize, value.len()) {
            (0, length) => Self::Size(length as u32),
            (buffer, length) if length > buffer => Self::BufferTooSmall,
            _ => Self::Data(value),
        }
    }
}

impl Ops {
    pub(crate) async fn get_xattr(
        &self,
        who: Credentials,
        inode: InodeId,
        name: Bytes,
        buffer: u32,
    ) -> Result<XattrAnswer, FsError> {
        // The kernel asks for a capability before the first write(2) to any file.
        let is_fresh = || name == CAPABILITY && self.privileges.is_fresh(inode);
        if name == mount_table::ALIVE || is_fresh() {
            return Err(FsError::NoAttribute);
        }
        let value = self.client.get_xattr(&who, inode, &name).await?;
        Ok(XattrAnswer::new(value, buffer))
    }

    pub(crate) async fn list_xattr(
        &self,
        who: Credentials,
        inode: InodeId,
        buffer: u32,
    ) -> Result<XattrAnswer, FsError> {
        let names = self.client.list_xattr(&who, inode).await?;
        Ok(XattrAnswer::new(names, buffer))
    }

    pub(crate) async fn set_xattr(
        &self,
        who: Credentials,
        inode: InodeId,
        (name, value): (Bytes, Bytes),
        flags: i32,
    ) -> Result<(), FsError> {
        let mode = match flags {
            0 => XattrMode::Either,
            XATTR_CREATE => XattrMode::Create,
            XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(FsError::InvalidArgument),
        };
        let answer = self.client.set_xattr(&who, inode, &name, value, mode).await;
        if name == CAPABILITY {
            self.privileges.not_fresh(inode);
        }
        answer
    }

    pub(crate) async fn remove_xattr(
        &self,
        who: Credentials,
        inode: InodeId,
        name: Bytes,
    ) -> Result<(), FsError> {
        self.client.remove_xattr(&who, inode, &name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_decides() {
        let value = Bytes::from_static(b"12345");
        assert_eq!(XattrAnswer::new(value.clone(), 0), XattrAnswer::Size(5));
        assert_eq!(XattrAnswer::new(value.clone(), 4), XattrAnswer::BufferTooSmall);
        assert_eq!(XattrAnswer::new(value.clone(), 5), XattrAnswer::Data(value));
        assert_eq!(XattrAnswer::new(Bytes::new(), 9), XattrAnswer::Data(Bytes::new()));
        assert_eq!(XattrAnswer::new(Bytes::new(), 0), XattrAnswer::Size(0));
    }
}
