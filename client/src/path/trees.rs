//! Whole files and trees in one call.

use super::{Client, Error, Result};
use bytes::{Bytes, BytesMut};
use cairn_core::error::FsError;
use futures::{StreamExt, TryStreamExt};
use std::path::{Path, PathBuf};

/// One request of a whole-file read.
const READ_BYTES: u32 = 1 << 20;
/// Largest file that [`Client::read`] takes into memory.
const WHOLE_FILE_BYTES_MAX: u64 = 1 << 30;
/// Removals in flight while a tree is removed.
const REMOVALS_IN_FLIGHT: usize = 16;

impl Client {
    /// A whole file of at most 1 GiB.
    ///
    /// # Errors
    /// `FileTooLarge` beyond that, or those of reading.
    pub async fn read(&self, path: impl AsRef<Path>) -> Result<Bytes> {
        let file = self.open(path.as_ref()).await?;
        let size = file.metadata().await?.len();
        if size > WHOLE_FILE_BYTES_MAX {
            return Err(Error { path: path.as_ref().to_owned(), source: FsError::FileTooLarge });
        }
        let mut contents = BytesMut::with_capacity(size as usize);
        loop {
            let part = file.read_at(contents.len() as u64, READ_BYTES).await?;
            if part.is_empty() {
                break;
            }
            contents.extend_from_slice(&part);
        }
        file.close().await?;
        Ok(contents.freeze())
    }

    /// Makes or replaces a file with these contents, durable when this returns.
    ///
    /// # Errors
    /// Those of opening and writing.
    pub async fn write(&self, path: impl AsRef<Path>, contents: impl Into<Bytes>) -> Result<()> {
        let file = self.create(path).await?;
        file.write_at(0, contents).await?;
        file.close().await
    }

    /// Makes a directory and its missing parents; one that exists is no error.
    ///
    /// # Errors
    /// As mkdir(2); `NotDirectory` when something else stands in the way.
    pub async fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut missing = Vec::new();
        let mut at = Some(path);
        while let Some(here) = at.filter(|here| !here.as_os_str().is_empty()) {
            match self.metadata(here).await {
                Ok(metadata) if metadata.is_dir() => break,
                Ok(_) => return Err(Error { path: here.to_owned(), source: FsError::NotDirectory }),
                Err(Error { source: FsError::NotFound, .. }) => missing.push(here),
                Err(error) => return Err(error),
            }
            at = here.parent();
        }
        for directory in missing.into_iter().rev() {
            match self.create_dir(directory).await {
                // Somebody else may make it at the same time.
                Ok(()) | Err(Error { source: FsError::Exists, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes a directory and all below it. What others add meanwhile makes it fail with `NotEmpty`.
    ///
    /// # Errors
    /// The first removal that failed.
    pub async fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut stack: Vec<(PathBuf, bool)> = vec![(path.as_ref().to_owned(), false)];
        while let Some((directory, emptied)) = stack.pop() {
            if emptied {
                self.remove_dir(&directory).await?;
                continue;
            }
            stack.push((directory.clone(), true));
            let entries: Vec<_> = self.read_dir(&directory).await?.try_collect().await?;
            let (directories, others): (Vec<_>, Vec<_>) = entries
                .into_iter()
                .partition(|entry| entry.kind() == cairn_core::namespace::attr::NodeKind::Directory);
            stack.extend(directories.into_iter().map(|entry| (entry.path(), false)));
            futures::stream::iter(others.into_iter().map(|entry| self.remove_file(entry.path())))
                .buffer_unordered(REMOVALS_IN_FLIGHT)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }

    /// The path without links, `.` and `..`.
    ///
    /// # Errors
    /// As realpath(3).
    pub async fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let mut whole = PathBuf::from("/");
        let mut rest: Vec<std::ffi::OsString> =
            path.components().rev().map(|component| component.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(component) = rest.pop() {
            match component.to_str() {
                Some("/" | ".") => continue,
                Some("..") => {
                    whole.pop();
                    continue;
                }
                _ => {}
            }
            let next = whole.join(&component);
            if self.symlink_metadata(&next).await?.is_symlink() {
                links += 1;
                if links > 40 {
                    return Err(Error { path: path.to_owned(), source: FsError::SymlinkLoop });
                }
                let target = self.read_link(&next).await?;
                if target.is_absolute() {
                    whole = PathBuf::from("/");
                }
                rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
            } else {
                whole = next;
            }
        }
        self.metadata(&whole).await.map(|_| whole)
    }
}
