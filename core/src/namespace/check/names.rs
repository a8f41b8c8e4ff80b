//! N: names and inodes.

use super::{Findings, all};
use crate::ids::InodeId;
use crate::namespace::attr::NodeKind;
use crate::namespace::draft::Draft;
use crate::namespace::machine::Stop;
use crate::namespace::rows::cluster::{CounterKey, NumberRow};
use crate::namespace::rows::inode::{FIRST_COOKIE, InodeKey, InodeRow, OrphanKey};
use crate::namespace::rows::names::{BacklinkKey, DentryKey, ListingKey};
use crate::namespace::rows::xattr::{Blob, SymlinkKey, XattrKey};
use crate::namespace::work;
use std::collections::{BTreeMap, BTreeSet};

type Inodes = BTreeMap<InodeId, InodeRow>;

pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    let inodes: Inodes = all::<InodeKey>(draft)?.into_iter().map(|(key, row)| (key.0, row)).collect();
    check_names(draft, &inodes, findings)?;
    check_links(draft, &inodes, findings)?;
    check_parents(draft, &inodes, findings)?;
    check_attributes(draft, &inodes, findings)?;
    check_counters(draft, &inodes, findings)
}

/// N1: a name has its three rows, which agree, in a living directory, and leads to an inode of that kind.
fn check_names(draft: &Draft<'_>, inodes: &Inodes, findings: &mut Findings) -> Result<(), Stop> {
    let dentries = all::<DentryKey>(draft)?;
    for (key, entry) in &dentries {
        let listed = draft.get(&ListingKey { parent: key.parent, cookie: entry.cookie })?;
        let agrees = listed.is_some_and(|listed| {
            listed.name == key.name && listed.inode == entry.inode && listed.kind == entry.kind
        });
        findings.expect(agrees, || format!("N1 {:?} is not listed under its cookie", key));
        let backlink = BacklinkKey { inode: entry.inode, parent: key.parent, name: key.name.clone() };
        findings.expect(draft.has(&backlink)?, || format!("N1 {:?} has no backlink", key));
        let kind = inodes.get(&entry.inode).map(|row| row.kind);
        findings.equal("N1", format!("kind of {key:?}"), Some(entry.kind), kind);
        let parent = inodes.get(&key.parent);
        let living = parent.is_some_and(|parent| parent.is_directory() && parent.links > 0);
        findings.expect(living, || format!("N1 {key:?} stands in no living directory"));
        let counted = parent.is_some_and(|parent| (FIRST_COOKIE..parent.next_cookie).contains(&entry.cookie));
        findings.expect(counted, || format!("N1 {key:?} has a cookie that was never given"));
    }
    findings.equal("N1", "LISTING rows", all::<ListingKey>(draft)?.len(), dentries.len());
    findings.equal("N1", "BACKLINK rows", all::<BacklinkKey>(draft)?.len(), dentries.len());
    Ok(())
}

/// N2: link counts and entry counts are what the names say. N3: orphans are exactly the inodes without links.
fn check_links(draft: &Draft<'_>, inodes: &Inodes, findings: &mut Findings) -> Result<(), Stop> {
    let (mut named, mut entries, mut subdirectories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (key, entry) in all::<DentryKey>(draft)? {
        *named.entry(entry.inode).or_insert(0) += 1;
        *entries.entry(key.parent).or_insert(0) += 1;
        if entry.kind == NodeKind::Directory {
            *subdirectories.entry(key.parent).or_insert(0) += 1;
        }
    }
    let orphans: BTreeSet<InodeId> = all::<OrphanKey>(draft)?.into_iter().map(|(key, _)| key.0).collect();
    for (inode, row) in inodes {
        let names: u32 = named.get(inode).copied().unwrap_or(0);
        let rooted = *inode == InodeId::ROOT || names > 0;
        let links = match row.kind {
            NodeKind::Directory if rooted => 2 + subdirectories.get(inode).copied().unwrap_or(0),
            NodeKind::Directory => 0,
            _ => names,
        };
        findings.equal("N2", format!("links of {inode}"), row.links, links);
        if row.is_directory() {
            let counted: u64 = entries.get(inode).copied().unwrap_or(0);
            findings.equal("N2", format!("entries of {inode}"), row.size, counted);
            findings.expect(names <= 1, || format!("N2 directory {inode} has {names} names"));
        }
        findings.equal("N3", format!("orphanhood of {inode}"), orphans.contains(inode), row.links == 0);
    }
    let stray = orphans.iter().find(|orphan| !inodes.contains_key(orphan));
    findings.expect(stray.is_none(), || format!("N3 {stray:?} is an orphan without an inode"));
    Ok(())
}

/// N4: the parent that a named directory knows is the one that names it, and parents lead to the root.
fn check_parents(draft: &Draft<'_>, inodes: &Inodes, findings: &mut Findings) -> Result<(), Stop> {
    for (key, _) in all::<BacklinkKey>(draft)? {
        if let Some(row) = inodes.get(&key.inode).filter(|row| row.is_directory()) {
            findings.equal("N4", format!("parent of {}", key.inode), row.parent, key.parent);
        }
    }
    let mut rooted = BTreeSet::from([InodeId::ROOT]);
    for (inode, _) in inodes.iter().filter(|(_, row)| row.is_directory() && row.links > 0) {
        let mut walked = BTreeSet::new();
        let mut at = *inode;
        while !rooted.contains(&at) && walked.insert(at) {
            at = inodes.get(&at).map_or(at, |row| row.parent);
        }
        let arrives = rooted.contains(&at);
        findings.expect(arrives, || format!("N4 the parents of {inode} lead to {at}, not to the root"));
        if arrives {
            rooted.append(&mut walked);
        }
    }
    Ok(())
}

/// N5: symlinks and nothing else have targets, as long as their size; the bytes of attributes are counted.
fn check_attributes(draft: &Draft<'_>, inodes: &Inodes, findings: &mut Findings) -> Result<(), Stop> {
    let mut targets: BTreeMap<InodeId, u64> = BTreeMap::new();
    for (key, Blob(target)) in all::<SymlinkKey>(draft)? {
        targets.insert(key.0, target.len() as u64);
    }
    let mut bytes: BTreeMap<InodeId, u32> = BTreeMap::new();
    for (key, Blob(value)) in all::<XattrKey>(draft)? {
        *bytes.entry(key.inode).or_insert(0) += (key.name.len() + value.len()) as u32;
    }
    for (inode, row) in inodes {
        let target = if row.kind == NodeKind::Symlink { Some(row.size) } else { None };
        findings.equal("N5", format!("target of {inode}"), target, targets.remove(inode));
        findings.equal(
            "N5",
            format!("attribute bytes of {inode}"),
            row.xattr_bytes,
            bytes.remove(inode).unwrap_or(0),
        );
    }
    findings.expect(targets.is_empty(), || format!("N5 targets without symlinks: {targets:?}"));
    findings.expect(bytes.is_empty(), || format!("N5 attributes without inodes: {bytes:?}"));
    Ok(())
}

/// N6: every number in use was given by the counter, and inodes are counted.
fn check_counters(draft: &Draft<'_>, inodes: &Inodes, findings: &mut Findings) -> Result<(), Stop> {
    let NumberRow(next) = draft.get(&CounterKey::NextInode)?.unwrap_or(NumberRow(0));
    let numbers =
        inodes.values().flat_map(|row| row.pieces.iter().map(|piece| piece.data).chain([row.inode.get()]));
    let highest = numbers.max().unwrap_or(0);
    findings.expect(highest < next, || format!("N6 number {highest} is in use, the counter says {next}"));
    findings.equal("N6", "inodes", work::totals_in(draft)?.inodes, inodes.len() as u64);
    Ok(())
}
