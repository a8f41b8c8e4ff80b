//! N: names and inodes. The tables ordered by inode are read side by side, so that nothing but the sums of one inode is held.

use super::finding::{Findings, rules};
use super::keys::{Table, backlink};
use super::row::{DIRECTORY, Inode, Row, SYMLINK, Text};
use super::state::{Cursor, Interrupted, State};

/// The root directory.
const ROOT: u64 = 1;

pub(super) fn check(state: &State<'_>, findings: &mut Findings) -> Result<(), Interrupted> {
    let tables = [
        Table::Inode,
        Table::Orphan,
        Table::Dentry,
        Table::Listing,
        Table::Backlink,
        Table::Xattr,
        Table::Symlink,
    ];
    let mut cursors = tables.map(|table| state.table(table));
    while let Some(inode) = lowest(&mut cursors)? {
        let mut sums = Sums::default();
        for cursor in &mut cursors {
            while let Some(row) = cursor.next_if(|row| owner(row) == inode)? {
                take(state, row, &mut sums, findings)?;
            }
        }
        match &sums.row {
            Some(row) => judge(row, &sums, findings),
            None => stray(inode, &sums, findings),
        }
    }
    let root = matches!(state.get(&Table::Inode.key(ROOT))?, Some(Row::Inode(row)) if row.is_directory());
    // Before the first leader has formatted it, a state is empty.
    let formatted = state.has(&Table::Cluster.head())?;
    findings.expect(root || !formatted, rules::N5, "inode 1", "the root directory is not there");
    Ok(())
}

/// What the rows of one inode come to.
#[derive(Default)]
struct Sums {
    row: Option<Inode>,
    orphan: bool,
    /// DENTRY and LISTING rows of a directory.
    entries: u64,
    subdirectories: u64,
    listed: u64,
    /// BACKLINK rows, and the parent in the last.
    names: u64,
    parent: Option<u64>,
    xattr_bytes: u64,
    target: Option<u64>,
}

fn owner(row: &Row) -> u64 {
    match row {
        Row::Inode(row) => row.inode,
        Row::Dentry { parent, .. } | Row::Listing { parent, .. } => *parent,
        Row::Orphan { inode }
        | Row::Backlink { inode, .. }
        | Row::Xattr { inode, .. }
        | Row::Symlink { inode, .. } => *inode,
        _ => 0,
    }
}

fn lowest(cursors: &mut [Cursor<'_>]) -> Result<Option<u64>, Interrupted> {
    let mut lowest = None;
    for cursor in cursors {
        let head = cursor.peek()?.map(owner);
        lowest = lowest.into_iter().chain(head).min();
    }
    Ok(lowest)
}

fn take(state: &State<'_>, row: Row, sums: &mut Sums, findings: &mut Findings) -> Result<(), Interrupted> {
    match row {
        Row::Inode(row) => sums.row = Some(row),
        Row::Orphan { .. } => sums.orphan = true,
        Row::Dentry { parent, name, kind, inode, cookie } => {
            sums.entries += 1;
            sums.subdirectories += u64::from(kind == DIRECTORY);
            let entry = Entry { parent, name, kind, inode, cookie };
            entry.check(state, sums.row.as_ref(), findings)?;
        }
        Row::Listing { parent, cookie, kind, inode, name } => {
            sums.listed += 1;
            let agrees = matches!(
                state.get(&Table::Dentry.key_of_name(parent, &name.0))?,
                Some(Row::Dentry { kind: k, inode: i, cookie: c, .. }) if (k, i, c) == (kind, inode, cookie)
            );
            let object = format!("listing {cookie} of directory {parent}");
            findings.expect(
                agrees,
                rules::N1,
                object,
                format_args!("no DENTRY row says that {name:?} stands there"),
            );
        }
        Row::Backlink { inode, parent, name } => {
            sums.names += 1;
            sums.parent = Some(parent);
            let agrees = matches!(
                state.get(&Table::Dentry.key_of_name(parent, &name.0))?,
                Some(Row::Dentry { inode: named, .. }) if named == inode
            );
            let object = format!("backlink of inode {inode}");
            findings.expect(
                agrees,
                rules::N1,
                object,
                format_args!("no DENTRY row names it {name:?} in directory {parent}"),
            );
        }
        Row::Xattr { name, value_bytes, .. } => sums.xattr_bytes += (name.0.len() + value_bytes) as u64,
        Row::Symlink { target, .. } => sums.target = Some(target.0.len() as u64),
        _ => {}
    }
    Ok(())
}

/// A DENTRY row.
struct Entry {
    parent: u64,
    name: Text,
    kind: u8,
    inode: u64,
    cookie: u64,
}

impl Entry {
    fn check(
        &self,
        state: &State<'_>,
        parent: Option<&Inode>,
        findings: &mut Findings,
    ) -> Result<(), Interrupted> {
        let Self { name, kind, inode, cookie, .. } = self;
        let object = format!("name {name:?} in directory {}", self.parent);
        let listed = matches!(
            state.get(&Table::Listing.key_of_two(self.parent, *cookie))?,
            Some(Row::Listing { kind: k, inode: i, name: n, .. }) if (&k, &i, &n) == (kind, inode, name)
        );
        findings.expect(
            listed,
            rules::N1,
            &object,
            format_args!("it is not listed under its cookie {cookie}"),
        );
        let known = state.has(&backlink(*inode, self.parent, &name.0))?;
        findings.expect(known, rules::N1, &object, format_args!("inode {inode} has no BACKLINK row of it"));
        let living = parent.is_some_and(|parent| parent.is_directory() && parent.links > 0);
        findings.expect(living, rules::N1, &object, "it stands in no living directory");
        let given =
            parent.and_then(|parent| parent.directory).is_some_and(|(_, next)| (3..next).contains(cookie));
        findings.expect(given, rules::N1, &object, format_args!("its cookie {cookie} was never given"));
        match state.get(&Table::Inode.key(*inode))? {
            Some(Row::Inode(row)) => {
                let wrong = format!("it says kind {kind}, inode {inode} is of kind {}", row.kind);
                findings.expect(row.kind == *kind, rules::N2, &object, wrong);
            }
            _ => findings.add(rules::N2, &object, format_args!("inode {inode} is not there")),
        }
        Ok(())
    }
}

fn judge(row: &Inode, sums: &Sums, findings: &mut Findings) {
    let object = format!("inode {}", row.inode);
    let rooted = row.inode == ROOT || sums.names > 0;
    let links = match (row.is_directory(), rooted) {
        (true, true) => 2 + sums.subdirectories,
        (true, false) => 0,
        (false, _) => sums.names,
    };
    findings.equal(rules::N3, &object, "links", row.links, links);
    if row.is_directory() {
        findings.equal(rules::N3, &object, "entries", row.size, sums.entries);
        findings.expect(
            sums.names <= 1,
            rules::N5,
            &object,
            format_args!("a directory with {} names", sums.names),
        );
        if let (Some((parent, _)), Some(named)) = (row.directory, sums.parent) {
            let wrong = format!("its parent is {parent}, but directory {named} names it");
            findings.expect(parent == named, rules::N5, &object, wrong);
        }
    } else {
        let none = sums.entries + sums.listed == 0;
        findings.expect(none, rules::N1, &object, "it is no directory and has names in it");
    }
    match (rooted, sums.orphan) {
        (true, true) => findings.add(rules::N4, &object, "it has a name, and is an orphan"),
        (false, false) => findings.add(rules::N4, &object, "it has no name, and no ORPHAN row"),
        _ => {}
    }
    match (row.kind == SYMLINK, sums.target) {
        (true, Some(length)) => findings.equal(rules::N6, &object, "bytes of target", row.size, length),
        (true, None) => findings.add(rules::N6, &object, "a symlink without SYMLINK row"),
        (false, Some(_)) => findings.add(rules::N6, &object, "no symlink, and has a target"),
        (false, None) => {}
    }
    findings.equal(rules::N7, &object, "bytes of attributes", row.xattr_bytes, sums.xattr_bytes);
}

/// Rows of an inode that is not there. Names in it and of it are found from the other side as well.
fn stray(inode: u64, sums: &Sums, findings: &mut Findings) {
    let object = format!("inode {inode}");
    findings.expect(!sums.orphan, rules::N4, &object, "an ORPHAN row without inode");
    findings.expect(sums.target.is_none(), rules::N6, &object, "a SYMLINK row without inode");
    findings.expect(sums.xattr_bytes == 0, rules::N7, &object, "XATTR rows without inode");
}
