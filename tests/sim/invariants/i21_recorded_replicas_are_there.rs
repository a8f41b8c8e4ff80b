//! I21: whoever stands in the record of a chunk that a file consists of holds a replica of it, of the version on record. (A server
//! whose disk rots or fails may have found that it does not.) And when all has been well for a while, as many stand there as the chunk is to have.

use crate::remains::{Held, Remains};
use bytes::Bytes;
use cairn_core::fsck::decode;
use cairn_core::fsck::row::{Chunk, Row};
use cairn_master::offline::Content;
use std::collections::{BTreeMap, BTreeSet};

/// What is missing from the chunk servers, against the state that the masters leave. `held`: by the server's node.
pub(crate) fn check(masters: &[Remains], held: &BTreeMap<[u8; 16], Held>) -> Vec<String> {
    let Some(master) = masters.iter().max_by_key(|master| master.applied) else { return Vec::new() };
    let (mut nodes, mut chunks, mut in_files) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    let (under_way, removed) = (chunks_in_the_tail(masters), removed_in_the_tail(masters));
    for (key, value) in master.state.iter().filter(|(key, _)| !removed.contains(*key)) {
        match decode::row(key, value) {
            Ok(Row::Server { server, node, .. }) => drop(nodes.insert(server, node.0)),
            Ok(Row::Extent { chunk, .. }) => drop(in_files.insert(chunk)),
            Ok(Row::Chunk(chunk)) => chunks.push(chunk),
            _ => {}
        }
    }
    let mut broken = Vec::new();
    let is_settled = |chunk: &&Chunk| {
        chunk.raising == chunk.version && !chunk.reconciling && !under_way.contains(&chunk.chunk)
    };
    for chunk in chunks.iter().filter(|chunk| in_files.contains(&chunk.chunk)).filter(is_settled) {
        if chunk.servers.len() < usize::from(chunk.wanted) {
            let (number, wanted) = (chunk.chunk, chunk.wanted);
            broken
                .push(format!("I21: chunk {number} stands on {:?} only, {wanted} are wanted", chunk.servers));
        }
        for server in &chunk.servers {
            let Some(held) = nodes.get(server).and_then(|node| held.get(node)) else { continue };
            let version = held.get(&chunk.chunk);
            if version != Some(&chunk.version) {
                let (number, recorded) = (chunk.chunk, chunk.version);
                broken.push(format!(
                    "I21: chunk {number} is at version {recorded} on record, server {server} holds {version:?}"
                ));
            }
        }
    }
    broken
}

/// What entries do to rows of which no disk says that they are committed: whoever led knew it, and acted on it.
fn tail(masters: &[Remains]) -> impl Iterator<Item = &(Bytes, Option<Bytes>)> {
    let tails = masters.iter().flat_map(|master| master.entries.range(master.applied + 1..));
    let rows = tails.filter_map(|(_, (_, content))| match content {
        Content::Act(entry) => Some(entry.rows.iter()),
        _ => None,
    });
    rows.flatten()
}

/// Chunks and extents of files that are gone.
fn removed_in_the_tail(masters: &[Remains]) -> BTreeSet<&Bytes> {
    tail(masters).filter(|(_, value)| value.is_none()).map(|(key, _)| key).collect()
}

/// A version of these may have begun.
fn chunks_in_the_tail(masters: &[Remains]) -> BTreeSet<u64> {
    let of_chunk = |(key, value): &(Bytes, Option<Bytes>)| match decode::row(key, value.as_ref()?) {
        Ok(Row::Chunk(chunk)) => Some(chunk.chunk),
        _ => None,
    };
    tail(masters).filter_map(of_chunk).collect()
}
