//! A founder hears of a group that exists: whose word decides whether it belongs there.

use super::Identity;
use super::assembly::{AssemblyError, assemble};
use super::attend::{next, welcome};
use cairn_core::ids::{ClusterId, NodeId};
use cairn_core::journal::members::{Member, Members};
use cairn_env::Env;
use cairn_env::net::Listener;
use cairn_env::net::first_bytes::first_bytes;
use cairn_proto::session_conn::{PEERS, attend, framed};
use cairn_proto::v1::peer_answer::Message as Answer;
use cairn_proto::v1::{PeerAnswer, PeerMessage};
use std::time::Duration;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

fn identity(id: u64) -> Identity {
    Identity {
        cluster: ClusterId(Uuid::from_u128(1)),
        node: NodeId(Uuid::from_u128(100 + u128::from(id))),
        id,
    }
}

fn group(third: Option<NodeId>) -> Members {
    let member = |id: u64, node| Member { id, node, address: format!("127.0.0.1:{id}") };
    let two = (1..=2).map(|id| member(id, identity(id).node));
    Members::new(two.chain(third.map(|node| member(3, node))).collect()).unwrap()
}

async fn listener() -> Listener {
    Env::real().net.bind("127.0.0.1:0").await.unwrap()
}

/// Greets one founder after the other as member 2 of these groups: who is in it, and whether this member leads.
async fn answer_with(mut listener: Listener, groups: Vec<(Members, bool)>) -> Listener {
    for (members, leads) in groups {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(first_bytes(&mut stream).await.unwrap(), PEERS.magic);
        let (read, write) = stream.into_split();
        let (link, mut reader) = attend::<PeerMessage>(PEERS, read, write, "a founder");
        next(&mut reader, PATIENCE).await.unwrap();
        let message = Some(Answer::Welcome(welcome(&identity(2), Some((&members, leads)))));
        link.send_last(framed(&PeerAnswer { message }, Vec::new())).unwrap();
        drop(next(&mut reader, PATIENCE).await);
    }
    listener
}

/// What master 3 makes of it.
async fn heard(groups: Vec<(Members, bool)>) -> Result<Members, AssemblyError> {
    let (mut own, other) = (listener().await, listener().await);
    let configured = [(2, other.local_addr().unwrap().to_string()), (3, "127.0.0.1:3".to_owned())];
    let answering = tokio::spawn(answer_with(other, groups));
    let assembled =
        tokio::time::timeout(PATIENCE, assemble(&Env::real(), &identity(3), &configured, &mut own))
            .await
            .unwrap();
    drop(answering.await.unwrap());
    assembled
}

#[tokio::test]
async fn a_member_that_does_not_lead_may_not_know_yet_who_was_taken_in() {
    let awaited = group(Some(NodeId(Uuid::nil())));
    for before in [group(None), group(Some(NodeId(Uuid::from_u128(7))))] {
        let outcome = heard(vec![(before.clone(), false), (before, false), (awaited.clone(), false)]).await;
        assert!(matches!(outcome, Err(AssemblyError::TakenIn)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_leader_refuses_for_good() {
    for stranger_to in [group(None), group(Some(NodeId(Uuid::from_u128(7))))] {
        let outcome = heard(vec![(stranger_to.clone(), false), (stranger_to, true)]).await;
        let Err(AssemblyError::Refused(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("cairn admin masters"), "{reason}");
    }
}

#[tokio::test]
async fn a_leader_that_is_not_configured_here_is_asked_too() {
    let (mut own, other, leader) = (listener().await, listener().await, listener().await);
    let configured = [(2, other.local_addr().unwrap().to_string()), (3, "127.0.0.1:3".to_owned())];
    let at = |id: u64, listener: &Listener| Member {
        id,
        node: identity(id).node,
        address: listener.local_addr().unwrap().to_string(),
    };
    let members = Members::new(vec![at(4, &leader), at(2, &other)]).unwrap();
    // Member 2 is named in its own list as well, and says there what it says here.
    let answering = tokio::spawn(answer_with(other, vec![(members.clone(), false); 2]));
    let leading = tokio::spawn(answer_with(leader, vec![(members, true)]));
    let (env, third) = (Env::real(), identity(3));
    let outcome = assemble(&env, &third, &configured, &mut own);
    let outcome = tokio::time::timeout(PATIENCE, outcome).await.unwrap();
    assert!(matches!(outcome, Err(AssemblyError::Refused(_))), "{outcome:?}");
    drop(leading.await.unwrap());
    answering.abort();
}
