//! Raft messages as they cross a socket: our own messages, converted field by field. raft-rs's protobuf never sees bytes of a
//! peer (its parser has an advisory).

use bytes::Bytes;
use cairn_proto::v1::{RaftEntry, RaftEntryKind, RaftKind, RaftMessage};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use thiserror::Error;

/// A message that members do not send each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a raft message of kind {0}, which members do not send")]
pub(crate) struct Alien(pub(crate) String);

/// What leaves for another member; `None` for a kind that stays inside.
pub(crate) fn to_wire(message: Message) -> Option<RaftMessage> {
    let kind = match message.msg_type {
        MessageType::MsgAppend => RaftKind::RaftAppend,
        MessageType::MsgAppendResponse => RaftKind::RaftAppendResponse,
        MessageType::MsgRequestVote => RaftKind::RaftVote,
        MessageType::MsgRequestVoteResponse => RaftKind::RaftVoteResponse,
        MessageType::MsgRequestPreVote => RaftKind::RaftPreVote,
        MessageType::MsgRequestPreVoteResponse => RaftKind::RaftPreVoteResponse,
        MessageType::MsgHeartbeat => RaftKind::RaftHeartbeat,
        MessageType::MsgHeartbeatResponse => RaftKind::RaftHeartbeatResponse,
        MessageType::MsgTimeoutNow => RaftKind::RaftTimeoutNow,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgSnapshot
        | MessageType::MsgTransferLeader
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => return None,
    };
    Some(RaftMessage {
        kind: kind.into(),
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        priority: message.priority,
        context: message.context,
        entries: message.entries.into_iter().map(entry_to_wire).collect(),
    })
}

/// A message of another member, as raft-rs takes it.
///
/// # Errors
/// See [`Alien`].
pub(crate) fn from_wire(message: RaftMessage) -> Result<Message, Alien> {
    let msg_type = match message.kind() {
        RaftKind::RaftAppend => MessageType::MsgAppend,
        RaftKind::RaftAppendResponse => MessageType::MsgAppendResponse,
        RaftKind::RaftVote => MessageType::MsgRequestVote,
        RaftKind::RaftVoteResponse => MessageType::MsgRequestVoteResponse,
        RaftKind::RaftPreVote => MessageType::MsgRequestPreVote,
        RaftKind::RaftPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        RaftKind::RaftHeartbeat => MessageType::MsgHeartbeat,
        RaftKind::RaftHeartbeatResponse => MessageType::MsgHeartbeatResponse,
        RaftKind::RaftTimeoutNow => MessageType::MsgTimeoutNow,
        RaftKind::RaftUnspecified => return Err(Alien(message.kind.to_string())),
    };
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        entries.push(entry_from_wire(entry)?);
    }
    let follow_each_other = entries
        .iter()
        .zip(message.index.saturating_add(1)..)
        .all(|(entry, index): (&Entry, u64)| entry.index == index);
    if msg_type == MessageType::MsgAppend && !follow_each_other {
        return Err(Alien("append whose entries do not follow each other".to_owned()));
    }
    Ok(Message {
        msg_type,
        from: message.from,
        to: message.to,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        priority: message.priority,
        context: message.context,
        entries: entries.into(),
        ..Message::default()
    })
}

fn entry_to_wire(entry: Entry) -> RaftEntry {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => RaftEntryKind::RaftEntryNormal,
        EntryType::EntryConfChange => RaftEntryKind::RaftEntryConfChange,
        EntryType::EntryConfChangeV2 => RaftEntryKind::RaftEntryConfChangeV2,
    };
    RaftEntry { kind: kind.into(), term: entry.term, index: entry.index, data: entry.data }
}

fn entry_from_wire(entry: RaftEntry) -> Result<Entry, Alien> {
    let entry_type = match RaftEntryKind::try_from(entry.kind) {
        Ok(RaftEntryKind::RaftEntryNormal) => EntryType::EntryNormal,
        Ok(RaftEntryKind::RaftEntryConfChange) => EntryType::EntryConfChange,
        Ok(RaftEntryKind::RaftEntryConfChangeV2) => EntryType::EntryConfChangeV2,
        Err(_) => return Err(Alien(format!("append with an entry of kind {}", entry.kind))),
    };
    let data: Bytes = entry.data;
    Ok(Entry { entry_type, term: entry.term, index: entry.index, data, ..Entry::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Message {
        let entry = |index, entry_type| Entry {
            entry_type,
            term: 3,
            index,
            data: Bytes::from_static(b"data"),
            ..Entry::default()
        };
        let entries = vec![entry(8, EntryType::EntryNormal), entry(9, EntryType::EntryConfChange)];
        Message {
            msg_type: MessageType::MsgAppend,
            from: 1,
            to: 2,
            term: 3,
            log_term: 2,
            index: 7,
            commit: 6,
            commit_term: 2,
            reject: true,
            reject_hint: 5,
            request_snapshot: 4,
            priority: -3,
            context: Bytes::from_static(b"ctx"),
            entries: entries.into(),
            ..Message::default()
        }
    }

    #[test]
    fn what_was_sent_arrives() {
        assert_eq!(from_wire(to_wire(append()).unwrap()), Ok(append()));
    }

    #[test]
    fn what_members_do_not_send_neither_leaves_nor_enters() {
        let inside = Message { msg_type: MessageType::MsgPropose, ..append() };
        assert_eq!(to_wire(inside), None);
        let unknown = RaftMessage { kind: 77, ..to_wire(append()).unwrap() };
        assert!(from_wire(unknown).is_err());
        let mut odd = to_wire(append()).unwrap();
        odd.entries[1].kind = 9;
        assert!(from_wire(odd).is_err());
        let mut gap = to_wire(append()).unwrap();
        gap.entries.remove(0);
        assert!(from_wire(gap).is_err(), "the journal would refuse the gap by stopping the member");
    }
}
