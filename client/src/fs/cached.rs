//! What is answered without asking, and what a cache above may keep: all under shared leases (`cairn_core::caching`).

use super::FileSystem;
use crate::meta::Heard;
use crate::shared::Disbelieve;
use cairn_core::caching::cache::Known;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::{Answer, Map};
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, PermissionCheck};
use cairn_core::time::Tick;
use std::time::Duration;

impl FileSystem {
    /// Whom to tell when attributes and names that it was allowed to keep change. Set once, before anything is kept.
    pub fn set_cache_above(&self, above: Disbelieve) {
        // A second one would not be told of what the first was allowed.
        let _ = self.shared.above.set(above);
    }

    /// How long a cache above may keep these attributes, unless it is told otherwise before, or writes the file itself. Not at
    /// all while bytes wait to be recorded: they change once more then, without anybody being told.
    pub fn believe(&self, attr: &Attr) -> Duration {
        if self.shared.known_inode(attr.inode).is_some_and(|known| known.is_ahead()) {
            return Duration::ZERO;
        }
        self.shared.meta.cache().believe(attr, self.now())
    }

    /// How long it may keep what `name` leads to; `None`: nothing.
    pub fn believe_name(&self, parent: InodeId, name: &Name, leads_to: Option<InodeId>) -> Duration {
        self.shared.meta.cache().believe_name(parent, name.as_bytes(), leads_to, self.now())
    }

    /// Bytes of a file or entries of a directory, if that is known without asking.
    pub fn known_size(&self, inode: InodeId) -> Option<u64> {
        self.shared.meta.cache().attr(inode, self.now()).map(|(attr, _)| attr.size)
    }

    /// The directory above a directory, if that is known without asking.
    pub fn known_parent(&self, inode: InodeId) -> Option<InodeId> {
        self.shared.meta.cache().parent(inode, self.now())
    }

    pub(super) fn now(&self) -> Tick {
        self.shared.env.clock.now()
    }

    /// What a name leads to, if that is known. Permission to search is the caller's affair, or nothing is known.
    pub(super) fn known_name(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &Name,
    ) -> Option<Result<Attr, FsError>> {
        if who.check != PermissionCheck::Kernel {
            return None;
        }
        let mut cache = self.shared.meta.cache();
        let attr = match cache.lookup(parent, name.as_bytes(), self.now())? {
            Known::Inode(attr, _) => attr,
            Known::Nothing => return Some(Err(FsError::NotFound)),
        };
        let is_first_use = cache.take_ahead(attr.inode);
        drop(cache);
        if is_first_use {
            self.used_ahead(parent, false);
        }
        Some(Ok(attr))
    }

    /// Attributes and map of an inode, if they are known.
    pub(super) fn known_attr(&self, who: &Credentials, inode: InodeId) -> Option<(Attr, Option<Map>)> {
        if who.check != PermissionCheck::Kernel {
            return None;
        }
        self.shared.meta.cache().attr(inode, self.now())
    }

    /// Keeps the answer to a lookup.
    pub(super) fn keep_name(&self, heard: &Heard, parent: InodeId, name: &Name) {
        if !heard.leased {
            return;
        }
        let mut cache = self.shared.meta.cache();
        match &heard.outcome {
            Ok(Answer::Entry { attr, map }) => {
                cache.learn(heard.ticket, attr, map.as_ref());
                cache.learn_name(heard.ticket, parent, &name.to_bytes(), Some(attr.inode));
            }
            Err(FsError::NotFound) => cache.learn_name(heard.ticket, parent, &name.to_bytes(), None),
            _ => {}
        }
    }

    /// Keeps attributes.
    pub(super) fn keep_attr(&self, heard: &Heard) {
        match &heard.outcome {
            Ok(Answer::Attr(attr)) if heard.leased => {
                self.shared.meta.cache().learn(heard.ticket, attr, None);
            }
            _ => self.shared.keep_map(heard),
        }
    }

    /// Keeps a page of a directory.
    pub(super) fn keep_page(&self, heard: &Heard, parent: InodeId) {
        let Ok(Answer::Directory { entries, .. }) = &heard.outcome else { return };
        if !heard.leased {
            return;
        }
        self.shared.meta.cache().learn_page(heard.ticket, parent, entries, false);
    }
}
