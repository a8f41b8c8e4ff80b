//! Repair: which chunks get new replicas, in which order, from where and to where.
//!
//! What has the fewest replicas left comes first, whatever came before it. A replica counts as left when its server can be
//! reached and it is not known to be bad; one whose server is away and not yet dead is waited for, since the set that a repair
//! leaves behind is without it. Nothing here removes a replica: the journaled end of a repair names the set, and what left it
//! is deleted later. Only where no other server can take a replica a bad one is made anew in its place.
//!
//! Then comes what has enough copies in the wrong places: on servers that are being emptied, without the labels that its policy
//! requires, or in one failure domain although there are others. Such a copy leaves its set when another one has been made in a
//! better place. Last come copies beyond what is wanted: they are given up only while everybody of the set is there and those that
//! stay are as many as are wanted, all compared with one that was read whole.

use super::labels::{Labels, RACK};
use super::pace::{Haste, copies_at_once};
use super::placement::{keep_best, misfit, misfit_with, place_more};
use super::view::{ClusterView, ServerHealth, ServerView};
use crate::ids::{ChunkId, ServerId};
use crate::limits::{REPAIR_QUEUE_MAX, REPAIRS_PER_RACK_MAX, REPAIRS_PER_SERVER_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// How soon a chunk is to be seen to, least first: what lacks replicas, by how many are left; then what only stands in the
/// wrong place; then what has too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency(u8);

impl Urgency {
    const MISPLACED: u8 = 1 << 7;
    const EXCESS: u8 = Self::MISPLACED + 1;

    /// Of a chunk with these replicas.
    pub fn of(replicas: Replicas<'_>, view: &ClusterView) -> Self {
        let left = replicas.left(view).len() as u8;
        Self(match replicas.set.len() > usize::from(replicas.wanted) {
            _ if left < replicas.wanted => left,
            true => Self::EXCESS,
            false => Self::MISPLACED,
        })
    }
}

/// Chunks to be repaired, the most endangered first.
#[derive(Clone, Debug, Default)]
pub struct RepairQueue {
    order: BTreeSet<(Urgency, ChunkId)>,
}

impl RepairQueue {
    /// Notes a chunk. When the queue is full the least endangered is dropped: it is found again.
    pub fn push(&mut self, urgency: Urgency, chunk: ChunkId) {
        self.order.insert((urgency, chunk));
        if self.order.len() > REPAIR_QUEUE_MAX {
            self.order.pop_last();
        }
    }

    /// Takes the most endangered.
    pub fn pop(&mut self) -> Option<(Urgency, ChunkId)> {
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
    /// Of these: whose replica stands on a disk that is to be emptied, and finds no room on another one there.
    pub leaving: &'a [ServerId],
    /// How many are wanted.
    pub wanted: u8,
    /// Labels that their servers must have, as far as there are such servers.
    pub required: &'a Labels,
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

/// Another set of replicas for a chunk: with new ones, or only without some of the present ones.
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
    /// How little it gives way to programs.
    pub haste: Haste,
}

impl Repair {
    /// Whether copies are given up for which no others are made.
    pub fn only_removes(&self) -> bool {
        self.targets.is_empty() && self.anew.is_empty()
    }

    /// Every server that it keeps busy.
    fn servers(&self) -> impl Iterator<Item = ServerId> {
        self.targets.iter().chain(&self.anew).copied().chain([self.source])
    }
}

/// Repairs under way, by server and by rack, and how many each may have.
#[derive(Clone, Debug)]
pub struct Busy {
    by_server: BTreeMap<ServerId, usize>,
    each_max: usize,
    /// Who may have fewer, since its foreground suffers.
    held_back: BTreeMap<ServerId, usize>,
    rack_of: BTreeMap<ServerId, String>,
    /// Copies into or out of it.
    by_rack: BTreeMap<String, usize>,
}

impl Default for Busy {
    fn default() -> Self {
        Self::new(REPAIRS_PER_SERVER_MAX)
    }
}

impl Busy {
    /// Nobody yet; each may have so many at a time.
    pub fn new(each_max: usize) -> Self {
        Self {
            by_server: BTreeMap::new(),
            each_max,
            held_back: BTreeMap::new(),
            rack_of: BTreeMap::new(),
            by_rack: BTreeMap::new(),
        }
    }

    /// With the racks of `view`, for as long as it lives.
    #[must_use]
    pub fn in_racks(self, view: &ClusterView) -> Self {
        let rack =
            |(&server, seen): (&ServerId, &ServerView)| Some((server, seen.labels.get(RACK)?.to_owned()));
        Self { rack_of: view.servers.iter().filter_map(rack).collect(), ..self }
    }

    /// What the disks of servers allow their copies from now on ([`super::pace::Pace::share`]).
    pub fn heed(&mut self, shares: &BTreeMap<ServerId, u32>) {
        let most = |(&server, &share): (&ServerId, &u32)| (server, copies_at_once(share, self.each_max));
        self.held_back = shares.iter().map(most).collect();
    }

    /// Counts a repair.
    pub fn begin(&mut self, repair: &Repair) {
        for server in repair.servers() {
            *self.by_server.entry(server).or_insert(0) += 1;
        }
        for rack in self.racks_crossed(repair) {
            *self.by_rack.entry(rack).or_insert(0) += 1;
        }
    }

    /// It has ended.
    pub fn end(&mut self, repair: &Repair) {
        for server in repair.servers() {
            if let Some(count) = self.by_server.get_mut(&server) {
                *count = count.saturating_sub(1);
            }
        }
        for rack in self.racks_crossed(repair) {
            if let Some(count) = self.by_rack.get_mut(&rack) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// The racks that a copy of it leaves or enters, once for each.
    fn racks_crossed(&self, repair: &Repair) -> Vec<String> {
        let of = |server: ServerId| self.rack_of.get(&server);
        let into = repair.targets.iter().chain(&repair.anew).filter_map(|&target| {
            let (from, to) = (of(repair.source), of(target));
            (from != to).then(|| [from, to].into_iter().flatten().cloned())
        });
        into.flatten().collect()
    }

    pub(super) fn of(&self, server: ServerId) -> usize {
        self.by_server.get(&server).copied().unwrap_or(0)
    }

    /// Whether a copy of such haste may begin to or from `server`. Its rack counts even if the copy should not leave it.
    pub(super) fn has_room(&self, server: ServerId, haste: Haste) -> bool {
        let held_back = self.held_back.get(&server).filter(|_| haste != Haste::Last);
        let rack = self.rack_of.get(&server).and_then(|rack| self.by_rack.get(rack));
        self.of(server) < held_back.copied().unwrap_or(self.each_max)
            && rack.is_none_or(|&count| count < REPAIRS_PER_RACK_MAX)
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
    let Replicas { set, bad, wanted, required, .. } = replicas;
    let left = replicas.left(view);
    let leaves = |server: &&ServerId| view.is_draining(**server) || replicas.leaving.contains(server);
    let (leaving, staying): (Vec<ServerId>, Vec<ServerId>) = left.iter().partition(leaves);
    let may_return = |server: &ServerId| view.health(*server) == ServerHealth::Down && !bad.contains(server);
    let missing = usize::from(wanted).saturating_sub(staying.len());
    let haste = Haste::of(left.len(), wanted.into());
    if set.iter().any(may_return) {
        return Verdict::Wait;
    }
    if missing == 0 {
        return match set.len() > usize::from(wanted) {
            true => without_excess(view, busy, &staying, replicas, entropy),
            false => to_a_better_place(view, busy, replicas, avoid, entropy),
        };
    }
    let Some(source) = source_of(&left, busy, entropy) else { return Verdict::Stuck };
    if !busy.has_room(source, haste) {
        // Mostly so where much is to be repaired: nobody looks for a place then.
        return Verdict::Busy;
    }
    let fits = |server: ServerId| !set.contains(&server) && !avoid.contains(&server);
    let more = |count: usize, may: &dyn Fn(ServerId) -> bool| {
        place_more(view, (&staying, required), count, entropy, may)
    };
    let targets = more(missing, &|server| fits(server) && busy.has_room(server, haste));
    let again = |server: ServerId| set.contains(&server) && bad.contains(&server);
    let nobody_else = targets.is_empty() && more(1, &fits).is_empty();
    let anew = match nobody_else && left.len() < usize::from(wanted) {
        true => more(missing, &|server| again(server) && busy.has_room(server, haste)),
        false => Vec::new(),
    };
    let stuck = nobody_else && more(1, &again).is_empty();
    // Who is to be emptied stays in the set until somebody has taken its place.
    let stays_yet = leaving.into_iter().take(missing.saturating_sub(targets.len() + anew.len()));
    let kept = staying.iter().copied().chain(stays_yet).collect();
    match targets.len() + anew.len() {
        _ if stuck => Verdict::Stuck,
        0 => Verdict::Busy,
        _ => Verdict::Repair(Repair { source, kept, targets, anew, haste }),
    }
}

/// Who copies: the least busy, and another one at each attempt, lest a bad replica stop the repair for ever.
fn source_of(from: &[ServerId], busy: &Busy, entropy: u64) -> Option<ServerId> {
    let turn = entropy as usize % from.len().max(1);
    let in_turn = from[turn..].iter().chain(&from[..turn]).copied();
    in_turn.min_by_key(|&server| busy.of(server))
}

/// Gives up what is beyond the number wanted: of `staying`, who have good replicas, the best are kept.
fn without_excess(
    view: &ClusterView,
    busy: &Busy,
    staying: &[ServerId],
    Replicas { wanted, required, .. }: Replicas<'_>,
    entropy: u64,
) -> Verdict {
    let alive: Vec<ServerId> = staying.iter().copied().filter(|&server| view.is_alive(server)).collect();
    let kept = keep_best(view, &alive, usize::from(wanted), required);
    if kept.len() < usize::from(wanted) {
        return Verdict::Wait;
    }
    match source_of(&kept, busy, entropy) {
        Some(source) if busy.has_room(source, Haste::Move) => {
            let (targets, anew) = (Vec::new(), Vec::new());
            Verdict::Repair(Repair { source, kept, targets, anew, haste: Haste::Move })
        }
        _ => Verdict::Busy,
    }
}

/// Moves one of as many good replicas as are wanted to where the set fits better, if there is such a place.
fn to_a_better_place(
    view: &ClusterView,
    busy: &Busy,
    Replicas { set, required, .. }: Replicas<'_>,
    avoid: &[ServerId],
    entropy: u64,
) -> Verdict {
    let present = misfit(view, set, required);
    if present == (0, 0, 0) || !set.iter().all(|&server| view.is_alive(server)) {
        return Verdict::Wait;
    }
    let mut verdict = Verdict::Wait;
    for &leaves in set {
        let kept: Vec<ServerId> = set.iter().copied().filter(|&server| server != leaves).collect();
        let with = misfit_with(view, &kept, required);
        let better = |server| !set.contains(&server) && !avoid.contains(&server) && with(server) < present;
        let [target] = place_more(view, (&kept, required), 1, entropy, better)[..] else { continue };
        verdict = Verdict::Busy;
        let source = source_of(set, busy, entropy);
        let have_room =
            |&source: &ServerId| busy.has_room(source, Haste::Move) && busy.has_room(target, Haste::Move);
        if let Some(source) = source.filter(have_room) {
            let (targets, anew) = (vec![target], Vec::new());
            return Verdict::Repair(Repair { source, kept, targets, anew, haste: Haste::Move });
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Labels;
    use std::sync::Arc;

    fn view(healths: &[ServerHealth]) -> ClusterView {
        let server = |health: &ServerHealth| ServerView {
            health: *health,
            address: "host:1".into(),
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            leaving_bytes: 0,
            load: 0,
            draining: false,
            labels: Arc::default(),
        };
        let numbered = healths.iter().enumerate().map(|(n, health)| (ServerId(n as u32 + 1), server(health)));
        ClusterView { servers: numbered.collect() }
    }

    /// A set without a bad replica. Leaked: a few bytes of a test.
    fn of(set: &[u32], wanted: u8) -> Replicas<'static> {
        static NONE: Labels = Labels::none();
        Replicas { set: ids(set).leak(), bad: &[], leaving: &[], wanted, required: &NONE }
    }

    fn ids(numbers: &[u32]) -> Vec<ServerId> {
        numbers.iter().map(|&number| ServerId(number)).collect()
    }

    use ServerHealth::{Alive, Dead, Down};

    #[test]
    fn the_most_endangered_comes_first() {
        let mut queue = RepairQueue::default();
        let mut view = view(&[Alive, Alive, Dead, Dead, Alive]);
        view.servers.get_mut(&ServerId(5)).unwrap().draining = true;
        for (set, chunk) in [
            (of(&[1, 2], 1), 6),
            (of(&[1, 2, 3], 3), 1),
            (of(&[1, 5], 2), 7),
            (of(&[1, 3, 4], 3), 9),
            (of(&[1, 3], 2), 8),
        ] {
            queue.push(Urgency::of(set, &view), ChunkId(chunk));
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|(_, chunk)| chunk.get()).collect();
        assert_eq!(order, [8, 9, 1, 7, 6], "copies, then places, then what is too much");
    }

    #[test]
    fn who_is_being_emptied_stays_until_another_has_taken_its_place() {
        let mut view = view(&[Alive, Alive, Alive, Alive, Dead]);
        let repair = |view: &ClusterView, set: Replicas<'_>| plan(view, &Busy::default(), set, &[], 7);
        assert_eq!(repair(&view, of(&[1, 2, 3], 3)), Verdict::Wait);
        view.servers.get_mut(&ServerId(2)).unwrap().draining = true;
        let Verdict::Repair(moved) = repair(&view, of(&[1, 2, 3], 3)) else { panic!("a move") };
        assert_eq!((moved.kept, moved.targets), (ids(&[1, 3]), ids(&[4])));
        let Verdict::Repair(both) = repair(&view, of(&[1, 2, 5], 3)) else { panic!("a repair") };
        assert_eq!((both.kept, both.targets.len()), (ids(&[1]), 2), "a dead one is made up for at once");
        assert_eq!(repair(&view, of(&[1, 2, 3, 4], 4)), Verdict::Stuck, "there is nobody else");
        let Verdict::Repair(half) = repair(&view, of(&[1, 2, 3, 5], 4)) else { panic!("a repair") };
        assert_eq!((half.kept, half.targets), (ids(&[1, 3, 2]), ids(&[4])), "redundancy first");
    }

    #[test]
    fn what_a_disk_has_no_room_for_goes_to_another_server() {
        let view = view(&[Alive, Alive, Alive, Alive]);
        let leaving = ids(&[2]);
        let replicas = Replicas { leaving: &leaving, ..of(&[1, 2, 3], 3) };
        let Verdict::Repair(moved) = plan(&view, &Busy::default(), replicas, &[], 7) else {
            panic!("a move")
        };
        assert_eq!((moved.kept, moved.targets, moved.haste), (ids(&[1, 3]), ids(&[4]), Haste::Move));
        let nobody_else = Replicas { leaving: &leaving, ..of(&[1, 2, 3, 4], 4) };
        assert_eq!(plan(&view, &Busy::default(), nobody_else, &[], 7), Verdict::Stuck);
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

    fn labelled(labels: &[&[&str]]) -> ClusterView {
        let mut view = view(&vec![Alive; labels.len()]);
        for (known, labels) in view.servers.values_mut().zip(labels) {
            known.labels = Arc::new(Labels::parse(*labels).unwrap());
        }
        view
    }

    #[test]
    fn copies_without_the_labels_move_to_servers_that_have_them_while_there_are_any() {
        let view = labelled(&[&["media=ssd"], &["media=hdd"], &["media=ssd"], &["media=hdd"]]);
        let required = Labels::parse(["media=ssd"]).unwrap();
        let repair = |set: &[u32]| {
            let replicas = Replicas { required: &required, ..of(set, 2) };
            plan(&view, &Busy::default(), replicas, &[], 7)
        };
        assert_eq!(repair(&[1, 3]), Verdict::Wait);
        let Verdict::Repair(moved) = repair(&[1, 2]) else { panic!("a move") };
        assert_eq!((moved.kept, moved.targets), (ids(&[1]), ids(&[3])));
        let Verdict::Repair(moved) = repair(&[2, 4]) else { panic!("a move") };
        assert!(moved.kept.len() == 1 && moved.targets[0].get() % 2 == 1, "one after the other: {moved:?}");
        let three = Replicas { required: &required, ..of(&[1, 3, 2], 3) };
        assert_eq!(plan(&view, &Busy::default(), three, &[], 7), Verdict::Wait, "there is no third one");
        let full = &mut Busy::new(1);
        full.begin(&Repair {
            source: ServerId(3),
            kept: vec![],
            targets: vec![],
            anew: vec![],
            haste: Haste::Move,
        });
        let replicas = Replicas { required: &required, ..of(&[1, 2], 2) };
        assert_eq!(plan(&view, full, replicas, &[], 7), Verdict::Busy);
        assert_eq!(
            plan(&view, &Busy::default(), replicas, &ids(&[3]), 7),
            Verdict::Wait,
            "it is deleted there first"
        );
    }

    #[test]
    fn copies_in_one_rack_part_when_there_is_another() {
        let view = labelled(&[&["rack=a"], &["rack=a"], &["rack=b"]]);
        let Verdict::Repair(moved) = plan(&view, &Busy::default(), of(&[1, 2], 2), &[], 7) else {
            panic!("a move")
        };
        assert_eq!((moved.kept.len(), moved.targets), (1, ids(&[3])));
        assert_eq!(plan(&view, &Busy::default(), of(&[1, 3], 2), &[], 7), Verdict::Wait);
        assert_eq!(
            plan(&view, &Busy::default(), of(&[1, 2, 3], 3), &[], 7),
            Verdict::Wait,
            "two racks for three"
        );
    }

    #[test]
    fn excess_copies_are_given_up_while_enough_good_ones_are_there() {
        let mut view = view(&[Alive, Alive, Alive, Dead, Down]);
        let after = |view: &ClusterView, replicas| match plan(view, &Busy::default(), replicas, &[], 7) {
            Verdict::Repair(repair) => {
                assert!(repair.only_removes() && repair.kept.contains(&repair.source));
                Some(repair.kept)
            }
            _ => None,
        };
        assert_eq!(after(&view, of(&[1, 2, 3], 2)).map(|kept| kept.len()), Some(2));
        assert_eq!(after(&view, of(&[1, 2, 4], 2)), Some(ids(&[1, 2])), "the dead one goes");
        assert_eq!(after(&view, of(&[1, 2, 5], 2)), None, "somebody may come back with it");
        let bad = ids(&[1, 2]);
        let one_good = Replicas { bad: &bad, ..of(&[1, 2, 3], 1) };
        assert_eq!(after(&view, one_good), Some(ids(&[3])), "the last good one stays");
        view.servers.get_mut(&ServerId(1)).unwrap().health = ServerHealth::Suspect;
        assert_eq!(after(&view, of(&[1, 2], 1)), Some(ids(&[2])));
        assert_eq!(after(&view, of(&[1, 2, 3], 3)), None);
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

    #[test]
    fn a_server_whose_foreground_suffers_has_fewer_unless_one_replica_is_left() {
        let view = view(&[Alive, Alive, Dead, Alive]);
        let begin_all = |set: Replicas<'_>| {
            let mut busy = Busy::default();
            busy.heed(&BTreeMap::from([(ServerId(4), 300)]));
            let mut begun = 0;
            while let Verdict::Repair(repair) = plan(&view, &busy, set, &ids(&[2]), 7) {
                assert_eq!(repair.targets, ids(&[4]));
                busy.begin(&repair);
                begun += 1;
            }
            begun
        };
        assert_eq!(begin_all(of(&[1, 2, 3], 3)), copies_at_once(300, REPAIRS_PER_SERVER_MAX));
        assert_eq!(begin_all(of(&[1, 3], 2)), REPAIRS_PER_SERVER_MAX);
    }

    #[test]
    fn a_rack_takes_part_in_so_many_copies_and_what_stays_in_it_is_none() {
        let in_rack = |rack: u32| Arc::new(Labels::parse([format!("rack={rack}")]).unwrap());
        let mut racks = view(&[Alive; 80]);
        racks.servers.iter_mut().for_each(|(server, seen)| seen.labels = in_rack(server.get() / 41));
        let mut busy = Busy::default().in_racks(&racks);
        let mut begun = Vec::new();
        // From the first rack into the second, each server once.
        for number in 1..=40 {
            let (source, target) = (ServerId(number), ServerId(number + 40));
            let (kept, targets) = (vec![source], vec![target]);
            let repair = Repair { source, kept, targets, anew: Vec::new(), haste: Haste::Short };
            for _ in 0..2 {
                if busy.has_room(source, Haste::Short) && busy.has_room(target, Haste::Short) {
                    busy.begin(&repair);
                    begun.push(repair.clone());
                }
            }
        }
        assert_eq!(begun.len(), REPAIRS_PER_RACK_MAX);
        begun.iter().for_each(|repair| busy.end(repair));
        assert!(busy.has_room(ServerId(1), Haste::Short));
        let inside = Repair { targets: ids(&[2]), ..begun.swap_remove(0) };
        (0..REPAIRS_PER_RACK_MAX * 2).for_each(|_| busy.begin(&inside));
        assert!(busy.has_room(ServerId(3), Haste::Short));
    }
}
