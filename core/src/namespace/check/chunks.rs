//! C: chunks and their replicas.

use super::{Findings, all};
use crate::ids::{ChunkId, ServerId};
use crate::namespace::draft::Draft;
use crate::namespace::machine::Stop;
use crate::namespace::rows::chunk::{
    ChunkKey, ChunkRow, DeleteReplicaKey, ReconcileKey, ReconcileReason, RepairKey, ServerChunkKey,
};
use crate::namespace::rows::cluster::{CounterKey, NumberRow, ServerKey, ServerNodeKey};
use crate::namespace::rows::disk_drain::DiskDrainKey;
use crate::namespace::rows::extent::ExtentKey;
use crate::namespace::work;
use std::collections::{BTreeMap, BTreeSet};

type Chunks = BTreeMap<ChunkId, ChunkRow>;

pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    let chunks: Chunks = all::<ChunkKey>(draft)?.into_iter().map(|(key, row)| (key.0, row)).collect();
    check_references(draft, &chunks, findings)?;
    check_replicas(draft, &chunks, findings)?;
    check_work(draft, &chunks, findings)?;
    check_copies(draft, &chunks, findings)?;
    check_numbers(draft, &chunks, findings)?;
    check_drained_disks(draft, findings)
}

/// C1: references are the extents that name the chunk; it has an owner exactly while there are none.
fn check_references(draft: &Draft<'_>, chunks: &Chunks, findings: &mut Findings) -> Result<(), Stop> {
    let mut named: BTreeMap<ChunkId, u64> = BTreeMap::new();
    for (_, extent) in all::<ExtentKey>(draft)? {
        *named.entry(extent.chunk).or_insert(0) += 1;
    }
    for (chunk, row) in chunks {
        findings.equal(
            "C1",
            format!("references of {chunk}"),
            row.references,
            named.remove(chunk).unwrap_or(0),
        );
        let owned = row.owner.get() != 0;
        findings.equal("C1", format!("ownership of {chunk}"), owned, row.references == 0);
    }
    findings.expect(named.is_empty(), || format!("C1 extents name chunks that are not there: {named:?}"));
    Ok(())
}

/// C2: the sets are not empty, name nobody twice, and are exactly the SERVER_CHUNK rows, at the chunk's version. Nobody in
/// a set is to delete the replica.
fn check_replicas(draft: &Draft<'_>, chunks: &Chunks, findings: &mut Findings) -> Result<(), Stop> {
    let mut sets = BTreeMap::new();
    for (chunk, row) in chunks {
        let distinct: BTreeSet<ServerId> = row.servers.iter().copied().collect();
        let sound = !distinct.is_empty() && distinct.len() == row.servers.len();
        findings.expect(sound, || format!("C2 {chunk} has the set {:?}", row.servers));
        sets.extend(distinct.into_iter().map(|server| ((server, *chunk), row.version)));
    }
    let index = all::<ServerChunkKey>(draft)?;
    let indexed: BTreeMap<_, _> =
        index.into_iter().map(|(key, row)| ((key.server, key.chunk), row.0)).collect();
    for (key, _) in all::<DeleteReplicaKey>(draft)? {
        let needed = indexed.contains_key(&(key.server, key.chunk));
        findings.expect(!needed, || format!("C2 {key:?} would delete a replica that counts"));
    }
    findings.equal("C2", "replica index", indexed, sets);
    Ok(())
}

/// C3: chunks under reconciliation, or with a version begun, and no others are work to be done.
fn check_work(draft: &Draft<'_>, chunks: &Chunks, findings: &mut Findings) -> Result<(), Stop> {
    let mut work: BTreeMap<ChunkId, ReconcileReason> =
        all::<ReconcileKey>(draft)?.into_iter().map(|(key, row)| (key.0, row.reason)).collect();
    for (chunk, row) in chunks {
        findings
            .expect(row.version <= row.raising, || format!("C3 {chunk} has a version that was never begun"));
        let reason = match (row.reconciling, row.raising > row.version) {
            (true, _) => Some(ReconcileReason::Writer),
            (false, true) => Some(ReconcileReason::Raise),
            (false, false) => None,
        };
        findings.equal("C3", format!("work on {chunk}"), work.remove(chunk), reason);
    }
    findings.expect(work.is_empty(), || format!("C3 work on chunks that are not there: {work:?}"));
    Ok(())
}

/// C6: chunks whose set is not of the size that is wanted, and no others, are to be repaired.
fn check_copies(draft: &Draft<'_>, chunks: &Chunks, findings: &mut Findings) -> Result<(), Stop> {
    let marked: BTreeSet<(usize, ChunkId)> =
        all::<RepairKey>(draft)?.into_iter().map(|(key, _)| (usize::from(key.copies), key.chunk)).collect();
    let odd = chunks.iter().filter(|(_, row)| row.servers.len() != usize::from(row.wanted));
    let odd: BTreeSet<_> = odd.map(|(chunk, row)| (row.servers.len(), *chunk)).collect();
    findings.equal("C6", "chunks to be repaired", marked, odd);
    Ok(())
}

/// C7: a disk that is to be emptied is one of a chunk server that is there.
fn check_drained_disks(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    for (key, _) in all::<DiskDrainKey>(draft)? {
        let is_there = draft.has(&ServerKey(key.server))?;
        findings.expect(is_there, || format!("C7 {key:?} is a disk of no chunk server"));
    }
    Ok(())
}

/// C4: numbers in use were given by their counters; chunks are counted; each chunk server has one number.
fn check_numbers(draft: &Draft<'_>, chunks: &Chunks, findings: &mut Findings) -> Result<(), Stop> {
    let NumberRow(next) = draft.get(&CounterKey::NextChunk)?.unwrap_or(NumberRow(0));
    let highest = chunks.keys().next_back().map_or(0, |chunk| chunk.get());
    findings
        .expect(highest < next.max(1), || format!("C4 chunk {highest} is in use, the counter says {next}"));
    findings.equal("C4", "chunks", work::totals_in(draft)?.chunks, chunks.len() as u64);
    let servers = all::<ServerKey>(draft)?;
    for (key, row) in &servers {
        let number = draft.get(&ServerNodeKey(row.node))?.map(|node| node.0);
        findings.equal("C4", format!("number of {}", row.node), number, Some(key.0));
    }
    findings.equal("C4", "SERVER_NODE rows", all::<ServerNodeKey>(draft)?.len(), servers.len());
    Ok(())
}
