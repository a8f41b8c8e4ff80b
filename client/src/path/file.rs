//! An open file: positional calls, and tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek` with a cursor.

use super::{Client, Error, Metadata, Result};
use crate::fs::OpenFile;
use bytes::{Buf, Bytes};
use cairn_core::namespace::attr::AttrChanges;
use futures::future::BoxFuture;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// Most bytes that one cursor call moves; also what `AsyncRead` fetches at once.
const STEP_BYTES: usize = 1 << 20;

type Pending<T> = Option<BoxFuture<'static, io::Result<T>>>;

/// An open file. [`File::close`] it to learn of write errors; dropping it closes it in the background.
pub struct File {
    handle: Option<Handle>,
    cursor: u64,
    fetched: Bytes,
    reading: Pending<Bytes>,
    writing: Pending<usize>,
    flushing: Pending<()>,
    seeking: Pending<u64>,
}

#[derive(Clone)]
struct Handle {
    client: Client,
    file: OpenFile,
    path: PathBuf,
}

impl File {
    pub(super) fn new(client: Client, file: OpenFile, path: PathBuf) -> Self {
        Self {
            handle: Some(Handle { client, file, path }),
            cursor: 0,
            fetched: Bytes::new(),
            reading: None,
            writing: None,
            flushing: None,
            seeking: None,
        }
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("a file has its handle until it is closed, which consumes it")
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.handle().path
    }

    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// `Io` when no replica has verified bytes.
    pub async fn read_at(&self, offset: u64, length: u32) -> Result<Bytes> {
        let Handle { client, file, path } = self.handle();
        client.file_system().read(file, offset, length).await.map_err(Error::at(path))
    }

    /// Writes all of `data` at `offset`. Returns when it is accepted; durable after [`File::sync_all`] or close.
    ///
    /// # Errors
    /// Those of this write, or of an earlier one that failed in the background.
    pub async fn write_at(&self, offset: u64, data: impl Into<Bytes>) -> Result<()> {
        let Handle { client, file, path } = self.handle();
        let mut data = data.into();
        let mut at = offset;
        while data.has_remaining() {
            let part = data.split_to(data.len().min(STEP_BYTES));
            let accepted =
                client.file_system().write(file, at, part.clone()).await.map_err(Error::at(path))?;
            at += u64::from(accepted);
            if (accepted as usize) < part.len() {
                // A short count happens at the size limit only; the next call says why.
                let rest = part.slice(accepted as usize..);
                at += u64::from(client.file_system().write(file, at, rest).await.map_err(Error::at(path))?);
            }
        }
        Ok(())
    }

    /// Appends: the bytes land at the end, in one piece when at most 1 MiB. The file must be open for appending.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub async fn append(&self, data: impl Into<Bytes>) -> Result<()> {
        self.write_at(0, data).await
    }

    /// Cuts or extends (with zeros).
    ///
    /// # Errors
    /// `FileTooLarge`, or those of flushing what was written before.
    pub async fn set_len(&self, length: u64) -> Result<()> {
        let Handle { client, file, path } = self.handle();
        let changes = AttrChanges { size: Some(length), ..AttrChanges::default() };
        let who = client.credentials();
        client
            .file_system()
            .setattr(who, file.inode(), changes, Some(file))
            .await
            .map(drop)
            .map_err(Error::at(path))
    }

    /// Everything written so far is on stable storage of every live replica, and its length recorded, when this returns.
    ///
    /// # Errors
    /// Those of any earlier write that failed.
    pub async fn sync_all(&self) -> Result<()> {
        let Handle { client, file, path } = self.handle();
        client.file_system().fsync(file).await.map_err(Error::at(path))
    }

    /// Attributes, what was written through this file included.
    ///
    /// # Errors
    /// `Stale` when the session was lost.
    pub async fn metadata(&self) -> Result<Metadata> {
        let Handle { client, file, path } = self.handle();
        let who = client.credentials();
        let attr = client.file_system().getattr(who, file.inode(), Some(file)).await;
        attr.map(Metadata).map_err(Error::at(path))
    }

    /// Flushes, syncs, commits and closes: others see the contents when this returns.
    ///
    /// # Errors
    /// Those of any earlier write that failed.
    pub async fn close(mut self) -> Result<()> {
        let Some(Handle { client, file, path }) = self.handle.take() else {
            return Ok(());
        };
        let flushed = client.file_system().flush(&file).await.map_err(Error::at(&path));
        client.file_system().release(&file).await;
        flushed
    }

    fn poll_pending_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(future) = self.writing.as_mut() else {
            return Poll::Ready(Ok(0));
        };
        let written = ready!(future.as_mut().poll(cx));
        self.writing = None;
        if let Ok(count) = written {
            self.cursor += count as u64;
        }
        Poll::Ready(written)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let Some(Handle { client, file, path }) = self.handle.take() else {
            return;
        };
        // Outside a runtime nothing can be flushed any more; the session's end releases the handle.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = client.file_system().flush(&file).await {
                    tracing::warn!(path = %path.display(), %error, "a dropped file could not be flushed; close it to learn of this");
                }
                client.file_system().release(&file).await;
            });
        }
    }
}

impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.fetched.is_empty() {
            let handle = this.handle().clone();
            let at = this.cursor;
            let future = this.reading.get_or_insert_with(|| {
                Box::pin(async move {
                    let Handle { client, file, path } = handle;
                    let read = client.file_system().read(&file, at, STEP_BYTES as u32).await;
                    Ok(read.map_err(Error::at(&path))?)
                })
            });
            let read = ready!(future.as_mut().poll(cx));
            this.reading = None;
            this.fetched = read?;
        }
        let count = this.fetched.len().min(out.remaining());
        out.put_slice(&this.fetched.split_to(count));
        this.cursor += count as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.is_none() {
            this.fetched = Bytes::new();
            this.reading = None;
            let handle = this.handle().clone();
            let part = Bytes::copy_from_slice(&data[..data.len().min(STEP_BYTES)]);
            let at = this.cursor;
            this.writing = Some(Box::pin(async move {
                let Handle { client, file, path } = handle;
                let accepted = client.file_system().write(&file, at, part).await;
                Ok(accepted.map_err(Error::at(&path))? as usize)
            }));
        }
        this.poll_pending_write(cx)
    }

    /// Makes everything written durable and visible to others, as fsync(2).
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending_write(cx))?;
        let handle = this.handle().clone();
        let future = this.flushing.get_or_insert_with(|| {
            Box::pin(async move {
                let Handle { client, file, path } = handle;
                Ok(client.file_system().fsync(&file).await.map_err(Error::at(&path))?)
            })
        });
        let flushed = ready!(future.as_mut().poll(cx));
        this.flushing = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl AsyncSeek for File {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let this = self.get_mut();
        if this.seeking.is_some() || this.writing.is_some() {
            return Err(io::Error::other("another operation is pending on this file"));
        }
        let handle = this.handle().clone();
        let cursor = this.cursor;
        this.fetched = Bytes::new();
        this.reading = None;
        this.seeking = Some(Box::pin(async move {
            let (base, delta) = match position {
                SeekFrom::Start(offset) => return Ok(offset),
                SeekFrom::Current(delta) => (cursor, delta),
                SeekFrom::End(delta) => {
                    let Handle { client, file, path } = handle;
                    let who = client.credentials();
                    let attr = client.file_system().getattr(who, file.inode(), Some(&file)).await;
                    (attr.map_err(Error::at(&path))?.size, delta)
                }
            };
            base.checked_add_signed(delta).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the file")
            })
        }));
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let this = self.get_mut();
        if let Some(future) = this.seeking.as_mut() {
            let target = ready!(future.as_mut().poll(cx));
            this.seeking = None;
            this.cursor = target?;
        }
        Poll::Ready(Ok(this.cursor))
    }
}
