//! Finding the leader: each address in turn, and whomever a refusal names.

use super::Shared;
use cairn_core::ids::ClusterId;
use cairn_core::limits::{CONTROL_MESSAGE_BYTES_MAX, HELLO_ANSWER_MAX, OUTBOX_MESSAGES};
use cairn_env::net::grpc;
use cairn_proto::hello;
use cairn_proto::v1::client_message::Message;
use cairn_proto::v1::meta_client::MetaClient;
use cairn_proto::v1::{
    ClientHello, ClientMessage, MasterMessage, RefusedReason, Role, Welcome, master_message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// An attached stream.
pub(super) struct Attached {
    pub(super) address: String,
    pub(super) outbox: mpsc::Sender<ClientMessage>,
    pub(super) inbox: Streaming<MasterMessage>,
    pub(super) welcome: Welcome,
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

/// Connects to one master and says hello.
pub(super) async fn dial(shared: &Shared, address: &str) -> Result<Attached, DialError> {
    let attempt = attach(shared, address);
    match tokio::time::timeout(HELLO_ANSWER_MAX, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(DialError::Unreachable(format!("no answer within {} ms", HELLO_ANSWER_MAX.as_millis())))
        }
    }
}

async fn attach(shared: &Shared, address: &str) -> Result<Attached, DialError> {
    let unreachable = |error: &dyn std::fmt::Display| DialError::Unreachable(error.to_string());
    let channel = grpc::connect(&shared.env.net, address).await.map_err(|error| unreachable(&error))?;
    let mut client = MetaClient::new(channel)
        .max_decoding_message_size(CONTROL_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(CONTROL_MESSAGE_BYTES_MAX);
    let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
    shared.believe_nothing();
    let hello = client_hello(shared);
    outbox.try_send(ClientMessage { message: Some(Message::Hello(hello)) }).expect("the outbox is empty");
    let answer = client.session(ReceiverStream::new(messages)).await;
    let mut inbox = answer.map_err(|status| unreachable(&status.message()))?.into_inner();
    let first = inbox.message().await.map_err(|status| unreachable(&status.message()))?;
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

fn client_hello(shared: &Shared) -> ClientHello {
    let table = shared.table();
    let mut hello = hello::hello(table.cluster, shared.node, Role::Client);
    if table.cluster == ClusterId::default() {
        hello.cluster = bytes::Bytes::new();
    }
    ClientHello {
        hello: Some(hello),
        session: table.session,
        secret: table.secret.clone(),
        description: shared.options.description.clone(),
        open_inodes: table.open_inodes(),
        caches: shared.options.cache_metadata,
    }
}
