//! Giving a chunk another set of replicas while it is read and written.
//!
//! ```text
//! copy ahead      source → targets at the present version, while writers and readers go on
//! begin           journaled: the intended version
//! raise           on those who stay and on the targets: no writer of the old set is heard any more
//! compare         source → all of them: what was written since the copy is little; a bad replica that nobody else can
//!                 take the place of is below the version, and made anew whole
//! finish          journaled: the new set, without the dead
//! ```
//! A crash anywhere leaves the old set, with a version begun, which reconciliation brings to an end; a target that has
//! part of a replica then is a stray. Nothing is deleted here: what has left the set is a row for the deletions.
//!
//! Where copies are only given up nothing is copied ahead, and the rest is the same: those that stay are raised, hence there, and
//! compared with one that was read whole.

use crate::link::{Care, CommandError};
use crate::parts::Parts;
use crate::replace::{self, Patience};
use cairn_core::cluster::repair::Repair;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, ServerId, Term};
use cairn_core::limits::{RAISE_PATIENCE, REPAIR_COPY_PATIENCE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::work::ChunkRecord;
use cairn_core::seeded::{Bug, is_planted};
use tracing::info;

/// Carries a planned repair or move out. What it comes to when it fails is told above.
pub(crate) async fn carry_out(
    parts: &Parts,
    term: Term,
    record: &ChunkRecord,
    repair: &Repair,
) -> Result<(), FsError> {
    let id = record.chunk;
    let targets = addresses(parts, &repair.targets)?;
    // A bad replica may be the only one with some good block: what takes its place is read whole before.
    let verify = !repair.anew.is_empty() || repair.only_removes();
    let mut verify_yet = false;
    match copy(
        parts,
        term,
        repair,
        (id, record.version),
        (targets, Care { ahead: true, verify, haste: Some(repair.haste) }),
    )
    .await
    {
        Ok(()) => {}
        // It cannot be synced before it is raised. Nobody counts on those writes any more.
        Err(CommandError::WritesLost)
            if repair.anew.is_empty() && !replace::is_written(parts, record.inode).await? =>
        {
            verify_yet = verify;
        }
        Err(error) => return Err(failed(repair, &error)),
    }
    let begun = parts.sequencer.internal(Internal::BeginRaise { chunk: id, from: record.version }).await?;
    let Outcome::Raising { from, to, .. } = begun else {
        return Err(FsError::Io(format!("a raise came to {begun:?}")));
    };
    // Who copies may be leaving the set, and is compared with at the new version all the same.
    let leaving = Some(&repair.source).filter(|source| !repair.kept.contains(source));
    let all: Vec<ServerId> = repair.kept.iter().chain(&repair.targets).chain(leaving).copied().collect();
    let whole = replace::is_written(parts, record.inode).await?;
    let patience = Patience::of(RAISE_PATIENCE);
    let mut servers =
        replace::raised(&replace::raise(parts, term, id, (from, to), (&all, patience), whole).await);
    if servers.len() < all.len() {
        return Err(FsError::Unavailable(format!("{} of {} replicas answer", servers.len(), all.len())));
    }
    let others = all.iter().chain(&repair.anew).copied().filter(|&server| server != repair.source);
    let others: Vec<ServerId> = others.collect();
    if !is_planted(Bug::SkipComparison) {
        let peers = (addresses(parts, &others)?, Care { verify: verify_yet, ..Care::default() });
        let compared = copy(parts, term, repair, (id, to), peers).await;
        compared.map_err(|error| failed(repair, &error))?;
    }
    servers.retain(|server| leaving != Some(server));
    servers.extend(&repair.anew);
    parts.sequencer.internal(Internal::FinishReconcile { chunk: id, version: to, servers }).await?;
    repair.targets.iter().chain(&repair.anew).for_each(|&server| parts.damage.cleared(server, id));
    let Repair { source, targets, anew, .. } = repair;
    let removed: Vec<_> = record.servers.iter().filter(|&server| !repair.kept.contains(server)).collect();
    info!(chunk = %id, version = %to, %source, ?targets, ?anew, ?removed, "chunk has another set");
    Ok(())
}

async fn copy(
    parts: &Parts,
    term: Term,
    repair: &Repair,
    at: (ChunkId, ChunkVersion),
    peers: (Vec<String>, Care),
) -> Result<(), CommandError> {
    let link = parts.servers.link(repair.source).ok_or(CommandError::Gone)?;
    link.reconcile(term, at, peers, REPAIR_COPY_PATIENCE).await
}

fn failed(repair: &Repair, error: &CommandError) -> FsError {
    FsError::Unavailable(format!("{}: {error}", repair.source))
}

fn addresses(parts: &Parts, servers: &[ServerId]) -> Result<Vec<String>, FsError> {
    let view = parts.servers.view(parts.now());
    let address = |&server: &ServerId| match view.address(server) {
        "" => Err(FsError::Unavailable(format!("{server} is gone"))),
        address => Ok(address.to_owned()),
    };
    servers.iter().map(address).collect()
}
