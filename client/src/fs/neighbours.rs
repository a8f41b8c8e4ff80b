//! Neighbours of what is asked for, fetched in the background (`cairn_core::caching::ahead`) and believed as any other
//! answer is: under its leases, and not if something of it was taken back meanwhile.

use super::FileSystem;
use bytes::Bytes;
use cairn_core::caching::ahead::{Advice, Fetch, Walks};
use cairn_core::ids::InodeId;
use cairn_core::limits::AHEAD_WAIT;
use cairn_core::namespace::answer::{Answer, Map};
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, PermissionCheck, QueryKind};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ends when a fetch does.
pub(crate) type Coming = Shared<BoxFuture<'static, ()>>;

/// Walks through directories, and what is on its way for them. When both are locked, the latter is first.
#[derive(Default)]
pub(crate) struct Neighbours {
    walks: Mutex<Walks>,
    on_their_way: Mutex<BTreeMap<InodeId, Coming>>,
}

impl Neighbours {
    fn walks(&self) -> MutexGuard<'_, Walks> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_their_way(&self) -> MutexGuard<'_, BTreeMap<InodeId, Coming>> {
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem {
    /// A name is not known. True when a fetch that probably brings it has been waited for.
    pub(super) async fn missed_name(&self, who: &Credentials, parent: InodeId, name: &Name) -> bool {
        if who.check != PermissionCheck::Kernel {
            return false;
        }
        let entries = self.shared.meta.cache().attr(parent, self.now()).map(|(attr, _)| attr.size);
        let advice = self.shared.neighbours.walks().missed(parent, name, entries);
        match self.follow(parent, advice) {
            Some(coming) => tokio::time::timeout(AHEAD_WAIT, coming).await.is_ok(),
            None => false,
        }
    }

    /// What was fetched ahead is used for the first time.
    pub(super) fn used_ahead(&self, parent: InodeId, by_open: bool) {
        let next = self.shared.neighbours.walks().used(parent, by_open);
        if let Some(fetch) = next {
            self.fetch(fetch);
        }
    }

    /// What is known of a file that is being opened; waits for a map that is on its way.
    pub(super) async fn known_to_open(
        &self,
        who: &Credentials,
        inode: InodeId,
        wants_map: bool,
    ) -> Option<(Attr, Option<Map>)> {
        let (attr, map) = self.known_attr(who, inode)?;
        let lacks_map = wants_map && attr.kind == NodeKind::Regular && attr.size > 0 && map.is_none();
        let Some(coming) = self.note_open(inode, lacks_map) else { return Some((attr, map)) };
        // What did not come in time is asked for by whoever needs it.
        let _ = tokio::time::timeout(AHEAD_WAIT, coming).await;
        let (place, is_first_use) = self.place_and_use(inode);
        if let Some((parent, _)) = place.filter(|_| is_first_use) {
            self.used_ahead(parent, true);
        }
        self.known_attr(who, inode)
    }

    /// A file is being opened: whether its map is not known. Answers what probably brings it.
    pub(super) fn note_open(&self, inode: InodeId, lacks_map: bool) -> Option<Coming> {
        let (place, is_first_use) = self.place_and_use(inode);
        let (parent, name) = place?;
        if lacks_map {
            let advice = self.shared.neighbours.walks().missed_map(parent, &Name::new(name).ok()?);
            return self.follow(parent, advice);
        }
        self.shared.neighbours.walks().opened(parent);
        if is_first_use {
            self.used_ahead(parent, true);
        }
        None
    }

    fn place_and_use(&self, inode: InodeId) -> (Option<(InodeId, Bytes)>, bool) {
        let mut cache = self.shared.meta.cache();
        (cache.place(inode), cache.take_ahead(inode))
    }

    fn follow(&self, parent: InodeId, advice: Advice) -> Option<Coming> {
        match advice {
            Advice::Ask => None,
            Advice::AskAnd(fetch) => {
                self.fetch(fetch);
                None
            }
            Advice::Await => self.shared.neighbours.on_their_way().get(&parent).cloned(),
        }
    }

    fn fetch(&self, fetch: Fetch) {
        let (parent, this) = (fetch.parent, self.clone());
        // Locked over both, so that the end is not noted before the beginning.
        let mut on_their_way = self.shared.neighbours.on_their_way();
        let (ended, end) = tokio::sync::oneshot::channel();
        self.shared.spawn(async move {
            this.fetch_all(fetch).await;
            // Perhaps nobody waits.
            let _ = ended.send(());
        });
        on_their_way.insert(parent, end.map(drop).boxed().shared());
    }

    async fn fetch_all(&self, first: Fetch) {
        let mut next = Some(first);
        while let Some(fetch) = next {
            let parent = fetch.parent;
            let page = self.fetch_page(fetch).await;
            let mut on_their_way = self.shared.neighbours.on_their_way();
            next = self.shared.neighbours.walks().fetched(parent, page);
            if next.is_none() {
                on_their_way.remove(&parent);
            }
        }
    }

    /// How many entries came that may be believed, and the last of them unless nothing follows it.
    async fn fetch_page(&self, fetch: Fetch) -> Option<(u32, Option<Name>)> {
        let Fetch { parent, after, limit, with_maps } = fetch;
        let kind = QueryKind::Neighbours { parent, after, limit, with_maps };
        let heard = self.shared.meta.ask(&self.shared.own_credentials(), kind).await.ok()?;
        let Ok(Answer::Directory { entries, end }) = &heard.outcome else { return None };
        if !heard.leased {
            return None;
        }
        let believed = self.shared.meta.cache().learn_page(heard.ticket, parent, entries, true);
        if believed == 0 && !entries.is_empty() {
            return None;
        }
        let last = entries.last().filter(|_| !end).and_then(|entry| Name::new(entry.name.clone()).ok());
        Some((believed as u32, last))
    }
}
