//! The connection to one other member: made, greeted, kept alive, made again.

use super::{Identity, members_of};
use crate::parts::Parts;
use cairn_core::ids::NodeId;
use cairn_core::journal::members::{Member, Members};
use cairn_core::limits::{PEER_BACKOFF_MAX, PEER_BACKOFF_MIN, PEER_DIAL_MAX, PEER_PING, PEER_SILENCE_MAX};
use cairn_env::Env;
use cairn_proto::connection::{ConnError, Link};
use cairn_proto::session_conn::{MessageReader, PEERS, begin, framed};
use cairn_proto::v1::peer_answer::Message as Answered;
use cairn_proto::v1::peer_message::Message as Said;
use cairn_proto::v1::{PeerAnswer, PeerMessage, PeerPing};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tracing::{debug, error, info};

/// Why a member cannot be talked to.
#[derive(Debug, Error)]
pub(super) enum DialError {
    /// Not reachable, or it hung up.
    #[error("{0}")]
    Unreachable(String),
    /// It does not take this master for what it says it is, or is not who it should be.
    #[error("{0}")]
    Refused(String),
}

impl From<ConnError> for DialError {
    fn from(error: ConnError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// A greeted connection.
pub(super) struct Greeted {
    link: Arc<Link>,
    reader: MessageReader<PeerAnswer>,
    /// The other's node.
    pub(super) node: NodeId,
    /// Its group, when that exists.
    pub(super) group: Option<Group>,
}

/// A founded group, as one of its members knows it.
pub(super) struct Group {
    pub(super) members: Members,
    /// It is no longer as it was founded.
    pub(super) changed: bool,
    /// Its leader says so: nobody knows later members.
    pub(super) is_latest: bool,
}

/// Keeps a connection to `member` until the master stops, or this is dropped.
pub(crate) async fn keep(parts: Arc<Parts>, identity: Identity, member: Member) {
    let mut backoff = PEER_BACKOFF_MIN;
    let mut told = String::new();
    loop {
        let ended = tokio::select! {
            () = parts.stopping.cancelled() => return,
            ended = talk(&parts, &identity, &member, &mut backoff) => ended,
        };
        let reason = ended.to_string();
        match &ended {
            _ if reason == told => debug!(member = member.id, reason, "master still cannot be reached"),
            DialError::Unreachable(_) => {
                info!(member = member.id, address = member.address, reason, "no connection to master")
            }
            DialError::Refused(_) => {
                error!(member = member.id, address = member.address, reason, "master refuses this one")
            }
        }
        told = reason;
        pause(&parts.env, &mut backoff).await;
    }
}

pub(super) async fn pause(env: &Env, backoff: &mut Duration) {
    let jitter = Duration::from_micros(env.random.below(backoff.as_micros() as u64 + 1));
    tokio::time::sleep(*backoff / 2 + jitter).await;
    *backoff = (*backoff * 2).min(PEER_BACKOFF_MAX);
}

async fn talk(parts: &Parts, identity: &Identity, member: &Member, backoff: &mut Duration) -> DialError {
    let mut greeted = match greet(&parts.env, identity, member.id, &member.address, true).await {
        Ok(greeted) => greeted,
        Err(error) => return error,
    };
    if greeted.node != member.node {
        return DialError::Refused(format!(
            "master {} at {} is node {}, on record is {}: if it has lost its data directory, it must be replaced",
            member.id, member.address, greeted.node, member.node
        ));
    }
    info!(member = member.id, address = member.address, "connected to master");
    *backoff = PEER_BACKOFF_MIN;
    let link = greeted.link.clone();
    parts.peers.connected(member.id, link.clone());
    let ended = attend_pings(&mut greeted).await;
    parts.peers.disconnected(member.id, &link);
    link.die(ended.clone());
    ended.into()
}

/// Pings until an answer stays away.
async fn attend_pings(greeted: &mut Greeted) -> ConnError {
    let mut pings = tokio::time::interval(PEER_PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let silence = tokio::time::sleep(PEER_SILENCE_MAX);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            biased;
            answer = greeted.reader.next() => match answer {
                Ok(Some(_)) => silence.as_mut().reset(tokio::time::Instant::now() + PEER_SILENCE_MAX),
                Ok(None) => return ConnError::Closed { peer: greeted.link.peer().clone() },
                Err(error) => return error,
            },
            error = greeted.link.died() => return error,
            () = &mut silence => {
                let silent_ms = PEER_SILENCE_MAX.as_millis() as u64;
                return ConnError::Silent { peer: greeted.link.peer().clone(), silent_ms };
            }
            _ = pings.tick() => {
                let ping = PeerMessage { message: Some(Said::Ping(PeerPing {})) };
                if let Err(error) = greeted.link.send(framed(&ping, Vec::new())) {
                    return error;
                }
            }
        }
    }
}

/// Connects to a master and says hello.
pub(super) async fn greet(
    env: &Env,
    identity: &Identity,
    to: u64,
    address: &str,
    founded: bool,
) -> Result<Greeted, DialError> {
    let attempt = async {
        let stream = env.net.connect(address).await;
        let stream = stream.map_err(|error| DialError::Unreachable(error.to_string()))?;
        let (read, write) = stream.into_split();
        let (link, mut reader) = begin::<PeerAnswer>(PEERS, read, write, &format!("master {address}"))?;
        link.send(framed(&identity.hello(to, founded), Vec::new()))?;
        let answer = reader.next().await?.and_then(|answer| answer.message);
        match answer {
            Some(Answered::Welcome(welcome)) => {
                let node = uuid::Uuid::from_slice(&welcome.node).map(NodeId);
                let node = node.map_err(|_| DialError::Refused(format!("master {address} names no node")))?;
                let (changed, is_latest) = (welcome.changed, welcome.leads);
                let members = welcome.founded.then(|| members_of(welcome.members)).flatten();
                let group = members.map(|members| Group { members, changed, is_latest });
                Ok(Greeted { link, reader, node, group })
            }
            Some(Answered::Refused(refused)) => Err(DialError::Refused(refused.message)),
            Some(Answered::Ping(_)) | None => {
                Err(DialError::Unreachable(format!("master {address} ended the conversation without a word")))
            }
        }
    };
    match tokio::time::timeout(PEER_DIAL_MAX, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let waited = PEER_DIAL_MAX.as_millis();
            Err(DialError::Unreachable(format!("master {address} does not answer within {waited} ms")))
        }
    }
}
