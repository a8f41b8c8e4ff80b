//! What `admin why` is answered: the facts about one file as this leader knows them, and what follows from them.

use crate::parts::Parts;
use crate::placement_pages::{ask, walk};
use crate::policies;
use crate::sessions::Session;
use bytes::Bytes;
use cairn_core::cluster::{ClusterView, ServerHealth};
use cairn_core::error::FsError;
use cairn_core::explain::why::{ChunkFact, Facts, LeaseFact, ReplicaFact, Unconfirmed, Wait, judge};
use cairn_core::ids::{ChunkId, InodeId, ServerId, SessionId};
use cairn_core::limits::{WHY_CHUNKS_MAX, WHY_OPENS_MAX};
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::namespace::request::QueryKind;
use cairn_core::namespace::work::{
    ChunkRecord, LeaseRecord, chunks_named, lease_of, reconciling_since, unattached,
};
use cairn_core::time::{Tick, Timestamp};
use cairn_core::units::CHUNK_BYTES;
use cairn_proto::v1::{WhyReply, WhySession, WhyWait};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What operations on the file of this path wait for.
///
/// # Errors
/// The path does not exist, or this master does not lead.
pub(crate) async fn answer(parts: &Parts, path: &Bytes) -> Result<WhyReply, FsError> {
    parts.term().ok_or(FsError::NotLeader)?;
    let inode = match inode_named(path) {
        Some(inode) => inode,
        None => walk(parts, path).await?.0,
    };
    let Answer::Attr(attr) = ask(parts, QueryKind::GetAttr { inode }).await? else {
        return Err(FsError::Io("unexpected answer to a question for attributes".to_owned()));
    };
    let lease = parts.reader.read(move |rows| lease_of(rows, inode)).await?;
    let (chunks, more_chunks) = chunks(parts, &attr, lease).await?;
    let now = parts.now();
    let policies = policies::current(parts).await?;
    let minimum = policies.0.get(&attr.policy).map_or(1, |policy| usize::from(policy.minimum));
    let facts = facts(parts, (&attr, minimum), lease, chunks, now);
    let verdict = judge(&facts);
    let whole = |chunk: &&ChunkFact| {
        let is_good = |replica: &&ReplicaFact| replica.health.is_reachable() && replica.fault.is_none();
        chunk.replicas.iter().filter(is_good).count() >= chunk.wanted
    };
    let opens = parts.sessions.with_open(inode, WHY_OPENS_MAX);
    let mut notes = verdict.notes;
    if attr.links == 0 {
        notes.push("it has no name any more: it is reclaimed when nobody has it open".to_owned());
    }
    Ok(WhyReply {
        inode: inode.get(),
        kind: kind_name(attr.kind).to_owned(),
        size: attr.size,
        links: attr.links,
        lease: lease.map(|lease| lease_holder(parts, lease.session, now)),
        opens: opens.iter().map(|session| of_session(session, now)).collect(),
        chunks: facts.chunks.len() as u64,
        chunks_whole: facts.chunks.iter().filter(whole).count() as u64,
        more_chunks,
        waits: verdict.waits.into_iter().map(wait).collect(),
        notes,
    })
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Regular => "file",
        NodeKind::Directory => "directory",
        _ => "other",
    }
}

/// `inode-7`, as events and logs name files.
fn inode_named(path: &[u8]) -> Option<InodeId> {
    let number = std::str::from_utf8(path).ok()?.strip_prefix("inode-")?;
    number.parse().ok().map(InodeId)
}

fn facts(
    parts: &Parts,
    (attr, minimum): (&Attr, usize),
    lease: Option<LeaseRecord>,
    chunks: Vec<ChunkFact>,
    now: Tick,
) -> Facts {
    let view = parts.servers.view(now);
    let usable = view
        .servers
        .values()
        .filter(|server| server.health == ServerHealth::Alive && server.free_bytes >= CHUNK_BYTES);
    let needed = match attr.kind {
        NodeKind::Regular => minimum,
        _ => 0,
    };
    let owed = parts.caching.owed(attr.inode).into_iter();
    let unconfirmed = owed.map(|(session, since, until)| Unconfirmed {
        session,
        client: client(parts, session),
        since: now.since(since),
        left: until.since(now),
    });
    Facts {
        lease: lease.map(|lease| lease_fact(parts, attr.inode, lease, now)),
        unconfirmed: unconfirmed.collect(),
        inherited: parts.caching.inherited_until(now).map(|until| until.since(now)),
        chunks,
        usable: usable.count(),
        needed,
        dead_after: parts.config.server_dead(),
    }
}

fn client(parts: &Parts, session: SessionId) -> String {
    parts.sessions.get(session).map_or("unknown".to_owned(), |session| session.description.clone())
}

fn lease_fact(parts: &Parts, inode: InodeId, lease: LeaseRecord, now: Tick) -> LeaseFact {
    let recall = parts.recalls.of(inode).filter(|recall| recall.lease == lease);
    let holder = parts.sessions.get(lease.session).filter(|session| !session.has_ended());
    LeaseFact {
        session: lease.session,
        client: client(parts, lease.session),
        silent: holder.map(|session| session.silent(now)),
        recalled: recall.as_ref().map(|recall| now.since(recall.since)),
        wanted_by: recall.map(|recall| recall.wanted_by).unwrap_or_default(),
    }
}

/// The chunks of the file that its map names, and those that the holder of its lease has begun and not recorded. Whether there are
/// more than were looked at.
async fn chunks(
    parts: &Parts,
    attr: &Attr,
    lease: Option<LeaseRecord>,
) -> Result<(Vec<ChunkFact>, bool), FsError> {
    let (mut named, mut offset) = (BTreeSet::new(), 0);
    while attr.kind == NodeKind::Regular && offset < attr.size && named.len() <= WHY_CHUNKS_MAX {
        let question = QueryKind::Map { inode: attr.inode, offset, length: attr.size - offset };
        let Answer::Map(map) = ask(parts, question).await? else {
            return Err(FsError::Io("unexpected answer to a question for a map".to_owned()));
        };
        named.extend(map.chunks.iter().map(|location| location.chunk));
        if map.complete_to <= offset {
            break;
        }
        offset = map.complete_to;
    }
    if let Some(lease) = lease {
        let begun = parts.reader.read(move |rows| unattached(rows, lease.session, WHY_CHUNKS_MAX)).await?;
        named.extend(begun);
    }
    let more = named.len() > WHY_CHUNKS_MAX;
    let ids: Vec<ChunkId> = named.into_iter().take(WHY_CHUNKS_MAX).collect();
    let (named, asked) = (ids.clone(), ids);
    let records = parts.reader.read(move |rows| chunks_named(rows, &named)).await?;
    let since = parts.reader.read(move |rows| reconciling_since(rows, &asked)).await?;
    let since: BTreeMap<ChunkId, Timestamp> = since.into_iter().collect();
    let records = records.into_iter().filter(|record| record.inode == attr.inode || record.owner.is_none());
    Ok((chunk_facts(parts, records, &since), more))
}

fn chunk_facts(
    parts: &Parts,
    records: impl Iterator<Item = ChunkRecord>,
    since: &BTreeMap<ChunkId, Timestamp>,
) -> Vec<ChunkFact> {
    let (now, wall) = (parts.now(), parts.env.clock.wall());
    let view = parts.servers.view(now);
    let silent: BTreeMap<ServerId, Option<Duration>> =
        parts.servers.reports(now).into_iter().map(|report| (report.server, report.silent)).collect();
    let fact = |record: ChunkRecord| ChunkFact {
        chunk: record.chunk,
        minimum: usize::from(record.minimum),
        wanted: usize::from(record.wanted),
        replicas: replicas(parts, &record, &view, &silent),
        reconciling: record.reconciling.then(|| age(since.get(&record.chunk).copied(), wall)),
        raising: record.raising != record.version,
        repairing: parts.repairs.since(record.chunk).map(|since| now.since(since)),
    };
    records.map(fact).collect()
}

fn replicas(
    parts: &Parts,
    record: &ChunkRecord,
    view: &ClusterView,
    silent: &BTreeMap<ServerId, Option<Duration>>,
) -> Vec<ReplicaFact> {
    let replica = |&server: &ServerId| ReplicaFact {
        server,
        health: view.health(server),
        silent: silent.get(&server).copied().flatten(),
        fault: parts.damage.of(server, record.chunk).map(|fault| fault.name()),
    };
    record.servers.iter().map(replica).collect()
}

fn age(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let seconds = since.map_or(0, |since| now.seconds.saturating_sub(since.seconds));
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn lease_holder(parts: &Parts, session: SessionId, now: Tick) -> WhySession {
    match parts.sessions.get(session) {
        Some(session) => of_session(&session, now),
        None => WhySession { session: session.get(), client: String::new(), silent_ms: u64::MAX },
    }
}

fn of_session(session: &Session, now: Tick) -> WhySession {
    WhySession {
        session: session.id.get(),
        client: session.description.clone(),
        silent_ms: session.silent(now).as_millis() as u64,
    }
}

fn wait(wait: Wait) -> WhyWait {
    WhyWait {
        operations: wait.operations.to_owned(),
        waits_for: wait.waits_for,
        since_ms: wait.since.map_or(u64::MAX, |since| since.as_millis() as u64),
        then: wait.then,
        next: wait.next,
    }
}
