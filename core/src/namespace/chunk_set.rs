//! The life of a chunk's record: made with its replica set, attached, its set replaced, gone with its last reference.
//!
//! SERVER_CHUNK rows are exactly the sets of all chunks; whoever leaves a set gets a DELETE_REPLICA row in the same
//! record. A replica outside the set is garbage at every version ever begun, so deletions name the highest begun.

use super::act::Act;
use super::answer::{ChunkLocation, ReplicaLocation};
use super::machine::Stop;
use super::rows::Present;
use super::rows::chunk::{
    ChunkKey, ChunkRow, DeleteReplicaKey, ReconcileKey, ReconcileReason, ReconcileRow, RepairKey, RepairRow,
    ServerChunkKey, VersionRow,
};
use super::rows::cluster::CounterKey;
use super::rows::lease::{LeasedChunkKey, SessionChunkKey};
use crate::ids::{ChunkId, ChunkVersion, InodeId, PolicyId, ServerId, SessionId};

/// Fewest replicas that must hold a write of a chunk with `replicas` copies: a majority; of two, one (shown as a
/// warning), so that a single failure never stops a writer.
pub const fn minimum_of(replicas: u8) -> u8 {
    match replicas {
        0..=2 => 1,
        _ => replicas / 2 + 1,
    }
}

impl Act<'_> {
    pub(super) fn chunk(&self, chunk: ChunkId) -> Result<Option<ChunkRow>, Stop> {
        self.draft.get(&ChunkKey(chunk))
    }

    /// A chunk that another row names: its absence is damage.
    pub(super) fn named_chunk(&self, chunk: ChunkId) -> Result<ChunkRow, Stop> {
        self.chunk(chunk)?.ok_or_else(|| Stop::Failed(format!("{chunk} is named by a row and is not there")))
    }

    /// A new chunk on `servers`, the session's own until it is attached.
    pub(super) fn new_chunk(
        &mut self,
        inode: InodeId,
        servers: Vec<ServerId>,
        (policy, wanted, minimum): (PolicyId, u8, u8),
    ) -> Result<ChunkId, Stop> {
        let chunk = ChunkId(self.next_number(CounterKey::NextChunk)?);
        let (owner, version) = (self.context.session, ChunkVersion(1));
        assert!(!servers.is_empty() && owner.get() != 0, "a chunk has replicas and an owner");
        let row = ChunkRow {
            minimum,
            wanted,
            policy,
            reconciling: false,
            version,
            raising: version,
            references: 0,
            owner,
            inode,
            servers,
        };
        for &server in &row.servers {
            self.draft.put(&ServerChunkKey { server, chunk }, &VersionRow(version));
        }
        self.note_copies(chunk, (wanted, usize::from(wanted)), (wanted, row.servers.len()));
        self.count_in_policy(policy, 0, 1)?;
        self.draft.put(&SessionChunkKey { session: owner, chunk }, &Present);
        self.draft.put(&ChunkKey(chunk), &row);
        Ok(chunk)
    }

    /// The chunk now belongs to `inode`, not to the session; references follow. It was placed for a file of the same policy, unless
    /// that has changed meanwhile.
    pub(super) fn attach_chunk(
        &mut self,
        chunk: ChunkId,
        mut row: ChunkRow,
        (inode, policy): (InodeId, PolicyId),
    ) -> Result<(), Stop> {
        assert!(row.owner.get() != 0 && row.references == 0, "a chunk is attached once");
        self.draft.delete(&SessionChunkKey { session: row.owner, chunk });
        row.owner = SessionId(0);
        row.inode = inode;
        if row.policy != policy {
            let says = self.policy(policy)?;
            let minimum = says.minimum.min(row.servers.len() as u8).max(1);
            self.want(chunk, &mut row, (policy, says.replicas, minimum))?;
        }
        self.draft.put(&ChunkKey(chunk), &row);
        Ok(())
    }

    /// The chunk is to have another policy, or so many replicas; its row is left to the caller to put.
    pub(super) fn want(
        &mut self,
        chunk: ChunkId,
        row: &mut ChunkRow,
        (policy, wanted, minimum): (PolicyId, u8, u8),
    ) -> Result<(), Stop> {
        if policy != row.policy {
            self.count_in_policy(row.policy, 0, -1)?;
            self.count_in_policy(policy, 0, 1)?;
        }
        self.note_copies(chunk, (row.wanted, row.servers.len()), (wanted, row.servers.len()));
        (row.policy, row.wanted, row.minimum) = (policy, wanted, minimum);
        Ok(())
    }

    /// Notes that `rows` EXTENT rows more (or fewer) name the chunk.
    pub(super) fn refer(&mut self, chunk: ChunkId, rows: i64) {
        *self.references.entry(chunk).or_insert(0) += rows;
    }

    /// Brings reference counts up to date; chunks without references go.
    pub(super) fn settle_references(&mut self) -> Result<(), Stop> {
        for (chunk, change) in std::mem::take(&mut self.references) {
            if change == 0 {
                continue;
            }
            let mut row = self.named_chunk(chunk)?;
            let references = row.references.checked_add_signed(change);
            row.references =
                references.ok_or_else(|| Stop::Failed(format!("{chunk} has too few references")))?;
            assert!(row.owner.get() == 0, "extents name attached chunks only");
            if row.references == 0 {
                self.remove_chunk(chunk, &row)?;
            } else {
                self.draft.put(&ChunkKey(chunk), &row);
            }
        }
        Ok(())
    }

    /// The chunk is gone; its replicas are work to be done.
    pub(super) fn remove_chunk(&mut self, chunk: ChunkId, row: &ChunkRow) -> Result<(), Stop> {
        for &server in &row.servers {
            self.drop_replica(chunk, server, row.raising);
        }
        self.note_copies(chunk, (row.wanted, row.servers.len()), (row.wanted, usize::from(row.wanted)));
        self.count_in_policy(row.policy, 0, -1)?;
        if row.owner.get() == 0 {
            self.unmark_chunk(row.inode, chunk)?;
        } else {
            self.draft.delete(&SessionChunkKey { session: row.owner, chunk });
        }
        if row.reconciling || row.raising > row.version {
            self.draft.delete(&ReconcileKey(chunk));
        }
        self.draft.delete(&ChunkKey(chunk));
        self.count(CounterKey::ChunksGone, 1)
    }

    /// Begins a higher version: above every one ever begun, because replicas of an attempt that came to nothing may
    /// stand at its version.
    pub(super) fn begin_version(&mut self, chunk: ChunkId, row: &mut ChunkRow) -> ChunkVersion {
        row.raising = ChunkVersion(row.raising.get() + 1);
        self.draft.put(&ChunkKey(chunk), row);
        if !row.reconciling {
            let work = ReconcileRow { reason: ReconcileReason::Raise, since: self.context.now };
            self.draft.put(&ReconcileKey(chunk), &work);
        }
        row.raising
    }

    /// The version begun holds from now on, with `servers`; who was in the old set and is none of these leaves it.
    pub(super) fn install_set(&mut self, chunk: ChunkId, row: &mut ChunkRow, servers: Vec<ServerId>) {
        assert!(
            !servers.is_empty() && row.raising > row.version,
            "a set replaces another under a higher version"
        );
        self.note_copies(chunk, (row.wanted, row.servers.len()), (row.wanted, servers.len()));
        let old = std::mem::replace(&mut row.servers, servers);
        row.version = row.raising;
        for &server in &row.servers {
            self.draft.put(&ServerChunkKey { server, chunk }, &VersionRow(row.version));
            if !old.contains(&server) {
                // What was to go there was below this version, and is part of the set now.
                self.draft.delete(&DeleteReplicaKey { server, chunk });
            }
        }
        for server in old.into_iter().filter(|server| !row.servers.contains(server)) {
            self.drop_replica(chunk, server, row.version);
        }
        row.reconciling = false;
        self.draft.delete(&ReconcileKey(chunk));
        self.draft.put(&ChunkKey(chunk), row);
    }

    /// Keeps the REPAIR rows of a chunk when what it wants or has changes: (wanted, size of the set). A chunk that is not there has
    /// as many replicas as are wanted.
    fn note_copies(&mut self, chunk: ChunkId, before: (u8, usize), after: (u8, usize)) {
        let key = |(wanted, copies): (u8, usize)| {
            let differs = usize::from(wanted) != copies;
            differs.then_some(RepairKey { copies: copies as u8, chunk })
        };
        if key(before) == key(after) {
            return;
        }
        if let Some(key) = key(before) {
            self.draft.delete(&key);
        }
        if let Some(key) = key(after) {
            self.draft.put(&key, &RepairRow { since: self.context.now });
        }
    }

    fn drop_replica(&mut self, chunk: ChunkId, server: ServerId, version: ChunkVersion) {
        self.draft.delete(&ServerChunkKey { server, chunk });
        self.draft.put(&DeleteReplicaKey { server, chunk }, &VersionRow(version));
    }

    pub(super) fn mark_for_reconciliation(&mut self, chunk: ChunkId) -> Result<(), Stop> {
        let mut row = self.named_chunk(chunk)?;
        row.reconciling = true;
        self.draft.put(&ChunkKey(chunk), &row);
        let work = ReconcileRow { reason: ReconcileReason::Writer, since: self.context.now };
        self.draft.put(&ReconcileKey(chunk), &work);
        Ok(())
    }

    /// Where chunks are at present, in the order asked. One that is gone has no replicas.
    pub(crate) fn locate(&self, chunks: &[ChunkId]) -> Result<Vec<ChunkLocation>, Stop> {
        let keys: Vec<ChunkKey> = chunks.iter().map(|&chunk| ChunkKey(chunk)).collect();
        let rows = self.draft.multi_get(&keys)?;
        chunks.iter().zip(rows).map(|(&chunk, row)| self.location(chunk, row)).collect()
    }

    fn location(&self, chunk: ChunkId, row: Option<ChunkRow>) -> Result<ChunkLocation, Stop> {
        let Some(row) = row else {
            let (version, minimum) = (ChunkVersion(0), 0);
            return Ok(ChunkLocation { chunk, version, minimum, write_leased: false, replicas: Vec::new() });
        };
        let marked = row.owner.get() != 0 || self.draft.has(&LeasedChunkKey { inode: row.inode, chunk })?;
        let address = |&server: &ServerId| ReplicaLocation {
            server,
            address: self.context.view.address(server).to_owned(),
        };
        Ok(ChunkLocation {
            chunk,
            version: row.version,
            minimum: row.minimum,
            write_leased: marked || row.reconciling,
            replicas: row.servers.iter().map(address).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::minimum_of;

    #[test]
    fn minimum_follows_the_rule() {
        assert_eq!((1..=5).map(minimum_of).collect::<Vec<_>>(), [1, 1, 2, 3, 3]);
    }
}
