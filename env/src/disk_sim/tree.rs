//! Names of a simulated disk: the live directories, the synced ones, and the operations between them.

use crate::disk::DirItem;
use crate::disk_sim::choice::CrashChoice;
use crate::disk_sim::file::{FileNode, Usage};
use crate::disk_sim::not_found;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

type DirId = u64;
const ROOT: DirId = 0;
type Names = BTreeMap<OsString, Node>;

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Dir(DirId),
}

impl Node {
    /// Equal for equal nodes only.
    fn identity(&self) -> (bool, usize) {
        match self {
            Self::File(file) => (true, Arc::as_ptr(file).addr()),
            Self::Dir(id) => (false, *id as usize),
        }
    }
}

/// One atomic operation: names that get another meaning, and the node that it is about.
#[derive(Clone)]
struct NameChange {
    about: Node,
    meanings: Vec<(DirId, OsString, Option<Node>)>,
}

#[derive(Default)]
pub(super) struct Tree {
    live: BTreeMap<DirId, Names>,
    durable: BTreeMap<DirId, Names>,
    unsynced: Vec<NameChange>,
    last_dir: DirId,
}

/// The names of a path; whether it is absolute does not matter here.
pub(super) fn components(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}

fn give(dirs: &mut BTreeMap<DirId, Names>, (dir, name, meaning): &(DirId, OsString, Option<Node>)) {
    let names = dirs.entry(*dir).or_default();
    match meaning {
        Some(node) => names.insert(name.clone(), node.clone()),
        None => names.remove(name),
    };
}

impl Tree {
    fn walk(&self, names: &[&OsStr]) -> io::Result<Option<Node>> {
        let mut node = Node::Dir(ROOT);
        for name in names {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            match self.live.get(&dir).and_then(|names| names.get(*name)) {
                Some(next) => node = next.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Option<Node>> {
        self.walk(&components(path)?)
    }

    fn dir(&self, path: &Path) -> io::Result<DirId> {
        match self.find(path)? {
            Some(Node::Dir(id)) => Ok(id),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    /// The directory that holds, or would hold, the last name of a path.
    fn place(&self, path: &Path) -> io::Result<(DirId, OsString)> {
        let names = components(path)?;
        let (last, parents) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        match self.walk(parents)? {
            Some(Node::Dir(id)) => Ok((id, (*last).to_owned())),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found(path)),
        }
    }

    fn change(&mut self, about: Node, meanings: Vec<(DirId, OsString, Option<Node>)>) {
        for meaning in &meanings {
            give(&mut self.live, meaning);
        }
        self.unsynced.push(NameChange { about, meanings });
    }

    pub(super) fn insert(&mut self, path: &Path, node: Node) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.change(node.clone(), vec![(dir, name, Some(node))]);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        self.last_dir += 1;
        self.insert(path, Node::Dir(self.last_dir))
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?.ok_or_else(|| not_found(path))?;
        let (dir, name) = self.place(path)?;
        self.change(node, vec![(dir, name, None)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?.ok_or_else(|| not_found(from))?;
        let (old, new) = (self.place(from)?, self.place(to)?);
        if old == new {
            return Ok(());
        }
        match (&node, self.find(to)?) {
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(id)))
                if self.live.get(&id).is_some_and(|names| !names.is_empty()) =>
            {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.change(node.clone(), vec![(old.0, old.1, None), (new.0, new.1, Some(node))]);
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        let dir = self.dir(path)?;
        let names = self.live.get(&dir).into_iter().flatten();
        Ok(names
            .map(|(name, node)| DirItem { name: name.clone(), is_dir: matches!(node, Node::Dir(_)) })
            .collect())
    }

    /// Makes durable every operation that touches the directory, and what came before on the same nodes.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let mut nodes = BTreeSet::new();
        let mut synced = vec![false; self.unsynced.len()];
        for (index, change) in self.unsynced.iter().enumerate().rev() {
            let touches = change.meanings.iter().any(|(touched, ..)| *touched == dir);
            if touches || nodes.contains(&change.about.identity()) {
                nodes.insert(change.about.identity());
                synced[index] = true;
            }
        }
        // A name whose later meaning is durable must not fall back to an earlier one by a later sync.
        let mut settled = BTreeSet::new();
        let mut kept = Vec::new();
        let mut applied = Vec::new();
        for (mut change, is_synced) in std::mem::take(&mut self.unsynced).into_iter().zip(synced).rev() {
            if is_synced {
                for (dir, name, _) in &change.meanings {
                    settled.insert((*dir, name.clone()));
                }
                applied.push(change);
            } else {
                change.meanings.retain(|(dir, name, _)| !settled.contains(&(*dir, name.clone())));
                kept.push(change);
            }
        }
        for meaning in applied.iter().rev().flat_map(|change| &change.meanings) {
            give(&mut self.durable, meaning);
        }
        self.unsynced = kept.into_iter().rev().collect();
        Ok(())
    }

    /// The tree after a power cut; only what can be reached from the root is copied.
    pub(super) fn crash_image(&self, choice: &mut dyn CrashChoice, usage: &Arc<Usage>) -> Self {
        let mut left = self.durable.clone();
        let mut lost = BTreeSet::new();
        choice.begin_part();
        for change in &self.unsynced {
            let node = change.about.identity();
            if choice.state(1) == 0 || lost.contains(&node) {
                lost.insert(node);
                continue;
            }
            for meaning in &change.meanings {
                give(&mut left, meaning);
            }
        }
        let mut copies =
            Copies { of: BTreeMap::new(), copy: |file: &FileNode| file.crash_image(choice, usage) };
        let mut dirs = BTreeMap::new();
        let mut waiting = vec![ROOT];
        while let Some(dir) = waiting.pop() {
            let names = copies.names(left.get(&dir).into_iter().flatten());
            waiting.extend(names.values().filter_map(|node| match node {
                Node::Dir(id) => Some(*id),
                Node::File(_) => None,
            }));
            dirs.insert(dir, names);
        }
        drop(copies);
        Self { live: dirs.clone(), durable: dirs, unsynced: Vec::new(), last_dir: self.last_dir }
    }

    pub(super) fn fork(&self, usage: &Arc<Usage>) -> Self {
        let mut copies = Copies { of: BTreeMap::new(), copy: |file: &FileNode| file.fork(usage) };
        let live = self.live.iter().map(|(id, names)| (*id, copies.names(names))).collect();
        let durable = self.durable.iter().map(|(id, names)| (*id, copies.names(names))).collect();
        let unsynced = self
            .unsynced
            .iter()
            .map(|change| NameChange {
                about: copies.node(&change.about),
                meanings: change
                    .meanings
                    .iter()
                    .map(|(dir, name, node)| {
                        (*dir, name.clone(), node.as_ref().map(|node| copies.node(node)))
                    })
                    .collect(),
            })
            .collect();
        Self { live, durable, unsynced, last_dir: self.last_dir }
    }
}

/// Copies each file once, however many names lead to it.
struct Copies<F> {
    of: BTreeMap<usize, Arc<FileNode>>,
    copy: F,
}

impl<F: FnMut(&FileNode) -> FileNode> Copies<F> {
    fn node(&mut self, node: &Node) -> Node {
        match node {
            Node::Dir(id) => Node::Dir(*id),
            Node::File(file) => {
                let copy =
                    self.of.entry(Arc::as_ptr(file).addr()).or_insert_with(|| Arc::new((self.copy)(file)));
                Node::File(copy.clone())
            }
        }
    }

    fn names<'a>(&mut self, names: impl IntoIterator<Item = (&'a OsString, &'a Node)>) -> Names {
        names.into_iter().map(|(name, node)| (name.clone(), self.node(node))).collect()
    }
}
