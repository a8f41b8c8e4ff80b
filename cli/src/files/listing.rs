//! `ls`, `stat`, `tree`.

use crate::error::CliError;
use crate::output;
use cairn_client::{Client, DirEntry, Metadata};
use cairn_core::namespace::attr::NodeKind;
use cairn_core::time::Timestamp;
use futures::TryStreamExt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What `ls` shows.
#[derive(Clone, Copy)]
pub(super) struct LsOptions {
    pub(super) long: bool,
    pub(super) all: bool,
    pub(super) recursive: bool,
    pub(super) json: bool,
}

pub(super) async fn ls(client: &Client, paths: &[String], options: LsOptions) -> Result<(), CliError> {
    let root = [String::from("/")];
    let paths = if paths.is_empty() { &root[..] } else { paths };
    let headings = paths.len() > 1 || options.recursive;
    let mut rows = Vec::new();
    let mut stack: Vec<PathBuf> = paths.iter().rev().map(PathBuf::from).collect();
    while let Some(path) = stack.pop() {
        let metadata = client.metadata(&path).await?;
        if !metadata.is_dir() {
            show(path.as_os_str().as_bytes(), &path, &metadata, options, &mut rows);
            continue;
        }
        if headings && !options.json {
            output::line(&format!("{}:", path.display()));
        }
        let entries = sorted(client, &path, options.all).await?;
        for entry in &entries {
            let Some(metadata) = entry.metadata() else { continue };
            show(&entry.name_bytes(), &entry.path(), &metadata, options, &mut rows);
        }
        if options.recursive {
            let below = entries.iter().rev().filter(|entry| entry.kind() == NodeKind::Directory);
            stack.extend(below.map(DirEntry::path));
        }
        if headings && !options.json && !stack.is_empty() {
            output::line("");
        }
    }
    if options.json { output::json(&rows) } else { Ok(()) }
}

fn show(
    name: &[u8],
    path: &Path,
    metadata: &Metadata,
    options: LsOptions,
    rows: &mut Vec<serde_json::Value>,
) {
    if options.json {
        rows.push(as_json(path, metadata));
    } else if options.long {
        let attr = metadata.attr();
        let head = format!(
            "{}{} {:>3} {:>5} {:>5} {:>12} {} ",
            kind_letter(attr.kind),
            permissions(attr.mode),
            attr.links,
            attr.uid,
            attr.gid,
            attr.size,
            date_time(attr.mtime)
        );
        output::bytes_line(&[head.as_bytes(), name].concat());
    } else {
        output::bytes_line(name);
    }
}

async fn sorted(client: &Client, path: &Path, all: bool) -> Result<Vec<DirEntry>, CliError> {
    let mut entries: Vec<DirEntry> = client.read_dir(path).await?.try_collect().await?;
    entries.retain(|entry| all || !entry.name_bytes().starts_with(b"."));
    entries.sort_by_key(DirEntry::name_bytes);
    Ok(entries)
}

pub(super) async fn stat(client: &Client, paths: &[String], json: bool) -> Result<(), CliError> {
    let mut rows = Vec::new();
    for path in paths {
        let metadata = client.symlink_metadata(path).await?;
        if json {
            rows.push(as_json(Path::new(path), &metadata));
            continue;
        }
        let attr = metadata.attr();
        output::line(&format!(
            "{path}\n  {} {}  mode {:04o} ({})  links {}  owner {}:{}\n  size {}  mapped {}\n  \
             modified {}\n  changed  {}\n  accessed {}\n  created  {}",
            kind_name(attr.kind),
            attr.inode.get(),
            attr.mode,
            permissions(attr.mode),
            attr.links,
            attr.uid,
            attr.gid,
            attr.size,
            attr.mapped_bytes,
            date_time(attr.mtime),
            date_time(attr.ctime),
            date_time(attr.atime),
            date_time(attr.btime),
        ));
    }
    if json { output::json(&rows) } else { Ok(()) }
}

pub(super) async fn tree(
    client: &Client,
    top: &str,
    level: Option<usize>,
    json: bool,
) -> Result<(), CliError> {
    let mut rows = Vec::new();
    if !json {
        output::line(top);
    }
    let mut stack = vec![(PathBuf::from(top), 0_usize, None::<DirEntry>)];
    while let Some((path, depth, entry)) = stack.pop() {
        let is_directory = entry.as_ref().is_none_or(|entry| entry.kind() == NodeKind::Directory);
        if let Some(entry) = &entry {
            if json {
                rows.extend(entry.metadata().map(|metadata| as_json(&path, &metadata)));
            } else {
                let slash: &[u8] = if is_directory { b"/" } else { b"" };
                output::bytes_line(&[&b"  ".repeat(depth)[..], &entry.name_bytes(), slash].concat());
            }
        }
        if is_directory && level.is_none_or(|level| depth < level) {
            let entries = sorted(client, &path, true).await?;
            stack.extend(entries.into_iter().rev().map(|entry| (entry.path(), depth + 1, Some(entry))));
        }
    }
    if json { output::json(&rows) } else { Ok(()) }
}

fn as_json(path: &Path, metadata: &Metadata) -> serde_json::Value {
    let attr = metadata.attr();
    let seconds = |time: Timestamp| time.seconds as f64 + f64::from(time.nanos) / 1e9;
    serde_json::json!({
        "path": path.to_string_lossy(), "inode": attr.inode.get(), "kind": kind_name(attr.kind),
        "mode": format!("{:04o}", attr.mode), "links": attr.links, "uid": attr.uid, "gid": attr.gid,
        "size": attr.size, "mapped_bytes": attr.mapped_bytes, "mtime": seconds(attr.mtime),
        "ctime": seconds(attr.ctime), "atime": seconds(attr.atime), "btime": seconds(attr.btime),
    })
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Regular => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice => "char-device",
        NodeKind::BlockDevice => "block-device",
    }
}

fn kind_letter(kind: NodeKind) -> char {
    match kind {
        NodeKind::Regular => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::CharDevice => 'c',
        NodeKind::BlockDevice => 'b',
    }
}

/// `rwxr-xr-x`, with s, S, t and T as ls(1) shows them.
fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// UTC, to the second, by the civil-from-days rule (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(crate) fn date_time(time: Timestamp) -> String {
    let days = time.seconds.div_euclid(86_400) + 719_468;
    let second = time.seconds.rem_euclid(86_400);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_as_ls_shows_them() {
        assert_eq!(permissions(0o755), "rwxr-xr-x");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o1776), "rwxrwxrwT");
        assert_eq!(permissions(0o2640), "rw-r-S---");
    }

    #[test]
    fn dates_are_civil() {
        let at = |seconds| date_time(Timestamp { seconds, nanos: 0 });
        assert_eq!(at(0), "1970-01-01 00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56Z");
        assert_eq!(at(-1), "1969-12-31 23:59:59Z");
    }
}
