//! Where the chunks of a file, or of every file below a directory, are: what `admin chunks` shows, page by page.
//!
//! The state of each replica is asked of its server at this moment; who does not answer is unreachable.

use crate::link::Link;
use crate::parts::Parts;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, InodeId, ServerId, SessionId, Term};
use cairn_core::limits::{
    ADMIN_LISTS_IN_FLIGHT_MAX, ADMIN_PLACEMENTS_PER_PAGE, DIRECTORY_PAGE_ENTRIES_MAX, LIST_PATIENCE,
    PATH_BYTES_MAX,
};
use cairn_core::namespace::answer::{Answer, ChunkLocation};
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, Extent, Query, QueryKind};
use cairn_proto::v1::{ChunkPlacement, ChunksReply, HeldReplica, ReplicaPlacement, ReplicaState};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

type Pages = mpsc::Sender<Result<ChunksReply, Status>>;

/// Sends the placement of everything at and below `path`.
///
/// # Errors
/// The path does not exist, or this master does not lead.
pub(crate) async fn send(parts: &Arc<Parts>, path: &Bytes, pages: &Pages) -> Result<(), FsError> {
    let (inode, kind, path) = walk(parts, path).await?;
    let mut page = Page { parts, pages, placements: Vec::new(), locations: BTreeMap::new() };
    match kind {
        NodeKind::Regular => page.add_file(inode, &path).await?,
        NodeKind::Directory => page.add_tree(inode, path).await?,
        _ => {}
    }
    page.flush().await
}

/// Inode, kind and clean path of what `path` names.
pub(crate) async fn walk(parts: &Parts, path: &Bytes) -> Result<(InodeId, NodeKind, Vec<u8>), FsError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    let (mut inode, mut kind, mut clean) = (InodeId::ROOT, NodeKind::Directory, Vec::new());
    for component in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(Bytes::copy_from_slice(component))?;
        let Answer::Entry { attr, .. } = ask(parts, QueryKind::Lookup { parent: inode, name }).await? else {
            return Err(FsError::NotFound);
        };
        (inode, kind) = (attr.inode, attr.kind);
        clean.push(b'/');
        clean.extend_from_slice(component);
    }
    Ok((inode, kind, clean))
}

/// Asks as root, who may see everything.
pub(crate) async fn ask(parts: &Parts, kind: QueryKind) -> Result<Answer, FsError> {
    parts.reader.query(SessionId(0), &Query { credentials: Credentials::default(), kind }).await
}

/// A page being filled.
struct Page<'a> {
    parts: &'a Arc<Parts>,
    pages: &'a Pages,
    placements: Vec<ChunkPlacement>,
    locations: BTreeMap<ChunkId, ChunkLocation>,
}

impl Page<'_> {
    /// Depth first; one directory page of each level is held at a time.
    async fn add_tree(&mut self, root: InodeId, path: Vec<u8>) -> Result<(), FsError> {
        let mut open = vec![(root, path, 0)];
        while let Some((inode, path, after)) = open.pop() {
            let limit = DIRECTORY_PAGE_ENTRIES_MAX as u32;
            let question = QueryKind::ReadDir { inode, after, limit, with_attrs: false };
            let (entries, end) = match ask(self.parts, question).await {
                Ok(Answer::Names(page)) => (
                    page.entries().map_err(|_| FsError::Io("a page of names makes no sense".to_owned()))?,
                    page.end,
                ),
                // Removed while we walk.
                Err(FsError::NotFound | FsError::NotDirectory | FsError::Stale) => continue,
                Err(error) => return Err(error),
                Ok(_) => return Err(FsError::Io("unexpected answer to a directory listing".to_owned())),
            };
            if let (false, Some(last)) = (end, entries.last()) {
                open.push((inode, path.clone(), last.cookie));
            }
            for entry in entries {
                let child = [&path[..], b"/", &entry.name[..]].concat();
                match entry.kind {
                    NodeKind::Directory => open.push((entry.inode, child, 0)),
                    NodeKind::Regular => self.add_file(entry.inode, &child).await?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn add_file(&mut self, inode: InodeId, path: &[u8]) -> Result<(), FsError> {
        let size = match ask(self.parts, QueryKind::GetAttr { inode }).await {
            Ok(Answer::Attr(Attr { size, .. })) => size,
            Err(FsError::NotFound | FsError::Stale) => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => return Err(FsError::Io("unexpected answer to a question for attributes".to_owned())),
        };
        let (mut offset, mut index) = (0, 0);
        while offset < size {
            let question = QueryKind::Map { inode, offset, length: size - offset };
            let map = match ask(self.parts, question).await {
                Ok(Answer::Map(map)) => map,
                Err(FsError::NotFound | FsError::Stale) => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => return Err(FsError::Io("unexpected answer to a question for a map".to_owned())),
            };
            self.locations.extend(map.chunks.into_iter().map(|location| (location.chunk, location)));
            for extent in map.extents.iter().filter(|extent| extent.offset >= offset || offset == 0) {
                self.placements.push(placement(path, index, extent));
                index += 1;
            }
            if self.placements.len() >= ADMIN_PLACEMENTS_PER_PAGE {
                self.flush().await?;
            }
            if map.complete_to <= offset {
                break;
            }
            offset = map.complete_to;
        }
        Ok(())
    }

    /// Asks the servers what they hold, and sends the page.
    async fn flush(&mut self) -> Result<(), FsError> {
        let term = self.parts.term().ok_or(FsError::NotLeader)?;
        let mut chunks = std::mem::take(&mut self.placements);
        let locations = std::mem::take(&mut self.locations);
        let held = held_replicas(self.parts, term, &locations).await;
        for placement in &mut chunks {
            let Some(location) = locations.get(&ChunkId(placement.chunk)) else { continue };
            placement.version = location.version.get();
            placement.replicas = location
                .replicas
                .iter()
                .map(|replica| replica_placement(location, replica.server, &held))
                .collect();
        }
        if chunks.is_empty() {
            return Ok(());
        }
        self.pages.send(Ok(ChunksReply { chunks })).await.map_err(|_| FsError::Stale)
    }
}

fn placement(path: &[u8], index: u64, extent: &Extent) -> ChunkPlacement {
    ChunkPlacement {
        path: Bytes::copy_from_slice(path),
        index,
        offset: extent.offset,
        length: extent.length,
        chunk: extent.chunk.get(),
        version: 0,
        replicas: Vec::new(),
    }
}

/// What each server said of each chunk: `None` when it did not answer.
type Held = BTreeMap<(ServerId, ChunkId), Option<HeldReplica>>;

/// Asks every server for what it holds of the page's chunks: by one range when they stand close together, as those of one
/// tree do, else one by one.
async fn held_replicas(parts: &Parts, term: Term, locations: &BTreeMap<ChunkId, ChunkLocation>) -> Held {
    let mut wanted: BTreeMap<ServerId, BTreeSet<ChunkId>> = BTreeMap::new();
    for location in locations.values() {
        for replica in &location.replicas {
            wanted.entry(replica.server).or_default().insert(location.chunk);
        }
    }
    let mut questions: Vec<(Arc<Link>, (ChunkId, ChunkId))> = Vec::new();
    for (server, chunks) in &wanted {
        let (Some(link), Some(&first), Some(&last)) =
            (parts.servers.link(*server), chunks.first(), chunks.last())
        else {
            continue;
        };
        if last.get() - first.get() <= chunks.len() as u64 * 16 {
            questions.push((link, (first, last)));
        } else {
            questions.extend(chunks.iter().map(|&chunk| (link.clone(), (chunk, chunk))));
        }
    }
    let answers = futures::stream::iter(questions).map(|(link, range)| async move {
        let list = link.list(term, range, LIST_PATIENCE).await;
        (link.server, range, list)
    });
    let answers: Vec<_> = answers.buffer_unordered(ADMIN_LISTS_IN_FLIGHT_MAX).collect().await;
    let mut held = Held::new();
    for (server, (first, last), list) in answers {
        let Ok(list) = list else { continue };
        for chunk in wanted.get(&server).into_iter().flat_map(|chunks| chunks.range(first..=last)) {
            held.insert((server, *chunk), None);
        }
        for replica in list {
            let key = (server, ChunkId(replica.chunk));
            if let Some(known) = held.get_mut(&key)
                && known.as_ref().is_none_or(|known| known.version < replica.version)
            {
                *known = Some(replica);
            }
        }
    }
    held
}

fn replica_placement(location: &ChunkLocation, server: ServerId, held: &Held) -> ReplicaPlacement {
    let bare = |state: &str| ReplicaPlacement {
        server: server.get(),
        disk: Bytes::new(),
        version: 0,
        state: state.to_owned(),
    };
    match held.get(&(server, location.chunk)) {
        None => bare("unreachable"),
        Some(None) => bare("missing"),
        Some(Some(replica)) => {
            let state = match replica.state() {
                ReplicaState::ReplicaCorrupt => "corrupt",
                _ if replica.version < location.version.get() => "stale",
                _ => "current",
            };
            ReplicaPlacement { disk: replica.disk.clone(), version: replica.version, ..bare(state) }
        }
    }
}
