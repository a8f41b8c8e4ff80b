//! How a file is opened, as `tokio::fs::OpenOptions`.

use super::walk::{End, Walk};
use super::{Client, Error, File, Result};
use crate::fs::OpenFlags;
use cairn_core::error::FsError;
use cairn_core::namespace::attr::NodeKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Options of [`OpenOptions::open`]. Nothing is set at first.
///
/// ```no_run
/// # async fn example(client: cairn_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use cairn_client::OpenOptions;
/// let log = OpenOptions::new().append(true).create(true).open(&client, "/var/log/app").await?;
/// log.append("started\n").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    flags: OpenFlags,
    create: bool,
    mode: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { flags: OpenFlags::default(), create: false, mode: 0o644 }
    }
}

impl OpenOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// For reading.
    pub fn read(mut self, yes: bool) -> Self {
        self.flags.read = yes;
        self
    }

    /// For writing.
    pub fn write(mut self, yes: bool) -> Self {
        self.flags.write = yes;
        self
    }

    /// Each write goes to the end, also when others append.
    pub fn append(mut self, yes: bool) -> Self {
        self.flags.append = yes;
        self.flags.write |= yes;
        self
    }

    /// Cut to nothing.
    pub fn truncate(mut self, yes: bool) -> Self {
        self.flags.truncate = yes;
        self
    }

    /// Make it when absent.
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Make it; an existing one is an error (exactly one of many callers wins).
    pub fn create_new(mut self, yes: bool) -> Self {
        self.create |= yes;
        self.flags.exclusive = yes;
        self
    }

    /// Permission bits of a new file (0o644 unless told).
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// As open(2): `NotFound`, `Exists`, `IsDirectory`, `PermissionDenied`, …
    pub async fn open(&self, client: &Client, path: impl AsRef<Path>) -> Result<File> {
        let path = path.as_ref();
        self.open_inner(client, path).await.map_err(Error::at(path))
    }

    async fn open_inner(&self, client: &Client, path: &Path) -> std::result::Result<File, FsError> {
        let (fs, who) = (client.file_system(), client.credentials());
        let walk = Walk { fs, who };
        let end = if self.create && self.flags.exclusive {
            // O_EXCL does not follow a link at the end.
            let place = walk.place(path.as_os_str().as_bytes()).await?;
            End::Missing(place)
        } else {
            walk.place_following(path.as_os_str().as_bytes()).await?
        };
        let file = match end {
            End::Found(attr) => {
                if attr.kind == NodeKind::Directory {
                    return Err(FsError::IsDirectory);
                }
                fs.open(who, attr.inode, self.flags).await?
            }
            End::Missing(place) if self.create => {
                let name = place.name.filter(|_| !place.wants_directory).ok_or(FsError::IsDirectory)?;
                fs.create(who, place.parent, &name, self.mode & !client.umask(), self.flags).await?.1
            }
            End::Missing(_) => return Err(FsError::NotFound),
        };
        Ok(File::new(client.clone(), file, path.to_owned()))
    }
}
