//! The rebalancing that an operator asked for: what of it outlives a leader. What moves is found anew from how full the servers
//! are; only that it is wanted, and how far it has come, is journaled.

use super::act::{Act, require};
use super::internal::RebalanceStep;
use super::machine::Stop;
use super::rows::rebalance::{RebalanceKey, RebalanceRow, RebalanceState};
use crate::error::FsError;

pub(super) fn step(act: &mut Act<'_>, step: RebalanceStep) -> Result<(), Stop> {
    use RebalanceState::{Cancelled, Done, Paused, Running};
    let known = act.draft.get(&RebalanceKey)?;
    let runs = known.is_some_and(|row| matches!(row.state, Running | Paused));
    let now = act.now();
    let row = match (step, known) {
        (
            RebalanceStep::Begin { tolerance_permille, limit_bytes, planned_bytes, spread_before_permille },
            _,
        ) => {
            require(!runs, FsError::Busy)?;
            require((1..1000).contains(&tolerance_permille), FsError::InvalidArgument)?;
            RebalanceRow {
                state: Running,
                tolerance_permille,
                limit_bytes,
                begun: now,
                ended: now,
                planned_bytes,
                moved_bytes: 0,
                moved_replicas: 0,
                spread_before_permille,
            }
        }
        // Whoever moved the last replica may tell of it when it is over, also when another has begun.
        (RebalanceStep::Moved { begun, bytes, replicas }, Some(row)) if row.begun == begun => RebalanceRow {
            moved_bytes: row.moved_bytes.saturating_add(bytes),
            moved_replicas: row.moved_replicas.saturating_add(replicas),
            ..row
        },
        (RebalanceStep::Pause, Some(row)) if runs => RebalanceRow { state: Paused, ..row },
        (RebalanceStep::Resume, Some(row)) if runs => RebalanceRow { state: Running, ..row },
        (RebalanceStep::Cancel, Some(row)) if runs => RebalanceRow { state: Cancelled, ended: now, ..row },
        (RebalanceStep::Done, Some(row)) if runs => RebalanceRow { state: Done, ended: now, ..row },
        _ => return Err(FsError::NotFound.into()),
    };
    act.draft.put(&RebalanceKey, &row);
    Ok(())
}
