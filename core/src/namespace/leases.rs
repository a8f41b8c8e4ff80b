//! The exclusive write lease of a file: who holds it, and what its end leaves behind.
//!
//! A lease that ends well (`Commit` with release) leaves nothing. One that ends badly leaves its marked chunks, whose
//! replicas may differ, to be reconciled; until then nobody may mark them again.

use super::act::{Act, require};
use super::machine::Stop;
use super::rows::inode::InodeRow;
use super::rows::lease::{LeaseKey, LeaseRow, LeasedChunkKey, SessionLeaseKey};
use super::rows::{Present, prefix_range};
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId, LeaseNumber};
use crate::limits::LEASED_CHUNKS_MAX;

impl Act<'_> {
    pub(super) fn lease_of(&self, inode: InodeId) -> Result<Option<LeaseRow>, Stop> {
        self.draft.get(&LeaseKey(inode))
    }

    /// `LeaseHeld` when another session holds the write lease.
    pub(super) fn require_no_other_writer(&self, inode: InodeId) -> Result<(), Stop> {
        let held_by_other = self.lease_of(inode)?.is_some_and(|lease| lease.session != self.context.session);
        require(!held_by_other, FsError::LeaseHeld)
    }

    /// The session's lease on the file, granted when nobody holds it. The inode's row is left to the caller to put.
    pub(super) fn grant_lease(&mut self, row: &mut InodeRow) -> Result<LeaseNumber, Stop> {
        self.require_no_other_writer(row.inode)?;
        if let Some(held) = self.lease_of(row.inode)? {
            return Ok(held.lease);
        }
        row.lease = LeaseNumber(row.lease.get() + 1);
        let (session, lease) = (self.context.session, row.lease);
        assert!(session.get() != 0, "only sessions hold leases");
        self.draft.put(&LeaseKey(row.inode), &LeaseRow { session, lease, marks: 0 });
        self.draft.put(&SessionLeaseKey { session, inode: row.inode }, &Present);
        Ok(lease)
    }

    /// Marks chunks of the file as about to be overwritten under the lease that the session holds.
    pub(super) fn mark_chunks(&mut self, inode: InodeId, chunks: &[ChunkId]) -> Result<(), Stop> {
        let mut lease =
            self.lease_of(inode)?.expect("marks are made under a lease just granted or confirmed");
        for &chunk in chunks {
            let row = self.chunk(chunk)?.ok_or(FsError::Stale)?;
            require(row.inode == inode && row.owner.get() == 0, FsError::InvalidArgument)?;
            require(!row.reconciling, FsError::LeaseHeld)?;
            let key = LeasedChunkKey { inode, chunk };
            if !self.draft.has(&key)? {
                require(lease.marks < LEASED_CHUNKS_MAX, FsError::Overloaded)?;
                lease.marks += 1;
                self.draft.put(&key, &Present);
            }
        }
        self.draft.put(&LeaseKey(inode), &lease);
        Ok(())
    }

    /// A chunk is gone: so is its mark.
    pub(super) fn unmark_chunk(&mut self, inode: InodeId, chunk: ChunkId) -> Result<(), Stop> {
        let key = LeasedChunkKey { inode, chunk };
        if self.draft.has(&key)? {
            let lease = self.lease_of(inode)?;
            let mut lease = lease.ok_or_else(|| Stop::Failed(format!("{inode} has marks and no lease")))?;
            assert!(lease.marks > 0, "a lease counts its marks");
            lease.marks -= 1;
            self.draft.put(&LeaseKey(inode), &lease);
            self.draft.delete(&key);
        }
        Ok(())
    }

    /// Ends the lease, if there is one, and returns the chunks that were marked under it.
    pub(super) fn end_lease(&mut self, inode: InodeId) -> Result<Vec<ChunkId>, Stop> {
        let Some(lease) = self.lease_of(inode)? else { return Ok(Vec::new()) };
        let marked = if lease.marks == 0 {
            Vec::new()
        } else {
            let range = prefix_range::<LeasedChunkKey>(&inode.get().to_be_bytes());
            self.draft.scan::<LeasedChunkKey>(&range, LEASED_CHUNKS_MAX as usize + 1)?
        };
        assert_eq!(marked.len(), lease.marks as usize, "a lease counts its marks");
        self.draft.delete(&LeaseKey(inode));
        self.draft.delete(&SessionLeaseKey { session: lease.session, inode });
        for (key, Present) in &marked {
            self.draft.delete(key);
        }
        Ok(marked.into_iter().map(|(key, _)| key.chunk).collect())
    }

    /// Ends the lease badly: what was marked is reconciled. Returns how many rows of work that made.
    pub(super) fn break_lease(&mut self, inode: InodeId) -> Result<usize, Stop> {
        let marked = self.end_lease(inode)?;
        for &chunk in &marked {
            self.mark_for_reconciliation(chunk)?;
        }
        Ok(marked.len())
    }
}
