//! The kernel's table of mounts (proc_pid_mountinfo(5)) and what stands at a mount point.

use rustix::fs::lgetxattr;
use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file-system type that our mounts show in the table.
pub const FILE_SYSTEM_TYPE: &str = "fuse.cairn";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// `major:minor` of its super block, which also names its entry in `/sys/class/bdi`.
    pub device: String,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Its type, such as `fuse.cairn`.
    pub kind: String,
    /// What is mounted: for ours the addresses of the masters.
    pub source: OsString,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is mounted there.
    Nothing,
    /// A mount that answers.
    Alive(MountEntry),
    /// A FUSE mount whose daemon is gone: everything in it fails with ENOTCONN.
    Dead(MountEntry),
}

/// All mounts that this process sees.
///
/// # Errors
/// When /proc cannot be read.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
}

/// A name for which a daemon is asked, and which it refuses without asking anybody: attributes might wait for a master. (In the
/// namespace `system` the kernel asks for no permission first, which would need attributes.)
pub(crate) const ALIVE: &str = "system.cairn.alive";

/// What is mounted at `path` (the topmost, where several are stacked).
///
/// # Errors
/// When /proc cannot be read.
pub fn standing(path: &Path) -> io::Result<Standing> {
    let path = absolute(path)?;
    let Some(entry) = mounts()?.into_iter().rfind(|entry| entry.mount_point == path) else {
        return Ok(Standing::Nothing);
    };
    let gone = lgetxattr(&path, ALIVE, &mut [0; 0]).err() == Some(rustix::io::Errno::NOTCONN);
    Ok(if gone { Standing::Dead(entry) } else { Standing::Alive(entry) })
}

/// Takes a mount away. `lazily`: at once, even while it is in use or dead; programs that hold it open keep what they have.
///
/// # Errors
/// As umount2(2); for an ordinary user what `fusermount3` said.
pub fn unmount_at(path: &Path, lazily: bool) -> io::Result<()> {
    let path = absolute(path)?;
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(&path, flags | UnmountFlags::NOFOLLOW) {
        Err(rustix::io::Errno::PERM) => unmount_by_fusermount(&path, lazily),
        other => Ok(other?),
    }
}

fn unmount_by_fusermount(path: &Path, lazily: bool) -> io::Result<()> {
    let flags = if lazily { "-uz" } else { "-u" };
    let output = Command::new("fusermount3").arg(flags).arg("--").arg(path).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The path as the table shows it: the parent resolved, the last component untouched (it may be dead and must not be asked).
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        _ => Ok(path),
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: fields before ` - ` vary in number.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    Some(MountEntry {
        device: String::from_utf8_lossy(fields.get(2)?).into_owned(),
        mount_point: PathBuf::from(unescape(fields.get(4)?)),
        kind: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
        source: unescape(fields.get(dash + 2)?),
    })
}

/// Undoes `\040` and its like, which stand for blank, tab, newline and backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(value.unwrap_or(first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let with = b"36 35 0:52 / /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.cairn 10.0.0.1:7000,10.0.0.2:7000 rw";
        let entry = parse_line(with).unwrap();
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.mount_point, Path::new("/mnt/a b"));
        assert_eq!(entry.kind, FILE_SYSTEM_TYPE);
        assert_eq!(entry.source, "10.0.0.1:7000,10.0.0.2:7000");
        let without = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw";
        assert_eq!(parse_line(without).unwrap().kind, "ext4");
    }

    #[test]
    fn nonsense_lines_are_passed_over() {
        for line in [&b""[..], b"36 35", b"1 0 8:1 / / rw - ext4", b"1 0 8:1 / / rw ext4 /dev/sda1 rw"] {
            assert_eq!(parse_line(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn escapes_are_undone_and_loose_backslashes_kept() {
        assert_eq!(unescape(b"a\\134b\\011\\012"), "a\\b\t\n");
        assert_eq!(unescape(b"end\\04"), "end\\04");
        assert_eq!(unescape(b"\\999"), "\\999");
    }

    #[test]
    fn the_root_is_mounted_and_a_fresh_directory_is_not() {
        assert!(
            matches!(standing(Path::new("/proc")).unwrap(), Standing::Alive(entry) if entry.kind == "proc")
        );
        assert_eq!(standing(&std::env::temp_dir().join("cairn-no-such-mount")).unwrap(), Standing::Nothing);
    }
}
