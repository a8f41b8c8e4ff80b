//! Which neighbours of a name to fetch before anybody asks for them.
//!
//! Programs mostly walk a directory in the order of its listing: `cp -r`, `grep -r`, a loop over what was created before.
//! Two names asked for one by one bring the few that follow them; as long as most of what came is used, four times as many
//! come next, asked for when half of the last is used. What nobody uses makes the next fetch smaller and later, so that
//! random access stays nearly free of them. A directory that is asked for in another order, but wholly, is fetched whole.

use crate::ids::InodeId;
use crate::limits::{
    AHEAD_ENTRIES_MAX, AHEAD_ENTRIES_MIN, AHEAD_MAPS_MAX, AHEAD_PATIENCE_MAX, AHEAD_PATIENCE_MIN,
    AHEAD_WHOLE_FACTOR, AHEAD_WHOLE_MAX, WALKS_REMEMBERED,
};
use crate::namespace::name::Name;
use std::collections::BTreeMap;

/// How much larger the next fetch is, and how much smaller after one of no use; its share that must be used.
const STEP: u32 = 4;

/// What to ask the leader for, in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Entries of this directory
    pub parent: InodeId,
    /// that are listed after this one (from its beginning without),
    pub after: Option<Name>,
    /// so many,
    pub limit: u32,
    /// with the maps of small files.
    pub with_maps: bool,
}

/// What to do about a name that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Ask for it.
    Ask,
    /// Ask for it, and for these.
    AskAnd(Fetch),
    /// Wait for the fetch that is on its way: the name is probably in it.
    Await,
}

/// Where the last fetch ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Edge {
    /// Nothing was fetched, or it has failed.
    #[default]
    Unknown,
    /// With this name.
    After(Name),
    /// With the directory.
    End,
}

/// One directory in which names are asked for one by one.
#[derive(Clone, Debug)]
struct Walk {
    /// Entries of the last fetch, or of the one on its way.
    window: u32,
    /// Unknown names since the last fetch was begun, and how many must come before the next.
    misses: u32,
    patience: u32,
    /// Entries that the last fetch brought, and those used since.
    fetched: u32,
    used: u32,
    edge: Edge,
    on_its_way: bool,
    /// The whole directory is being fetched, or was.
    whole: bool,
    /// Names asked for, and files opened.
    asked: u64,
    opened: u64,
    /// When it was last touched, in steps of all walks.
    touched: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            window: 0,
            misses: 0,
            patience: AHEAD_PATIENCE_MIN,
            fetched: 0,
            used: 0,
            edge: Edge::Unknown,
            on_its_way: false,
            whole: false,
            asked: 0,
            opened: 0,
            touched: 0,
        }
    }
}

impl Walk {
    /// Whether what was fetched was worth it.
    fn is_useful(&self) -> bool {
        self.used * STEP >= self.fetched
    }

    fn with_maps(&self) -> bool {
        self.opened * 2 >= self.asked.max(1)
    }

    fn begin(&mut self, parent: InodeId, after: Option<Name>) -> Fetch {
        let with_maps = self.with_maps();
        let most = if with_maps { AHEAD_MAPS_MAX } else { AHEAD_ENTRIES_MAX };
        let limit = if self.whole { most } else { self.window.clamp(AHEAD_ENTRIES_MIN, most) };
        self.on_its_way = true;
        self.misses = 0;
        Fetch { parent, after, limit, with_maps }
    }

    fn grow(&mut self) {
        self.window = (self.window * STEP).clamp(AHEAD_ENTRIES_MIN, AHEAD_ENTRIES_MAX);
    }

    fn shrink(&mut self) {
        self.window = (self.window / STEP).max(AHEAD_ENTRIES_MIN);
        self.patience = (self.patience * STEP).min(AHEAD_PATIENCE_MAX);
    }

    fn missed(&mut self, parent: InodeId, name: &Name, entries: Option<u64>) -> Advice {
        self.misses = self.misses.saturating_add(1);
        if self.on_its_way {
            return if self.is_useful() { Advice::Await } else { Advice::Ask };
        }
        if self.misses < self.patience {
            return Advice::Ask;
        }
        if self.is_useful() {
            self.grow();
            self.patience = AHEAD_PATIENCE_MIN;
        } else {
            self.shrink();
        }
        let is_small = |entries| entries <= AHEAD_WHOLE_MAX && entries <= self.asked * AHEAD_WHOLE_FACTOR;
        if !self.whole && !self.is_useful() && entries.is_some_and(is_small) {
            self.whole = true;
            return Advice::AskAnd(self.begin(parent, None));
        }
        Advice::AskAnd(self.begin(parent, Some(name.clone())))
    }

    fn used(&mut self, parent: InodeId) -> Option<Fetch> {
        self.used = self.used.saturating_add(1);
        if self.on_its_way || self.used * 2 < self.fetched {
            return None;
        }
        let Edge::After(edge) = self.edge.clone() else { return None };
        self.grow();
        Some(self.begin(parent, Some(edge)))
    }

    fn fetched(&mut self, parent: InodeId, page: Option<(u32, Option<Name>)>) -> Option<Fetch> {
        self.on_its_way = false;
        self.used = 0;
        let Some((entries, last)) = page else {
            // As bad as one entry that nobody uses.
            (self.fetched, self.edge) = (1, Edge::Unknown);
            return None;
        };
        self.fetched = entries;
        self.edge = match last {
            Some(last) => Edge::After(last),
            None => Edge::End,
        };
        match &self.edge {
            Edge::After(edge) if self.whole => {
                let edge = edge.clone();
                Some(self.begin(parent, Some(edge)))
            }
            _ => None,
        }
    }
}

/// The directories that are walked through at present.
#[derive(Clone, Debug, Default)]
pub struct Walks {
    walks: BTreeMap<InodeId, Walk>,
    steps: u64,
}

impl Walks {
    fn walk(&mut self, parent: InodeId) -> &mut Walk {
        self.steps += 1;
        if !self.walks.contains_key(&parent) && self.walks.len() >= WALKS_REMEMBERED {
            let idle = self.walks.iter().filter(|(_, walk)| !walk.on_its_way);
            let oldest = idle.min_by_key(|(_, walk)| walk.touched).map(|(&parent, _)| parent);
            if let Some(oldest) = oldest.or_else(|| self.walks.keys().next().copied()) {
                self.walks.remove(&oldest);
            }
        }
        let walk = self.walks.entry(parent).or_default();
        walk.touched = self.steps;
        walk
    }

    /// `name` was asked for and is not known. `entries`: how many the directory has, if that is known.
    pub fn missed(&mut self, parent: InodeId, name: &Name, entries: Option<u64>) -> Advice {
        let walk = self.walk(parent);
        walk.asked += 1;
        walk.missed(parent, name, entries)
    }

    /// A file was opened of which the name is known and the map is not. Somebody has listed the directory: no patience is
    /// needed at first.
    pub fn missed_map(&mut self, parent: InodeId, name: &Name) -> Advice {
        let walk = self.walk(parent);
        if walk.opened == 0 && walk.fetched == 0 {
            walk.misses = walk.misses.max(walk.patience);
        }
        walk.opened += 1;
        walk.missed(parent, name, None)
    }

    /// A file was opened of which all is known.
    pub fn opened(&mut self, parent: InodeId) {
        if let Some(walk) = self.walks.get_mut(&parent) {
            walk.opened += 1;
        }
    }

    /// The first use of something that was fetched: by an open of a file, or a question for its name. Perhaps the next fetch.
    pub fn used(&mut self, parent: InodeId, by_open: bool) -> Option<Fetch> {
        let walk = self.walk(parent);
        if !by_open {
            walk.asked += 1;
        }
        walk.used(parent)
    }

    /// A fetch has ended: with so many entries, the last of which was this one (none: there are no more), or without any
    /// that may be believed. Perhaps the next.
    pub fn fetched(&mut self, parent: InodeId, page: Option<(u32, Option<Name>)>) -> Option<Fetch> {
        self.walks.get_mut(&parent)?.fetched(parent, page)
    }

    /// Directories remembered.
    pub fn len(&self) -> usize {
        self.walks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.walks.is_empty()
    }
}
