//! What an operation of this client may change before its answer is heard. Its author is not told of it as others are: another
//! client may have seen the new, and waits for nobody. So until the answer nothing of it is believed here.

use crate::ids::InodeId;
use crate::namespace::attr::AttrChanges;
use crate::namespace::request::OperationKind;
use bytes::Bytes;

/// Names, and inodes whose attributes, an operation may change. What only writes contents is left out: the author knows more of
/// those than the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) inodes: Vec<InodeId>,
    pub(super) names: Vec<(InodeId, Bytes)>,
    /// It changes what its names lead to as well.
    reaches: bool,
    /// And what that is was not known all the time since it began.
    pub(super) reaches_unknown: bool,
}

impl Touched {
    /// `leads_to` answers what a name is known to lead to: itself `None` when that is not known.
    pub(super) fn by(
        kind: &OperationKind,
        leads_to: impl Fn(InodeId, &[u8]) -> Option<Option<InodeId>>,
    ) -> Self {
        use OperationKind as Kind;
        let mut touched = Self::named_in(kind);
        touched.reaches = matches!(kind, Kind::Unlink { .. } | Kind::Rmdir { .. } | Kind::Rename { .. });
        for (parent, name) in &touched.names {
            match leads_to(*parent, name) {
                Some(known) => touched.inodes.extend(known),
                None => touched.reaches_unknown |= touched.reaches,
            }
        }
        touched
    }

    /// What these names lead to is not known any more, or was not for a while.
    pub(super) fn unsure(&mut self, is_one: impl Fn(InodeId, &[u8]) -> bool) {
        self.reaches_unknown |= self.reaches && self.names.iter().any(|(parent, name)| is_one(*parent, name));
    }

    fn named_in(kind: &OperationKind) -> Self {
        use OperationKind as Kind;
        let of = |inodes, names| Self { inodes, names, ..Self::default() };
        match kind {
            Kind::Create { parent, name, .. }
            | Kind::Mkdir { parent, name, .. }
            | Kind::Mknod { parent, name, .. }
            | Kind::Symlink { parent, name, .. }
            | Kind::Unlink { parent, name }
            | Kind::Rmdir { parent, name } => of(vec![*parent], vec![(*parent, name.to_bytes())]),
            Kind::Link { inode, new_parent, new_name } => {
                of(vec![*inode, *new_parent], vec![(*new_parent, new_name.to_bytes())])
            }
            Kind::Rename { parent, name, new_parent, new_name, .. } => of(
                vec![*parent, *new_parent],
                vec![(*parent, name.to_bytes()), (*new_parent, new_name.to_bytes())],
            ),
            Kind::SetAttr { inode, .. }
            | Kind::Allocate { inode, .. }
            | Kind::SetXattr { inode, .. }
            | Kind::RemoveXattr { inode, .. } => of(vec![*inode], Vec::new()),
            Kind::Commit { inode, changes, .. } if *changes != AttrChanges::default() => {
                of(vec![*inode], Vec::new())
            }
            Kind::AllocateChunks { .. }
            | Kind::LeaseFile { .. }
            | Kind::Commit { .. }
            | Kind::ReplaceReplicas { .. }
            | Kind::ReleaseChunks { .. }
            | Kind::ReleaseLeases { .. } => Self::default(),
        }
    }

    pub(super) fn has_name(&self, parent: InodeId, name: &[u8]) -> bool {
        self.names.iter().any(|(of, touched)| *of == parent && touched[..] == *name)
    }
}
