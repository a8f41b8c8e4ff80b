//! `admin scrub`: verification of what lies on the disks of chunk servers.

use super::{request, uuid_text};
use crate::args::{ScrubAction, ScrubCommand};
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes};
use cairn_proto::v1::{
    ScrubAction as Wanted, ScrubReply, ScrubRequest, ScrubState, ScrubStatus, ScrubbedDisk,
};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Between two looks of `--watch`.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn run(admin: &mut Admin, json: bool, command: &ScrubCommand) -> Result<(), CliError> {
    let (action, limit) = match command.action {
        None | Some(ScrubAction::Status) => (Wanted::ScrubNothing, None),
        Some(ScrubAction::Start { limit }) => {
            (Wanted::ScrubStart, limit.map(|limit| limit.saturating_mul(MIB)))
        }
        Some(ScrubAction::Pause) => (Wanted::ScrubPause, None),
        Some(ScrubAction::Resume) => (Wanted::ScrubResume, None),
    };
    let server = command.server.unwrap_or(0);
    let mut reply = ask(admin, ScrubRequest { action: action.into(), server, limit }).await?;
    let refused = std::mem::take(&mut reply.refused);
    show(json, &reply, false)?;
    if !refused.is_empty() {
        let of = |server, reason: &str| format!("chunkserver-{server}: {reason}");
        let lines: Vec<String> = refused.iter().map(|one| of(one.server, &one.reason)).collect();
        let lines = lines.join("\n  ");
        return Err(CliError::Failed(format!(
            "not done by:\n  {lines}\nsee `cairn admin servers`, then try again"
        )));
    }
    if command.watch { watch(admin, json, server).await } else { Ok(()) }
}

async fn watch(admin: &mut Admin, json: bool, server: u32) -> Result<(), CliError> {
    loop {
        tokio::time::sleep(WATCH_PERIOD).await;
        let look = ScrubRequest { action: Wanted::ScrubNothing.into(), server, limit: None };
        show(json, &ask(admin, look).await?, true)?;
    }
}

async fn ask(admin: &mut Admin, wanted: ScrubRequest) -> Result<ScrubReply, CliError> {
    match admin.client.scrub(request(wanted)).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => Err(admin.failed(&status)),
    }
}

fn show(json: bool, reply: &ScrubReply, again: bool) -> Result<(), CliError> {
    if json {
        return output::json(&reply.disks.iter().map(as_json).collect::<Vec<_>>());
    }
    if again {
        output::line("");
    }
    let head = ["SERVER", "DISK", "SCRUB", "DONE", "RATE", "ENDS IN", "OLDEST", "DAMAGED"];
    let mut table = output::Table::new(&head);
    for disk in &reply.disks {
        let scrub = disk.scrub.unwrap_or_default();
        table.row(vec![
            format!("chunkserver-{}", disk.server),
            disk.path.clone(),
            state(&scrub).to_owned(),
            format!("{:.1} %", percent(disk, &scrub)),
            format!("{}/s", human_bytes(scrub.rate)),
            if scrub.ends { span(scrub.ends_in_ms) } else { "-".to_owned() },
            span(scrub.oldest_unverified_ms),
            scrub.damaged.to_string(),
        ]);
    }
    table.print();
    Ok(())
}

fn state(scrub: &ScrubStatus) -> &'static str {
    match scrub.state() {
        ScrubState::ScrubOff => "off",
        ScrubState::ScrubScheduled => "scheduled",
        ScrubState::ScrubDemanded => "demanded",
        ScrubState::ScrubPaused => "paused",
    }
}

/// Of this round.
fn percent(disk: &ScrubbedDisk, scrub: &ScrubStatus) -> f64 {
    match disk.used_bytes {
        0 => 0.0,
        used => (scrub.passed_bytes as f64 / used as f64 * 100.0).min(100.0),
    }
}

/// `93784000` → `1 d 2 h`.
fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn as_json(disk: &ScrubbedDisk) -> serde_json::Value {
    let scrub = disk.scrub.unwrap_or_default();
    serde_json::json!({
        "server": disk.server, "disk": uuid_text(&disk.disk), "path": disk.path, "used_bytes": disk.used_bytes,
        "state": state(&scrub), "progress_percent": percent(disk, &scrub), "passed_bytes": scrub.passed_bytes,
        "bytes_per_second": scrub.rate, "limit_bytes_per_second": scrub.limit,
        "ends_in_ms": scrub.ends.then_some(scrub.ends_in_ms), "oldest_unverified_ms": scrub.oldest_unverified_ms,
        "rounds": scrub.rounds, "verified_bytes": scrub.verified_bytes, "damaged_found": scrub.damaged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        assert_eq!(span(999), "0 s");
        assert_eq!(span(61_000), "1 min 1 s");
        assert_eq!(span(3_600_000), "1 h 0 min");
        assert_eq!(span(93_784_000), "1 d 2 h");
    }
}
