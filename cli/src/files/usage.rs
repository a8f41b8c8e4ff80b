//! `du`, `df`.

use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_client::Client;
use cairn_core::namespace::attr::NodeKind;
use futures::TryStreamExt;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Bytes and files below one directory.
#[derive(Clone, Copy, Default)]
struct Total {
    bytes: u64,
    mapped: u64,
    files: u64,
}

/// A directory being summed up; its total goes to its parent when all below it is done.
struct Frame {
    path: PathBuf,
    total: Total,
    below: Vec<PathBuf>,
}

pub(super) async fn du(
    client: &Client,
    paths: &[String],
    summarize: bool,
    json: bool,
) -> Result<(), CliError> {
    let root = [String::from("/")];
    let paths = if paths.is_empty() { &root[..] } else { paths };
    let mut rows = Vec::new();
    for path in paths {
        let metadata = client.symlink_metadata(path).await?;
        if !metadata.is_dir() {
            let attr = metadata.attr();
            rows.push((PathBuf::from(path), Total { bytes: attr.size, mapped: attr.mapped_bytes, files: 1 }));
            continue;
        }
        sum(client, PathBuf::from(path), summarize, &mut rows).await?;
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(path, total)| {
                serde_json::json!({"path": path.to_string_lossy(), "bytes": total.bytes, "mapped_bytes": total.mapped, "files": total.files})
            })
            .collect();
        return output::json(&rows);
    }
    let mut table = output::Table::new(&["SIZE", "FILES", "PATH"]);
    for (path, total) in rows {
        table.row(vec![human_bytes(total.bytes), total.files.to_string(), path.display().to_string()]);
    }
    table.print();
    Ok(())
}

/// Depth first; an inode with several names counts once.
async fn sum(
    client: &Client,
    top: PathBuf,
    summarize: bool,
    rows: &mut Vec<(PathBuf, Total)>,
) -> Result<(), CliError> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![read(client, top, &mut seen).await?];
    while let Some(mut frame) = stack.pop() {
        if let Some(next) = frame.below.pop() {
            stack.push(frame);
            stack.push(read(client, next, &mut seen).await?);
            continue;
        }
        if !summarize || stack.is_empty() {
            rows.push((frame.path, frame.total));
        }
        if let Some(parent) = stack.last_mut() {
            parent.total.bytes += frame.total.bytes;
            parent.total.mapped += frame.total.mapped;
            parent.total.files += frame.total.files;
        }
    }
    Ok(())
}

async fn read(client: &Client, path: PathBuf, seen: &mut BTreeSet<u64>) -> Result<Frame, CliError> {
    let mut frame = Frame { path, total: Total::default(), below: Vec::new() };
    let mut entries = client.read_dir(&frame.path).await?;
    while let Some(entry) = entries.try_next().await? {
        if entry.kind() == NodeKind::Directory {
            frame.below.push(entry.path());
        } else if let Some(metadata) = entry.metadata() {
            let attr = metadata.attr();
            if attr.links == 1 || seen.insert(attr.inode.get()) {
                frame.total.bytes += attr.size;
                frame.total.mapped += attr.mapped_bytes;
                frame.total.files += 1;
            }
        }
    }
    Ok(frame)
}

pub(super) async fn df(client: &Client, json: bool) -> Result<(), CliError> {
    let stats = client.statfs().await?;
    if json {
        return output::json(&serde_json::json!({
            "total_bytes": stats.total_bytes, "free_bytes": stats.free_bytes, "inodes": stats.inodes,
        }));
    }
    let mut table = output::Table::new(&["SIZE", "USED", "FREE", "INODES"]);
    table.row(vec![
        human_bytes(stats.total_bytes),
        human_bytes(stats.total_bytes.saturating_sub(stats.free_bytes)),
        human_bytes(stats.free_bytes),
        stats.inodes.to_string(),
    ]);
    table.print();
    Ok(())
}
