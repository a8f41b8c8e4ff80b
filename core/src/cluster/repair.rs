//! Repair: which chunks get new replicas, in which order, from where and to where.
//!
//! What has the fewest replicas left comes first, whatever came before it. A replica counts as left when its server can be
//! reached and it is not known to be bad; one whose server is away and not yet dead is waited for, since the set that a repair
//! leaves behind is without it. Nothing here removes a replica: the journaled end of a repair names the set, and what left it
//! is deleted later. Only where no other server can take a replica a bad one is made anew in its place.

use super::placement::place_more;
use super::view::{ClusterView, ServerHealth};
use crate::ids::{ChunkId, ServerId};
use crate::limits::{REPAIR_QUEUE_MAX, REPAIRS_PER_SERVER_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks to be repaired, the most endangered first.
#[derive(Clone, Debug, Default)]
pub struct RepairQueue {
    order: BTreeSet<(u8, ChunkId)>,
}

impl RepairQueue {
    /// Notes a chunk with `left` replicas. When the queue is full the least endangered is dropped: it is found again.
    pub fn push(&mut self, left: u8, chunk: ChunkId) {
        self.order.insert((left, chunk));
        if self.order.len() > REPAIR_QUEUE_MAX {
            self.order.pop_last();
        }
    }

    /// Takes the most endangered, with what is left of it.
    pub fn pop(&mut self) -> Option<(u8, ChunkId)> {
        self.order.pop_first()
    }

    /// Chunks that wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// The replicas of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Replicas<'a> {
    /// Who stands in its set.
    pub set: &'a [ServerId],
    /// Of these: whose replica is known to be damaged, old or missing.
    pub bad: &'a [ServerId],
    /// How many are wanted.
    pub wanted: u8,
}

impl Replicas<'_> {
    /// Who has a good replica and can be reached.
    pub fn left(&self, view: &ClusterView) -> Vec<ServerId> {
        let is_left = |server: &ServerId| view.health(*server).is_reachable() && !self.bad.contains(server);
        self.set.iter().copied().filter(is_left).collect()
    }
}

/// What is to be done for a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it has what it needs, or its servers may be back soon.
    Wait,
    /// Nothing at present: nobody has it, or nobody has room for another replica.
    Stuck,
    /// Later: those who could do it are busy with other repairs.
    Busy,
    /// New replicas.
    Repair(Repair),
}

/// New replicas for a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Who copies.
    pub source: ServerId,
    /// Of the present set: who stays in it.
    pub kept: Vec<ServerId>,
    /// Who gets a replica.
    pub targets: Vec<ServerId>,
    /// Of the present set: whose bad replica is made anew.
    pub anew: Vec<ServerId>,
}

impl Repair {
    /// Every server that it keeps busy.
    fn servers(&self) -> impl Iterator<Item = ServerId> {
        self.targets.iter().chain(&self.anew).copied().chain([self.source])
    }
}

/// Repairs under way, by server.
#[derive(Clone, Debug, Default)]
pub struct Busy {
    by_server: BTreeMap<ServerId, usize>,
}

impl Busy {
    /// Counts a repair.
    pub fn begin(&mut self, repair: &Repair) {
        for server in repair.servers() {
            *self.by_server.entry(server).or_insert(0) += 1;
        }
    }

    /// It has ended.
    pub fn end(&mut self, repair: &Repair) {
        for server in repair.servers() {
            if let Some(count) = self.by_server.get_mut(&server) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn of(&self, server: ServerId) -> usize {
        self.by_server.get(&server).copied().unwrap_or(0)
    }

    fn has_room(&self, server: ServerId) -> bool {
        self.of(server) < REPAIRS_PER_SERVER_MAX
    }
}

/// Plans the repair of a chunk. `avoid`: servers that still hold an old replica of it, which is to be deleted first.
pub fn plan(
    view: &ClusterView,
    busy: &Busy,
    replicas: Replicas<'_>,
    avoid: &[ServerId],
    entropy: u64,
) -> Verdict {
    let Replicas { set, bad, wanted } = replicas;
    let kept = replicas.left(view);
    let may_return = |server: &ServerId| view.health(*server) == ServerHealth::Down && !bad.contains(server);
    let missing = usize::from(wanted).saturating_sub(kept.len());
    if missing == 0 || set.iter().any(may_return) {
        return Verdict::Wait;
    }
    let fits = |server: ServerId| !set.contains(&server) && !avoid.contains(&server);
    let targets = place_more(view, missing, entropy, |server| fits(server) && busy.has_room(server));
    let again = |server: ServerId| set.contains(&server) && bad.contains(&server);
    let nobody_else = place_more(view, 1, entropy, fits).is_empty();
    let anew = match nobody_else {
        true => place_more(view, missing, entropy, |server| again(server) && busy.has_room(server)),
        false => Vec::new(),
    };
    let stuck = nobody_else && place_more(view, 1, entropy, again).is_empty();
    // Another one at each attempt, lest a bad replica stop the repair for ever.
    let turn = entropy as usize % kept.len().max(1);
    let in_turn = kept[turn..].iter().chain(&kept[..turn]).copied();
    let source = in_turn.min_by_key(|&server| busy.of(server));
    match source {
        None => Verdict::Stuck,
        Some(_) if stuck => Verdict::Stuck,
        Some(source) if targets.len() + anew.len() == 0 || !busy.has_room(source) => Verdict::Busy,
        Some(source) => Verdict::Repair(Repair { source, kept, targets, anew }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServerView;

    fn view(healths: &[ServerHealth]) -> ClusterView {
        let server = |health: &ServerHealth| ServerView {
            health: *health,
            address: "host:1".into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            load: 0,
        };
        let numbered = healths.iter().enumerate().map(|(n, health)| (ServerId(n as u32 + 1), server(health)));
        ClusterView { servers: numbered.collect() }
    }

    /// A set without a bad replica. Leaked: a few bytes of a test.
    fn of(set: &[u32], wanted: u8) -> Replicas<'static> {
        Replicas { set: ids(set).leak(), bad: &[], wanted }
    }

    fn ids(numbers: &[u32]) -> Vec<ServerId> {
        numbers.iter().map(|&number| ServerId(number)).collect()
    }

    use ServerHealth::{Alive, Dead, Down};

    #[test]
    fn the_most_endangered_comes_first() {
        let mut queue = RepairQueue::default();
        for (left, chunk) in [(2, 1), (1, 9), (2, 0), (1, 8)] {
            queue.push(left, ChunkId(chunk));
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|(_, chunk)| chunk.get()).collect();
        assert_eq!(order, [8, 9, 0, 1]);
    }

    #[test]
    fn a_dead_server_is_replaced_by_one_outside_the_set() {
        let view = view(&[Alive, Alive, Dead, Alive]);
        let Verdict::Repair(repair) = plan(&view, &Busy::default(), of(&[3, 1, 2], 3), &[], 7) else {
            panic!("a repair")
        };
        assert_eq!((repair.kept, repair.targets), (ids(&[1, 2]), ids(&[4])));
        assert!(repair.source.get() <= 2);
    }

    #[test]
    fn who_is_away_for_a_moment_is_waited_for() {
        let view = view(&[Alive, Down, Dead, Alive]);
        assert_eq!(plan(&view, &Busy::default(), of(&[1, 2, 3], 3), &[], 7), Verdict::Wait);
        assert_eq!(plan(&view, &Busy::default(), of(&[1, 4], 2), &[], 7), Verdict::Wait, "it is whole");
    }

    #[test]
    fn a_bad_replica_is_replaced_elsewhere_or_else_in_its_place() {
        let bad = ids(&[2]);
        let replicas = Replicas { bad: &bad, ..of(&[1, 2], 2) };
        let repair = |view: &ClusterView| match plan(view, &Busy::default(), replicas, &[], 7) {
            Verdict::Repair(repair) => (repair.source, repair.kept, repair.targets, repair.anew),
            other => panic!("{other:?}"),
        };
        let (one, nobody) = (ids(&[1]), Vec::new());
        assert_eq!(
            repair(&view(&[Alive, Alive, Alive])),
            (ServerId(1), one.clone(), ids(&[3]), nobody.clone())
        );
        assert_eq!(
            repair(&view(&[Alive, Alive, Dead])),
            (ServerId(1), one.clone(), nobody.clone(), ids(&[2]))
        );
        assert_eq!(
            repair(&view(&[Alive, Down, Alive])),
            (ServerId(1), one, ids(&[3]), nobody),
            "not waited for"
        );
        let all = Replicas { bad: &ids(&[1, 2]), ..of(&[1, 2], 2) };
        assert_eq!(plan(&view(&[Alive, Alive, Alive]), &Busy::default(), all, &[], 7), Verdict::Stuck);
    }

    #[test]
    fn without_a_source_or_a_place_nothing_can_be_done() {
        let dead = view(&[Dead, Dead, Alive]);
        assert_eq!(plan(&dead, &Busy::default(), of(&[1, 2], 2), &[], 7), Verdict::Stuck);
        let crowded = view(&[Alive, Dead, Alive]);
        assert_eq!(plan(&crowded, &Busy::default(), of(&[1, 2], 2), &ids(&[3]), 7), Verdict::Stuck);
    }

    #[test]
    fn a_server_has_a_bounded_share_of_the_repairs() {
        let view = view(&[Alive, Alive, Dead, Alive]);
        let mut busy = Busy::default();
        let mut begun = Vec::new();
        while let Verdict::Repair(repair) = plan(&view, &busy, of(&[1, 2, 3], 3), &[], 7) {
            busy.begin(&repair);
            begun.push(repair);
        }
        assert_eq!(begun.len(), REPAIRS_PER_SERVER_MAX, "all go to one server");
        let sources: BTreeSet<_> = begun.iter().map(|repair| repair.source).collect();
        assert_eq!(sources.len(), 2, "and come from both");
        assert_eq!(plan(&view, &busy, of(&[1, 2, 3], 3), &[], 7), Verdict::Busy);
        busy.end(&begun[0]);
        assert!(matches!(plan(&view, &busy, of(&[1, 2, 3], 3), &[], 7), Verdict::Repair(_)));
    }
}
