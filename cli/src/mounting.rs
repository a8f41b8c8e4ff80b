//! `cairn mount` and `cairn umount`.

use crate::args::{MountCommand, UmountCommand};
use crate::connect::{Work, block_on, runtime};
use crate::error::CliError;
use crate::{logging, output, services};
use cairn_env::Env;
use cairn_fuse::mount_table::{self, Standing};
use cairn_fuse::{MountError, MountFlags, MountOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long `cairn mount` waits for the mount to answer before it gives up on its background process.
const READY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// `cairn mount`
pub(crate) fn mount(command: &MountCommand) -> Result<(), CliError> {
    let options = options(command)?;
    if command.foreground { foreground(options) } else { background(command, &options) }
}

fn options(command: &MountCommand) -> Result<MountOptions, CliError> {
    let masters: Vec<String> =
        command.masters.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
    if masters.is_empty() {
        return Err(CliError::Usage("which masters? give host:port,… before the mount point".into()));
    }
    let mut flags = MountFlags::default();
    for words in &command.options {
        flags = flags.parse(words).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    Ok(MountOptions { masters, mount_point: command.mountpoint.clone(), flags })
}

fn foreground(options: MountOptions) -> Result<(), CliError> {
    logging::init("info", false)?;
    services::prepare_process();
    let bytes = runtime(Work::Bytes)?;
    let served = block_on(Work::Messages, async {
        let shutdown = services::shutdown_on_signal()?;
        cairn_fuse::serve(Env::real(), options, bytes.handle().clone(), shutdown)
            .await
            .map_err(|error| CliError::Service(error.to_string()))
    });
    // Everything is saved or given up: nobody waits for what is still under way.
    bytes.shutdown_background();
    served
}

/// Starts this binary again, detached, and waits until the mount answers.
fn background(command: &MountCommand, options: &MountOptions) -> Result<(), CliError> {
    // The process that is started says so where nobody looks.
    if let Some(address) = &options.flags.metrics {
        may_listen(address)?;
    }
    let binary = std::env::current_exe().map_err(CliError::host("the path of this binary"))?;
    let mountpoint = std::path::absolute(&command.mountpoint)
        .map_err(CliError::host(command.mountpoint.display().to_string()))?;
    let mut start = Command::new(binary);
    start.arg("mount").arg(&command.masters).arg(&mountpoint).arg("--foreground");
    for words in &command.options {
        start.args(["-o", words]);
    }
    let log = open_log(command.log.as_deref())?;
    let errors = log.try_clone().map_err(CliError::host("the log"))?;
    let mut child = start
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(CliError::host("starting the mount process"))?;
    wait_until_answering(&mut child, &mountpoint, command.log.as_deref())
}

/// # Errors
/// Why nobody can listen there, and the way out.
fn may_listen(address: &str) -> Result<(), CliError> {
    let refused = |error| {
        let source = io::Error::other(format!("listen at {address}: {error}"));
        CliError::Service(MountError::Metrics { source }.to_string())
    };
    TcpListener::bind(address).map(drop).map_err(refused)
}

/// Where the background process writes: the named file, else nowhere.
fn open_log(log: Option<&Path>) -> Result<std::fs::File, CliError> {
    let path = log.unwrap_or_else(|| Path::new("/dev/null"));
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(CliError::host(path.display().to_string()))
}

fn wait_until_answering(child: &mut Child, mountpoint: &Path, log: Option<&Path>) -> Result<(), CliError> {
    let begun = Instant::now();
    loop {
        if is_mounted(mountpoint) {
            return Ok(());
        }
        let ended = child.try_wait().map_err(CliError::host("the mount process"))?;
        if ended.is_some() || begun.elapsed() > READY_LIMIT {
            let what = if ended.is_some() { "ended" } else { "does not answer" };
            let why = match log {
                Some(log) => format!("its log is {}", log.display()),
                None => "run it with --foreground to see why, or name a --log FILE".to_owned(),
            };
            return Err(CliError::Failed(format!(
                "the mount process for {} {what}; {why}",
                mountpoint.display()
            )));
        }
        std::thread::sleep(POLL);
    }
}

/// `cairn umount`
pub(crate) fn umount(command: &UmountCommand) -> Result<(), CliError> {
    let point = &command.mountpoint;
    let standing = mount_table::standing(point).map_err(CliError::host(point.display().to_string()))?;
    let lazily = match standing {
        Standing::Nothing => {
            return Err(CliError::Failed(format!("{}: nothing is mounted there", point.display())));
        }
        Standing::Alive(entry) if entry.kind != mount_table::FILE_SYSTEM_TYPE => {
            return Err(CliError::Failed(format!(
                "{}: a {} file system, not one of ours; use umount",
                point.display(),
                entry.kind
            )));
        }
        Standing::Alive(_) => command.lazy,
        Standing::Dead(_) => true,
    };
    mount_table::unmount_at(point, lazily).map_err(|source| CliError::Host {
        what: format!("unmounting {} (in use? close what is open there, or use --lazy)", point.display()),
        source,
    })
}

/// Whether a live mount of ours stands there.
pub(crate) fn is_mounted(path: &Path) -> bool {
    matches!(mount_table::standing(path), Ok(Standing::Alive(entry)) if entry.kind == mount_table::FILE_SYSTEM_TYPE)
}

/// Whether a mount stands there whose process is gone.
pub(crate) fn is_dead(path: &Path) -> bool {
    matches!(mount_table::standing(path), Ok(Standing::Dead(_)))
}

/// Takes a dead mount away; several may be stacked.
pub(crate) fn clear_dead(path: &Path) -> Result<(), CliError> {
    while is_dead(path) {
        mount_table::unmount_at(path, true)
            .map_err(CliError::host(format!("clearing the dead mount at {}", path.display())))?;
        output::warning(&format!("cleared the dead mount at {}", path.display()));
    }
    Ok(())
}
