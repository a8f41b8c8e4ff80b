//! C: chunks and their replicas.

use super::finding::{Findings, rules};
use super::keys::{Table, repair};
use super::row::{Chunk, Id, Row};
use super::state::{Interrupted, State};
use crate::limits::FSCK_CHUNKS_COUNTED;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    references(state, findings)?;
    let mut chunks = state.table(Table::Chunk);
    while let Some(row) = chunks.next()? {
        if let Row::Chunk(chunk) = row {
            replicas(state, &chunk, findings)?;
            work(state, &chunk, findings)?;
            copies(state, &chunk, findings)?;
        }
    }
    index(state, findings)?;
    deletions(state, findings)?;
    strays(state, findings)?;
    repairs(state, findings)?;
    servers(state, findings)?;
    drained_disks(state, findings)
}

/// C1, for so many chunks at a time that their counts fit: all extents are read once for each.
fn references(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut chunks = state.table(Table::Chunk);
    loop {
        let mut counts: BTreeMap<u64, (u64, bool, u64)> = BTreeMap::new();
        while counts.len() < FSCK_CHUNKS_COUNTED {
            let Some(row) = chunks.next()? else { break };
            if let Row::Chunk(row) = row {
                counts.insert(row.chunk, (row.references, row.owner != 0, 0));
            }
        }
        if counts.is_empty() {
            return Ok(());
        }
        let mut extents = state.table(Table::Extent);
        while let Some(row) = extents.next()? {
            if let Row::Extent { chunk, .. } = row
                && let Some((_, _, counted)) = counts.get_mut(&chunk)
            {
                *counted += 1;
            }
        }
        for (chunk, (stored, owned, counted)) in counts {
            let object = format!("chunk {chunk}");
            findings.equal(rules::C1, &object, "references", stored, counted);
            match (owned, counted) {
                (true, 1..) => findings.add(rules::C1, &object, "a session owns it, and a file has it"),
                (false, 0) => findings.add(rules::C1, &object, "no file has it, and no session"),
                _ => {}
            }
        }
    }
}

/// C2: the set, against the index and the registered servers.
fn replicas(state: &State<'_>, row: &Chunk, findings: &mut Findings) -> Result<(), Interrupted> {
    let object = format!("chunk {}", row.chunk);
    let distinct: BTreeSet<u32> = row.servers.iter().copied().collect();
    findings.expect(!distinct.is_empty(), rules::C2, &object, "nobody holds it");
    let twice = distinct.len() < row.servers.len();
    findings.expect(
        !twice,
        rules::C2,
        &object,
        format_args!("its set names a server twice: {:?}", row.servers),
    );
    for server in distinct {
        let known = state.has(&Table::Server.key_of_server(server))?;
        findings.expect(known, rules::C2, &object, format_args!("chunk server {server} is not registered"));
        match state.get(&Table::ServerChunk.key_of_replica(server, row.chunk))? {
            Some(Row::ServerChunk { version, .. }) => {
                let wrong =
                    format!("version {}, but {version} in the index of chunk server {server}", row.version);
                findings.expect(version == row.version, rules::C2, &object, wrong);
            }
            _ => findings.add(
                rules::C2,
                &object,
                format_args!("it is not in the index of chunk server {server}"),
            ),
        }
    }
    Ok(())
}

/// C4 from the chunk's side.
fn work(state: &State<'_>, row: &Chunk, findings: &mut Findings) -> Result<(), Interrupted> {
    let object = format!("chunk {}", row.chunk);
    let begun = row.version <= row.raising;
    findings.expect(begun, rules::C4, &object, format_args!("version {} was never begun", row.version));
    let wanted = match (row.reconciling, row.raising > row.version) {
        (true, _) => 1_u8,
        (false, true) => 2,
        (false, false) => 0,
    };
    let stored = match state.get(&Table::Reconcile.key(row.chunk))? {
        Some(Row::Reconcile { reason, .. }) => reason,
        _ => 0,
    };
    findings.equal(rules::C4, &object, "reason to reconcile", stored, wanted);
    Ok(())
}

/// C6 from the chunk's side.
fn copies(state: &State<'_>, row: &Chunk, findings: &mut Findings) -> Result<(), Interrupted> {
    let (has, wanted) = (row.servers.len(), usize::from(row.wanted));
    let marked = state.has(&repair(has as u8, row.chunk))?;
    let object = format!("chunk {}", row.chunk);
    findings.equal(rules::C6, &object, "mark for repair", marked, has != wanted);
    Ok(())
}

/// C6 from the marks' side.
fn repairs(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::Repair);
    while let Some(row) = rows.next()? {
        let Row::Repair { copies, chunk, .. } = row else { continue };
        let agrees = matches!(
            state.get(&Table::Chunk.key(chunk))?,
            Some(Row::Chunk(row)) if row.servers.len() == usize::from(copies) && copies != row.wanted
        );
        let wrong = format!("it is marked as having {copies} replicas, and has not");
        findings.expect(agrees, rules::C6, format_args!("chunk {chunk}"), wrong);
    }
    Ok(())
}

/// C2 from the index's side.
fn index(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::ServerChunk);
    while let Some(row) = rows.next()? {
        let Row::ServerChunk { server, chunk, .. } = row else { continue };
        let there = matches!(
            state.get(&Table::Chunk.key(chunk))?,
            Some(Row::Chunk(row)) if row.servers.contains(&server)
        );
        let object = format!("chunk {chunk}");
        let wrong = format!("in the index of chunk server {server}, but not in the chunk's set");
        findings.expect(there, rules::C2, object, wrong);
    }
    Ok(())
}

fn deletions(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::DeleteReplica);
    while let Some(row) = rows.next()? {
        let Row::DeleteReplica { server, chunk, .. } = row else { continue };
        let needed = state.has(&Table::ServerChunk.key_of_replica(server, chunk))?;
        let wrong = format!("its replica on chunk server {server} is to be deleted, and counts");
        findings.expect(!needed, rules::C3, format_args!("chunk {chunk}"), wrong);
    }
    Ok(())
}

/// C4 from the side of the work.
fn strays(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::Reconcile);
    while let Some(row) = rows.next()? {
        let Row::Reconcile { chunk, .. } = row else { continue };
        let there = state.has(&Table::Chunk.key(chunk))?;
        findings.expect(
            there,
            rules::C4,
            format_args!("chunk {chunk}"),
            "it is to be reconciled, and is not there",
        );
    }
    Ok(())
}

/// C7.
fn drained_disks(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::DiskDrain);
    while let Some(row) = rows.next()? {
        let Row::DiskDrain { server, disk, .. } = row else { continue };
        let is_there = state.has(&Table::Server.key_of_server(server))?;
        let wrong = format!("it is on record as one of chunk server {server}, which is not there");
        findings.expect(is_there, rules::C7, format_args!("disk {disk:?}"), wrong);
    }
    Ok(())
}

/// C5, both ways.
fn servers(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let node_key = |node: Id| [&Table::ServerNode.head()[..], &node.0].concat();
    let mut rows = state.table(Table::Server);
    while let Some(row) = rows.next()? {
        let Row::Server { server, node, .. } = row else { continue };
        let found = state.get(&node_key(node))?;
        let agrees = matches!(found, Some(Row::ServerNode { server: number, .. }) if number == server);
        let wrong = format!("its node {node:?} does not lead to it");
        findings.expect(agrees, rules::C5, format_args!("chunk server {server}"), wrong);
    }
    let mut rows = state.table(Table::ServerNode);
    while let Some(row) = rows.next()? {
        let Row::ServerNode { node, server } = row else { continue };
        let found = state.get(&Table::Server.key_of_server(server))?;
        let agrees = matches!(found, Some(Row::Server { node: stored, .. }) if stored == node);
        let wrong = format!("node {node:?} leads to it, and is not its own");
        findings.expect(agrees, rules::C5, format_args!("chunk server {server}"), wrong);
    }
    Ok(())
}
