//! Where the replicas of a new chunk go: distinct servers in distinct failure domains, drawn by the power of two choices.
//!
//! For each replica two random servers are compared and the one with more free space and fewer requests in flight is
//! taken. Two choices suffice to keep the fullest close to the mean, and no hot spot forms while the view is stale, as
//! would by always taking the best.

use super::labels::{HOST, Labels, RACK};
use super::policy::Policy;
use super::view::{ClusterView, ServerHealth, ServerView};
use crate::error::FsError;
use crate::ids::ServerId;
use crate::units::CHUNK_BYTES;

/// Weight of one request in flight against one thousandth of the capacity in use: 50 requests weigh as much as 10 %.
const LOAD_WEIGHT: u64 = 2;

/// Chooses servers for one chunk, in chain order: those with the labels that the policy requires, and others only for want of
/// them. With fewer servers than replicas it works with what there is, down to the minimum (whoever shows the chunk's state
/// shows that as a warning). Servers that are being emptied come last, as do those with room only on disks that are. `number` tells the chunks of one request apart.
///
/// # Errors
/// `NoSpace` when enough servers are alive but too few have room; `Unavailable` when too few are alive.
pub fn place(
    view: &ClusterView,
    policy: &Policy,
    entropy: u64,
    number: u32,
) -> Result<Vec<ServerId>, FsError> {
    let alive = |(_, server): &(&ServerId, &ServerView)| server.health == ServerHealth::Alive;
    let alive: Vec<Candidate<'_>> = view.servers.iter().filter(alive).collect();
    let needed = usize::from(policy.minimum.max(1));
    if alive.len() < needed {
        let text = format!("{} chunk servers are alive, a new chunk needs {needed}", alive.len());
        return Err(FsError::Unavailable(text));
    }
    let with_room =
        alive.into_iter().filter(|(_, server)| server.free_bytes.max(server.leaving_bytes) >= CHUNK_BYTES);
    let stays = |(_, server): &Candidate<'_>| !server.draining && server.free_bytes >= CHUNK_BYTES;
    let (staying, leaving): (Vec<_>, Vec<_>) = with_room.partition(stays);
    if leaving.len() + staying.len() < needed {
        return Err(FsError::NoSpace);
    }
    let mut bits = Bits(entropy ^ u64::from(number).wrapping_mul(0xa076_1d64_78bd_642f));
    let mut chosen = Chosen::default();
    let (wanted, others) = by_labels(staying, &policy.required);
    for mut candidates in [wanted, others, leaving] {
        chosen.draw(&mut candidates, usize::from(policy.replicas), &mut bits);
    }
    debug_assert!(chosen.servers.len() >= needed);
    Ok(chosen.servers)
}

/// Chooses at most `count` servers to join `beside` as the holders of a chunk: alive, with room, not being emptied, and such
/// that `may`; those that have the labels `required` before others.
pub fn place_more(
    view: &ClusterView,
    (beside, required): (&[ServerId], &Labels),
    count: usize,
    entropy: u64,
    may: impl Fn(ServerId) -> bool,
) -> Vec<ServerId> {
    let usable = |(id, server): &Candidate<'_>| {
        server.health == ServerHealth::Alive
            && !server.draining
            && server.free_bytes >= CHUNK_BYTES
            && may(**id)
    };
    let mut chosen = Chosen::default();
    beside.iter().filter_map(|server| view.servers.get(server)).for_each(|server| chosen.occupy(server));
    let (wanted, others) = by_labels(view.servers.iter().filter(usable).collect(), required);
    let mut bits = Bits(entropy);
    for mut candidates in [wanted, others] {
        chosen.draw(&mut candidates, count, &mut bits);
    }
    chosen.servers
}

fn by_labels<'v>(
    candidates: Vec<Candidate<'v>>,
    required: &Labels,
) -> (Vec<Candidate<'v>>, Vec<Candidate<'v>>) {
    candidates.into_iter().partition(|(_, server)| server.labels.satisfy(required))
}

/// How far the servers of a chunk are from what is wanted of them: how many lack labels that are required, then how many share a
/// rack with another one before, then a host. Less is better.
pub type Misfit = (usize, usize, usize);

/// The misfit of a set. A server that is not known lacks nothing.
pub fn misfit(view: &ClusterView, set: &[ServerId], required: &Labels) -> Misfit {
    let lacks =
        |server: &&ServerId| view.servers.get(server).is_some_and(|server| !server.labels.satisfy(required));
    let (racks, hosts) = crowding(view, set);
    (set.iter().filter(lacks).count(), racks, hosts)
}

/// The misfit of `kept` with one more server.
pub fn misfit_with<'v>(
    view: &'v ClusterView,
    kept: &[ServerId],
    required: &'v Labels,
) -> impl Fn(ServerId) -> Misfit + 'v {
    let (lack, racks, hosts) = misfit(view, kept, required);
    let mut beside = Chosen::default();
    kept.iter().filter_map(|server| view.servers.get(server)).for_each(|server| beside.occupy(server));
    move |server| {
        let Some(server) = view.servers.get(&server) else { return (lack, racks, hosts) };
        let (rack, host) = beside.collisions(server);
        let lacks = !server.labels.satisfy(required);
        (lack + usize::from(lacks), racks + usize::from(rack > 0), hosts + usize::from(host > 0))
    }
}

/// No set of `count` servers that are alive and stay fits better than this; whether one fits as well is not said.
pub fn least_misfit(view: &ClusterView, count: usize, required: &Labels) -> Misfit {
    let stays = |server: &&ServerView| server.health == ServerHealth::Alive && !server.draining;
    let staying: Vec<&ServerView> = view.servers.values().filter(stays).collect();
    let labelled: Vec<&ServerView> =
        staying.iter().copied().filter(|server| server.labels.satisfy(required)).collect();
    // Labels come first: domains of others count only where those do not suffice.
    let used = if labelled.len() >= count { &labelled } else { &staying };
    let crowded = |label: &str| count.saturating_sub(domains(used, label));
    (count.saturating_sub(labelled.len()), crowded(RACK), crowded(HOST))
}

/// Failure domains of a kind that these servers stand in; one without the label stands in one of its own.
pub(super) fn domains(servers: &[&ServerView], label: &str) -> usize {
    let mut named: Vec<&str> = servers.iter().filter_map(|server| server.labels.get(label)).collect();
    let alone = servers.len() - named.len();
    named.sort_unstable();
    named.dedup();
    alone + named.len()
}

/// Those `count` of `set` that hold a chunk best when the others are given up: one after the other leaves that is being emptied,
/// then whose leave makes the rest fit best, then the fullest.
pub fn keep_best(view: &ClusterView, set: &[ServerId], count: usize, required: &Labels) -> Vec<ServerId> {
    let mut kept = set.to_vec();
    while kept.len() > count {
        let without = |at: usize| -> Vec<ServerId> {
            kept.iter().enumerate().filter(|&(other, _)| other != at).map(|(_, &server)| server).collect()
        };
        let rank = |&at: &usize| {
            let known = view.servers.get(&kept[at]);
            let stays = known.is_some_and(|server| !server.draining);
            let emptiness = u64::MAX - known.map_or(u64::MAX, cost);
            (stays, misfit(view, &without(at), required), emptiness, at)
        };
        let Some(leaves) = (0..kept.len()).min_by_key(rank) else { break };
        kept.remove(leaves);
    }
    kept
}

/// How many of these replicas stand in a failure domain in which another one of them stands before: by rack, and by host.
pub fn crowding(view: &ClusterView, set: &[ServerId]) -> (usize, usize) {
    let mut before = Chosen::default();
    let mut crowded = (0, 0);
    for server in set.iter().filter_map(|server| view.servers.get(server)) {
        let (rack, host) = before.collisions(server);
        crowded = (crowded.0 + usize::from(rack > 0), crowded.1 + usize::from(host > 0));
        before.occupy(server);
    }
    crowded
}

type Candidate<'v> = (&'v ServerId, &'v ServerView);

/// Servers chosen so far, and the failure domains in which they and others of the same chunk stand.
#[derive(Default)]
struct Chosen<'v> {
    servers: Vec<ServerId>,
    racks: Vec<&'v str>,
    hosts: Vec<&'v str>,
}

impl<'v> Chosen<'v> {
    /// Takes servers out of `candidates` until there are `count`: of those in the least crowded failure domains the better
    /// one of two drawn. A server without a label shares its domain with nobody.
    fn draw(&mut self, candidates: &mut Vec<Candidate<'v>>, count: usize, bits: &mut Bits) {
        while self.servers.len() < count && !candidates.is_empty() {
            let crowds: Vec<_> = candidates.iter().map(|(_, server)| self.collisions(server)).collect();
            let fewest = crowds.iter().min();
            let best: Vec<usize> = (0..crowds.len()).filter(|&at| Some(&crowds[at]) == fewest).collect();
            let (one, two) = (best[bits.below(best.len())], best[bits.below(best.len())]);
            let better = if cost(candidates[two].1) < cost(candidates[one].1) { two } else { one };
            let (id, server) = candidates.swap_remove(better);
            self.occupy(server);
            self.servers.push(*id);
        }
    }

    /// Replicas of the chunk in the same rack, and on the same host.
    fn collisions(&self, server: &ServerView) -> (usize, usize) {
        let count = |label: Option<&str>, taken: &[&str]| {
            label.map_or(0, |label| taken.iter().filter(|known| **known == label).count())
        };
        (count(server.labels.get(RACK), &self.racks), count(server.labels.get(HOST), &self.hosts))
    }

    fn occupy(&mut self, server: &'v ServerView) {
        self.racks.extend(server.labels.get(RACK));
        self.hosts.extend(server.labels.get(HOST));
    }
}

/// Thousandths of the capacity in use, plus the weighted load.
fn cost(server: &ServerView) -> u64 {
    let used = server.total_bytes.saturating_sub(server.free_bytes);
    let thousandths = u128::from(used) * 1000 / u128::from(server.total_bytes.max(1));
    (thousandths as u64).saturating_add(server.load.saturating_mul(LOAD_WEIGHT))
}

/// A stream of bits from one number (splitmix64): no generator of its own, the entropy is an argument.
struct Bits(u64);

impl Bits {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn server(health: ServerHealth, free_gib: u64, load: u64) -> ServerView {
        ServerView {
            health,
            address: "host:1".into(),
            total_bytes: 100 << 30,
            free_bytes: free_gib << 30,
            leaving_bytes: 0,
            load,
            draining: false,
            labels: Arc::default(),
        }
    }

    fn labelled(labels: &[&str]) -> ServerView {
        let labels = Arc::new(crate::cluster::Labels::parse(labels).unwrap());
        ServerView { labels, ..server(ServerHealth::Alive, 50, 0) }
    }

    fn policy(replicas: u8, minimum: u8) -> Policy {
        Policy { minimum, ..Policy::built_in(replicas) }
    }

    fn place(
        view: &ClusterView,
        replicas: u8,
        minimum: u8,
        entropy: u64,
        number: u32,
    ) -> Result<Vec<ServerId>, FsError> {
        super::place(view, &policy(replicas, minimum), entropy, number)
    }

    fn view(servers: Vec<ServerView>) -> ClusterView {
        let numbered = servers.into_iter().enumerate().map(|(n, server)| (ServerId(n as u32 + 1), server));
        ClusterView { servers: numbered.collect() }
    }

    #[test]
    fn too_few_servers_are_told_apart_from_full_ones() {
        let down = view(vec![server(ServerHealth::Down, 50, 0), server(ServerHealth::Suspect, 50, 0)]);
        assert!(matches!(place(&down, 1, 1, 1, 0), Err(FsError::Unavailable(_))));
        let full = view(vec![server(ServerHealth::Alive, 0, 0); 3]);
        assert_eq!(place(&full, 3, 2, 1, 0), Err(FsError::NoSpace));
        let two = view(vec![server(ServerHealth::Alive, 9, 0), server(ServerHealth::Alive, 9, 0)]);
        assert_eq!(place(&two, 3, 2, 1, 0).unwrap().len(), 2);
    }

    #[test]
    fn room_on_disks_that_are_to_be_emptied_is_used_last() {
        let leaving = ServerView { leaving_bytes: 90 << 30, ..server(ServerHealth::Alive, 0, 0) };
        let servers = vec![leaving, server(ServerHealth::Alive, 9, 0), server(ServerHealth::Alive, 9, 0)];
        let view = view(servers);
        for entropy in 0..50 {
            let two = place(&view, 2, 1, entropy, 0).unwrap();
            assert!(!two.contains(&ServerId(1)), "{two:?}");
            assert_eq!(place(&view, 3, 2, entropy, 0).unwrap().len(), 3);
            let more = place_more(&view, (&[ServerId(2)], &Labels::none()), 2, entropy, |_| true);
            assert!(!more.contains(&ServerId(1)), "nothing moves there: {more:?}");
        }
    }

    #[test]
    fn emptier_and_idler_servers_get_more() {
        let uneven = view(vec![
            server(ServerHealth::Alive, 90, 0),
            server(ServerHealth::Alive, 90, 0),
            server(ServerHealth::Alive, 10, 0),
            server(ServerHealth::Alive, 90, 1000),
        ]);
        let mut hits = [0; 5];
        for entropy in 0..4000u64 {
            let chosen = place(&uneven, 1, 1, entropy.wrapping_mul(0x1234_5678_9abc_def1), 0).unwrap();
            hits[chosen[0].get() as usize] += 1;
        }
        assert!(2 * hits[1] > 3 * hits[3] && hits[3] > 2 * hits[4], "{hits:?}");
        assert!(hits[4] > 0, "the worst still gets some: {hits:?}");
    }

    #[test]
    fn replicas_are_spread_over_racks_then_hosts_and_work_with_too_few() {
        let two_racks = view(vec![
            labelled(&["rack=a", "host=1"]),
            labelled(&["rack=a", "host=1"]),
            labelled(&["rack=a", "host=2"]),
            labelled(&["rack=b", "host=3"]),
        ]);
        for entropy in 0..200u64 {
            let chosen = place(&two_racks, 3, 2, entropy.wrapping_mul(0x1234_5678_9abc_def1), 0).unwrap();
            assert!(chosen.contains(&ServerId(4)), "{chosen:?}");
            assert_eq!(crowding(&two_racks, &chosen), (1, 0), "{chosen:?}");
            assert_eq!(least_misfit(&two_racks, 3, &Labels::none()), (0, 1, 0));
            let more = place_more(
                &two_racks,
                (&[ServerId(1), ServerId(4)], &Labels::none()),
                1,
                entropy,
                |server| server.get() < 4,
            );
            assert_eq!(more, [ServerId(3)], "another host at least");
        }
        assert_eq!(place(&two_racks, 4, 2, 7, 0).unwrap().len(), 4);
    }

    #[test]
    fn what_is_being_emptied_gets_something_only_for_want_of_others() {
        let mut view = view(vec![server(ServerHealth::Alive, 50, 0); 4]);
        view.servers.get_mut(&ServerId(2)).unwrap().draining = true;
        for entropy in 0..100 {
            assert!(!place(&view, 3, 2, entropy, 0).unwrap().contains(&ServerId(2)));
            assert_eq!(place(&view, 4, 2, entropy, 0).unwrap().last(), Some(&ServerId(2)));
        }
        assert_eq!(place_more(&view, (&[], &Labels::none()), 4, 7, |_| true).len(), 3);
    }

    #[test]
    fn required_labels_are_kept_as_far_as_there_are_servers_with_them() {
        let media = ["media=ssd", "media=hdd", "media=ssd", "media=hdd"];
        let mut view = view(media.iter().map(|label| labelled(&[label])).collect());
        let required = Labels::parse(["media=ssd"]).unwrap();
        let two = Policy { required: required.clone(), ..policy(2, 1) };
        let three = Policy { replicas: 3, ..two.clone() };
        for entropy in 0..100u64 {
            let mut chosen =
                super::place(&view, &two, entropy.wrapping_mul(0x1234_5678_9abc_def1), 0).unwrap();
            chosen.sort_unstable();
            assert_eq!(chosen, [ServerId(1), ServerId(3)]);
            let chosen = super::place(&view, &three, entropy, 0).unwrap();
            assert!(
                chosen.len() == 3 && chosen[2].get().is_multiple_of(2),
                "another one for want of a third: {chosen:?}"
            );
            assert_eq!(
                place_more(&view, (&[ServerId(2), ServerId(3)], &required), 1, entropy, |id| id.get() != 3),
                [ServerId(1)]
            );
        }
        view.servers.get_mut(&ServerId(1)).unwrap().free_bytes = 0;
        let chosen = super::place(&view, &two, 7, 0).unwrap();
        assert!(
            chosen[0] == ServerId(3) && chosen[1].get().is_multiple_of(2),
            "a full one counts as none: {chosen:?}"
        );
        assert_eq!(misfit(&view, &chosen, &required), (1, 0, 0));
        assert_eq!(two.servers(&view), (2, 2));
        assert_eq!(misfit_with(&view, &chosen[..1], &required)(chosen[1]), (1, 0, 0));
        assert_eq!(least_misfit(&view, 2, &required), (0, 0, 0));
        assert_eq!(least_misfit(&view, 3, &required), (1, 0, 0));
    }

    #[test]
    fn the_best_replicas_are_kept() {
        let mut view = view(vec![
            labelled(&["rack=a", "media=ssd"]),
            labelled(&["rack=a", "media=ssd"]),
            labelled(&["rack=b", "media=ssd"]),
            labelled(&["rack=c", "media=hdd"]),
        ]);
        let all: Vec<ServerId> = view.servers.keys().copied().collect();
        let required = Labels::parse(["media=ssd"]).unwrap();
        let kept = |view: &ClusterView, count| keep_best(view, &all, count, &required);
        assert_eq!(kept(&view, 3), all[..3], "the one without the label goes first");
        view.servers.get_mut(&ServerId(1)).unwrap().free_bytes = 1 << 30;
        assert_eq!(kept(&view, 2), all[1..3], "then the fuller one of a crowded rack");
        view.servers.get_mut(&ServerId(3)).unwrap().draining = true;
        assert_eq!(
            kept(&view, 3),
            [ServerId(1), ServerId(2), ServerId(4)],
            "what is being emptied before all"
        );
        assert_eq!(kept(&view, 9), all);
    }

    proptest! {
        #[test]
        fn replicas_stand_on_distinct_healthy_servers(
            healths in proptest::collection::vec((0u8..3, 0u64..3), 0..12),
            replicas in 1u8..=8, entropy in any::<u64>(), number in 0u32..16,
        ) {
            let kinds = [ServerHealth::Alive, ServerHealth::Suspect, ServerHealth::Down];
            let view = view(healths.iter().map(|&(h, free)| server(kinds[usize::from(h)], free, 0)).collect());
            let usable = |id: &ServerId| view.is_alive(*id) && view.servers[id].free_bytes >= CHUNK_BYTES;
            let count = view.servers.keys().filter(|id| usable(id)).count();
            if let Ok(chosen) = place(&view, replicas, 1, entropy, number) {
                let distinct: std::collections::BTreeSet<_> = chosen.iter().collect();
                prop_assert_eq!(distinct.len(), chosen.len());
                prop_assert_eq!(chosen.len(), count.min(usize::from(replicas)));
                prop_assert!(chosen.iter().all(usable));
            } else {
                prop_assert_eq!(count, 0);
            }
        }
    }
}
