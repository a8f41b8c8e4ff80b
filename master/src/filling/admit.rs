//! A master without a journal asks to be taken in: it leaves the Raft configuration if it is in it, and follows without a vote.

use crate::hello;
use crate::parts::Parts;
use crate::sequencer::GroupRefusal;
use crate::session_open::not_leader;
use cairn_core::ids::NodeId;
use cairn_core::journal::membership::{MemberChange, Refusal};
use cairn_proto::hello::refused;
use cairn_proto::v1::join_reply::Outcome;
use cairn_proto::v1::{Hello, JoinReply, JoinRequest, Joined, Refused, RefusedReason, Role};
use tracing::{info, warn};

/// Takes a master in, or says why not.
pub(crate) async fn join(parts: &Parts, asked: JoinRequest) -> JoinReply {
    let outcome = match admit(parts, &asked).await {
        Ok(joined) => Outcome::Joined(joined),
        Err(refused) => {
            warn!(master = asked.id, reason = %refused.message, "a master is not taken in");
            Outcome::Refused(refused)
        }
    };
    JoinReply { outcome: Some(outcome) }
}

async fn admit(parts: &Parts, asked: &JoinRequest) -> Result<Joined, Refused> {
    let node = member(parts, asked.hello.as_ref(), asked.id)?;
    let id = asked.id;
    let step = async |change| match parts.sequencer.change(change).await {
        Ok(()) | Err(GroupRefusal::Rules(Refusal::Done(_))) => Ok(()),
        Err(GroupRefusal::NotLeader) => Err(not_leader(parts)),
        Err(error @ GroupRefusal::Rules(_)) => {
            Err(refused(RefusedReason::RefusedBadRequest, error.to_string()))
        }
        Err(error) => Err(refused(RefusedReason::RefusedOverloaded, error.to_string())),
    };
    if parts.term().is_none() {
        return Err(not_leader(parts));
    }
    let is_awaited = parts.sequencer.members().get(id).is_some_and(|member| member.is_awaited());
    if !is_awaited {
        // It has lost what it acknowledged: nobody may count on that any more.
        step(MemberChange::Detach { id, node }).await?;
    }
    step(MemberChange::Join { id, node }).await?;
    let term = parts.term().ok_or_else(|| not_leader(parts))?;
    info!(master = id, %node, "a master is taken in: it follows without a vote until it has caught up");
    Ok(Joined { term: term.get(), leader: parts.config.node_id })
}

/// The node of a caller who says to be member `id`.
pub(super) fn member(parts: &Parts, said: Option<&Hello>, id: u64) -> Result<NodeId, Refused> {
    let peer = hello::check(parts, said, Role::Master)?;
    let bad = |message: String| refused(RefusedReason::RefusedBadRequest, message);
    if peer.node.0.is_nil() {
        return Err(bad("a master must name its node".to_owned()));
    }
    match parts.sequencer.members().get(id) {
        Some(member) if member.is_awaited() || member.node == peer.node => Ok(peer.node),
        Some(member) => Err(bad(Refusal::OtherNode { id, node: member.node }.to_string())),
        None => Err(bad(Refusal::Unknown(id).to_string())),
    }
}
