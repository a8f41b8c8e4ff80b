//! Questions about names: lookup, `..`, pages of directories, symlinks.
//!
//! A question may read its rows while a record is being applied, so a row that another one names may be gone by the time
//! it is read: that is never damage here, but the answer that a moment later would have been given.

use super::act::{Act, require};
use super::answer::{Answer, DirectoryEntry, Map};
use super::attr::NodeKind;
use super::machine::Stop;
use super::name::Name;
use super::name_page::NamePacker;
use super::permission::{EXECUTE, READ, may};
use super::rows::inode::{InodeKey, InodeRow};
use super::rows::names::{ListedName, ListingKey, ListingRow};
use super::rows::xattr::{Blob, SymlinkKey};
use super::rows::{Key, prefix_range};
use crate::error::FsError;
use crate::ids::InodeId;
use crate::limits::{
    AHEAD_ENTRIES_MAX, AHEAD_MAPS_MAX, DIRECTORY_PAGE_BYTES_MAX, DIRECTORY_PAGE_ENTRIES_MAX,
    LOOKUP_EXTENTS_MAX,
};
use bytes::Bytes;

/// Encoded bytes of an entry with attributes beyond its name: generous, for the page's bound.
const ENTRY_BYTES: usize = 190;

pub(super) fn lookup(act: &Act<'_>, parent: InodeId, name: &Name) -> Result<Answer, Stop> {
    let (_, entry) = act.search_present(parent, name)?;
    let row = act.draft.get(&InodeKey(entry.inode))?.ok_or(FsError::NotFound)?;
    let map = match small_map(act, &row) {
        // The map is a courtesy: never worth waiting for.
        Err(Stop::NotInMemory) => None,
        other => other?,
    };
    Ok(Answer::Entry { attr: row.attr(), map })
}

/// The whole map of a file with few extents.
fn small_map(act: &Act<'_>, row: &InodeRow) -> Result<Option<Map>, Stop> {
    if row.kind != NodeKind::Regular || row.size == 0 {
        return Ok(None);
    }
    let extents = act.extents_in(row, 0, u64::MAX, LOOKUP_EXTENTS_MAX + 1)?;
    if extents.len() > LOOKUP_EXTENTS_MAX {
        return Ok(None);
    }
    act.map_of(extents, row.size).map(Some)
}

/// `..` of a directory; the root's is itself.
pub(super) fn lookup_parent(act: &Act<'_>, inode: InodeId) -> Result<Answer, Stop> {
    let row = act.directory(inode)?;
    may(act.caller, &row, EXECUTE)?;
    // A removed directory still names its parent, which may be gone as well.
    let parent = act.inode(row.parent)?;
    Ok(Answer::Entry { attr: parent.attr(), map: None })
}

pub(super) fn read_dir(
    act: &Act<'_>,
    inode: InodeId,
    after: u64,
    limit: u32,
    with_attrs: bool,
) -> Result<Answer, Stop> {
    let row = act.directory(inode)?;
    may(act.caller, &row, READ)?;
    let limit = (limit as usize).clamp(1, DIRECTORY_PAGE_ENTRIES_MAX);
    if !with_attrs {
        return names(act, inode, after, limit);
    }
    let (found, end) = listed_after(act, inode, after, limit)?;
    let attrs = rows_of(act, &found)?;
    let entries = found.into_iter().zip(attrs).map(|((key, listed), row)| entry(key, listed, row));
    Ok(Answer::Directory { entries: entries.collect(), end })
}

fn names(act: &Act<'_>, inode: InodeId, after: u64, limit: usize) -> Result<Answer, Stop> {
    let mut page = NamePacker::with_capacity(limit);
    let end = act.draft.visit::<ListingKey>(&range_after(inode, after), limit, |key, value| {
        Ok(page.add(key.cookie, &ListedName::decode(value)?))
    })?;
    Ok(Answer::Names(page.finish(end)))
}

/// A page for somebody who probably wants these names next.
pub(super) fn neighbours(
    act: &Act<'_>,
    parent: InodeId,
    after: Option<&Name>,
    limit: u32,
    with_maps: bool,
) -> Result<Answer, Stop> {
    let directory = act.directory(parent)?;
    may(act.caller, &directory, READ | EXECUTE)?;
    let after = match after {
        Some(name) => act.search_present(parent, name)?.1.cookie,
        None => 0,
    };
    let most = if with_maps { AHEAD_MAPS_MAX } else { AHEAD_ENTRIES_MAX };
    let (found, end) = listed_after(act, parent, after, limit.clamp(1, most) as usize)?;
    let rows = rows_of(act, &found)?;
    let mut entries = Vec::with_capacity(found.len());
    for ((key, listed), row) in found.into_iter().zip(rows) {
        let map = match row.as_ref().filter(|_| with_maps).map(|row| small_map(act, row)) {
            // As for a lookup.
            None | Some(Err(Stop::NotInMemory)) => None,
            Some(map) => map?.map(Box::new),
        };
        entries.push(DirectoryEntry { map, ..entry(key, listed, row) });
    }
    Ok(Answer::Directory { entries, end })
}

type Listed = (ListingKey, ListingRow);

/// What is listed after a cookie, as much as a page may hold, and whether that is all.
fn listed_after(
    act: &Act<'_>,
    inode: InodeId,
    after: u64,
    limit: usize,
) -> Result<(Vec<Listed>, bool), Stop> {
    let mut found = act.draft.scan::<ListingKey>(&range_after(inode, after), limit + 1)?;
    let fits = entries_within_page(&found).min(limit);
    let end = fits == found.len();
    found.truncate(fits);
    Ok((found, end))
}

fn range_after(inode: InodeId, after: u64) -> (Bytes, Bytes) {
    let (_, end) = prefix_range::<ListingKey>(&inode.get().to_be_bytes());
    (ListingKey { parent: inode, cookie: after.saturating_add(1) }.encode(), end)
}

fn rows_of(act: &Act<'_>, found: &[Listed]) -> Result<Vec<Option<InodeRow>>, Stop> {
    let keys: Vec<InodeKey> = found.iter().map(|(_, listed)| InodeKey(listed.inode)).collect();
    act.draft.multi_get(&keys)
}

fn entry(key: ListingKey, listed: ListingRow, row: Option<InodeRow>) -> DirectoryEntry {
    DirectoryEntry {
        name: listed.name.into_bytes(),
        inode: listed.inode,
        kind: listed.kind,
        cookie: key.cookie,
        attr: row.map(|row| Box::new(row.attr())),
        map: None,
    }
}

fn entries_within_page(found: &[Listed]) -> usize {
    let mut bytes = 0;
    let fits = found.iter().take_while(|(_, listed)| {
        bytes += ENTRY_BYTES + listed.name.as_bytes().len();
        bytes <= DIRECTORY_PAGE_BYTES_MAX
    });
    fits.count()
}

pub(super) fn read_link(act: &Act<'_>, inode: InodeId) -> Result<Answer, Stop> {
    let row = act.inode(inode)?;
    require(row.kind == NodeKind::Symlink, FsError::InvalidArgument)?;
    let target = act.draft.get(&SymlinkKey(inode))?;
    let Blob(target) = target.ok_or(FsError::Stale)?;
    Ok(Answer::Bytes(target))
}
