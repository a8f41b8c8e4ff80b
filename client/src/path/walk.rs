//! Path resolution (POSIX 4.16): component by component, following symbolic links, at most forty of them.

use crate::fs::FileSystem;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::attr::{Attr, NodeKind};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::Credentials;
use std::collections::VecDeque;

/// As Linux (MAXSYMLINKS).
const SYMLINKS_MAX: usize = 40;
/// PATH_MAX, before links are followed.
const PATH_BYTES_MAX: usize = 4096;

/// Where the last component of a path lives.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory.
    pub(super) parent: InodeId,
    /// The name in it; `None` when the path ends in `/`, `.` or `..`, hence names the directory itself.
    pub(super) name: Option<Name>,
    /// The path ended in `/`: it must be a directory.
    pub(super) wants_directory: bool,
}

/// A walk in one file system on behalf of one caller.
pub(super) struct Walk<'a> {
    pub(super) fs: &'a FileSystem,
    pub(super) who: &'a Credentials,
}

impl Walk<'_> {
    /// What `path` names. `follow`: also through a link in the last component.
    pub(super) async fn resolve(&self, path: &[u8], follow: bool) -> Result<Attr, FsError> {
        self.run(path, follow).await.and_then(|end| match end {
            End::Found(attr) => Ok(attr),
            End::Missing(_) => Err(FsError::NotFound),
        })
    }

    /// The directory and name that `path` ends in, which need not exist. Links before the end are followed.
    pub(super) async fn place(&self, path: &[u8]) -> Result<Place, FsError> {
        let (head, last, wants_directory) = split_last(path)?;
        let parent = self.resolve(head, true).await?;
        if parent.kind != NodeKind::Directory {
            return Err(FsError::NotDirectory);
        }
        Ok(match last {
            b"" | b"." => Place { parent: parent.inode, name: None, wants_directory },
            b".." => {
                let above = self.fs.lookup_parent(self.who, parent.inode).await?;
                Place { parent: above.inode, name: None, wants_directory }
            }
            name => Place {
                parent: parent.inode,
                name: Some(Name::new(Bytes::copy_from_slice(name))?),
                wants_directory,
            },
        })
    }

    /// As `place`, but a link at the end is followed to where it points, for opening with creation.
    pub(super) async fn place_following(&self, path: &[u8]) -> Result<End, FsError> {
        self.run(path, true).await
    }

    async fn run(&self, path: &[u8], follow: bool) -> Result<End, FsError> {
        if path.is_empty() {
            return Err(FsError::NotFound);
        }
        if path.len() >= PATH_BYTES_MAX {
            return Err(FsError::NameTooLong);
        }
        let mut rest = components(path);
        let ends_in_slash = path.ends_with(b"/");
        let mut links = 0;
        let mut at = self.fs.getattr(self.who, InodeId::ROOT, None).await?;
        while let Some(component) = rest.pop_front() {
            if at.kind != NodeKind::Directory {
                return Err(FsError::NotDirectory);
            }
            if component == ".." {
                at = self.fs.lookup_parent(self.who, at.inode).await?;
                continue;
            }
            let name = Name::new(component)?;
            let next = match self.fs.lookup(self.who, at.inode, &name).await {
                Ok(next) => next,
                Err(FsError::NotFound) if rest.is_empty() => {
                    return Ok(End::Missing(Place {
                        parent: at.inode,
                        name: Some(name),
                        wants_directory: ends_in_slash,
                    }));
                }
                Err(error) => return Err(error),
            };
            if next.kind == NodeKind::Symlink && (follow || !rest.is_empty() || ends_in_slash) {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(FsError::SymlinkLoop);
                }
                let target = self.fs.readlink(self.who, next.inode).await?;
                if target.starts_with(b"/") {
                    at = self.fs.getattr(self.who, InodeId::ROOT, None).await?;
                }
                for component in components(&target).into_iter().rev() {
                    rest.push_front(component);
                }
                continue;
            }
            at = next;
        }
        if ends_in_slash && at.kind != NodeKind::Directory {
            return Err(FsError::NotDirectory);
        }
        Ok(End::Found(at))
    }
}

/// Where a walk ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Found(Attr),
    Missing(Place),
}

/// Components without empty ones and `.`.
fn components(path: &[u8]) -> VecDeque<Bytes> {
    path.split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty() && *component != b".")
        .map(Bytes::copy_from_slice)
        .collect()
}

/// (everything before, last component without trailing slashes, whether there were any)
fn split_last(path: &[u8]) -> Result<(&[u8], &[u8], bool), FsError> {
    if path.is_empty() {
        return Err(FsError::NotFound);
    }
    if path.len() >= PATH_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let trimmed = &path[..end];
    let start = trimmed.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let head = if start == 0 { &b"/"[..] } else { &trimmed[..start] };
    Ok((head, &trimmed[start..], end < path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_split_off() {
        let split = |path: &'static str| split_last(path.as_bytes()).unwrap();
        assert_eq!(split("/a/b"), (&b"/a/"[..], &b"b"[..], false));
        assert_eq!(split("/a/b//"), (&b"/a/"[..], &b"b"[..], true));
        assert_eq!(split("a"), (&b"/"[..], &b"a"[..], false));
        assert_eq!(split("/"), (&b"/"[..], &b""[..], true));
        assert!(split_last(b"").is_err());
    }

    #[test]
    fn dots_and_empty_components_are_dropped() {
        let parts: Vec<Bytes> = components(b"//a/./b/../c/").into();
        assert_eq!(parts, [&b"a"[..], b"b", b"..", b"c"]);
    }
}
