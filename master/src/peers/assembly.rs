//! Founding a group: the masters named in the configuration find each other before any of them begins.
//!
//! A group is founded when all its members are there, each with the node of its data directory: so that a master that has lost
//! its directory, and with it its vote, can never be taken for the one that voted (I13). Whoever finds a founded group joins it
//! only if that has this very node on record; it was then about to found it itself, and has never voted.

use super::Identity;
use super::attend::{calls, next, welcome};
use super::dial::{DialError, Greeted, Group, greet, pause};
use crate::sequencer::StartError;
use cairn_core::ids::NodeId;
use cairn_core::journal::members::{Member, Members};
use cairn_core::journal::membership::Refusal;
use cairn_core::limits::{HELLO_PATIENCE, PEER_BACKOFF_MIN};
use cairn_env::Env;
use cairn_env::net::Listener;
use cairn_env::net::first_bytes::first_bytes;
use cairn_env::net::stream::Stream;
use cairn_proto::connection::ConnError;
use cairn_proto::session_conn::{PEERS, attend, framed};
use cairn_proto::v1::peer_answer::Message as Answer;
use cairn_proto::v1::peer_message::Message as Said;
use cairn_proto::v1::{PeerAnswer, PeerMessage};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::net::SocketAddr;
use thiserror::Error;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// Waits until every configured member has been heard, and says who they are. `configured` holds (Raft id, `host:port`).
///
/// # Errors
/// See [`AssemblyError`].
pub(crate) async fn assemble(
    env: &Env,
    identity: &Identity,
    configured: &[(u64, String)],
    listener: &mut Listener,
) -> Result<Members, AssemblyError> {
    if configured.iter().any(|(id, _)| *id != identity.id) {
        info!(members = configured.len(), "the group is to be founded: waiting for all its masters");
    }
    let others = configured.iter().filter(|(id, _)| *id != identity.id);
    let asking = hear_all(others.map(|(id, address)| ask(env, identity, *id, address)).collect());
    let heard = tokio::select! {
        heard = asking => heard,
        error = answer_all(identity, listener) => {
            return Err(AssemblyError::Refused(format!("the listening socket is broken: {error}")));
        }
    };
    if let Some(group) = heard.iter().find_map(|heard| heard.group.as_ref()) {
        return belongs(identity, group);
    }
    let nodes = heard.into_iter().map(|heard| (heard.id, heard.node)).chain([(identity.id, identity.node)]);
    let nodes: Vec<(u64, NodeId)> = nodes.collect();
    let member = |(id, address): &(u64, String)| {
        let node = nodes.iter().find(|(of, _)| of == id).map(|(_, node)| *node)?;
        Some(Member { id: *id, node, address: address.clone() })
    };
    let members = configured.iter().map(member).collect::<Option<Vec<_>>>().and_then(Members::new);
    let unfit = || "the configured members make no group: each needs an id of its own".to_owned();
    members.ok_or_else(|| AssemblyError::Refused(unfit()))
}

impl From<AssemblyError> for StartError {
    fn from(error: AssemblyError) -> Self {
        match error {
            AssemblyError::Refused(reason) => Self::Group(reason),
            AssemblyError::TakenIn => Self::TakenIn,
        }
    }
}

/// Waits for all others, or for the first one whose group exists.
async fn hear_all(mut asking: FuturesUnordered<impl Future<Output = Heard>>) -> Vec<Heard> {
    let mut all = Vec::new();
    while let Some(heard) = asking.next().await {
        let is_founded = heard.group.is_some();
        all.push(heard);
        if is_founded {
            break;
        }
    }
    all
}

/// Why this master founds no group.
#[derive(Debug, Error)]
pub(crate) enum AssemblyError {
    /// The group exists, and this node is none of it.
    #[error("{0}")]
    Refused(String),
    /// The group exists and awaits it, or has changed since it was founded: it is taken in as one without a journal.
    #[error("the group exists and awaits this master")]
    TakenIn,
}

fn belongs(identity: &Identity, group: &Group) -> Result<Members, AssemblyError> {
    match group.members.get(identity.id) {
        Some(member) if member.node == identity.node && !group.changed => Ok(group.members.clone()),
        Some(member) if member.node == identity.node || member.is_awaited() => Err(AssemblyError::TakenIn),
        Some(member) => Err(AssemblyError::Refused(format!(
            "the group exists and has node {} on record as its master {}, this data directory is node {}: it has been lost or \
             exchanged; give the old one back, or give its place to this one with `cairn admin masters replace {}`",
            member.node, identity.id, identity.node, identity.id
        ))),
        None => Err(AssemblyError::Refused(Refusal::Unknown(identity.id).to_string())),
    }
}

/// What another member said of itself.
struct Heard {
    id: u64,
    node: NodeId,
    group: Option<Group>,
}

/// Asks until there is an answer that holds: a member that does not lead may not have heard yet that the group takes this one in.
async fn ask(env: &Env, identity: &Identity, id: u64, address: &str) -> Heard {
    let (mut backoff, mut told) = (PEER_BACKOFF_MIN, String::new());
    loop {
        match greet(env, identity, id, address, false).await {
            Ok(Greeted { node, group, .. }) => {
                let Some(group) = group else { return Heard { id, node, group: None } };
                match belongs(identity, &group) {
                    Err(AssemblyError::Refused(reason)) if !group.is_latest => {
                        let reason = format!("{reason}; its leader is asked");
                        tell(&mut told, id, address, reason);
                        if let Some(group) = leaders_word(env, identity, &group).await {
                            return Heard { id, node, group: Some(group) };
                        }
                    }
                    _ => return Heard { id, node, group: Some(group) },
                }
            }
            Err(DialError::Unreachable(reason)) => {
                debug!(member = id, address, reason, "master is not there yet")
            }
            Err(DialError::Refused(reason)) => tell(&mut told, id, address, reason),
        }
        pause(env, &mut backoff).await;
    }
}

/// The group as its leader knows it, who need not be named in the configuration of this master.
async fn leaders_word(env: &Env, identity: &Identity, group: &Group) -> Option<Group> {
    let others = group.members.iter().filter(|member| member.id != identity.id && !member.is_awaited());
    for member in others {
        let greeted = greet(env, identity, member.id, &member.address, false).await;
        if let Ok(Greeted { group: Some(group), .. }) = greeted
            && group.is_latest
        {
            return Some(group);
        }
    }
    None
}

/// Says once what is asked again and again.
fn tell(told: &mut String, member: u64, address: &str, reason: String) {
    if *told != reason {
        warn!(member, address, reason, "master refuses this one");
        *told = reason;
    }
}

/// Answers the other founders; everybody else is to come again. Returns when the socket is broken.
async fn answer_all(identity: &Identity, listener: &mut Listener) -> std::io::Error {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = conversations.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    conversations.spawn(answer(identity.clone(), stream, peer));
                }
                Err(error) => return error,
            },
        }
    }
}

async fn answer(identity: Identity, mut stream: Stream, peer: SocketAddr) {
    let first = tokio::time::timeout(HELLO_PATIENCE, first_bytes(&mut stream)).await;
    if !matches!(first, Ok(Ok(first)) if first == PEERS.magic) {
        return;
    }
    // Whoever hangs up asks again.
    if let Err(error) = converse(&identity, stream, peer).await {
        debug!(%peer, %error, "a founder hung up");
    }
}

async fn converse(identity: &Identity, stream: Stream, peer: SocketAddr) -> Result<(), ConnError> {
    let (read, write) = stream.into_split();
    let (link, mut reader) = attend::<PeerMessage>(PEERS, read, write, &format!("master at {peer}"));
    let Said::Hello(said) = next(&mut reader, HELLO_PATIENCE).await? else { return Ok(()) };
    let message = match calls(identity, &said) {
        Ok(_) => Answer::Welcome(welcome(identity, None)),
        Err(refused) => Answer::Refused(refused),
    };
    link.send_last(framed(&PeerAnswer { message: Some(message) }, Vec::new()))?;
    // It has the answer when it hangs up.
    drop(next(&mut reader, HELLO_PATIENCE).await);
    Ok(())
}
