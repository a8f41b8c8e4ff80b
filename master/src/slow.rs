//! Operations that took long and where their time went, for operators: what clients tell with their renewals, and what this master
//! itself took long to answer. In this master's memory, as events are.

use crate::parts::Parts;
use crate::sessions::Session;
use cairn_core::error::FsError;
use cairn_core::explain::recent::Recent;
use cairn_core::ids::SessionId;
use cairn_core::limits::{
    SLOW_HOP_MIN, SLOW_HOPS_MAX, SLOW_KEPT_MAX, SLOW_OPERATION, SLOW_PER_RENEWAL_MAX, SLOW_TEXT_BYTES_MAX,
};
use cairn_core::time::Timestamp;
use cairn_proto::v1::{
    SlowHop, SlowHopKind, SlowHopRecord, SlowOperation, SlowRecord, SlowReply, SlowRequest,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest of them.
pub(crate) struct SlowLog {
    kept: Mutex<Recent<Noted>>,
}

/// One operation.
struct Noted {
    ended: Timestamp,
    /// Who has noticed it: a client by its own words, or this master.
    by: String,
    session: SessionId,
    what: String,
    /// 0: none in particular.
    inode: u64,
    took_us: u64,
    hops: Vec<SlowHop>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self { kept: Mutex::new(Recent::new(SLOW_KEPT_MAX)) }
    }
}

impl SlowLog {
    fn kept(&self) -> MutexGuard<'_, Recent<Noted>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what the client of `session` tells of its own. Beyond the bounds nothing is looked at.
pub(crate) fn take(parts: &Parts, session: &Session, told: Vec<SlowOperation>) {
    if told.is_empty() {
        return;
    }
    let wall = parts.env.clock.wall();
    let mut kept = parts.slow.kept();
    for mut operation in told.into_iter().take(SLOW_PER_RENEWAL_MAX) {
        operation.hops.truncate(SLOW_HOPS_MAX);
        operation.hops.iter_mut().for_each(|hop| cut(&mut hop.address));
        cut(&mut operation.what);
        kept.push(Noted {
            ended: before(wall, operation.ended_ago_us),
            by: session.description.clone(),
            session: session.id,
            what: operation.what,
            inode: operation.inode,
            took_us: operation.took_us,
            hops: operation.hops,
        });
    }
}

/// An operation was answered that long after it had been read, of which `believed` went by until all clients knew.
pub(crate) fn answered(parts: &Parts, session: SessionId, what: &str, took: Duration, believed: Duration) {
    if took < SLOW_OPERATION {
        return;
    }
    let hop = |kind: SlowHopKind, took: Duration| SlowHop {
        kind: kind.into(),
        address: String::new(),
        took_us: micros(took),
    };
    let journal = (SlowHopKind::HopJournal, took.saturating_sub(believed));
    let mut hops = vec![journal, (SlowHopKind::HopCaches, believed)];
    hops.retain(|(_, took)| *took >= SLOW_HOP_MIN);
    hops.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    parts.slow.kept().push(Noted {
        ended: parts.env.clock.wall(),
        by: format!("master-{}", parts.config.node_id),
        session,
        what: what.to_owned(),
        inode: 0,
        took_us: micros(took),
        hops: hops.into_iter().map(|(kind, took)| hop(kind, took)).collect(),
    });
}

/// What `admin slow` is answered.
///
/// # Errors
/// `NotLeader`: clients tell the leader.
pub(crate) fn page(parts: &Parts, asked: &SlowRequest) -> Result<SlowReply, FsError> {
    parts.term().ok_or(FsError::NotLeader)?;
    let servers = parts.servers.reports(parts.now());
    let place = |hop: &SlowHop| match servers.iter().find(|server| server.address == hop.address) {
        Some(server) => format!("{} ({})", server.server, hop.address),
        None => hop.address.clone(),
    };
    let hop = |hop: &SlowHop| SlowHopRecord {
        kind: kind_name(hop.kind()).to_owned(),
        place: place(hop),
        took_us: hop.took_us,
    };
    let kept = parts.slow.kept();
    let wanted = kept.after(0).filter(|(_, noted)| noted.ended.seconds >= asked.since_seconds);
    let operations = wanted.map(|(number, noted)| SlowRecord {
        number,
        seconds: noted.ended.seconds,
        nanos: noted.ended.nanos,
        by: noted.by.clone(),
        session: noted.session.get(),
        what: noted.what.clone(),
        inode: noted.inode,
        took_us: noted.took_us,
        hops: noted.hops.iter().map(hop).collect(),
    });
    Ok(SlowReply {
        operations: operations.collect(),
        dropped: kept.dropped(),
        master: parts.config.node_id,
        threshold_us: micros(SLOW_OPERATION),
    })
}

/// For scripts and for people alike.
fn kind_name(kind: SlowHopKind) -> &'static str {
    match kind {
        SlowHopKind::HopUnspecified => "unknown",
        SlowHopKind::HopMaster => "master",
        SlowHopKind::HopChunkserver => "network",
        SlowHopKind::HopDisk => "disk",
        SlowHopKind::HopSilent => "silent",
        SlowHopKind::HopLease => "lease",
        SlowHopKind::HopStore => "store",
        SlowHopKind::HopRoom => "room",
        SlowHopKind::HopFile => "file",
        SlowHopKind::HopRetry => "retry",
        SlowHopKind::HopJournal => "journal",
        SlowHopKind::HopCaches => "caches",
    }
}

fn before(wall: Timestamp, micros: u64) -> Timestamp {
    let nanos = i128::from(wall.seconds) * 1_000_000_000 + i128::from(wall.nanos) - i128::from(micros) * 1000;
    Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default(),
        nanos: nanos.rem_euclid(1_000_000_000) as u32,
    }
}

fn cut(text: &mut String) {
    let end = (0..=SLOW_TEXT_BYTES_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_tell_is_bounded() {
        let mut long = "ä".repeat(SLOW_TEXT_BYTES_MAX);
        cut(&mut long);
        assert_eq!(long.len(), SLOW_TEXT_BYTES_MAX);
        let mut odd = format!("x{}", "ä".repeat(SLOW_TEXT_BYTES_MAX));
        cut(&mut odd);
        assert_eq!(odd.len(), SLOW_TEXT_BYTES_MAX - 1);
        let mut short = "sync".to_owned();
        cut(&mut short);
        assert_eq!(short, "sync");
    }

    #[test]
    fn it_ended_before_it_was_told() {
        let wall = Timestamp { seconds: 10, nanos: 500_000_000 };
        assert_eq!(before(wall, 400_000), Timestamp { seconds: 10, nanos: 100_000_000 });
        assert_eq!(before(wall, 600_000), Timestamp { seconds: 9, nanos: 900_000_000 });
        assert!(before(wall, u64::MAX).seconds < 0);
    }
}
