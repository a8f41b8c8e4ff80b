//! Finding the leader: all masters are asked at once, and whomever a refusal names. Only the leader welcomes.

use super::Shared;
use super::table::Table;
use cairn_core::ids::ClusterId;
use cairn_core::limits::{HELLO_ANSWER_MAX, MASTER_STRAGGLER_PATIENCE, OUTBOX_MESSAGES};
use cairn_proto::connection::{ConnError, Link};
use cairn_proto::hello;
use cairn_proto::session_conn::{self, MessageReader, SESSION, framed};
use cairn_proto::v1::client_message::Message;
use cairn_proto::v1::{
    self, ClientHello, ClientMessage, MasterMessage, RefusedReason, Role, Welcome, master_message,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An attached connection.
pub(super) struct Attached {
    pub(super) address: String,
    pub(super) outbox: Outbox,
    pub(super) inbox: MessageReader<MasterMessage>,
    pub(super) welcome: Welcome,
}

/// The sending side of a connection. Clones share it; the last one closes it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Closing>);

struct Closing(Arc<Link>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.die(ConnError::ClosedHere { peer: self.0.peer().clone() });
    }
}

impl Outbox {
    /// Queues a message; it leaves with [`Outbox::flush`]. False when there is no room, or the connection has died.
    pub(super) fn queue(&self, message: Message) -> bool {
        self.0.0.queue(framed(&ClientMessage { message: Some(message) }, Vec::new()), OUTBOX_MESSAGES)
    }

    /// Lets everything queued leave, from this very thread as far as the socket takes it.
    pub(super) fn flush(&self) {
        self.0.0.flush();
    }
}

/// Why one address did not do.
pub(super) enum DialError {
    /// Not reachable, or no answer.
    Unreachable(String),
    /// It does not lead; the leader's address when it knows.
    NotLeader(String),
    /// Our session is gone.
    SessionUnknown,
    /// It will never have us.
    Refused(String),
}

impl DialError {
    /// Which of several refusals a user is shown: a clear no before a temporary one before silence.
    fn tells_more_than(&self, other: &Self) -> bool {
        let rank = |error: &Self| match error {
            Self::Unreachable(_) => 0,
            Self::NotLeader(_) => 1,
            Self::Refused(_) => 2,
            Self::SessionUnknown => 3,
        };
        rank(self) > rank(other)
    }
}

/// Asks every master of `addresses`, and the leader that one of them names. The first welcome wins; a master that does not
/// answer holds nobody up for long once another has. An error comes with the address that gave it.
pub(super) async fn dial_any(
    shared: &Shared,
    addresses: impl IntoIterator<Item = String>,
) -> Result<Attached, (String, DialError)> {
    shared.believe_nothing();
    let dialled = |address: String| async move {
        let outcome = dial(shared, &address).await;
        (address, outcome)
    };
    let mut asked: BTreeSet<String> = addresses.into_iter().collect();
    let mut answers: FuturesUnordered<_> = asked.iter().cloned().map(dialled).collect();
    let mut refusal: Option<(String, DialError)> = None;
    loop {
        let next = match &refusal {
            Some((_, DialError::NotLeader(_) | DialError::Refused(_))) => {
                tokio::time::timeout(MASTER_STRAGGLER_PATIENCE, answers.next()).await.unwrap_or(None)
            }
            _ => answers.next().await,
        };
        match next {
            Some((_, Ok(attached))) => return Ok(attached),
            Some((address, Err(error @ DialError::SessionUnknown))) => return Err((address, error)),
            Some((address, Err(error))) => {
                if let DialError::NotLeader(leader) = &error
                    && !leader.is_empty()
                    && asked.insert(leader.clone())
                {
                    answers.push(dialled(leader.clone()));
                }
                if refusal.as_ref().is_none_or(|(_, before)| error.tells_more_than(before)) {
                    refusal = Some((address, error));
                }
            }
            None => {
                let nobody =
                    || (String::new(), DialError::Unreachable(String::from("no master is configured")));
                return Err(refusal.unwrap_or_else(nobody));
            }
        }
    }
}

/// Connects to one master and says hello.
async fn dial(shared: &Shared, address: &str) -> Result<Attached, DialError> {
    let attempt = attach(shared, address, client_hello);
    match tokio::time::timeout(HELLO_ANSWER_MAX, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(DialError::Unreachable(format!("no answer within {} ms", HELLO_ANSWER_MAX.as_millis())))
        }
    }
}

/// Connects and says hello, in words made when there is a connection.
pub(super) async fn attach(
    shared: &Shared,
    address: &str,
    hello: impl FnOnce(&Shared) -> ClientHello,
) -> Result<Attached, DialError> {
    let unreachable = |error: &dyn std::fmt::Display| DialError::Unreachable(error.to_string());
    let stream = shared.env.net.connect(address).await.map_err(|error| unreachable(&error))?;
    let (read, write) = stream.into_split();
    let begun = session_conn::begin(SESSION, read, write, &format!("master {address}"));
    let (link, mut inbox) = begun.map_err(|error| unreachable(&error))?;
    let outbox = Outbox(Arc::new(Closing(link)));
    outbox.queue(Message::Hello(hello(shared)));
    outbox.flush();
    let first: Option<MasterMessage> = inbox.next().await.map_err(|error| unreachable(&error))?;
    match first.and_then(|first| first.message) {
        Some(master_message::Message::Welcome(welcome)) => {
            Ok(Attached { address: address.to_owned(), outbox, inbox, welcome })
        }
        Some(master_message::Message::Refused(refused)) => Err(match refused.reason() {
            RefusedReason::RefusedNotLeader => DialError::NotLeader(refused.leader),
            RefusedReason::RefusedSessionUnknown => DialError::SessionUnknown,
            RefusedReason::RefusedOverloaded => DialError::Unreachable(refused.message),
            _ => DialError::Refused(refused.message),
        }),
        _ => Err(DialError::Unreachable(String::from("it ended the conversation without a word"))),
    }
}

/// Who we are.
pub(super) fn first_words(shared: &Shared, table: &Table) -> v1::Hello {
    let mut hello = hello::hello(table.cluster, shared.node, Role::Client);
    if table.cluster == ClusterId::default() {
        hello.cluster = bytes::Bytes::new();
    }
    hello
}

fn client_hello(shared: &Shared) -> ClientHello {
    let table = shared.table();
    ClientHello {
        hello: Some(first_words(shared, &table)),
        session: table.session,
        secret: table.secret.clone(),
        description: shared.options.description.clone(),
        open_inodes: table.open_inodes(),
        caches: shared.options.cache_metadata,
    }
}
