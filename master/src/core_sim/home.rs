//! A client's own directory: nobody else changes it, so the client knows exactly what must be in it (I1, I15).

use super::client::{HOME_SLOT, Purpose};
use super::world::World;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::{AttrChanges, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{OperationKind, QueryKind, RenameMode};
use std::collections::BTreeMap;

/// Names of a home, at most.
const NAMES: u64 = 8;

/// Something that was made in a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) inode: InodeId,
    pub(super) is_directory: bool,
    /// Last length that was set.
    pub(super) size: u64,
}

/// A directory and what must be in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Home {
    pub(super) inode: Option<InodeId>,
    pub(super) names: BTreeMap<Bytes, Made>,
    /// Counts what it was given.
    made: u64,
    /// What was asked last and never answered: it may have come true, or not.
    pub(super) doubt: Option<OperationKind>,
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes().to_vec()).unwrap()
}

fn attr_inode(answer: &Answer) -> Option<InodeId> {
    match answer {
        Answer::Entry { attr, .. } | Answer::Created { attr, .. } => Some(attr.inode),
        _ => None,
    }
}

impl Home {
    /// Whether it takes more names.
    fn has_room(&self) -> bool {
        (self.names.len() as u64) < NAMES
    }

    /// What an operation makes of it; `inode` is that of what it made, if that is known.
    pub(super) fn apply(&mut self, kind: &OperationKind, inode: Option<InodeId>) {
        let new = inode.unwrap_or(InodeId(0));
        match kind {
            OperationKind::Create { name, .. } => {
                self.names.insert(name.to_bytes(), Made { inode: new, is_directory: false, size: 0 });
            }
            OperationKind::Mkdir { parent, .. } if *parent == InodeId::ROOT => self.inode = inode,
            OperationKind::Mkdir { name, .. } => {
                self.names.insert(name.to_bytes(), Made { inode: new, is_directory: true, size: 0 });
            }
            OperationKind::Unlink { name, .. } | OperationKind::Rmdir { name, .. } => {
                self.names.remove(name.as_bytes());
            }
            OperationKind::Link { inode, new_name, .. } => {
                let linked = self.names.values().find(|made| made.inode == *inode).copied();
                self.names.extend(linked.map(|made| (new_name.to_bytes(), made)));
            }
            OperationKind::Rename { name, new_name, mode, .. } => {
                let (from, to) = (self.names.remove(name.as_bytes()), self.names.remove(new_name.as_bytes()));
                self.names.extend(from.map(|made| (new_name.to_bytes(), made)));
                if *mode == RenameMode::Exchange {
                    self.names.extend(to.map(|made| (name.to_bytes(), made)));
                }
            }
            OperationKind::SetAttr { inode, changes, .. } => {
                let all = self.names.values_mut().filter(|made| made.inode == *inode);
                all.for_each(|made| made.size = changes.size.unwrap_or(made.size));
            }
            _ => {}
        }
    }
}

impl World {
    /// The next operation in a client's own directory: one that must succeed.
    pub(super) fn next_home_operation(&mut self, id: u64) -> OperationKind {
        let (pick, drawn) = (self.below(12), [self.below(NAMES), self.below(NAMES), self.below(1 << 20)]);
        let client = self.client(id);
        let (life, home) = (client.life, &mut client.home);
        home.made += 1;
        let fresh = name(&format!("n{}", home.made));
        let Some(parent) = home.inode else {
            let name = name(&format!("home-{id}-{life}"));
            return OperationKind::Mkdir { parent: InodeId::ROOT, name, mode: 0o755 };
        };
        let at = |number: u64| {
            let count = home.names.len() as u64;
            let (name, made) = home.names.iter().nth((number % count.max(1)) as usize)?;
            Some((Name::new(name.clone()).unwrap(), *made))
        };
        let create = OperationKind::Create { parent, name: fresh.clone(), mode: 0o644, exclusive: true };
        let (Some((one, made)), Some((other, second))) = (at(drawn[0]), at(drawn[1])) else { return create };
        let rename = |new_name: Name, mode| OperationKind::Rename {
            parent,
            name: one.clone(),
            new_parent: parent,
            new_name,
            mode,
        };
        match pick {
            0..3 if home.has_room() => create,
            3 if home.has_room() => OperationKind::Mkdir { parent, name: fresh, mode: 0o755 },
            4 if home.has_room() && !made.is_directory => {
                OperationKind::Link { inode: made.inode, new_parent: parent, new_name: fresh }
            }
            5 => rename(fresh, RenameMode::NoReplace),
            6 if one != other => rename(other, RenameMode::Exchange),
            // Two names of one file: rename(2) does nothing then.
            7 if made.inode != second.inode && !made.is_directory && !second.is_directory => {
                rename(other, RenameMode::Replace)
            }
            8 | 9 if !made.is_directory => {
                let changes = AttrChanges { size: Some(drawn[2]), ..AttrChanges::default() };
                OperationKind::SetAttr { inode: made.inode, changes, via_handle: false }
            }
            _ if made.is_directory => OperationKind::Rmdir { parent, name: one },
            _ => OperationKind::Unlink { parent, name: one },
        }
    }

    /// An operation in its own directory is answered, for the first time or again: it succeeded.
    pub(super) fn home_done(&mut self, id: u64, kind: &OperationKind, outcome: &Result<Answer, FsError>) {
        let seed = self.seed;
        let home = &mut self.client(id).home;
        match outcome {
            Ok(answer) => home.apply(kind, attr_inode(answer)),
            Err(error) => {
                panic!("seed {seed}: I15: client {id} is refused {kind:?}: {error}; it has {home:?}")
            }
        }
    }

    /// Has its own directory listed, while it changes nothing there.
    pub(super) fn list_home(&mut self, id: u64) {
        let client = self.client(id);
        if client.slots[HOME_SLOT].pending.is_none()
            && let Some(inode) = client.home.inode
        {
            client.home_sequence_listed = client.slots[HOME_SLOT].sequence;
            self.ask(id, QueryKind::ReadDir { inode, after: 0, limit: 100, with_attrs: true }, true);
        }
    }

    /// The listing is what it must be, if nothing was begun meanwhile.
    pub(super) fn home_listed(&mut self, id: u64, outcome: &Result<Answer, FsError>) {
        let seed = self.seed;
        let client = self.client(id);
        let changed = client.home_sequence_listed != client.slots[HOME_SLOT].sequence;
        if changed || client.slots[HOME_SLOT].pending.is_some() {
            return;
        }
        let Ok(Answer::Directory { entries, .. }) = outcome else {
            panic!("seed {seed}: I1: the home of client {id} cannot be listed: {outcome:?}")
        };
        let found: BTreeMap<Bytes, Made> = entries
            .iter()
            .map(|entry| {
                let is_directory = entry.kind == NodeKind::Directory;
                let size = entry.attr.as_ref().filter(|_| !is_directory).map_or(0, |attr| attr.size);
                (entry.name.clone(), Made { inode: entry.inode, is_directory, size })
            })
            .collect();
        assert_eq!(found, client.home.names, "seed {seed}: I1: the home of client {id}");
    }

    /// Purpose of what is done here.
    pub(super) fn begin_home_operation(&mut self, id: u64) {
        let kind = self.next_home_operation(id);
        self.client(id).operate(HOME_SLOT, Purpose::Home, kind);
    }
}
