//! Processes by pid file. A pid counts only together with its start time, so that a reused pid is never signalled.

use super::layout::{Layout, Member};
use crate::error::CliError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A live process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) pid: i32,
    started: u64,
}

/// What may be read off `/proc/PID/stat`.
struct Stat {
    state: char,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name stands in parentheses and may hold anything; fields count from its last ')'.
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

fn pid_file(layout: &Layout, member: &Member) -> PathBuf {
    layout.directory(member).join("pid")
}

/// The process of `member`, when it lives.
pub(super) fn running(layout: &Layout, member: &Member) -> Option<Running> {
    let text = std::fs::read_to_string(pid_file(layout, member)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let recorded = Running { pid: pid.parse().ok()?, started: started.parse().ok()? };
    is_alive(recorded).then_some(recorded)
}

/// A killed process whose first thread is a zombie lives on while others of its threads end: until then it holds its sockets
/// and locks.
pub(super) fn is_alive(process: Running) -> bool {
    let Some(now) = stat(process.pid).filter(|now| now.started == process.started) else {
        return false;
    };
    !matches!(now.state, 'Z' | 'X') || threads(process.pid) > 1
}

fn threads(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Starts this same binary with `arguments`, in a session of its own, its output appended to the member's log.
pub(super) fn spawn(layout: &Layout, member: &Member, arguments: &[String]) -> Result<Running, CliError> {
    let directory = layout.directory(member);
    std::fs::create_dir_all(&directory).map_err(CliError::host(directory.display().to_string()))?;
    let binary = std::env::current_exe().map_err(CliError::host("the path of this binary"))?;
    let log = open_log(layout, member)?;
    let errors = log.try_clone().map_err(CliError::host("the log"))?;
    let child = Command::new(&binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(CliError::host(format!("starting {}", binary.display())))?;
    let pid = child.id() as i32;
    let started = stat(pid).map_or(0, |stat| stat.started);
    let file = pid_file(layout, member);
    std::fs::write(&file, format!("{pid} {started}\n"))
        .map_err(CliError::host(file.display().to_string()))?;
    // Reaps the child while this command lives; afterwards init does.
    std::thread::spawn(move || {
        let mut child = child;
        child.wait()
    });
    Ok(Running { pid, started })
}

fn open_log(layout: &Layout, member: &Member) -> Result<File, CliError> {
    let path = layout.log(member);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(CliError::host(path.display().to_string()))
}

/// Last lines of a member's log, for error messages.
pub(super) fn log_tail(layout: &Layout, member: &Member) -> String {
    let text = std::fs::read(layout.log(member)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

pub(super) fn signal(process: Running, signal: Signal) -> Result<(), CliError> {
    if !is_alive(process) {
        return Ok(());
    }
    let Some(pid) = Pid::from_raw(process.pid) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => {
            Err(CliError::Host { what: format!("signalling pid {}", process.pid), source: error.into() })
        }
    }
}

/// Waits until the process is gone; false when it is not within `limit`.
pub(super) fn wait_gone(process: Running, limit: Duration) -> bool {
    let start = Instant::now();
    while is_alive(process) {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

pub(super) fn forget(layout: &Layout, member: &Member) {
    // A pid file left behind does no harm: its start time no longer matches anything.
    drop(std::fs::remove_file(pid_file(layout, member)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_a_reused_pid_is_not() {
        let pid = std::process::id() as i32;
        let started = stat(pid).unwrap().started;
        assert!(is_alive(Running { pid, started }));
        assert!(!is_alive(Running { pid, started: started + 1 }));
    }
}
