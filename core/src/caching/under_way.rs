//! What an operation of this client may change before its answer is heard. Its author is not told of it as others are: another
//! client may have seen the new, and waits for nobody. So until the answer nothing of it is believed here.

use crate::ids::InodeId;
use crate::namespace::request::OperationKind;
use bytes::Bytes;

/// Names, and inodes whose attributes, an operation may change. What only writes contents is left out: the author knows more of
/// those than the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) inodes: Vec<InodeId>,
    pub(super) names: Vec<(InodeId, Bytes)>,
}

impl Touched {
    pub(super) fn by(kind: &OperationKind) -> Self {
        use OperationKind as Kind;
        match kind {
            Kind::Create { parent, name, .. }
            | Kind::Mkdir { parent, name, .. }
            | Kind::Mknod { parent, name, .. }
            | Kind::Symlink { parent, name, .. }
            | Kind::Unlink { parent, name }
            | Kind::Rmdir { parent, name } => {
                Self { inodes: vec![*parent], names: vec![(*parent, name.to_bytes())] }
            }
            Kind::Link { inode, new_parent, new_name } => {
                Self { inodes: vec![*inode, *new_parent], names: vec![(*new_parent, new_name.to_bytes())] }
            }
            Kind::Rename { parent, name, new_parent, new_name, .. } => Self {
                inodes: vec![*parent, *new_parent],
                names: vec![(*parent, name.to_bytes()), (*new_parent, new_name.to_bytes())],
            },
            Kind::SetAttr { inode, .. }
            | Kind::Allocate { inode, .. }
            | Kind::SetXattr { inode, .. }
            | Kind::RemoveXattr { inode, .. } => Self { inodes: vec![*inode], names: Vec::new() },
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
