//! Before mounting: is there a device, and is the mount point fit? A dead mount of ours is cleared away.

use crate::mount_error::MountError;
use crate::mount_table::{FILE_SYSTEM_TYPE, MountEntry, Standing, standing, unmount_at};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const DEVICE: &str = "/dev/fuse";

/// Makes sure that a mount at `path` can succeed, and returns the path as the mount table will show it. Blocks.
///
/// # Errors
/// What is in the way, and what to do about it.
pub(crate) fn prepare(path: &Path) -> Result<PathBuf, MountError> {
    check_device()?;
    match standing(path).map_err(|source| MountError::mount_point(path, source))? {
        Standing::Nothing => {}
        Standing::Alive(entry) => return Err(already(entry)),
        Standing::Dead(entry) => clear(&entry)?,
    }
    check_directory(path)?;
    path.canonicalize().map_err(|source| MountError::mount_point(path, source))
}

fn check_device() -> Result<(), MountError> {
    let is_root = rustix::process::geteuid().is_root();
    match fs::OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(MountError::DeviceDenied),
        Err(_) => return Err(MountError::NoDevice),
    }
    if is_root || on_path("fusermount3") { Ok(()) } else { Err(MountError::NoFusermount) }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn already(entry: MountEntry) -> MountError {
    let mounted = entry.source.to_string_lossy().into_owned();
    MountError::AlreadyMounted { path: entry.mount_point, kind: entry.kind, mounted }
}

/// Takes our own dead mounts away; those of others are not ours to judge.
fn clear(entry: &MountEntry) -> Result<(), MountError> {
    let path = &entry.mount_point;
    let failed = |reason: String| MountError::DeadMount { path: path.clone(), reason };
    if entry.kind != FILE_SYSTEM_TYPE {
        return Err(failed(format!("it is of type {}, not ours", entry.kind)));
    }
    tracing::warn!(mount_point = %path.display(), "removing a mount whose daemon is gone");
    unmount_at(path, true).map_err(|error| failed(error.to_string()))
}

fn check_directory(path: &Path) -> Result<(), MountError> {
    let failed = |source| MountError::mount_point(path, source);
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(MountError::NotDirectory(path.to_owned()));
    }
    match fs::read_dir(path).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(MountError::NotEmpty(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_must_be_there_and_empty() {
        let root = std::env::temp_dir().join(format!("cairn-place-{}", std::process::id()));
        let empty = root.join("empty");
        fs::create_dir_all(&empty).unwrap();
        fs::write(root.join("file"), b"x").unwrap();
        assert!(check_directory(&empty).is_ok());
        assert!(matches!(check_directory(&root), Err(MountError::NotEmpty(_))));
        assert!(matches!(check_directory(&root.join("file")), Err(MountError::NotDirectory(_))));
        assert!(matches!(check_directory(&root.join("none")), Err(MountError::Missing(_))));
        assert!(matches!(check_directory(&root.join("file/below")), Err(MountError::NotDirectory(_))));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_mounted_is_named() {
        let Ok(Standing::Alive(entry)) = standing(Path::new("/proc")) else { panic!("/proc is mounted") };
        let text = already(entry).to_string();
        assert!(text.contains("/proc") && text.contains("proc of"), "{text}");
    }
}
