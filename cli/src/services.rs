//! `cairn master` and `cairn chunkserver`: configuration in, one service in the foreground until SIGTERM or SIGINT.

use crate::args::ServiceCommand;
use crate::connect::{Work, block_on};
use crate::error::CliError;
use crate::{logging, output};
use cairn_chunkserver::ChunkServerConfig;
use cairn_core::limits::{CONFIG_BYTES_MAX, SERVICE_SLICE};
use cairn_env::Env;
use cairn_env::config::LogFormat;
use cairn_env::process;
use cairn_master::MasterConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// `cairn master`
pub(crate) fn master(command: &ServiceCommand) -> Result<(), CliError> {
    let Some((path, text)) = read_config(command, cairn_master::config::PRINT_CONFIG)? else {
        return Ok(());
    };
    let config = MasterConfig::parse(&path, &text).map_err(|error| CliError::Service(error.to_string()))?;
    logging::init(&config.log, config.log_format == LogFormat::Json)?;
    prepare_process();
    block_on(Work::Messages, async {
        let shutdown = cancelled_by_signal()?;
        let served = cairn_master::run(Env::real(), config, shutdown).await;
        served.map_err(|error| CliError::Service(error.to_string()))
    })
}

/// `cairn chunkserver`
pub(crate) fn chunkserver(command: &ServiceCommand) -> Result<(), CliError> {
    let Some((path, text)) = read_config(command, cairn_chunkserver::config::PRINT_CONFIG)? else {
        return Ok(());
    };
    let config =
        ChunkServerConfig::parse(&path, &text).map_err(|error| CliError::Service(error.to_string()))?;
    logging::init(&config.log, config.log_format == LogFormat::Json)?;
    prepare_process();
    block_on(Work::Bytes, async {
        let shutdown = cancelled_by_signal()?;
        let served = cairn_chunkserver::run(Env::real(), config, shutdown).await;
        served.map_err(|error| CliError::Service(error.to_string()))
    })
}

/// What every long-lived process asks of the kernel at its start. Refusals cost speed or room only.
pub(crate) fn prepare_process() {
    do_without_huge_pages();
    take_all_descriptors();
    run_in_short_slices();
}

/// A program that waits for the lock of a file, which another one holds until we answer, waits awake in the kernel. A thread of ours
/// that wakes on its core would stand behind it until its slice ends, some 3 ms: with sixteen programs that write and sync one
/// file that was a quarter of the time.
fn run_in_short_slices() {
    if let Err(error) = process::run_in_short_slices(SERVICE_SLICE) {
        tracing::debug!(%error, "the scheduler's slices stay as they are");
    }
}

/// Memory of all our processes comes and goes in small pieces. A huge page is kept for the sake of the last of them (a quarter more
/// memory of a master), and 2 MiB are cleared for each first touch: tens of milliseconds before a fresh mount lists its first
/// directory, three quarters of what a chunk server did for a small cold read.
fn do_without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay enabled");
    }
}

/// Up to the hard limit of descriptors: the usual soft one, 1024, is for programs that call select(2), and is fewer than a master
/// with a thousand clients has connections.
fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, descriptors = limit.current, "the limit of open files stays as it is");
    }
}

/// The text of `--config`; `None` when `--print-config` was all that was asked.
fn read_config(command: &ServiceCommand, defaults: &str) -> Result<Option<(PathBuf, String)>, CliError> {
    if command.print_config {
        output::raw(defaults.as_bytes());
        return Ok(None);
    }
    let Some(path) = &command.config else {
        return Err(CliError::Usage("--config FILE is needed".into()));
    };
    let named = || CliError::host(path.display().to_string());
    if std::fs::metadata(path).map_err(named())?.len() > CONFIG_BYTES_MAX {
        return Err(CliError::Usage(format!("{} is no configuration: larger than 64 KiB", path.display())));
    }
    Ok(Some((path.clone(), std::fs::read_to_string(path).map_err(named())?)))
}

/// Completes at the first SIGTERM or SIGINT.
pub(crate) fn shutdown_on_signal() -> Result<impl Future<Output = ()> + Send, CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::host("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::host("SIGINT"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn cancelled_by_signal() -> Result<CancellationToken, CliError> {
    let token = CancellationToken::new();
    let (asked, signalled) = (token.clone(), shutdown_on_signal()?);
    tokio::spawn(async move {
        signalled.await;
        asked.cancel();
    });
    Ok(token)
}

/// Blocks until SIGTERM or SIGINT.
pub(crate) fn wait_for_interrupt() -> Result<(), CliError> {
    block_on(Work::Messages, async {
        shutdown_on_signal()?.await;
        Ok(())
    })
}

/// What a service of a development cluster is told.
pub(crate) struct DevService<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: String,
    pub(crate) http_address: String,
    pub(crate) data_dirs: Vec<PathBuf>,
    pub(crate) masters: Vec<String>,
    /// Among those of its role, from 1.
    pub(crate) number: usize,
    pub(crate) cluster: Option<uuid::Uuid>,
    pub(crate) replicas: u8,
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Configuration of a master of a development cluster.
pub(crate) fn dev_master_config(service: &DevService<'_>) -> String {
    let mut text =
        format!("# {}, written by `cairn dev up`. See `cairn master --print-config`.\n", service.name);
    for directory in &service.data_dirs {
        writeln!(text, "data_dir = {}", quoted_path(directory)).expect("a string can be written to");
    }
    if let Some(cluster) = service.cluster {
        let members = service.masters.iter().enumerate();
        let members: Vec<String> =
            members.map(|(at, address)| quoted(&format!("{}={address}", at + 1))).collect();
        write!(
            text,
            "cluster = {}\nnode_id = {}\nmembers = [{}]\n",
            quoted(&cluster.to_string()),
            service.number,
            members.join(", ")
        )
        .expect("a string can be written to");
    }
    text + &format!(
        "listen = {}\nhttp_listen = {}\ndefault_replicas = {}\n",
        quoted(&service.address),
        quoted(&service.http_address),
        service.replicas
    )
}

/// Configuration of a chunk server of a development cluster.
pub(crate) fn dev_chunkserver_config(service: &DevService<'_>) -> String {
    let masters: Vec<String> = service.masters.iter().map(|master| quoted(master)).collect();
    let mut text = format!(
        "# {}, written by `cairn dev up`. See `cairn chunkserver --print-config`.\n\
         masters = [{}]\nlisten = {}\nhttp_listen = {}\n",
        service.name,
        masters.join(", "),
        quoted(&service.address),
        quoted(&service.http_address)
    );
    for directory in &service.data_dirs {
        write!(text, "\n[[disks]]\npath = {}\n", quoted_path(directory)).expect("a string can be written to");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_configurations_are_read_back() {
        let service = DevService {
            name: "x-1",
            address: "127.0.0.1:15000".into(),
            http_address: "127.0.0.1:15001".into(),
            data_dirs: vec!["/tmp/with \"quotes\" and \\".into()],
            masters: vec!["127.0.0.1:15000".into(), "127.0.0.1:15002".into()],
            number: 1,
            cluster: Some(uuid::Uuid::from_u128(7)),
            replicas: 2,
        };
        let master = MasterConfig::parse(Path::new("m"), &dev_master_config(&service)).unwrap();
        assert_eq!(master.data_dir, service.data_dirs[0]);
        assert_eq!(master.default_replicas, 2);
        let server = ChunkServerConfig::parse(Path::new("c"), &dev_chunkserver_config(&service)).unwrap();
        assert_eq!(server.disks[0].path, service.data_dirs[0]);
        assert_eq!(server.masters, service.masters);
    }
}
