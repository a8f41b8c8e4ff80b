//! Storage policies: made, changed, removed, and given to files and directories.
//!
//! A policy counts the inodes and the chunks that have it, so that it is removed only when nobody has it, and no id ever leads
//! to nothing. What a change means for chunks is done later, by the walk that is asked for here: see `alignment`.

use super::act::{Act, require};
use super::chunk_set::minimum_of;
use super::internal::{PolicyChanges, PolicyStep};
use super::machine::Stop;
use super::rows::cluster::CounterKey;
use super::rows::inode::InodeKey;
use super::rows::policy::{PolicyKey, PolicyRow, PolicyWalkKey, PolicyWalkRow};
use super::rows::prefix_range;
use crate::cluster::Policy;
use crate::cluster::policy::DEFAULT_NAME;
use crate::error::FsError;
use crate::ids::{ChunkId, InodeId, PolicyId};
use crate::limits::{POLICIES_MAX, POLICY_INODES_AT_ONCE};
use crate::namespace::attr::NodeKind;

impl Act<'_> {
    /// What a policy says.
    pub(crate) fn policy(&self, policy: PolicyId) -> Result<Policy, Stop> {
        match self.draft.get(&PolicyKey(policy))? {
            Some(row) => Ok(row.policy),
            None if policy == PolicyId::DEFAULT => Ok(Policy::built_in(self.context.default_replicas)),
            None => Err(Stop::Failed(format!("{policy} is named by a row and is not there"))),
        }
    }

    /// So many inodes and chunks more, or fewer, have the policy.
    pub(super) fn count_in_policy(&mut self, policy: PolicyId, inodes: i64, chunks: i64) -> Result<(), Stop> {
        if policy == PolicyId::DEFAULT {
            return Ok(());
        }
        let missing = || Stop::Failed(format!("{policy} is named by a row and is not there, or miscounted"));
        let mut row = self.draft.get(&PolicyKey(policy))?.ok_or_else(missing)?;
        row.inodes = row.inodes.checked_add_signed(inodes).ok_or_else(missing)?;
        row.chunks = row.chunks.checked_add_signed(chunks).ok_or_else(missing)?;
        self.draft.put(&PolicyKey(policy), &row);
        Ok(())
    }

    /// Chunks may be out of line with their policies: all are to be looked at.
    fn ask_for_walk(&mut self) -> Result<(), Stop> {
        let row = match self.draft.get(&PolicyWalkKey)? {
            Some(row) => PolicyWalkRow { again: true, ..row },
            None => PolicyWalkRow { again: false, next: ChunkId(0), since: self.now(), changed: 0 },
        };
        self.draft.put(&PolicyWalkKey, &row);
        Ok(())
    }
}

/// `Internal::Policy`.
pub(super) fn step(act: &mut Act<'_>, step: &PolicyStep) -> Result<(), Stop> {
    match step {
        PolicyStep::Create(policy) => create(act, policy),
        PolicyStep::Change { policy, changes } => change(act, *policy, changes),
        PolicyStep::Remove { policy } => {
            require(*policy != PolicyId::DEFAULT, FsError::InvalidArgument)?;
            let row = act.draft.get(&PolicyKey(*policy))?.ok_or(FsError::NotFound)?;
            require(row.inodes == 0 && row.chunks == 0, FsError::Busy)?;
            act.draft.delete(&PolicyKey(*policy));
            Ok(())
        }
    }
}

fn create(act: &mut Act<'_>, policy: &Policy) -> Result<(), Stop> {
    require(policy.is_sound(), FsError::InvalidArgument)?;
    let known = act.draft.scan::<PolicyKey>(&prefix_range::<PolicyKey>(&[]), POLICIES_MAX)?;
    let is_taken = policy.name == DEFAULT_NAME || known.iter().any(|(_, row)| row.policy.name == policy.name);
    require(!is_taken, FsError::Exists)?;
    require(known.len() < POLICIES_MAX, FsError::Overloaded)?;
    let number = act.next_number(CounterKey::NextPolicy)?;
    let id = u32::try_from(number).map_err(|_| Stop::Failed("policy numbers have run out".into()))?;
    act.draft.put(&PolicyKey(PolicyId(id)), &PolicyRow { policy: policy.clone(), inodes: 0, chunks: 0 });
    Ok(())
}

fn change(act: &mut Act<'_>, id: PolicyId, changes: &PolicyChanges) -> Result<(), Stop> {
    let row = act.draft.get(&PolicyKey(id))?;
    require(row.is_some() || id == PolicyId::DEFAULT, FsError::NotFound)?;
    let built_in =
        || PolicyRow { policy: Policy::built_in(act.context.default_replicas), inodes: 0, chunks: 0 };
    let mut row = row.unwrap_or_else(built_in);
    if let Some(replicas) = changes.replicas {
        (row.policy.replicas, row.policy.minimum) = (replicas, minimum_of(replicas));
    }
    if let Some(minimum) = changes.minimum {
        row.policy.minimum = minimum;
    }
    if let Some(required) = &changes.required {
        row.policy.required = required.clone();
    }
    require(row.policy.is_sound(), FsError::InvalidArgument)?;
    act.draft.put(&PolicyKey(id), &row);
    act.ask_for_walk()
}

/// `Internal::SetPolicy`. What is gone, or is neither a file nor a directory, is passed over.
pub(super) fn set(act: &mut Act<'_>, inodes: &[InodeId], policy: PolicyId) -> Result<(), Stop> {
    require(inodes.len() <= POLICY_INODES_AT_ONCE, FsError::InvalidArgument)?;
    let is_known = policy == PolicyId::DEFAULT || act.draft.has(&PolicyKey(policy))?;
    require(is_known, FsError::NotFound)?;
    let mut has_files = false;
    for &inode in inodes {
        let row = act.draft.get(&InodeKey(inode))?;
        let may_have = |kind| matches!(kind, NodeKind::Regular | NodeKind::Directory);
        let Some(mut row) = row.filter(|row| may_have(row.kind) && row.policy != policy) else { continue };
        act.count_in_policy(row.policy, -1, 0)?;
        act.count_in_policy(policy, 1, 0)?;
        row.policy = policy;
        // Clients are to see it, and to a program nothing has changed.
        row.change += 1;
        has_files |= row.kind == NodeKind::Regular;
        act.put_inode(&row);
    }
    if has_files { act.ask_for_walk() } else { Ok(()) }
}
