//! What may be found in a directory after everything has died: the model that a crash test holds a real tree against.
//!
//! An acknowledged change of names is there. An operation on names that was under way is wholly there or wholly not (the
//! caller keeps both trees). Bytes that were synced are there; each block written since holds what it held when synced and
//! any of the writes to it, each wholly or not at all, one over the other in their order; and a length grown since covers only
//! bytes that were written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Writes are whole at this granularity (`docs/SEMANTICS.md`).
const BLOCK: usize = 4096;

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(FileId),
}

/// What a write did to a block.
#[derive(Clone, Debug)]
struct Written {
    /// Its own bytes, in the block.
    own: Range<usize>,
    /// The block after it and all before it.
    made: Vec<u8>,
}

/// What the bytes of a file may be.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    synced: Vec<u8>,
    latest: Vec<u8>,
    /// Of each block written since the last sync, the writes to it in their order.
    written: BTreeMap<usize, Vec<Written>>,
    /// Bytes were lost before they were synced: `latest` is not what it is to be thought of as any more.
    doubtful: bool,
}

impl Contents {
    /// A write that is about to begin, at or below the length.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.latest.resize(self.latest.len().max(end), 0);
        self.latest[offset..end].copy_from_slice(bytes);
        for block in offset / BLOCK..end.div_ceil(BLOCK) {
            let made = block_of(&self.latest, block).to_vec();
            let own = offset.saturating_sub(block * BLOCK)..(end - block * BLOCK).min(BLOCK);
            self.written.entry(block).or_default().push(Written { own, made });
        }
    }

    /// All that was written is durable.
    pub fn sync(&mut self) {
        self.synced.resize(self.latest.len(), 0);
        for (block, _) in std::mem::take(&mut self.written) {
            let (from, to) = (block * BLOCK, self.latest.len().min((block + 1) * BLOCK));
            self.synced[from..to].copy_from_slice(&self.latest[from..to]);
        }
    }

    /// A sync has said that bytes are lost: what was written since the last one may be there or not, and nothing can be
    /// told of what is written to it from now on.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Whether it is not known what a reader finds.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// What the writer reads, if that is known.
    pub fn latest(&self) -> Option<&[u8]> {
        (!self.doubtful).then_some(&self.latest)
    }

    /// Bytes, when all writes have arrived.
    pub fn length(&self) -> usize {
        self.latest.len()
    }

    /// Whether a reader may find these bytes after everybody has died.
    fn check(&self, found: &[u8]) -> Result<(), String> {
        let (least, most) = (self.synced.len(), self.latest.len());
        if !(least..=most).contains(&found.len()) {
            return Err(format!("has {} bytes, not {least} to {most}", found.len()));
        }
        for block in 0..found.len().div_ceil(BLOCK) {
            if !self.may_hold(block, block_of(found, block)) {
                return Err(format!(
                    "block {block} holds neither what was synced nor what was written since, but {}; than what was written last {}",
                    self.made_of(block, block_of(found, block)),
                    difference(found, &self.latest)
                ));
            }
        }
        Ok(())
    }
}

/// In words, by blocks, for whoever is to find out why.
pub fn difference(found: &[u8], expected: &[u8]) -> String {
    let blocks = found.len().max(expected.len()).div_ceil(BLOCK);
    let differ = (0..blocks).filter(|block| block_of(found, *block) != block_of(expected, *block));
    let differ: Vec<usize> = differ.collect();
    let are_zero =
        differ.iter().filter(|block| block_of(found, **block).iter().all(|byte| *byte == 0)).count();
    let (lengths, first) = ((found.len(), expected.len()), &differ[..differ.len().min(8)]);
    format!(
        "{} bytes for {}; {} blocks differ, {are_zero} of them are zero: {first:?}",
        lengths.0,
        lengths.1,
        differ.len()
    )
}

impl Contents {
    /// Whether a block may read so. Where writes were lost, each of them may have left what was there before, or a hole.
    fn may_hold(&self, block: usize, found: &[u8]) -> bool {
        let written = self.written.get(&block).map(Vec::as_slice).unwrap_or_default();
        let synced = block_of(&self.synced, block);
        if synced.starts_with(found) || is_made_of(synced, written, found) {
            return true;
        }
        let versions = || written.iter().map(|write| write.made.as_slice()).chain([synced]);
        let may_be =
            |(at, byte): (usize, &u8)| *byte == 0 || versions().any(|version| version.get(at) == Some(byte));
        self.doubtful && !written.is_empty() && found.iter().enumerate().all(may_be)
    }
}

/// Whether a block is what was synced with some of the writes over it: an earlier one may have gone down with a server that was
/// started again before a later one came.
fn is_made_of(synced: &[u8], written: &[Written], found: &[u8]) -> bool {
    let mut is_explained = vec![false; found.len()];
    // The last one first: what it does not explain, those before it may.
    for Written { own, made } in written.iter().rev() {
        let own = own.start.min(found.len())..own.end.min(found.len());
        let is_there = own.clone().all(|at| is_explained[at] || made.get(at) == Some(&found[at]));
        if is_there {
            is_explained[own].fill(true);
        }
    }
    let is_old = |at: usize| synced.get(at) == Some(&found[at]);
    (0..found.len()).all(|at| is_explained[at] || is_old(at))
}

impl Contents {
    /// In words: which bytes of a block are as synced (0), or as one of the writes left them (1, 2, …).
    fn made_of(&self, block: usize, found: &[u8]) -> String {
        const RUNS_SHOWN: usize = 12;
        let written = self.written.get(&block).map(Vec::as_slice).unwrap_or_default();
        let versions: Vec<&[u8]> = std::iter::once(block_of(&self.synced, block))
            .chain(written.iter().map(|write| write.made.as_slice()))
            .collect();
        let like = |at: usize| -> BTreeSet<usize> {
            let is_like = |version: &usize| versions[*version].get(at) == Some(&found[at]);
            (0..versions.len()).filter(is_like).collect()
        };
        let mut runs: Vec<(usize, usize, BTreeSet<usize>)> = Vec::new();
        for at in 0..found.len() {
            let like = like(at);
            match runs.last_mut() {
                Some((_, end, all))
                    if all.is_empty() == like.is_empty() && (like.is_empty() || !all.is_disjoint(&like)) =>
                {
                    all.retain(|version| like.contains(version));
                    *end = at + 1;
                }
                _ => runs.push((at, at + 1, like)),
            }
        }
        let shown =
            runs.iter().take(RUNS_SHOWN).map(|(from, end, like)| format!("{from}..{end} of {like:?}"));
        let own: Vec<_> = written.iter().map(|write| &write.own).collect();
        format!("of writes to {own:?}: {}", shown.collect::<Vec<_>>().join(", "))
    }
}

fn block_of(bytes: &[u8], block: usize) -> &[u8] {
    let end = bytes.len().min((block + 1) * BLOCK);
    bytes.get(block * BLOCK..end).unwrap_or_default()
}

/// Directories and files by path below the top; each act is what an acknowledged operation does.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    files: BTreeMap<FileId, Arc<Contents>>,
    next: u64,
}

impl Tree {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<FileId> {
        match self.nodes.get(name) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// What a file may hold; `None` when its last name is gone.
    pub fn contents(&mut self, file: FileId) -> Option<&mut Contents> {
        self.files.get_mut(&file).map(Arc::make_mut)
    }

    /// Whether this is a directory.
    pub fn is_directory(&self, name: &str) -> bool {
        self.nodes.get(name) == Some(&Node::Directory)
    }

    /// Whether nothing has this name.
    pub fn is_free(&self, name: &str) -> bool {
        !self.nodes.contains_key(name)
    }

    /// Whether a directory has no entries.
    pub fn is_empty(&self, directory: &str) -> bool {
        !self.nodes.keys().any(|name| within(name, directory).is_some())
    }

    /// `open` with `O_CREAT` and `O_TRUNC`.
    pub fn create(&mut self, name: &str) {
        let file = self.file(name).unwrap_or(FileId(self.next));
        self.next += 1;
        self.nodes.insert(name.to_owned(), Node::File(file));
        self.files.insert(file, Arc::default());
    }

    /// `link`, to a name that is free.
    pub fn link(&mut self, from: &str, to: &str) {
        if let Some(node) = self.nodes.get(from).copied() {
            self.nodes.insert(to.to_owned(), node);
        }
    }

    /// `mkdir`, of a name that is free.
    pub fn make_directory(&mut self, name: &str) {
        self.nodes.insert(name.to_owned(), Node::Directory);
    }

    /// `unlink`, and `rmdir` of an empty directory.
    pub fn remove(&mut self, name: &str) {
        let Some(Node::File(file)) = self.nodes.remove(name) else { return };
        if !self.nodes.values().any(|node| *node == Node::File(file)) {
            self.files.remove(&file);
        }
    }

    /// `rename`, of a file over a file or nothing, of a directory over an empty one or nothing.
    pub fn rename(&mut self, from: &str, to: &str) {
        if from == to || self.file(from).is_some_and(|file| self.file(to) == Some(file)) {
            // Two names of one file: POSIX leaves both.
            return;
        }
        self.remove(to);
        let moved: Vec<String> =
            self.nodes.keys().filter(|name| *name == from || within(name, from).is_some()).cloned().collect();
        for name in moved {
            if let Some(node) = self.nodes.remove(&name) {
                let new_name =
                    within(&name, from).map_or_else(|| to.to_owned(), |rest| format!("{to}/{rest}"));
                self.nodes.insert(new_name, node);
            }
        }
    }

    /// Of each file with bytes that were not synced it is unknown from now on what a reader finds.
    pub fn doubt_unsynced(&mut self) {
        for contents in self.files.values_mut().filter(|contents| !contents.written.is_empty()) {
            Arc::make_mut(contents).doubt();
        }
    }

    /// Holds what was found against this tree.
    ///
    /// # Errors
    /// The first thing that may not be so.
    pub fn check(&self, found: &Found) -> Result<(), String> {
        let found_names = found.files.keys().chain(&found.directories);
        if let Some(stranger) = found_names.into_iter().find(|name| self.is_free(name)) {
            return Err(format!("{stranger}: nobody made it"));
        }
        let mut inodes: BTreeMap<FileId, u64> = BTreeMap::new();
        for (name, node) in &self.nodes {
            let at = |what: String| format!("{name}: {what}");
            let Node::File(file) = node else {
                if !found.directories.contains(name) {
                    return Err(at("the directory is missing".to_owned()));
                }
                continue;
            };
            let Some(entry) = found.files.get(name) else { return Err(at("the file is missing".to_owned())) };
            self.files[file].check(&entry.bytes).map_err(at)?;
            if *inodes.entry(*file).or_insert(entry.inode) != entry.inode {
                return Err(at("is no longer the same file as under its other name".to_owned()));
            }
            let links = self.nodes.values().filter(|other| *other == node).count() as u64;
            if entry.links != links {
                return Err(at(format!("has {} links, not {links}", entry.links)));
            }
        }
        if inodes.values().collect::<BTreeSet<_>>().len() != inodes.len() {
            return Err("two files have become one".to_owned());
        }
        Ok(())
    }
}

/// What stands below `directory` in this name.
fn within<'a>(name: &'a str, directory: &str) -> Option<&'a str> {
    name.strip_prefix(directory)?.strip_prefix('/')
}

/// What is there.
#[derive(Debug, Default)]
pub struct Found {
    directories: BTreeSet<String>,
    files: BTreeMap<String, FoundFile>,
}

#[derive(Debug)]
struct FoundFile {
    inode: u64,
    links: u64,
    bytes: Vec<u8>,
}

impl Found {
    /// Reads everything below `top`.
    ///
    /// # Errors
    /// What could not be read.
    pub fn below(top: &Path) -> Result<Self, String> {
        let mut found = Self::default();
        found.read(top, "").map_err(|(path, error)| format!("{path}: {error}"))?;
        Ok(found)
    }

    fn read(&mut self, top: &Path, directory: &str) -> Result<(), (String, std::io::Error)> {
        let at = |name: &str| {
            let name = name.to_owned();
            move |error| (name, error)
        };
        for entry in fs::read_dir(top.join(directory)).map_err(at(directory))? {
            let name = entry.map_err(at(directory))?.file_name().to_string_lossy().into_owned();
            let name = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let path = top.join(&name);
            let metadata = fs::symlink_metadata(&path).map_err(at(&name))?;
            if metadata.is_dir() {
                self.read(top, &name)?;
                self.directories.insert(name);
            } else {
                let bytes = fs::read(&path).map_err(at(&name))?;
                self.files.insert(name, FoundFile { inode: metadata.ino(), links: metadata.nlink(), bytes });
            }
        }
        Ok(())
    }

    /// The tree to go on from: what was found is certain now.
    pub fn settle(self) -> Tree {
        let mut tree = Tree::default();
        for name in self.directories {
            tree.make_directory(&name);
        }
        for (name, found) in self.files {
            let file = FileId(found.inode);
            tree.next = tree.next.max(found.inode + 1);
            tree.nodes.insert(name, Node::File(file));
            let contents =
                Contents { latest: found.bytes.clone(), synced: found.bytes, ..Contents::default() };
            tree.files.insert(file, Arc::new(contents));
        }
        tree
    }
}

#[cfg(test)]
#[path = "oracle_test.rs"]
mod tests;
