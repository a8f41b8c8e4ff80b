//! `chmod`, `chown`, `touch`, `truncate`.

use super::mode::Mode;
use crate::error::CliError;
use cairn_client::{Client, Error, OpenOptions};
use cairn_core::error::FsError;
use cairn_core::namespace::attr::{AttrChanges, NodeKind, TimeSet};
use futures::TryStreamExt;
use std::path::PathBuf;

pub(super) async fn chmod(
    client: &Client,
    mode: &str,
    paths: &[String],
    recursive: bool,
) -> Result<(), CliError> {
    let mode = Mode::parse(mode)?;
    for path in everything(client, paths, recursive).await? {
        let metadata = client.symlink_metadata(&path).await?;
        if recursive && metadata.is_symlink() {
            continue;
        }
        client.set_permissions(&path, mode.apply(metadata.mode(), metadata.is_dir())).await?;
    }
    Ok(())
}

pub(super) async fn chown(
    client: &Client,
    owner: &str,
    paths: &[String],
    recursive: bool,
) -> Result<(), CliError> {
    let (uid, gid) = parse_owner(owner)?;
    for path in everything(client, paths, recursive).await? {
        client.set_owner(&path, uid, gid).await?;
    }
    Ok(())
}

fn parse_owner(text: &str) -> Result<(Option<u32>, Option<u32>), CliError> {
    let number = |part: &str| match part {
        "" => Ok(None),
        part => part.parse().map(Some).map_err(|_| {
            CliError::Usage(format!("{part} is no number; owners are given as UID, UID:GID or :GID"))
        }),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    Ok((number(uid)?, number(gid)?))
}

/// The paths, and with `recursive` all below them.
async fn everything(client: &Client, paths: &[String], recursive: bool) -> Result<Vec<PathBuf>, CliError> {
    let mut found: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let mut at = 0;
    while recursive && at < found.len() {
        let path = found[at].clone();
        at += 1;
        let kind = client.symlink_metadata(&path).await?.kind();
        if kind == NodeKind::Directory {
            let entries: Vec<_> = client.read_dir(&path).await?.try_collect().await?;
            found.extend(entries.iter().map(cairn_client::DirEntry::path));
        }
    }
    Ok(found)
}

pub(super) async fn touch(client: &Client, paths: &[String]) -> Result<(), CliError> {
    for path in paths {
        match client.set_times(path, Some(TimeSet::Now), Some(TimeSet::Now)).await {
            Err(Error { source: FsError::NotFound, .. }) => {
                OpenOptions::new().write(true).create(true).open(client, path).await?.close().await?;
            }
            outcome => outcome?,
        }
    }
    Ok(())
}

pub(super) async fn truncate(client: &Client, size: u64, paths: &[String]) -> Result<(), CliError> {
    for path in paths {
        let changes = AttrChanges { size: Some(size), ..AttrChanges::default() };
        client.set_attributes(path, changes).await?;
    }
    Ok(())
}
