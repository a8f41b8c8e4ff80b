//! A process that is killed, stopped, and started again.

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A process is found to have ended by itself so long after its start at the earliest: until then it is not looked at.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// One process of the cluster, whether it runs or not.
#[derive(Debug)]
pub struct Process {
    /// `master-1`, `chunkserver-2`, `mount-3`
    pub name: String,
    /// Shell words that run it in the foreground.
    pub command: String,
    /// Its log file.
    pub log: PathBuf,
    /// Whether it is to run.
    pub is_wanted: bool,
    run: Option<Run>,
    started: Option<Instant>,
}

/// A life of it.
#[derive(Debug)]
struct Run {
    pid: i32,
    handle: OwnedFd,
    was_killed: bool,
}

/// What is to be done about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it runs, or is not to run.
    Nothing,
    /// To be started.
    Start,
    /// It was to run, and has ended by itself.
    Ended,
}

impl Process {
    /// One that was not started yet.
    pub fn new(name: &str, command: String, log: PathBuf) -> Self {
        Self { name: name.to_owned(), command, log, is_wanted: false, run: None, started: None }
    }

    /// Notes that it was started with this pid.
    pub fn started(&mut self, pid: i32) {
        self.started = Some(Instant::now());
        let handle = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        // One that has ended already is found so at the next look.
        self.run = handle.and_then(Result::ok).map(|handle| Run { pid, handle, was_killed: false });
    }

    /// Sends a signal, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(run) = &self.run {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(&run.handle, signal);
        }
    }

    /// SIGKILL, and it is not to run.
    pub fn kill(&mut self) {
        self.is_wanted = false;
        self.signal(Signal::KILL);
        if let Some(run) = &mut self.run {
            run.was_killed = true;
        }
    }

    /// Whether it exists: one that was killed goes on existing while a call of it waits for a disk.
    pub fn exists(&self) -> bool {
        self.run.as_ref().is_some_and(|run| exists(run.pid))
    }

    /// Whether it exists and was not killed.
    pub fn lives(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.was_killed && exists(run.pid))
    }

    /// What is to be done about it.
    pub fn need(&mut self) -> Need {
        if self.exists() {
            return Need::Nothing;
        }
        let ended = self.run.take().is_some_and(|run| !run.was_killed);
        let rested = self.started.is_none_or(|started| started.elapsed() > RESTART_PAUSE);
        match (self.is_wanted, ended) {
            (false, _) => Need::Nothing,
            (true, true) => Need::Ended,
            (true, false) if rested => Need::Start,
            (true, false) => Need::Nothing,
        }
    }
}

/// Whether a process exists that has not ended, or one of its threads. Reads what waits for nobody.
fn exists(pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = text.rsplit_once(") ").map_or("X", |(_, rest)| rest);
    // The first thread is a zombie while another waits for a disk, and still has all that the process has.
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !state.starts_with(['Z', 'X']) || threads() > 1
}
