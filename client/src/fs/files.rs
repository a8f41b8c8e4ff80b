//! Open files: create, open, read, write, sync, close.

use super::names::nonsense;
use super::{FileSystem, OpenFile, OpenFlags, SeekFor};
use crate::inode::Inode;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::io::sync_habit::WriterTag;
use cairn_core::namespace::answer::{Answer, Map};
use cairn_core::namespace::attr::{Attr, AttrChanges, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{AllocateMode, Credentials, OperationKind, PermissionCheck, QueryKind};
use cairn_core::units::CHUNK_BYTES;
use std::pin::pin;

const READ: u32 = 4;
const WRITE: u32 = 2;

impl FileSystem {
    /// Creates (or opens, unless `flags.exclusive`) a regular file.
    ///
    /// # Errors
    /// `Exists`, `IsDirectory`, `PermissionDenied`, `NotDirectory`, `NoSpace`.
    pub async fn create(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Attr, OpenFile), FsError> {
        let epoch = self.shared.session_epoch();
        let creation = self.shared.creations.begin();
        let kind = OperationKind::Create { parent, name: name.clone(), mode, exclusive: flags.exclusive };
        let (attr, created, lease) = match self.operation(who, kind).await? {
            Answer::Created { attr, created, lease } => (attr, created, lease),
            answer => return nonsense(&answer),
        };
        if !created {
            drop(creation);
            self.may_open(who, &attr, flags).await?;
            let file = self.open_known(who, &attr, None, flags).await?;
            // The answer above shows the length from before the cut.
            let attr = if flags.truncate { self.bare_attr(who, attr.inode).await? } else { attr };
            return Ok((self.seen(attr), file));
        }
        let inode = Inode::open(&self.shared, &attr, None, flags.write);
        if let Some(lease) = lease
            && epoch == self.shared.session_epoch()
        {
            inode.grant(lease);
        }
        drop(creation);
        self.shared.views.renew(attr.inode, attr.data_change);
        let file = OpenFile::new(&self.shared, inode, flags, who, false);
        Ok((attr, file))
    }

    /// open(2) of a regular file.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `PermissionDenied`; `Unsupported` for anything but a regular file.
    pub async fn open(
        &self,
        who: &Credentials,
        inode: InodeId,
        flags: OpenFlags,
    ) -> Result<OpenFile, FsError> {
        let now = self.shared.env.clock.now();
        let known = self.known_to_open(who, inode, !flags.truncate).await;
        let (attr, map) = match known.or_else(|| self.shared.lookups.take(now, inode)) {
            Some((attr, map)) => {
                // One that is not known is asked for by whoever reads.
                if map.is_some() {
                    self.counts().maps.hits.one_more();
                }
                (attr, map)
            }
            None => {
                self.counts().maps.misses.one_more();
                self.ask(who, inode).await?
            }
        };
        match attr.kind {
            NodeKind::Regular => {}
            NodeKind::Directory => return Err(FsError::IsDirectory),
            _ => return Err(FsError::Unsupported),
        }
        self.may_open(who, &attr, flags).await?;
        self.open_known(who, &attr, map, flags).await
    }

    /// Attributes and the beginning of the map in one question.
    async fn ask(&self, who: &Credentials, inode: InodeId) -> Result<(Attr, Option<Map>), FsError> {
        let own = self.shared.own_credentials();
        let kind = QueryKind::Map { inode, offset: 0, length: CHUNK_BYTES };
        let heard = self.shared.meta.ask(&own, kind).await?;
        self.keep_attr(&heard);
        match heard.outcome {
            Ok(Answer::Map(mut map)) => match map.attr.take() {
                Some(attr) => {
                    map.attr = Some(attr.clone());
                    Ok((attr, Some(map)))
                }
                None => Ok((self.bare_attr(who, inode).await?, None)),
            },
            Ok(answer) => nonsense(&answer),
            // Not a regular file: the caller says which error that is.
            Err(FsError::InvalidArgument | FsError::IsDirectory | FsError::Unsupported) => {
                Ok((self.bare_attr(who, inode).await?, None))
            }
            Err(error) => Err(error),
        }
    }

    async fn bare_attr(&self, who: &Credentials, inode: InodeId) -> Result<Attr, FsError> {
        match self.query(who, QueryKind::GetAttr { inode }).await? {
            Answer::Attr(attr) => Ok(attr),
            answer => nonsense(&answer),
        }
    }

    /// Permission to open, unless the caller's kernel has seen to it.
    async fn may_open(&self, who: &Credentials, attr: &Attr, flags: OpenFlags) -> Result<(), FsError> {
        if who.check == PermissionCheck::Kernel || who.uid == 0 {
            return Ok(());
        }
        let mask = if flags.read { READ } else { 0 } | if flags.write || flags.truncate { WRITE } else { 0 };
        self.access(who, attr.inode, mask).await
    }

    async fn open_known(
        &self,
        who: &Credentials,
        attr: &Attr,
        map: Option<Map>,
        flags: OpenFlags,
    ) -> Result<OpenFile, FsError> {
        let inode = Inode::open(&self.shared, attr, map.as_ref(), flags.write);
        let keep_cache = self.shared.views.renew(attr.inode, inode.data_change());
        let file = OpenFile::new(&self.shared, inode, flags, who, keep_cache);
        if flags.truncate && (attr.size > 0 || file.handle.inode.has_bytes()) {
            let changes = AttrChanges { size: Some(0), ..AttrChanges::default() };
            let who = self.shared.kernel_checked(who);
            file.handle.inode.set_attr(&self.shared, who, changes, true).await?;
        }
        Ok(file)
    }

    /// Reads up to `length` bytes; short only at the end of the file. Sees this client's own writes.
    ///
    /// # Errors
    /// `Io` when every replica is damaged, `Unavailable` when none could be reached for as long as the policy waits.
    pub async fn read(&self, file: &OpenFile, offset: u64, length: u32) -> Result<Bytes, FsError> {
        let (shared, handle) = (&self.shared, &file.handle);
        let read = pin!(handle.inode.read(shared, handle, offset, length));
        shared.operation("read", file.inode(), read).await
    }

    /// Returns when the bytes are accepted into the bounded window. With `append` the offset is chosen here.
    ///
    /// # Errors
    /// `FileTooLarge`; `NoSpace`, `Unavailable`; the error of an earlier write that failed in the background.
    pub async fn write(&self, file: &OpenFile, offset: u64, data: Bytes) -> Result<u32, FsError> {
        let (shared, handle) = (&self.shared, &file.handle);
        let written = pin!(handle.inode.write(shared, handle, offset, data));
        shared.operation("write", file.inode(), written).await
    }

    /// close(2): everything written is durable and visible to others when this returns Ok. The handle stays usable.
    ///
    /// # Errors
    /// Those of any write since the last call.
    pub async fn flush(&self, file: &OpenFile) -> Result<(), FsError> {
        if !file.flags().write {
            return Ok(());
        }
        // The last writer gives the lease back in the same entry.
        let release = file.handle.inode.writers() <= 1;
        let settled = pin!(self.settle(file, None, release));
        self.shared.operation("close", file.inode(), settled).await
    }

    /// fsync(2): everything written is on stable storage of every live replica, and recorded.
    ///
    /// # Errors
    /// Those of any write since the last call.
    pub async fn fsync(&self, file: &OpenFile) -> Result<(), FsError> {
        let settled = pin!(self.settle(file, Some(file.handle.writer_tag()), false));
        self.shared.operation("sync", file.inode(), settled).await
    }

    async fn settle(&self, file: &OpenFile, by: Option<WriterTag>, release: bool) -> Result<(), FsError> {
        let outcome = file.handle.inode.flush(&self.shared, by, release).await;
        // An error noted for the handles is the same one, and told once.
        let noted = file.handle.inode.report_error(&file.handle);
        outcome.and(noted)
    }

    /// The last use of the handle.
    pub async fn release(&self, file: &OpenFile) {
        file.handle.release();
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// `FileTooLarge`, `InvalidArgument`; those of earlier writes.
    pub async fn allocate(
        &self,
        who: &Credentials,
        file: &OpenFile,
        mode: AllocateMode,
        offset: u64,
        length: u64,
    ) -> Result<(), FsError> {
        file.handle.inode.allocate(&self.shared, who.clone(), mode, offset, length).await
    }

    /// SEEK_DATA and SEEK_HOLE.
    ///
    /// # Errors
    /// `NoSuchOffset` at or beyond the end, and when no data follows.
    pub async fn seek(&self, file: &OpenFile, what: SeekFor, offset: u64) -> Result<u64, FsError> {
        file.handle.inode.seek(&self.shared, what, offset).await
    }
}
