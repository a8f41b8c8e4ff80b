//! `admin events`: what has happened lately, as the leader keeps it in memory.

use super::{request, watch};
use crate::args::{EventsCommand, Global};
use crate::connect::Admin;
use crate::error::CliError;
use crate::moment;
use crate::output;
use cairn_core::time::Timestamp;
use cairn_env::Env;
use cairn_proto::v1::{EventRecord, EventsReply, EventsRequest};
use std::time::Duration;

/// Pause between two looks of `--follow`.
const FOLLOW_PERIOD: Duration = Duration::from_secs(1);
/// Events shown by `--watch`: a screen.
const SCREEN_EVENTS: usize = 20;

pub(super) async fn run(env: &Env, global: &Global, command: EventsCommand) -> Result<(), CliError> {
    let since = command.since.map_or(0, |since| since.seconds(env.clock.wall()));
    if let Some(seconds) = command.watch.watch {
        return watch::repeat(env, global, seconds, async |admin| {
            let (_, mut events) = fetch(admin, 0, since).await?;
            events.drain(..events.len().saturating_sub(SCREEN_EVENTS));
            show(&events, global.json)
        })
        .await;
    }
    let mut admin = Admin::leader(env, global).await?;
    let (reply, events) = fetch(&mut admin, 0, since).await?;
    if command.follow {
        events.iter().for_each(|event| print(event, global.json));
        return follow(env, global, admin, (reply, events), since).await;
    }
    show(&events, global.json)?;
    if !global.json {
        let began = moment::text(Timestamp { seconds: reply.leads_since, nanos: 0 });
        let dropped = match reply.dropped {
            0 => String::new(),
            count => format!("; {count} older ones are no longer kept"),
        };
        let text = format!(
            "seen by master-{}, which leads since {} and keeps them in memory: earlier leaders' are gone{dropped}",
            reply.master,
            &began[..19]
        );
        output::line(&output::wrapped("", &text));
    }
    Ok(())
}

/// Everything after number `after`, and the last answer.
async fn fetch(
    admin: &mut Admin,
    mut after: u64,
    since_seconds: i64,
) -> Result<(EventsReply, Vec<EventRecord>), CliError> {
    let mut events = Vec::new();
    loop {
        let asked = request(EventsRequest { after, since_seconds });
        let mut reply = match admin.client.events(asked).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(admin.failed(&status)),
        };
        events.append(&mut reply.events);
        after = events.last().map_or(after, |event| event.number);
        if !reply.more {
            return Ok((reply, events));
        }
    }
}

/// Prints what comes. Another leader counts its own events: of them those are new that came after the last one printed.
async fn follow(
    env: &Env,
    global: &Global,
    mut admin: Admin,
    (mut leader, mut known): (EventsReply, Vec<EventRecord>),
    mut since: i64,
) -> Result<(), CliError> {
    let mut after = 0;
    loop {
        if let Some(last) = known.last() {
            (after, since) = (last.number, last.seconds);
        }
        tokio::time::sleep(FOLLOW_PERIOD).await;
        let fetched = fetch(&mut admin, after, since).await;
        let (reply, mut events) = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                output::error(&error);
                admin = Admin::leader(env, global).await?;
                continue;
            }
        };
        if (reply.master, reply.term) != (leader.master, leader.term) {
            let last = known.last().map_or((since, 0), |last| (last.seconds, last.nanos));
            (_, events) = fetch(&mut admin, 0, since).await?;
            events.retain(|event| (event.seconds, event.nanos) > last);
        }
        events.iter().for_each(|event| print(event, global.json));
        leader = reply;
        if !events.is_empty() {
            known = events;
        }
    }
}

fn show(events: &[EventRecord], json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&events.iter().map(as_json).collect::<Vec<_>>());
    }
    events.iter().for_each(|event| print(event, false));
    Ok(())
}

fn print(event: &EventRecord, json: bool) {
    if json {
        return output::json_line(&as_json(event));
    }
    let time = moment::text(Timestamp { seconds: event.seconds, nanos: event.nanos });
    let mark = if event.warning { '!' } else { ' ' };
    let head = format!("{} {} {mark} ", &time[5..10], &time[11..19]);
    let object = if event.object.is_empty() { String::new() } else { format!(" {}", event.object) };
    let why = if event.why.is_empty() { String::new() } else { format!(": {}", event.why) };
    output::line(&output::wrapped(&head, &format!("{}{object} {}{why}", event.component, event.what)));
}

fn as_json(event: &EventRecord) -> serde_json::Value {
    serde_json::json!({
        "number": event.number,
        "time": moment::text(Timestamp { seconds: event.seconds, nanos: event.nanos }),
        "kind": event.kind, "component": event.component, "object": event.object, "what": event.what,
        "why": event.why, "warning": event.warning,
    })
}
