//! M: maps of files.

use super::{Findings, all};
use crate::ids::InodeId;
use crate::namespace::draft::Draft;
use crate::namespace::extents::{Stretch, stretches};
use crate::namespace::machine::Stop;
use crate::namespace::rows::extent::{ExtentKey, GarbageKey};
use crate::namespace::rows::inode::{InodeKey, InodeRow};
use std::collections::BTreeMap;

/// A range of a data id, and whose it is.
struct Owned {
    stretch: Stretch,
    /// The file, with the end of what may be mapped: the whole range is live.
    live: Option<(InodeId, u64)>,
    /// Bytes of it are accounted to this file.
    accounted: Option<InodeId>,
}

pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) -> Result<(), Stop> {
    let files: BTreeMap<InodeId, InodeRow> =
        all::<InodeKey>(draft)?.into_iter().map(|(key, row)| (key.0, row)).collect();
    let ranges = ranges_by_data(draft, &files)?;
    check_disjoint(&ranges, findings);
    check_extents(draft, &files, &ranges, findings)
}

fn ranges_by_data(
    draft: &Draft<'_>,
    files: &BTreeMap<InodeId, InodeRow>,
) -> Result<BTreeMap<u64, Vec<Owned>>, Stop> {
    let mut ranges: BTreeMap<u64, Vec<Owned>> = BTreeMap::new();
    for (inode, row) in files {
        for stretch in stretches(row, 0, u64::MAX) {
            let owned = Owned { stretch, live: Some((*inode, row.size)), accounted: Some(*inode) };
            ranges.entry(stretch.data).or_default().push(owned);
        }
    }
    for (key, row) in all::<GarbageKey>(draft)? {
        let stretch = Stretch { data: key.data, from: key.from, to: row.to };
        let current = files.get(&row.inode).is_some_and(|file| file.map_epoch == row.epoch);
        let accounted = Some(row.inode).filter(|_| current);
        ranges.entry(key.data).or_default().push(Owned { stretch, live: None, accounted });
    }
    for owned in ranges.values_mut() {
        owned.retain(|owned| owned.stretch.from < owned.stretch.to);
        owned.sort_by_key(|owned| owned.stretch.from);
    }
    Ok(ranges)
}

/// M1: live and garbage ranges of one data id are disjoint.
fn check_disjoint(ranges: &BTreeMap<u64, Vec<Owned>>, findings: &mut Findings) {
    for (data, owned) in ranges {
        let disjoint = owned.windows(2).all(|pair| pair[0].stretch.to <= pair[1].stretch.from);
        findings.expect(disjoint, || format!("M1 ranges of data {data} overlap"));
    }
}

/// M2: every extent begins and, when live, ends in one range; live ones never overlap and end within the file.
/// M3: mapped bytes are those of the file's extents, and of what was set aside since the map was last cut off whole.
fn check_extents(
    draft: &Draft<'_>,
    files: &BTreeMap<InodeId, InodeRow>,
    ranges: &BTreeMap<u64, Vec<Owned>>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let mut mapped: BTreeMap<InodeId, u64> = BTreeMap::new();
    let mut free_from: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, extent) in all::<ExtentKey>(draft)? {
        let end = key.offset + u64::from(extent.length);
        let holds = |owned: &&Owned| (owned.stretch.from..owned.stretch.to).contains(&key.offset);
        let Some(owned) = ranges.get(&key.data).and_then(|owned| owned.iter().find(holds)) else {
            findings.expect(false, || format!("M2 {key:?} belongs to no range"));
            continue;
        };
        findings.expect(end <= owned.stretch.to, || format!("M2 {key:?} crosses its range's end"));
        let free = free_from.insert(key.data, end).unwrap_or(0);
        findings.expect(free <= key.offset, || format!("M2 {key:?} overlaps another extent"));
        if let Some((inode, size)) = owned.live {
            findings.expect(end <= size, || format!("M2 {key:?} reaches beyond the size {size} of {inode}"));
        }
        if let Some(inode) = owned.accounted {
            *mapped.entry(inode).or_insert(0) += u64::from(extent.length);
        }
    }
    for (inode, row) in files {
        let counted = mapped.get(inode).copied().unwrap_or(0);
        findings.equal("M3", format!("mapped bytes of {inode}"), row.mapped_bytes, counted);
    }
    Ok(())
}
