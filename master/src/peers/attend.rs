//! The connection that another member has dialled: who it is, and what it says.

use super::{Identity, records};
use crate::hello;
use crate::parts::Parts;
use crate::raft::wire;
use cairn_core::ids::Term;
use cairn_core::journal::members::{Member, Members};
use cairn_core::limits::{HELLO_PATIENCE, PEER_SILENCE_MAX};
use cairn_env::net::stream::Stream;
use cairn_proto::connection::{ConnError, Link, Outgoing};
use cairn_proto::hello::refused;
use cairn_proto::session_conn::{MessageReader, PEERS, attend, framed};
use cairn_proto::v1::peer_answer::Message as Answer;
use cairn_proto::v1::peer_message::Message as Said;
use cairn_proto::v1::{
    PeerAnswer, PeerHello, PeerMessage, PeerPing, PeerWelcome, RaftMessage, Refused, RefusedReason, Role,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, warn};

fn answer(message: Answer) -> Outgoing {
    framed(&PeerAnswer { message: Some(message) }, Vec::new())
}

/// Serves the connection to its end.
pub(crate) async fn serve(parts: Arc<Parts>, stream: Stream, peer: SocketAddr) {
    let (read, write) = stream.into_split();
    let (link, mut reader) = attend::<PeerMessage>(PEERS, read, write, &format!("master at {peer}"));
    let conversation = converse(&parts, &link, &mut reader);
    let error = tokio::select! {
        ended = conversation => match ended {
            Ok(()) => link.died().await,
            Err(error) => error,
        },
        error = link.died() => error,
        () = parts.stopping.cancelled() => ConnError::ClosedHere { peer: link.peer().clone() },
    };
    debug!(%peer, %error, "connection of another master has ended");
    link.die(error);
}

async fn converse(
    parts: &Parts,
    link: &Arc<Link>,
    reader: &mut MessageReader<PeerMessage>,
) -> Result<(), ConnError> {
    let identity = parts.identity();
    // In this order: what a leader shows after it has led is as late as what was acknowledged before.
    let leads = parts.reader.leads_alone();
    let group = parts.sequencer.members();
    let from = match next(reader, HELLO_PATIENCE).await? {
        Said::Hello(hello) => match known(&identity, &group, &hello) {
            Ok(Some(from)) => from,
            Ok(None) => {
                return link.send_last(answer(Answer::Welcome(welcome(&identity, Some((&group, leads))))));
            }
            Err(refused) => {
                warn!(reason = %refused.message, "another master is refused");
                return link.send_last(answer(Answer::Refused(refused)));
            }
        },
        Said::Raft(_) | Said::Ping(_) | Said::Behind(_) => {
            return Err(ConnError::ClosedHere { peer: link.peer().clone() });
        }
    };
    link.send(answer(Answer::Welcome(welcome(&identity, Some((&group, leads))))))?;
    loop {
        let said = tokio::select! {
            said = next(reader, PEER_SILENCE_MAX * 2) => said?,
            // Its place has been given away.
            () = gone(parts.sequencer.watch_members(), &from) => {
                return Err(ConnError::ClosedHere { peer: link.peer().clone() });
            }
        };
        match said {
            Said::Raft(message) => hear(parts, from.id, message).await,
            Said::Behind(behind) => parts.sequencer.fall_behind(from.id, Term(behind.term)).await,
            Said::Ping(_) => link.send(answer(Answer::Ping(PeerPing {})))?,
            Said::Hello(_) => return Err(ConnError::ClosedHere { peer: link.peer().clone() }),
        }
    }
}

/// Waits until this member's place is another's.
async fn gone(mut members: watch::Receiver<Arc<Members>>, from: &Member) {
    let is_gone = |members: &Arc<Members>| members.get(from.id).is_none_or(|now| now.node != from.node);
    if members.wait_for(is_gone).await.is_err() {
        // The sequencer has stopped: the connection ends with the master.
        std::future::pending::<()>().await;
    }
}

async fn hear(parts: &Parts, from: u64, message: RaftMessage) {
    if message.from != from || message.to != parts.config.node_id {
        return warn!(
            from,
            said_from = message.from,
            said_to = message.to,
            "a raft message for somebody else"
        );
    }
    match wire::from_wire(message) {
        Ok(message) => parts.sequencer.hear(message).await,
        Err(error) => warn!(from, %error, "a message of another master is dropped"),
    }
}

/// The next message; one without content is a variant of a later release and is skipped.
pub(super) async fn next(
    reader: &mut MessageReader<PeerMessage>,
    patience: Duration,
) -> Result<Said, ConnError> {
    let wait = async {
        loop {
            match reader.next().await? {
                Some(PeerMessage { message: Some(message) }) => return Ok(message),
                Some(PeerMessage { message: None }) => {}
                None => return Err(ConnError::Closed { peer: reader.peer().clone() }),
            }
        }
    };
    match tokio::time::timeout(patience, wait).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let silent_ms = patience.as_millis() as u64;
            Err(ConnError::Silent { peer: reader.peer().clone(), silent_ms })
        }
    }
}

/// What a caller is greeted with; `group`, when it exists, with whether this member leads it.
pub(super) fn welcome(identity: &Identity, group: Option<(&Members, bool)>) -> PeerWelcome {
    PeerWelcome {
        node: identity.node.0.as_bytes().to_vec().into(),
        founded: group.is_some(),
        changed: group.is_some_and(|(members, _)| members.has_changed()),
        members: group.map(|(members, _)| records(members)).unwrap_or_default(),
        leads: group.is_some_and(|(_, leads)| leads),
    }
}

/// Checks that the caller calls this master and is of its cluster.
pub(super) fn calls(identity: &Identity, said: &PeerHello) -> Result<hello::Peer, Refused> {
    let ours = cairn_proto::hello::hello(identity.cluster, identity.node, Role::Master);
    let peer = hello::judge(&ours, said.hello.as_ref(), Role::Master)?;
    if said.to != identity.id {
        let message = format!(
            "master {} was called as master {}: check `members` and `node_id` in the configuration of master {}",
            identity.id, said.to, said.from
        );
        return Err(refused(RefusedReason::RefusedBadRequest, message));
    }
    Ok(peer)
}

/// The caller, who is on record; `None` for a founder, who is told of the group and finds out by itself whether
/// it belongs to it.
fn known(identity: &Identity, members: &Members, said: &PeerHello) -> Result<Option<Member>, Refused> {
    let peer = calls(identity, said)?;
    if !said.founded {
        return Ok(None);
    }
    match members.get(said.from) {
        Some(member) if member.node == peer.node => Ok(Some(member.clone())),
        Some(member) => {
            let message = format!(
                "master {} is on record as node {}, not {}: if it has lost its data directory, it must be replaced",
                said.from, member.node, peer.node
            );
            Err(refused(RefusedReason::RefusedBadRequest, message))
        }
        None => {
            let message = format!("master {} is no member of this group", said.from);
            Err(refused(RefusedReason::RefusedBadRequest, message))
        }
    }
}
