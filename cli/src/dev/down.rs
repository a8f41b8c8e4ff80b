//! Stopping: in order (SIGTERM, clients before servers) or at once (SIGKILL).

use super::layout::{Layout, Member, Role};
use super::process;
use crate::args::DevDown;
use crate::error::CliError;
use crate::output;
use rustix::process::Signal;
use std::time::Duration;

/// A clean stop flushes and drains within bounds of its own, all below this.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// SIGTERM, and wait.
pub(super) fn stop(layout: &Layout, member: &Member) -> Result<(), CliError> {
    if let Some(process) = process::running(layout, member) {
        process::signal(process, Signal::TERM)?;
        if !process::wait_gone(process, STOP_LIMIT) {
            return Err(CliError::Failed(format!(
                "{} (pid {}) did not stop within {} s; its log is {}; end it with: cairn dev kill {} --root {}",
                member.name,
                process.pid,
                STOP_LIMIT.as_secs(),
                layout.log(member).display(),
                member.name,
                layout.root.display(),
            )));
        }
    }
    process::forget(layout, member);
    if member.role == Role::Mount {
        crate::mounting::clear_dead(&layout.mount)?;
    }
    Ok(())
}

/// SIGKILL, and wait until it is gone. A killed mount stays in the mount table, dead, until `start` or `up` clears it.
pub(super) fn kill(layout: &Layout, member: &Member) -> Result<(), CliError> {
    if let Some(process) = process::running(layout, member) {
        process::signal(process, Signal::KILL)?;
        if !process::wait_gone(process, STOP_LIMIT) {
            return Err(CliError::Failed(format!("{} (pid {}) survives SIGKILL", member.name, process.pid)));
        }
    }
    process::forget(layout, member);
    Ok(())
}

pub(super) fn down(options: &DevDown) -> Result<(), CliError> {
    let layout = Layout::load(&options.root)?;
    stop_all(&layout)?;
    if options.purge {
        std::fs::remove_dir_all(&layout.root).map_err(CliError::host(layout.root.display().to_string()))?;
    }
    output::line(&format!("stopped {}", layout.root.display()));
    Ok(())
}

/// Mount first (it flushes), then chunk servers, then masters.
pub(super) fn stop_all(layout: &Layout) -> Result<(), CliError> {
    let mut first_error = None;
    for role in [Role::Mount, Role::Chunkserver, Role::Master] {
        let members: Vec<&Member> = layout.of_role(role).collect();
        let results: Vec<Result<(), CliError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = members.iter().map(|member| scope.spawn(|| stop(layout, member))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        for error in results.into_iter().filter_map(Result::err) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}
