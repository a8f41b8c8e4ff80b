//! M: maps of files.
//!
//! A file whose map is the default one stands under a data id that is its own number, beside its inode in the order of keys: its
//! extents are summed up as they come. Only pieces of other maps, garbage, and the files that they belong to are held.

use super::counters::below;
use super::finding::{Findings, rules};
use super::keys::Table;
use super::row::{Inode, Row};
use super::state::{Cursor, Interrupted, State};
use std::collections::BTreeMap;

/// A range of a data id, and whose it is.
#[derive(Clone, Copy)]
struct Range {
    from: u64,
    to: u64,
    /// The file whose live map it is, and its size.
    live: Option<(u64, u64)>,
    /// The file that accounts for its bytes.
    accounted: Option<u64>,
}

/// What is held: ranges by data id, and the files that they are accounted to with stored and counted bytes.
#[derive(Default)]
struct Held {
    ranges: BTreeMap<u64, Vec<Range>>,
    files: BTreeMap<u64, (u64, u64)>,
}

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let mut held = pieces(state, findings)?;
    garbage(state, &mut held)?;
    for (data, ranges) in &mut held.ranges {
        ranges.retain(|range| range.from < range.to);
        ranges.sort_by_key(|range| range.from);
        let disjoint = ranges.windows(2).all(|pair| pair[0].to <= pair[1].from);
        findings.expect(disjoint, rules::M1, format_args!("data {data}"), "its ranges overlap");
    }
    let mut extents = state.table(Table::Extent);
    let mut inodes = state.table(Table::Inode);
    while let Some(row) = inodes.next()? {
        let Row::Inode(row) = row else { continue };
        strangers(state, &mut extents, Some(row.inode), &mut held, findings)?;
        if held.files.contains_key(&row.inode) || held.ranges.contains_key(&row.inode) {
            continue;
        }
        let whole =
            Range { from: 0, to: u64::MAX, live: Some((row.inode, row.size)), accounted: Some(row.inode) };
        let sums = group(state, &mut extents, row.inode, &[whole], findings)?;
        let counted = sums.get(&row.inode).copied().unwrap_or(0);
        mapped(row.inode, row.mapped_bytes, counted, findings);
    }
    strangers(state, &mut extents, None, &mut held, findings)?;
    for (inode, (stored, counted)) in held.files {
        mapped(inode, stored, counted, findings);
    }
    Ok(())
}

fn mapped(inode: u64, stored: u64, counted: u64, findings: &mut Findings) {
    findings.equal(rules::M5, format_args!("inode {inode}"), "mapped bytes", stored, counted);
}

/// Files with a map of their own.
fn pieces(state: &State<'_>, findings: &mut Findings) -> Result<Held, Interrupted> {
    let mut held = Held::default();
    let mut inodes = state.table(Table::Inode);
    while let Some(row) = inodes.next()? {
        let Row::Inode(row) = row else { continue };
        if !row.pieces.is_empty() {
            for (_, data) in &row.pieces {
                below(state, 1, "data", *data, findings)?;
            }
            held.file(&row);
        }
    }
    let numbers: Vec<u64> = held.ranges.keys().copied().collect();
    for number in numbers {
        // A data id that is another file's number: both are judged together.
        if let Some(Row::Inode(row)) = state.get(&Table::Inode.key(number))? {
            held.file(&row);
        }
    }
    Ok(held)
}

impl Held {
    fn file(&mut self, row: &Inode) {
        if self.files.insert(row.inode, (row.mapped_bytes, 0)).is_some() {
            return;
        }
        for (from, to, data) in row.ranges() {
            let (live, accounted) = (Some((row.inode, row.size)), Some(row.inode));
            self.ranges.entry(data).or_default().push(Range { from, to, live, accounted });
        }
    }
}

/// Ranges cut off: they are accounted to their file until its whole map is cut off once more.
fn garbage(state: &State<'_>, held: &mut Held) -> Result<(), Interrupted> {
    let mut rows = state.table(Table::Garbage);
    while let Some(row) = rows.next()? {
        let Row::Garbage { data, from, to, inode, epoch } = row else { continue };
        let mut accounted = None;
        // The data id may as well be the number of another file: its live map would overlap.
        for number in [data, inode] {
            if let Some(Row::Inode(row)) = state.get(&Table::Inode.key(number))? {
                if number == inode && row.map_epoch == epoch {
                    accounted = Some(inode);
                }
                held.file(&row);
            }
        }
        held.ranges.entry(data).or_default().push(Range { from, to, live: None, accounted });
    }
    Ok(())
}

/// Extents of data ids below `end`, or of all that are left, that are no file's number, or a held one.
fn strangers(
    state: &State<'_>,
    extents: &mut Cursor<'_>,
    end: Option<u64>,
    held: &mut Held,
    findings: &mut Findings,
) -> Result<(), Interrupted> {
    while let Some(Row::Extent { data, .. }) = extents.peek()? {
        let data = *data;
        let is_held = held.files.contains_key(&data) || held.ranges.contains_key(&data);
        if end.is_some_and(|end| data > end || (data == end && !is_held)) {
            break;
        }
        let ranges = held.ranges.get(&data).map_or(&[][..], |ranges| ranges);
        for (inode, bytes) in group(state, extents, data, ranges, findings)? {
            if let Some((_, counted)) = held.files.get_mut(&inode) {
                *counted += bytes;
            }
        }
    }
    Ok(())
}

/// All extents of one data id against its ranges; bytes by the file that accounts for them.
fn group(
    state: &State<'_>,
    extents: &mut Cursor<'_>,
    wanted: u64,
    ranges: &[Range],
    findings: &mut Findings,
) -> Result<BTreeMap<u64, u64>, Interrupted> {
    let mut sums = BTreeMap::new();
    let mut free_from = 0;
    let mut last_chunk = None;
    while let Some(Row::Extent { data, offset, chunk, length, .. }) =
        extents.next_if(|row| matches!(row, Row::Extent { data, .. } if *data == wanted))?
    {
        let object = format!("extent of data {data} at {offset}");
        let end = offset + u64::from(length);
        findings.expect(free_from <= offset, rules::M3, &object, "it overlaps the one before");
        free_from = end;
        if last_chunk != Some(chunk) {
            let there = state.has(&Table::Chunk.key(chunk))?;
            findings.expect(there, rules::M4, &object, format_args!("chunk {chunk} is not there"));
            last_chunk = Some(chunk);
        }
        // A file that was often truncated has many; they are in order, and disjoint or reported.
        let begun = ranges.partition_point(|range| range.from <= offset);
        let Some(range) = ranges[..begun].iter().rev().find(|range| offset < range.to) else {
            findings.add(rules::M2, &object, "it belongs to no file");
            continue;
        };
        findings.expect(end <= range.to, rules::M2, &object, "it crosses the end of its range");
        if let Some((inode, size)) = range.live {
            let wrong = format!("it ends at {end}, beyond the size {size} of inode {inode}");
            findings.expect(end <= size, rules::M2, &object, wrong);
        }
        if let Some(inode) = range.accounted {
            *sums.entry(inode).or_insert(0) += u64::from(length);
        }
    }
    Ok(sums)
}
