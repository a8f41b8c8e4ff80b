//! The other masters of the group: one connection to each, dialled from here, carries what this one says; what they say comes
//! over theirs.
//!
//! ```text
//!   sequencer ─► Peers::send ─► Link to each ─────────► network
//!   network ─► attend ─► checked, converted ─► SequencerHandle::hear
//! ```
//! A message may be lost at any point, which Raft bears; none is changed (each frame has a checksum), and none of a node that
//! is not on record as that member is heard.

pub(crate) mod assembly;
#[cfg(test)]
mod assembly_test;
pub(crate) mod attend;
pub(crate) mod dial;
pub(crate) mod keep;

use crate::raft::wire;
use cairn_core::ids::{ClusterId, NodeId, Term};
use cairn_core::journal::members::{Member, Members};
use cairn_core::limits::PEER_MESSAGES_QUEUED_MAX;
use cairn_proto::connection::Link;
use cairn_proto::session_conn::framed;
use cairn_proto::v1::peer_message::Message as Said;
use cairn_proto::v1::{MemberRecord, PeerBehind, PeerHello, PeerMessage, Role};
use raft::eraftpb::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who this master is in its group.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// Raft id.
    pub(crate) id: u64,
}

impl Identity {
    fn hello(&self, to: u64, founded: bool) -> PeerMessage {
        let hello = cairn_proto::hello::hello(self.cluster, self.node, Role::Master);
        let said = PeerHello { hello: Some(hello), from: self.id, to, founded };
        PeerMessage { message: Some(Said::Hello(said)) }
    }
}

/// The way to the other members, as the sequencer uses it.
pub(crate) trait ToPeers: Send + Sync {
    /// Sends from this very thread as far as the sockets take it. Returns the members to whom something could not be sent.
    fn send(&self, messages: Vec<Message>) -> Vec<u64>;

    /// Tells a follower that what it lacks is no longer in the journal. It is told again as long as that is so.
    fn tell_behind(&self, member: u64, term: Term);
}

/// The connections to the other members.
#[derive(Default)]
pub struct Peers {
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.links().keys()).finish()
    }
}

impl Peers {
    /// Whether there is a connection to this member.
    pub(crate) fn reaches(&self, member: u64) -> bool {
        self.links().contains_key(&member)
    }

    /// The member is another now, or none.
    fn forget(&self, member: u64) {
        self.links().remove(&member);
    }

    fn connected(&self, member: u64, link: Arc<Link>) {
        self.links().insert(member, link);
    }

    fn disconnected(&self, member: u64, link: &Arc<Link>) {
        let mut links = self.links();
        if links.get(&member).is_some_and(|present| Arc::ptr_eq(present, link)) {
            links.remove(&member);
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ToPeers for Peers {
    fn send(&self, messages: Vec<Message>) -> Vec<u64> {
        let links = self.links();
        let mut unreachable = Vec::new();
        for message in messages {
            let to = message.to;
            let Some(message) = wire::to_wire(message) else { continue };
            let frame = framed(&PeerMessage { message: Some(Said::Raft(message)) }, Vec::new());
            let queued = links.get(&to).is_some_and(|link| link.queue(frame, PEER_MESSAGES_QUEUED_MAX));
            if !queued && !unreachable.contains(&to) {
                unreachable.push(to);
            }
        }
        links.values().for_each(Link::flush);
        unreachable
    }

    fn tell_behind(&self, member: u64, term: Term) {
        let said = PeerMessage { message: Some(Said::Behind(PeerBehind { term: term.get() })) };
        if let Some(link) = self.links().get(&member) {
            link.queue(framed(&said, Vec::new()), PEER_MESSAGES_QUEUED_MAX);
            link.flush();
        }
    }
}

/// The group as it crosses a socket.
pub(crate) fn records(members: &Members) -> Vec<MemberRecord> {
    let record = |member: &Member| MemberRecord {
        id: member.id,
        node: member.node.0.as_bytes().to_vec().into(),
        address: member.address.clone(),
    };
    members.iter().map(record).collect()
}

/// The group as another member tells it; `None` when it makes no sense.
fn members_of(records: Vec<MemberRecord>) -> Option<Members> {
    let member = |record: MemberRecord| {
        let node = NodeId(uuid::Uuid::from_slice(&record.node).ok()?);
        Some(Member { id: record.id, node, address: record.address })
    };
    Members::new(records.into_iter().map(member).collect::<Option<Vec<_>>>()?)
}
