//! When a process counts as ready: what it says itself on `/readyz`, and for the mount that a write went through.

use super::layout::{Layout, Member, Role};
use super::process::{self, Running};
use crate::error::CliError;
use cairn_env::Env;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Health pages are far smaller.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const POLL: Duration = Duration::from_millis(10);

/// Why a process cannot be used.
enum Unready {
    NotYet(String),
    /// Waiting will not help.
    Never(String),
}

/// What `http://address/readyz` says; its text when ready.
fn ask(address: &str) -> Result<String, Unready> {
    let answer = http_get(address, "/readyz").map_err(|error| Unready::NotYet(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let said = || body.trim_end().to_owned();
    match head.split(' ').nth(1) {
        Some("200") => Ok(said()),
        Some("409") => Err(Unready::Never(said())),
        _ => Err(Unready::NotYet(format!("not ready yet: {}", said()))),
    }
}

fn http_get(address: &str, path: &str) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, exchange(address, path)).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    })
}

async fn exchange(address: &str, path: &str) -> io::Result<String> {
    let mut stream = Env::real().net.connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Waits until the service answers ready or that it never will be, its process ends, or `limit` has passed.
pub(super) fn wait_service(
    layout: &Layout,
    member: &Member,
    running: Running,
    limit: Duration,
) -> Result<(), CliError> {
    let address = layout.http_address(member);
    wait(layout, member, running, limit, || ask(&address).map(drop))
}

/// One look at whether the service is ready, and a short pause if it is not.
///
/// # Errors
/// As [`wait_service`], the limit counted from `start`.
pub(super) fn is_service_ready(
    layout: &Layout,
    member: &Member,
    running: Running,
    start: Instant,
    limit: Duration,
) -> Result<bool, CliError> {
    let address = layout.http_address(member);
    look(layout, member, running, (start, limit), || ask(&address).map(drop))
}

/// Waits until a file can be made, written, synced and removed through the mount.
pub(super) fn wait_mount(
    layout: &Layout,
    member: &Member,
    running: Running,
    limit: Duration,
) -> Result<(), CliError> {
    wait(layout, member, running, limit, || {
        if !crate::mounting::is_mounted(&layout.mount) {
            return Err(Unready::NotYet("not mounted yet".into()));
        }
        write_probe(&layout.mount)
            .map_err(|error| Unready::NotYet(format!("a write through the mount failed: {error}")))
    })
}

fn write_probe(mount: &Path) -> std::io::Result<()> {
    let path = mount.join(format!(".cairn-up-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    let written = file.write_all(b"ready").and_then(|()| file.sync_all());
    drop(file);
    std::fs::remove_file(&path)?;
    written
}

fn wait(
    layout: &Layout,
    member: &Member,
    running: Running,
    limit: Duration,
    mut probe: impl FnMut() -> Result<(), Unready>,
) -> Result<(), CliError> {
    let start = Instant::now();
    while !look(layout, member, running, (start, limit), &mut probe)? {}
    Ok(())
}

/// One probe; after one that failed a short pause.
fn look(
    layout: &Layout,
    member: &Member,
    running: Running,
    (start, limit): (Instant, Duration),
    probe: impl FnOnce() -> Result<(), Unready>,
) -> Result<bool, CliError> {
    let (never, detail) = match probe() {
        Ok(()) => return Ok(true),
        Err(Unready::NotYet(detail)) => (false, detail),
        Err(Unready::Never(detail)) => (true, detail),
    };
    let ended = !process::is_alive(running);
    if ended || never || start.elapsed() > limit {
        let detail = if ended { format!("it ended:\n{}", process::log_tail(layout, member)) } else { detail };
        return Err(CliError::NotReady {
            name: member.name.clone(),
            seconds: start.elapsed().as_secs(),
            detail,
            log: layout.log(member),
        });
    }
    std::thread::sleep(POLL);
    Ok(false)
}

/// Address of the leading master, when one says that it leads.
pub(super) fn leader(layout: &Layout) -> Option<String> {
    let mut masters = layout.of_role(Role::Master);
    let leads =
        |master: &&Member| matches!(ask(&layout.http_address(master)), Ok(said) if said.starts_with("leads"));
    masters.find(leads).map(|master| layout.address(master))
}
