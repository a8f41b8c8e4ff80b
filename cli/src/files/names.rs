//! `mkdir`, `mv`, `rm`, `rmdir`, `ln`.

use super::{into_directory, split_target};
use crate::error::CliError;
use cairn_client::{Client, Error};
use cairn_core::error::FsError;
use cairn_core::namespace::request::RenameMode;
use std::path::Path;

pub(super) async fn mkdir(
    client: &Client,
    paths: &[String],
    parents: bool,
    mode: u32,
) -> Result<(), CliError> {
    for path in paths {
        if !parents {
            client.create_dir_with_mode(path, mode).await?;
            continue;
        }
        if let Some(parent) = Path::new(path).parent() {
            client.create_dir_all(parent).await?;
        }
        match client.create_dir_with_mode(path, mode).await {
            Err(Error { source: FsError::Exists, .. }) if client.metadata(path).await?.is_dir() => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

pub(super) async fn mv(client: &Client, paths: &[String], no_clobber: bool) -> Result<(), CliError> {
    let (sources, target) = split_target(client, paths).await?;
    let mode = if no_clobber { RenameMode::NoReplace } else { RenameMode::Replace };
    for source in sources {
        let to = into_directory(client, Path::new(source), target).await?;
        client.rename_with(source, to, mode).await?;
    }
    Ok(())
}

pub(super) async fn rm(
    client: &Client,
    paths: &[String],
    recursive: bool,
    force: bool,
) -> Result<(), CliError> {
    for path in paths {
        let metadata = match client.symlink_metadata(path).await {
            Err(Error { source: FsError::NotFound, .. }) if force => continue,
            outcome => outcome?,
        };
        match (metadata.is_dir(), recursive) {
            (false, _) => client.remove_file(path).await?,
            (true, true) => client.remove_dir_all(path).await?,
            (true, false) => {
                return Err(CliError::Failed(format!(
                    "{path}: is a directory; remove it and all below with rm -r"
                )));
            }
        }
    }
    Ok(())
}

pub(super) async fn rmdir(client: &Client, paths: &[String]) -> Result<(), CliError> {
    for path in paths {
        client.remove_dir(path).await?;
    }
    Ok(())
}

pub(super) async fn ln(client: &Client, target: &str, link: &str, symbolic: bool) -> Result<(), CliError> {
    let link = into_directory(client, Path::new(target), link).await?;
    if symbolic {
        client.symlink(target, link).await?
    } else {
        client.hard_link(target, link).await?
    }
    Ok(())
}
