//! Changes of the group as raft-rs has them in its log: a `ConfChangeV2` with one change, whose context is the row of members
//! after it. What comes from a disk or a peer is decoded by our own message.

use bytes::Bytes;
use cairn_core::journal::membership::VoteChange;
use cairn_proto::v1::{ConfChange, ConfChangeKind};
use prost::Message;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

/// For raft-rs.
pub(super) fn to_raft(votes: VoteChange, row: Bytes) -> ConfChangeV2 {
    let (change_type, node_id) = match votes {
        VoteChange::Voter(id) => (ConfChangeType::AddNode, id),
        VoteChange::Gone(id) => (ConfChangeType::RemoveNode, id),
        VoteChange::Learner(id) => (ConfChangeType::AddLearnerNode, id),
    };
    let single = ConfChangeSingle { change_type, node_id, ..Default::default() };
    ConfChangeV2 { changes: vec![single].into(), context: row, ..Default::default() }
}

/// The data of an entry that changes the group: what it does to the votes, and the row.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn from_entry(data: Bytes) -> Result<(VoteChange, Bytes), String> {
    let change = ConfChange::decode(data).map_err(|error| error.to_string())?;
    let [single] = &change.changes[..] else {
        return Err(format!("it changes {} members at once", change.changes.len()));
    };
    let votes = match ConfChangeKind::try_from(single.kind) {
        Ok(ConfChangeKind::ConfChangeAddVoter) => VoteChange::Voter(single.id),
        Ok(ConfChangeKind::ConfChangeRemove) => VoteChange::Gone(single.id),
        Ok(ConfChangeKind::ConfChangeAddLearner) => VoteChange::Learner(single.id),
        Err(_) => return Err(format!("it makes a change of kind {}", single.kind)),
    };
    Ok((votes, change.row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message as _;

    #[test]
    fn what_raft_writes_is_read() {
        for votes in [VoteChange::Voter(3), VoteChange::Gone(4), VoteChange::Learner(u64::MAX)] {
            let row = Bytes::from_static(b"row");
            let written = to_raft(votes, row.clone()).write_to_bytes().unwrap();
            assert_eq!(from_entry(written.into()), Ok((votes, row)));
        }
    }

    #[test]
    fn what_no_master_proposes_is_refused() {
        let both = ConfChangeV2 {
            changes: vec![ConfChangeSingle::default(), ConfChangeSingle::default()].into(),
            ..Default::default()
        };
        assert!(from_entry(both.write_to_bytes().unwrap().into()).is_err());
        assert!(from_entry(Bytes::from_static(b"\xff\xff")).is_err());
    }
}
