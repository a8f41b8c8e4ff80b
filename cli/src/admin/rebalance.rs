//! `admin rebalance`: evening chunk servers out.

use super::request;
use crate::connect::Admin;
use crate::error::CliError;
use crate::output::{self, human_bytes, human_time};
use cairn_proto::v1::{RebalanceReply, RebalanceRequest, RebalanceVerb};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// What can be done about how evenly chunk servers are filled.
#[derive(Clone, Debug, Subcommand)]
pub enum RebalanceCommand {
    /// Show what would move, from where to where, and for how long
    Plan(RebalanceBounds),
    /// Move replicas until the servers are even
    Start(RebalanceBounds),
    /// Show how far it is
    Status {
        /// Stay until it ends
        #[arg(long)]
        watch: bool,
    },
    /// Let nothing move for now
    Pause,
    /// Go on
    Resume,
    /// Give it up; what has moved stays
    Cancel,
}

/// How even, and how fast.
#[derive(Clone, Debug, Args)]
pub struct RebalanceBounds {
    /// Most bytes that move in a second, such as 100MiB; 0 for as fast as it goes [default: 32 MiB for each server]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub limit: Option<u64>,
    /// Percent that may lie between the fullest and the emptiest server
    #[arg(long, value_name = "PCT", default_value = "5", value_parser = percent)]
    pub tolerance: u32,
}

/// `100MiB`, `1G`, `500000`: bytes a second.
fn rate(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches("/s");
    let at = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, unit) = digits.split_at(at);
    let number: f64 = number.parse().map_err(|_| format!("\"{text}\" is no rate such as 100MiB"))?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(format!("\"{unit}\" is no unit: KiB, MiB, GiB, KB, MB or GB")),
    };
    Ok((number * factor) as u64)
}

/// Percent as thousandths.
fn percent(text: &str) -> Result<u32, String> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("\"{text}\" is no number"))?;
    match (number * 10.0).round() {
        permille @ 1.0..=999.0 => Ok(permille as u32),
        _ => Err("between 0.1 and 99.9".to_owned()),
    }
}

pub(super) async fn rebalance(
    admin: &mut Admin,
    json: bool,
    command: &RebalanceCommand,
) -> Result<(), CliError> {
    let (verb, bounds) = match command {
        RebalanceCommand::Plan(bounds) => (RebalanceVerb::RebalancePlan, Some(bounds)),
        RebalanceCommand::Start(bounds) => (RebalanceVerb::RebalanceStart, Some(bounds)),
        RebalanceCommand::Status { .. } => (RebalanceVerb::RebalanceStatus, None),
        RebalanceCommand::Pause => (RebalanceVerb::RebalancePause, None),
        RebalanceCommand::Resume => (RebalanceVerb::RebalanceResume, None),
        RebalanceCommand::Cancel => (RebalanceVerb::RebalanceCancel, None),
    };
    let asked = RebalanceRequest {
        verb: verb.into(),
        tolerance_permille: bounds.map_or(50, |bounds| bounds.tolerance),
        limit_bytes: bounds.and_then(|bounds| bounds.limit),
    };
    let mut reply = ask(admin, &asked).await?;
    if matches!(command, RebalanceCommand::Status { watch: true }) {
        reply = watch(admin, reply).await?;
    }
    if json {
        return output::json(&as_json(&reply));
    }
    show(&reply, matches!(command, RebalanceCommand::Plan(_)));
    Ok(())
}

async fn ask(admin: &mut Admin, asked: &RebalanceRequest) -> Result<RebalanceReply, CliError> {
    let answered = admin.client.rebalance(request(*asked)).await;
    Ok(answered.map_err(|status| admin.failed(&status))?.into_inner())
}

/// Shows a bar on a terminal until it ends.
async fn watch(admin: &mut Admin, mut reply: RebalanceReply) -> Result<RebalanceReply, CliError> {
    let bar = if output::is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    let style = "{bar:30} {bytes:>11} of {total_bytes}  {wide_msg}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let status =
        RebalanceRequest { verb: RebalanceVerb::RebalanceStatus.into(), ..RebalanceRequest::default() };
    while matches!(reply.state.as_str(), "running" | "waiting" | "paused") {
        bar.set_length(reply.moved_bytes + reply.to_move_bytes);
        bar.set_position(reply.moved_bytes);
        bar.set_message(format!("{}, about {} to go", reply.state, human_time(reply.estimated_ms)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        reply = ask(admin, &status).await?;
    }
    bar.finish_and_clear();
    Ok(reply)
}

fn show(reply: &RebalanceReply, plans: bool) {
    let percent = |permille: u32| format!("{}.{} %", permille / 10, permille % 10);
    let limit = match reply.limit_bytes {
        0 => "no limit".to_owned(),
        limit => format!("{}/s", human_bytes(limit)),
    };
    output::line(&format!(
        "between the fullest and the emptiest: {} now, {} afterwards ({} allowed)",
        percent(reply.spread_permille),
        percent(reply.spread_after_permille),
        percent(reply.tolerance_permille)
    ));
    let left =
        format!("{} to move, about {}", human_bytes(reply.to_move_bytes), human_time(reply.estimated_ms));
    match reply.state.as_str() {
        _ if plans => output::line(&format!("{left} at {limit}")),
        "idle" => output::line("nothing was asked for yet: see `cairn admin rebalance plan`"),
        state => output::line(&format!(
            "{state}{}: {} in {} replicas moved in {}{}",
            if reply.waits_for.is_empty() { String::new() } else { format!(" for {}", reply.waits_for) },
            human_bytes(reply.moved_bytes),
            reply.moved_replicas,
            human_time(reply.elapsed_ms),
            if matches!(state, "done" | "cancelled") { String::new() } else { format!("; {left} ({limit})") }
        )),
    }
    let mut table = output::Table::new(&["SERVER", "USED", "OF", "NOW", "AFTERWARDS"]);
    for server in &reply.servers {
        let share = |bytes: u64| {
            percent((u128::from(bytes) * 1000 / u128::from(server.capacity_bytes.max(1))) as u32)
        };
        table.row(vec![
            format!("chunkserver-{}", server.server),
            human_bytes(server.used_bytes),
            human_bytes(server.capacity_bytes),
            share(server.used_bytes),
            share(server.after_bytes),
        ]);
    }
    table.print();
    if plans && !reply.flows.is_empty() {
        let mut table = output::Table::new(&["FROM", "TO", "ABOUT"]);
        for flow in &reply.flows {
            let name = |server: u32| format!("chunkserver-{server}");
            table.row(vec![name(flow.from), name(flow.to), human_bytes(flow.bytes)]);
        }
        table.print();
        output::line("begin with `cairn admin rebalance start`");
    }
}

fn as_json(reply: &RebalanceReply) -> serde_json::Value {
    let flow = |flow: &cairn_proto::v1::RebalanceFlow| serde_json::json!({ "from": flow.from, "to": flow.to, "bytes": flow.bytes });
    let server = |server: &cairn_proto::v1::RebalanceServer| {
        serde_json::json!({
            "server": server.server, "used_bytes": server.used_bytes, "capacity_bytes": server.capacity_bytes,
            "after_bytes": server.after_bytes,
        })
    };
    serde_json::json!({
        "state": reply.state, "waits_for": reply.waits_for, "tolerance_permille": reply.tolerance_permille,
        "limit_bytes": reply.limit_bytes, "elapsed_ms": reply.elapsed_ms, "planned_bytes": reply.planned_bytes,
        "moved_bytes": reply.moved_bytes, "moved_replicas": reply.moved_replicas,
        "to_move_bytes": reply.to_move_bytes, "estimated_ms": reply.estimated_ms, "rate_bytes": reply.rate_bytes,
        "spread_before_permille": reply.spread_before_permille, "spread_permille": reply.spread_permille,
        "spread_after_permille": reply.spread_after_permille, "under_way": reply.under_way,
        "flows": reply.flows.iter().map(flow).collect::<Vec<_>>(),
        "servers": reply.servers.iter().map(server).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::{percent, rate};

    #[test]
    fn rates_and_percents_are_read() {
        assert_eq!(
            (rate("100MiB"), rate("1.5k/s"), rate("0"), rate("2GB")),
            (Ok(100 << 20), Ok(1536), Ok(0), Ok(2_000_000_000))
        );
        assert!(rate("fast").is_err() && rate("1 parsec").is_err());
        assert_eq!((percent("5"), percent("0.5%")), (Ok(50), Ok(5)));
        assert!(percent("0").is_err() && percent("100").is_err());
    }
}
