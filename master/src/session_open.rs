//! Opening, re-attaching and ending sessions.

use crate::hello;
use crate::parts::Parts;
use crate::sessions::Session;
use cairn_core::error::FsError;
use cairn_core::explain::event::Event;
use cairn_core::ids::{InodeId, SessionId};
use cairn_core::limits::{DESCRIPTION_BYTES_MAX, SESSION_OPEN_INODES_MAX, SESSION_SLOTS, SESSIONS_MAX};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_proto::hello::refused;
use cairn_proto::v1::{ClientHello, Refused, RefusedReason, Role, Welcome};
use std::sync::Arc;
use tracing::{info, warn};

/// A session and what to greet it with.
pub(crate) struct Opened {
    pub(crate) session: Arc<Session>,
    pub(crate) welcome: Welcome,
}

/// Opens a new session, or gives a living one its new connection.
///
/// # Errors
/// The refusal to send.
pub(crate) async fn open(parts: Arc<Parts>, asked: ClientHello) -> Result<Opened, Refused> {
    let peer = hello::check(&parts, asked.hello.as_ref(), Role::Client)?;
    if parts.stopping.is_cancelled() {
        let message = format!("master {} is stopping: try again shortly", parts.address);
        return Err(refused(RefusedReason::RefusedOverloaded, message));
    }
    let Some(term) = parts.term() else { return Err(not_leader(&parts)) };
    // One that was deposed without having heard of it may neither hold the client nor call its session unknown: what it
    // knows must have been the truth at this moment.
    parts.reader.led_at(parts.now()).await.map_err(|_| not_leader(&parts))?;
    let leads_still = || (parts.term() == Some(term)).then_some(()).ok_or_else(|| not_leader(&parts));
    leads_still()?;
    let session = match asked.session {
        0 => create(&parts, &asked, peer.node).await?,
        number => reattach(&parts, SessionId(number), &asked)?,
    };
    leads_still()?;
    parts.caching.attach(session.id, asked.caches, parts.now());
    let welcome = Welcome {
        cluster: parts.cluster.0.as_bytes().to_vec().into(),
        session: session.id.get(),
        secret: session.secret().to_vec().into(),
        term: term.get(),
        slots: SESSION_SLOTS,
        expiry_ms: parts.config.session_expiry_ms,
        protocol: peer.protocol,
        default_replicas: u32::from(parts.config.default_replicas),
        masters: parts.master_addresses(),
    };
    Ok(Opened { session, welcome })
}

async fn create(
    parts: &Parts,
    asked: &ClientHello,
    node: cairn_core::ids::NodeId,
) -> Result<Arc<Session>, Refused> {
    if parts.sessions.len() >= SESSIONS_MAX {
        let message =
            format!("master {} serves {SESSIONS_MAX} sessions already: unmount some", parts.address);
        return Err(refused(RefusedReason::RefusedOverloaded, message));
    }
    let mut secret = [0; 16];
    parts.env.random.fill(&mut secret);
    let description: String =
        asked.description.chars().filter(|c| !c.is_control()).take(DESCRIPTION_BYTES_MAX / 4).collect();
    let command = Internal::OpenSession { secret, node, description: description.clone() };
    let outcome = parts.sequencer.internal(command).await.map_err(|error| failed(parts, &error))?;
    let Outcome::Session(id) = outcome else {
        return Err(failed(parts, &FsError::Io(format!("opening a session came to {outcome:?}"))));
    };
    info!(session = %id, client = %description, "session opened");
    let session = parts.sessions.opened(id, secret, description, parts.now());
    session.declare(declared(asked), std::iter::empty());
    Ok(session)
}

fn reattach(parts: &Parts, id: SessionId, asked: &ClientHello) -> Result<Arc<Session>, Refused> {
    match parts.sessions.reattached(id, &asked.secret, declared(asked), parts.now()) {
        Some(session) => {
            info!(session = %id, client = %session.description, "session re-attached");
            Ok(session)
        }
        None => {
            let message = format!(
                "{id} is not known to master {} or has ended: open a new one; what it had not synced is lost",
                parts.address
            );
            Err(refused(RefusedReason::RefusedSessionUnknown, message))
        }
    }
}

fn declared(asked: &ClientHello) -> impl Iterator<Item = InodeId> + '_ {
    asked.open_inodes.iter().take(SESSION_OPEN_INODES_MAX).map(|&inode| InodeId(inode))
}

/// Ends a session at its client's wish.
pub(crate) async fn detach(parts: Arc<Parts>, session: Arc<Session>) {
    info!(session = %session.id, client = %session.description, "session detached");
    end(&parts, &session).await;
}

/// Ends a session: from the first batch on it is refused; its leases, unattached chunks and slots are released in the
/// state, batch by batch. What fails here is taken up again by the next sweep.
pub(crate) async fn end(parts: &Parts, session: &Session) {
    session.end();
    loop {
        match parts.sequencer.internal(Internal::EndSession { session: session.id }).await {
            Ok(Outcome::More(true)) => tokio::task::yield_now().await,
            Ok(_) => break,
            Err(error) => {
                warn!(session = %session.id, %error, "session could not be ended yet");
                return;
            }
        }
    }
    parts.sessions.forget(session.id);
    parts.caching.end(session.id);
    parts.nudge();
}

/// Ends every session that has been silent too long.
pub(crate) async fn expire(parts: &Parts) {
    for session in parts.sessions.overdue(parts.now()) {
        if !session.has_ended() {
            warn!(session = %session.id, client = %session.description, "session is ended: it was silent too long");
            parts.metrics.sessions_expired.inc();
            let (session, client) = (session.id, session.description.clone());
            let silent = parts.config.session_expiry();
            parts.events.note(&parts.env, Event::SessionExpired { session, client, silent });
        }
        end(parts, &session).await;
    }
}

/// Somebody else leads.
pub(crate) fn not_leader(parts: &Parts) -> Refused {
    let message = format!("master {} does not lead at present: ask the others", parts.address);
    Refused { leader: parts.leader_address(), ..refused(RefusedReason::RefusedNotLeader, message) }
}

fn failed(parts: &Parts, error: &FsError) -> Refused {
    match error {
        FsError::NotLeader => not_leader(parts),
        FsError::Overloaded => {
            let message = format!("master {} is overloaded: try again shortly", parts.address);
            refused(RefusedReason::RefusedOverloaded, message)
        }
        other => {
            let message = format!("master {} could not open a session: {other}; see its log", parts.address);
            refused(RefusedReason::RefusedOverloaded, message)
        }
    }
}
