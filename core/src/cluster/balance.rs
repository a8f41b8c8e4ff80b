//! Evening chunk servers out: how much each has too much or too little, and which replica goes where.
//!
//! Two levels are looked for, as far apart as the tolerance allows, such that what stands above the upper one fits below the
//! lower one. Everything between the levels stays where it is, so hardly a byte moves that need not.
//!
//! Replicas cannot be cut. What fits into both gaps moves first; where everything that is left is larger than the gaps and the
//! servers are not even yet, a replica moves that brings two of them nearer to each other. When there is none, they are as even as
//! they can be.

use super::labels::Labels;
use super::pace::Haste;
use super::placement::misfit;
use super::repair::{Busy, Repair};
use super::view::{ClusterView, ServerHealth};
use crate::ids::ServerId;
use crate::units::CHUNK_BYTES;
use std::collections::BTreeMap;

/// What a server stores, and what it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Bytes of its replicas.
    pub used_bytes: u64,
    /// These, and what is free.
    pub capacity_bytes: u64,
}

/// Fills by server.
pub type Fills = BTreeMap<ServerId, Fill>;

const MILLION: u64 = 1_000_000;

impl Fill {
    /// Bytes at a level in millionths.
    fn at(self, level: u64) -> u64 {
        (u128::from(self.capacity_bytes) * u128::from(level) / u128::from(MILLION)) as u64
    }

    /// So many bytes of it, in millionths.
    fn share(self, bytes: u64) -> i64 {
        (u128::from(bytes) * u128::from(MILLION) / u128::from(self.capacity_bytes.max(1))) as i64
    }

    /// How full it is, in thousandths.
    pub fn permille(self) -> u32 {
        (u128::from(self.used_bytes) * 1000 / u128::from(self.capacity_bytes.max(1))) as u32
    }
}

/// Thousandths between the fullest and the emptiest.
pub fn spread_permille(fills: &Fills) -> u32 {
    let shares = || fills.values().map(|fill| fill.permille());
    shares().max().unwrap_or(0) - shares().min().unwrap_or(0)
}

/// What is to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    surplus: BTreeMap<ServerId, u64>,
    deficit: BTreeMap<ServerId, u64>,
    /// With what was taken.
    fills: Fills,
    tolerance_permille: u32,
}

/// How well a replica must fit to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Into what one has too much and the other too little.
    Within,
    /// So that the two come nearer to each other: the one that was fuller is emptier afterwards by half of that at the most.
    Nearer,
}

/// Whether a replica moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// It does.
    Move(Repair),
    /// Later: those who could copy or take it are busy.
    Busy,
    /// Not: nobody may have it, or nothing would be more even.
    Unfit,
}

/// A share of what is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// From where.
    pub from: ServerId,
    /// To where.
    pub to: ServerId,
    /// How much.
    pub bytes: u64,
}

impl Balance {
    /// What must move so that at most `tolerance_permille` lie between the fullest and the emptiest. Half of it is aimed at, for
    /// replicas cannot be cut and others write meanwhile.
    pub fn of(fills: &Fills, tolerance_permille: u32) -> Self {
        if spread_permille(fills) <= tolerance_permille {
            return Self::default();
        }
        let apart = u64::from(tolerance_permille) * MILLION / 1000 / 2;
        let at = |level: u64| Self { tolerance_permille, ..Self::at(fills, level, apart) };
        let (mut too_low, mut high) = (0, MILLION);
        while too_low + 1 < high {
            let middle = too_low.midpoint(high);
            let (above, below) = at(middle).totals();
            if above <= below { high = middle } else { too_low = middle }
        }
        at(high)
    }

    fn at(fills: &Fills, high: u64, apart: u64) -> Self {
        let low = high.saturating_sub(apart);
        let beyond = |bytes: u64, bound: u64| Some(bytes.saturating_sub(bound)).filter(|&bytes| bytes > 0);
        let above = |(&server, fill): (&ServerId, &Fill)| {
            beyond(fill.used_bytes, fill.at(high)).map(|bytes| (server, bytes))
        };
        let below = |(&server, fill): (&ServerId, &Fill)| {
            beyond(fill.at(low), fill.used_bytes).map(|bytes| (server, bytes))
        };
        Self {
            surplus: fills.iter().filter_map(above).collect(),
            deficit: fills.iter().filter_map(below).collect(),
            fills: fills.clone(),
            tolerance_permille: 0,
        }
    }

    fn totals(&self) -> (u64, u64) {
        (self.surplus.values().sum(), self.deficit.values().sum())
    }

    /// Whether nothing is left to move, or nobody to take it.
    pub fn is_done(&self) -> bool {
        self.surplus.is_empty() || self.deficit.is_empty()
    }

    /// Whether the servers are as even as asked for, with what was taken.
    pub fn is_even(&self) -> bool {
        spread_permille(&self.fills) <= self.tolerance_permille
    }

    /// Bytes that are to move.
    pub fn bytes(&self) -> u64 {
        self.totals().0
    }

    /// Who has too much, the most first.
    pub fn givers(&self) -> Vec<ServerId> {
        let mut givers: Vec<_> = self.surplus.iter().map(|(&server, &bytes)| (bytes, server)).collect();
        givers.sort_unstable_by(|one, other| other.cmp(one));
        givers.into_iter().map(|(_, server)| server).collect()
    }

    /// Whether `server` still has too much.
    pub fn gives(&self, server: ServerId) -> bool {
        self.surplus.contains_key(&server)
    }

    /// Roughly what will move from where to where: every giver gives to every taker by what that lacks.
    pub fn flows(&self) -> Vec<Flow> {
        let (_, lacking) = self.totals();
        let share = |bytes: u64, lacks: u64| {
            (u128::from(bytes) * u128::from(lacks) / u128::from(lacking.max(1))) as u64
        };
        let pairs = self.surplus.iter().flat_map(|from| self.deficit.iter().map(move |to| (from, to)));
        let flow = |((&from, &bytes), (&to, &lacks)): ((&ServerId, &u64), (&ServerId, &u64))| Flow {
            from,
            to,
            bytes: share(bytes, lacks),
        };
        pairs.map(flow).filter(|flow| flow.bytes > 0).collect()
    }

    /// How full servers will be afterwards.
    pub fn after(&self, fills: &Fills) -> Fills {
        let mut after = fills.clone();
        for flow in self.flows() {
            for (server, gains) in [(flow.from, false), (flow.to, true)] {
                let Some(fill) = after.get_mut(&server) else { continue };
                fill.used_bytes = match gains {
                    true => fill.used_bytes.saturating_add(flow.bytes),
                    false => fill.used_bytes.saturating_sub(flow.bytes),
                };
            }
        }
        after
    }

    /// A move of a replica of `bytes` away from `from`, which holds one of the replicas `set`: to whoever lacks most and may have
    /// it. Not if it would come to stand beside others of its chunk where it does not now, or without labels that are required and
    /// that it has now.
    pub fn propose(
        &self,
        view: &ClusterView,
        busy: &Busy,
        (set, from, required): (&[ServerId], ServerId, &Labels),
        (bytes, fit): (u64, Fit),
    ) -> Proposal {
        if bytes == 0 || !set.iter().all(|&server| view.is_alive(server)) {
            return Proposal::Unfit;
        }
        let kept: Vec<ServerId> = set.iter().copied().filter(|&server| server != from).collect();
        let present = misfit(view, set, required);
        let fits = |&(&to, _): &(&ServerId, &u64)| {
            let moved: Vec<ServerId> = kept.iter().copied().chain([to]).collect();
            self.evens(from, to, (bytes, fit))
                && may_take(view, to)
                && !set.contains(&to)
                && misfit(view, &moved, required) <= present
        };
        let takers: Vec<(&ServerId, &u64)> = self.deficit.iter().filter(fits).collect();
        let has_room = |server: ServerId| busy.has_room(server, Haste::Move);
        let taker = takers.iter().filter(|&&(&server, _)| has_room(server)).max_by_key(|&&(_, lacks)| lacks);
        let sources = set.iter().copied().filter(|&server| has_room(server));
        match (taker, sources.min_by_key(|&server| busy.of(server))) {
            _ if takers.is_empty() => Proposal::Unfit,
            (Some(&(&to, _)), Some(source)) => {
                let (targets, anew) = (vec![to], Vec::new());
                Proposal::Move(Repair { source, kept, targets, anew, haste: Haste::Move })
            }
            _ => Proposal::Busy,
        }
    }

    /// Whether a replica of so many bytes fits.
    fn evens(&self, from: ServerId, to: ServerId, (bytes, fit): (u64, Fit)) -> bool {
        let (Some(&surplus), Some(&lacks)) = (self.surplus.get(&from), self.deficit.get(&to)) else {
            return false;
        };
        let (Some(giver), Some(taker)) = (self.fills.get(&from), self.fills.get(&to)) else { return false };
        match fit {
            Fit::Within => bytes <= surplus.min(lacks),
            Fit::Nearer => {
                let apart = |gone: u64, come: u64| {
                    giver.share(giver.used_bytes.saturating_sub(gone)) - taker.share(taker.used_bytes + come)
                };
                apart(bytes, bytes) * 2 >= -apart(0, 0)
            }
        }
    }

    /// Whether all who take part are there, and those who lack something could take it: what does not fit now will not later.
    pub fn is_unhindered(&self, view: &ClusterView) -> bool {
        let are_there = self.fills.keys().all(|&server| view.is_alive(server));
        are_there && self.deficit.keys().all(|&server| may_take(view, server))
    }

    /// Whether anybody who lacks something could begin to take it now.
    pub fn has_idle_taker(&self, busy: &Busy) -> bool {
        self.deficit.keys().any(|&server| busy.has_room(server, Haste::Move))
    }

    /// Counts a move as made.
    pub fn take(&mut self, from: ServerId, to: ServerId, bytes: u64) {
        if let Some(giver) = self.fills.get_mut(&from) {
            giver.used_bytes = giver.used_bytes.saturating_sub(bytes);
        }
        if let Some(taker) = self.fills.get_mut(&to) {
            taker.used_bytes = taker.used_bytes.saturating_add(bytes);
        }
        for (side, server) in [(&mut self.surplus, from), (&mut self.deficit, to)] {
            let Some(left) = side.get_mut(&server) else { continue };
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                side.remove(&server);
            }
        }
    }
}

/// Whether a replica more may come to stand there. Slow disks have no room.
fn may_take(view: &ClusterView, server: ServerId) -> bool {
    view.servers.get(&server).is_some_and(|seen| {
        seen.health == ServerHealth::Alive && !seen.draining && seen.free_bytes >= CHUNK_BYTES
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServerView;
    use crate::cluster::placement::place_more;
    use proptest::prelude::*;
    use std::sync::Arc;

    const GIB: u64 = 1 << 30;

    fn fills(servers: &[(u64, u64)]) -> Fills {
        let fill = |&(used, capacity): &(u64, u64)| Fill { used_bytes: used, capacity_bytes: capacity };
        servers.iter().enumerate().map(|(n, server)| (ServerId(n as u32 + 1), fill(server))).collect()
    }

    fn view(count: u32, rack: impl Fn(u32) -> u32) -> ClusterView {
        let server = |number: u32| ServerView {
            health: ServerHealth::Alive,
            address: "host:1".into(),
            total_bytes: 100 * GIB,
            free_bytes: 50 * GIB,
            leaving_bytes: 0,
            load: 0,
            draining: false,
            labels: Arc::new(Labels::parse([format!("rack={}", rack(number))]).unwrap()),
        };
        ClusterView { servers: (1..=count).map(|number| (ServerId(number), server(number))).collect() }
    }

    #[test]
    fn an_empty_sixth_server_gets_its_share_and_hardly_more_moves_than_must() {
        let fills = fills(
            &[(60, 100), (60, 100), (60, 100), (60, 100), (60, 100), (0, 100)]
                .map(|(used, all)| (used * GIB, all * GIB)),
        );
        assert_eq!(spread_permille(&fills), 600);
        let balance = Balance::of(&fills, 50);
        // With a spread of exactly 5 %, 45.8 GiB would have to move.
        let least = 45.833 * GIB as f64;
        let moved = balance.bytes() as f64;
        assert!(moved >= least && moved <= 1.1 * least, "{moved}");
        let after = balance.after(&fills);
        assert!(spread_permille(&after) <= 26, "{after:?}");
        assert_eq!(balance.givers().len(), 5);
        assert_eq!(balance.flows().len(), 5);
        assert_eq!(Balance::of(&after, 50), Balance::default(), "and then it rests");
    }

    #[test]
    fn a_move_spreads_no_worse_and_goes_where_most_is_lacking() {
        let fills = fills(&[
            (90 * GIB, 100 * GIB),
            (50 * GIB, 100 * GIB),
            (50 * GIB, 100 * GIB),
            (10 * GIB, 100 * GIB),
            (20 * GIB, 100 * GIB),
        ]);
        let balance = Balance::of(&fills, 50);
        let set = [ServerId(1), ServerId(2), ServerId(3)];
        let propose = |view: &ClusterView| {
            let replica = (&set[..], ServerId(1), &Labels::none());
            match balance.propose(view, &Busy::new(2), replica, (64 << 20, Fit::Within)) {
                Proposal::Move(repair) => Some((repair.kept, repair.targets)),
                _ => None,
            }
        };
        let kept = vec![ServerId(2), ServerId(3)];
        assert_eq!(propose(&view(5, |number| number)), Some((kept.clone(), vec![ServerId(4)])));
        let same_rack = view(5, |number| if number == 4 { 2 } else { number });
        assert_eq!(propose(&same_rack), Some((kept, vec![ServerId(5)])), "not beside another one");
        let mut away = view(5, |number| number);
        away.servers.get_mut(&ServerId(3)).unwrap().health = ServerHealth::Suspect;
        assert_eq!(propose(&away), None, "its chunk is not whole at present");
        assert!(!balance.gives(ServerId(4)) && balance.gives(ServerId(1)));
        assert_eq!(
            balance.propose(
                &view(5, |n| n),
                &Busy::new(2),
                (&[ServerId(4)], ServerId(4), &Labels::none()),
                (1 << 20, Fit::Within)
            ),
            Proposal::Unfit
        );
    }

    /// Ten million chunks on a thousand servers, of which fifty are new: a round looks at each replica that may go once.
    #[test]
    fn a_large_cluster_is_planned_in_one_walk() {
        let (servers, chunks, bytes) = (1000_u32, 10_000_000_u64, 8_u64 << 20);
        let view = view(servers, |number| number % 40);
        let old = 950;
        let place = |chunk: u64| {
            let at = |part: u64| ServerId(1 + ((chunk * 7 + part * 317) % old) as u32);
            [at(0), at(1), at(2)]
        };
        let mut fills: Fills = (1..=servers)
            .map(|number| (ServerId(number), Fill { used_bytes: 0, capacity_bytes: 500 * GIB }))
            .collect();
        for chunk in 0..chunks {
            place(chunk).iter().for_each(|server| fills.get_mut(server).unwrap().used_bytes += bytes);
        }
        let mut balance = Balance::of(&fills, 50);
        let (wanted, busy, mut moved) = (balance.bytes(), Busy::new(1), 0);
        for chunk in 0..chunks {
            if balance.is_done() {
                break;
            }
            let set = place(chunk);
            let Some(&from) = set.iter().find(|&&server| balance.gives(server)) else { continue };
            let replica = (&set[..], from, &Labels::none());
            if let Proposal::Move(repair) = balance.propose(&view, &busy, replica, (bytes, Fit::Within)) {
                balance.take(from, repair.targets[0], bytes);
                moved += bytes;
            }
        }
        assert!(moved >= wanted - wanted / 100, "{moved} of {wanted}");
    }

    /// Five servers of 300 MiB at 60 %, two replicas of each file of 8 MiB, and an empty sixth: what is left in the end is less
    /// than a replica on each of the five, and together more than the tolerance.
    #[test]
    fn replicas_larger_than_what_each_has_too_much_move_until_all_are_even() {
        const MIB: u64 = 1 << 20;
        for (capacity, size) in [(300, 8), (300, 12), (300, 16), (640, 16), (320, 11)] {
            let of = |mib: u64| Fill { used_bytes: mib * MIB, capacity_bytes: capacity * MIB };
            let each = capacity * 6 / 10 / size;
            let mut fills: Fills = (1..=5).map(|number| (ServerId(number), of(each * size))).collect();
            fills.insert(ServerId(6), of(0));
            // Chunk n stands on two neighbours.
            let mut sets: Vec<[ServerId; 2]> =
                (0..each * 5 / 2).map(|n| [0, 1].map(|next| ServerId((n + next) as u32 % 5 + 1))).collect();
            let (view, busy, mut moved) = (view(6, |number| number), Busy::new(4), 0);
            for fit in [Fit::Within, Fit::Nearer] {
                let mut balance = Balance::of(&fills, 50);
                for set in &mut sets {
                    for from in *set {
                        if balance.is_even() && fit == Fit::Nearer {
                            break;
                        }
                        let replica = (&set[..], from, &Labels::none());
                        let proposed = balance.propose(&view, &busy, replica, (size * MIB, fit));
                        let Proposal::Move(repair) = proposed else { continue };
                        balance.take(from, repair.targets[0], size * MIB);
                        *set = [repair.kept[0], repair.targets[0]];
                        (moved, fills) = (moved + size * MIB, balance.fills.clone());
                        break;
                    }
                }
            }
            let spread = spread_permille(&fills);
            // Half a replica more or less is all that size can cost.
            assert!(spread <= 50.max((size * 1000 / capacity) as u32), "{size} of {capacity}: {fills:?}");
            let least = capacity * MIB * 458 / 1000;
            assert!(moved <= least * 11 / 10 + size * MIB, "{size} of {capacity}: {moved}");
        }
    }

    #[test]
    fn who_is_busy_takes_it_later() {
        let fills = fills(&[(90 * GIB, 100 * GIB), (10 * GIB, 100 * GIB)]);
        let (balance, view) = (Balance::of(&fills, 50), view(2, |number| number));
        let replica = (&[ServerId(1)][..], ServerId(1), &Labels::none());
        let proposed = |busy: &Busy| balance.propose(&view, busy, replica, (1 << 20, Fit::Within));
        let mut busy = Busy::new(1);
        let Proposal::Move(repair) = proposed(&busy) else { panic!("nobody is busy") };
        busy.begin(&repair);
        assert_eq!(proposed(&busy), Proposal::Busy);
        busy.end(&repair);
        assert!(matches!(proposed(&busy), Proposal::Move(_)));
    }

    #[test]
    fn nothing_is_done_while_those_who_should_take_are_slow_or_away() {
        let balance = Balance::of(&fills(&[(90 * GIB, 100 * GIB), (10 * GIB, 100 * GIB)]), 50);
        let without = |change: &dyn Fn(&mut ServerView)| {
            let mut view = view(2, |number| number);
            change(view.servers.get_mut(&ServerId(2)).unwrap());
            let replica = (&[ServerId(1)][..], ServerId(1), &Labels::none());
            let proposed = balance.propose(&view, &Busy::new(1), replica, (1 << 20, Fit::Within));
            (proposed == Proposal::Unfit, balance.is_unhindered(&view))
        };
        assert_eq!(without(&|_| {}), (false, true));
        assert_eq!(without(&|server| server.free_bytes = 0), (true, false));
        assert_eq!(without(&|server| server.health = ServerHealth::Suspect), (true, false));
    }

    #[test]
    fn what_one_of_a_thousand_held_is_made_anew_by_nearly_all() {
        let view = view(1000, |number| number);
        let mut seen = std::collections::BTreeSet::new();
        for chunk in 0..30_000_u64 {
            let hash = chunk.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let kept = [ServerId(2 + (hash % 999) as u32), ServerId(2 + (hash >> 20) as u32 % 999)];
            let targets = place_more(&view, (&kept, &Labels::none()), 1, hash, |server| {
                server.get() != 1 && !kept.contains(&server)
            });
            seen.extend(targets);
        }
        assert!(seen.len() > 900, "{}", seen.len());
    }

    proptest! {
        #[test]
        fn every_balance_ends_within_the_tolerance(
            servers in proptest::collection::vec((0u64..=1000, 1u64..=100), 1..20), tolerance in 10u32..300,
        ) {
            let servers: Vec<_> =
                servers.iter().map(|&(share, gib)| (gib * GIB / 1000 * share, gib * GIB)).collect();
            let fills = fills(&servers);
            let balance = Balance::of(&fills, tolerance);
            let after = balance.after(&fills);
            prop_assert!(spread_permille(&after) <= tolerance, "{after:?}");
            let sum = |fills: &Fills| fills.values().map(|fill| fill.used_bytes).sum::<u64>();
            prop_assert_eq!(sum(&fills), sum(&after));
        }
    }
}
