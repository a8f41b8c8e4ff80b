//! What happens to a cluster that an operator may ask about later.

use crate::cluster::ServerHealth;
use crate::ids::{ChunkId, InodeId, ServerId, SessionId, Term};
use crate::limits::EVENT_TEXT_BYTES_MAX;
use std::time::Duration;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This master has taken the lead over.
    LeadTaken {
        /// Its Raft id.
        master: u64,
        /// Its term.
        term: Term,
    },
    /// This master leads no more.
    LeadLost {
        /// Its Raft id.
        master: u64,
        /// The term that it led.
        term: Term,
    },
    /// A master belongs to the group from now on.
    MasterAdded {
        /// Its Raft id.
        master: u64,
        /// Of its control plane.
        address: String,
    },
    /// A master has left the group.
    MasterRemoved {
        /// Its Raft id.
        master: u64,
        /// Of its control plane.
        address: String,
    },
    /// A chunk server changes its state, or is seen for the first time.
    ServerChanged {
        /// Which one.
        server: ServerId,
        /// What it was; `None`: not known to this leader.
        from: Option<ServerHealth>,
        /// What it is.
        to: ServerHealth,
        /// What decided it.
        why: String,
    },
    /// A disk of a chunk server changes its state.
    DiskChanged {
        /// Whose it is.
        server: ServerId,
        /// Its directory.
        path: String,
        /// What it was; empty: not known to this leader.
        from: String,
        /// What it is: healthy, full, failed, ….
        to: String,
        /// What the server says of it.
        detail: String,
    },
    /// Something has become of the emptying of a disk.
    DiskDrain {
        /// Whose it is.
        server: ServerId,
        /// Its directory; its id where that is not known.
        disk: String,
        /// What.
        step: DiskDrainStep,
        /// Replicas that stand there.
        replicas: u64,
    },
    /// Chunks with too few good replicas are being given new ones.
    RepairBegun {
        /// How many can be repaired at present.
        chunks: u64,
    },
    /// No chunk is left that could be repaired.
    RepairEnded {
        /// Chunks that got new replicas.
        done: u64,
        /// Attempts that came to nothing.
        failed: u64,
        /// Since the run began.
        took: Duration,
    },
    /// Replicas were found bad.
    ReplicasBad {
        /// Where they stand.
        server: ServerId,
        /// corrupt, stale, missing.
        fault: &'static str,
        /// How many.
        count: u64,
        /// The latest of them.
        chunk: ChunkId,
        /// What is said of that one.
        detail: String,
    },
    /// Bad replicas are good again, or gone.
    ReplicasHealed {
        /// Where they stand.
        server: ServerId,
        /// How many.
        count: u64,
        /// The latest of them.
        chunk: ChunkId,
    },
    /// All replicas of a chunk were damaged, and one is whole again with blocks of the others.
    ChunkSalvaged {
        /// Which chunk.
        chunk: ChunkId,
        /// Whose replica.
        server: ServerId,
    },
    /// Some of a chunk is damaged on all its replicas.
    ChunkDamaged {
        /// Which chunk.
        chunk: ChunkId,
        /// What the last attempt to mend it came to.
        detail: String,
    },
    /// The backup of the metadata makes no progress.
    BackupFails {
        /// What its destination says.
        reason: String,
    },
    /// It does again.
    BackupRecovered,
    /// Journal went before it was in the backup.
    BackupGap,
    /// The leader's disk is nearly full.
    MasterDiskLow {
        /// Its Raft id.
        master: u64,
    },
    /// It has room again.
    MasterDiskHasRoom {
        /// Its Raft id.
        master: u64,
    },
    /// A client was silent too long.
    SessionExpired {
        /// Its session.
        session: SessionId,
        /// What it says of itself.
        client: String,
        /// For how long it was silent.
        silent: Duration,
    },
    /// A write lease was asked back and did not come.
    LeaseTaken {
        /// The file.
        inode: InodeId,
        /// Who held it.
        session: SessionId,
        /// Since it was asked back.
        waited: Duration,
    },
}

/// How the emptying of a disk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDrainStep {
    /// An operator has begun it.
    Begun,
    /// Nothing is left on the disk.
    Ended,
    /// An operator has called it off.
    Cancelled,
    /// The server has been started without the disk.
    TakenOut,
}

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which kind of event: a name for programs.
    pub kind: &'static str,
    /// Whose matter it is: `master-1`, `chunkserver-2`, `session-3`, `cluster`.
    pub component: String,
    /// What of it: a disk, a chunk; empty: the component itself.
    pub object: String,
    /// What has happened.
    pub what: String,
    /// Why; empty where what happened says it.
    pub why: String,
    /// Whether somebody may have to do something.
    pub is_warning: bool,
}

impl Event {
    /// Says it.
    pub fn told(&self) -> Told {
        let (kind, component, object, what, why, is_warning) = match self {
            Self::LeadTaken { .. }
            | Self::LeadLost { .. }
            | Self::MasterAdded { .. }
            | Self::MasterRemoved { .. }
            | Self::MasterDiskLow { .. }
            | Self::MasterDiskHasRoom { .. } => return self.of_master(),
            Self::ServerChanged { server, from, to, why } => {
                let what = match from {
                    Some(from) => format!("{} -> {}", from.name(), to.name()),
                    None => format!("is {}", to.name()),
                };
                (
                    "server_state",
                    server.to_string(),
                    String::new(),
                    what,
                    why.clone(),
                    *to != ServerHealth::Alive,
                )
            }
            Self::DiskChanged { server, path, from, to, detail } => {
                let what = if from.is_empty() { format!("is {to}") } else { format!("{from} -> {to}") };
                ("disk_state", server.to_string(), path.clone(), what, bounded(detail), to != "healthy")
            }
            Self::DiskDrain { .. } => return self.of_drain(),
            Self::ReplicasBad { server, fault, count, chunk, detail } => {
                let (object, what) = (chunks(*count, *chunk), format!("{} {fault}", found(*count)));
                ("replicas_bad", server.to_string(), object, what, bounded(detail), true)
            }
            Self::ReplicasHealed { server, count, chunk } => {
                let why = "made anew, found whole, or no longer counted on".to_owned();
                (
                    "replicas_healed",
                    server.to_string(),
                    chunks(*count, *chunk),
                    "healed".to_owned(),
                    why,
                    false,
                )
            }
            Self::SessionExpired { session, client, silent } => {
                let why = format!("silent for {}", seconds(*silent));
                ("session_expired", session.to_string(), bounded(client), "ended".to_owned(), why, true)
            }
            Self::LeaseTaken { inode, session, waited } => {
                let why = format!("asked back, and not returned for {}", seconds(*waited));
                let what = "write lease taken by force".to_owned();
                ("lease_taken", session.to_string(), inode.to_string(), what, why, true)
            }
            Self::ChunkSalvaged { chunk, server } => {
                let what = "mended with blocks of other damaged copies".to_owned();
                let why = "no copy was whole".to_owned();
                ("chunk_salvaged", server.to_string(), chunk.to_string(), what, why, false)
            }
            Self::ChunkDamaged { chunk, detail } => {
                let what = "damaged on every copy: reads of that fail".to_owned();
                ("chunk_damaged", "cluster".to_owned(), chunk.to_string(), what, bounded(detail), true)
            }
            Self::RepairBegun { .. }
            | Self::RepairEnded { .. }
            | Self::BackupFails { .. }
            | Self::BackupRecovered
            | Self::BackupGap => return self.of_cluster(),
        };
        Told { kind, component, object, what, why, is_warning }
    }

    fn of_drain(&self) -> Told {
        let Self::DiskDrain { server, disk, step, replicas } = self else { return self.of_cluster() };
        let (what, why) = match step {
            DiskDrainStep::Begun => {
                (format!("is being emptied of {replicas} replicas"), "an operator wants it".to_owned())
            }
            DiskDrainStep::Ended => {
                ("is empty".to_owned(), "it can be taken out, and nothing is at risk".to_owned())
            }
            DiskDrainStep::Cancelled => {
                (format!("stays, with {replicas} replicas"), "an operator wants it".to_owned())
            }
            DiskDrainStep::TakenOut => {
                ("is off the record".to_owned(), "its server was started without it".to_owned())
            }
        };
        let (kind, component, object) = ("disk_drain", server.to_string(), disk.clone());
        Told { kind, component, object, what, why, is_warning: false }
    }

    fn of_master(&self) -> Told {
        let (kind, master, what, why, is_warning) = match self {
            Self::LeadTaken { master, term } => {
                let why = "elected; events before this one are those of its own earlier leads".to_owned();
                ("lead_taken", master, format!("leads in {term}"), why, false)
            }
            Self::LeadLost { master, term } => {
                let why = "another one leads, or a majority was not heard".to_owned();
                ("lead_lost", master, format!("leads no more, its {term} is over"), why, false)
            }
            Self::MasterAdded { master, address } => {
                ("master_added", master, format!("belongs to the group, at {address}"), String::new(), false)
            }
            Self::MasterRemoved { master, address } => (
                "master_removed",
                master,
                format!("has left the group, was at {address}"),
                String::new(),
                false,
            ),
            Self::MasterDiskLow { master } => {
                let why = "files can be deleted and not made while it leads".to_owned();
                ("master_disk", master, "its disk is nearly full".to_owned(), why, true)
            }
            Self::MasterDiskHasRoom { master } => {
                ("master_disk", master, "its disk has room again".to_owned(), String::new(), false)
            }
            _ => return self.of_cluster(),
        };
        Told { kind, component: format!("master-{master}"), object: String::new(), what, why, is_warning }
    }

    fn of_cluster(&self) -> Told {
        let (kind, object, what, why, is_warning) = match self {
            Self::RepairBegun { chunks } => {
                let why = "they have too few good replicas".to_owned();
                ("repair_begun", "repair", format!("begins: {chunks} chunks can be repaired"), why, false)
            }
            Self::RepairEnded { done, failed, took } => {
                let what =
                    format!("ends: {done} chunks repaired, {failed} attempts failed, in {}", seconds(*took));
                ("repair_ended", "repair", what, "nothing is left that could be repaired".to_owned(), false)
            }
            Self::BackupFails { reason } => {
                ("backup_fails", "backup", "makes no progress".to_owned(), bounded(reason), true)
            }
            Self::BackupRecovered => (
                "backup_recovered",
                "backup",
                "goes on".to_owned(),
                "its destination answers".to_owned(),
                false,
            ),
            _ => {
                let why = "its destination was away too long; a fresh image takes its place".to_owned();
                ("backup_gap", "backup", "journal went unshipped".to_owned(), why, true)
            }
        };
        Told { kind, component: "cluster".to_owned(), object: object.to_owned(), what, why, is_warning }
    }
}

/// `1.2 s`.
pub fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn chunks(count: u64, newest: ChunkId) -> String {
    match count {
        1 => newest.to_string(),
        count => format!("{count} chunks, {newest} last"),
    }
}

fn found(count: u64) -> &'static str {
    if count == 1 { "replica found" } else { "replicas found" }
}

fn bounded(text: &str) -> String {
    let end = (0..=EVENT_TEXT_BYTES_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_say_who_what_and_why() {
        let why = "its connection has ended".to_owned();
        let (from, to) = (Some(ServerHealth::Alive), ServerHealth::Down);
        let told = Event::ServerChanged { server: ServerId(2), from, to, why: why.clone() }.told();
        assert_eq!((told.component.as_str(), told.what.as_str()), ("chunkserver-2", "alive -> down"));
        assert_eq!((told.why, told.is_warning), (why, true));
        let (server, chunk) = (ServerId(1), ChunkId(9));
        let bad =
            Event::ReplicasBad { server, fault: "missing", count: 57, chunk, detail: String::new() }.told();
        assert_eq!(bad.object, "57 chunks, chunk-9 last");
        let (disk, step) = ("/d".to_owned(), DiskDrainStep::Begun);
        let drain = Event::DiskDrain { server, disk, step, replicas: 7 }.told();
        assert_eq!((drain.object.as_str(), drain.what.as_str()), ("/d", "is being emptied of 7 replicas"));
        assert_eq!(Event::BackupGap.told().kind, "backup_gap");
        assert_eq!(Event::LeadTaken { master: 3, term: Term(7) }.told().component, "master-3");
    }

    #[test]
    fn what_others_say_is_cut_at_a_character() {
        let reason = "ä".repeat(EVENT_TEXT_BYTES_MAX);
        let why = Event::BackupFails { reason }.told().why;
        assert!(why.len() <= EVENT_TEXT_BYTES_MAX && why.chars().all(|c| c == 'ä'));
    }
}
