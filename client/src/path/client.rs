//! A connection for programs: one method per operation on a path.

use super::walk::{Place, Walk};
use super::{Error, File, Metadata, OpenOptions, ReadDir, Result};
use crate::error::ConnectError;
use crate::fs::FileSystem;
use crate::options::ConnectOptions;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::namespace::answer::FileSystemStats;
use cairn_core::namespace::attr::{AttrChanges, NodeKind, TimeSet};
use cairn_core::namespace::name::Name;
use cairn_core::namespace::request::{Credentials, PermissionCheck, RenameMode, XattrMode};
use cairn_env::Env;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A connected client. Clones share one session.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cairn_client::Client;
/// let client = Client::connect("127.0.0.1:9400").await?;
/// client.create_dir_all("/projects/a").await?;
/// client.write("/projects/a/notes", "hello").await?;
/// assert_eq!(&client.read("/projects/a/notes").await?[..], b"hello");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    fs: FileSystem,
    who: Credentials,
    umask: u32,
}

impl Client {
    /// Connects to the cluster behind `masters` (`host:port,…`), acting as the process's own user and group.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(masters: &str) -> std::result::Result<Self, ConnectError> {
        Self::connect_with(Env::real(), ConnectOptions::new(masters), own_credentials()).await
    }

    /// Connects with options, through the given doors, acting as `who`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        env: Env,
        options: ConnectOptions,
        who: Credentials,
    ) -> std::result::Result<Self, ConnectError> {
        let fs = FileSystem::connect(env, options).await?;
        Ok(Self { fs, who, umask: 0o022 })
    }

    /// The same session acting as somebody else.
    pub fn with_credentials(&self, who: Credentials) -> Self {
        Self { who, ..self.clone() }
    }

    /// The inode-level interface.
    pub fn file_system(&self) -> &FileSystem {
        &self.fs
    }

    /// Who it acts as.
    pub fn credentials(&self) -> &Credentials {
        &self.who
    }

    pub(super) fn umask(&self) -> u32 {
        self.umask
    }

    /// Flushes everything and ends the session.
    ///
    /// # Errors
    /// The first write that could not be flushed.
    pub async fn shutdown(self) -> std::result::Result<(), FsError> {
        self.fs.shutdown().await
    }

    fn walk(&self) -> Walk<'_> {
        Walk { fs: &self.fs, who: &self.who }
    }

    /// Directory and name of something to be made or removed.
    async fn place(&self, path: &Path) -> Result<(Place, Name)> {
        let place = self.walk().place(path.as_os_str().as_bytes()).await.map_err(Error::at(path))?;
        match place.name.clone() {
            Some(name) => Ok((place, name)),
            None => Err(Error { path: path.to_owned(), source: FsError::Busy }),
        }
    }

    /// Opens for reading.
    ///
    /// # Errors
    /// As open(2).
    pub async fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().read(true).open(self, path).await
    }

    /// Opens for writing, made when absent, cut to nothing when present.
    ///
    /// # Errors
    /// As open(2).
    pub async fn create(&self, path: impl AsRef<Path>) -> Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self, path).await
    }

    /// Attributes, through links.
    ///
    /// # Errors
    /// As stat(2).
    pub async fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), true).await
    }

    /// Attributes of a link itself.
    ///
    /// # Errors
    /// As lstat(2).
    pub async fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), false).await
    }

    async fn stat(&self, path: &Path, follow: bool) -> Result<Metadata> {
        let attr = self.walk().resolve(path.as_os_str().as_bytes(), follow).await;
        attr.map(Metadata).map_err(Error::at(path))
    }

    /// Whether it exists; an error other than "not found" is one.
    ///
    /// # Errors
    /// As stat(2), except `NotFound`.
    pub async fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.metadata(path).await {
            Ok(_) => Ok(true),
            Err(Error { source: FsError::NotFound, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of a directory.
    ///
    /// # Errors
    /// As opendir(3).
    pub async fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let path = path.as_ref();
        let metadata = self.metadata(path).await?;
        if !metadata.is_dir() {
            return Err(Error { path: path.to_owned(), source: FsError::NotDirectory });
        }
        Ok(ReadDir::new(self.clone(), metadata.inode(), path))
    }

    /// Makes a directory with the given permission bits.
    ///
    /// # Errors
    /// As mkdir(2).
    pub async fn create_dir_with_mode(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        let (place, name) = self.place(path).await.map_err(|error| match error.source {
            // mkdir("/") and mkdir("a/.") find something there.
            FsError::Busy => Error { source: FsError::Exists, ..error },
            _ => error,
        })?;
        self.fs.mkdir(&self.who, place.parent, &name, mode).await.map(drop).map_err(Error::at(path))
    }

    /// Makes a directory (0755).
    ///
    /// # Errors
    /// As mkdir(2).
    pub async fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.create_dir_with_mode(path, 0o777 & !self.umask).await
    }

    /// Removes a file, link or device node.
    ///
    /// # Errors
    /// As unlink(2).
    pub async fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (place, name) = self.place(path).await?;
        if place.wants_directory {
            return Err(Error { path: path.to_owned(), source: FsError::NotDirectory });
        }
        self.fs.unlink(&self.who, place.parent, &name).await.map_err(Error::at(path))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As rmdir(2).
    pub async fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (place, name) = self.place(path).await?;
        self.fs.rmdir(&self.who, place.parent, &name).await.map_err(Error::at(path))
    }

    /// Renames, replacing the target.
    ///
    /// # Errors
    /// As rename(2).
    pub async fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from, to, RenameMode::Replace).await
    }

    /// Renames as renameat2(2) does.
    ///
    /// # Errors
    /// As renameat2(2).
    pub async fn rename_with(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (source, name) = self.place(from).await?;
        let (target, new_name) = self.place(to).await?;
        let renamed = self.fs.rename(&self.who, source.parent, &name, target.parent, &new_name, mode).await;
        renamed.map_err(Error::at(from))
    }

    /// Gives a file a second name. A link at the end of `original` is not followed.
    ///
    /// # Errors
    /// As link(2).
    pub async fn hard_link(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
        let link = link.as_ref();
        let inode = self.symlink_metadata(original).await?.inode();
        let (place, name) = self.place(link).await?;
        self.fs.link(&self.who, inode, place.parent, &name).await.map(drop).map_err(Error::at(link))
    }

    /// Makes a symbolic link that holds `target`.
    ///
    /// # Errors
    /// As symlink(2).
    pub async fn symlink(&self, target: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
        let link = link.as_ref();
        let target = Bytes::copy_from_slice(target.as_ref().as_os_str().as_bytes());
        let (place, name) = self.place(link).await?;
        self.fs.symlink(&self.who, place.parent, &name, target).await.map(drop).map_err(Error::at(link))
    }

    /// What a symbolic link holds.
    ///
    /// # Errors
    /// As readlink(2): `InvalidArgument` when it is no link.
    pub async fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let metadata = self.symlink_metadata(path).await?;
        if metadata.kind() != NodeKind::Symlink {
            return Err(Error { path: path.to_owned(), source: FsError::InvalidArgument });
        }
        let target = self.fs.readlink(&self.who, metadata.inode()).await.map_err(Error::at(path))?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.to_vec())))
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// As chmod(2), chown(2), truncate(2), utimensat(2).
    pub async fn set_attributes(&self, path: impl AsRef<Path>, changes: AttrChanges) -> Result<Metadata> {
        let path = path.as_ref();
        let inode = self.metadata(path).await?.inode();
        self.fs.setattr(&self.who, inode, changes, None).await.map(Metadata).map_err(Error::at(path))
    }

    /// Changes the permission bits (0 ..= 0o7777).
    ///
    /// # Errors
    /// As chmod(2).
    pub async fn set_permissions(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let changes = AttrChanges { mode: Some(mode), ..AttrChanges::default() };
        self.set_attributes(path, changes).await.map(drop)
    }

    /// Changes owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// As chown(2).
    pub async fn set_owner(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.set_attributes(path, AttrChanges { uid, gid, ..AttrChanges::default() }).await.map(drop)
    }

    /// Changes access and modification time; `None` leaves one as it is.
    ///
    /// # Errors
    /// As utimensat(2).
    pub async fn set_times(
        &self,
        path: impl AsRef<Path>,
        atime: Option<TimeSet>,
        mtime: Option<TimeSet>,
    ) -> Result<()> {
        self.set_attributes(path, AttrChanges { atime, mtime, ..AttrChanges::default() }).await.map(drop)
    }

    /// Value of an extended attribute; the name carries its namespace (`user.note`).
    ///
    /// # Errors
    /// As getxattr(2).
    pub async fn xattr(&self, path: impl AsRef<Path>, name: &str) -> Result<Bytes> {
        let path = path.as_ref();
        let inode = self.metadata(path).await?.inode();
        self.fs.get_xattr(&self.who, inode, name.as_bytes()).await.map_err(Error::at(path))
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// As setxattr(2).
    pub async fn set_xattr(&self, path: impl AsRef<Path>, name: &str, value: impl Into<Bytes>) -> Result<()> {
        let path = path.as_ref();
        let inode = self.metadata(path).await?.inode();
        let set = self.fs.set_xattr(&self.who, inode, name.as_bytes(), value.into(), XattrMode::Either).await;
        set.map_err(Error::at(path))
    }

    /// Names of all extended attributes.
    ///
    /// # Errors
    /// As listxattr(2).
    pub async fn xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = path.as_ref();
        let inode = self.metadata(path).await?.inode();
        let list = self.fs.list_xattr(&self.who, inode).await.map_err(Error::at(path))?;
        let names = list.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// As removexattr(2).
    pub async fn remove_xattr(&self, path: impl AsRef<Path>, name: &str) -> Result<()> {
        let path = path.as_ref();
        let inode = self.metadata(path).await?.inode();
        self.fs.remove_xattr(&self.who, inode, name.as_bytes()).await.map_err(Error::at(path))
    }

    /// Capacity and use.
    ///
    /// # Errors
    /// `TimedOut` when no master leads.
    pub async fn statfs(&self) -> Result<FileSystemStats> {
        self.fs.statfs(&self.who).await.map_err(Error::at(Path::new("/")))
    }
}

/// The process's own user and group, checked by the master.
fn own_credentials() -> Credentials {
    Credentials {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: rustix::process::getgroups()
            .map(|groups| groups.into_iter().map(rustix::fs::Gid::as_raw).collect())
            .unwrap_or_default(),
        check: PermissionCheck::Master,
    }
}
