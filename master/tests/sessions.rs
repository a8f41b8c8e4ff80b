//! Sessions, operations, retries and leases over real streams to a master in this process.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::request::{OperationKind, QueryKind};
use cairn_proto::v1::client_message::Message as Asked;
use cairn_proto::v1::master_message::Message as Told;
use cairn_proto::v1::{Declare, Detach, LeaseReturned, RefusedReason, Renew};
use std::time::Duration;
use support::{Client, FakeServer, Running, config, eventually, name};

fn lookup(text: &str) -> QueryKind {
    QueryKind::Lookup { parent: InodeId::ROOT, name: name(text) }
}

fn unlink(text: &str) -> OperationKind {
    OperationKind::Unlink { parent: InodeId::ROOT, name: name(text) }
}

fn mkdir(text: &str) -> OperationKind {
    OperationKind::Mkdir { parent: InodeId::ROOT, name: name(text), mode: 0o755 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_is_found_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let cluster = master.cluster;
    let mut client = Client::open(&master).await;
    let (inode, _) = client.create("a").await;
    assert_eq!(client.operate(mkdir("a")).await, Err(FsError::Exists));
    master.stop().await;

    let master = Running::start(config(&dir)).await;
    assert_eq!(master.cluster, cluster);
    let mut client = Client::open(&master).await;
    let Answer::Entry { attr, .. } = client.ask(lookup("a")).await.unwrap() else { panic!("an entry") };
    assert_eq!(attr.inode, inode);
    assert_eq!(client.ask(lookup("b")).await, Err(FsError::NotFound));
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_first_answer_also_after_reattaching() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let first = client.operate_at(5, 1, mkdir("d")).await.unwrap();
    assert_eq!(client.operate_at(5, 1, mkdir("d")).await.unwrap(), first);
    let (session, secret) = (client.session, client.secret.clone());
    drop(client);
    let mut client = Client::hello(&master, session, secret.clone()).await.map_err(|_| "refused").unwrap();
    assert_eq!(client.session, session);
    assert_eq!(client.operate_at(5, 1, mkdir("d")).await.unwrap(), first);
    assert_eq!(client.operate_at(5, 2, mkdir("d")).await, Err(FsError::Exists));

    let Err(Told::Refused(refused)) = Client::hello(&master, session, vec![0; 16]).await else {
        panic!("refused")
    };
    assert_eq!(refused.reason(), RefusedReason::RefusedSessionUnknown);
    master.stop().await;

    let master = Running::start(config(&dir)).await;
    let mut client = Client::hello(&master, session, secret).await.map_err(|_| "refused").unwrap();
    assert_eq!(client.operate_at(5, 1, mkdir("d")).await.unwrap(), first, "the answer is in the state");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_out_of_range_and_odd_messages_are_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    assert_eq!(client.operate_at(u32::MAX, 1, mkdir("d")).await, Err(FsError::InvalidArgument));
    let empty = cairn_proto::v1::QueryRequest { id: 99, query: None };
    client.send(Asked::Query(empty)).await;
    let refused = client.wait_for(|told| match told {
        Told::Reply(reply) if reply.id == 99 => Some(()),
        _ => None,
    });
    assert!(refused.await.is_some());
    client.send(Asked::Renew(Renew { sent_at_ns: 42, ..Renew::default() })).await;
    let renewed = client.wait_for(|told| match told {
        Told::Renewed(renewed) => Some(renewed.sent_at_ns),
        _ => None,
    });
    assert_eq!(renewed.await, Some(42));
    assert!(client.operate(mkdir("d")).await.is_ok());
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_operations_in_flight_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let mut ids = Vec::new();
    for round in 1..=20 {
        for slot in 0..64 {
            ids.push(client.start(slot, round, mkdir(&format!("{slot}-{round}"))).await);
        }
        while let Some(id) = ids.pop() {
            let done = client.wait_for(|told| match told {
                Told::Reply(reply) if reply.id == id => Some(reply.clone()),
                _ => None,
            });
            let reply = done.await.unwrap();
            assert!(matches!(reply.outcome, Some(cairn_proto::v1::reply::Outcome::Answer(_))), "{reply:?}");
        }
    }
    let Answer::Attr(root) = client.ask(QueryKind::GetAttr { inode: InodeId::ROOT }).await.unwrap() else {
        panic!("attributes")
    };
    assert_eq!(root.links, 2 + 64 * 20);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_ends_and_what_it_held_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(cairn_master::MasterConfig { session_expiry_ms: 1000, ..config(&dir) }).await;
    let servers = [FakeServer::join(&master, 1).await, FakeServer::join(&master, 2).await];
    let mut silent = Client::open(&master).await;
    let (inode, _) = silent.create("f").await;
    let location = silent.allocate(inode).await.unwrap();
    for server in &servers {
        server.held.lock().unwrap().insert(location.chunk, location.version);
    }
    let mut other = Client::open(&master).await;
    let wanted = OperationKind::LeaseFile { inode, chunks: Vec::new() };
    assert_eq!(other.operate(wanted.clone()).await, Err(FsError::LeaseHeld));
    let mut granted = Err(FsError::LeaseHeld);
    for _ in 0..100 {
        granted = other.operate(wanted.clone()).await;
        if granted.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(granted, Ok(Answer::Leased { .. })), "{granted:?}");
    let ended = silent.wait_for(|told| matches!(told, Told::SessionEnded(_)).then_some(()));
    assert!(ended.await.is_some());
    // Its unattached chunk is deleted where it was stored.
    for server in &servers {
        eventually("the deletion", || server.held.lock().unwrap().is_empty()).await;
    }
    let (session, secret) = (silent.session, silent.secret.clone());
    let Err(Told::Refused(refused)) = Client::hello(&master, session, secret).await else {
        panic!("refused")
    };
    assert_eq!(refused.reason(), RefusedReason::RefusedSessionUnknown);
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_recalls_the_lease_once_and_its_return_lets_the_other_in() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut holder = Client::open(&master).await;
    let mut other = Client::open(&master).await;
    let (inode, lease) = holder.create("f").await;
    let wanted = OperationKind::LeaseFile { inode, chunks: Vec::new() };
    assert_eq!(other.operate(wanted.clone()).await, Err(FsError::LeaseHeld));
    assert_eq!(other.operate(wanted.clone()).await, Err(FsError::LeaseHeld));
    let shrink = AttrChanges { size: Some(0), ..AttrChanges::default() };
    let truncate = OperationKind::SetAttr { inode, changes: shrink, via_handle: true };
    assert_eq!(other.operate(truncate).await, Err(FsError::LeaseHeld));
    let recalled = holder.wait_for(|told| match told {
        Told::Recall(recall) => Some((recall.inode, recall.lease)),
        _ => None,
    });
    assert_eq!(recalled.await, Some((inode.get(), lease.get())));
    // A second recall would have come before this answer.
    holder.ask(QueryKind::GetAttr { inode }).await.unwrap();
    let commit = OperationKind::Commit {
        inode,
        lease,
        extents: Vec::new(),
        length: 0,
        modified: false,
        release: true,
        changes: AttrChanges::default(),
    };
    holder.operate(commit).await.unwrap();
    holder.send(Asked::LeaseReturned(LeaseReturned { inode: inode.get(), lease: lease.get() })).await;
    assert!(matches!(other.operate(wanted.clone()).await, Ok(Answer::Leased { .. })));

    // And the other way round: the holder only says that it has nothing.
    assert_eq!(holder.operate(wanted.clone()).await, Err(FsError::LeaseHeld));
    let lease = other.wait_for(|told| match told {
        Told::Recall(recall) => Some(recall.lease),
        _ => None,
    });
    let lease = lease.await.unwrap();
    other.send(Asked::LeaseReturned(LeaseReturned { inode: inode.get(), lease })).await;
    let mut granted = holder.operate(wanted.clone()).await;
    for _ in 0..100 {
        if granted.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        granted = holder.operate(wanted.clone()).await;
    }
    assert!(granted.is_ok(), "{granted:?}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_file_lives_while_it_is_declared_open() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let (inode, _) = client.create("f").await;
    let declare = |opened, closed| Asked::Declare(Declare { opened, closed });
    client.send(declare(vec![inode.get()], Vec::new())).await;
    client.operate(unlink("f")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.send(Asked::Renew(Renew::default())).await;
    let found = client.ask(QueryKind::GetAttr { inode }).await;
    assert!(matches!(&found, Ok(Answer::Attr(attr)) if attr.links == 0), "{found:?}");
    client.send(declare(Vec::new(), vec![inode.get()])).await;
    let mut gone = client.ask(QueryKind::GetAttr { inode }).await;
    for _ in 0..100 {
        if gone.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        gone = client.ask(QueryKind::GetAttr { inode }).await;
    }
    assert!(matches!(gone, Err(FsError::NotFound | FsError::Stale)), "{gone:?}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn detaching_ends_the_session_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let (inode, _) = client.create("f").await;
    client.send(Asked::Detach(Detach {})).await;
    assert!(client.wait_for(|told| matches!(told, Told::SessionEnded(_)).then_some(())).await.is_some());
    let mut other = Client::open(&master).await;
    let leased = other.operate(OperationKind::LeaseFile { inode, chunks: Vec::new() }).await;
    assert!(leased.is_ok(), "{leased:?}");
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_restart_ends_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let master = Running::start(config(&dir)).await;
    let mut client = Client::open(&master).await;
    let (inode, lease) = client.create("f").await;
    let (session, secret) = (client.session, client.secret.clone());
    let (last_word, ()) = tokio::join!(
        client.wait_for(|told| match told {
            Told::Refused(refused) => Some(refused.reason()),
            Told::SessionEnded(_) => panic!("the session is to live on"),
            _ => None,
        }),
        master.stop()
    );
    assert_eq!(last_word, Some(cairn_proto::v1::RefusedReason::RefusedNotLeader));

    let master = Running::start(config(&dir)).await;
    let mut again = Client::hello(&master, session, secret).await.unwrap_or_else(|told| panic!("{told:?}"));
    assert_eq!(again.session, session);
    let held = again.operate_at(1, 1, OperationKind::LeaseFile { inode, chunks: Vec::new() }).await;
    assert!(matches!(held, Ok(Answer::Leased { lease: still, .. }) if still == lease), "{held:?}");
    master.stop().await;
}
