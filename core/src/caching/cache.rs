//! The client's side: names, attributes and maps that may be believed without asking.

use super::changes::Changes;
use super::table::Invalidation;
use super::under_way::Touched;
use crate::ids::InodeId;
use crate::limits::{CACHED_ITEMS_MAX, CHANGES_REMEMBERED, SHARED_LEASE_BELIEF};
use crate::namespace::answer::{DirectoryEntry, Map};
use crate::namespace::attr::{Attr, NodeKind};
use crate::namespace::request::OperationKind;
use crate::time::Tick;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A moment among the changes that this client knows of: taken before asking, looked at when the answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a name leads to.
#[allow(clippy::large_enum_variant, reason = "moved once; a box would cost more than the move")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// This inode.
    Inode(Attr, Option<Map>),
    /// Nothing.
    Nothing,
}

/// Everything believed.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    held: BTreeMap<InodeId, Held>,
    /// Inodes in the order in which they came, to be dropped in it.
    order: VecDeque<InodeId>,
    names: usize,
    /// Inodes that changed, the newest last; `changes` counts all there ever were.
    recent: VecDeque<InodeId>,
    changes: u64,
    /// Dropped, and not yet said; the kernel may believe them until the given time.
    dropped: Vec<(InodeId, Tick)>,
    valid_until: Tick,
    /// What own operations may change that are not answered yet, by the number of each.
    under_way: BTreeMap<u64, Touched>,
    operations: u64,
}

/// An own operation that is under way, since when.
#[derive(Debug, PartialEq, Eq)]
pub struct UnderWay {
    number: u64,
    since: Ticket,
}

#[derive(Clone, Debug, Default)]
struct Held {
    attr: Option<Attr>,
    map: Option<Map>,
    /// Of a directory.
    names: BTreeMap<Bytes, Option<InodeId>>,
    /// `names` are all there are.
    complete: bool,
    used: bool,
    /// Fetched before anybody asked for it, and not used since.
    ahead: bool,
    /// A name that led here, to find its neighbours.
    place: Option<(InodeId, Bytes)>,
    /// The kernel was told that it may believe the attributes so long.
    told_until: Tick,
    /// And names in it, of a directory.
    names_until: Tick,
}

impl Held {
    /// What a name in it leads to, which may be nothing; `None` when that is not known.
    fn leads_to(&self, name: &[u8]) -> Option<Option<InodeId>> {
        self.names.get(name).copied().or_else(|| self.complete.then_some(None))
    }
}

impl Cache {
    /// The leader has granted another term to a renewal sent at `sent`. True when the leases had lapsed meanwhile: all is
    /// forgotten then, and the leader must be told so.
    pub fn renewed(&mut self, sent: Tick, now: Tick) -> bool {
        let lapsed = now >= self.valid_until && self.valid_until != Tick::default();
        if lapsed {
            self.clear();
        }
        self.valid_until = self.valid_until.max(sent.after(SHARED_LEASE_BELIEF));
        lapsed
    }

    /// Forgets everything, and what is granted by answers that are on their way. Answers the inodes that the kernel may
    /// still believe something of.
    pub fn forget_all(&mut self, now: Tick) -> Vec<InodeId> {
        let told = self
            .held
            .iter()
            .filter(|(_, held)| held.told_until.max(held.names_until) > now)
            .map(|(&inode, _)| inode);
        let dropped = self.dropped.iter().filter(|(_, until)| *until > now).map(|(inode, _)| *inode);
        let in_kernel = told.chain(dropped).collect();
        self.clear();
        self.valid_until = Tick::default();
        in_kernel
    }

    fn clear(&mut self) {
        self.held.clear();
        self.order.clear();
        self.names = 0;
        self.dropped.clear();
        // No ticket taken before can be told from an overtaken one.
        self.changes += CHANGES_REMEMBERED as u64 + 1;
        self.recent.clear();
        self.under_way.values_mut().for_each(|touched| touched.unsure(|_, _| true));
    }

    /// To be taken before a question or an operation is sent.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.changes)
    }

    fn changed(&mut self, inode: InodeId) {
        self.changes += 1;
        self.recent.push_back(inode);
        if self.recent.len() > CHANGES_REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Whether `inode` has not changed, as far as is known here, since the ticket was taken.
    fn is_current(&self, ticket: Ticket, inode: InodeId) -> bool {
        let since = (self.changes - ticket.0) as usize;
        since <= self.recent.len() && self.recent.iter().rev().take(since).all(|changed| *changed != inode)
    }

    fn is_valid(&self, now: Tick) -> bool {
        now < self.valid_until
    }

    /// Attributes, and the map as far as it is known.
    pub fn attr(&mut self, inode: InodeId, now: Tick) -> Option<(Attr, Option<Map>)> {
        if !self.is_valid(now) {
            return None;
        }
        if self.under_way.values().any(|touched| self.may_change(touched, inode)) {
            return None;
        }
        let held = self.held.get_mut(&inode)?;
        held.used = true;
        held.attr.clone().map(|attr| (attr, held.map.clone()))
    }

    /// Whether an own operation that is under way may change these attributes.
    fn may_change(&self, touched: &Touched, inode: InodeId) -> bool {
        touched.inodes.contains(&inode) || (touched.reaches_unknown && !self.is_elsewhere(touched, inode))
    }

    /// Whether another name is the only one that leads there, so that those of the operation do not.
    fn is_elsewhere(&self, touched: &Touched, inode: InodeId) -> bool {
        let Some(held) = self.held.get(&inode) else { return false };
        let (Some(attr), Some((parent, name))) = (&held.attr, &held.place) else {
            return inode == InodeId::ROOT;
        };
        let has_one_name = attr.kind == NodeKind::Directory || attr.links == 1;
        let leads_there =
            self.held.get(parent).is_some_and(|held| held.names.get(name) == Some(&Some(inode)));
        has_one_name && leads_there && !touched.has_name(*parent, name)
    }

    /// What a name leads to, when both the name and the attributes are known.
    pub fn lookup(&mut self, parent: InodeId, name: &[u8], now: Tick) -> Option<Known> {
        if !self.is_valid(now) {
            return None;
        }
        if self.under_way.values().any(|touched| touched.has_name(parent, name)) {
            return None;
        }
        let directory = self.held.get_mut(&parent)?;
        directory.used = true;
        match directory.leads_to(name)? {
            Some(inode) => self.attr(inode, now).map(|(attr, map)| Known::Inode(attr, map)),
            None => Some(Known::Nothing),
        }
    }

    /// Takes over attributes that were granted with an answer. False when they were overtaken.
    pub fn learn(&mut self, ticket: Ticket, attr: &Attr, map: Option<&Map>) -> bool {
        let inode = attr.inode;
        if !self.is_current(ticket, inode) {
            if !self.held.contains_key(&inode) {
                self.dropped.push((inode, Tick::default()));
            }
            return false;
        }
        let held = self.hold(inode);
        if held.attr.as_ref().is_none_or(|known| known.data_change != attr.data_change) {
            held.map = None;
        }
        if let Some(map) = map {
            held.map = Some(map.clone());
        }
        // The size of a directory counts its entries: of an empty one every name is known.
        if attr.kind == NodeKind::Directory && attr.size == 0 {
            held.complete = true;
        }
        held.attr = Some(attr.clone());
        true
    }

    /// Takes over what a name leads to, granted with an answer about directory `parent`.
    pub fn learn_name(&mut self, ticket: Ticket, parent: InodeId, name: &Bytes, leads_to: Option<InodeId>) {
        if !self.is_current(ticket, parent) {
            // Nothing is known of this name any more.
            self.forget_name(parent, name);
            return;
        }
        if let Some(held) = leads_to.and_then(|inode| self.held.get_mut(&inode)) {
            held.place = Some((parent, name.clone()));
        }
        let held = self.hold(parent);
        if held.names.insert(name.clone(), leads_to).is_none() {
            self.names += 1;
        }
        self.make_room();
    }

    /// Takes over a page of directory `parent`, granted with the answer that brought it. `ahead`: nobody has asked for these
    /// entries. Answers how many are believed.
    pub fn learn_page(
        &mut self,
        ticket: Ticket,
        parent: InodeId,
        entries: &[DirectoryEntry],
        ahead: bool,
    ) -> usize {
        let is_current = self.is_current(ticket, parent);
        // Otherwise what is known of its names was heard later, or from our own changes: it stays.
        if !is_current && !self.held.contains_key(&parent) {
            self.dropped.push((parent, Tick::default()));
        }
        let mut believed = 0;
        for DirectoryEntry { name, inode, attr, map, .. } in entries {
            let Some(attr) = attr else { continue };
            let known = self.held.get(inode).map(|held| (held.attr.is_some(), held.map.is_some()));
            let (has_attr, has_map) = known.unwrap_or_default();
            if !self.learn(ticket, attr, map.as_deref()) || !is_current {
                continue;
            }
            // A copy: the page's own memory would stay as long as one of its names does.
            self.learn_name(ticket, parent, &Bytes::copy_from_slice(name), Some(*inode));
            believed += 1;
            if ahead
                && (!has_attr || (map.is_some() && !has_map))
                && let Some(held) = self.held.get_mut(inode)
            {
                held.ahead = true;
            }
        }
        believed
    }

    /// Whether what is known of `inode` was fetched before anybody asked for it, and is used for the first time.
    pub fn take_ahead(&mut self, inode: InodeId) -> bool {
        self.held.get_mut(&inode).is_some_and(|held| std::mem::take(&mut held.ahead))
    }

    /// A name that led to `inode` when it was last heard of: directory and name.
    pub fn place(&self, inode: InodeId) -> Option<(InodeId, Bytes)> {
        self.held.get(&inode)?.place.clone()
    }

    fn hold(&mut self, inode: InodeId) -> &mut Held {
        if !self.held.contains_key(&inode) {
            self.order.push_back(inode);
            self.make_room();
        }
        self.held.entry(inode).or_default()
    }

    /// Drops what came first and was not used since, down to the limit.
    fn make_room(&mut self) {
        let mut chances = self.order.len();
        while self.held.len() + self.names >= CACHED_ITEMS_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            match self.held.get_mut(&oldest) {
                Some(held) if held.used && chances > 0 => {
                    held.used = false;
                    chances -= 1;
                    self.order.push_back(oldest);
                }
                Some(_) => self.drop_inode(oldest),
                None => {}
            }
        }
    }

    fn drop_inode(&mut self, inode: InodeId) {
        if let Some(held) = self.held.remove(&inode) {
            self.under_way.values_mut().for_each(|touched| touched.unsure(|parent, _| parent == inode));
            self.names -= held.names.len();
            self.dropped.push((inode, held.told_until.max(held.names_until)));
            // Answers on their way hold good only while the leader counts us among the holders.
            self.changed(inode);
        }
    }

    /// Inodes to tell the leader that they are no longer held. Those that the kernel may still believe come later.
    pub fn take_dropped(&mut self, now: Tick) -> Vec<InodeId> {
        let dropped = std::mem::take(&mut self.dropped);
        let (later, ready): (Vec<_>, Vec<_>) = dropped.into_iter().partition(|(_, until)| *until > now);
        self.dropped = later;
        let ready: Vec<InodeId> = ready
            .into_iter()
            .map(|(inode, _)| inode)
            .filter(|inode| !self.held.contains_key(inode))
            .collect();
        for &inode in &ready {
            self.changed(inode);
        }
        ready
    }

    /// What could not be told yet, for the next time.
    pub fn put_back(&mut self, dropped: Vec<InodeId>) {
        self.dropped.extend(dropped.into_iter().map(|inode| (inode, Tick::default())));
    }

    /// An operation of this client is about to be sent: what it may change is not believed until it was [answered](Cache::answered)
    /// or its session [has ended](Cache::ended).
    pub fn begin(&mut self, kind: &OperationKind) -> UnderWay {
        let touched = Touched::by(kind, |parent, name| self.held.get(&parent)?.leads_to(name));
        self.operations += 1;
        self.under_way.insert(self.operations, touched);
        UnderWay { number: self.operations, since: self.ticket() }
    }

    /// An operation of this client was answered: what it changed, and whether all of it is held.
    pub fn answered(&mut self, operation: UnderWay, changes: &Changes, leased: bool) {
        self.under_way.remove(&operation.number);
        self.own_changes(operation.since, changes, leased);
    }

    /// The session of an operation has ended, and [all was forgotten](Cache::forget_all): it will not be done any more.
    pub fn ended(&mut self, operation: UnderWay) {
        self.under_way.remove(&operation.number);
    }

    pub(super) fn own_changes(&mut self, ticket: Ticket, changes: &Changes, leased: bool) {
        for (inode, attr) in &changes.inodes {
            match attr {
                Some(attr) if leased && self.is_current(ticket, *inode) => {
                    self.learn(ticket, attr, None);
                }
                Some(_) => self.forget_attr(*inode),
                None => self.vanished(*inode),
            }
        }
        for (parent, name, leads_to) in &changes.names {
            if leased {
                self.learn_name(ticket, *parent, name, *leads_to);
            } else {
                self.forget_name(*parent, name);
            }
        }
        for (inode, _) in &changes.inodes {
            self.changed(*inode);
        }
    }

    /// Somebody else's change. What was asked before and is answered later is not believed. Answers the inodes of which
    /// the kernel was told that it may believe them still, and whether it may believe names in one of the directories.
    pub fn invalidate(&mut self, invalidation: &Invalidation, now: Tick) -> (Vec<InodeId>, bool) {
        let is_listed = |(parent, _): &(InodeId, Bytes)| {
            self.held.get(parent).is_some_and(|held| held.names_until > now)
                || self.dropped.iter().any(|(inode, until)| inode == parent && *until > now)
        };
        let names = invalidation.names.iter().any(is_listed);
        let is_told = |inode: &&InodeId| self.held.get(inode).is_some_and(|held| held.told_until > now);
        let mut told: Vec<InodeId> = invalidation.inodes.iter().filter(is_told).copied().collect();
        let dropped =
            self.dropped.iter().filter(|(inode, until)| *until > now && invalidation.inodes.contains(inode));
        told.extend(dropped.map(|(inode, _)| *inode));
        for (parent, name) in &invalidation.names {
            self.forget_name(*parent, name);
            self.changed(*parent);
        }
        for &inode in &invalidation.inodes {
            self.forget_attr(inode);
            self.changed(inode);
        }
        (told, names)
    }

    /// The leader has let go of it as well.
    fn vanished(&mut self, inode: InodeId) {
        if let Some(held) = self.held.remove(&inode) {
            self.names -= held.names.len();
        }
    }

    fn forget_attr(&mut self, inode: InodeId) {
        if let Some(held) = self.held.get_mut(&inode) {
            held.attr = None;
            held.map = None;
        }
    }

    fn forget_name(&mut self, parent: InodeId, name: &[u8]) {
        let is_it = |of: InodeId, touched: &[u8]| of == parent && touched == name;
        self.under_way.values_mut().for_each(|touched| touched.unsure(is_it));
        if let Some(held) = self.held.get_mut(&parent) {
            held.complete = false;
            if held.names.remove(name).is_some() {
                self.names -= 1;
            }
        }
    }

    /// How long the kernel may believe these attributes from now on: not at all when they are not the newest known.
    pub fn believe(&mut self, attr: &Attr, now: Tick) -> Duration {
        let until = self.valid_until;
        let is_known = |held: &Held| held.attr.as_ref().is_some_and(|known| known.change == attr.change);
        match self.held.get_mut(&attr.inode) {
            Some(held) if is_known(held) && now < until => {
                held.told_until = held.told_until.max(until);
                until.since(now)
            }
            _ => Duration::ZERO,
        }
    }

    /// How long it may believe what a name leads to: `None` for nothing.
    pub fn believe_name(
        &mut self,
        parent: InodeId,
        name: &[u8],
        leads_to: Option<InodeId>,
        now: Tick,
    ) -> Duration {
        let until = self.valid_until;
        let Some(directory) = self.held.get_mut(&parent) else { return Duration::ZERO };
        if directory.leads_to(name) != Some(leads_to) {
            return Duration::ZERO;
        }
        directory.names_until = directory.names_until.max(until);
        until.since(now)
    }

    /// Whether the name that led to `inode` still does, and so in which directory it is.
    pub fn parent(&mut self, inode: InodeId, now: Tick) -> Option<InodeId> {
        let (parent, name) = self.place(inode)?;
        let leads_here = self.held.get(&parent)?.names.get(&name) == Some(&Some(inode));
        (self.is_valid(now) && leads_here).then_some(parent)
    }

    /// Inodes held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
