//! `put`, `get`, `cat`, `cp`.

use super::progress::Progress;
use super::{into_directory, split_target};
use crate::error::CliError;
use crate::output;
use bytes::Bytes;
use cairn_client::{Client, OpenOptions};
use cairn_core::namespace::attr::NodeKind;
use futures::TryStreamExt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes moved by one step.
const STEP_BYTES: usize = 1 << 20;

pub(super) async fn cat(client: &Client, paths: &[String]) -> Result<(), CliError> {
    for path in paths {
        each_part(client, Path::new(path), async |_, part| {
            output::raw(&part);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Hands on all bytes of a file, a step at a time, each with its offset.
async fn each_part(
    client: &Client,
    path: &Path,
    mut take: impl AsyncFnMut(u64, Bytes) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let file = client.open(path).await?;
    let mut at = 0;
    loop {
        let part = file.read_at(at, STEP_BYTES as u32).await?;
        if part.is_empty() {
            return Ok(file.close().await?);
        }
        let count = part.len();
        take(at, part).await?;
        at += count as u64;
    }
}

pub(super) async fn put(client: &Client, paths: &[String], recursive: bool) -> Result<(), CliError> {
    let (sources, target) = split_target(client, paths).await?;
    let progress = Progress::new(0);
    for source in sources.iter().map(Path::new) {
        let to = into_directory(client, source, target).await?;
        put_tree(client, source, to, recursive, &progress).await?;
    }
    progress.finish();
    Ok(())
}

async fn put_tree(
    client: &Client,
    source: &Path,
    target: PathBuf,
    recursive: bool,
    progress: &Progress,
) -> Result<(), CliError> {
    let mut stack = vec![(source.to_owned(), target)];
    while let Some((from, to)) = stack.pop() {
        let host = |what: &Path| CliError::host(what.display().to_string());
        let metadata = std::fs::symlink_metadata(&from).map_err(host(&from))?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let link = std::fs::read_link(&from).map_err(host(&from))?;
            client.symlink(link, &to).await?;
        } else if kind.is_dir() {
            require_recursive(&from, recursive)?;
            client.create_dir_all(&to).await?;
            for entry in std::fs::read_dir(&from).map_err(host(&from))? {
                let name = entry.map_err(host(&from))?.file_name();
                stack.push((from.join(&name), to.join(&name)));
            }
        } else if kind.is_file() {
            progress.more(metadata.len());
            put_file(client, &from, &to, metadata.permissions().mode() & 0o7777, progress).await?;
        } else {
            output::warning(&format!("{}: neither file, directory nor link: left out", from.display()));
        }
    }
    Ok(())
}

async fn put_file(
    client: &Client,
    from: &Path,
    to: &Path,
    mode: u32,
    progress: &Progress,
) -> Result<(), CliError> {
    progress.file(&from.display().to_string());
    let mut input = std::fs::File::open(from).map_err(CliError::host(from.display().to_string()))?;
    let output =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(client, to).await?;
    let mut at = 0;
    loop {
        let mut buffer = vec![0; STEP_BYTES];
        let count = input.read(&mut buffer).map_err(CliError::host(from.display().to_string()))?;
        if count == 0 {
            break;
        }
        buffer.truncate(count);
        output.write_at(at, Bytes::from(buffer)).await?;
        at += count as u64;
        progress.copied(count);
    }
    output.close().await?;
    Ok(())
}

pub(super) async fn get(client: &Client, paths: &[String], recursive: bool) -> Result<(), CliError> {
    let Some((target, sources)) = paths.split_last() else {
        return Err(CliError::Usage("a source and a target are needed".into()));
    };
    let target = Path::new(target);
    if sources.len() > 1 && !target.is_dir() {
        return Err(CliError::Usage(format!("{} is not a directory", target.display())));
    }
    let progress = Progress::new(0);
    for source in sources.iter().map(Path::new) {
        let to = match source.file_name() {
            Some(name) if target.is_dir() => target.join(name),
            _ => target.to_owned(),
        };
        get_tree(client, source, to, recursive, &progress).await?;
    }
    progress.finish();
    Ok(())
}

async fn get_tree(
    client: &Client,
    source: &Path,
    target: PathBuf,
    recursive: bool,
    progress: &Progress,
) -> Result<(), CliError> {
    let mut stack = vec![(source.to_owned(), target)];
    while let Some((from, to)) = stack.pop() {
        let host = || CliError::host(to.display().to_string());
        let metadata = client.symlink_metadata(&from).await?;
        match metadata.kind() {
            NodeKind::Regular => {
                progress.more(metadata.len());
                get_file(client, &from, &to, metadata.mode(), progress).await?;
            }
            NodeKind::Directory => {
                require_recursive(&from, recursive)?;
                std::fs::create_dir_all(&to).map_err(host())?;
                let mut entries = client.read_dir(&from).await?;
                while let Some(entry) = entries.try_next().await? {
                    stack.push((entry.path(), to.join(entry.file_name())));
                }
            }
            NodeKind::Symlink => {
                let link = client.read_link(&from).await?;
                std::os::unix::fs::symlink(link, &to).map_err(host())?;
            }
            NodeKind::Fifo | NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => {
                output::warning(&format!("{}: neither file, directory nor link: left out", from.display()));
            }
        }
    }
    Ok(())
}

async fn get_file(
    client: &Client,
    from: &Path,
    to: &Path,
    mode: u32,
    progress: &Progress,
) -> Result<(), CliError> {
    progress.file(&from.display().to_string());
    let host = || CliError::host(to.display().to_string());
    let mut output = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode & 0o777)
        .open(to)
        .map_err(host())?;
    each_part(client, from, async |_, part| {
        output.write_all(&part).map_err(host())?;
        progress.copied(part.len());
        Ok(())
    })
    .await
}

pub(super) async fn cp(client: &Client, paths: &[String], recursive: bool) -> Result<(), CliError> {
    let (sources, target) = split_target(client, paths).await?;
    let progress = Progress::new(0);
    for source in sources.iter().map(Path::new) {
        let to = into_directory(client, source, target).await?;
        if recursive && to.starts_with(source) {
            return Err(CliError::Usage(format!("cannot copy {} into itself", source.display())));
        }
        let mut stack = vec![(source.to_owned(), to)];
        while let Some((from, to)) = stack.pop() {
            let metadata = client.symlink_metadata(&from).await?;
            match metadata.kind() {
                NodeKind::Regular => {
                    progress.more(metadata.len());
                    copy_file(client, &from, &to, metadata.mode(), &progress).await?;
                }
                NodeKind::Directory => {
                    require_recursive(&from, recursive)?;
                    client.create_dir_all(&to).await?;
                    let mut entries = client.read_dir(&from).await?;
                    while let Some(entry) = entries.try_next().await? {
                        stack.push((entry.path(), to.join(entry.file_name())));
                    }
                }
                NodeKind::Symlink => client.symlink(client.read_link(&from).await?, &to).await?,
                NodeKind::Fifo | NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => {
                    output::warning(&format!(
                        "{}: neither file, directory nor link: left out",
                        from.display()
                    ));
                }
            }
        }
    }
    progress.finish();
    Ok(())
}

async fn copy_file(
    client: &Client,
    from: &Path,
    to: &Path,
    mode: u32,
    progress: &Progress,
) -> Result<(), CliError> {
    progress.file(&from.display().to_string());
    if client.exists(to).await? && client.metadata(to).await?.inode() == client.metadata(from).await?.inode()
    {
        return Err(CliError::Failed(format!("{} and {} are the same file", from.display(), to.display())));
    }
    let output =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(client, to).await?;
    each_part(client, from, async |at, part| {
        let count = part.len();
        output.write_at(at, part).await?;
        progress.copied(count);
        Ok(())
    })
    .await?;
    Ok(output.close().await?)
}

fn require_recursive(path: &Path, recursive: bool) -> Result<(), CliError> {
    if recursive {
        return Ok(());
    }
    Err(CliError::Failed(format!("{}: is a directory; copy it and all below with -r", path.display())))
}
