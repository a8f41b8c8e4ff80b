//! File verbs: `ls`, `put`, `rm`, … on the file system itself, without a mount.

mod attributes;
mod copy;
mod listing;
mod mode;
mod names;
mod progress;
mod usage;

pub(crate) use listing::date_time;

use crate::args::{FileCommand, Global};
use crate::connect::{Work, block_on, masters};
use crate::error::CliError;
use cairn_client::Client;
use std::path::Path;

/// Runs one file verb.
pub(crate) fn run(global: &Global, command: FileCommand) -> Result<(), CliError> {
    let masters = masters(global)?.join(",");
    let json = global.json;
    block_on(Work::Bytes, async {
        let client = Client::connect(&masters).await.map_err(|error| CliError::Connect(error.to_string()))?;
        let outcome = Box::pin(dispatch(&client, json, command)).await;
        let ended = client.shutdown().await.map_err(|source| CliError::File { path: "/".into(), source });
        outcome.and(ended)
    })
}

async fn dispatch(client: &Client, json: bool, command: FileCommand) -> Result<(), CliError> {
    use FileCommand as Verb;
    match command {
        Verb::Ls { paths, long, all, recursive } => {
            listing::ls(client, &paths, listing::LsOptions { long, all, recursive, json }).await
        }
        Verb::Stat { paths } => listing::stat(client, &paths, json).await,
        Verb::Tree { path, level } => listing::tree(client, &path, level, json).await,
        Verb::Mkdir { paths, parents, mode } => names::mkdir(client, &paths, parents, mode).await,
        Verb::Put { paths, recursive } => copy::put(client, &paths, recursive).await,
        Verb::Get { paths, recursive } => copy::get(client, &paths, recursive).await,
        Verb::Cat { paths } => copy::cat(client, &paths).await,
        Verb::Cp { paths, recursive } => copy::cp(client, &paths, recursive).await,
        Verb::Mv { paths, no_clobber } => names::mv(client, &paths, no_clobber).await,
        Verb::Rm { paths, recursive, force } => names::rm(client, &paths, recursive, force).await,
        Verb::Rmdir { paths } => names::rmdir(client, &paths).await,
        Verb::Du { paths, summarize } => usage::du(client, &paths, summarize, json).await,
        Verb::Df => usage::df(client, json).await,
        Verb::Chmod { mode, paths, recursive } => attributes::chmod(client, &mode, &paths, recursive).await,
        Verb::Chown { owner, paths, recursive } => attributes::chown(client, &owner, &paths, recursive).await,
        Verb::Ln { target, link, symbolic } => names::ln(client, &target, &link, symbolic).await,
        Verb::Touch { paths } => attributes::touch(client, &paths).await,
        Verb::Truncate { size, paths } => attributes::truncate(client, size, &paths).await,
    }
}

impl From<cairn_client::Error> for CliError {
    fn from(error: cairn_client::Error) -> Self {
        Self::File { path: error.path.display().to_string(), source: error.source }
    }
}

/// `target/name-of-source` when the target is a directory, else the target itself.
async fn into_directory(
    client: &Client,
    source: &Path,
    target: &str,
) -> Result<std::path::PathBuf, CliError> {
    let is_directory = match client.metadata(target).await {
        Ok(metadata) => metadata.is_dir(),
        Err(cairn_client::Error { source: cairn_core::error::FsError::NotFound, .. }) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(match source.file_name() {
        Some(name) if is_directory => Path::new(target).join(name),
        _ => target.into(),
    })
}

/// Sources and target of a verb that takes both; several sources need a directory as target.
async fn split_target<'a>(client: &Client, paths: &'a [String]) -> Result<(&'a [String], &'a str), CliError> {
    let Some((target, sources)) = paths.split_last() else {
        return Err(CliError::Usage("a source and a target are needed".into()));
    };
    if sources.len() > 1 && !client.metadata(target).await?.is_dir() {
        return Err(CliError::Usage(format!(
            "{target} is not a directory, and there are {} sources",
            sources.len()
        )));
    }
    Ok((sources, target))
}
