//! Bringing CHUNK rows in line with policies: a chunk has the policy of its file, and wants what that says.
//!
//! The leader looks at the chunks page by page beside the sequencer, which decides about those that are out of line once more.
//! Nothing moves here: what a row wants and has not is found by the repairs.

use super::act::{Act, require};
use super::draft::Draft;
use super::machine::{Rows, Stop};
use super::rows::chunk::{ChunkKey, ChunkRow};
use super::rows::inode::{InodeKey, InodeRow};
use super::rows::policy::{PolicyKey, PolicyWalkKey, PolicyWalkRow};
use super::rows::{Key, prefix_range};
use super::work::{ChunkRecord, chunk_record};
use crate::error::FsError;
use crate::ids::{ChunkId, PolicyId};
use crate::limits::{ALIGNED_AT_ONCE, POLICIES_MAX};
use std::collections::BTreeMap;

/// What a chunk is to want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Demand {
    policy: PolicyId,
    wanted: u8,
    minimum: u8,
}

impl Demand {
    fn of(row: &ChunkRow) -> Self {
        Self { policy: row.policy, wanted: row.wanted, minimum: row.minimum }
    }

    /// What `row` is to want under a policy that says `said` (replicas, minimum), if it has a row. A higher minimum waits until
    /// there are so many copies: before, it would only stop writers.
    fn under(row: &ChunkRow, policy: PolicyId, said: Option<(u8, u8)>) -> Self {
        let present = row.servers.len() as u8;
        match said {
            Some((wanted, minimum)) => {
                Self { policy, wanted, minimum: minimum.min(present.max(row.minimum)) }
            }
            None => Self { policy, ..Self::of(row) },
        }
    }
}

/// The policy that a chunk is to have: that of the file that it was made for. One that a session holds ready gets that of its file
/// when it is attached, so it keeps no policy in use whose files are gone.
fn policy_for(row: &ChunkRow, inode: Option<&InodeRow>) -> PolicyId {
    match inode {
        Some(inode) => inode.policy,
        None if row.owner.get() != 0 => PolicyId::DEFAULT,
        None => row.policy,
    }
}

/// One page of chunks, and which of them are out of line.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The chunks, in order.
    pub chunks: Vec<ChunkRecord>,
    /// Those that want something else than they are to.
    pub out_of_line: Vec<ChunkId>,
}

/// A page of at most `limit` chunks from `from` on. With `files` the policy of each chunk's file is looked up as well: what
/// somebody may have changed.
///
/// # Errors
/// See [`Stop`].
pub fn page(rows: &dyn Rows, from: ChunkId, limit: usize, files: bool) -> Result<Page, Stop> {
    let draft = Draft::new(rows);
    let known = draft.scan::<PolicyKey>(&prefix_range::<PolicyKey>(&[]), POLICIES_MAX + 1)?;
    let said: BTreeMap<PolicyId, (u8, u8)> =
        known.into_iter().map(|(key, row)| (key.0, (row.policy.replicas, row.policy.minimum))).collect();
    let (_, end) = prefix_range::<ChunkKey>(&[]);
    let found = draft.scan::<ChunkKey>(&(ChunkKey(from).encode(), end), limit)?;
    let inodes = match files {
        true => draft.multi_get(&found.iter().map(|(_, row)| InodeKey(row.inode)).collect::<Vec<_>>())?,
        false => vec![None; found.len()],
    };
    let mut page = Page::default();
    for ((key, row), inode) in found.into_iter().zip(inodes) {
        let policy = if files { policy_for(&row, inode.as_ref()) } else { row.policy };
        // Without a row the default policy is what each master is configured for: nobody has asked for a change.
        let differs = Demand::under(&row, policy, said.get(&policy).copied()) != Demand::of(&row);
        if differs {
            page.out_of_line.push(key.0);
        }
        page.chunks.push(chunk_record(key.0, row));
    }
    Ok(page)
}

/// The walk that brings chunks in line, while there is one.
///
/// # Errors
/// See [`Stop`].
pub fn walk(rows: &dyn Rows) -> Result<Option<PolicyWalkRow>, Stop> {
    Draft::new(rows).get(&PolicyWalkKey)
}

/// `Internal::AlignChunks`.
pub(super) fn align(act: &mut Act<'_>, chunks: &[ChunkId], walked: Option<Walked>) -> Result<(), Stop> {
    require(chunks.len() <= ALIGNED_AT_ONCE, FsError::InvalidArgument)?;
    let mut changed = 0;
    for &chunk in chunks {
        let Some(mut row) = act.chunk(chunk)? else { continue };
        let policy = policy_for(&row, act.draft.get(&InodeKey(row.inode))?.as_ref());
        let moves = policy != row.policy;
        let is_written = act.draft.has(&PolicyKey(policy))?;
        let said = if moves || is_written { Some(act.policy(policy)?) } else { None };
        let demand = Demand::under(&row, policy, said.map(|policy| (policy.replicas, policy.minimum)));
        if demand != Demand::of(&row) {
            changed += 1;
            act.want(chunk, &mut row, (demand.policy, demand.wanted, demand.minimum))?;
            act.draft.put(&ChunkKey(chunk), &row);
        }
    }
    let Some(row) = act.draft.get(&PolicyWalkKey)? else { return Ok(()) };
    let row = PolicyWalkRow { changed: row.changed + changed, ..row };
    let row = match walked {
        None => Some(row),
        Some(Walked::To(next)) => Some(PolicyWalkRow { next, ..row }),
        Some(Walked::Through) => row.again.then_some(PolicyWalkRow { again: false, next: ChunkId(0), ..row }),
    };
    match row {
        Some(row) => act.draft.put(&PolicyWalkKey, &row),
        None => act.draft.delete(&PolicyWalkKey),
    }
    Ok(())
}

/// How far the walk has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Those below were looked at.
    To(ChunkId),
    /// All were.
    Through,
}
