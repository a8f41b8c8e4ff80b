//! Replacing a chunk's replica set after a failure, in two phases, and finishing a reconciliation.
//!
//! First the intended version is journaled, so that no successor ever uses it for another set; then the shell raises the
//! survivors to it; then the set that acknowledged is journaled with it. A crash between the phases leaves a begun
//! version and a RECONCILE row: the next attempt begins a higher one. Only the attempt that began last can finish.

use super::act::{Act, require};
use super::answer::ChunkLocation;
use super::machine::Stop;
use super::rows::chunk::ChunkRow;
use super::rows::cluster::ServerKey;
use crate::error::FsError;
use crate::ids::{ChunkId, ChunkVersion, ServerId};
use crate::seeded::{Bug, is_planted};
use crate::session::Raised;

/// A `ReplaceReplicas`.
pub(crate) struct Replacement<'r> {
    pub(crate) chunk: ChunkId,
    pub(crate) version: ChunkVersion,
    pub(crate) failed: &'r [ServerId],
}

/// What a `ReplaceReplicas` comes to at this point.
pub(crate) enum Replaced {
    /// The set is replaced (or was before).
    Located(Vec<ChunkLocation>),
    /// A version was begun: raise these servers to it.
    Raise { to: ChunkVersion, survivors: Vec<ServerId> },
}

pub(crate) fn replace(
    act: &mut Act<'_>,
    request: &Replacement<'_>,
    raised: Option<&Raised>,
) -> Result<Replaced, Stop> {
    let mut row = act.chunk(request.chunk)?.ok_or(FsError::Stale)?;
    require_writer(act, request.chunk, &row)?;
    require(request.version <= row.version, FsError::InvalidArgument)?;
    if row.version > request.version {
        return Ok(Replaced::Located(act.locate(&[request.chunk])?));
    }
    if row.reconciling {
        return Err(FsError::Unavailable(format!("{} is being reconciled", request.chunk)).into());
    }
    if let Some(raised) = raised
        && raised.to == row.raising
        && row.raising > row.version
    {
        let keeps_stale = is_planted(Bug::KeepStaleReplica);
        let servers = intersection(&row.servers, |server| raised.servers.contains(&server) || keeps_stale);
        require_minimum(request.chunk, &row, &servers)?;
        act.install_set(request.chunk, &mut row, servers);
        return Ok(Replaced::Located(act.locate(&[request.chunk])?));
    }
    let reachable =
        |server| !request.failed.contains(&server) && act.context.view.health(server).is_reachable();
    let survivors = intersection(&row.servers, reachable);
    require_minimum(request.chunk, &row, &survivors)?;
    let to = act.begin_version(request.chunk, &mut row);
    Ok(Replaced::Raise { to, survivors })
}

/// Only who writes the chunk may have its set replaced: its owner, or the holder of its file's lease.
fn require_writer(act: &Act<'_>, chunk: ChunkId, row: &ChunkRow) -> Result<(), Stop> {
    let writes = if row.owner.get() != 0 {
        row.owner == act.context.session
    } else {
        act.lease_of(row.inode)?.is_some_and(|lease| lease.session == act.context.session)
    };
    debug_assert!(chunk.get() != 0);
    require(writes, FsError::Stale)
}

fn intersection(set: &[ServerId], keep: impl Fn(ServerId) -> bool) -> Vec<ServerId> {
    set.iter().copied().filter(|&server| keep(server)).collect()
}

fn require_minimum(chunk: ChunkId, row: &ChunkRow, left: &[ServerId]) -> Result<(), Stop> {
    if left.len() >= usize::from(row.minimum.max(1)) {
        return Ok(());
    }
    let text =
        format!("{chunk} has {} of {} replicas left, fewer than its minimum", left.len(), row.servers.len());
    Err(FsError::Unavailable(text).into())
}

/// `Internal::BeginRaise`.
pub(super) fn begin_raise(
    act: &mut Act<'_>,
    chunk: ChunkId,
    from: ChunkVersion,
) -> Result<(ChunkVersion, Vec<ServerId>), Stop> {
    let mut row = act.chunk(chunk)?.ok_or(FsError::NotFound)?;
    require(row.version == from, FsError::Stale)?;
    let to = act.begin_version(chunk, &mut row);
    Ok((to, row.servers))
}

/// `Internal::FinishReconcile`. Every replica of the present set holds all that was acknowledged, so one is enough to begin
/// from. Who comes from elsewhere was made equal to it after the last write under the old version, and fills the set up to the
/// size that is wanted, also where nobody of the old set stays.
pub(super) fn finish_reconcile(
    act: &mut Act<'_>,
    chunk: ChunkId,
    version: ChunkVersion,
    servers: &[ServerId],
) -> Result<(), Stop> {
    let mut row = act.chunk(chunk)?.ok_or(FsError::NotFound)?;
    require(row.raising == version && version > row.version, FsError::Stale)?;
    let mut set = intersection(&row.servers, |server| servers.contains(&server));
    for &server in servers {
        let has_room = set.len() < usize::from(row.wanted) && !set.contains(&server);
        if has_room && act.draft.has(&ServerKey(server))? {
            set.push(server);
        }
    }
    if set.is_empty() {
        return Err(FsError::Unavailable(format!("no replica of {chunk} is reachable")).into());
    }
    act.install_set(chunk, &mut row, set);
    Ok(())
}
