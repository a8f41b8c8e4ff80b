//! `dev ps`: the processes and their state.

use super::layout::{Layout, Member, Role};
use super::{process, ready};
use crate::error::CliError;
use crate::output;
use serde::Serialize;
use std::time::Duration;

/// A mount without a process answers at once.
const MOUNT_ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// One row of `dev ps --json`.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    role: Role,
    pid: Option<i32>,
    address: String,
    /// running, stopped; a mount also: dead (its process is gone but the kernel still has it)
    state: &'static str,
    /// `host:port` of `/healthz`, `/readyz` and `/metrics`.
    http: Option<String>,
    data_dirs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<bool>,
    log: String,
}

pub(super) fn ps(layout: &Layout, json: bool) -> Result<(), CliError> {
    let leader = ready::leader(layout);
    let rows: Vec<Row> = layout.members.iter().map(|member| row(layout, member, leader.as_deref())).collect();
    if json {
        return output::json(&rows);
    }
    let mut table = output::Table::new(&["NAME", "PID", "STATE", "ADDRESS", "DATA"]);
    for row in rows {
        let state =
            if row.leader == Some(true) { format!("{}, leader", row.state) } else { row.state.to_owned() };
        let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        table.row(vec![row.name, pid, state, row.address, row.data_dirs.join(" ")]);
    }
    table.print();
    Ok(())
}

fn row(layout: &Layout, member: &Member, leader: Option<&str>) -> Row {
    let running = process::running(layout, member);
    let (address, state) = match member.role {
        Role::Mount => (layout.mount.display().to_string(), mount_state(layout, running.is_some())),
        Role::Master | Role::Chunkserver => {
            (layout.address(member), if running.is_some() { "running" } else { "stopped" })
        }
    };
    Row {
        name: member.name.clone(),
        role: member.role,
        pid: running.map(|process| process.pid),
        leader: (member.role == Role::Master).then(|| leader == Some(address.as_str())),
        address,
        state,
        http: layout.pages(member),
        data_dirs: layout.data_dirs(member).iter().map(|path| path.display().to_string()).collect(),
        log: layout.log(member).display().to_string(),
    }
}

/// The mount itself is asked only when its process is gone, since a process that hangs would never answer: whether one lives is
/// told by `/proc/PID/stat`, which waits for nobody. What another process has mounted there may hang as well.
fn mount_state(layout: &Layout, running: bool) -> &'static str {
    if running {
        return "running";
    }
    let (answer, answered) = std::sync::mpsc::channel();
    let mount = layout.mount.clone();
    // It ends with this command, whatever it waits for.
    drop(std::thread::spawn(move || answer.send(crate::mounting::is_dead(&mount))));
    match answered.recv_timeout(MOUNT_ANSWER_LIMIT) {
        Ok(true) => "dead",
        Ok(false) | Err(_) => "stopped",
    }
}
