//! What operations on a file wait for, on whom, since when, and what happens next: from what a leader knows at a moment.

use super::event::seconds;
use crate::cluster::ServerHealth;
use crate::ids::{ChunkId, ServerId, SessionId};
use crate::limits::{LEASE_RECALL, LEASE_SILENCE_MAX, RAISE_ABANDONED, RECONCILE_WAIT};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a leader knows of a file. Spans are ages, unless they are said to be left.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its write lease.
    pub lease: Option<LeaseFact>,
    /// Who was told of a change of it and has not confirmed.
    pub unconfirmed: Vec<Unconfirmed>,
    /// Clients of the former leader may still believe what it told them, for so long.
    pub inherited: Option<Duration>,
    /// Its chunks, in any order.
    pub chunks: Vec<ChunkFact>,
    /// Chunk servers that take new chunks.
    pub usable: usize,
    /// So many must, for new data to be written; 0: nothing can be written to it anyway.
    pub needed: usize,
    /// A server silent for so long is dead.
    pub dead_after: Duration,
}

/// The write lease of a file.
#[derive(Clone, Debug)]
pub struct LeaseFact {
    /// Who holds it.
    pub session: SessionId,
    /// What that client says of itself.
    pub client: String,
    /// Since it was heard; `None`: the session has ended.
    pub silent: Option<Duration>,
    /// Since it was asked back, if somebody wants it.
    pub recalled: Option<Duration>,
    /// Who wants it.
    pub wanted_by: Vec<SessionId>,
}

/// Somebody who has not confirmed a change.
#[derive(Clone, Debug)]
pub struct Unconfirmed {
    /// Its session.
    pub session: SessionId,
    /// What that client says of itself.
    pub client: String,
    /// Since it was told.
    pub since: Duration,
    /// It believes nothing any more after so long.
    pub left: Duration,
}

/// A chunk of the file.
#[derive(Clone, Debug)]
pub struct ChunkFact {
    /// Which.
    pub chunk: ChunkId,
    /// Fewest replicas that a write must reach.
    pub minimum: usize,
    /// Replicas it is to have.
    pub wanted: usize,
    /// The set.
    pub replicas: Vec<ReplicaFact>,
    /// Since it waits for its replicas to be compared.
    pub reconciling: Option<Duration>,
    /// A version is begun and not finished.
    pub raising: bool,
    /// Since its repair began.
    pub repairing: Option<Duration>,
}

/// A replica that counts.
#[derive(Clone, Debug)]
pub struct ReplicaFact {
    /// Where.
    pub server: ServerId,
    /// How that server is.
    pub health: ServerHealth,
    /// Since it was heard; `None`: never by this leader.
    pub silent: Option<Duration>,
    /// What is wrong with the replica, if anything.
    pub fault: Option<&'static str>,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What waits: `writes`, `reads`, ….
    pub operations: &'static str,
    /// For whom or what.
    pub waits_for: String,
    /// Since when, as far as known.
    pub since: Option<Duration>,
    /// What happens next, by itself.
    pub then: String,
    /// The next command to type.
    pub next: String,
}

/// Every wait, and what is not as it should be although nothing waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The waits.
    pub waits: Vec<Wait>,
    /// The rest, one line each.
    pub notes: Vec<String>,
}

/// Judges.
pub fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(lease) = &facts.lease {
        lease_wait(lease, &mut verdict);
    }
    if let Some(left) = facts.inherited {
        verdict.waits.push(Wait {
            operations: "changes and questions",
            waits_for: "clients of the former leader, who may believe what it told them".to_owned(),
            since: None,
            then: format!("they come back, or their leases run out in {} at the latest", seconds(left)),
            next: "cairn admin masters".to_owned(),
        });
    }
    for told in &facts.unconfirmed {
        verdict.waits.push(Wait {
            operations: "changes and questions",
            waits_for: format!("{} ({}) to confirm a change", told.session, told.client),
            since: Some(told.since),
            then: format!("it confirms, or its leases run out in {}", seconds(told.left)),
            next: "cairn admin events --since 1m".to_owned(),
        });
    }
    if facts.usable < facts.needed {
        verdict.waits.push(Wait {
            operations: "writes of new data",
            waits_for: format!("chunk servers: {} can take it, {} are needed", facts.usable, facts.needed),
            since: None,
            then: "they go on when another one is back or has room".to_owned(),
            next: "cairn admin servers".to_owned(),
        });
    }
    let mut groups: BTreeMap<Group, Vec<ChunkId>> = BTreeMap::new();
    for chunk in &facts.chunks {
        groups.entry(Group::of(chunk, facts.dead_after)).or_default().push(chunk.chunk);
    }
    for (group, chunks) in groups {
        group.say(&of_chunks(&chunks), &mut verdict);
    }
    verdict
}

fn lease_wait(lease: &LeaseFact, verdict: &mut Verdict) {
    let holder = format!("{} ({})", lease.session, lease.client);
    let heard =
        lease.silent.map_or("has ended".to_owned(), |silent| format!("heard {} ago", seconds(silent)));
    let Some(recalled) = lease.recalled else {
        verdict.notes.push(format!("{holder}, {heard}, holds the write lease; nobody else wants it"));
        return;
    };
    let by_time = LEASE_RECALL.saturating_sub(recalled);
    let by_silence = LEASE_SILENCE_MAX.saturating_sub(lease.silent.unwrap_or(LEASE_SILENCE_MAX));
    let wanted: Vec<String> = lease.wanted_by.iter().map(ToString::to_string).collect();
    let operations = "writes by other clients";
    verdict.waits.push(Wait {
        operations,
        waits_for: format!("{holder}, {heard}, to return the write lease; wanted by {}", wanted.join(", ")),
        since: Some(recalled),
        then: format!(
            "it flushes and returns it, or it is taken by force: in {} if it stays silent, else in {}",
            seconds(by_silence.min(by_time)),
            seconds(by_time)
        ),
        next: "cairn admin events --follow".to_owned(),
    });
}

/// Chunks of which the same is to be said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    kind: Kind,
    /// Replicas that cannot be counted on, in words.
    bad: Vec<String>,
    since: Option<Duration>,
    /// Until the last of the silent servers is dead.
    dead_in: Option<Duration>,
    repairing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Gone,
    /// Those that are there are damaged.
    Damaged,
    Reconciling,
    BelowMinimum,
    Raising,
    Short {
        good: usize,
        wanted: usize,
    },
    Whole,
}

impl Group {
    fn of(chunk: &ChunkFact, dead_after: Duration) -> Self {
        let is_good = |replica: &&ReplicaFact| replica.health.is_reachable() && replica.fault.is_none();
        let good = chunk.replicas.iter().filter(is_good).count();
        let bad: Vec<&ReplicaFact> = chunk.replicas.iter().filter(|replica| !is_good(replica)).collect();
        let kind = match chunk {
            _ if good == 0 && bad.iter().any(is_damaged) => Kind::Damaged,
            _ if good == 0 => Kind::Gone,
            ChunkFact { reconciling: Some(_), .. } => Kind::Reconciling,
            _ if good < chunk.minimum => Kind::BelowMinimum,
            ChunkFact { raising: true, repairing: None, .. } => Kind::Raising,
            _ if good < chunk.wanted => Kind::Short { good, wanted: chunk.wanted },
            _ => Kind::Whole,
        };
        let absent = bad.iter().filter(|replica| !replica.health.is_reachable());
        let since = match kind {
            Kind::Reconciling => chunk.reconciling,
            _ => absent.clone().filter_map(|replica| replica.silent).min(),
        };
        let dying = absent.filter(|replica| replica.health == ServerHealth::Down);
        let left = dying.filter_map(|replica| Some(dead_after.saturating_sub(replica.silent?)));
        Self {
            kind,
            since,
            dead_in: left.max(),
            repairing: chunk.repairing.is_some(),
            bad: bad.into_iter().map(in_words).collect(),
        }
    }

    fn say(self, chunks: &str, verdict: &mut Verdict) {
        let bad = self.bad.join(", ");
        let then = match (self.repairing, self.dead_in) {
            (true, _) => "a new replica is being made".to_owned(),
            (false, Some(left)) => {
                format!("dead in {}, then a new replica is made where there is room", seconds(left))
            }
            (false, None) => "a new replica is made as soon as a server has room for it".to_owned(),
        };
        let servers = || "cairn admin servers".to_owned();
        let (operations, waits_for, then, next) = match self.kind {
            Kind::Whole => return,
            Kind::Short { good, wanted } => {
                verdict.notes.push(format!("{chunks}: {good} of {wanted} copies are good ({bad}): {then}"));
                return;
            }
            Kind::Gone => {
                let then = "nothing happens by itself: no other copy is left to make one from".to_owned();
                ("reads and writes", format!("{bad}: no other copy of {chunks}"), then, servers())
            }
            Kind::Damaged => {
                let then =
                    "what is whole on some copy is put together; what is damaged on all stays an error";
                let what = format!("{bad}: no copy of {chunks} is whole");
                (
                    "reads of what is damaged",
                    what,
                    then.to_owned(),
                    "cairn admin events --since 1h".to_owned(),
                )
            }
            Kind::Reconciling => {
                let missing = if bad.is_empty() { String::new() } else { format!(", without {bad}") };
                let then = format!(
                    "it begins when all their servers are there, or after {} with those that are",
                    seconds(RECONCILE_WAIT)
                );
                let what = format!("the replicas of {chunks} to be made equal after their writer{missing}");
                ("reads and writes", what, then, "cairn admin events --since 5m".to_owned())
            }
            Kind::BelowMinimum => (
                "writes",
                format!("{bad}: fewer copies of {chunks} are left than a write needs"),
                then,
                servers(),
            ),
            Kind::Raising => {
                let then = format!(
                    "the client that began it ends it, or the master after {}",
                    seconds(RAISE_ABANDONED)
                );
                ("writes", format!("a new replica set of {chunks} to be agreed on"), then, servers())
            }
        };
        verdict.waits.push(Wait { operations, waits_for, since: self.since, then, next });
    }
}

fn is_damaged(replica: &&ReplicaFact) -> bool {
    replica.health.is_reachable() && replica.fault == Some("corrupt")
}

fn in_words(replica: &ReplicaFact) -> String {
    let ReplicaFact { server, health, silent, fault } = replica;
    match (fault, silent) {
        (Some(fault), _) if health.is_reachable() => format!("{server} ({fault})"),
        (_, Some(silent)) => format!("{server} ({} {})", health.name(), seconds(*silent)),
        (_, None) => format!("{server} ({}, not heard by this leader)", health.name()),
    }
}

fn of_chunks(chunks: &[ChunkId]) -> String {
    match chunks {
        [chunk] => chunk.to_string(),
        [first, ..] => format!("{} chunks ({first}, …)", chunks.len()),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn replica(server: u32, health: ServerHealth, millis: u64) -> ReplicaFact {
        ReplicaFact { server: ServerId(server), health, silent: Some(MS(millis)), fault: None }
    }

    fn chunk(number: u64, healths: [ServerHealth; 3]) -> ChunkFact {
        let replicas = (1..).zip(healths).map(|(server, health)| {
            replica(server, health, if health == ServerHealth::Alive { 100 } else { 4000 })
        });
        ChunkFact {
            chunk: ChunkId(number),
            minimum: 2,
            wanted: 3,
            replicas: replicas.collect(),
            reconciling: None,
            raising: false,
            repairing: None,
        }
    }

    fn of(chunks: Vec<ChunkFact>) -> Facts {
        Facts { chunks, usable: 3, needed: 2, dead_after: MS(10_000), ..Facts::default() }
    }

    use ServerHealth::{Alive, Dead, Down};

    #[test]
    fn a_chunk_damaged_on_all_copies_is_told_from_one_that_is_gone() {
        let mut damaged = chunk(1, [Alive; 3]);
        damaged.replicas.iter_mut().for_each(|replica| replica.fault = Some("corrupt"));
        let verdict = judge(&of(vec![damaged, chunk(2, [Dead; 3])]));
        let operations: Vec<_> = verdict.waits.iter().map(|wait| wait.operations).collect();
        assert_eq!(operations, ["reads and writes", "reads of what is damaged"]);
        assert!(verdict.waits[1].then.contains("put together"), "{verdict:?}");
    }

    #[test]
    fn nothing_waits_for_a_healthy_file() {
        assert_eq!(judge(&of(vec![chunk(1, [Alive; 3]), chunk(2, [Alive; 3])])), Verdict::default());
    }

    #[test]
    fn too_few_servers_hold_writes_and_one_missing_holds_nothing() {
        let verdict = judge(&of(vec![chunk(1, [Alive, Down, Down]), chunk(2, [Alive, Alive, Down])]));
        let [wait] = &verdict.waits[..] else { panic!("{verdict:?}") };
        assert_eq!((wait.operations, wait.since), ("writes", Some(MS(4000))));
        assert!(
            wait.waits_for.starts_with("chunkserver-2 (down 4.0 s), chunkserver-3 (down 4.0 s)"),
            "{wait:?}"
        );
        assert!(wait.then.starts_with("dead in 6.0 s, then a new replica is made"), "{wait:?}");
        assert!(verdict.notes[0].contains("chunk-2: 2 of 3 copies are good"), "{verdict:?}");
    }

    #[test]
    fn chunks_of_which_the_same_is_true_are_told_together() {
        let verdict = judge(&of((1..=5).map(|number| chunk(number, [Dead; 3])).collect()));
        let [wait] = &verdict.waits[..] else { panic!("{verdict:?}") };
        assert!(wait.waits_for.contains("5 chunks (chunk-1, …)") && wait.then.starts_with("nothing happens"));
        let repairing = |number| ChunkFact {
            repairing: Some(MS(9)),
            raising: true,
            ..chunk(number, [Alive, Alive, Dead])
        };
        let verdict = judge(&of(vec![repairing(1), repairing(2)]));
        assert_eq!((verdict.waits.len(), verdict.notes.len()), (0, 1));
        assert!(verdict.notes[0].ends_with("a new replica is being made"), "{verdict:?}");
    }

    #[test]
    fn a_frozen_holder_of_the_lease_is_named_with_what_becomes_of_it() {
        let lease = |recalled| LeaseFact {
            session: SessionId(7),
            client: "host:/mnt".to_owned(),
            silent: Some(MS(1500)),
            recalled,
            wanted_by: vec![SessionId(8)],
        };
        let facts = Facts { lease: Some(lease(Some(MS(1000)))), ..Facts::default() };
        let wait = judge(&facts).waits.remove(0);
        assert!(wait.waits_for.starts_with("session-7 (host:/mnt), heard 1.5 s ago"), "{wait:?}");
        assert!(wait.waits_for.ends_with("wanted by session-8"), "{wait:?}");
        assert!(wait.then.ends_with("in 2.5 s if it stays silent, else in 9.0 s"), "{wait:?}");
        let verdict = judge(&Facts { lease: Some(lease(None)), ..Facts::default() });
        assert!(verdict.waits.is_empty() && verdict.notes[0].contains("nobody else wants it"));
    }

    #[test]
    fn reconciliations_confirmations_and_new_leaders_are_waits() {
        let told =
            Unconfirmed { session: SessionId(3), client: "c".to_owned(), since: MS(700), left: MS(800) };
        let waiting = ChunkFact { reconciling: Some(MS(2000)), ..chunk(1, [Alive, Alive, Down]) };
        let facts = Facts {
            unconfirmed: vec![told],
            inherited: Some(MS(900)),
            usable: 1,
            ..of(vec![waiting, ChunkFact { raising: true, ..chunk(2, [Alive; 3]) }])
        };
        let waits = judge(&facts).waits;
        let words = [
            "former leader",
            "session-3 (c) to confirm",
            "1 can take it, 2 are needed",
            "made equal",
            "agreed on",
        ];
        assert_eq!(waits.len(), words.len());
        words.iter().zip(&waits).for_each(|(word, wait)| assert!(wait.waits_for.contains(word), "{wait:?}"));
        assert_eq!(waits[3].since, Some(MS(2000)));
    }
}
