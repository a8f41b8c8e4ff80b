//! Storage policies as the state holds them.

use super::draft::Draft;
use super::machine::{Rows, Stop};
use super::rows::inode::InodeKey;
use super::rows::policy::{PolicyKey, PolicyRow};
use super::rows::prefix_range;
use crate::cluster::{Policies, Policy};
use crate::error::FsError;
use crate::ids::{InodeId, PolicyId};
use crate::limits::POLICIES_MAX;

/// A policy, and what has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRecord {
    /// Its number.
    pub policy: PolicyId,
    /// What it says.
    pub says: Policy,
    /// Files and directories that have it; not counted for the default policy.
    pub inodes: u64,
    /// Chunks that have it; not counted for the default policy.
    pub chunks: u64,
}

/// All policies, the default one first. `default_replicas`: what this master is configured for.
///
/// # Errors
/// See [`Stop`].
pub fn records(rows: &dyn Rows, default_replicas: u8) -> Result<Vec<PolicyRecord>, Stop> {
    let found = Draft::new(rows).scan::<PolicyKey>(&prefix_range::<PolicyKey>(&[]), POLICIES_MAX + 1)?;
    let record = |(key, row): (PolicyKey, PolicyRow)| PolicyRecord {
        policy: key.0,
        says: row.policy,
        inodes: row.inodes,
        chunks: row.chunks,
    };
    let mut records: Vec<PolicyRecord> = found.into_iter().map(record).collect();
    if records.first().is_none_or(|first| first.policy != PolicyId::DEFAULT) {
        let says = Policy::built_in(default_replicas);
        records.insert(0, PolicyRecord { policy: PolicyId::DEFAULT, says, inodes: 0, chunks: 0 });
    }
    Ok(records)
}

/// What all policies say.
///
/// # Errors
/// See [`Stop`].
pub fn policies(rows: &dyn Rows, default_replicas: u8) -> Result<Policies, Stop> {
    let records = records(rows, default_replicas)?;
    Ok(Policies(records.into_iter().map(|record| (record.policy, record.says)).collect()))
}

/// The policy that a file or directory has.
///
/// # Errors
/// `Stale` when there is no such inode; see [`Stop`].
pub fn policy_of(rows: &dyn Rows, inode: InodeId) -> Result<PolicyId, Stop> {
    let row = Draft::new(rows).get(&InodeKey(inode))?;
    Ok(row.ok_or(FsError::Stale)?.policy)
}
