//! The directory that all clients use: few names, so that they meet.

use super::client::{Purpose, SHARED_SLOT};
use super::home::name;
use super::world::World;
use cairn_core::caching::cache::Known;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::AttrChanges;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{OperationKind, QueryKind, RenameMode};

const NAMES: u64 = 6;
const SHARED: &str = "shared";

impl World {
    fn shared_name(&self) -> Name {
        name(&format!("s{}", self.below(NAMES)))
    }

    /// What a client does when it looks around.
    pub(super) fn work(&mut self, id: u64) {
        let now = self.now;
        self.client(id).asking.retain(|_, asking| asking.until > now);
        let calm = self.healed && self.now > super::world::QUIET;
        if self.client(id).slots[super::client::HOME_SLOT].pending.is_none() && self.chance(13) && !calm {
            self.begin_home_operation(id);
        } else if self.chance(16) {
            self.list_home(id);
        }
        self.work_on_data(id, calm);
        if self.chance(25) {
            self.read_a_file(id);
        }
        let Some(shared) = self.client(id).shared else { return self.look_for_shared(id) };
        if self.client(id).slots[SHARED_SLOT].pending.is_none() && self.chance(13) && !calm {
            let kind = self.next_shared_operation(shared, id);
            self.client(id).operate(SHARED_SLOT, Purpose::Shared, kind);
        }
        if self.chance(5) {
            self.look_up(id, shared);
        }
    }

    fn look_for_shared(&mut self, id: u64) {
        if self.client(id).slots[SHARED_SLOT].pending.is_some() {
            return;
        }
        let client = self.client(id);
        let (sequence, idle) = (client.slots[SHARED_SLOT].sequence, client.asking.is_empty());
        match sequence {
            0 => {
                let kind = OperationKind::Mkdir { parent: InodeId::ROOT, name: name(SHARED), mode: 0o755 };
                self.client(id).operate(SHARED_SLOT, Purpose::MakeShared, kind);
            }
            _ if idle => {
                self.ask(id, QueryKind::Lookup { parent: InodeId::ROOT, name: name(SHARED) }, false);
            }
            _ => {}
        }
    }

    fn next_shared_operation(&mut self, parent: InodeId, id: u64) -> OperationKind {
        let (one, other) = (self.shared_name(), self.shared_name());
        let rename = |mode| OperationKind::Rename {
            parent,
            name: one.clone(),
            new_parent: parent,
            new_name: other.clone(),
            mode,
        };
        let pick = self.below(10);
        let value = self.below(0o777) as u32;
        let now = self.client(id).now();
        let known = match self.client(id).cache.lookup(parent, other.as_bytes(), now) {
            Some(Known::Inode(attr, _)) => Some(attr.inode),
            _ => None,
        };
        match (pick, known) {
            (4 | 5, Some(inode)) => {
                let changes = AttrChanges { mode: Some(value), ..AttrChanges::default() };
                OperationKind::SetAttr { inode, changes, via_handle: false }
            }
            (6, Some(inode)) => OperationKind::Link { inode, new_parent: parent, new_name: one },
            (0..3, _) => OperationKind::Create { parent, name: one, mode: 0o644, exclusive: true },
            (3, _) => OperationKind::Create { parent, name: one, mode: 0o644, exclusive: false },
            (7, _) => rename(RenameMode::NoReplace),
            (8, _) => rename(RenameMode::Exchange),
            (9, _) => rename(RenameMode::Replace),
            _ => OperationKind::Unlink { parent, name: one },
        }
    }

    /// Looks a name up, from memory when that may be believed.
    fn look_up(&mut self, id: u64, parent: InodeId) {
        let name = self.shared_name();
        let client = self.client(id);
        let now = client.now();
        let known = client.cache.lookup(parent, name.as_bytes(), now);
        let kind = QueryKind::Lookup { parent, name };
        let Some(known) = known else { return self.ask(id, kind, false) };
        let outcome = match known {
            Known::Inode(attr, map) => Ok(Answer::Entry { attr, map }),
            Known::Nothing => Err(FsError::NotFound),
        };
        self.hit_quietly("answers from a cache");
        self.tell(|| format!("client {id}: {kind:?} is known as {outcome:?}"));
        self.invariants.read(self.seed, (&kind, &outcome), (self.now, self.now), &self.canon);
    }

    pub(super) fn shared_done(&mut self, id: u64, kind: &OperationKind, outcome: &Result<Answer, FsError>) {
        if let (OperationKind::Mkdir { .. }, Ok(Answer::Entry { attr, .. })) = (kind, outcome) {
            self.client(id).shared = Some(attr.inode);
        }
    }

    pub(super) fn shared_found(&mut self, id: u64, kind: &QueryKind, outcome: &Result<Answer, FsError>) {
        if let (QueryKind::Lookup { parent: InodeId::ROOT, .. }, Ok(Answer::Entry { attr, .. })) =
            (kind, outcome)
        {
            self.client(id).shared = Some(attr.inode);
        }
    }
}
