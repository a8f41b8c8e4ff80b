//! What one worker knows of its directory: what was acknowledged, and what was under way when it died.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::oracle::{FileId, Found, Tree};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations acknowledged to all ledgers of this process.
pub static ALL_ACKNOWLEDGED: AtomicU64 = AtomicU64::new(0);

/// What one worker knows of its directory: what was acknowledged, and the one change of names that was under way when
/// everything died.
#[derive(Default)]
pub struct Ledger {
    /// What is there, but for what is under way.
    pub tree: Tree,
    under_way: Option<(&'static str, Tree)>,
    /// The last thing that was begun.
    pub doing: &'static str,
    /// How often what was acknowledged.
    pub acknowledged: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Counts one more.
    pub fn acknowledge(&mut self, what: &'static str) {
        *self.acknowledged.entry(what).or_default() += 1;
        ALL_ACKNOWLEDGED.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one operation on names: `change` is what it does when it succeeds.
    ///
    /// # Errors
    /// The operation's.
    pub fn names<T>(
        &mut self,
        what: &'static str,
        change: impl FnOnce(&mut Tree),
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.doing = what;
        let mut after = self.tree.clone();
        change(&mut after);
        self.under_way = Some((what, after));
        let done = act()?;
        self.tree = self.under_way.take().unwrap().1;
        self.acknowledge(what);
        Ok(done)
    }

    /// Makes durable what was written to a file.
    ///
    /// # Errors
    /// The sync's.
    pub fn sync(&mut self, what: &'static str, id: FileId, file: &File) -> io::Result<()> {
        self.doing = what;
        file.sync_all()?;
        // Its names may be gone, and then nobody can look.
        if let Some(contents) = self.tree.contents(id) {
            contents.sync();
        }
        self.acknowledge(what);
        Ok(())
    }

    /// Holds what is there against what was acknowledged, and goes on from what is there. Only when nobody can still be
    /// taken for its writer: bytes that were not synced may come and go until then.
    pub fn check(&mut self, directory: &Path) {
        let found =
            Found::below(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        self.agree(directory, &found);
        self.tree = found.settle();
    }

    /// As `check`, of what was found there; goes on from what was acknowledged. Files with bytes that were not synced are left
    /// alone from now on: their writer may still be taken for alive. It alone knew which of them its servers had lost before.
    pub fn check_and_doubt(&mut self, directory: &Path, found: &Found) {
        self.tree.doubt_unsynced();
        if let Some((_, after)) = &mut self.under_way {
            after.doubt_unsynced();
        }
        self.agree(directory, found);
    }

    /// Holds what was found against what was acknowledged, without and with what was under way.
    fn agree(&mut self, directory: &Path, found: &Found) {
        let Err(not_before) = self.tree.check(found) else {
            self.under_way = None;
            return;
        };
        let directory = directory.display();
        let Some((what, after)) = self.under_way.take() else {
            panic!("{directory}: not as acknowledged: {not_before}; nothing was under way");
        };
        if let Err(why) = after.check(found) {
            panic!(
                "{directory}: not as acknowledged: {not_before}; nor as after {what}, which was under way: {why}"
            );
        }
        self.tree = after;
    }
}
