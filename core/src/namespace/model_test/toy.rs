//! A file system in a few maps: one entry per byte, link counts by counting, permissions by the book.

use crate::error::FsError;
use crate::ids::PolicyId;
use crate::limits::LINKS_MAX;
use crate::namespace::attr::{AttrChanges, NodeKind, TimeSet};
use crate::namespace::request::{
    AllocateMode, Credentials, OperationKind, PermissionCheck, RenameMode, XattrMode,
};
use crate::time::Timestamp;
use std::collections::BTreeMap;

type Id = u64;
type Outcome = Result<(), FsError>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) names: BTreeMap<Vec<u8>, Id>,
    pub(super) bytes: BTreeMap<u64, (u64, u64)>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) target: Vec<u8>,
    pub(super) rdev: u64,
    pub(super) policy: PolicyId,
}

impl Node {
    /// What a change of data takes away.
    pub(super) fn written_by(&mut self, who: &Credentials) {
        if who.uid != 0 {
            self.mode = unprivileged(self.mode);
        }
        self.xattrs.remove(&b"security.capability"[..]);
    }
}

#[derive(Clone)]
pub(super) struct Toy {
    pub(super) nodes: BTreeMap<Id, Node>,
    pub(super) leases: BTreeMap<Id, u64>,
    pub(super) now: Timestamp,
}

pub(super) const ROOT: Id = 1;

impl Toy {
    pub(super) fn new(now: Timestamp) -> Self {
        let mut toy = Self { nodes: BTreeMap::new(), leases: BTreeMap::new(), now };
        toy.nodes.insert(ROOT, toy.node(NodeKind::Directory, 0o755, 0, 0));
        toy
    }

    fn node(&self, kind: NodeKind, mode: u32, uid: u32, gid: u32) -> Node {
        let (names, bytes, xattrs, target) = Default::default();
        let now = self.now;
        Node {
            kind,
            mode,
            uid,
            gid,
            size: 0,
            atime: now,
            mtime: now,
            ctime: now,
            names,
            bytes,
            xattrs,
            target,
            rdev: 0,
            policy: PolicyId::DEFAULT,
        }
    }

    pub(super) fn parent_of(&self, id: Id) -> Option<Id> {
        self.nodes
            .iter()
            .find(|(_, node)| node.names.values().any(|&child| child == id))
            .map(|(&parent, _)| parent)
    }

    pub(super) fn links(&self, id: Id) -> u32 {
        let named =
            self.nodes.values().flat_map(|node| node.names.values()).filter(|&&child| child == id).count()
                as u32;
        let node = &self.nodes[&id];
        if node.kind != NodeKind::Directory {
            return named;
        }
        if named == 0 && id != ROOT {
            return 0;
        }
        2 + node.names.values().filter(|child| self.nodes[child].kind == NodeKind::Directory).count() as u32
    }

    fn allowed(&self, who: &Credentials, id: Id, mask: u32) -> bool {
        let node = &self.nodes[&id];
        if who.check == PermissionCheck::Kernel || who.uid == 0 {
            return true;
        }
        let shift = if who.uid == node.uid {
            6
        } else if who.gid == node.gid || who.groups.contains(&node.gid) {
            3
        } else {
            0
        };
        (node.mode >> shift) & mask == mask
    }

    fn owns(&self, who: &Credentials, id: Id) -> bool {
        who.check == PermissionCheck::Kernel || who.uid == 0 || who.uid == self.nodes[&id].uid
    }

    fn need(&self, who: &Credentials, id: Id, mask: u32) -> Outcome {
        if self.allowed(who, id, mask) { Ok(()) } else { Err(FsError::PermissionDenied) }
    }

    fn find(&self, who: &Credentials, parent: Id, name: &[u8]) -> Result<Option<Id>, FsError> {
        let directory = self.nodes.get(&parent).ok_or(FsError::Stale)?;
        if directory.kind != NodeKind::Directory {
            return Err(FsError::NotDirectory);
        }
        self.need(who, parent, 1)?;
        Ok(directory.names.get(name).copied())
    }

    fn vacant(&self, who: &Credentials, parent: Id, name: &[u8]) -> Outcome {
        if self.find(who, parent, name)?.is_some() {
            return Err(FsError::Exists);
        }
        self.addable(who, parent)
    }

    fn addable(&self, who: &Credentials, parent: Id) -> Outcome {
        if self.links(parent) == 0 {
            return Err(FsError::NotFound);
        }
        self.need(who, parent, 3)
    }

    fn removable(&self, who: &Credentials, parent: Id, child: Id) -> Outcome {
        self.need(who, parent, 3)?;
        let sticky = self.nodes[&parent].mode & 0o1000 != 0;
        let owner = self.owns(who, parent) || self.owns(who, child);
        if sticky && !owner { Err(FsError::NotPermitted) } else { Ok(()) }
    }

    fn touch_dir(&mut self, id: Id) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        (node.mtime, node.ctime) = (now, now);
    }

    fn touch(&mut self, id: Id) {
        self.nodes.get_mut(&id).unwrap().ctime = self.now;
    }

    /// Applies one operation of `session`; `fresh` is the number of the inode that it makes.
    pub(super) fn apply(
        &mut self,
        session: u64,
        who: &Credentials,
        operation: &OperationKind,
        fresh: Id,
    ) -> Outcome {
        use OperationKind as Op;
        match operation {
            Op::Create { parent, name, mode, exclusive } => {
                if let Some(found) = self.find(who, parent.0, name.as_bytes())? {
                    return match self.nodes[&found].kind {
                        _ if *exclusive => Err(FsError::Exists),
                        NodeKind::Directory => Err(FsError::IsDirectory),
                        _ => Ok(()),
                    };
                }
                self.make(who, parent.0, name.as_bytes(), NodeKind::Regular, *mode, fresh)?;
                self.leases.insert(fresh, session);
                Ok(())
            }
            Op::Mkdir { parent, name, mode } => {
                self.make(who, parent.0, name.as_bytes(), NodeKind::Directory, mode & 0o1777, fresh)
            }
            Op::Mknod { parent, name, kind, mode, rdev } => {
                let device = matches!(kind, NodeKind::CharDevice | NodeKind::BlockDevice);
                self.vacant(who, parent.0, name.as_bytes())?;
                if device && who.uid != 0 && who.check == PermissionCheck::Master {
                    return Err(FsError::NotPermitted);
                }
                self.make(who, parent.0, name.as_bytes(), *kind, *mode, fresh)?;
                self.nodes.get_mut(&fresh).unwrap().rdev = if device { *rdev } else { 0 };
                Ok(())
            }
            Op::Symlink { parent, name, target } => {
                self.make(who, parent.0, name.as_bytes(), NodeKind::Symlink, 0o777, fresh)?;
                let node = self.nodes.get_mut(&fresh).unwrap();
                (node.target, node.size) = (target.to_vec(), target.len() as u64);
                Ok(())
            }
            Op::Link { inode, new_parent, new_name } => {
                self.link(who, inode.0, new_parent.0, new_name.as_bytes())
            }
            Op::Unlink { parent, name } => self.remove(who, parent.0, name.as_bytes(), false),
            Op::Rmdir { parent, name } => self.remove(who, parent.0, name.as_bytes(), true),
            Op::Rename { parent, name, new_parent, new_name, mode } => {
                self.rename(who, (parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()), *mode)
            }
            Op::SetAttr { inode, changes, via_handle } => {
                self.set_attr(session, who, inode.0, changes, *via_handle)
            }
            Op::Allocate { inode, mode, offset, length } => {
                self.allocate(session, who, inode.0, *mode, *offset, *length)
            }
            Op::SetXattr { inode, name, value, mode } => {
                self.set_xattr(who, inode.0, name, Some(value), *mode)
            }
            Op::RemoveXattr { inode, name } => self.set_xattr(who, inode.0, name, None, XattrMode::Replace),
            other => panic!("the toy does not know {other:?}"),
        }
    }

    fn make(
        &mut self,
        who: &Credentials,
        parent: Id,
        name: &[u8],
        kind: NodeKind,
        mode: u32,
        fresh: Id,
    ) -> Outcome {
        self.vacant(who, parent, name)?;
        let (parent_mode, parent_gid) = (self.nodes[&parent].mode, self.nodes[&parent].gid);
        let mut node = self.node(kind, mode, who.uid, who.gid);
        if matches!(kind, NodeKind::Directory | NodeKind::Regular) {
            node.policy = self.nodes[&parent].policy;
        }
        if parent_mode & 0o2000 != 0 {
            node.gid = parent_gid;
            let kernel = who.check == PermissionCheck::Kernel;
            let member = kernel || who.uid == 0 || who.gid == parent_gid || who.groups.contains(&parent_gid);
            if kind == NodeKind::Directory {
                node.mode |= 0o2000;
            } else if node.mode & 0o2010 == 0o2010 && !member {
                node.mode &= !0o2000;
            }
        }
        self.nodes.insert(fresh, node);
        self.nodes.get_mut(&parent).unwrap().names.insert(name.to_vec(), fresh);
        self.touch_dir(parent);
        Ok(())
    }

    fn link(&mut self, who: &Credentials, id: Id, parent: Id, name: &[u8]) -> Outcome {
        let kind = self.nodes.get(&id).ok_or(FsError::Stale)?.kind;
        self.vacant(who, parent, name)?;
        if kind == NodeKind::Directory {
            return Err(FsError::NotPermitted);
        }
        match self.links(id) {
            0 => return Err(FsError::NotFound),
            links if links >= LINKS_MAX => return Err(FsError::TooManyLinks),
            _ => {}
        }
        self.nodes.get_mut(&parent).unwrap().names.insert(name.to_vec(), id);
        self.touch_dir(parent);
        self.touch(id);
        Ok(())
    }

    fn remove(&mut self, who: &Credentials, parent: Id, name: &[u8], directory: bool) -> Outcome {
        let id = self.find(who, parent, name)?.ok_or(FsError::NotFound)?;
        self.removable(who, parent, id)?;
        match (directory, self.nodes[&id].kind == NodeKind::Directory) {
            (false, true) => return Err(FsError::IsDirectory),
            (true, false) => return Err(FsError::NotDirectory),
            (true, true) if !self.nodes[&id].names.is_empty() => return Err(FsError::NotEmpty),
            _ => {}
        }
        self.nodes.get_mut(&parent).unwrap().names.remove(name);
        self.touch_dir(parent);
        self.touch(id);
        Ok(())
    }

    fn is_under(&self, mut id: Id, above: Id) -> bool {
        loop {
            if id == above {
                return true;
            }
            match self.parent_of(id) {
                Some(parent) => id = parent,
                None => return false,
            }
        }
    }

    fn rename(&mut self, who: &Credentials, from: (Id, &[u8]), to: (Id, &[u8]), mode: RenameMode) -> Outcome {
        let source = self.find(who, from.0, from.1)?.ok_or(FsError::NotFound)?;
        let target = self.find(who, to.0, to.1)?;
        if self.links(to.0) == 0 {
            return Err(FsError::NotFound);
        }
        if mode == RenameMode::NoReplace && target.is_some() {
            return Err(FsError::Exists);
        }
        if mode == RenameMode::Exchange && target.is_none() {
            return Err(FsError::NotFound);
        }
        if self.is_under(to.0, source) {
            return Err(FsError::InvalidArgument);
        }
        if target == Some(source) {
            return Ok(());
        }
        let is_dir = |toy: &Self, id: Id| toy.nodes[&id].kind == NodeKind::Directory;
        if let Some(target) = target
            && mode == RenameMode::Exchange
            && self.is_under(from.0, target)
        {
            return Err(FsError::InvalidArgument);
        }
        self.removable(who, from.0, source)?;
        match target {
            Some(target) => self.removable(who, to.0, target)?,
            None => self.addable(who, to.0)?,
        }
        if is_dir(self, source) && from.0 != to.0 {
            self.need(who, source, 2)?;
        }
        if let Some(target) = target {
            if mode == RenameMode::Exchange {
                if is_dir(self, target) && from.0 != to.0 {
                    self.need(who, target, 2)?;
                }
                self.nodes.get_mut(&from.0).unwrap().names.insert(from.1.to_vec(), target);
            } else {
                match (is_dir(self, source), is_dir(self, target)) {
                    (true, false) => return Err(FsError::NotDirectory),
                    (false, true) => return Err(FsError::IsDirectory),
                    (true, true) if !self.nodes[&target].names.is_empty() => return Err(FsError::NotEmpty),
                    _ => {}
                }
            }
            self.touch(target);
        }
        if mode != RenameMode::Exchange {
            self.nodes.get_mut(&from.0).unwrap().names.remove(from.1);
        }
        self.nodes.get_mut(&to.0).unwrap().names.insert(to.1.to_vec(), source);
        self.touch(source);
        self.touch_dir(from.0);
        self.touch_dir(to.0);
        Ok(())
    }

    fn leased_to_other(&self, session: u64, id: Id) -> bool {
        self.leases.get(&id).is_some_and(|&holder| holder != session)
    }

    fn may_set_attr(&self, who: &Credentials, id: Id, changes: &AttrChanges) -> Outcome {
        let node = self.nodes.get(&id).ok_or(FsError::Stale)?;
        let trusted = who.check == PermissionCheck::Kernel || who.uid == 0;
        let member = |gid| who.gid == gid || who.groups.contains(&gid);
        if changes.mode.is_some() && !self.owns(who, id) {
            return Err(FsError::NotPermitted);
        }
        if !trusted && changes.uid.is_some_and(|uid| who.uid != node.uid || uid != node.uid) {
            return Err(FsError::NotPermitted);
        }
        if !trusted && changes.gid.is_some_and(|gid| who.uid != node.uid || !(member(gid) || gid == node.gid))
        {
            return Err(FsError::NotPermitted);
        }
        let plain_now = changes.atime == Some(TimeSet::Now) && changes.mtime == Some(TimeSet::Now);
        let with_size =
            changes.atime.is_none() && changes.mtime == Some(TimeSet::Now) && changes.size.is_some();
        let any_time = changes.atime.is_some() || changes.mtime.is_some();
        if plain_now {
            if !self.owns(who, id) && !self.allowed(who, id, 2) {
                return Err(FsError::PermissionDenied);
            }
        } else if any_time && !with_size && !self.owns(who, id) {
            return Err(FsError::NotPermitted);
        }
        Ok(())
    }

    fn set_attr(
        &mut self,
        session: u64,
        who: &Credentials,
        id: Id,
        changes: &AttrChanges,
        handle: bool,
    ) -> Outcome {
        self.may_set_attr(who, id, changes)?;
        let mut node = self.nodes[&id].clone();
        if let Some(size) = changes.size {
            match node.kind {
                NodeKind::Regular => {}
                NodeKind::Directory => return Err(FsError::IsDirectory),
                _ => return Err(FsError::InvalidArgument),
            }
            if !handle {
                self.need(who, id, 2)?;
            }
            if self.leased_to_other(session, id) {
                return Err(FsError::LeaseHeld);
            }
            node.bytes.retain(|&at, _| at < size);
            node.size = size;
            node.mtime = self.now;
            node.written_by(who);
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            node.uid = changes.uid.unwrap_or(node.uid);
            node.gid = changes.gid.unwrap_or(node.gid);
            if node.kind != NodeKind::Directory {
                node.mode = unprivileged(node.mode);
                node.xattrs.remove(&b"security.capability"[..]);
            }
        }
        if let Some(mode) = changes.mode {
            let trusted = who.check == PermissionCheck::Kernel || who.uid == 0;
            let member = who.gid == node.gid || who.groups.contains(&node.gid);
            node.mode = if trusted || member { mode } else { mode & !0o2000 };
        }
        let set = |time: Option<TimeSet>, old: Timestamp| match time {
            None => old,
            Some(TimeSet::Now) => self.now,
            Some(TimeSet::At(time)) => time,
        };
        (node.atime, node.mtime) = (set(changes.atime, node.atime), set(changes.mtime, node.mtime));
        node.ctime = self.now;
        self.nodes.insert(id, node);
        Ok(())
    }

    fn allocate(
        &mut self,
        session: u64,
        who: &Credentials,
        id: Id,
        mode: AllocateMode,
        offset: u64,
        length: u64,
    ) -> Outcome {
        match self.nodes.get(&id).ok_or(FsError::Stale)?.kind {
            NodeKind::Regular => {}
            NodeKind::Directory => return Err(FsError::IsDirectory),
            _ => return Err(FsError::InvalidArgument),
        }
        if length == 0 {
            return Err(FsError::InvalidArgument);
        }
        self.need(who, id, 2)?;
        if self.leased_to_other(session, id) {
            return Err(FsError::LeaseHeld);
        }
        let (now, end) = (self.now, offset + length);
        let node = self.nodes.get_mut(&id).unwrap();
        let zeroes = !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize);
        if zeroes {
            node.bytes.retain(|at, _| !(offset..end).contains(at));
        }
        let longer = matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) && end > node.size;
        if longer {
            node.size = end;
        }
        if zeroes || longer {
            node.mtime = now;
            node.written_by(who);
        }
        node.ctime = now;
        Ok(())
    }

    fn set_xattr(
        &mut self,
        who: &Credentials,
        id: Id,
        name: &[u8],
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Outcome {
        let node = self.nodes.get(&id).ok_or(FsError::Stale)?;
        if name.starts_with(b"user.") {
            match node.kind {
                NodeKind::Directory if node.mode & 0o1000 != 0 => {
                    if !self.owns(who, id) {
                        return Err(FsError::NotPermitted);
                    }
                }
                NodeKind::Directory | NodeKind::Regular => self.need(who, id, 2)?,
                _ => return Err(FsError::NotPermitted),
            }
        } else if who.uid != 0 && who.check == PermissionCheck::Master {
            return Err(FsError::NotPermitted);
        }
        match (mode, node.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(FsError::Exists),
            (XattrMode::Replace, false) => return Err(FsError::NoAttribute),
            _ => {}
        }
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        match value {
            Some(value) => node.xattrs.insert(name.to_vec(), value.to_vec()),
            None => node.xattrs.remove(name),
        };
        node.ctime = now;
        Ok(())
    }
}

fn unprivileged(mode: u32) -> u32 {
    if mode & 0o010 != 0 { mode & !0o6000 } else { mode & !0o4000 }
}
