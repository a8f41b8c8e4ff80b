//! What has happened lately, for operators: in this master's memory, and noted only while it leads. What no other place decides (the
//! state of servers, disks, group and backup) is found by looking.

use crate::admin_service::disk_state;
use crate::parts::Parts;
use crate::servers::ServerReport;
use cairn_core::explain::event::Event;
use cairn_core::explain::recent::Recent;
use cairn_core::explain::watch::{Seen, ServerSeen, Watch};
use cairn_core::ids::Term;
use cairn_core::limits::{DAMAGE_TOLD_PERIOD, EVENTS_MAX, EVENTS_PERIOD};
use cairn_core::time::{Tick, Timestamp};
use cairn_env::Env;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The latest events.
pub(crate) struct Events {
    kept: Mutex<Kept>,
}

struct Kept {
    recent: Recent<Noted>,
    watch: Watch,
    /// The term that this master leads, and since when.
    lead: Option<(Term, Timestamp)>,
    repair: Option<RepairRun>,
    /// When damage was last told of.
    damage_told: Tick,
}

/// From the first chunk found to be repaired until none is left.
struct RepairRun {
    since: Tick,
    done: u64,
    failed: u64,
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) time: Timestamp,
    pub(crate) event: Event,
}

/// Some of the events.
pub(crate) struct EventPage {
    pub(crate) events: Vec<(u64, Noted)>,
    pub(crate) more: bool,
    pub(crate) dropped: u64,
    pub(crate) lead: Option<(Term, Timestamp)>,
}

impl Default for Events {
    fn default() -> Self {
        let recent = Recent::new(EVENTS_MAX);
        let kept =
            Kept { recent, watch: Watch::default(), lead: None, repair: None, damage_told: Tick::default() };
        Self { kept: Mutex::new(kept) }
    }
}

impl Events {
    /// It has happened just now.
    pub(crate) fn note(&self, env: &Env, event: Event) {
        self.locked().note(env.clock.wall(), event);
    }

    /// So many chunks can be repaired at present: a run begins, goes on, or has ended.
    pub(crate) fn repair_found(&self, env: &Env, chunks: u64) {
        let (now, wall) = (env.clock.now(), env.clock.wall());
        let mut kept = self.locked();
        match (&kept.repair, chunks) {
            (None, 1..) => {
                kept.repair = Some(RepairRun { since: now, done: 0, failed: 0 });
                kept.note(wall, Event::RepairBegun { chunks });
            }
            (Some(run), 0) => {
                let (done, failed, took) = (run.done, run.failed, now.since(run.since));
                kept.repair = None;
                kept.note(wall, Event::RepairEnded { done, failed, took });
            }
            (None, 0) | (Some(_), 1..) => {}
        }
    }

    /// What a pass of repair has come to.
    pub(crate) fn repair_did(&self, done: u64, failed: u64) {
        if let Some(run) = &mut self.locked().repair {
            run.done += done;
            run.failed += failed;
        }
    }

    /// At most `limit` events with numbers above `after`, not older than `since_seconds`.
    pub(crate) fn page(&self, after: u64, since_seconds: i64, limit: usize) -> EventPage {
        let kept = self.locked();
        let wanted = kept.recent.after(after).filter(|(_, noted)| noted.time.seconds >= since_seconds);
        let mut events: Vec<_> =
            wanted.take(limit + 1).map(|(number, noted)| (number, noted.clone())).collect();
        let more = events.len() > limit;
        events.truncate(limit);
        EventPage { events, more, dropped: kept.recent.dropped(), lead: kept.lead }
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn note(&mut self, time: Timestamp, event: Event) {
        self.recent.push(Noted { time, event });
    }

    /// Takes notice of who leads. True while this master does.
    fn lead(&mut self, master: u64, term: Option<Term>, wall: Timestamp) -> bool {
        let before = self.lead.map(|(term, _)| term);
        if before == term {
            return term.is_some();
        }
        if let Some(term) = before {
            self.note(wall, Event::LeadLost { master, term });
        }
        if let Some(term) = term {
            self.watch.begin_anew();
            self.repair = None;
            self.note(wall, Event::LeadTaken { master, term });
        }
        self.lead = term.map(|term| (term, wall));
        term.is_some()
    }
}

/// Looks at the cluster until the master stops.
pub(crate) async fn watch_in_background(parts: Arc<Parts>) {
    while !parts.stopping.is_cancelled() {
        look(&parts);
        tokio::time::sleep(EVENTS_PERIOD).await;
    }
}

/// Notes what has changed since the last look.
pub(crate) fn look(parts: &Parts) {
    let (now, wall) = (parts.now(), parts.env.clock.wall());
    let term = parts.term();
    let seen = term.map(|_| seen(parts, now));
    let mut kept = parts.events.locked();
    if !kept.lead(parts.config.node_id, term, wall) {
        drop(parts.damage.take_changes());
        return;
    }
    let changes = seen.map(|seen| kept.watch.look(seen)).unwrap_or_default();
    changes.into_iter().for_each(|event| kept.note(wall, event));
    if now.since(kept.damage_told) >= DAMAGE_TOLD_PERIOD {
        kept.damage_told = now;
        for ((server, fault), change) in parts.damage.take_changes() {
            let (count, chunk, detail) = (change.count, change.chunk, change.detail);
            let event = match fault {
                Some(fault) => Event::ReplicasBad { server, fault, count, chunk, detail },
                None => Event::ReplicasHealed { server, count, chunk },
            };
            kept.note(wall, event);
        }
    }
}

fn seen(parts: &Parts, now: Tick) -> Seen {
    let backup = parts.backup.shown(now);
    let masters = parts.sequencer.members();
    Seen {
        servers: parts
            .servers
            .reports(now)
            .into_iter()
            .map(|report| (report.server, server(report)))
            .collect(),
        masters: masters.iter().map(|member| (member.id, member.address.clone())).collect(),
        backup_failure: backup.failure,
        backup_gaps: backup.gaps,
        disk_low: parts.sequencer.metrics().disk_low.load(Ordering::Relaxed) != 0,
        leader: parts.config.node_id,
    }
}

fn server(report: ServerReport) -> ServerSeen {
    let disks = report.disks.into_iter();
    let disks = disks.map(|disk| {
        let state = disk_state(disk.state()).to_owned();
        (disk.path, (state, disk.detail))
    });
    ServerSeen {
        health: report.health,
        silent: report.silent,
        connected: report.connected,
        disks: disks.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: &Events) -> Vec<&'static str> {
        events.page(0, 0, 100).events.iter().map(|(_, noted)| noted.event.told().kind).collect()
    }

    #[test]
    fn repairs_are_told_of_as_runs() {
        let (env, events) = (Env::real(), Events::default());
        events.repair_found(&env, 0);
        events.repair_found(&env, 5);
        events.repair_did(3, 1);
        events.repair_found(&env, 2);
        events.repair_did(2, 0);
        events.repair_found(&env, 0);
        assert_eq!(kinds(&events), ["repair_begun", "repair_ended"]);
        let told = events.page(1, 0, 100).events[0].1.event.told();
        assert!(told.what.contains("5 chunks repaired, 1 attempts failed"), "{}", told.what);
    }

    #[test]
    fn a_lead_is_told_of_when_it_begins_and_ends() {
        let (events, at) = (Events::default(), Timestamp { seconds: 7, nanos: 0 });
        let mut kept = events.locked();
        assert!(!kept.lead(1, None, at));
        assert!(kept.lead(1, Some(Term(3)), at) && kept.lead(1, Some(Term(3)), at));
        assert!(!kept.lead(1, None, at));
        drop(kept);
        assert_eq!(kinds(&events), ["lead_taken", "lead_lost"]);
        assert!(events.page(0, 8, 100).events.is_empty(), "older than what was asked for");
        assert!(events.page(0, 7, 1).more);
    }
}
